"""The kinds of place where jobs run: the profile of each and its executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .executor import Executor
from .folder import JOBS_FOLDER
from .kubernetes.executor import KubernetesExecutor
from .kubernetes.profile import KubernetesProfile
from .local.executor import LocalExecutor
from .local.profile import LocalProfile
from .profile import Profile
from .ray.executor import RayExecutor
from .ray.profile import RayProfile
from .slurm.executor import SlurmExecutor
from .slurm.profile import SlurmProfile
from .vms.executor import VmsExecutor
from .vms.profile import VmsProfile


@dataclass(frozen=True)
class Backend:
    """A kind of place: the class of its profiles, and what makes the executor from a profile and its name."""

    profile: type[Profile]
    executor: Callable[[Any, str], Executor]


def _local(profile: LocalProfile, name: str) -> LocalExecutor:
    return LocalExecutor(Path(profile.root).expanduser() / JOBS_FOLDER)


def _ray(profile: RayProfile, name: str) -> RayExecutor:
    return RayExecutor(profile)


BACKENDS: Final[Mapping[str, Backend]] = {
    backend.profile.kind: backend
    for backend in (
        Backend(LocalProfile, _local),
        Backend(RayProfile, _ray),
        Backend(SlurmProfile, SlurmExecutor),
        Backend(KubernetesProfile, KubernetesExecutor),
        Backend(VmsProfile, VmsExecutor),
    )
}


def executor_of(profile: Profile, name: str) -> Executor:
    """Return the executor of the place that `profile` describes, `name` being the user's name for it.

    Contacts and writes nothing.
    """
    return BACKENDS[profile.kind].executor(profile, name)
