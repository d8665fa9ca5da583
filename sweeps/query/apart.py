"""SQL in a process of its own that is ended at the time limit, whatever the statement does.

The database cannot be interrupted while it parses, plans or computes one value, and does not count the memory of one.
The process is kept for the next statement, because starting one takes most of a second. What goes in and out is
pickled: environment, places, statement and limits in, a table or an error, and warnings, out.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from ..errors import QueryError, StudyWarning
from .confined import GRACE_S, Limits, too_long

READY: Final = "ready"  # the first word of the process
_START_S: Final = 120.0  # for the process to start, on a busy machine
_idle: list[_Worker] = []
_lock: Final = threading.Lock()


def answer_apart(places: Sequence[str], sql: str, limits: Limits) -> pa.Table:
    """Return the answer to a statement over studies, computed in another process.

    Raises what `query.answer_of` raises, and `QueryError` where the process had to be ended or has ended.
    """
    worker = _take()
    try:
        answer, told = worker.ask((dict(os.environ), list(places), sql, limits), limits)
    except BaseException:
        worker.end()
        raise
    with _lock:
        _idle.append(worker)
    for message in told:
        warnings.warn(message, StudyWarning, stacklevel=3)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _take() -> _Worker:
    """Return an idle process, or a new one."""
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.is_usable():
                return worker
            worker.end()
    return _Worker()


class _Worker:
    """A process that runs `sweeps.query.worker`."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
        )
        try:
            self._exchange(None, _START_S, Limits(time_s=_START_S))
        except BaseException:
            self.end()
            raise

    def is_usable(self) -> bool:
        """Return whether the process is alive and was started by this one, not by one that this was forked from."""
        return self._owner == os.getpid() and self._process.poll() is None

    def ask(self, request: Any, limits: Limits) -> tuple[pa.Table | Exception, list[str]]:
        """Return the answer or the error of a request, and its warnings."""
        return self._exchange(request, limits.time_s + GRACE_S, limits)

    def end(self) -> None:
        """End the process; one that belongs to the process this one was forked from is left alone."""
        if self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                with contextlib.suppress(OSError):
                    stream.close()

    def _exchange(self, request: Any, seconds: float, limits: Limits) -> Any:
        """Send a request, if any, and return the reply; the process is killed after some seconds without one."""
        timer = threading.Timer(seconds, self._process.kill)
        timer.daemon = True
        timer.start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            if request is not None:
                pickle.dump(request, self._process.stdin)
                self._process.stdin.flush()
            return pickle.load(self._process.stdout)  # noqa: S301  of the process started here
        except (EOFError, OSError, pickle.UnpicklingError):
            code = self._process.wait()
            if not timer.is_alive():
                raise QueryError(too_long(limits)) from None
            reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise QueryError(
                f"the process that computed the query has ended ({reason}): the machine ran out of memory, or the "
                "statement is nested too deeply. Simplify it"
            ) from None
        finally:
            timer.cancel()


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().end()
