"""Comparisons as text for a terminal, and as plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

import pyarrow as pa

from ..query.blocks import Block, Listing, text_of_blocks
from ..query.text import printable, shown, span
from ..query.values import json_value
from .bootstrap import FEWEST_SEEDS
from .compare_configurations import ConfigurationComparison, Difference, MetricComparison, Side, ratio_text, seeds_text
from .compare_studies import Pairs, StudyComparison

_MOST_DIFFERENCES: Final = 40


def text(comparison: ConfigurationComparison | StudyComparison) -> str:
    """Return a comparison as text: different settings, metrics, verdict and notes."""
    return text_of_blocks(blocks(comparison))


def blocks(comparison: ConfigurationComparison | StudyComparison) -> Iterator[Block]:
    """Return a comparison as sentences and tables."""
    return _configurations(comparison) if isinstance(comparison, ConfigurationComparison) else _studies(comparison)


def plain(comparison: ConfigurationComparison | StudyComparison) -> dict[str, Any]:
    """Return a comparison as values that JSON can hold, infinite ones as null."""
    return dict(json_value(asdict(comparison)))


def _configurations(comparison: ConfigurationComparison) -> Iterator[Block]:
    yield from _differences(comparison.settings, comparison.first, comparison.second)
    yield from _metrics(comparison)
    yield comparison.verdict
    for metric in comparison.metrics[1:]:
        if metric.obstacles:
            yield f"{metric.metric} cannot be compared: {'; '.join(metric.obstacles)}."
    yield from comparison.notes


def _studies(comparison: StudyComparison) -> Iterator[Block]:
    one, other = comparison.complete
    first, second = comparison.first, comparison.second
    yield f"{first}, {one:,} complete trials; {second}, {other:,} complete trials; by {comparison.metric}."
    yield from _differences(comparison.settings, first, second)
    if comparison.best is not None:
        yield f"Best against best: {comparison.best.first} and {comparison.best.second}."
        yield from _metrics(comparison.best)
        yield comparison.best.verdict
        yield from (note for note in comparison.best.notes if note not in comparison.notes)
    else:
        yield "One of the studies has no complete trial, so there is nothing to compare."
    if comparison.pairs is not None:
        yield _pairs(comparison.pairs, comparison)
    elif comparison.best is not None:
        yield "No configuration is in both studies, so there are no pairs."
    yield from comparison.notes


def _differences(settings: Sequence[Difference], first: str, second: str) -> Iterator[Block]:
    if not settings:
        yield "No setting differs."
        return
    shown_settings = settings[:_MOST_DIFFERENCES]
    rows = [
        {"setting": row.setting, first: setting_text(row.first), second: setting_text(row.second)}
        for row in shown_settings
    ]
    yield Listing(pa.Table.from_pylist(rows))
    if len(settings) > len(rows):
        yield f"and {len(settings) - len(rows):,} more"


def _metrics(comparison: ConfigurationComparison) -> Iterator[Block]:
    with_interval = min(comparison.seeds) >= FEWEST_SEEDS
    rows = [
        {
            "metric": metric.metric,
            comparison.first: _side(metric, metric.first, with_interval),
            comparison.second: _side(metric, metric.second, with_interval),
            "first / second": ratio_text(metric.contrast),
        }
        for metric in comparison.metrics
    ]
    kind = "95 % bootstrap intervals" if with_interval else "the range"
    if max(comparison.seeds) > 1:
        yield f"Over {seeds_text(*comparison.seeds)}, in brackets {kind}:"
    yield Listing(pa.Table.from_pylist(rows))


def _side(comparison: MetricComparison, side: Side, with_interval: bool) -> str:
    if side.value is None:
        return "none"
    low, high = (side.low, side.high) if with_interval else (side.smallest, side.largest)
    metric = comparison.metric
    in_per_cent = [metric] if comparison.is_percent else []
    value = shown(metric, side.value, in_per_cent)
    if low is None or low == high:
        return value
    return f"{value}  ({span(metric, low, math.inf if high is None else high, in_per_cent)})"


def _pairs(pairs: Pairs, comparison: StudyComparison) -> str:
    what = "equal configurations" if pairs.matched_by == ("configuration",) else f"equal {', '.join(pairs.matched_by)}"
    sentence = (
        f"{pairs.number:,} pairs of {what}: {comparison.first} is better in {pairs.better:,}, {comparison.second} in "
    )
    sentence += f"{pairs.worse:,}"
    sentence += f", {pairs.equal:,} are equal" if pairs.equal else ""
    if pairs.obstacles:
        return f"{sentence}; but {comparison.metric} cannot be compared: {'; '.join(pairs.obstacles)}."
    if pairs.equal == pairs.number:
        return f"{sentence}: identical in every digit."
    if pairs.ratio is not None:
        sentence += f"; median ratio {pairs.ratio:.3g}"
    if pairs.low is not None and pairs.p_value is not None:
        sentence += f" (95 % interval {pairs.low:.3g} to {pairs.high:.3g}), p = {pairs.p_value:.2g} (Wilcoxon)"
        better = comparison.first if (pairs.ratio or 1) < 1 else comparison.second
        sentence += f". {better} is better" if pairs.p_value < 0.05 else ". They cannot be told apart"
    else:
        sentence += ". These are too few pairs to tell the studies apart"
    more = f" {pairs.ambiguous:,} more match several trials and are left out." if pairs.ambiguous else ""
    return f"{sentence}.{more}"


def setting_text(value: object) -> str:
    """Return the value of a setting on one line: a text as it is, another value as JSON."""
    return printable(value if isinstance(value, str) else json.dumps(value))
