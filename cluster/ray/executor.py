"""Back-end `ray`: jobs of a Ray cluster that is already up, through its Jobs API."""

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
from ..executor import Check, Executor, run_checks
from ..hiding import without_secrets
from ..job import Job, JobHandle, JobState
from ..scratch import scratch_folder
from .profile import RayProfile

PACKAGES: Final = ("cluster", "pinncore", "sweeps")
RECORD: Final = "pinnsweep"  # key of the job's record in its metadata
CONNECT_TIMEOUT_S: Final = 5.0
FOLLOW_ATTEMPTS: Final = 5  # to open a log again after its connection broke, without having read anything new
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
    """An executor that hands jobs to a Ray cluster, where they outlive the client."""

    def __init__(self, profile: RayProfile) -> None:
        self._profile = profile

    def submit(self, job: Job) -> JobHandle:
        number = _new_id(job)
        with scratch_folder("job") as folder, _plain_errors(self._profile):
            environment = self._environment(job, number)
            if job.files:
                for name, content in job.files.items():
                    (folder / name).write_bytes(content)
                environment["working_dir"] = str(folder)
            resources = job.resources
            client = self._client()
            client.submit_job(
                entrypoint=_entrypoint(job),
                submission_id=number,
                runtime_env=environment,
                metadata={"job_name": job.name, RECORD: json.dumps(_record(job))},
                entrypoint_num_cpus=resources.cpus,
                entrypoint_num_gpus=resources.gpus,
                entrypoint_memory=None if resources.memory_gb is None else int(resources.memory_gb * 1e9),
            )
            return _RayHandle(self._profile, client, client.get_job_info(number))

    def _preview(self, job: Job) -> str:
        environment = self._environment(job, f"{_slug(job)}-...")
        request = {
            "entrypoint": _entrypoint(job),
            "runtime_env": without_secrets(environment),
            "files": {name: f"{len(content)} bytes" for name, content in job.files.items()},
        }
        return f"POST {self._profile.address}/api/jobs/\n{json.dumps(request, indent=2)}"

    def checks(self) -> Iterator[Check]:
        address = self._profile.address
        return run_checks(
            (
                (f"{address} can be reached", lambda: _check_reachable(address)),
                ("a token can be read, where one is named", lambda: _token(self._profile)),
                ("the Jobs API accepts this client and its token", self.list),
            )
        )

    def attach(self, job_id: str) -> JobHandle:
        handles = self.list()
        wanted = next((handle for handle in handles if handle.id == job_id), None)
        if wanted is None:
            ids = ", ".join(handle.id for handle in handles[-5:]) or "none"
            raise JobNotFound(f"no job {job_id!r} on {self._profile.address}; newest jobs: {ids}")
        return wanted

    def list(self) -> Sequence[JobHandle]:
        with _plain_errors(self._profile):
            client = self._client()
            ours = [job for job in client.list_jobs() if RECORD in (job.metadata or {})]
        handles = [_RayHandle(self._profile, client, details) for details in ours]
        return sorted(handles, key=lambda handle: handle.submitted_at)

    def _environment(self, job: Job, number: str) -> dict[str, Any]:
        """Return the runtime environment of a job, without its files."""
        if job.resources.timeout_min is not None:
            raise JobError(f"timeout_min: Ray has no time limit for jobs, got {job.resources.timeout_min:g}")
        variables = {
            "RAY_JOB_STOP_SIGNAL": "SIGTERM",  # Ray's default is to kill after 3 s, too soon for a checkpoint
            "RAY_JOB_STOP_WAIT_TIME_S": str(self._profile.stop_grace_s),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PINNSWEEP_JOB": number,
        }
        requested = dict(self._profile.environment) | dict(job.environment)
        for name, value in requested.items():
            if "$" in value:
                raise JobError(
                    f"environment: Ray would expand the $ in the value of {name}; set the variable inside the command, "
                    "or where the cluster is started"
                )
        environment: dict[str, Any] = {"env_vars": variables | requested}
        if self._profile.carry_code:
            environment["py_modules"] = [str(folder) for folder in _own_code()]
        return environment

    def _client(self) -> Any:
        _check_reachable(self._profile.address)
        try:
            from ray.job_submission import JobSubmissionClient
        except ImportError:
            raise ClusterError("jobs of a Ray cluster need the package ray: pip install 'ray[default]'") from None
        for logger in _CHATTY:
            logging.getLogger(logger).setLevel(logging.WARNING)
        token = _token(self._profile)
        return JobSubmissionClient(self._profile.address, headers={"Authorization": f"Bearer {token}"} if token else {})


class _RayHandle(JobHandle):
    """A job of the cluster."""

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
        details = self._refresh()
        state = _STATES[str(getattr(details.status, "value", details.status))]
        # A failure without an exit code is not the command's: its supervisor or node went down, or it never started.
        is_lost = state is JobState.FAILED and details.driver_exit_code is None and details.driver_node_id is not None
        return JobState.LOST if is_lost else state

    def exit_code(self) -> int | None:
        code = self._refresh().driver_exit_code
        return None if code is None else int(code) if code >= 0 else 128 - int(code)

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        if follow:
            return self._followed()
        with _plain_errors(self._profile):
            return iter([self._client.get_job_logs(self.id)])

    def cancel(self, *, grace_s: float = 10.0) -> None:
        with _plain_errors(self._profile):
            if not self.state().finished:
                self._client.stop_job(self.id)

    def _refresh(self) -> Any:
        with _plain_errors(self._profile):
            self._details = self._client.get_job_info(self.id)
        return self._details

    def _followed(self) -> Iterator[str]:
        """Yield the log as it grows. After a broken connection Ray sends it from the start; skip what was sent."""
        sent, failures = 0, 0  # `sent` and `read` count characters
        while True:
            read, broke = 0, False
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
                    read += len(piece)
                    if read > sent:
                        yield piece[len(piece) - (read - sent) :] if read - sent < len(piece) else piece
                        sent, failures = read, 0
            if self.state().finished and not broke:
                return
            failures += 1
            if failures > FOLLOW_ATTEMPTS:
                raise ClusterError(f"the log of job {self.id} broke off {FOLLOW_ATTEMPTS} times; follow it again later")


def _entrypoint(job: Job) -> str:
    """Return the command for Ray's shell. It replaces the shell, so that a signal to stop reaches it."""
    start = f"cd {shlex.quote(str(job.cwd))} && " if job.cwd is not None else ""
    return f"{start}exec {shlex.join(job.argv)}"


def _slug(job: Job) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", job.name).strip("-")[:40] or "job"


def _new_id(job: Job) -> str:
    return f"{_slug(job)}-{secrets.token_hex(4)}"


def _record(job: Job) -> dict[str, Any]:
    """Return what the cluster keeps of a job, without the environment, which may hold secrets."""
    bare = dataclasses.replace(job, environment={}, files={})
    return {**bare.to_json(), "submitted_at": datetime.now(UTC).isoformat()}


def _own_code() -> Iterator[Path]:
    """Yield the folders of this pinnsweep's packages and of the metadata with its version."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        yield from map(Path, (spec and spec.submodule_search_locations) or ())
    for file in importlib.metadata.files("pinnsweep") or ():
        if file.name == "METADATA":
            yield Path(str(file.locate())).parent


def _token(profile: RayProfile) -> str | None:
    """Return the cluster's token, or None where none is configured. Raises `ClusterError` for a file without one."""
    if profile.token_file:
        return _read_token(Path(profile.token_file).expanduser(), "token_file")
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return _read_token(Path(path).expanduser(), "RAY_AUTH_TOKEN_PATH")
    default = Path("~/.ray/auth_token").expanduser()
    # unlike `is_file`, this raises nothing where the home cannot be entered
    return _read_token(default, "Ray's own token file") if os.path.isfile(default) else None


def _read_token(file: Path, what: str) -> str:
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not text"
        raise ClusterError(f"{what}: {file} cannot be read ({reason})") from None
    if not token:
        raise ClusterError(f"{what}: {file} is empty; write the cluster's token into it")
    return token


def _check_reachable(address: str) -> None:
    """Raise `ClusterError` where nothing listens; Ray's client would wait for minutes before it gives up."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as problem:
        raise _unreachable(address, problem.strerror or str(problem)) from None


def _unreachable(address: str, reason: str) -> ClusterError:
    return ClusterError(
        f"no Ray dashboard answers at {address} ({reason}). Check that the cluster is up (`ray start --head "
        "--dashboard-host=0.0.0.0`) and that its dashboard's port, 8265 by default, can be reached from this machine"
    )


@contextlib.contextmanager
def _plain_errors(profile: RayProfile) -> Iterator[None]:
    """Turn exceptions of Ray's client into `ClusterError`, with a message that says what to do."""
    try:
        yield
    except ClusterError:
        raise
    except Exception as problem:
        name, text = type(problem).__name__, " ".join(str(problem).split())
        if name == "AuthenticationError":
            if "Missing" in text:
                raise ClusterError(f"the cluster at {profile.address} requires its token: {_GIVE_TOKEN}") from None
            raise ClusterError(
                f"the cluster at {profile.address} refuses this token: it is old or belongs to another cluster. Get "
                f"the current one (`ray get-auth-token` there), and {_GIVE_TOKEN}"
            ) from None
        if isinstance(problem, ConnectionError) or type(problem).__module__.startswith("requests"):
            raise _unreachable(profile.address, text[:200]) from None
        if isinstance(problem, (RuntimeError, ValueError)):
            raise ClusterError(f"the cluster at {profile.address} refuses the request: {text[:500]}") from None
        raise
