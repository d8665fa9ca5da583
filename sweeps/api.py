"""Studies from Python: run one, hand one to a back-end, open one to read its tables and to go on with it.

    study = sweeps.run("examples/quickstart.yaml")
    study.best()
    study.sql("SELECT init, min(rel_l2) AS best FROM trials GROUP BY init").to_pandas()

Mistakes are raised as subclasses of `sweeps.SweepError`; failed trials are no exception but rows of the tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster import JobHandle
from cluster.scratch import scratch_folder

from .errors import Mistake, SpecError, StudyError
from .query.results import Results
from .storage.object_store import Remote, uri_of
from .study import requests
from .study.home import is_study, local, studies_in
from .study.study_file import SPEC_FILE, identified, read_text, whole_text

if TYPE_CHECKING:
    import pinncore

    from .query.rows import Rows
    from .runner.driver import RunOutcome
    from .spec.study_spec import StudySpec
    from .study.loading import Given

DEFAULT_ROOT: Final = "runs"


class StoppedError(StudyError):
    """A run that was stopped before its end, by Ctrl-C, a signal or `stop`; run again, the study goes on."""

    exit_code = 130


class Study(Results):
    """A study in its folder or its object store. Whatever is read, is read now: a study that runs meanwhile answers
    differently later."""

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
        """Its name."""
        folder = self._place if isinstance(self._place, Path) else Path(self._place.name)
        return identified(whole_text(self._place), folder)[0]

    @property
    def path(self) -> Path:
        """Its folder, absolute; of one in an object store the folder on this machine from which it is run.

        Raises `StudyError` where its database is on another machine.
        """
        return local(Path(str(self._place)))

    @property
    def spec(self) -> StudySpec:
        """Its study file, with every default written out."""
        from .study.loading import read_spec

        return read_spec(self.path)

    def status(self) -> dict[str, Any]:
        """How it stands, in milliseconds, as `pinnsweep status --json` has it.

        Keys: `study`, `limit` (trials asked for), `counts` (trials by state), `failures` (failed trials that were not
        trained once more), `objective`, `best` (trial, value, params; None where no trial is complete), `held_by`
        (who runs it, or None).
        """
        return requests.study_status(self.path)

    def best(self) -> dict[str, Any]:
        """Number (`trial`), objective (`value`) and swept values (`params`) of the best trial.

        Of several objectives the first counts, of several replicates the quantile that the study file asks for. Raises
        `StudyError` where no trial is complete.
        """
        found: dict[str, Any] | None = self.status()["best"]
        if found is None:
            raise StudyError(f"{self._place}: no trial is complete, so none is the best")
        return found

    def curves(self, trial: int | None = None) -> Rows:
        """The course of training, of one trial or of all: loss, its terms and rel_l2 by step; `time_s` in s."""
        return self._of(trial, super().curves())

    def fields(self, trial: int | None = None) -> Rows:
        """The field at every Gauss point, of one trial or of all: `x_mm`, `y_mm` in mm; predicted, reference, local."""
        return self._of(trial, super().fields())

    def weights(self, trial: int | None = None) -> Rows:
        """The weights at the kept epochs, of one trial or of all, one row a number; the bias is row -1."""
        return self._of(trial, super().weights())

    def network(self, trial: int, replicate: int = 0) -> pinncore.TrainedNetwork:
        """The trained network of a trial: `predict(x_mm, y_mm)`, `gradient`, `residual`. Raises `StudyError`."""
        from .trial.tables import network_of

        return network_of(self._place, trial, replicate)

    def stop(self, *, wait: bool = False) -> None:
        """Ask whoever runs it to save and leave; with `wait`, come back when that is done.

        Raises `StudyError` where nobody runs it.
        """
        requests.stop(self.path, wait=wait)

    def extend(self, n: int, *, address: str | None = None, cpus: int | None = None, plain: bool = True) -> Study:
        """Train `n` trials more than it has now; returns the study. Raises as `run` does."""
        return self._go_on(trials=requests.more_trials(self.path, n), address=address, cpus=cpus, plain=plain)

    def retry(
        self,
        trials: Iterable[int] = (),
        *,
        address: str | None = None,
        cpus: int | None = None,
        plain: bool = True,
    ) -> Study:
        """Train failed trials once more, all not retried yet unless named; returns the study. Raises as `run`."""
        return self._go_on(retry=requests.to_retry(self.path, trials), address=address, cpus=cpus, plain=plain)

    def _go_on(self, **options: Any) -> Study:
        from .runner.driver import run as drive

        return _finished(drive(self.path, root=self.path.parent, **options))

    def _of(self, trial: int | None, rows: Rows) -> Rows:
        if trial is None:
            return rows
        if not len(self.trials().filter(trial=trial)):
            raise StudyError(f"{self._place}: there is no finished trial {trial}")
        return rows.filter(trial=trial)


class Studies(Results, Mapping[str, Study]):
    """Several studies, by name, whose tables are read as one: the first column `study` says whose a row is."""

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
    """Train the trials of a study, or go on with them where it stopped; returns the study, failed trials or not.

    `spec` is the path of a study file or of a study's folder, the text of a study file, or the same as a mapping;
    relative paths in a text or mapping start at the current folder. The study lies in `root`: a folder or, where its
    file says where the database lies (`state`), a prefix in an object store (s3://, gs://). `trials` replaces the
    number in the file, `address` is the Ray cluster to join (HOST:PORT), `cpus` the cores to use of this machine;
    `plain` prints progress as lines. Raises `SpecError` with every mistake of the file, `StudyError` for a study that
    is damaged, another one, or run by somebody else, and `StoppedError` where it is stopped.
    """
    from .runner.driver import run as drive
    from .study.loading import read_given

    _refuse_less_than_one(trials=trials, cpus=cpus)
    options: dict[str, Any] = {"trials": trials, "address": address, "cpus": cpus, "plain": plain}
    given = read_given(spec)
    if isinstance(given, Path):
        return _finished(drive(given, root=Path(root), **options))
    with scratch_folder("run") as folder:
        file = folder / SPEC_FILE
        file.write_text(given.to_yaml(), encoding="utf-8")
        return _finished(drive(file, root=Path(root), **options))


def submit(
    spec: Given,
    to: str = "local",
    root: str | os.PathLike[str] | None = None,
    *,
    trials: int | None = None,
    cpus: int | None = None,
) -> JobHandle:
    """Run a study as a job: in the background of this machine (`local`), here and now (`inline`), or on a cluster.

    `to` may name a profile of `clusters.yaml`; `root` is `runs`, or the profile's. Returns the job's handle: its
    `state()`, `logs()`, `wait()`, `cancel()`. The rest is as in `run`. Raises `SpecError` for a wrong file or profile
    before anything is started, and `cluster.ClusterError` where the place refuses.
    """
    _refuse_less_than_one(trials=trials, cpus=cpus)
    from .jobs.submission import prepare

    return prepare(spec, to, root, trials=trials, cpus=cpus).submit()


def open(path: str | os.PathLike[str], *others: str | os.PathLike[str]) -> Study | Any:  # or Studies
    """The `Study` in a folder, or at s3://BUCKET/PREFIX/STUDY; the `Studies` in a folder of them, or of several paths.

    Raises `StudyError` where there is none.
    """
    if others:
        return Studies([path, *others])
    place = _place(path)
    if is_study(Path(str(place))):
        return Study(path)
    found = studies_in(Path(str(place)))
    if not found:
        raise StudyError(f"there is no study in {place}: neither it nor a folder in it has a {SPEC_FILE}")
    return Studies(found)


def _place(path: str | os.PathLike[str]) -> Path | Remote:
    uri = uri_of(path)
    return Path(path).expanduser().absolute() if uri is None else Remote(uri)


def _finished(outcome: RunOutcome) -> Study:
    if outcome.exit_code == StoppedError.exit_code:
        raise StoppedError(f"{outcome.study_dir} was stopped; run it again to go on where it was")
    return Study(outcome.study_dir)


def _refuse_less_than_one(**numbers: int | None) -> None:
    rule = "must be a whole number of at least 1"
    wrong = [Mistake(name, number, rule) for name, number in numbers.items() if number is not None and number < 1]
    if wrong:
        raise SpecError(wrong)
