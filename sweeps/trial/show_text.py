"""Everything about one trial as text of 80 columns."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from ..query.ranking import key_metrics
from ..query.text import duration, printable, render, shown, span

WIDTH: Final = 80
_HASH_SHOWN: Final = 12


def text(about: Mapping[str, Any]) -> str:
    """Return the result of `about_trial` as text of 80 columns, except for commands."""
    parts = [_head(about), _settings(about["settings"])]
    if "replicates" in about:
        parts += [_metrics(about), _phases(about["phases"]), _ends(about["replicates"])]
        parts += [_provenance(about["provenance"]), _kept(about["kept"])]
    parts += [_events(about["events"]), "\n  ".join(["next", *about["next"]])]
    return "\n\n".join(part for part in parts if part)


def _head(about: Mapping[str, Any]) -> str:
    line = f"{about['study']}, trial {about['trial']}: {about['state']}"
    if rank := about.get("rank"):
        line += f", {rank['by']} {shown(rank['by'], rank['value'])}, rank {rank['place']} of {rank['of']}"
    lines = [line]
    if about.get("duplicate_of") is not None:
        lines.append(f"has the configuration of trial {about['duplicate_of']}, whose results are shown")
    if about.get("retry_of") is not None:
        lines.append(f"retries trial {about['retry_of']}, which failed")
    for replicate in about.get("replicates", ())[:1]:
        if replicate["taken_from"] is not None:
            lines.append(f"results taken from {replicate['taken_from']}")
    return "\n".join(map(printable, lines))


def _settings(settings: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [_pairs("searched", settings["swept"])]
    if settings.get("changed"):
        parts.append(_pairs("set by the study, not at the default", settings["changed"]))
    if settings.get("default"):
        parts.append(f"{len(settings['default'])} more settings are at their defaults (--json lists them)")
    return "\n\n".join(parts)


def _metrics(about: Mapping[str, Any]) -> str:
    replicates, spread = about["replicates"], about["spread"]
    if len(replicates) == 1:
        replicate = replicates[0]
        numbers = {name: value for name, value in replicate.items() if isinstance(value, float) and name != "seconds"}
        return _pairs(f"metrics (seed {replicate['seed']})", numbers)
    lines = [
        f"{name:<19}{shown(name, values['middle']):>10}   {span(name, values['min'], values['max'])}"
        for name, values in spread.items()
        if name != "seconds"
    ]
    names = [name for name in ("replicate", "state", *key_metrics()) if name in replicates[0]]
    middles = _titled(f"metrics over {len(replicates)} replicates: middle, range", lines)
    return f"{middles}\n\n{_table(replicates, names)}".lstrip()


def _phases(phases: Sequence[Mapping[str, Any]]) -> str:
    if not phases:
        return ""
    which = ["replicate", "stage"] if len({phase["replicate"] for phase in phases}) > 1 else ["stage"]
    losses = [name for name in phases[0] if name.startswith("loss")]
    rows = [
        {
            **phase,
            "stage": phase["optimiser"],
            "steps": f"{phase['done']} of {phase['planned']}",
            "time": duration(phase["seconds"]) if phase["seconds"] >= 60 else f"{phase['seconds']:.2f} s",
        }
        for phase in phases
    ]
    work = _table(rows, [*which, "steps", "evaluations", "time"])
    ends = _table(rows, [*which, "step", *losses, "grad_norm", "rel_l2"])
    return f"stages\n\n{work}\n\nat the end of each stage\n\n{ends}"


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
    return _titled("machine and versions", lines, indent=19)


def _kept(kept: Mapping[str, Any]) -> str:
    epochs = kept["weights_epochs"]
    weights = f"weights at epochs {_listed(epochs)} (the last one is final)" if epochs else "no weights"
    field = f"field at {kept['field_points']} points" if kept["field_points"] else "no field"
    return _titled("kept", [f"{kept['curve_rows']} rows of curves", field, weights])


def _events(events: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for event in events:
        pack = "" if event["pack"] is None else f" pack {event['pack']}"
        detail = f": {event['detail']}" if event["detail"] else ""
        lines.append(f"{_word('time', event['time'])}  " + printable(f"{event['event']}{pack}{detail}"))
    return _titled("events (UTC)", lines, indent=21)


def _titled(title: str, lines: Iterable[str], *, indent: int = 0) -> str:
    """Return lines below a title, wrapped; empty where there are none."""
    rest = " " * (indent + 2)
    wrapped = [
        textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent=rest, break_on_hyphens=False)
        for line in lines
    ]
    return "\n".join([title, *wrapped]) if wrapped else ""


def _pairs(title: str, values: Mapping[str, Any]) -> str:
    length = max([17, *map(len, values)])
    lines = [f"{name:<{length}}  {_word(name, value)}" for name, value in values.items()]
    return _titled(title, lines, indent=length + 2)


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    return render(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), width=WIDTH)


def _word(name: str, value: Any) -> str:
    if isinstance(value, (list, dict)):
        return printable(json.dumps(value))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float) and math.isnan(value):
        return "not a number"
    return "none" if value is None else shown(name, value)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
