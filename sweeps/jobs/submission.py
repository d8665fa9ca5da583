"""A study as a job: what is sent to a place, and the place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import (
    INLINE,
    LOCAL,
    Executor,
    Job,
    JobHandle,
    LocalProfile,
)

from ..errors import Mistake, SpecError, StudyError
from ..spec.study_spec import StudySpec
from ..storage.object_store import uri_of
from ..study.loading import Given, load_spec, read_given, read_spec
from ..study.study_file import SPEC_FILE
from .bundle import bundle
from .places import DEFAULT_ROOT, place, profile_of


@dataclass(frozen=True)
class Submission:
    """A study and the job that runs it, in the place `to`; its results will lie in `root`."""

    study: str
    to: str
    root: str
    job: Job
    executor: Executor

    def submit(self) -> JobHandle:
        """Hand it over."""
        return self.executor.submit(self.job)


def prepare(
    given: Given,
    to: str = LOCAL,
    root: str | os.PathLike[str] | None = None,
    *,
    overrides: Sequence[str] = (),
    trials: int | None = None,
    cpus: int | None = None,
    state: str | None = None,
) -> Submission:
    """What submitting a study would send; nothing is sent or written.

    `given` is a study file, its text or content, or the folder of a study that goes on. Raises `SpecError` with every
    mistake of study file or profile, `StudyError` and `ClusterError` for what cannot run in that place.
    """
    profile = None if to in (LOCAL, INLINE) else profile_of(to)
    spec, home = _study(given, overrides)
    if profile is None:
        place_of = root or home or DEFAULT_ROOT
        profile = LocalProfile(root=uri_of(place_of) or str(Path(place_of).absolute()))
    where = uri_of(root) or str(root) if root and to not in (LOCAL, INLINE) else profile.root
    if profile.joins and cpus is not None:
        raise SpecError([Mistake("cpus", cpus, f"is what the profile {to} says, so it cannot be given here")])
    if "://" not in where and not Path(where).is_absolute():
        raise SpecError([Mistake("root", where, "must be an absolute path, or an s3:// or gs:// address")])
    words = [*profile.command, "run", SPEC_FILE, "--root", where]
    words += [] if profile.shares_files else ["--inputs", "."]
    words += [] if to == INLINE else ["--plain"]
    words += ["--address", "auto"] if profile.joins else []
    for option, value in (("--trials", trials), ("--cpus", cpus), ("--state", state)):
        words += [option, str(value)] if value is not None else []
    job = Job(
        argv=tuple(words),
        name=spec.study,
        environment={"PYTHONUNBUFFERED": "1", **profile.environment},
        files=bundle(spec, where, shares_files=profile.shares_files),
    )
    return Submission(spec.study, to, where, job, place(to, where))


def _study(given: Given, overrides: Sequence[str]) -> tuple[StudySpec, Path | None]:
    """The study that is meant, and the root it lies in where it is there already."""
    found = read_given(given)
    if not isinstance(found, Path):
        return found, None
    if not found.is_dir():
        return load_spec(found, overrides), None

    if not (found / SPEC_FILE).is_file():
        raise StudyError(f"there is no study in {found}: it has no {SPEC_FILE}")
    return read_spec(found, overrides), found.absolute().parent
