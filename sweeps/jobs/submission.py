"""A study as a job to submit to a place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import INLINE, LOCAL, Executor, Job, JobHandle, LocalProfile

from ..errors import Mistake, SpecError, StudyError
from ..spec.study_spec import StudySpec
from ..storage.object_store import uri_of
from ..study.home import DEFAULT_ROOT
from ..study.loading import Given, load_spec, read_given, read_spec
from ..study.study_file import SPEC_FILE
from .bundle import bundle
from .places import place
from .profiles import find_profile


@dataclass(frozen=True)
class Submission:
    """A study and the job that runs it in the place `to`; its results are written to `root`."""

    study: str
    to: str
    root: str
    job: Job
    executor: Executor

    def submit(self) -> JobHandle:
        """Submit the job and return its handle. Raises `ClusterError` where the place refuses it."""
        return self.executor.submit(self.job)


def prepare(
    source: Given,
    to: str = LOCAL,
    root: str | os.PathLike[str] | None = None,
    *,
    overrides: Sequence[str] = (),
    trials: int | None = None,
    cpus: int | None = None,
    state: str | None = None,
) -> Submission:
    """Return the submission of a study without sending or writing anything.

    `source` is a study file, its text or content, or the folder of a study to resume. Raises `SpecError` with every
    mistake of the study file or the profile, `StudyError` and `ClusterError` where the study cannot run in that place.
    """
    profile = None if to in (LOCAL, INLINE) else find_profile(to)
    spec, home = _read_study(source, overrides)
    if profile is None:
        folder = root or home or DEFAULT_ROOT
        profile = LocalProfile(root=uri_of(folder) or str(Path(folder).absolute()))
    where = uri_of(root) or str(root) if root and to not in (LOCAL, INLINE) else profile.root
    if profile.joins and cpus is not None:
        raise SpecError([Mistake("cpus", cpus, f"is set by the profile {to} and cannot be given here")])
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


def _read_study(source: Given, overrides: Sequence[str]) -> tuple[StudySpec, Path | None]:
    """Return the specification of a study, and the root that contains the study if it exists already."""
    study = read_given(source)
    if not isinstance(study, Path):
        return study, None
    if not study.is_dir():
        return load_spec(study, overrides), None
    if not (study / SPEC_FILE).is_file():
        raise StudyError(f"there is no study in {study}: it has no {SPEC_FILE}")
    return read_spec(study, overrides), study.absolute().parent
