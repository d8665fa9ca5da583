"""Cells of tables: text as numbers in every form that programs write, and numbers back as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NUMBER: Final = re.compile(  # Fortran writes 1.5D-05, and 1.5-105 where the exponent has three digits
    r"(?P<digits>[+-]?(?:\d+[.,]?\d*|[.,]\d+))(?:[eEdDqQ](?P<exponent>[+-]?\d+)|(?P<bare>[+-]\d{3}))?"
)
_THOUSANDS: Final = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_ONLY_DECIMAL: Final = r"^\s*[+-]?(0\d*,\d+|\d+,(\d{1,2}|\d{4,})|\d{4,},\d+|\d*,\d+[eEdDqQ][+-]?\d+)\s*$"


class WrongCell(Exception):
    """A cell that is no number: its row, from 0, and why."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(row, reason)
        self.row, self.reason = row, reason


def numbers(column: pa.ChunkedArray, has_decimal_commas: Callable[[], bool]) -> Array:
    """Return a column as numbers, shape [rows]; not finite ones are kept. Raises `WrongCell`.

    `has_decimal_commas` tells, for a column such as `1,250`, whether other cells show that commas are decimal.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if column.null_count:
        raise WrongCell(pc.index(column.is_null(), True).as_py(), "is empty")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _parsed(pc.utf8_trim_whitespace(column), has_decimal_commas)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise WrongCell(0, f"is of type {kind}, not a number")
    return column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)


def shows_decimal_commas(column: pa.ChunkedArray) -> bool:
    """Return whether a column of text has a comma that can only be a decimal one."""
    if not pa.types.is_string(column.type):
        return False
    return bool(pc.any(pc.match_substring_regex(column, _ONLY_DECIMAL)).as_py())


def texts(column: pa.ChunkedArray) -> list[str]:
    """Return the cells of a column as text; null and NaN, pandas' missing value, are empty."""
    return [_text(value) for value in column.to_pylist()]


def exact_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text as numbers if these are written exactly as the cells stand, else unchanged."""
    if not pa.types.is_string(column.type):
        return column
    filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    for kind in (pa.int64(), pa.float64()):
        try:
            values = filled.cast(kind)
        except pa.ArrowInvalid:
            continue
        if pc.all(pc.equal(values.cast(pa.string()), filled)).as_py():
            return values
    return column


def _parsed(column: pa.ChunkedArray, has_decimal_commas: Callable[[], bool]) -> Array:
    try:
        return column.cast(pa.float64()).to_numpy().astype(np.float64)
    except pa.ArrowInvalid:
        pass  # slower, and takes more forms
    values = np.empty(len(column))
    written = column.to_pylist()
    for row, text in enumerate(written):
        values[row] = _number(row, text)
    commas = [row for row, text in enumerate(written) if "," in text]
    if commas:
        point = next((row for row, text in enumerate(written) if "." in text), None)
        if point is not None:
            raise WrongCell(max(point, commas[0]), "is ambiguous: the column has both decimal points and commas")
        if all(_THOUSANDS.fullmatch(written[row]) for row in commas) and not has_decimal_commas():
            raise WrongCell(commas[0], "is ambiguous: its comma may be decimal or separate thousands")
    return values


def _number(row: int, text: str) -> float:
    if not text:
        raise WrongCell(row, "is empty")
    match = _NUMBER.fullmatch(text)
    if match is None:
        if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            return float(text)
        raise WrongCell(row, "is not a number")
    exponent = match["exponent"] or match["bare"] or "0"
    return float(f"{match['digits'].replace(',', '.')}e{exponent}")


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return str(value)
