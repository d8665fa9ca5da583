"""All about one trial as text of 80 columns."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from ..query.text import duration, printable, render, shown, span

WIDTH: Final = 80
_HASH_SHOWN: Final = 12
_OUTCOME: Final = ("replicate", "state", "rel_l2", "heldout_residual", "loss", "seconds", "stop_reason")


def text(found: Mapping[str, Any], *, width: int = WIDTH) -> str:
    """What `about_trial` found, for people."""
    parts = [_head(found), _settings(found["settings"])]
    if "replicates" in found:
        parts += [_metrics(found, width), _phases(found["phases"], width), _ends(found["replicates"], width)]
        parts += [_provenance(found["provenance"], width), _kept(found["kept"], width)]
    parts += [_events(found["events"], width), _titled("next", found["next"])]
    return "\n\n".join(part for part in parts if part)


def _head(found: Mapping[str, Any]) -> str:
    line = f"{found['study']}, trial {found['trial']}: {found['state']}"
    if rank := found.get("rank"):
        line += f", {rank['by']} {shown(rank['by'], rank['value'])}, rank {rank['place']} of {rank['of']}"
    lines = [line]
    if found.get("duplicate_of") is not None:
        lines.append(f"has the configuration of trial {found['duplicate_of']}, whose results stand here too")
    if found.get("retry_of") is not None:
        lines.append(f"trains trial {found['retry_of']} once more, which failed")
    for replicate in found.get("replicates", ())[:1]:
        if replicate["taken_from"] is not None:
            lines.append(f"results taken from {replicate['taken_from']}")
    return "\n".join(map(printable, lines))


def _settings(settings: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [_titled("searched", _pairs(settings["swept"]))]
    if settings.get("changed"):
        parts.append(_titled("set by the study, not at the default", _pairs(settings["changed"])))
    if settings.get("default"):
        parts.append(f"{len(settings['default'])} more settings are at their defaults (--json has them)")
    return "\n\n".join(parts)


def _metrics(found: Mapping[str, Any], width: int) -> str:
    replicates, spread = found["replicates"], found["spread"]
    if len(replicates) == 1:
        only = replicates[0]
        names = [name for name, value in only.items() if isinstance(value, float) and name != "seconds"]
        return _titled(f"metrics (seed {only['seed']})", _pairs({name: only[name] for name in names}))
    lines = [
        f"{name:<19}{shown(name, each['middle']):>10}   {span(name, each['min'], each['max'])}"
        for name, each in spread.items()
        if name != "seconds"
    ]
    table = render(pa.Table.from_pylist([{name: row[name] for name in _OUTCOME} for row in replicates]), width=width)
    middles = _titled(f"metrics over {len(replicates)} replicates: middle, range", lines)
    return f"{middles}\n\n{table}".lstrip()


def _phases(phases: Sequence[Mapping[str, Any]], width: int) -> str:
    if not phases:
        return ""
    several = len({phase["replicate"] for phase in phases}) > 1
    work = [
        {
            **({"replicate": phase["replicate"]} if several else {}),
            "phase": phase["optimiser"],
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
            "phase": phase["optimiser"],
            **{name: phase.get(name) for name in ("step", *losses, "grad_norm", "rel_l2")},
        }
        for phase in phases
    ]
    tables = [render(pa.Table.from_pylist(rows), width=width) for rows in (work, ends)]
    return f"phases\n\n{tables[0]}\n\nat the end of each phase\n\n{tables[1]}"


def _ends(replicates: Sequence[Mapping[str, Any]], width: int) -> str:
    """Why training ended, each reason once with the replicates it holds for."""
    found: dict[str, list[int]] = {}
    for each in replicates:
        stop = f"{each['stop_reason']}: {each['stop_advice']}" if each["stop_advice"] else each["stop_reason"]
        said = f"failed: {each['failure']}" if each["failure"] else stop
        said = f"{said or 'no reason given'}{' (rebatched)' if each['rebatched'] else ''}"
        found.setdefault(said, []).append(each["replicate"])
    several = len(replicates) > 1
    told = [f"replicate {_listed(which)}: {said}" if several else said for said, which in found.items()]
    return _titled("why it ended", [line for each in told for line in _wrapped(each, width)])


def _provenance(provenance: Mapping[str, Sequence[Any]], width: int) -> str:
    lines = []
    for name, values in provenance.items():
        if values:
            told = [value[:_HASH_SHOWN] if name.endswith("_hash") else _word(name, value) for value in values]
            if name in ("started_at", "finished_at"):
                told = told[:1] if name == "started_at" else told[-1:]
            lines += _wrapped(f"{name:<19}{', '.join(told)}", width, indent=19)
    return _titled("where and with what", lines)


def _kept(kept: Mapping[str, Any], width: int) -> str:
    epochs = kept["weights_epochs"]
    weights = f"weights at epochs {_listed(epochs)} (the last are final)" if epochs else "no weights"
    field = f"field at {kept['field_points']} points" if kept["field_points"] else "no field"
    return _titled("kept", [f"{kept['curve_rows']} rows of curves", field, *_wrapped(weights, width)])


def _events(events: Sequence[Mapping[str, Any]], width: int) -> str:
    lines = []
    for event in events:
        pack = "" if event["pack"] is None else f" pack {event['pack']}"
        detail = f": {event['detail']}" if event["detail"] else ""
        told = printable(f"{event['event']}{pack}{detail}")
        lines += _wrapped(f"{_word('time', event['time'])}  {told}", width, indent=21)
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
