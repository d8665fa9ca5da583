"""No test outlives its time limit by much, whatever it does: a plugin for pytest, beside pytest-timeout.

pytest-timeout raises an exception in the test. Where cleaning up then waits for a process, as the end of `with Popen`
does, everything below the test's process is killed, so that the wait returns. Where the test goes on even then, or is
in code that no signal interrupts, its process ends, and says where it stood.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from typing import Any

import psutil
import pytest

from tests.processes import children, kill_all

KILL_AFTER_S = 20.0  # both beyond the limit
END_AFTER_S = 60.0
_killer: threading.Timer | None = None
_end_at: float | None = None
_stderr = 2


def pytest_configure() -> None:
    global _stderr
    _stderr = os.dup(2)  # before a test's output is captured


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(settings: Any) -> None:
    """Comes before pytest-timeout's own, which is called because this returns nothing."""
    global _killer, _end_at
    disarm()
    _killer = threading.Timer(settings.timeout + KILL_AFTER_S, lambda: kill_all(children(psutil.Process())))
    _killer.daemon = True
    _killer.start()
    _end_at = time.monotonic() + settings.timeout + END_AFTER_S
    arm()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact() -> None:
    """After a failure the fixtures are still to be torn down, and pytest itself has called off the end."""
    arm()


def pytest_runtest_logfinish() -> None:
    disarm()


def pytest_enter_pdb() -> None:
    disarm()


def arm() -> None:
    if _end_at is not None:
        left_s = max(1.0, _end_at - time.monotonic())
        faulthandler.dump_traceback_later(left_s, exit=True, file=_stderr)  # a thread in C, which needs no interpreter


def disarm() -> None:
    global _killer, _end_at
    if _killer is not None:
        _killer.cancel()
    _killer = _end_at = None
    faulthandler.cancel_dump_traceback_later()
