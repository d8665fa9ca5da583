"""Everything a study has about one trial, as plain values; `show_text` turns it into text."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Sequence
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
from ..storage.schema import PHASES, all_settings, config_of
from ..study.trials import quantile
from .tables import Row, TrialReader, asked_trial

OUTCOME: Final = ("replicate", "state", "seed", "stop_reason", "stop_advice", "failure", "rebatched", "taken_from")
PROVENANCE: Final = (
    *("pack", "attempt", "host", "cpu", "device", "engine_used", "lbfgs_memory_used", "started_at", "finished_at"),
    *("code_version", "pinnsweep_version", "python_version", "torch_version", "numpy_version", "scipy_version"),
    *("numba_version", "config_hash", "data_hash", "spec_hash"),
)
_NOT_SHOWN: Final = ("phase", "time_s", "evaluations")  # columns of curves, which rows of trials have per stage


def about_trial(place: Path | Remote, trial: int, replicate: int | None = None) -> dict[str, Any]:
    """Return everything about one trial, or about one `replicate` of it.

    Keys: study, path, trial, state, duplicate_of, retry_of; rank (place, of, by, value; None where it has none);
    settings (swept, changed, default); replicates (a mapping each: outcome and metrics); spread (metric to middle, min,
    max over the replicates); phases (a mapping for each replicate and stage, with the loss terms at its end);
    provenance (column to its distinct values); events; kept; next (commands). For a trial that has not finished, the
    keys without a value are missing. Raises `StudyError` where there is no such trial.
    """
    study_file, reader = read_study_file(place), TrialReader.of(place)
    names = {"study": place.name, "path": str(place), "trial": trial}
    record = None
    try:
        rows = reader.rows(trial) if replicate is None else [reader.row(trial, replicate)]
    except StudyError:
        record = asked_trial(place, trial) if replicate is None else None
        if record is None:
            raise
        return {
            **names,
            "state": record.state,
            "settings": {"swept": {name: _decoded(value) for name, value in record.params.items()}},
            "events": _events(reader, trial, set()),
            "next": [f"{own_name()} status {shlex.quote(str(place))}"],
        }
    first, ranking = rows[0], ranking_of(study_file)
    originals = [reader.original(row) for row in rows]
    state, rank = _state_and_rank(place, trial, ranking.objectives[0])
    if state is None or replicate is not None:
        is_complete = replicate is not None or len(rows) >= ranking.replicates
        record = None if is_complete else asked_trial(place, trial)
        states = {row["state"] for row in rows}
        state = record.state if record else next(end for end in (PRUNED, COMPLETE, FAIL) if end in states)
    kept = _kept(reader, originals[0])
    return {
        **names,
        "state": state,
        "duplicate_of": first["duplicate_of"],
        "retry_of": first["retry_of"],
        "rank": rank,
        "settings": _settings(first, swept_columns(study_file)),
        "replicates": [{name: row[name] for name in (*OUTCOME, *_metrics(row))} for row in rows],
        "spread": _spread(rows, ranking.quantile) if len(rows) > 1 else {},
        "phases": [phase for row in originals for phase in _phases(reader, row)],
        "provenance": {name: sorted({row[name] for row in rows if row.get(name) is not None}) for name in PROVENANCE},
        "events": _events(reader, trial, {row["pack"] for row in rows if row["pack"] is not None}),
        "kept": kept,
        "next": _next(place, trial, replicate, state, first, has_weights=bool(kept["weights_epochs"])),
    }


def _decoded(stored: Any) -> Any:
    """Return a parameter as the study file has it; the database stores lists and mappings as JSON."""
    return json.loads(stored) if isinstance(stored, str) and stored.startswith(("[", "{")) else stored


def _state_and_rank(place: Path | Remote, trial: int, by: str) -> tuple[str | None, dict[str, Any] | None]:
    """Return the state of the trial by all its replicates, and its rank among complete trials, whose value is `by`.

    Both are None where some replicates have not finished, or where the trial repeats another; the rank is also None
    where the trial is not complete.
    """
    lines = {line["trial"]: line for line in ranked_trials([place]).select(["trial", "state", by]).to_pylist()}
    ranked = [number for number, line in lines.items() if line["state"] == COMPLETE and line[by] is not None]
    state = lines[trial]["state"] if trial in lines else None
    if trial not in ranked:
        return state, None
    return state, {"place": ranked.index(trial) + 1, "of": len(ranked), "by": by, "value": lines[trial][by]}


def _settings(row: Row, swept: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the configuration in three parts: swept, changed from the default, at the default."""
    config = config_of(row)
    settings: dict[str, dict[str, Any]] = {"swept": dict.fromkeys(swept), "changed": {}, "default": {}}
    for setting in all_settings(row["problem"]):
        value = config[setting.section][setting.name]
        part = "swept" if setting.column in swept else "default" if value == setting.default else "changed"
        settings[part][setting.column] = value
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
        values = [math.inf if row["state"] == FAIL or row[name] is None else row[name] for row in rows]
        if not all(map(math.isinf, values)):
            spread[name] = {"middle": quantile(values, level), "min": min(values), "max": max(values)}
    return spread


def _phases(reader: TrialReader, row: Row) -> Iterator[dict[str, Any]]:
    """Yield what each stage did, with the last row of the curves in it."""
    curves = reader.part("curves", row)
    for phase, steps in zip(PHASES, ("epochs", "iterations"), strict=True):
        if row[f"{phase}_evaluations"]:
            indices = (curves["phase"] == phase).nonzero()[0]
            last = max(indices, key=lambda index: int(curves["step"][index]), default=None)
            yield {
                "replicate": row["replicate"],
                "phase": phase,
                "optimiser": row[f"{phase}_stage"],
                "done": row[f"{steps}_done"],
                "planned": row[steps],
                "evaluations": row[f"{phase}_evaluations"],
                "seconds": row[f"{phase}_seconds"],
            } | {
                name: values[last].item()
                for name, values in curves.items()
                if last is not None and name not in _NOT_SHOWN
            }


def _events(reader: TrialReader, trial: int, packs: set[int]) -> list[dict[str, Any]]:
    """Return what happened to the trial and to the packs in which it finished, by time."""
    about_packs = ds.field("trial").is_null() & ds.field("pack").isin(sorted(packs))
    return reader.read("events", where=(ds.field("trial") == trial) | about_packs).sort_by("time").to_pylist()


def _kept(reader: TrialReader, row: Row) -> dict[str, Any]:
    """Return what the tables have of one replicate beside its row."""
    return {
        "curve_rows": len(reader.part("curves", row)["step"]),
        "field_points": len(reader.part("fields", row)["predicted"]),
        "weights_epochs": sorted(set(reader.part("weights", row)["epoch"].tolist())),
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
