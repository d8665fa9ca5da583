"""Everything a study has about one trial, as plain values; `show_text` turns it into text."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.dataset as ds

from pinncore.problems import PROBLEMS

from ..errors import StudyError
from ..own_name import own_name
from ..query.query import ranked_trials, read_study_file
from ..query.ranking import ranking_of, swept_columns
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.object_store import Remote
from ..storage.schema import FIRST, SECOND, all_settings, config_of
from ..storage.stored_tables import tables_of
from ..storage.tables import of_member
from ..study.replicates import quantile, value_of
from .tables import Row, asked_trial, original, part_of, row_of, rows_of

OUTCOME: Final = ("replicate", "state", "seed", "stop_reason", "stop_advice", "failure", "rebatched", "taken_from")
PROVENANCE: Final = (
    "pack",
    "attempt",
    "host",
    "cpu",
    "device",
    "engine_used",
    "lbfgs_memory_used",
    "started_at",
    "finished_at",
    "code_version",
    "pinnsweep_version",
    "python_version",
    "torch_version",
    "numpy_version",
    "scipy_version",
    "numba_version",
    "config_hash",
    "data_hash",
    "spec_hash",
)
_NOT_SHOWN: Final = ("time_s", "evaluations")  # columns of curves, which rows of trials have per stage


def about_trial(place: Path | Remote, trial: int, replicate: int | None = None) -> dict[str, Any]:
    """Return everything about one trial, or about one `replicate` of it.

    Keys: study, path, trial, state, duplicate_of, retry_of; rank (place, of, by, value; None where it has none);
    settings (swept, changed, default); replicates (a mapping each: outcome and metrics); spread (metric to middle, min,
    max over the replicates); phases (a mapping for each replicate and stage, with the loss terms at its end);
    provenance (column to its distinct values); events; kept; next (commands). For a trial that has not finished, the
    keys without a value are missing. Raises `StudyError` where there is no such trial.
    """
    study_file = read_study_file(place)
    rows = _rows(place, trial, replicate)
    if not rows:
        return _unfinished(place, trial, study_file)
    first = rows[0]
    ranking = ranking_of(study_file)
    originals = [original(place, row) for row in rows]
    state, rank = _state_and_rank(place, trial)
    if state is None or replicate is not None:
        state = _state(place, rows, is_complete=replicate is not None or len(rows) >= ranking.replicates)
    kept = _kept(place, originals[0])
    return {
        "study": place.name,
        "path": str(place),
        "trial": trial,
        "state": state,
        "duplicate_of": first["duplicate_of"],
        "retry_of": first["retry_of"],
        "rank": rank,
        "settings": _settings(first, swept_columns(study_file)),
        "replicates": [{name: row[name] for name in (*OUTCOME, *_metrics(row))} for row in rows],
        "spread": _spread(rows, ranking.quantile) if len(rows) > 1 else {},
        "phases": [phase for row in originals for phase in _phases(place, row)],
        "provenance": {name: sorted({row[name] for row in rows if row.get(name) is not None}) for name in PROVENANCE},
        "events": _events(place, trial, {row["pack"] for row in rows if row["pack"] is not None}),
        "kept": kept,
        "next": _next(place, trial, replicate, state, first, has_weights=bool(kept["weights_epochs"])),
    }


def _rows(place: Path | Remote, trial: int, replicate: int | None) -> list[Row]:
    """Return the requested rows; none where the trial exists and has not finished."""
    try:
        return rows_of(place, trial) if replicate is None else [row_of(place, trial, replicate)]
    except StudyError:
        if replicate is not None:
            raise
        try:
            record = asked_trial(place, trial)
        except StudyError:
            record = None
        if record is None:
            raise
        return []


def _unfinished(place: Path | Remote, trial: int, study_file: Mapping[str, Any]) -> dict[str, Any]:
    record = asked_trial(place, trial)
    assert record is not None
    return {
        "study": place.name,
        "path": str(place),
        "trial": trial,
        "state": record.state,
        "settings": {"swept": {name: _decoded(value) for name, value in record.params.items()}},
        "events": _events(place, trial, set()),
        "next": [f"{own_name()} status {shlex.quote(str(place))}"],
    }


def _decoded(stored: Any) -> Any:
    """Return a parameter as the study file has it; the database stores lists and mappings as JSON."""
    return json.loads(stored) if isinstance(stored, str) and stored.startswith(("[", "{")) else stored


def _state_and_rank(place: Path | Remote, trial: int) -> tuple[str | None, dict[str, Any] | None]:
    """Return the state of the trial by all its replicates, and its rank among complete trials by the first objective.

    Both are None where some replicates have not finished, or where the trial repeats another; the rank is also None
    where the trial is not complete.
    """
    table = ranked_trials([place])
    by = table.column_names[table.column_names.index("state") + 1]
    columns = (table[name].to_pylist() for name in ("trial", "state", by))
    lines = {number: (state, value) for number, state, value in zip(*columns, strict=True)}
    if trial not in lines:
        return None, None
    ranked = [number for number, (state, value) in lines.items() if state == COMPLETE and value is not None]
    state, value = lines[trial]
    if trial not in ranked:
        return state, None
    return state, {"place": ranked.index(trial) + 1, "of": len(ranked), "by": by, "value": value}


def _state(place: Path | Remote, rows: Sequence[Row], *, is_complete: bool) -> str:
    """Return the state of one replicate, or of a trial that repeats another or has unfinished replicates."""
    if not is_complete:
        with contextlib.suppress(StudyError):
            record = asked_trial(place, rows[0]["trial"])
            if record is not None:
                return record.state
    states = {row["state"] for row in rows}
    return next(state for state in (PRUNED, COMPLETE, FAIL) if state in states)


def _settings(row: Row, swept: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the configuration in three parts: swept, changed from the default, at the default."""
    config = config_of(row)
    settings: dict[str, dict[str, Any]] = {"swept": {}, "changed": {}, "default": {}}
    values = {}
    for setting in all_settings(row["problem"]):
        value = config[setting.section][setting.name]
        values[setting.column] = value, value == setting.default
    for name in swept:
        settings["swept"][name] = values.pop(name)[0]
    for name, (value, is_default) in values.items():
        settings["default" if is_default else "changed"][name] = value
    return settings


def _metrics(row: Row) -> tuple[str, ...]:
    """Return the numbers by which trainings of the row's problem are judged."""
    return (*(metric.name for metric in PROBLEMS[row["problem"]].metrics), "loss", "grad_norm", "seconds")


def _spread(rows: Sequence[Row], level: float) -> dict[str, dict[str, float]]:
    """Return the middle (the quantile `level`, by which the study ranks), minimum and maximum of each metric.

    A failed replicate counts as infinitely bad.
    """
    spread = {}
    for name in _metrics(rows[0]):
        values = [value_of(row[name], has_result=row["state"] != FAIL) for row in rows]
        if not all(map(math.isinf, values)):
            spread[name] = {"middle": quantile(values, level), "min": min(values), "max": max(values)}
    return spread


def _phases(place: Path | Remote, row: Row) -> list[dict[str, Any]]:
    """Return what each stage did, with the last row of the curves in it."""
    curves = part_of(place, "curves", row)
    phases = []
    for phase, optimiser, steps_planned, steps_done in (
        (FIRST, row["first_stage"], row["epochs"], row["epochs_done"]),
        (SECOND, row["second_stage"], row["iterations"], row["iterations_done"]),
    ):
        if not row[f"{phase}_evaluations"]:
            continue
        indices = (curves["phase"] == phase).nonzero()[0]
        last = max(indices, key=lambda index: int(curves["step"][index]), default=None)
        ends = {name: values[last] for name, values in curves.items() if name not in _NOT_SHOWN}
        phases.append(
            {
                "replicate": row["replicate"],
                "phase": phase,
                "optimiser": optimiser,
                "done": steps_done,
                "planned": steps_planned,
                "evaluations": row[f"{phase}_evaluations"],
                "seconds": row[f"{phase}_seconds"],
                **({} if last is None else {name: value.item() for name, value in ends.items() if name != "phase"}),
            }
        )
    return phases


def _events(place: Path | Remote, trial: int, packs: set[int]) -> list[dict[str, Any]]:
    """Return what happened to the trial and to the packs in which it finished, by time."""
    about_packs = ds.field("trial").is_null() & ds.field("pack").isin(sorted(packs))
    events = tables_of(place).read("events", where=(ds.field("trial") == trial) | about_packs)
    return events.sort_by("time").to_pylist()


def _kept(place: Path | Remote, row: Row) -> dict[str, Any]:
    """Return what the tables have of one replicate beside its row."""
    where = of_member(row["trial"], row["replicate"])
    tables = tables_of(place)
    epochs = tables.read("weights", columns=["epoch"], where=where)["epoch"]
    return {
        "curve_rows": tables.read("curves", columns=["step"], where=where).num_rows,
        "field_points": tables.read("fields", columns=["predicted"], where=where).num_rows,
        "weights_epochs": sorted(epochs.unique().to_pylist()),
    }


def _next(
    place: Path | Remote, trial: int, replicate: int | None, state: str, row: Row, *, has_weights: bool
) -> list[str]:
    """Return useful next commands."""
    command, study = own_name(), shlex.quote(str(place))
    which = f"{study} {trial}" + (f" --replicate {replicate}" if replicate else "")
    if row["seed"] is None:
        return [f"{command} retry {study} {trial}"]
    if state == FAIL:
        return [f"{command} retrain {which}", f"{command} retry {study} {trial}"]
    if not has_weights:
        return [f"{command} retrain {which} -o network.npz"]
    return [
        f"{command} retrain {which}",
        f"{command} predict {which} points.csv",
        f"{command} weights {which} -o network.npz",
        f'{command} query {study} "SELECT phase, step, loss, rel_l2 FROM curves WHERE trial = {trial}"',
    ]
