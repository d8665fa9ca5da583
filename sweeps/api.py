"""Studies from Python: run a study, submit it as a job, open it to read its tables or to continue it.

    study = sweeps.run("examples/quickstart.yaml")
    study.best()
    study.sql("SELECT init, min(rel_l2) AS best FROM trials GROUP BY init").to_pandas()

Mistakes are raised as subclasses of `sweeps.SweepError`. A failed trial raises nothing: it is a row of the tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cluster import JobHandle
from cluster.scratch import scratch_folder

from .errors import Mistake, SpecError, StudyError
from .storage.object_store import Remote, uri_of
from .study import requests
from .study.home import DEFAULT_ROOT, is_study, local, studies_in
from .study.status import read_status
from .study.study_file import SPEC_FILE, identified, read_text, whole_text

if TYPE_CHECKING:
    import pyarrow as pa

    import pinncore

    from .query.rows import Rows
    from .runner.driver import RunOutcome
    from .spec.study_spec import StudySpec
    from .study.loading import Given

Trial = int | Literal["best"]  # the number of a trial, or the best trial of a study


class StoppedError(StudyError):
    """A run that was stopped before its end by Ctrl-C, a signal or `stop`. Run the study again to resume it."""

    exit_code = 130


class Results:
    """The tables of studies, each read on demand; where `named`, their first column is the study."""

    def __init__(self, places: Mapping[str, Path | Remote], *, named: bool) -> None:
        self._places, self._named = dict(places), named

    def trials(self) -> Rows:
        """Return one row per finished trial and replicate: every setting and metric, times in s, lengths in mm."""
        return self._rows("trials")

    def curves(self, trial: Trial | None = None) -> Rows:
        """Return the loss, its terms and rel_l2 by step, of one trial or of all; `time_s` is in seconds."""
        return self._rows("curves", trial)

    def fields(self, trial: Trial | None = None) -> Rows:
        """Return the field at every point, of one trial or of all: coordinates, predicted, reference, data."""
        return self._rows("fields", trial)

    def weights(self, trial: Trial | None = None) -> Rows:
        """Return the weights at the kept epochs, of one trial or of all, one row per number; row -1 is the bias."""
        return self._rows("weights", trial)

    def events(self) -> Rows:
        """Return the events in the order of time, in UTC."""
        return self._rows("events")

    def sql(self, text: str) -> pa.Table:
        """Return the answer to one SELECT over the tables and views.

        Raises `QueryError` where the statement is wrong or does more than read them, or its answer exceeds 1 GiB.
        """
        from .query.query import query

        return query(list(self._places.values()), text)

    def _rows(self, table: str, trial: Trial | None = None) -> Rows:
        from .query.rows import Rows
        from .storage.stored_tables import tables_of

        rows = Rows(table, {name: tables_of(place) for name, place in self._places.items()}, named=self._named)
        if trial is None:
            return rows
        from .query.query import trial_number

        places = list(self._places.values())
        if trial == "best" and len(places) > 1:
            raise StudyError(f"best is a trial of one study, and these are {len(places)}. Give a number")
        number = trial_number(places[0], trial)
        if not len(self.trials().filter(trial=number)):
            raise StudyError(f"{', '.join(map(str, places))}: there is no finished trial {number}")
        return rows.filter(trial=number)


class Study(Results):
    """A study in a folder or an object store.

    Nothing is cached: while the study runs, the same call gives newer results later.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._place = _place(path)
        super().__init__({self._place.name: self._place}, named=False)
        if isinstance(self._place, Remote):
            read_text(self._place)
        elif not (self._place / SPEC_FILE).is_file():
            raise StudyError(f"there is no study in {self._place}: it has no {SPEC_FILE}")

    def __repr__(self) -> str:
        return f"sweeps.open({str(self._place)!r})"

    @property
    def name(self) -> str:
        """Return the name of the study."""
        folder = self._place if isinstance(self._place, Path) else Path(self._place.name)
        return identified(whole_text(self._place), folder)[0]

    @property
    def path(self) -> Path:
        """Return the absolute path of the folder, for an object store that of the study's home on this machine.

        Raises `StudyError` where its database is on another machine.
        """
        return local(Path(str(self._place)))

    @property
    def spec(self) -> StudySpec:
        """Return the study file with every default written out."""
        from .study.loading import read_spec

        return read_spec(self.path)

    def status(self) -> dict[str, Any]:
        """Return the state of the study, as `pinnsweep status --json` prints it; this takes milliseconds.

        Keys: `study`, `limit` (number of trials requested), `counts` (trials by state), `failures` (failed trials that
        were not retried), `objective`, `in_percent` (whether text for people shows it in per cent), `best` (trial,
        value, params; None if no trial is complete), `held_by` (who runs the study, or None), `saved` (of a study that
        is not run, the packs that wait half-trained: `pack`, `trials` and `share`, the mean share of their planned
        steps).
        """
        return read_status(self.path)

    def best(self) -> dict[str, Any]:
        """Return the number (`trial`), objective (`value`) and swept values (`params`) of the best trial.

        With several objectives the first counts, with several replicates the quantile that the study file names.
        Raises `StudyError` where no trial is complete.
        """
        trial: dict[str, Any] | None = self.status()["best"]
        if trial is None:
            raise StudyError(f"{self._place}: no trial is complete, so there is no best trial")
        return trial

    def network(self, trial: Trial, replicate: int = 0) -> pinncore.TrainedNetwork:
        """Return the trained network of a trial, with `predict(x_mm, y_mm)`, `gradient` and `residual`.

        Raises `StudyError` where there is no such trial or no trained network of it.
        """
        from .query.query import trial_number
        from .trial.tables import network_of

        return network_of(self._place, trial_number(self._place, trial), replicate)

    def stop(self, *, wait: bool = False) -> None:
        """Ask whoever runs the study to save and stop; with `wait`, return when that is done.

        Raises `StudyError` where nobody runs it.
        """
        requests.stop(self.path, wait=wait)

    def extend(self, n: int, *, address: str | None = None, cpus: int | None = None, plain: bool = True) -> Study:
        """Train `n` more trials and return the study. Raises what `run` raises."""
        return self._resume(trials=requests.more_trials(self.path, n), address=address, cpus=cpus, plain=plain)

    def retry(
        self,
        trials: Iterable[int] = (),
        *,
        address: str | None = None,
        cpus: int | None = None,
        plain: bool = True,
    ) -> Study:
        """Train failed trials again (default: all that were not retried) and return the study.

        Raises what `run` raises.
        """
        return self._resume(retry=requests.to_retry(self.path, trials), address=address, cpus=cpus, plain=plain)

    def _resume(self, **options: Any) -> Study:
        from .runner.driver import run as drive

        return _study_or_stopped(drive(self.path, root=self.path.parent, **options))


class Studies(Results, Mapping[str, Study]):
    """Several studies by name. Their tables are read as one; the first column, `study`, names the study of a row."""

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        from .query.query import named_studies

        super().__init__(named_studies([_place(path) for path in paths]), named=True)
        self._studies = {name: Study(str(place)) for name, place in self._places.items()}

    def __repr__(self) -> str:
        return f"sweeps.open({', '.join(repr(str(place)) for place in self._places.values())})"

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
    plain: bool = True,
) -> Study:
    """Train the trials of a study, or resume them where they stopped, and return the study.

    `spec` is the path of a study file or of a study's folder, the text of a study file, or the same as a mapping;
    relative paths in a text or mapping start at the current folder. The study is kept in `root`: a folder or, if the
    study file says where its database is (`state`), a prefix in an object store (s3://, gs://). `trials` replaces the
    number in the file, `address` is the Ray cluster to join (HOST:PORT), `cpus` the number of cores of this machine to
    use; `plain` prints progress as lines. Failed trials raise nothing. Raises `SpecError` with every mistake of the
    file; `StudyError` where the study is damaged, is another study of this name, or is run by somebody else; and
    `StoppedError` where the run is stopped.
    """
    from .runner.driver import run as drive
    from .study.loading import read_given

    _refuse_less_than_one(trials=trials, cpus=cpus)
    options: dict[str, Any] = {"trials": trials, "address": address, "cpus": cpus, "plain": plain}
    source = read_given(spec)
    if isinstance(source, Path):
        return _study_or_stopped(drive(source, root=Path(root), **options))
    with scratch_folder("run") as folder:
        file = folder / SPEC_FILE
        file.write_text(source.to_yaml(), encoding="utf-8")
        return _study_or_stopped(drive(file, root=Path(root), **options))


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
    from .jobs.submission import prepare

    return prepare(spec, to, root, trials=trials, cpus=cpus).submit()


def open(path: str | os.PathLike[str], *others: str | os.PathLike[str]) -> Study | Any:  # or Studies
    """Return the `Study` in a folder or at s3://BUCKET/PREFIX/STUDY, or the `Studies` of a folder or of several paths.

    Raises `StudyError` where there is no study.
    """
    if others:
        return Studies([path, *others])
    place = _place(path)
    if is_study(Path(str(place))):
        return Study(path)
    studies = studies_in(Path(str(place)))
    if not studies:
        raise StudyError(f"there is no study in {place}: neither it nor a folder in it has a {SPEC_FILE}")
    return Studies(studies)


def _place(path: str | os.PathLike[str]) -> Path | Remote:
    uri = uri_of(path)
    return Path(path).expanduser().absolute() if uri is None else Remote(uri)


def _study_or_stopped(outcome: RunOutcome) -> Study:
    if outcome.exit_code == StoppedError.exit_code:
        raise StoppedError(f"{outcome.study_dir} was stopped before its end; run it again to resume")
    return Study(outcome.study_dir)


def _refuse_less_than_one(**numbers: int | None) -> None:
    rule = "must be a whole number of at least 1"
    wrong = [Mistake(name, number, rule) for name, number in numbers.items() if number is not None and number < 1]
    if wrong:
        raise SpecError(wrong)
