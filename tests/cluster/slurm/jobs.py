"""Jobs for the tests of SLURM, and what they have written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from cluster import Job, JobHandle

SAVES_ON_TERM = """
import pathlib, signal, sys, time
def save(*_):
    print("saved"); pathlib.Path("saved").touch(); sys.exit(130)
signal.signal(signal.SIGTERM, save)
if pathlib.Path("saved").exists():
    print("went on"); sys.exit(0)
print("begun"); time.sleep(600)
"""


def python(code: str, **settings: Any) -> Job:
    """A job that runs Python code, in a folder of its own."""
    return Job(argv=(sys.executable, "-u", "-c", code), files={"job.py": code.encode()}, **settings)


def log_of(handle: JobHandle) -> str:
    return "".join(handle.logs())


def begun(handle: JobHandle) -> Callable[[], bool]:
    return lambda: "begun" in log_of(handle)
