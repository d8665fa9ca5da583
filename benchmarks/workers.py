"""The parent's side of the workers: it starts processes once, sends them requests, and always ends them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from cluster.scratch import scratch_folder

REST_S: Final = 0.02  # between two timings, so that threads that spin while they wait for work fall asleep
END_S: Final = 30.0
TIMEOUT_S: Final = 6 * 3600.0  # of one request, which may be a whole trial of the slowest contender
THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC",
)  # fmt: skip


class WorkerError(Exception):
    """A failed request of a worker; its message is one line."""


class Worker:
    """One worker process, which ends when its standard input is closed."""

    def __init__(self, job: str, threads: int, folder: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self.job, self._timeout_s = job, timeout_s
        self._log: IO[str] = tempfile.TemporaryFile("w+", dir=folder)  # noqa: SIM115
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
        environment |= {"RAY_TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", job, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which ends its workers in order
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer. Raises `WorkerError`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        alarm = threading.Timer(self._timeout_s, self._process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if not line:
            raise WorkerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def end(self) -> None:
        """Close the worker's input, and stop it if it does not end."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        for stop in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(timeout=END_S)
            except subprocess.TimeoutExpired:
                stop()
        self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._log.close()

    @property
    def ended(self) -> bool:
        """Return whether the process has ended."""
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Ask the worker to stop its current work."""
        self._process.terminate()

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=END_S)
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        code = self._process.poll()
        return f"the worker ended with code {code}" + (f": {lines[-1]}" if lines else "")


class Workers:
    """Workers by job and number of threads, started on first use."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._running: dict[tuple[str, int, str], Worker] = {}

    def __enter__(self) -> Self:
        # the path must stay short: Ray puts its sockets below it
        self._scratch = contextlib.ExitStack()
        self.folder = self._scratch.enter_context(scratch_folder("bench"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            for worker in self._running.values():
                worker.interrupt()
        self.end()
        self._scratch.close()

    def open(self, job: str, threads: int, key: str, *, group: str = "", **arguments: Any) -> dict[str, Any]:
        """Have a worker prepare a piece of work and return its facts. Raises `WorkerError`."""
        place = (job, threads, group)
        if place not in self._running:
            self._running[place] = Worker(job, threads, self.folder, timeout_s=self._timeout_s)
        return self._ask(place, do="open", key=key, arguments=arguments)

    def time(self, job: str, threads: int, key: str, amount: int, *, group: str = "") -> dict[str, Any]:
        """Have a worker do `amount` units of work and return the answer. Raises `WorkerError`."""
        time.sleep(REST_S)
        return self._ask((job, threads, group), do="time", key=key, amount=amount)

    def _ask(self, place: tuple[str, int, str], **request: Any) -> dict[str, Any]:
        try:
            return self._running[place].ask(**request)
        except WorkerError:
            if self._running[place].ended:  # the next `open` starts it again
                self._running.pop(place).end()
            raise
        except KeyError:
            raise WorkerError("its worker has ended") from None

    def end(self) -> None:
        """End all workers."""
        while self._running:
            self._running.popitem()[1].end()
