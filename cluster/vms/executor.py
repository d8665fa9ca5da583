"""Back-end `vms`: machines of AWS, GCP or Azure that Ray's cluster launcher starts, as a Ray cluster of one's own."""

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
from ..executor import Check, Executor, checked
from ..job import Job, JobHandle, without_secrets
from ..ray.executor import RayExecutor
from ..ray.profile import RayProfile
from .checks import command, steps_here, typed
from .config import cluster_config, cluster_name, cluster_yaml
from .profile import VmsProfile
from .tunnel import NoHeadError, Tunnel, last_line, tunnel_command


@dataclass(frozen=True, kw_only=True)
class _Forwarded(RayProfile):
    """A head's dashboard at the near end of a tunnel. Handles hold this, and so the tunnel, as long as they live."""

    tunnel: Tunnel


class VmsExecutor(Executor):
    """Starts the cluster when a job is submitted and none is up, and hands jobs to it through a tunnel to its head."""

    def __init__(self, profile: VmsProfile, name: str) -> None:
        self._profile, self._name = profile, name
        self._cluster = cluster_name(name, getpass.getuser())
        self._forwarded: _Forwarded | None = None

    def submit(self, job: Job) -> JobHandle:
        self.preview(job)  # raises for a job that cannot run there, before anything is started
        try:
            place = self._place()
        except NoHeadError:
            place = self._started()
        return place.submit(job)

    def preview(self, job: Job) -> str:
        config = self._config()
        shown = config | {"provider": without_secrets(config["provider"])}  # it may have credentials by overrides
        return "\n".join(
            (
                f"# {self._file}",
                cluster_yaml(shown),
                "# where no head of this cluster is up",
                shlex.join(self._up_command(typed("ray"))),
                "# the job, through a tunnel",
                shlex.join(tunnel_command(typed("ray"), self._file, "PORT")),
                RayExecutor(RayProfile(address="http://127.0.0.1:PORT", **self._settings())).preview(job),
                "# all machines go after head_idle_shutdown_min without a job, and at once by",
                self._down_command(),
            )
        )

    def checks(self) -> Iterator[Check]:
        for check in checked(steps_here(self._profile.provider, self._config())):
            yield check
            if check.problem:
                return
        what = f"the head of the cluster {self._cluster} can be reached"
        try:
            place = self._place()
        except NoHeadError as state:
            yield Check(str(state))
        except ClusterError as problem:
            yield Check(what, str(problem))
        else:
            yield Check(what)
            yield from place.checks()

    def attach(self, job_id: str) -> JobHandle:
        try:
            return self._place().attach(job_id)
        except NoHeadError as state:
            raise JobNotFound(f"no job {job_id!r}: {state}, and what an earlier head knew of jobs is gone") from None

    def list(self) -> Sequence[JobHandle]:
        try:
            return self._place().list()
        except NoHeadError:
            return []

    @property
    def _file(self) -> Path:
        return _config_folder() / "vms" / f"{self._name}.yaml"

    @property
    def _token_file(self) -> Path:
        return _config_folder() / "tokens" / self._name

    def _config(self) -> dict[str, Any]:
        return cluster_config(self._profile, self._name, user=getpass.getuser(), token_file=self._token_file)

    def _up_command(self, ray: str) -> Sequence[str]:
        return (ray, "up", "-y", "--disable-usage-stats", "--log-style=pretty", str(self._file))

    def _down_command(self) -> str:
        return shlex.join([typed("ray"), "down", "-y", str(self._file)])

    def _settings(self) -> dict[str, Any]:
        """What the cluster has in common with a Ray cluster that is already there."""
        profile = self._profile
        return {
            "root": profile.root,
            "environment": profile.environment,
            "carry_code": profile.carry_code,
            "stop_grace_s": profile.stop_grace_s,
            "token_file": str(self._token_file),
        }

    def _place(self) -> RayExecutor:
        """The cluster's Jobs API. Raises `NoHeadError` where it is not up."""
        if self._forwarded is None or not self._forwarded.tunnel.is_open:
            ray = command("ray")
            self._write_files()
            tunnel = Tunnel(ray, self._file, self._cluster)
            self._forwarded = _Forwarded(address=tunnel.address, tunnel=tunnel, **self._settings())
        return RayExecutor(self._forwarded)

    def _started(self) -> RayExecutor:
        """The cluster's Jobs API, on a new head unless another process of this user was faster."""
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                return self._place()
            except NoHeadError:
                self._up()
            return self._place()

    def _up(self) -> None:
        """Start the head, which takes minutes; what the launcher says meanwhile goes to stderr."""
        words, last = self._up_command(command("ray")), ""
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                text = line.decode(errors="replace")
                print(text, end="", file=sys.stderr, flush=True)
                last = text if text.strip() else last
        if process.returncode:
            told = last_line(last).rstrip(".")
            raise ClusterError(
                f"the cluster {self._cluster} did not start: {told}; mend it and submit again, or end a head that may "
                f"be running: {self._down_command()}"
            )

    def _write_files(self) -> None:
        """The cluster's token, made once, and its configuration as the profile is now."""
        if not self._token_file.exists():
            _write(self._token_file, secrets.token_hex(32), replace=False)
        _write(self._file, cluster_yaml(self._config()), replace=True)


def _config_folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "pinnsweep"


def _write(file: Path, text: str, *, replace: bool) -> None:
    """A whole file for its owner only; without `replace` the first of several writers wins."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as beside:  # with mode 600
            beside.write(text)
        if replace:
            os.replace(beside.name, file)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(beside.name, file)
            os.unlink(beside.name)
    except OSError as problem:
        raise ClusterError(f"{file} cannot be written ({problem.strerror}); give the folder to yourself") from None
