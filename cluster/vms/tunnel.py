"""A way to the dashboard of a cluster's head, which listens on the head's own loopback only."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from ..errors import ClusterError
from . import guard
from .config import DASHBOARD_PORT

OPEN_TIMEOUT_S: Final = 120.0  # the launcher asks the provider for the head's address and logs in there
ANSWER_TIMEOUT_S: Final = 5.0
PAUSE_S: Final = 0.1
_NO_HEAD: Final = re.compile(r"Head node of cluster .* not found")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class NoHeadError(ClusterError):
    """No head of this cluster is up."""


class Tunnel:
    """A local port that leads to the head's dashboard for as long as this object, or this process, lives."""

    def __init__(self, ray: str, file: Path, cluster: str, *, timeout_s: float = OPEN_TIMEOUT_S) -> None:
        """Start the command that forwards the port, and wait until the dashboard answers.

        Raises `NoHeadError` where no head is up, and `ClusterError` where it cannot be reached.
        """
        self.port = _free_port()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads would fill up
        watched = [sys.executable, "-I", guard.__file__, f"{self.port}:localhost:{DASHBOARD_PORT}"]
        self._process = subprocess.Popen(
            [*watched, *tunnel_command(ray, file, str(self.port))],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,  # Ctrl-C is for whoever reads a log through it
        )
        self._end = weakref.finalize(self, _close, self._process, self._output)
        try:
            self._wait(cluster, timeout_s)
        except BaseException:
            self._end()
            raise

    @property
    def address(self) -> str:
        """Of the dashboard, as seen from here."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether it still leads to the head."""
        return self._process.poll() is None

    def _wait(self, cluster: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not _answers(self.port):
            if not self.is_open:
                told = self._told()
                if _NO_HEAD.search(told):
                    raise NoHeadError(f"no head of the cluster {cluster} is up (submitting a job starts one)")
                raise ClusterError(f"the head of the cluster {cluster} cannot be reached: {last_line(told)}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"Ray's dashboard on the head of the cluster {cluster} does not answer within {timeout_s:g} s; "
                    "`ray up` with the cluster's file starts Ray there anew if it is gone"
                )
            time.sleep(PAUSE_S)

    def _told(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")


def tunnel_command(ray: str, file: Path, port: str) -> Sequence[str]:
    """What leads from a port here to the dashboard of the cluster of that configuration file."""
    return (ray, "dashboard", str(file), "--remote-port", str(DASHBOARD_PORT), "--port", port)


def last_line(text: str) -> str:
    """The last line that says anything, without colours."""
    lines = [line.strip() for line in _COLOUR.sub("", text).splitlines()]
    return next((line for line in reversed(lines) if line), "no message")


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/api/version")
        connection.getresponse()  # of any kind: without its token the dashboard refuses, and is there
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _close(process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    """The end of its input makes the guard end everything."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(5 * guard.GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    output.close()
