"""The places where jobs run, by name: this machine, and the profiles of `clusters.yaml`."""

from __future__ import annotations

import os
from pathlib import Path

from cluster import INLINE, LOCAL, Executor, InlineExecutor, JobHandle, LocalExecutor
from cluster.folder import JOBS_FOLDER

from ..storage.object_store import uri_of
from ..study.home import DEFAULT_ROOT
from .profile_files import profile_sections


def place(to: str, root: str | os.PathLike[str] = DEFAULT_ROOT) -> Executor:
    """Return the executor of a place; jobs of this machine are stored under `root`.

    Raises `SpecError` for an unknown or wrong profile.
    """
    if to in (LOCAL, INLINE):
        folder = Path(DEFAULT_ROOT if uri_of(root) else root) / JOBS_FOLDER
        return LocalExecutor(folder) if to == LOCAL else InlineExecutor(folder)
    from cluster import executor_of  # imported late, like pydantic: most commands do without

    from .profiles import find_profile

    return executor_of(find_profile(to), to)


def places() -> list[str]:
    """Return the names of all places that keep jobs. Raises `SpecError` with every mistake of every profile."""
    from .profiles import all_profiles

    return [LOCAL, *all_profiles()]


def find_job(job: str, root: str | os.PathLike[str] = DEFAULT_ROOT) -> JobHandle:
    """Return the job named PLACE/ID, or ID for one of this machine.

    Raises `SpecError` for an unknown or wrong profile and `ClusterError` for an unknown job.
    """
    to, slash, job_id = job.rpartition("/")
    return place(to if slash else LOCAL, root).attach(job_id)


def names_job(name: str) -> bool:
    """Return whether a name has the form of a job's: a number, or PLACE/ID of a place that exists."""
    to, slash, job_id = name.rpartition("/")
    return to in (LOCAL, INLINE) or to in profile_sections() if slash else job_id.isdecimal()


def full_id(to: str, handle: JobHandle) -> str:
    """Return the name by which `find_job` finds a job of a place."""
    return handle.id if to in (LOCAL, INLINE) else f"{to}/{handle.id}"
