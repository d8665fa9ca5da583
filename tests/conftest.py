"""What every test process needs before the libraries under test are imported."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # several test processes share the cores, so each takes one thread
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

from hypothesis import settings

settings.register_profile("pinnsweep", deadline=None)  # a shared core makes single examples slow, not wrong
settings.load_profile("pinnsweep")
