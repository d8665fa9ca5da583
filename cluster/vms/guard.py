"""A guard of a command that forwards a port: it ends the command when its standard input is closed.

Standard library only, because it is started as a script: `python -I guard.py FORWARD COMMAND...`. When the input ends,
even because its holder was killed, the guard ends the command and its children and cancels FORWARD, such as
4000:localhost:8265, which the ssh connection that Ray's launcher shares among its commands would keep.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

GRACE_S = 3.0
NOT_FOUND = 127


def main(forward: str, argv: Sequence[str]) -> int:
    """Run the command and return its exit code, or 127 where it cannot start."""
    try:
        command = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as problem:
        print(f"cannot start {argv[0]}: {problem.strerror}", file=sys.stderr)
        return NOT_FOUND
    threading.Thread(target=_end_with_input, args=(command,), daemon=True).start()
    try:
        return command.wait()
    finally:
        _signal(command, signal.SIGKILL)  # processes that the command left behind
        _cancel(forward)


def _end_with_input(command: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _signal(command, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(GRACE_S)
    _signal(command, signal.SIGKILL)


def _cancel(forward: str) -> None:
    """Cancel a forward in every shared ssh connection of this user; those without it only report that."""
    for connection in Path("/tmp").glob("ray_ssh_*/*/*"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if connection.stat().st_uid == os.getuid():
                words = ["ssh", "-S", str(connection), "-O", "cancel", "-L", forward, "head"]
                subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=GRACE_S)


def _signal(command: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(command.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
