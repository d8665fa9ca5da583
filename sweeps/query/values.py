"""Values of tables for text formats, and the units of columns."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pyarrow as pa


def unit_of(field: pa.Field) -> str:
    """Return the unit of a column: `mm`, `s`, `count`, `1` if dimensionless, empty where none is stated."""
    return (field.metadata or {}).get(b"unit", b"").decode()


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
