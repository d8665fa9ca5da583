"""What a trap of a report says of a study: a mark, and how many trainings it concerns."""

from __future__ import annotations

from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import listed

State = Literal["fine", "look out", "not checked", "not applicable"]  # whether a study may be in a trap
Mark = tuple[State, str]  # with the evidence

NAMED: Final = 8  # trials that a sentence names


def counted(rows: pa.Table, chosen: pa.Array | pa.ChunkedArray) -> str:
    """Return how many rows are chosen, and the trials they belong to."""
    of_rows = rows.filter(chosen)
    trials = sorted(set(of_rows["trial"].to_pylist()))
    text = f"{of_rows.num_rows:,} of {rows.num_rows:,}"
    if not trials:
        return text
    more = len(trials) - NAMED
    named = [str(trial) for trial in trials[:NAMED]] + ([f"{more:,} more"] if more > 0 else [])
    return f"{text} (trial{'s' * (len(trials) > 1)} {listed(named)})"


def spanned(column: pa.ChunkedArray) -> str:
    """Return the range of a column of numbers as text, one number where all are equal."""
    ends = pc.min_max(column).as_py()
    low, high = (f"{ends[end]:.4g}" if ends[end] is not None else "unknown" for end in ("min", "max"))
    return low if low == high else f"{low} to {high}"
