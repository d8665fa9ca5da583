"""A study as an Optuna storage that nobody can write to: its trials with the numbers and pictures of its tables.

What is read lies in the study's database and tables and is left as it is; artifacts, metrics and the note exist in this
view alone. Trials that ended are read once.
"""

from __future__ import annotations

import copy
import datetime
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
from ..states import COMPLETE
from ..storage import database, lock, optuna_reader
from ..storage.database import Connection
from ..storage.stored_tables import tables_of
from ..study.home import remote_of
from ..study.study_file import identified, whole_text
from ..study.trials import DUPLICATE_OF, RETRY_OF, TAKEN_FROM
from .pictures import FIELDS, PICTURES, REPLICATES, TRAINING

METRICS: Final = (
    *("rel_l2", "process_zone_error", "heldout_residual", "distance_to_local", "loss", "evaluations", "seconds"),
    *("stop_reason", "failure"),
)
READ_ONLY: Final = "The study is only looked at here: nothing in it can be changed."
_KEYS: Final = ("trial", "replicate", "state", "duplicate_of")
_OF_STUDY: Final = ("limit", "attempts", "hours")  # attributes worth a look
_OF_TRIALS: Final = (DUPLICATE_OF, RETRY_OF, TAKEN_FROM)


@contextmanager
def told() -> Iterator[None]:
    """A study that cannot be read now is the server's trouble: 503, with the reason."""
    try:
        yield
    except SweepError as problem:
        raise HTTPError(503, str(problem)) from None


def artifact_id(trial: int, replicate: int, picture: str) -> str:
    """The name of a trial's picture in addresses: hexadecimal digits and dashes."""
    return f"{trial:08x}-{replicate:04x}-{PICTURES.index(picture):02x}"


def pictured(artifact: str) -> tuple[int, int, str]:
    """Trial, replicate and picture of an `artifact_id`."""
    trial, replicate, index = (int(part, 16) for part in artifact.split("-"))
    return trial, replicate, PICTURES[index]


class StudyStorage(BaseStorage):
    """The study in a folder, for optuna-dashboard.

    `look` reads what is new; so does every look at all trials, which raises HTTP's 503 where the study cannot be read.
    """

    def __init__(self, study_dir: Path) -> None:
        self._study_dir = study_dir
        self.name, self._where = identified(whole_text(study_dir), study_dir)
        file = read_study_file(study_dir)
        self._rules: Ranking = ranking_of(file)
        self._keeps_fields = (file.get("results") or {}).get("fields", "all") == "all"
        self.tables = tables_of(remote_of(study_dir) or study_dir)
        self._lock = threading.Lock()
        self._study: FrozenStudy | None = None
        self._trials: dict[int, FrozenTrial] = {}
        self._settled = -1  # all trials up to this trial_id have ended
        self._flushes: list[str] = []
        self._rows: dict[int, list[dict[str, Any]]] = {}  # of each trial in the tables

    def look(self) -> None:
        """Read what is new. Raises `StudyError` where database or tables cannot be read."""
        with self._lock:
            connection = database.connect(self._where)
            try:
                if self._study is None:
                    optuna_reader.refuse_damaged(connection)
                with connection.snapshot():
                    number = optuna_reader.study_id(connection, self.name)
                    self._study = self._frozen_study(number, optuna_reader.attributes(connection, number))
                    new = _read_trials(connection, number, self._settled)
            finally:
                connection.close()
            self._read_rows()  # after the database: results are published before a trial is told
            is_run = self._where.is_shared or lock.held_by(self._study_dir) is not None  # a server's may run elsewhere
            for trial in new:
                self._trials[trial._trial_id] = self._with_results(trial, is_run=is_run)
            unfinished = [trial._trial_id for trial in new if not trial.state.is_finished()]
            self._settled = min(unfinished, default=max(self._trials, default=0) + 1) - 1

    def _frozen_study(self, number: int, attributes: Mapping[str, Any]) -> FrozenStudy:
        objectives = list(self._rules.objectives)
        note = f"{READ_ONLY} Pictures of a trial are among its artifacts."
        shown = {"dashboard:note_ver": 1, "dashboard:note_str:0": note, "study:metric_names": objectives}
        return FrozenStudy(
            self.name,
            None,
            {name: attributes[name] for name in _OF_STUDY if name in attributes},
            shown,
            number,
            directions=[StudyDirection.MINIMIZE] * len(objectives),
        )

    def _read_rows(self) -> None:
        flushes = self.tables.flushes()
        if flushes == self._flushes:
            return
        known = self.tables.dataset("trials").schema.names  # a problem may have others
        wanted = dict.fromkeys((*_KEYS, *(name for name in (*self._rules.objectives, *METRICS) if name in known)))
        rows: dict[int, list[dict[str, Any]]] = {}
        for row in self.tables.read("trials", columns=list(wanted)).to_pylist():
            rows.setdefault(row["trial"], []).append(row)
        self._flushes, self._rows = flushes, rows

    def _with_results(self, trial: FrozenTrial, *, is_run: bool) -> FrozenTrial:
        """A trial with its metrics as user attributes and its pictures as artifacts."""
        if trial.state == TrialState.RUNNING and not is_run:  # what a killed driver left
            trial.state = TrialState.WAITING
        row = self._row_of(trial)
        kept = {name: trial.user_attrs[name] for name in _OF_TRIALS if name in trial.user_attrs}
        metrics = {name: row[name] for name in METRICS if row.get(name) is not None} if row else {}
        trial.user_attrs = metrics | kept
        if row:
            trial._system_attrs = trial._system_attrs | dict(self._artifacts(trial.number, row))
        return trial

    def _row_of(self, trial: FrozenTrial) -> dict[str, Any] | None:
        """The row of the replicate that is nearest to the trial's value; of a trial without one, of the first."""
        rows = sorted(self._rows.get(trial.number, ()), key=lambda row: row["replicate"])
        own = [row for row in rows if row["state"] == COMPLETE]
        if not trial.state.is_finished() or not (own or rows):
            return None
        if trial.values is None or not own:
            return next((row for row in rows if row["failure"]), rows[0])
        objective, middle = self._rules.objectives[0], trial.values[0]
        return min(own, key=lambda row: abs(row[objective] - middle))

    def _artifacts(self, number: int, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What Optuna keeps of each artifact of a trial."""
        trained = number if row["duplicate_of"] is None else row["duplicate_of"]
        names = [TRAINING, REPLICATES] if self._rules.replicates > 1 else [TRAINING]
        if self._keeps_fields and row["failure"] is None:
            names = [*(FIELDS if row.get("rel_l2") is not None else FIELDS[:1]), *names]
        for name in names:
            made = {
                "artifact_id": artifact_id(trained, row["replicate"], name),
                "filename": f"trial-{number}-{PICTURES.index(name) + 1}-{name}.png",  # the page sorts by it
                "mimetype": "image/png",
                "encoding": None,
            }
            yield f"artifacts:{made['artifact_id']}", json.dumps(made)

    # ---- what Optuna asks of a storage -------------------------------------------------------------------------------

    def get_all_studies(self) -> list[FrozenStudy]:
        return [self._known()]

    def get_study_id_from_name(self, study_name: str) -> int:
        if study_name != self.name:
            raise KeyError(study_name)
        return self._known()._study_id

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._known(study_id).study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._known(study_id).directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._known(study_id).user_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._known(study_id).system_attrs

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._trials[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._known(study_id)
        with told():
            self.look()
        with self._lock:
            found = [trial for trial in self._trials.values() if states is None or trial.state in states]
        found.sort(key=lambda trial: trial.number)
        return copy.deepcopy(found) if deepcopy else found

    def _known(self, study_id: int | None = None) -> FrozenStudy:
        with told():
            if self._study is None:
                self.look()
        assert self._study is not None
        if study_id not in (None, self._study._study_id):
            raise KeyError(f"no study has the number {study_id}")
        return self._study

    def _refuse(self, *given: Any, **named: Any) -> NoReturn:
        raise HTTPError(403, READ_ONLY)

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


def _read_trials(connection: Connection, study: int, after: int) -> list[FrozenTrial]:
    """The trials of a study whose trial_id is beyond `after`."""
    chosen = "SELECT trial_id FROM trials WHERE study_id = ? AND trial_id > ?"
    found = connection.rows(
        "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials "
        "WHERE study_id = ? AND trial_id > ? ORDER BY trial_id",
        study,
        after,
    )

    def about(table: str, columns: str, order: str) -> dict[int, list[tuple[Any, ...]]]:
        parts: dict[int, list[tuple[Any, ...]]] = {}
        sql = f"SELECT trial_id, {columns} FROM {table} WHERE trial_id IN ({chosen}) ORDER BY trial_id, {order}"
        for trial_id, *rest in connection.rows(sql, study, after):
            parts.setdefault(trial_id, []).append(tuple(rest))
        return parts

    params = about("trial_params", "param_name, param_value, distribution_json", "param_id")
    values = about("trial_values", "value, value_type", "objective")
    user = about("trial_user_attributes", "key, value_json", "key")
    system = about("trial_system_attributes", "key, value_json", "key")
    rungs = about("trial_intermediate_values", "step, intermediate_value, intermediate_value_type", "step")
    trials = []
    for trial_id, number, word, started, ended in found:
        own = [(name, value, _distribution(text)) for name, value, text in params.get(trial_id, ())]
        results = [optuna_reader.number_of(value, kind) for value, kind in values.get(trial_id, ())]
        trials.append(
            FrozenTrial(
                number,
                TrialState[word],
                None,
                _time(started),
                _time(ended),
                {name: kind.to_external_repr(value) for name, value, kind in own},
                {name: kind for name, _, kind in own},
                {name: json.loads(text) for name, text in user.get(trial_id, ())},
                {name: json.loads(text) for name, text in system.get(trial_id, ())},
                {step: optuna_reader.number_of(value, kind) for step, value, kind in rungs.get(trial_id, ())},
                trial_id,
                values=results or None,
            )
        )
    return trials


@functools.lru_cache(maxsize=1000)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _time(stored: Any) -> datetime.datetime | None:
    """A time as SQLite or PostgreSQL keeps it."""
    return datetime.datetime.fromisoformat(stored) if isinstance(stored, str) else stored
