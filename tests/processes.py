"""Processes that tests start: their output is read with a time limit, and none of them is left behind."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, AnyStr

import psutil

from tests.cluster.waiting import WAIT_S


@contextlib.contextmanager
def started(argv: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process for the length of the block; `with Popen` would wait for its end, however long that takes."""
    process = subprocess.Popen(argv, **{"text": True} | options)
    try:
        yield process
    finally:
        end(process)


def line_of(process: subprocess.Popen[AnyStr], within_s: float = WAIT_S) -> AnyStr:
    """The next line of its output, empty at the end. A process that is late is killed with everything below it."""
    assert process.stdout is not None
    late = threading.Timer(within_s, kill_tree, (process.pid,))
    late.start()
    try:
        return process.stdout.readline()
    finally:
        late.cancel()


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process with everything below it, and close its pipes."""
    kill_tree(process.pid)
    process.wait(timeout=WAIT_S)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what was not written yet
                pipe.close()


def kill_tree(pid: int) -> None:
    """kill -9 of a process and of everything below it."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    kill_all([process, *children(process)])


def children(process: psutil.Process) -> list[psutil.Process]:
    """Everything below a process."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_all(processes: Sequence[psutil.Process]) -> None:
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
