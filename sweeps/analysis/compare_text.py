"""A comparison as people read it on a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

import pyarrow as pa

from ..query.text import printable, render, shown, span
from ..query.values import json_value
from .bootstrap import FEWEST_SEEDS
from .compare_configurations import ConfigurationComparison, Difference, Side, interval_text
from .compare_studies import Pairs, StudyComparison

_MOST_DIFFERENCES: Final = 40


def text(found: ConfigurationComparison | StudyComparison) -> str:
    """Return a comparison as text: what differs, the numbers, the verdict, what to keep in mind."""
    return "\n\n".join(_configurations(found) if isinstance(found, ConfigurationComparison) else _studies(found))


def plain(found: ConfigurationComparison | StudyComparison) -> dict[str, Any]:
    """Return a comparison as values that JSON has, infinite ones as null."""
    return dict(json_value(asdict(found)))


def _configurations(found: ConfigurationComparison) -> Iterator[str]:
    yield _differences(found.settings, found.first, found.second)
    yield _metrics(found)
    yield found.verdict
    for each in found.metrics[1:]:
        if each.obstacles:
            yield f"{each.metric} does not compare: {'; '.join(each.obstacles)}."
    yield from found.notes


def _studies(found: StudyComparison) -> Iterator[str]:
    one, other = found.complete
    yield f"{found.first}, {one:,} complete trials; {found.second}, {other:,} complete trials; by {found.metric}."
    yield _differences(found.settings, found.first, found.second)
    if found.best is not None:
        yield f"Best against best: {found.best.first} and {found.best.second}.\n\n{_metrics(found.best)}"
        yield found.best.verdict
        yield from (note for note in found.best.notes if note not in found.notes)
    else:
        yield "One of them has no complete trial, so there is nothing to compare."
    if found.pairs is not None:
        yield _pairs(found.pairs, found)
    elif found.best is not None:
        yield "No configuration of one has its like in the other, so there are no pairs."
    yield from found.notes


def _differences(settings: Sequence[Difference], first: str, second: str) -> str:
    if not settings:
        return "No setting differs."
    rows = settings[:_MOST_DIFFERENCES]
    columns = {
        "setting": [each.setting for each in rows],
        first: [_setting(each.first) for each in rows],
        second: [_setting(each.second) for each in rows],
    }
    more = f"\nand {len(settings) - len(rows):,} more" if len(settings) > len(rows) else ""
    return render(pa.table(columns)) + more


def _metrics(found: ConfigurationComparison) -> str:
    with_interval = min(found.seeds) >= FEWEST_SEEDS
    columns = {
        "metric": [each.metric for each in found.metrics],
        found.first: [_side(each.metric, each.first, with_interval) for each in found.metrics],
        found.second: [_side(each.metric, each.second, with_interval) for each in found.metrics],
        "first / second": [
            ""
            if each.contrast is None or each.contrast.ratio is None
            else interval_text(each.contrast)
            if each.contrast.low is not None
            else f"{each.contrast.ratio:.3g}x"
            for each in found.metrics
        ],
    }
    kind = "95 % bootstrap intervals" if with_interval else "the range"
    one, other = found.seeds
    seeds = f"{one} seeds each" if one == other else f"{one} and {other} seeds"
    told = f"Of {seeds}, in brackets {kind}:\n\n" if max(found.seeds) > 1 else ""
    return told + render(pa.table(columns))


def _side(metric: str, side: Side, with_interval: bool) -> str:
    if side.value is None:
        return "none"
    low, high = (side.low, side.high) if with_interval else (side.smallest, side.largest)
    if low is None or low == high:
        return shown(metric, side.value)
    return f"{shown(metric, side.value)}  ({span(metric, low, math.inf if high is None else high)})"


def _pairs(pairs: Pairs, found: StudyComparison) -> str:
    what = "equal configurations" if pairs.matched_by == ("configuration",) else f"equal {', '.join(pairs.matched_by)}"
    told = f"{pairs.number:,} pairs of {what}: {found.first} is better in {pairs.better:,}, {found.second} in "
    told += f"{pairs.worse:,}"
    told += f", {pairs.equal:,} are equal" if pairs.equal else ""
    if pairs.obstacles:
        return f"{told}; but {found.metric} does not compare: {'; '.join(pairs.obstacles)}."
    if pairs.equal == pairs.number:
        return f"{told}: the same to the last digit."
    if pairs.ratio is not None:
        told += f"; median ratio {pairs.ratio:.3g}"
    if pairs.low is not None and pairs.p_value is not None:
        told += f" (95 % interval {pairs.low:.3g} to {pairs.high:.3g}), p = {pairs.p_value:.2g} (Wilcoxon)"
        better = found.first if (pairs.ratio or 1) < 1 else found.second
        told += f". {better} is better" if pairs.p_value < 0.05 else ". They cannot be told apart"
    else:
        told += ". So few pairs tell nothing"
    more = f" {pairs.ambiguous:,} more have several likes." if pairs.ambiguous else ""
    return f"{told}.{more}"


def _setting(value: object) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value))
