"""What every test process needs before the libraries under test are imported."""

from __future__ import annotations

import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:  # several test processes share the cores, so each takes one thread
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import pytest
from hypothesis import HealthCheck, settings

from tests import backstop, special_files

# a shared core makes examples slow, not wrong
settings.register_profile("pinnsweep", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pinnsweep")
# A script's background jobs ignore SIGINT, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Groups that take long, where they start first, so that all processes end together. While `ray` waits for Ray,
# `test_fused` compiles the kernels that the others load.
LONGEST = (
    *(
        "ray",
        "test_fused",
        "ray growth",
        "test_owner",
        "test_object_store",
        "test_study",
        "test_lbfgs",
        "test_search_learning",
    ),
    *("chromium", "test_compiled", "test_compaction", "test_benchmarks", "test_engines", "test_failures"),
    *("test_search_space", "test_memory", "test_replicates", "test_api", "test_pruned", "test_search"),
    *("test_pack_run", "test_readme", "test_postgres", "test_backstop", "test_tables", "test_report"),
)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(backstop)
    config.pluginmanager.register(special_files)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a module stay in one process, which makes once what they share; a mark of their own goes before."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    if config.getoption("loadgroup", default=False):
        items.sort(key=place)


def place(item: pytest.Item) -> int:
    """Long groups before short ones."""
    mark = item.get_closest_marker("xdist_group")
    return LONGEST.index(mark.args[0]) if mark and mark.args[0] in LONGEST else len(LONGEST)
