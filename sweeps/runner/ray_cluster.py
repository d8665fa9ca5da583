"""The Ray cluster of a run: a local one that begins and ends with the run, or one that the run joins.

It starts in a thread of its own while the driver reads the study. That thread lives as long as the cluster, because the
kernel ends Ray's processes when the thread that started them ends; so none of them outlives a killed driver.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any, Final

from ..errors import StudyError
from ..machine import available_cpus
from .joining import MODE, no_cluster, refuse_other_authentication, refuse_silent_address, resolved
from .local_ray import job_config, own_token, session_folder

NAMESPACE: Final = "pinnsweep"
END_S: Final = 30.0  # to wait for a cluster to end
SETTINGS: Final[Mapping[str, str]] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    MODE: "token",  # a local cluster is for its user alone
    "RAY_AIR_NEW_OUTPUT": "0",  # no progress tables of Tune beside our own
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # the owner limits the workers, so Tune need not
}


class RayCluster:
    """Cluster that lives as long as its `with` block.

    With `address` the cluster there is joined. Without it `cpus` cores of this machine are a cluster (default: all that
    are available).
    """

    def __init__(self, address: str | None, cpus: int | None = None) -> None:
        self._address, self._cpus = address, cpus
        self._ready, self._over = threading.Event(), threading.Event()
        self._problem: BaseException | None = None
        self._environment = contextlib.ExitStack()
        self._thread = threading.Thread(target=self._hold, name="ray", daemon=True)

    @property
    def is_shared(self) -> bool:
        """Return whether others may use the cluster too."""
        return self._address is not None

    def __enter__(self) -> RayCluster:
        if "ray" in sys.modules and not self._address and MODE not in os.environ:
            os.environ[MODE] = "disabled"  # Ray read the mode when it was imported
            warnings.warn(
                "ray was imported before the run started, so the local cluster has no token and every user of this "
                "machine can reach it. Set RAY_AUTH_MODE=token before the import",
                stacklevel=2,
            )
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        if not self._address:
            self._environment.enter_context(own_token())
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join(END_S)
        self._environment.close()

    def connected(self) -> Any:
        """Return the module `ray` once the cluster is ready. Raises `StudyError` where no cluster answers."""
        self._ready.wait()
        if self._problem is not None:
            raise self._problem
        import ray

        return ray

    def head_is_gone(self) -> bool:
        """Return whether the head of a local cluster is known to have ended."""
        with contextlib.suppress(Exception):  # private to Ray; without it, missing answers show this later
            processes = sys.modules["ray._private.worker"]._global_node.all_processes["gcs_server"]
            return any(started.process.poll() is not None for started in processes)
        return False

    def _hold(self) -> None:
        try:
            self._start()
        except BaseException as problem:
            self._problem = problem
            return
        finally:
            self._ready.set()
        self._over.wait()
        import ray

        ray.shutdown()

    def _start(self) -> None:
        place = resolved(self._address or "")
        if place:
            refuse_silent_address(place)
        # A signal to the whole process group (timeout, systemd, batch wrappers) is for the driver, which saves first.
        # Ray's processes inherit the blocked signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        local = {"num_cpus": self._cpus or available_cpus(), "include_dashboard": False}
        options: dict[str, Any] = {} if self._address else {**local, "_temp_dir": session_folder()}
        logging.getLogger("ray.widgets").setLevel(logging.ERROR)  # in a notebook Ray asks for widgets when imported
        import ray

        if place:
            refuse_other_authentication(place)
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            ray.init(
                self._address or "local",
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
                job_config=job_config(),
                **options,
            )
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as problem:
            if not self._address:
                raise
            raise no_cluster(self._address, str(problem).splitlines()[0]) from None
        if self._address and not place:
            try:
                refuse_other_authentication(ray.get_runtime_context().gcs_address)
            except StudyError:
                ray.shutdown()
                raise
        for name in ("ray", "ray.tune", "ray.train", "ray.air"):  # Tune warns of loggers that are not used here
            logging.getLogger(name).setLevel(logging.CRITICAL)
        _end_at_once(ray)


def alive_nodes(ray: Any) -> list[Mapping[str, Any]]:
    """Return the nodes of the cluster that are alive; `ray` is the connected module."""
    return [node for node in ray.nodes() if node["Alive"]]


def on_node(node_id: str) -> dict[str, Any]:
    """Return the options of a task or an actor that runs on one node, beside whatever else runs there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}


def _end_at_once(ray: Any) -> None:
    """Kill the processes of a local cluster at its shutdown, without waiting: they have SIGTERM blocked."""
    with contextlib.suppress(AttributeError):  # private to Ray; without it the shutdown takes some seconds longer
        node = ray._private.worker._global_node
        kill = node.kill_all_processes
        node.kill_all_processes = functools.wraps(kill)(lambda **options: kill(**{**options, "allow_graceful": False}))
