"""The core for training physics-informed neural networks, alone or in packs.

    import pinncore
    result = pinncore.train(settings=pinncore.TrainSettings(epochs=500, iterations=500))
    result.metrics["rel_l2"]

Names are imported on first use; settings, data and errors do not import torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
