"""Runs a command that forwards a port, for as long as somebody holds this process's standard input open.

Standard library only, for it is started as a script of its own: `python -I guard.py FORWARD COMMAND...`. When the
input ends, be it that its holder was killed, the command and all it started are ended, and so is the FORWARD, such as
4000:localhost:8265: Ray's launcher shares one ssh connection among all its commands, which would keep it.
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
    """Run the command; its exit code, or 127 where it cannot start."""
    try:
        command = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as problem:
        print(f"cannot start {argv[0]}: {problem.strerror}", file=sys.stderr)
        return NOT_FOUND
    threading.Thread(target=_end_with_input, args=(command,), daemon=True).start()
    try:
        return command.wait()
    finally:
        _signal(command, signal.SIGKILL)  # what the command left behind
        _cancel(forward)


def _end_with_input(command: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _signal(command, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(GRACE_S)
    _signal(command, signal.SIGKILL)


def _cancel(forward: str) -> None:
    """Each shared connection of this user is asked to give it up; those that do not have it just say so."""
    for shared in Path("/tmp").glob("ray_ssh_*/*/*"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if shared.stat().st_uid == os.getuid():
                words = ["ssh", "-S", str(shared), "-O", "cancel", "-L", forward, "head"]
                subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=GRACE_S)


def _signal(command: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(command.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
