"""A comparison of traces as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from pinncore.parity.results import Comparison, Difference, Explanation

from ..query.values import json_value


def record_of(comparison: Comparison) -> dict[str, Any]:
    """Return the whole comparison without its fields and weights; numbers that are not finite are null."""
    record = {
        "trace": comparison.source,
        "other": comparison.other,
        "framework": comparison.framework,
        "agrees": comparison.first is None,
        "first": _difference(comparison.first),
        "found": [explanation.name for explanation in comparison.found],
        "configuration": [asdict(line) for line in comparison.configuration],
        "coverage": list(comparison.coverage),
        "notes": list(comparison.notes),
        "differences": [_difference(difference) for difference in comparison.differences],
        "explanations": [_explanation(explanation) for explanation in comparison.explanations],
        "pairs": [_explanation(explanation) for explanation in comparison.pairs],
        "not_visible": list(comparison.invisible),
        "rel_l2": comparison.error,
        "their_rel_l2": comparison.their_error,
        "cpu_s": comparison.cpu_s,
    }
    return dict(json_value(record))


def _difference(difference: Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    place = difference.place
    return {
        **asdict(place),
        "size": _finite(difference.size),
        "relative": _finite(difference.relative),
        "units_of_rounding": _finite(difference.units),
        "beyond_rounding": difference.is_beyond,
        "note": difference.note,
    }


def _explanation(explanation: Explanation) -> dict[str, Any]:
    return {
        "name": explanation.name,
        "sentence": explanation.sentence,
        "settings": dict(explanation.settings),
        "vanishes": explanation.vanishes,
        "parts_at": _difference(explanation.parts_at),
        "agreeing": explanation.agreeing,
        "rel_l2": explanation.error,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
