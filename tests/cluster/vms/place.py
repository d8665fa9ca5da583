"""The back-end `vms` without a cloud: a stand-in for Ray's launcher, and a real head that it says it has started."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import Executor, executor_of
from cluster.vms.profile import VmsProfile
from tests.cluster.ray.place import ray_head
from tests.cluster.vms import ray_launcher

NAME = "lab"
AWS: dict[str, Any] = {
    "root": "s3://bucket/studies",
    "provider": "aws",
    "region": "us-west-2",
    "head_type": "m6i.large",
    "worker_type": "c6i.4xlarge",
    "docker_image": "example/pinnsweep:1",
}


@contextlib.contextmanager
def stand_in(folder: Path, dashboard: str) -> Iterator[Path]:
    """Put the stand-in first on PATH and the user's files into the folder; yields the folder of its cloud."""
    cloud, commands = folder / "cloud", folder / "bin"
    for each in (cloud, commands):
        each.mkdir(parents=True)
    (cloud / "head").write_text(dashboard)
    python = shlex.join([sys.executable, ray_launcher.__file__, str(cloud)])
    for name, line in (("ray", f'exec {python} "$@"'), ("ssh", "exit 1"), ("rsync", "exit 1")):
        (commands / name).write_text(f"#!/bin/sh\n{line}\n")
        (commands / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(commands), prepend=":")
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield cloud


@contextlib.contextmanager
def vms_place(folder: Path) -> Iterator[Callable[[], Executor]]:
    """Clients of one cluster, which the first submitted job starts."""
    with ray_head(folder) as head, stand_in(folder, head.dashboard):
        token = folder / "config" / "pinnsweep" / "tokens" / NAME
        token.parent.mkdir(parents=True)
        shutil.copy2(head.token_file, token)
        yield lambda: executor_of(VmsProfile(**AWS, stop_grace_s=2), NAME)
