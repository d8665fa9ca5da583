"""Studies: a space of configurations searched by packs of networks that train together, kept as plain tables.

    import sweeps

    study = sweeps.run("examples/quickstart.yaml")
    study.best()

Every name is imported when it is first asked for, so that `import sweeps` costs nothing.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
