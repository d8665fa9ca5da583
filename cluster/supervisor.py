"""The supervisor of one job's command, which outlives the client that submitted the job.

Standard library only, because it is also started as a script: `python -I supervisor.py FOLDER` goes into the
background and returns to its caller once it is recorded. It shares nothing with clients but the folder:

    job.json      the job (read)
    cancel.json   written by a client to stop the job: {"grace_s": seconds from SIGTERM to SIGKILL}
    process.json  what runs it: host, start time, supervisor and command as [pid, start mark]
    stdout.log    both output streams
    ended.json    written last: {"exit_code", "state", "ended_at"}
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, Any

JOB, CANCEL, PROCESS, LOG, ENDED = "job.json", "cancel.json", "process.json", "stdout.log", "ended.json"
DEFAULT_GRACE_S = 10.0
NOT_FOUND, NOT_EXECUTABLE, SIGNALLED = 127, 126, 128  # exit codes as shells give them


def start_mark(pid: int) -> str | None:
    """Return a text that no other process with this pid ever has; None for no such process or a zombie."""
    if sys.platform == "linux":
        try:
            # The command's name is in brackets and may hold anything; the state and start time follow it.
            values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except FileNotFoundError:
            boot = ""
        return None if values[0] in "ZX" else f"{boot} {values[19]}"
    listing = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    state, _, started = listing.partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record so that a reader sees all of it or none: into another file, synced and renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Supervisor:
    """One command from start to end: starts it, stops it on request or at its time limit, records its end."""

    def __init__(self, folder: Path, output: IO[bytes] | None) -> None:
        self._folder = folder
        self._output = output  # None: the streams of this process
        self._command: subprocess.Popen[bytes] | None = None
        self._signals: list[int] = []
        self._stopping: str | None = None  # the final state, once the command has been asked to stop
        self._kill_at = float("inf")

    def run(self, *, ready: int | None = None) -> int:
        """Run the command to its end and return its exit code.

        `ready` is a pipe that gets one byte as soon as the supervisor is recorded.
        """
        job = json.loads((self._folder / JOB).read_text())
        record: dict[str, Any] = {"host": platform.node(), "started_at": time.time(), "command": None}
        record["supervisor"] = [os.getpid(), start_mark(os.getpid())]
        write_json(self._folder / PROCESS, record)
        if ready is not None:
            os.write(ready, b"1")
            os.close(ready)
        exit_code = SIGNALLED + signal.SIGTERM
        if (self._folder / CANCEL).exists():
            self._stopping = "cancelled"
        else:
            with self._listening():
                exit_code = self._start(job)
                if self._command is not None:
                    record["command"] = [self._command.pid, start_mark(self._command.pid)]
                    write_json(self._folder / PROCESS, record)
                    exit_code = self._watch(self._command, job["resources"]["timeout_min"])
        state = "done" if exit_code == 0 else self._stopping or "failed"
        write_json(self._folder / ENDED, {"exit_code": exit_code, "state": state, "ended_at": time.time()})
        return exit_code

    def _start(self, job: Mapping[str, Any]) -> int:
        """Start the command and return 0; where that fails, log why and return the exit code of the job."""
        try:
            self._command = subprocess.Popen(
                job["argv"],
                cwd=job["cwd"],
                env={**os.environ, **job["environment"]},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                process_group=0,  # its own, so that Ctrl-C reaches it once, from here, and a kill includes its children
            )
        except OSError as error:
            message = f"cannot start {job['argv'][0]}: {error.strerror}: {error.filename}\n"
            if self._output is None:
                sys.stderr.write(message)
            else:
                self._output.write(message.encode())
                self._output.flush()
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        return 0

    def _watch(self, command: subprocess.Popen[bytes], timeout_min: float | None) -> int:
        deadline = float("inf") if timeout_min is None else time.monotonic() + 60 * timeout_min
        pause_s = 0.005
        while command.poll() is None:
            now = time.monotonic()
            while self._signals:
                self._pass_on(command, self._signals.pop(0))
            if now >= self._kill_at:
                self._kill_group(command)
            elif self._kill_at == float("inf") and now >= deadline:
                self._stop(command, "timed_out", DEFAULT_GRACE_S)
            elif self._kill_at == float("inf") and (self._folder / CANCEL).exists():
                self._stop(command, "cancelled", json.loads((self._folder / CANCEL).read_text())["grace_s"])
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.2)
        if self._stopping is not None:
            self._kill_group(command)  # processes that the command left behind
        return command.returncode if command.returncode >= 0 else SIGNALLED - command.returncode

    def _stop(self, command: subprocess.Popen[bytes], state: str, grace_s: float) -> None:
        self._stopping = self._stopping or state
        self._kill_at = time.monotonic() + grace_s
        command.terminate()

    def _pass_on(self, command: subprocess.Popen[bytes], number: int) -> None:
        if number == signal.SIGINT:  # no deadline: the command may need time; a second Ctrl-C is passed on too
            self._stopping = self._stopping or "cancelled"
            command.send_signal(number)
        elif self._kill_at == float("inf"):
            self._stop(command, "cancelled", DEFAULT_GRACE_S)

    @staticmethod
    def _kill_group(command: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for a group of zombies
            os.killpg(command.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Collect the signals for the command. Only the main thread can; in other threads use `cancel`."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def collect(number: int, frame: FrameType | None) -> None:
            self._signals.append(number)

        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        replaced = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}  # nohup
        try:
            for number in replaced:
                signal.signal(number, collect)
            yield
        finally:
            for number, handler in replaced.items():
                signal.signal(number, handler)


def main(folder: Path) -> int:
    """Fork into the background and supervise there; return 0 to the caller once the supervisor is recorded."""
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        return 0 if os.read(read_end, 1) else 1
    os.close(read_end)
    os.setsid()
    with (folder / LOG).open("ab") as log, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        Supervisor(folder, log).run(ready=write_end)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
