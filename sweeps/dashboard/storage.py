"""A study as a read-only Optuna storage: its trials with the metrics and pictures from its tables.

The study's database and tables are read and never changed; artifacts, metrics and the note exist only in this view.
Trials that ended are read once.
"""

from __future__ import annotations

import copy
import functools
import json
import threading
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from bottle import HTTPError
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from ..errors import SweepError
from ..query.query import read_study_file
from ..query.ranking import Ranking, ranking_of
from ..query.text import scale
from ..states import COMPLETE
from ..storage import lock
from ..storage.object_store import Remote
from ..storage.optuna_sql import StudyReader, TrialRecord
from ..storage.stored_tables import tables_of
from ..study.home import remote_of
from ..study.study_file import identified, whole_text
from ..study.trials import DUPLICATE_OF, RETRY_OF, TAKEN_FROM
from .pictures import PICTURES, REPLICATES, TRAINING, fields_of

READ_ONLY: Final = "This page is read-only: nothing in the study can be changed."
IMPORTANCE: Final = (
    "The importance of hyperparameters is that of `effects` and of the report: how far the values of the best tenth of "
    "the trials differ from those of all, failed trials being the worst; it needs ten finished trials."
)
_KEYS: Final = ("trial", "replicate", "state", "duplicate_of")
_OF_STUDY: Final = ("limit", "attempts", "hours")  # attributes that are shown
_OF_TRIALS: Final = (DUPLICATE_OF, RETRY_OF, TAKEN_FROM)


@contextmanager
def unavailable_on_error() -> Iterator[None]:
    """Turn a `SweepError` into HTTP's 503 (service unavailable) with its message."""
    try:
        yield
    except SweepError as problem:
        raise HTTPError(503, str(problem)) from None


def artifact_id(trial: int, replicate: int, picture: str) -> str:
    """Return the name of a trial's picture in addresses: hexadecimal digits and dashes."""
    return f"{trial:08x}-{replicate:04x}-{PICTURES.index(picture):02x}"


def parse_artifact_id(artifact: str) -> tuple[int, int, str]:
    """Return trial, replicate and picture of an `artifact_id`."""
    trial, replicate, index = (int(part, 16) for part in artifact.split("-"))
    return trial, replicate, PICTURES[index]


class StudyStorage(BaseStorage):
    """The study in a folder, for optuna-dashboard.

    `look` reads what is new. So does `get_all_trials`, which raises HTTP's 503 where the study cannot be read.
    """

    def __init__(self, study_dir: Path) -> None:
        self._study_dir = study_dir
        self.name, self._where = identified(whole_text(study_dir), study_dir)
        file = read_study_file(study_dir)
        self._rules: Ranking = ranking_of(file)
        self._keeps_fields = (file.get("results") or {}).get("fields", "all") == "all"
        self.place: Path | Remote = remote_of(study_dir) or study_dir
        self.tables = tables_of(self.place)
        problem = self.tables.problem
        costs = ("loss", "evaluations", "seconds", "stop_reason", "failure")
        self.metrics = (*(metric.name for metric in problem.metrics), *costs)
        self._in_per_cent = problem.in_per_cent
        self.objectives = self._rules.objectives
        pruner = (file.get("search") or {}).get("pruner")
        logged = pruner.get("metric") if isinstance(pruner, dict) else None
        self._factors = [scale(name, self._in_per_cent)[0] for name in self.objectives]
        self._rung_factor = scale(logged or self.objectives[0], self._in_per_cent)[0]
        self._lock = threading.Lock()
        self._study: FrozenStudy | None = None
        self._trials: dict[int, FrozenTrial] = {}
        self._settled = -1  # all trials up to this trial_id have ended
        self._flushes: list[str] = []
        self._rows: dict[int, list[dict[str, Any]]] = {}  # of each trial in the tables

    def look(self) -> None:
        """Read what is new. Raises `StudyError` where database or tables cannot be read."""
        with self._lock:
            with StudyReader(self._where, self.name, check=self._study is None) as reader:
                new = [_frozen_trial(record) for record in reader.records(after=self._settled)]
                self._study = self._frozen_study(reader.study_id, reader.attributes())
            self._read_rows()  # after the database: results are published before the trial ends there
            # with a shared database, the study may run elsewhere
            is_running = self._where.is_shared or lock.held_by(self._study_dir) is not None
            for trial in new:
                self._trials[trial._trial_id] = self._with_results(trial, is_running=is_running)
            unfinished = [trial._trial_id for trial in new if not trial.state.is_finished()]
            self._settled = min(unfinished, default=max(self._trials, default=0) + 1) - 1

    def _frozen_study(self, number: int, attributes: Mapping[str, Any]) -> FrozenStudy:
        objectives = [self._titled(name) for name in self.objectives]
        note = f"{READ_ONLY} Pictures of a trial are among its artifacts. {IMPORTANCE}"
        shown = {"dashboard:note_ver": 1, "dashboard:note_str:0": note, "study:metric_names": objectives}
        return FrozenStudy(
            self.name,
            None,
            {name: attributes[name] for name in _OF_STUDY if name in attributes},
            shown,
            number,
            directions=[StudyDirection.MINIMIZE] * len(objectives),
        )

    def _titled(self, name: str) -> str:
        """Return the name of a metric on the page, which shows relative errors in per cent."""
        return f"{name} in %" if name in self._in_per_cent else name

    def _read_rows(self) -> None:
        flushes = self.tables.flushes()
        if flushes == self._flushes:
            return
        columns = dict.fromkeys((*_KEYS, *self._rules.objectives, *self.metrics))
        rows: dict[int, list[dict[str, Any]]] = {}
        for row in self.tables.read("trials", columns=list(columns)).to_pylist():
            rows.setdefault(row["trial"], []).append(row)
        self._flushes, self._rows = flushes, rows

    def _with_results(self, trial: FrozenTrial, *, is_running: bool) -> FrozenTrial:
        """Return the trial with its metrics as user attributes and its pictures as artifacts."""
        if trial.state == TrialState.RUNNING and not is_running:  # a killed driver left it
            trial.state = TrialState.WAITING
        row = self._row_of(trial)
        links = {name: trial.user_attrs[name] for name in _OF_TRIALS if name in trial.user_attrs}
        metrics = {name: row[name] for name in self.metrics if row.get(name) is not None} if row else {}
        trial.user_attrs = {
            self._titled(name): _scaled(value, scale(name, self._in_per_cent)[0]) for name, value in metrics.items()
        } | links
        if row:
            trial._system_attrs = trial._system_attrs | dict(self._artifacts(trial.number, row))
        if trial.values is not None:  # after `_row_of`, which compares them with the tables
            trial.values = list(map(_scaled, trial.values, self._factors))
        rungs = trial.intermediate_values.items()
        trial.intermediate_values = {rung: _scaled(value, self._rung_factor) for rung, value in rungs}
        return trial

    def _row_of(self, trial: FrozenTrial) -> dict[str, Any] | None:
        """Return the row of the replicate nearest to the trial's value.

        Without a value, the first failed replicate counts, or else the first one.
        """
        rows = sorted(self._rows.get(trial.number, ()), key=lambda row: row["replicate"])
        complete = [row for row in rows if row["state"] == COMPLETE]
        if not trial.state.is_finished() or not (complete or rows):
            return None
        if trial.values is None or not complete:
            return next((row for row in rows if row["failure"]), rows[0])
        objective, value = self._rules.objectives[0], trial.values[0]
        return min(complete, key=lambda row: abs(row[objective] - value))

    def _artifacts(self, number: int, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield key and value of the system attribute by which Optuna knows each artifact of a trial."""
        original = number if row["duplicate_of"] is None else row["duplicate_of"]
        names = [TRAINING, REPLICATES] if self._rules.replicates > 1 else [TRAINING]
        if self._keeps_fields and row["failure"] is None:
            names = [*fields_of(self.tables.problem, has_reference=row.get("rel_l2") is not None), *names]
        for name in names:
            artifact = {
                "artifact_id": artifact_id(original, row["replicate"], name),
                "filename": f"trial-{number}-{PICTURES.index(name) + 1}-{name}.png",  # the page sorts by this name
                "mimetype": "image/png",
                "encoding": None,
            }
            yield f"artifacts:{artifact['artifact_id']}", json.dumps(artifact)

    def kinds(self) -> dict[str, str]:
        """Return the kind of each parameter, by Optuna's name for it."""
        with self._lock:
            trials = list(self._trials.values())
        return {name: type(kind).__name__ for trial in trials for name, kind in trial.distributions.items()}

    # ---- the interface of an Optuna storage --------------------------------------------------------------------------

    def get_all_studies(self) -> list[FrozenStudy]:
        return [self._loaded_study()]

    def get_study_id_from_name(self, study_name: str) -> int:
        if study_name != self.name:
            raise KeyError(study_name)
        return self._loaded_study()._study_id

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._loaded_study(study_id).study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._loaded_study(study_id).directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._loaded_study(study_id).user_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._loaded_study(study_id).system_attrs

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._trials[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._loaded_study(study_id)
        with unavailable_on_error():
            self.look()
        with self._lock:
            trials = [trial for trial in self._trials.values() if states is None or trial.state in states]
        trials.sort(key=lambda trial: trial.number)
        return copy.deepcopy(trials) if deepcopy else trials

    def _loaded_study(self, study_id: int | None = None) -> FrozenStudy:
        with unavailable_on_error():
            if self._study is None:
                self.look()
        assert self._study is not None
        if study_id not in (None, self._study._study_id):
            raise KeyError(f"no study has the number {study_id}")
        return self._study

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise HTTPError(403, READ_ONLY)

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


def _scaled(value: Any, factor: int) -> Any:
    """Return a number as people see it, with six significant digits: seventeen do not fit into the page's cards."""
    return float(f"{factor * value:.6g}") if isinstance(value, float) else value


def _frozen_trial(record: TrialRecord) -> FrozenTrial:
    """Return a trial of the database as Optuna's record."""
    return FrozenTrial(
        record.number,
        TrialState[record.state],
        None,
        record.started,
        record.ended,
        record.params,
        {name: _distribution(text) for name, text in record.distributions.items()},
        record.attributes,
        record.system_attributes,
        record.rungs,
        record.trial_id,
        values=record.values,
    )


@functools.lru_cache(maxsize=1000)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)
