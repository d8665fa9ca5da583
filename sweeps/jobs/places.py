"""The places where jobs run, by name: this machine, and the profiles of `clusters.yaml`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cluster import INLINE, LOCAL, Executor, InlineExecutor, JobHandle, LocalExecutor, Profile, executor_of
from cluster.folder import JOBS_FOLDER

from ..storage.object_store import uri_of

DEFAULT_ROOT: Final = "runs"


def place(to: str, root: str | os.PathLike[str] = DEFAULT_ROOT) -> Executor:
    """Where jobs run; jobs of this machine lie under `root`. Raises `SpecError` for an unknown or wrong profile."""
    if to in (LOCAL, INLINE):
        folder = Path(DEFAULT_ROOT if uri_of(root) else root) / JOBS_FOLDER
        return LocalExecutor(folder) if to == LOCAL else InlineExecutor(folder)
    return executor_of(profile_of(to), to)


def places() -> list[str]:
    """Every place that keeps jobs. Raises `SpecError` with every mistake of every profile."""
    from .profiles import all_profiles

    return [LOCAL, *all_profiles()]


def find_job(job: str, root: str | os.PathLike[str] = DEFAULT_ROOT) -> JobHandle:
    """The job PLACE/ID, or ID for one of this machine. Raises `SpecError` and `ClusterError`."""
    to, slash, job_id = job.rpartition("/")
    return place(to if slash else LOCAL, root).attach(job_id)


def names_job(name: str) -> bool:
    """Whether a name is one that jobs have: a number, or PLACE/ID of a place that there is."""
    to, slash, job_id = name.rpartition("/")
    if not slash:
        return job_id.isdecimal()
    if to in (LOCAL, INLINE):
        return True
    from .profiles import profile_names

    return to in profile_names()


def full_id(to: str, handle: JobHandle) -> str:
    """What `find_job` takes for a job of a place."""
    return handle.id if to in (LOCAL, INLINE) else f"{to}/{handle.id}"


def profile_of(name: str) -> Profile:
    """Return the profile of that name. Raises `SpecError` where there is none, and with every mistake in it."""
    from .profiles import find_profile  # only now: it brings pydantic

    return find_profile(name)
