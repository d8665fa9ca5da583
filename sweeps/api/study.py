"""One study: how it stands, what its results say, and how it goes on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import StudyError
from ..storage.object_store import Remote, uri_of
from ..study import requests
from ..study.home import local
from ..study.status import read_status
from ..study.study_file import SPEC_FILE, identified, read_text, whole_text
from .results import Results, Trial

if TYPE_CHECKING:
    import pinncore

    from ..runner.driver import RunOutcome
    from ..spec.study_spec import StudySpec
    from .assessment import Assessment
    from .pages import Picture, Report


class StoppedError(StudyError):
    """A run that was stopped before its end by Ctrl-C, a signal or `stop`. Run the study again to resume it."""

    exit_code = 130


class Study(Results):
    """A study in a folder or an object store.

    Nothing is cached: while the study runs, the same call gives newer results later.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._place = place_of(path)
        super().__init__({self._place.name: self._place}, named=False)
        if isinstance(self._place, Remote):
            read_text(self._place)
        elif not (self._place / SPEC_FILE).is_file():
            raise StudyError(f"there is no study in {self._place}: it has no {SPEC_FILE}")

    def __repr__(self) -> str:
        from .overview import text_of_study

        return text_of_study(self._place)

    def _repr_html_(self) -> str:
        from .overview import html_of_study

        return html_of_study(self._place)

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
        from ..study.loading import read_spec

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

    def effects(self, by: str | None = None) -> Assessment:
        """Say which settings mattered, how, and what to try next, as the command `effects` does.

        `by` is a column (default: the first objective). Raises `QueryError` where it is no number.
        """
        from .assessment import of_effects

        return of_effects(self._place, by)

    def compare(self, other: Study | str | os.PathLike[str]) -> Assessment:
        """Compare with another study: settings, best trials, and the configurations that both contain.

        Raises `QueryError` where it is the same study or has another objective.
        """
        from .assessment import of_studies

        return of_studies(self._place, _study(other)._place)

    def compare_trials(
        self, first: Trial, second: Trial, *, of: Study | str | os.PathLike[str] | None = None
    ) -> Assessment:
        """Compare the configurations of two trials over their seeds; the second may be one `of` another study.

        Raises `QueryError` where a trial does not exist or has not finished.
        """
        from .assessment import of_configurations

        other = self if of is None else _study(of)
        return of_configurations((self._place, first), (other._place, second))

    def error_budget(self, trial: Trial = "best", replicate: int = 0) -> Assessment:
        """Say where the error of a trial comes from: network, formulation, optimiser or points. This takes seconds.

        It is kept in the study's folder for the report. The code of a user's problem is executed. Raises `StudyError`
        where there is no trained network, `pinncore.DataError` where the data have no reference or are gone.
        """
        from .assessment import of_error_budget

        return of_error_budget(self._place, trial, replicate)

    def report(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        figures: str | os.PathLike[str] | None = None,
        format: Literal["svg", "png"] = "svg",
        force: bool = False,
    ) -> Report:
        """Write the report as one HTML page, and return it; a notebook shows the page itself.

        `path` is by default `report.html` in the study's folder, which is written anew. Another file, and pictures in
        the folder `figures`, are replaced with `force` only. Raises `StudyError` where a file exists already or cannot
        be written.
        """
        from .pages import write

        return write(self._place, path, figures=figures, format=format, force=force)

    def picture(self) -> Picture:
        """Draw the field of the best trial, its reference and its error beside the errors of all trials.

        Raises `StudyError` where no trial is complete, or neither fields nor curves were kept.
        """
        from .pages import draw

        return draw(self._place)

    def network(self, trial: Trial, replicate: int = 0) -> pinncore.TrainedNetwork:
        """Return the trained network of a trial, with `predict(x_mm, y_mm)`, `gradient` and `residual`.

        Raises `StudyError` where there is no such trial or no trained network of it.
        """
        from ..query.query import trial_number
        from ..trial.tables import network_of

        return network_of(self._place, trial_number(self._place, trial), replicate)

    def stop(self, *, wait: bool = False) -> None:
        """Ask whoever runs the study to save and stop; with `wait`, return when that is done.

        Raises `StudyError` where nobody runs it.
        """
        requests.stop(self.path, wait=wait)

    def extend(
        self, n: int, *, address: str | None = None, cpus: int | None = None, plain: bool | None = None
    ) -> Study:
        """Train `n` more trials and return the study. Raises what `run` raises."""
        return self._resume(trials=requests.more_trials(self.path, n), address=address, cpus=cpus, plain=plain)

    def retry(
        self,
        trials: Iterable[int] = (),
        *,
        address: str | None = None,
        cpus: int | None = None,
        plain: bool | None = None,
    ) -> Study:
        """Train failed trials again (default: all that were not retried) and return the study.

        Raises what `run` raises.
        """
        return self._resume(retry=requests.to_retry(self.path, trials), address=address, cpus=cpus, plain=plain)

    def _resume(self, **options: Any) -> Study:
        from ..runner.driver import run as drive

        return study_of(drive(self.path, root=self.path.parent, **with_progress(options)))


def place_of(path: str | os.PathLike[str]) -> Path | Remote:
    """Return where a study is: an absolute path, or a place in an object store."""
    uri = uri_of(path)
    return Path(path).expanduser().absolute() if uri is None else Remote(uri)


def study_of(outcome: RunOutcome) -> Study:
    """Return the study of a run. Raises `StoppedError` where the run was stopped."""
    if outcome.exit_code == StoppedError.exit_code:
        raise StoppedError(f"{outcome.study_dir} was stopped before its end; run it again to resume")
    return Study(outcome.study_dir)


def with_progress(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run where `plain`, if it is None, is False in a notebook and True elsewhere."""
    from ..runner.notebook import in_notebook

    plain = options["plain"]
    return options | {"plain": not in_notebook() if plain is None else plain}


def _study(study: Study | str | os.PathLike[str]) -> Study:
    return study if isinstance(study, Study) else Study(study)
