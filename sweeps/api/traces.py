"""The comparison of a training recorded elsewhere with ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .assessment import Assessment

if TYPE_CHECKING:
    import pyarrow as pa

    from pinncore.parity.results import Comparison


def compare_traces(
    trace: str | os.PathLike[str],
    other: str | os.PathLike[str] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    pairs: bool = True,
) -> Assessment:
    """Say where a recorded training parts from ours, or from another, and why, as the command `parity` does.

    `trace` is a file (.npz, .safetensors or .mat) that docs/parity.md describes, `settings` states settings that are
    not in it, as in a study file. With `pairs` two changes are tried together where no single one explains the
    difference. This takes seconds. The tables of the result are `explanations`, the best first, and `differences`.
    Raises `pinncore.TraceError` where a trace cannot be used.
    """
    from pinncore.parity.compare import compare
    from pinncore.parity.reading import read_trace

    from ..parity.record import record_of
    from ..parity.text import advice, sentences, text_of, verdict
    from ..query.blocks import Listing

    first = read_trace(Path(trace), dict(settings or {}))
    comparison = compare(first, None if other is None else read_trace(Path(other)), pairs=pairs)
    record = record_of(comparison)
    tables = _tables(comparison, record)
    notes = (*comparison.coverage, *sentences(comparison.notes))
    said = [sentence for sentence in (verdict(comparison), advice(comparison)) if sentence]
    shown = [Listing(tables["explanations"].slice(0, 8).select(range(4)))] if comparison.explanations else []
    return Assessment(text_of(comparison, 100), notes, tables, record, (*said, *shown, *notes))


def _tables(comparison: Comparison, record: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Return the explanations and the differences of all arrays as tables."""
    import pyarrow as pa

    explanations = [
        {
            "explanation": each.name,
            "units_of_rounding_left": None if each.parts_at is None else each.parts_at.units,
            "parts_at": None if each.parts_at is None else str(each.parts_at.place),
            "setting": ", ".join(f"{name}: {value}" for name, value in each.settings.items()),
            "vanishes": each.vanishes,
            "rel_l2": each.error,
        }
        for each in (*comparison.explanations, *comparison.pairs)
    ]
    return {
        "explanations": pa.Table.from_pylist(explanations),
        "differences": pa.Table.from_pylist(record["differences"]),
    }
