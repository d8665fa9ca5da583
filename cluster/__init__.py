"""Jobs on machines near and far: a command line, resources and environment in; state, logs and exit code out.

    executor = LocalExecutor(Path("runs/.jobs"))
    handle = executor.submit(Job(argv=("pinnsweep", "run", "study.yaml")))
    handle.wait()

A back-end is one subclass of `Executor`. Nothing is pickled and nothing passes through a shell.

Names are imported on first use, so a back-end that is not used costs no import time.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
