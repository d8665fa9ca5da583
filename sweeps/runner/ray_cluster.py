"""The Ray cluster of a run: one of this machine that begins and ends with it, or one that is joined.

It starts in a thread of its own, so that the study is read meanwhile. That thread lives as long as the cluster: the
kernel ends Ray's processes when the thread that started them ends, which is how none outlives a killed driver.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any, Final

from ..errors import StudyError
from ..machine import available_cpus

NAMESPACE: Final = "pinnsweep"
AUTO: Final = "auto"  # instead of an address: where RAY_ADDRESS points, or the cluster this machine belongs to
ADDRESS_TIMEOUT_S: Final = 5.0
END_S: Final = 30.0  # for a cluster to end
SETTINGS: Final[Mapping[str, str]] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",  # a local cluster is for its user alone; the token is made and found by Ray
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own progress tables: ours say more
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # the owner says how many workers to ask for, Tune need not limit them
}


class RayCluster:
    """A cluster from `with` to its end; `address` joins one, without it `cpus` cores of this machine are one."""

    def __init__(self, address: str | None, cpus: int | None = None) -> None:
        self._address, self._cpus = address, cpus
        self._ready, self._over = threading.Event(), threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._hold, name="ray", daemon=True)

    @property
    def is_shared(self) -> bool:
        """Whether it is there for others too."""
        return self._address is not None

    def __enter__(self) -> RayCluster:
        if "ray" in sys.modules and not self._address and "RAY_AUTH_MODE" not in os.environ:
            os.environ["RAY_AUTH_MODE"] = "disabled"  # Ray read it when it was imported
            warnings.warn(
                "ray was imported before the sweep began, so the local cluster has no token and every user of this "
                "machine can reach it. Set RAY_AUTH_MODE=token before the import",
                stacklevel=2,
            )
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join(END_S)

    def connected(self) -> Any:
        """Wait until the cluster is there; return the module `ray`. Raises `StudyError` where none answers."""
        self._ready.wait()
        if self._problem is not None:
            raise self._problem
        import ray

        return ray

    def head_is_gone(self) -> bool:
        """Whether the head of a cluster of this machine has ended, as far as Ray lets us see it."""
        with contextlib.suppress(Exception):  # private to Ray: without it, the silence tells, some seconds later
            processes = sys.modules["ray._private.worker"]._global_node.all_processes["gcs_server"]
            return any(each.process.poll() is not None for each in processes)
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
        if self._address:
            _refuse_silent_address(self._address)
        # A signal to the whole process group (timeout, systemd, batch wrappers) is for the driver, which saves first:
        # Ray's processes inherit that it is blocked.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        import ray

        logging.getLogger("ray").setLevel(logging.ERROR)
        here = {"num_cpus": self._cpus or available_cpus(), "include_dashboard": False}
        options: dict[str, Any] = {} if self._address else here
        try:
            ray.init(
                self._address or "local",
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
        except (ConnectionError, RuntimeError, ValueError) as problem:
            if not self._address:
                raise
            raise _no_cluster(self._address, str(problem).splitlines()[0]) from None
        for name in ("ray", "ray.tune", "ray.train", "ray.air"):  # after fit() Tune warns of loggers we do not use
            logging.getLogger(name).setLevel(logging.CRITICAL)
        _end_at_once(ray)


def _end_at_once(ray: Any) -> None:
    """Have the shutdown of a cluster of this machine not wait for processes to heed a signal that they do not hear."""
    with contextlib.suppress(AttributeError):  # private to Ray: without it, the shutdown takes some seconds longer
        node = ray._private.worker._global_node
        kill = node.kill_all_processes
        node.kill_all_processes = functools.wraps(kill)(lambda **options: kill(**{**options, "allow_graceful": False}))


def _refuse_silent_address(address: str) -> None:
    """Ray itself waits for minutes for an address at which nobody listens."""
    if address == AUTO:  # a job of a cluster finds it in its environment, or Ray on its machine
        address = os.environ.get("RAY_ADDRESS", "")
        if not address or address == AUTO:
            return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise StudyError(
            "--address: must be HOST:PORT of a Ray head node (its port is 6379 by default), or auto for the cluster of "
            f"RAY_ADDRESS or of this machine, got {address!r}"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ADDRESS_TIMEOUT_S).close()
    except OSError as problem:
        raise _no_cluster(address, problem.strerror or str(problem)) from None


def _no_cluster(address: str, reason: str) -> StudyError:
    return StudyError(
        f"no Ray cluster answers at {address} ({reason}). Start one with `ray start --head`, or leave --address out "
        "to run on this machine. A cluster with a token wants it in RAY_AUTH_TOKEN, one without RAY_AUTH_MODE=disabled"
    )
