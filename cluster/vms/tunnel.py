"""A tunnel to the dashboard of a cluster's head, which listens on the head's loopback only."""

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

OPEN_TIMEOUT_S: Final = 120.0  # the launcher asks the provider for the head's address and logs in
ANSWER_TIMEOUT_S: Final = 5.0
PAUSE_S: Final = 0.1
_NO_HEAD: Final = re.compile(r"Head node of cluster .* not found")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class NoHeadError(ClusterError):
    """A cluster whose head is not up."""


class Tunnel:
    """A local port that leads to the head's dashboard for as long as this object, or this process, lives."""

    def __init__(self, ray: str, file: Path, cluster: str, *, timeout_s: float = OPEN_TIMEOUT_S) -> None:
        """Start the command that forwards the port, and wait until the dashboard answers.

        Raises `NoHeadError` where no head is up, and `ClusterError` where it cannot be reached.
        """
        self.port = _free_port()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # an unread pipe would fill up
        guarded = [sys.executable, "-I", guard.__file__, f"{self.port}:localhost:{DASHBOARD_PORT}"]
        self._process = subprocess.Popen(
            [*guarded, *tunnel_command(ray, file, str(self.port))],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,  # so that Ctrl-C ends only the reader of a log
        )
        self._end = weakref.finalize(self, _close, self._process, self._output)
        try:
            self._wait(cluster, timeout_s)
        except BaseException:
            self._end()
            raise

    @property
    def address(self) -> str:
        """Return the address of the dashboard on this machine."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_open(self) -> bool:
        """Return whether the tunnel still leads to the head."""
        return self._process.poll() is None

    def _wait(self, cluster: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not _answers(self.port):
            if not self.is_open:
                output = self._read_output()
                if _NO_HEAD.search(output):
                    raise NoHeadError(f"no head of the cluster {cluster} is up (submitting a job starts one)")
                raise ClusterError(f"the head of the cluster {cluster} cannot be reached: {last_line(output)}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"Ray's dashboard on the head of the cluster {cluster} does not answer within {timeout_s:g} s; "
                    "if Ray is gone there, `ray up` with the cluster's file starts it again"
                )
            time.sleep(PAUSE_S)

    def _read_output(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")


def tunnel_command(ray: str, file: Path, port: str) -> Sequence[str]:
    """Return the command that forwards a local port to the dashboard of the cluster configured in `file`."""
    return (ray, "dashboard", str(file), "--remote-port", str(DASHBOARD_PORT), "--port", port)


def last_line(text: str) -> str:
    """Return the last line that is not blank, without colours."""
    lines = [line.strip() for line in _COLOUR.sub("", text).splitlines()]
    return next((line for line in reversed(lines) if line), "no message")


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/api/version")
        connection.getresponse()  # any answer will do: the dashboard refuses requests without its token
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _close(process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    """Close the guard's input, on which it ends the command, and wait for it."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(5 * guard.GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    output.close()
