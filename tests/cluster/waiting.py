"""Waiting for something to become true, as long as a loaded machine may need."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_S = 120.0  # far above what anything takes on a machine that has other things to do


def eventually(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
