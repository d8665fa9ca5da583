"""Everything a study knows of one trial, gathered for a script; `showtext` writes it for people."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.dataset as ds

from ..errors import StudyError
from ..own_name import own_name
from ..query.query import ranked_trials, read_study_file
from ..query.ranking import ranking_of, swept_columns
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.object_store import Remote
from ..storage.schema import FIRST, SECOND, all_settings, config_of
from ..storage.stored_tables import tables_of
from ..storage.tables import of_member
from ..study.trials import quantile
from .tables import Row, asked_trial, original, part_of, row_of, rows_of

METRICS: Final = (
    "rel_l2",
    "process_zone_error",
    "paper_metric",
    "distance_to_local",
    "mean_abs_du_de",
    "heldout_residual",
    "loss",
    "grad_norm",
    "seconds",
)
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
_TOLD_APART: Final = ("time_s", "evaluations")  # columns of curves that phases tell in their own way


def about_trial(place: Path | Remote, trial: int, replicate: int | None = None) -> dict[str, Any]:
    """All about one trial, of one replicate alone where that is named.

    Keys: study, path, trial, state, duplicate_of, retry_of; rank (place, of, by, value; None where it has none);
    settings (swept, changed, default); replicates (a mapping each: outcome and metrics); spread (metric to middle, min,
    max over the replicates); phases (a mapping for each replicate and stage, loss terms at its end); provenance (column
    to its different values); events; kept; next (commands). A trial that has not finished has what there is. Raises
    `StudyError` where there is no such trial.
    """
    study_file = read_study_file(place)
    rows = _rows(place, trial, replicate)
    if not rows:
        return _unfinished(place, trial, study_file)
    first = rows[0]
    ranking = ranking_of(study_file)
    sources = [original(place, row) for row in rows]
    state, rank = _standing(place, trial)
    if state is None or replicate is not None:
        state = _state(place, rows, whole=replicate is not None or len(rows) >= ranking.replicates)
    kept = _kept(place, sources[0])
    return {
        "study": place.name,
        "path": str(place),
        "trial": trial,
        "state": state,
        "duplicate_of": first["duplicate_of"],
        "retry_of": first["retry_of"],
        "rank": rank,
        "settings": _settings(first, swept_columns(study_file)),
        "replicates": [{name: row[name] for name in (*OUTCOME, *METRICS) if name in row} for row in rows],
        "spread": _spread(rows, ranking.quantile) if len(rows) > 1 else {},
        "phases": [phase for row in sources for phase in _phases(place, row)],
        "provenance": {name: sorted({row[name] for row in rows if row.get(name) is not None}) for name in PROVENANCE},
        "events": _events(place, trial, {row["pack"] for row in rows if row["pack"] is not None}),
        "kept": kept,
        "next": _next(place, trial, replicate, state, first, has_weights=bool(kept["weights_epochs"])),
    }


def _rows(place: Path | Remote, trial: int, replicate: int | None) -> list[Row]:
    """The rows that are asked for; none where the trial is known and has not finished."""
    try:
        return rows_of(place, trial) if replicate is None else [row_of(place, trial, replicate)]
    except StudyError:
        if replicate is not None:
            raise
        try:
            asked = asked_trial(place, trial)
        except StudyError:
            asked = None
        if asked is None:
            raise
        return []


def _unfinished(place: Path | Remote, trial: int, study_file: Mapping[str, Any]) -> dict[str, Any]:
    asked = asked_trial(place, trial)
    assert asked is not None
    return {
        "study": place.name,
        "path": str(place),
        "trial": trial,
        "state": asked.state,
        "settings": {"swept": {name: _decoded(value) for name, value in asked.params.items()}},
        "events": _events(place, trial, set()),
        "next": [f"{own_name()} status {shlex.quote(str(place))}"],
    }


def _decoded(stored: Any) -> Any:
    """A parameter as the study file has it: the database keeps lists and mappings as JSON."""
    return json.loads(stored) if isinstance(stored, str) and stored.startswith(("[", "{")) else stored


def _standing(place: Path | Remote, trial: int) -> tuple[str | None, dict[str, Any] | None]:
    """The trial's state by all its replicates, and its place among the complete trials by the first objective; None
    where some replicates have not finished, or where it repeats another."""
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


def _state(place: Path | Remote, rows: Sequence[Row], *, whole: bool) -> str:
    """The state of a trial that repeats another, of one of whose replicates some still train, or of one replicate."""
    if not whole:
        with contextlib.suppress(StudyError):
            asked = asked_trial(place, rows[0]["trial"])
            if asked is not None:
                return asked.state
    states = {row["state"] for row in rows}
    return next(state for state in (PRUNED, COMPLETE, FAIL) if state in states)


def _settings(row: Row, swept: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The whole configuration: what was searched, what is not at its default, what is."""
    config = config_of(row)
    found: dict[str, dict[str, Any]] = {"swept": {}, "changed": {}, "default": {}}
    named = {}
    for setting in all_settings(row["problem"]):
        value = config[setting.section][setting.name]
        named[setting.column] = value, value == setting.default
    for name in swept:
        found["swept"][name] = named.pop(name)[0]
    for name, (value, is_default) in named.items():
        found["default" if is_default else "changed"][name] = value
    return found


def _spread(rows: Sequence[Row], share: float) -> dict[str, dict[str, float]]:
    """Middle (the quantile that the study ranks by), least and largest value of each metric; a failed replicate is
    infinitely bad."""
    found = {}
    for name in METRICS:
        values = [math.inf if row["state"] == FAIL or row[name] is None else row[name] for row in rows]
        if not all(map(math.isinf, values)):
            found[name] = {"middle": quantile(values, share), "min": min(values), "max": max(values)}
    return found


def _phases(place: Path | Remote, row: Row) -> list[dict[str, Any]]:
    """What each stage did, and the curves' last row in it."""
    curves = part_of(place, "curves", row)
    found = []
    for phase, optimiser, planned, done in (
        (FIRST, row["first_stage"], row["epochs"], row["epochs_done"]),
        (SECOND, row["second_stage"], row["iterations"], row["iterations_done"]),
    ):
        if not row[f"{phase}_evaluations"]:
            continue
        here = (curves["phase"] == phase).nonzero()[0]
        last = max(here, key=lambda index: int(curves["step"][index]), default=None)
        ends = {name: values[last] for name, values in curves.items() if name not in _TOLD_APART}
        found.append(
            {
                "replicate": row["replicate"],
                "phase": phase,
                "optimiser": optimiser,
                "done": done,
                "planned": planned,
                "evaluations": row[f"{phase}_evaluations"],
                "seconds": row[f"{phase}_seconds"],
                **({} if last is None else {name: value.item() for name, value in ends.items() if name != "phase"}),
            }
        )
    return found


def _events(place: Path | Remote, trial: int, packs: set[int]) -> list[dict[str, Any]]:
    """What happened to the trial, and to the packs it finished in, in order."""
    about_packs = ds.field("trial").is_null() & ds.field("pack").isin(sorted(packs))
    found = tables_of(place).read("events", where=(ds.field("trial") == trial) | about_packs)
    return found.sort_by("time").to_pylist()


def _kept(place: Path | Remote, row: Row) -> dict[str, Any]:
    """What the tables hold of one replicate beside its row."""
    where = of_member(row["trial"], row["replicate"])
    tables = tables_of(place)
    epochs = tables.read("weights", columns=["epoch"], where=where)["epoch"]
    return {
        "curve_rows": tables.read("curves", columns=["step"], where=where).num_rows,
        "field_points": tables.read("fields", columns=["x_mm"], where=where).num_rows,
        "weights_epochs": sorted(epochs.unique().to_pylist()),
    }


def _next(
    place: Path | Remote, trial: int, replicate: int | None, state: str, row: Row, *, has_weights: bool
) -> list[str]:
    """Commands that go on from here."""
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
