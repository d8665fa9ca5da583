"""Back-end `ray`: jobs of a Ray cluster that is already there, through its Jobs API."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
import secrets
import shlex
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import ClusterError, JobError, JobNotFound
from ..executor import Check, Executor, checked
from ..job import Job, JobHandle, JobState, without_secrets
from ..scratch import scratch_folder
from .profile import RayProfile

PACKAGES: Final = ("cluster", "pinncore", "sweeps")
RECORD: Final = "pinnsweep"  # key of a job's metadata under which its record stands
CONNECT_TIMEOUT_S: Final = 5.0
FOLLOW_ATTEMPTS: Final = 5  # to take up a log again after its connection broke, without a new line in between
_CHATTY: Final = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_STATES: Final = {
    "PENDING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "STOPPED": JobState.CANCELLED,
    "SUCCEEDED": JobState.DONE,
    "FAILED": JobState.FAILED,
}
_GIVE_TOKEN: Final = (
    "give it in RAY_AUTH_TOKEN, in a file that RAY_AUTH_TOKEN_PATH or the profile's token_file names, or in "
    "~/.ray/auth_token"
)


class RayExecutor(Executor):
    """Hands jobs to a Ray cluster, which keeps them whatever becomes of the client."""

    def __init__(self, profile: RayProfile) -> None:
        self._profile = profile

    def submit(self, job: Job) -> JobHandle:
        number = _new_id(job)
        with scratch_folder("job") as folder, _explained(self._profile):
            environment = self._environment(job, number)
            if job.files:
                for name, content in job.files.items():
                    (folder / name).write_bytes(content)
                environment["working_dir"] = str(folder)
            asked = job.resources
            client = self._client()
            client.submit_job(
                entrypoint=_entrypoint(job),
                submission_id=number,
                runtime_env=environment,
                metadata={"job_name": job.name, RECORD: json.dumps(_record(job))},
                entrypoint_num_cpus=asked.cpus,
                entrypoint_num_gpus=asked.gpus,
                entrypoint_memory=None if asked.memory_gb is None else int(asked.memory_gb * 1e9),
            )
            return _RayHandle(self._profile, client, client.get_job_info(number))

    def preview(self, job: Job) -> str:
        environment = self._environment(job, f"{_slug(job)}-...")
        sent = {
            "entrypoint": _entrypoint(job),
            "runtime_env": environment | {"env_vars": without_secrets(environment["env_vars"])},
            "files": {name: f"{len(content)} bytes" for name, content in job.files.items()},
        }
        return f"POST {self._profile.address}/api/jobs/\n{json.dumps(sent, indent=2)}"

    def checks(self) -> Iterator[Check]:
        address = self._profile.address
        return checked(
            (
                (f"{address} can be reached", lambda: _refuse_silent(address)),
                ("a token can be read, where one is named", lambda: _token(self._profile)),
                ("the Jobs API takes this client and its token", self.list),
            )
        )

    def attach(self, job_id: str) -> JobHandle:
        known = self.list()
        found = next((handle for handle in known if handle.id == job_id), None)
        if found is None:
            ids = ", ".join(handle.id for handle in known[-5:]) or "none"
            raise JobNotFound(f"no job {job_id!r} on {self._profile.address}; newest jobs: {ids}")
        return found

    def list(self) -> Sequence[JobHandle]:
        with _explained(self._profile):
            client = self._client()
            found = [job for job in client.list_jobs() if RECORD in (job.metadata or {})]
        handles = [_RayHandle(self._profile, client, details) for details in found]
        return sorted(handles, key=lambda handle: handle.submitted_at)

    def _environment(self, job: Job, number: str) -> dict[str, Any]:
        """The runtime environment of a job, its files left out."""
        if job.resources.timeout_min is not None:
            raise JobError(f"timeout_min: Ray has no time limit for jobs, got {job.resources.timeout_min:g}")
        variables = {
            "RAY_JOB_STOP_SIGNAL": "SIGTERM",  # Ray's own default kills after 3 s, too soon for a checkpoint
            "RAY_JOB_STOP_WAIT_TIME_S": str(self._profile.stop_grace_s),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PINNSWEEP_JOB": number,
        }
        given = dict(self._profile.environment) | dict(job.environment)
        for name, value in given.items():
            if "$" in value:
                raise JobError(
                    f"environment: Ray would replace what follows a $ by variables of its own, and {name} has a $ in "
                    "its value: set it inside the command, or where the cluster is started"
                )
        environment: dict[str, Any] = {"env_vars": variables | given}
        if self._profile.carry_code:
            environment["py_modules"] = [str(folder) for folder in _own_code()]
        return environment

    def _client(self) -> Any:
        _refuse_silent(self._profile.address)
        try:
            from ray.job_submission import JobSubmissionClient
        except ImportError:
            raise ClusterError("jobs of a Ray cluster need the package ray: pip install 'ray[default]'") from None
        for logger in _CHATTY:
            logging.getLogger(logger).setLevel(logging.WARNING)
        token = _token(self._profile)
        return JobSubmissionClient(self._profile.address, headers={"Authorization": f"Bearer {token}"} if token else {})


class _RayHandle(JobHandle):
    """A job as the cluster knows it."""

    def __init__(self, profile: RayProfile, client: Any, details: Any) -> None:
        self._profile, self._client, self._details = profile, client, details
        self._record = json.loads(details.metadata[RECORD])

    @property
    def id(self) -> str:
        return str(self._details.submission_id)

    @property
    def job(self) -> Job:
        return Job.from_json(self._record)

    @property
    def submitted_at(self) -> datetime:
        return datetime.fromisoformat(self._record["submitted_at"])

    def state(self) -> JobState:
        details = self._look()
        state = _STATES[str(getattr(details.status, "value", details.status))]
        # without an exit code it was not the command that failed: its supervisor or its node went down, or the
        # command never began
        is_lost = state is JobState.FAILED and details.driver_exit_code is None and details.driver_node_id is not None
        return JobState.LOST if is_lost else state

    def exit_code(self) -> int | None:
        code = self._look().driver_exit_code
        return None if code is None else int(code) if code >= 0 else 128 - int(code)

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        if follow:
            return self._followed()
        with _explained(self._profile):
            return iter([self._client.get_job_logs(self.id)])

    def cancel(self, *, grace_s: float = 10.0) -> None:
        with _explained(self._profile):
            if not self.state().finished:
                self._client.stop_job(self.id)

    def _look(self) -> Any:
        with _explained(self._profile):
            self._details = self._client.get_job_info(self.id)
        return self._details

    def _followed(self) -> Iterator[str]:
        """The log as it comes; after a broken connection Ray sends it from the start, and what was told is left out."""
        told, silent = 0, 0
        while True:
            here, broke = 0, False
            with asyncio.Runner() as runner:
                pieces = self._client.tail_job_logs(self.id)
                while True:
                    try:
                        piece = runner.run(anext(pieces))
                    except StopAsyncIteration:
                        break
                    except Exception:  # whatever the library below it raises
                        broke = True
                        break
                    here += len(piece)
                    if here > told:
                        yield piece[len(piece) - (here - told) :] if here - told < len(piece) else piece
                        told, silent = here, 0
            if self.state().finished and not broke:
                return
            silent += 1
            if silent > FOLLOW_ATTEMPTS:
                raise ClusterError(f"the log of job {self.id} broke off {FOLLOW_ATTEMPTS} times; follow it again later")


def _entrypoint(job: Job) -> str:
    """The command for Ray's shell, which it replaces, so that a signal to stop reaches it."""
    start = f"cd {shlex.quote(str(job.cwd))} && " if job.cwd is not None else ""
    return f"{start}exec {shlex.join(job.argv)}"


def _slug(job: Job) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", job.name).strip("-")[:40] or "job"


def _new_id(job: Job) -> str:
    return f"{_slug(job)}-{secrets.token_hex(4)}"


def _record(job: Job) -> dict[str, Any]:
    """What the cluster keeps of a job: not its environment, which may hold secrets."""
    bare = dataclasses.replace(job, environment={}, files={})
    return {**bare.to_json(), "submitted_at": datetime.now(UTC).isoformat()}


def _own_code() -> Iterator[Path]:
    """Folders of the packages of this pinnsweep, and of what tells its version."""
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        yield from map(Path, (found and found.submodule_search_locations) or ())
    for file in importlib.metadata.files("pinnsweep") or ():
        if file.name == "METADATA":
            yield Path(str(file.locate())).parent


def _token(profile: RayProfile) -> str | None:
    """The cluster's token, or None where there is none to be found. Raises `ClusterError` for a file without one."""
    if profile.token_file:
        return _read_token(Path(profile.token_file).expanduser(), "token_file")
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return _read_token(Path(named).expanduser(), "RAY_AUTH_TOKEN_PATH")
    usual = Path("~/.ray/auth_token").expanduser()
    return _read_token(usual, "Ray's own token file") if usual.is_file() else None


def _read_token(file: Path, what: str) -> str:
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not text"
        raise ClusterError(f"{what}: {file} cannot be read ({reason})") from None
    if not token:
        raise ClusterError(f"{what}: {file} is empty; write the cluster's token into it")
    return token


def _refuse_silent(address: str) -> None:
    """The client itself would wait for minutes for an address that swallows what it is sent."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as problem:
        raise _unreachable(address, problem.strerror or str(problem)) from None


def _unreachable(address: str, reason: str) -> ClusterError:
    return ClusterError(
        f"no Ray dashboard answers at {address} ({reason}). See whether the cluster is up (`ray start --head "
        "--dashboard-host=0.0.0.0`) and its dashboard's port, 8265 unless said otherwise, can be reached from here"
    )


@contextlib.contextmanager
def _explained(profile: RayProfile) -> Iterator[None]:
    """What Ray's client raises, as one sentence that says what to do."""
    try:
        yield
    except ClusterError:
        raise
    except Exception as problem:
        name, text = type(problem).__name__, " ".join(str(problem).split())
        if name == "AuthenticationError":
            if "Missing" in text:
                raise ClusterError(f"the cluster at {profile.address} wants its token: {_GIVE_TOKEN}") from None
            raise ClusterError(
                f"the cluster at {profile.address} refuses this token: it is an old one, or another cluster's. Get the "
                f"one it was started with (`ray get-auth-token` there), and {_GIVE_TOKEN}"
            ) from None
        if isinstance(problem, ConnectionError) or type(problem).__module__.startswith("requests"):
            raise _unreachable(profile.address, text[:200]) from None
        if isinstance(problem, (RuntimeError, ValueError)):
            raise ClusterError(f"the cluster at {profile.address} refuses: {text[:500]}") from None
        raise
