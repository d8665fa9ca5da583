"""What all forms of a table share: rows, plain values, the kinds and units of columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa


def unit_of(field: pa.Field) -> str:
    """Return the unit of a column: `mm`, `s`, `count`, `1` if dimensionless, empty where none is stated."""
    return (field.metadata or {}).get(b"unit", b"").decode()


def is_number(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds numbers."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def rows_of(table: pa.Table | pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as Python values. Two columns of a query may have the same name."""
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def json_value(value: Any) -> Any:
    """Return a value that JSON can hold: not-a-number and infinity become null, times become ISO 8601 text."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
