"""One shared core for training physics-informed neural networks, alone or packed.

    import pinncore
    result = pinncore.train(settings=pinncore.TrainSettings(epochs=500, iterations=500))
    result.metrics["rel_l2"]

Every name is imported when it is first asked for: settings, data and errors do without torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
