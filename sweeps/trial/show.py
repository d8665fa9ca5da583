"""Everything a study has about one trial, as plain values and as text of 80 columns."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds

from pinncore.problems.record import ProblemRecord
from pinncore.settings import PHASES

from ..errors import StudyError
from ..own_name import own_name
from ..query.query import ranked_trials, read_study_file
from ..query.ranking import key_metrics, ranking_of, swept_columns
from ..query.text import IN_PER_CENT, duration, printable, render, shown, span
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.object_store import Remote
from ..storage.schema import all_settings, config_of
from ..study.replicates import quantile, value_of
from .tables import Row, TrialReader, asked_trial, stage_ends

OUTCOME: Final = (
    *("replicate", "state", "seed", "stop_reason", "stop_advice", "failure", "kept_at", "rebatched", "taken_from"),
)
PROVENANCE: Final = (
    *("pack", "attempt", "host", "cpu", "device", "engine_used", "lbfgs_memory_used", "started_at", "finished_at"),
    *("code_version", "pinnsweep_version", "python_version", "torch_version", "numpy_version", "scipy_version"),
    *("numba_version", "config_hash", "data_hash", "spec_hash"),
)
_HASH_SHOWN: Final = 12  # digits of a hash in the text
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
            "settings": {"swept": record.plain_params},
            "events": _events(reader, trial, set()),
            "next": [f"{own_name()} status {shlex.quote(str(place))}"],
        }
    first, ranking, problem = rows[0], ranking_of(study_file), reader.source.record
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
        "settings": _settings(first, swept_columns(study_file, problem), problem),
        "replicates": [{name: row[name] for name in (*OUTCOME, *_metrics(problem))} for row in rows],
        "spread": _spread(rows, ranking.quantile, problem) if len(rows) > 1 else {},
        "phases": [phase for row in originals for phase in _phases(reader, row)],
        "provenance": {name: sorted({row[name] for row in rows if row.get(name) is not None}) for name in PROVENANCE},
        "events": _events(reader, trial, {row["pack"] for row in rows if row["pack"] is not None}),
        "kept": kept,
        "next": _next(place, trial, replicate, state, first, has_weights=bool(kept["weights_epochs"])),
    }


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


def _settings(row: Row, swept: Sequence[str], problem: ProblemRecord) -> dict[str, dict[str, Any]]:
    """Return the configuration in three parts: swept, changed from the default, at the default."""
    config = config_of(row, problem)
    settings: dict[str, dict[str, Any]] = {"swept": dict.fromkeys(swept), "changed": {}, "default": {}}
    for setting in all_settings(problem):
        value = config[setting.section][setting.name]
        part = "swept" if setting.column in swept else "default" if value == setting.default else "changed"
        settings[part][setting.column] = value
    return settings


def _metrics(problem: ProblemRecord) -> tuple[str, ...]:
    """Return the numbers by which trainings of a problem are judged."""
    return (*(metric.name for metric in problem.metrics), "loss", "grad_norm", "seconds")


def _spread(rows: Sequence[Row], level: float, problem: ProblemRecord) -> dict[str, dict[str, float]]:
    """Return the middle (the quantile `level`, by which the study ranks), minimum and maximum of each metric.

    A failed replicate counts as infinitely bad.
    """
    spread = {}
    for name in _metrics(problem):
        values = [value_of(row[name], has_result=row["state"] != FAIL) for row in rows]
        if not all(map(math.isinf, values)):
            spread[name] = {"middle": quantile(values, level), "min": min(values), "max": max(values)}
    return spread


def _phases(reader: TrialReader, row: Row) -> Iterator[dict[str, Any]]:
    """Yield what each stage did, with the row of the curves at its end.

    Where that was not recorded, because the training failed, `step` is less than `done`.
    """
    ends = stage_ends({name: values.tolist() for name, values in reader.part("curves", row).items()})
    for phase, steps in zip(PHASES, ("epochs", "iterations"), strict=True):
        if row[f"{phase}_evaluations"] or row[f"{steps}_done"]:
            end = {name: value for name, value in ends.get(phase, {}).items() if name not in _NOT_SHOWN}
            if phase in ends and ends[phase]["phase"] != phase:
                end["step"] = row[f"{steps}_done"]
            yield {
                "replicate": row["replicate"],
                "phase": phase,
                "optimiser": row[f"{phase}_stage"],
                "done": row[f"{steps}_done"],
                "planned": row[steps],
                "evaluations": row[f"{phase}_evaluations"],
                "seconds": row[f"{phase}_seconds"],
                **end,
            }


def _events(reader: TrialReader, trial: int, packs: set[int]) -> list[dict[str, Any]]:
    """Return what happened to the trial and to the packs in which it finished, by time."""
    about_packs = ds.field("trial").is_null() & ds.field("pack").isin(sorted(packs))
    return reader.read("events", where=(ds.field("trial") == trial) | about_packs).sort_by("time").to_pylist()


def _kept(reader: TrialReader, row: Row) -> dict[str, Any]:
    """Return what the tables have of one replicate beside its row."""
    return {
        "curve_rows": len(reader.part("curves", row)["step"]),
        "field_points": max(map(len, reader.part("fields", row).values())),
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


# ---- text ----------------------------------------------------------------------------------------------------------


def text(about: Mapping[str, Any], problem: ProblemRecord) -> str:
    """Return the result of `about_trial`, on a trial of this problem, as text."""
    parts = [_head(about, problem), _settings_text(about["settings"])]
    if "replicates" in about:
        parts += [_metrics_text(about, problem), _phases_text(about["phases"]), _ends(about["replicates"])]
        parts += [_provenance(about["provenance"]), _kept_text(about["kept"])]
    parts += [_events_text(about["events"]), "\n  ".join(["next", *about["next"]])]
    return "\n\n".join(part for part in parts if part)


def _head(about: Mapping[str, Any], problem: ProblemRecord) -> str:
    line = f"{about['study']}, trial {about['trial']}: {about['state']}"
    if rank := about.get("rank"):
        value = shown(rank["by"], rank["value"], problem.in_per_cent)
        line += f", {rank['by']} {value}, rank {rank['place']} of {rank['of']}"
    lines = [line]
    if about.get("duplicate_of") is not None:
        lines.append(f"has the configuration of trial {about['duplicate_of']}, whose results are shown")
    if about.get("retry_of") is not None:
        lines.append(f"retries trial {about['retry_of']}, which failed")
    for replicate in about.get("replicates", ())[:1]:
        if replicate["taken_from"] is not None:
            lines.append(f"results taken from {replicate['taken_from']}")
    return "\n".join(map(printable, lines))


def _settings_text(settings: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [_pairs("searched", settings["swept"])]
    if settings.get("changed"):
        parts.append(_pairs("set by the study, not at the default", settings["changed"]))
    if settings.get("default"):
        parts.append(f"{len(settings['default'])} more settings are at their defaults (--json lists them)")
    return "\n\n".join(parts)


def _metrics_text(about: Mapping[str, Any], problem: ProblemRecord) -> str:
    replicates, spread, in_per_cent = about["replicates"], about["spread"], problem.in_per_cent
    if len(replicates) == 1:
        replicate = replicates[0]
        numbers = {name: value for name, value in replicate.items() if isinstance(value, float) and name != "seconds"}
        return _pairs(f"metrics (seed {replicate['seed']})", numbers, in_per_cent)
    width = max(map(len, spread), default=0)
    lines = [
        f"{name:<{width}} {shown(name, values['middle'], in_per_cent):>10}   "
        f"{span(name, values['min'], values['max'], in_per_cent)}"
        for name, values in spread.items()
        if name != "seconds"
    ]
    names = [name for name in ("replicate", "state", *key_metrics([problem])) if name in replicates[0]]
    middles = _titled(f"metrics over {len(replicates)} replicates: middle, range", lines)
    return f"{middles}\n\n{_table(replicates, names, in_per_cent)}".lstrip()


def _phases_text(phases: Sequence[Mapping[str, Any]]) -> str:
    if not phases:
        return ""
    which = ["replicate", "stage"] if len({phase["replicate"] for phase in phases}) > 1 else ["stage"]
    losses = [name for name in phases[0] if name.startswith("loss")]
    rows = [
        {
            **phase,
            "stage": phase["optimiser"],
            "steps": f"{phase['done']} of {phase['planned']}",
            "step": _recorded(phase),
            "time": duration(phase["seconds"]) if phase["seconds"] >= 60 else f"{phase['seconds']:.2f} s",
        }
        for phase in phases
    ]
    work = _table(rows, [*which, "steps", "evaluations", "time"])
    ends = _table(rows, [*which, "step", *losses, "grad_norm", "rel_l2"])
    return f"stages\n\n{work}\n\nat the end of each stage\n\n{ends}"


def _recorded(phase: Mapping[str, Any]) -> str:
    """Return the step at which a stage's numbers were recorded."""
    if "step" not in phase:
        return ""
    return f"{phase['step']}" + ("" if phase["step"] == phase["done"] else ", the last recorded")


def _ends(replicates: Sequence[Mapping[str, Any]]) -> str:
    """Return why training ended, each reason once with its replicates."""
    by_reason: dict[str, list[int]] = {}
    for replicate in replicates:
        advice = f": {replicate['stop_advice']}" if replicate["stop_advice"] else ""
        stop = f"{replicate['stop_reason']}{advice}" if replicate["stop_reason"] or advice else None
        reason = f"failed: {replicate['failure']}" if replicate["failure"] else stop
        reason = f"{reason or 'no reason given'}{' (rebatched)' if replicate['rebatched'] else ''}"
        by_reason.setdefault(reason, []).append(replicate["replicate"])
    several = len(replicates) > 1
    lines = (f"replicate {_listed(which)}: {reason}" if several else reason for reason, which in by_reason.items())
    return _titled("why it ended", lines)


def _provenance(provenance: Mapping[str, Sequence[Any]]) -> str:
    lines = []
    for name, values in provenance.items():
        chosen = values[:1] if name == "started_at" else values[-1:] if name == "finished_at" else values
        words = [value[:_HASH_SHOWN] if name.endswith("_hash") else _word(name, value) for value in chosen]
        lines += [f"{name:<19}{', '.join(words)}"] if words else []
    return _titled("machine and versions", lines)


def _kept_text(kept: Mapping[str, Any]) -> str:
    epochs = kept["weights_epochs"]
    weights = f"weights at epochs {_listed(epochs)} (the last one is final)" if epochs else "no weights"
    field = f"field at {kept['field_points']} points" if kept["field_points"] else "no field"
    return _titled("kept", [f"{kept['curve_rows']} rows of curves", field, weights])


def _events_text(events: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for event in events:
        pack = "" if event["pack"] is None else f" pack {event['pack']}"
        detail = f": {event['detail']}" if event["detail"] else ""
        lines.append(f"{_word('time', event['time'])}  " + printable(f"{event['event']}{pack}{detail}"))
    return _titled("events (UTC)", lines)


def _titled(title: str, lines: Iterable[str]) -> str:
    """Return lines below a title; empty where there are none."""
    indented = [f"  {line}" for line in lines]
    return "\n".join([title, *indented]) if indented else ""


def _pairs(title: str, values: Mapping[str, Any], in_per_cent: Collection[str] = IN_PER_CENT) -> str:
    length = max([17, *map(len, values)])
    lines = [f"{name:<{length}}  {_word(name, value, in_per_cent)}" for name, value in values.items()]
    return _titled(title, lines)


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str], in_per_cent: Collection[str] = IN_PER_CENT) -> str:
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    return render(table, in_per_cent=in_per_cent)


def _word(name: str, value: Any, in_per_cent: Collection[str] = IN_PER_CENT) -> str:
    if isinstance(value, (list, dict)):
        return printable(json.dumps(value))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float) and math.isnan(value):
        return "not a number"
    return "none" if value is None else shown(name, value, in_per_cent)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
