"""Files that are no files: opening one of them may wait for ever, and reading one may never end."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar

import pytest

Answer = TypeVar("Answer")
AT_ONCE_S: Final = 60.0  # an answer, on a busy machine; without one a thread waits for ever
REASONS: Final = {
    "folder": "it is a folder, not a file",
    "fifo": "it is a FIFO (named pipe), not a file",
    "socket": "it is a socket, not a file",
    "device": "it is a device, not a file",
}


@pytest.fixture
def special_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Path]]:
    """A folder, a FIFO that nobody writes to, a socket and an endless device, by the keys of `REASONS`."""
    folder = tmp_path / "special"
    (folder / "folder").mkdir(parents=True)
    os.mkfifo(folder / "fifo")
    (folder / "device").symlink_to("/dev/zero")
    monkeypatch.chdir(folder)  # the path of a socket may have 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        yield {kind: folder / kind for kind in REASONS}


def at_once(call: Callable[[], Answer]) -> Answer:
    """Return what a call returns or raise what it raises; fail where it waits for a file."""
    outcome: Future[Answer] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except Exception as problem:  # handed on
            outcome.set_exception(problem)

    threading.Thread(target=work, daemon=True).start()  # one that waits for ever ends with the process
    return outcome.result(timeout=AT_ONCE_S)
