"""Back-end `vms`: a Ray cluster on machines of AWS, GCP or Azure that Ray's cluster launcher starts."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ClusterError, JobNotFound
from ..executor import Check, Executor, run_checks
from ..hiding import without_secrets
from ..job import Job, JobHandle
from ..ray.executor import RayExecutor
from ..ray.profile import RayProfile
from .checks import command_path, local_steps, typed_command
from .config import cluster_config, cluster_name, cluster_yaml
from .profile import VmsProfile
from .tunnel import NoHeadError, Tunnel, last_line, tunnel_command


@dataclass(frozen=True, kw_only=True)
class _TunnelProfile(RayProfile):
    """A head's dashboard at the local end of a tunnel. Handles hold this and so keep the tunnel open."""

    tunnel: Tunnel


class VmsExecutor(Executor):
    """An executor that starts the cluster when a job needs it and hands jobs over through a tunnel to the head."""

    def __init__(self, profile: VmsProfile, name: str) -> None:
        self._profile, self._name = profile, name
        self._cluster = cluster_name(name, _user())
        self._forwarded: _TunnelProfile | None = None

    def submit(self, job: Job) -> JobHandle:
        self.preview(job)  # raises for a job that cannot run there, before anything is started
        try:
            executor = self._connect()
        except NoHeadError:
            executor = self._start()
        return executor.submit(job)

    def _preview(self, job: Job) -> str:
        config = self._config()
        # overrides may put credentials anywhere; those of `auth` are paths
        shown = without_secrets(config) | {"auth": config["auth"]}
        return "\n".join(
            (
                f"# {self._file}",
                cluster_yaml(shown),
                "# if no head of this cluster is up",
                shlex.join(self._up_command(typed_command("ray"))),
                "# the job, through a tunnel",
                shlex.join(tunnel_command(typed_command("ray"), self._file, "PORT")),
                RayExecutor(RayProfile(address="http://127.0.0.1:PORT", **self._settings())).preview(job),
                "# all machines end after head_idle_shutdown_min without a job, or at once with",
                self._down_command(),
            )
        )

    def checks(self) -> Iterator[Check]:
        for check in run_checks(local_steps(self._profile.provider, self._config())):
            yield check
            if check.problem:
                return
        what = f"the head of the cluster {self._cluster} can be reached"
        try:
            executor = self._connect()
        except NoHeadError as state:
            yield Check(str(state))
        except ClusterError as problem:
            yield Check(what, str(problem))
        else:
            yield Check(what)
            yield from executor.checks()

    def attach(self, job_id: str) -> JobHandle:
        try:
            return self._connect().attach(job_id)
        except NoHeadError as state:
            raise JobNotFound(f"no job {job_id!r}: {state}; the jobs of an earlier head are gone with it") from None

    def list(self) -> Sequence[JobHandle]:
        try:
            return self._connect().list()
        except NoHeadError:
            return []

    @property
    def _file(self) -> Path:
        return _config_folder() / "vms" / f"{self._name}.yaml"

    @property
    def _token_file(self) -> Path:
        return _config_folder() / "tokens" / self._name

    def _config(self) -> dict[str, Any]:
        return cluster_config(self._profile, self._name, user=_user(), token_file=self._token_file)

    def _up_command(self, ray: str) -> Sequence[str]:
        return (ray, "up", "-y", "--disable-usage-stats", "--log-style=pretty", str(self._file))

    def _down_command(self) -> str:
        return shlex.join([typed_command("ray"), "down", "-y", str(self._file)])

    def _settings(self) -> dict[str, Any]:
        """Return the settings that a profile of a running Ray cluster has, too."""
        profile = self._profile
        return {
            "root": profile.root,
            "environment": profile.environment,
            "carry_code": profile.carry_code,
            "stop_grace_s": profile.stop_grace_s,
            "token_file": str(self._token_file),
        }

    def _connect(self) -> RayExecutor:
        """Return an executor for the cluster's Jobs API. Raises `NoHeadError` where no head is up."""
        if self._forwarded is None or not self._forwarded.tunnel.is_open:
            ray = command_path("ray")
            self._write_files()
            tunnel = Tunnel(ray, self._file, self._cluster)
            self._forwarded = _TunnelProfile(address=tunnel.address, tunnel=tunnel, **self._settings())
        return RayExecutor(self._forwarded)

    def _start(self) -> RayExecutor:
        """Start the head, unless another process of this user was faster, and return an executor for it."""
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                return self._connect()
            except NoHeadError:
                self._run_launcher()
            return self._connect()

    def _run_launcher(self) -> None:
        """Start the head, which takes minutes, and copy the launcher's output to stderr."""
        words, last_output = self._up_command(command_path("ray")), ""
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                text = line.decode(errors="replace")
                print(text, end="", file=sys.stderr, flush=True)
                last_output = text if text.strip() else last_output
        if process.returncode:
            reason = last_line(last_output).rstrip(".")
            raise ClusterError(
                f"the cluster {self._cluster} did not start: {reason}; correct this and submit again, or end a head "
                f"that may be running: {self._down_command()}"
            )

    def _write_files(self) -> None:
        """Write the cluster's token, if there is none yet, and the configuration of the current profile."""
        if not self._token_file.exists():
            _write(self._token_file, secrets.token_hex(32), replace=False)
        _write(self._file, cluster_yaml(self._config()), replace=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user's id has no entry in the list of users
        raise ClusterError("USER: must be set to a name for your clusters, because the system knows none") from None


def _config_folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "pinnsweep"


def _write(file: Path, text: str, *, replace: bool) -> None:
    """Write a file, readable by its owner only, at once; without `replace` the first of several writers wins."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as temporary:  # with mode 600
            temporary.write(text)
        if replace:
            os.replace(temporary.name, file)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(temporary.name, file)
            os.unlink(temporary.name)
    except OSError as problem:
        raise ClusterError(
            f"{file} cannot be written ({problem.strerror}); make its folder yours and writable, or set XDG_CONFIG_HOME"
        ) from None
