"""Ray clusters for tests, whose nodes are separate processes as on a user's cluster, and their child processes."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

RAY = Path(sys.executable).with_name("ray")


def command(*words: object) -> list[str]:
    """Return a `pinnsweep` command line."""
    return [sys.executable, "-m", "sweeps.cli", *map(str, words)]


def ensure_token() -> None:
    """Make the token with which clusters are started and joined, as `ray get-auth-token --generate` does."""
    file = Path.home() / ".ray" / "auth_token"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_text(secrets.token_hex(32))


class Node:
    """One node of a cluster; `kill` kills it with all its processes."""

    def __init__(
        self, folder: Path, name: str, *, head: str | None = None, cpus: int = 1, wrapper: Sequence[str] = ()
    ) -> None:
        ensure_token()
        self.port = random.SystemRandom().randrange(20000, 30000)
        where = [f"--address={head}"] if head else ["--head", f"--port={self.port}", "--include-dashboard=false"]
        log = folder / f"{name}.log"
        with open(log, "w") as output:
            self.process = subprocess.Popen(
                [*wrapper, RAY, "start", *where, "--block", f"--num-cpus={cpus}"],
                stdout=output,
                stderr=output,
                env={**os.environ, "RAY_AUTH_MODE": "token"},
                start_new_session=True,
            )
        self.address = head or f"127.0.0.1:{self.port}"
        try:
            wait_for(lambda: "Ray runtime started" in log.read_text(), self.process)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the node with all its processes at once, as a power cut does."""
        if self.process.poll() is None:
            for pid in [*below(self.process.pid), self.process.pid]:
                kill(pid)
            self.process.wait(timeout=30)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Wait until a condition holds, at most two minutes; fail if the process ends first."""
    deadline = time.monotonic() + 120
    while not condition():
        if process.poll() is not None:
            output, _ = process.communicate(timeout=30)
            raise AssertionError(f"ended early with {process.returncode}: {output!s}")
        assert time.monotonic() < deadline, "nothing happened in two minutes"
        time.sleep(0.05)


def below(pid: int) -> list[int]:
    """Return the ids of all descendants of a process."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def named(roots: list[int], word: str) -> list[int]:
    """Return the Ray processes below `roots` whose name, given by Ray, contains `word`."""
    pids = []
    for pid in {pid for root in roots for pid in below(root)}:
        try:
            name = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if name.startswith("ray::") and word in name:
            pids.append(pid)
    return sorted(pids)


def kill(pid: int) -> bool:
    """Send SIGKILL; return whether there was such a process."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
