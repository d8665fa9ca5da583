"""Hyperparameter sweeps of physics-informed neural networks: trained in packs, resumable, kept as plain tables.

    import sweeps

    study = sweeps.run("examples/quickstart.yaml")
    study.best()

Every name is imported when it is first used, so that `import sweeps` is fast.
"""

import lazy_loader as _lazy

from .machine import ensure_home as _ensure_home

_ensure_home()
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
