"""Run, submit and open studies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import JobHandle
from cluster.scratch import scratch_folder

from ..errors import Mistake, SpecError, StudyError
from ..study.home import DEFAULT_ROOT, is_study, studies_in
from ..study.study_file import SPEC_FILE
from .results import Results
from .study import Study, place_of, study_of, with_progress

if TYPE_CHECKING:
    from ..study.loading import Given


class Studies(Results, Mapping[str, Study]):
    """Several studies by name. Their tables are read as one; the first column, `study`, names the study of a row."""

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        from ..query.query import named_studies

        super().__init__(named_studies([place_of(path) for path in paths]), named=True)
        self._studies = {name: Study(str(place)) for name, place in self._places.items()}

    def __repr__(self) -> str:
        return "\n".join(map(repr, self._studies.values()))

    def _repr_html_(self) -> str:
        from ..query.blocks import html_of_text

        return "".join(map(html_of_text, map(repr, self._studies.values())))

    def __getitem__(self, name: str) -> Study:
        return self._studies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._studies)

    def __len__(self) -> int:
        return len(self._studies)


def run(
    spec: Given,
    root: str | os.PathLike[str] = DEFAULT_ROOT,
    *,
    trials: int | None = None,
    address: str | None = None,
    cpus: int | None = None,
    plain: bool | None = None,
) -> Study:
    """Train the trials of a study, or resume them where they stopped, and return the study.

    `spec` is the path of a study file or of a study's folder, the text of a study file, or the same as a mapping;
    relative paths in a text or mapping start at the current folder. The study is kept in `root`: a folder or, if the
    study file says where its database is (`state`), a prefix in an object store (s3://, gs://). `trials` replaces the
    number in the file, `address` is the Ray cluster to join (HOST:PORT), `cpus` the number of cores of this machine to
    use. Progress is one output that is updated in a notebook, and lines elsewhere; `plain` True prints lines
    everywhere, False a live view on a terminal. Failed trials raise nothing. Raises `SpecError` with every mistake of
    the file; `StudyError` where the study is damaged, is another study of this name, or is run by somebody else; and
    `StoppedError` where the run is stopped.
    """
    from ..runner.driver import run as drive
    from ..study.loading import read_given

    _refuse_less_than_one(trials=trials, cpus=cpus)
    options = with_progress({"trials": trials, "address": address, "cpus": cpus, "plain": plain})
    source = read_given(spec)
    if isinstance(source, Path):
        return study_of(drive(source, root=Path(root), **options))
    with scratch_folder("run") as folder:
        file = folder / SPEC_FILE
        file.write_text(source.to_yaml(), encoding="utf-8")
        return study_of(drive(file, root=Path(root), **options))


def submit(
    spec: Given,
    to: str = "local",
    root: str | os.PathLike[str] | None = None,
    *,
    trials: int | None = None,
    cpus: int | None = None,
) -> JobHandle:
    """Run a study as a job and return the job's handle, with `state()`, `logs()`, `wait()` and `cancel()`.

    `to` is `local` (in the background of this machine), `inline` (in the foreground) or a profile of `clusters.yaml`.
    `root` is by default that of the profile, or `runs`. The other arguments are those of `run`. Raises `SpecError`
    where the study file or the profile is wrong, before anything is started, and `cluster.ClusterError` where the
    cluster refuses the job.
    """
    _refuse_less_than_one(trials=trials, cpus=cpus)
    from ..jobs.submission import prepare

    return prepare(spec, to, root, trials=trials, cpus=cpus).submit()


def open(path: str | os.PathLike[str], *others: str | os.PathLike[str]) -> Study | Any:  # or Studies
    """Return the `Study` in a folder or at s3://BUCKET/PREFIX/STUDY, or the `Studies` of a folder or of several paths.

    Raises `StudyError` where there is no study.
    """
    if others:
        return Studies([path, *others])
    place = place_of(path)
    if is_study(Path(str(place))):
        return Study(path)
    studies = studies_in(Path(str(place)))
    if not studies:
        raise StudyError(f"there is no study in {place}: neither it nor a folder in it has a {SPEC_FILE}")
    return Studies(studies)


def _refuse_less_than_one(**numbers: int | None) -> None:
    rule = "must be a whole number of at least 1"
    wrong = [Mistake(name, number, rule) for name, number in numbers.items() if number is not None and number < 1]
    if wrong:
        raise SpecError(wrong)
