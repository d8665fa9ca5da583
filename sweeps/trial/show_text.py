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


def text(about: Mapping[str, Any], *, width: int = WIDTH) -> str:
    """Return the result of `about_trial` as text of at most `width` columns, except for commands."""
    parts = [_head(about), _settings(about["settings"])]
    if "replicates" in about:
        parts += [_metrics(about, width), _phases(about["phases"], width), _ends(about["replicates"], width)]
        parts += [_provenance(about["provenance"], width), _kept(about["kept"], width)]
    parts += [_events(about["events"], width), _titled("next", about["next"])]
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
    parts = [_titled("searched", _pairs(settings["swept"]))]
    if settings.get("changed"):
        parts.append(_titled("set by the study, not at the default", _pairs(settings["changed"])))
    if settings.get("default"):
        parts.append(f"{len(settings['default'])} more settings are at their defaults (--json lists them)")
    return "\n\n".join(parts)


def _metrics(about: Mapping[str, Any], width: int) -> str:
    replicates, spread = about["replicates"], about["spread"]
    if len(replicates) == 1:
        replicate = replicates[0]
        names = [name for name, value in replicate.items() if isinstance(value, float) and name != "seconds"]
        return _titled(f"metrics (seed {replicate['seed']})", _pairs({name: replicate[name] for name in names}))
    lines = [
        f"{name:<19}{shown(name, values['middle']):>10}   {span(name, values['min'], values['max'])}"
        for name, values in spread.items()
        if name != "seconds"
    ]
    names = [name for name in ("replicate", "state", *key_metrics()) if name in replicates[0]]
    table = render(pa.Table.from_pylist([{name: row[name] for name in names} for row in replicates]), width=width)
    middles = _titled(f"metrics over {len(replicates)} replicates: middle, range", lines)
    return f"{middles}\n\n{table}".lstrip()


def _phases(phases: Sequence[Mapping[str, Any]], width: int) -> str:
    if not phases:
        return ""
    several = len({phase["replicate"] for phase in phases}) > 1
    work = [
        {
            **({"replicate": phase["replicate"]} if several else {}),
            "stage": phase["optimiser"],
            "steps": f"{phase['done']} of {phase['planned']}",
            "evaluations": phase["evaluations"],
            "time": duration(phase["seconds"]) if phase["seconds"] >= 60 else f"{phase['seconds']:.2f} s",
        }
        for phase in phases
    ]
    losses = [name for name in phases[0] if name.startswith("loss")]
    ends = [
        {
            **({"replicate": phase["replicate"]} if several else {}),
            "stage": phase["optimiser"],
            **{name: phase.get(name) for name in ("step", *losses, "grad_norm", "rel_l2")},
        }
        for phase in phases
    ]
    tables = [render(pa.Table.from_pylist(rows), width=width) for rows in (work, ends)]
    return f"stages\n\n{tables[0]}\n\nat the end of each stage\n\n{tables[1]}"


def _ends(replicates: Sequence[Mapping[str, Any]], width: int) -> str:
    """Return why training ended, each reason once with its replicates."""
    by_reason: dict[str, list[int]] = {}
    for replicate in replicates:
        advice = f": {replicate['stop_advice']}" if replicate["stop_advice"] else ""
        stop = f"{replicate['stop_reason']}{advice}" if replicate["stop_reason"] or advice else None
        reason = f"failed: {replicate['failure']}" if replicate["failure"] else stop
        reason = f"{reason or 'no reason given'}{' (rebatched)' if replicate['rebatched'] else ''}"
        by_reason.setdefault(reason, []).append(replicate["replicate"])
    several = len(replicates) > 1
    sentences = [
        f"replicate {_listed(numbers)}: {reason}" if several else reason for reason, numbers in by_reason.items()
    ]
    return _titled("why it ended", [line for sentence in sentences for line in _wrapped(sentence, width)])


def _provenance(provenance: Mapping[str, Sequence[Any]], width: int) -> str:
    lines = []
    for name, values in provenance.items():
        if values:
            words = [value[:_HASH_SHOWN] if name.endswith("_hash") else _word(name, value) for value in values]
            if name in ("started_at", "finished_at"):
                words = words[:1] if name == "started_at" else words[-1:]
            lines += _wrapped(f"{name:<19}{', '.join(words)}", width, indent=19)
    return _titled("machine and versions", lines)


def _kept(kept: Mapping[str, Any], width: int) -> str:
    epochs = kept["weights_epochs"]
    weights = f"weights at epochs {_listed(epochs)} (the last one is final)" if epochs else "no weights"
    field = f"field at {kept['field_points']} points" if kept["field_points"] else "no field"
    return _titled("kept", [f"{kept['curve_rows']} rows of curves", field, *_wrapped(weights, width)])


def _events(events: Sequence[Mapping[str, Any]], width: int) -> str:
    lines = []
    for event in events:
        pack = "" if event["pack"] is None else f" pack {event['pack']}"
        detail = f": {event['detail']}" if event["detail"] else ""
        text = printable(f"{event['event']}{pack}{detail}")
        lines += _wrapped(f"{_word('time', event['time'])}  {text}", width, indent=21)
    return _titled("events (UTC)", lines)


def _titled(title: str, lines: Iterable[str]) -> str:
    listed = [f"  {line}" for line in lines]
    return "\n".join([title, *listed]) if listed else ""


def _pairs(values: Mapping[str, Any]) -> list[str]:
    length = max([17, *map(len, values)])
    lines = [f"{name:<{length}}  {_word(name, value)}" for name, value in values.items()]
    return [part for line in lines for part in _wrapped(line, WIDTH, indent=length + 2)]


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


def _wrapped(line: str, width: int, *, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        line, width - 2, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True
    ) or [""]
