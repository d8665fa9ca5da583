"""A real Ray head with token authentication on loopback, and the back-end `ray` on it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster import Executor, RayProfile, executor_of
from tests.cluster.waiting import eventually

RAY = Path(sys.executable).with_name("ray")


@dataclass(frozen=True)
class Head:
    """A head's two addresses, for jobs and for drivers, and the file with its token."""

    dashboard: str
    address: str
    token_file: Path


@contextlib.contextmanager
def ray_head(folder: Path, *, cpus: int = 2) -> Iterator[Head]:
    """A head node with a token of its own, on ports that nobody has, killed at the end with all it runs."""
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    gcs, dashboard, agent, client = free_ports(4)
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the path of a socket must stay below 108 bytes
    words = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    words += [f"--ray-client-server-port={client}", "--min-worker-port=0", "--max-worker-port=0"]
    log = folder / "head.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [RAY, "start", "--head", "--block", f"--num-cpus={cpus}", f"--temp-dir={scratch}", *words],
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    try:
        eventually(lambda: "Ray runtime started" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}", token)
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait(timeout=30)
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def ray_place(folder: Path) -> Iterator[Callable[[], Executor]]:
    """Clients of one cluster, each with a connection of its own."""
    with ray_head(folder) as head:
        profile = RayProfile(
            root=str(folder), address=head.dashboard, token_file=str(head.token_file), stop_grace_s=2, environment={}
        )
        yield lambda: executor_of(profile, "lab")


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as open_sockets:
        found = [open_sockets.enter_context(socket.socket()) for _ in range(number)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in found]
