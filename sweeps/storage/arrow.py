"""Arrow tables from the dicts of rows or columns that the owner and its workers hand over."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def from_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return a table of row dicts; a column that a row lacks is null.

    Raises `ValueError` for a column that is not in the schema.
    """
    for row in rows:
        _refuse_unknown(row, schema)
    arrays = [pa.array([_plain(row.get(field.name), field.type) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def from_columns(parts: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return the rows of several column dicts as one table; a scalar in a dict stands for a whole column.

    Raises `ValueError` for columns of different lengths and for columns that are not in the schema.
    """
    return pa.concat_tables([schema.empty_table(), *(_from_part(part, schema) for part in parts)])


def _from_part(part: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    _refuse_unknown(part, schema)
    lengths = {name: len(value) for name, value in part.items() if isinstance(value, (np.ndarray, list, tuple))}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of one trial must be equally long, got {lengths}")
    length = next(iter(lengths.values()), 1)
    arrays = [
        pa.array(part[field.name], field.type)
        if field.name in lengths
        else pa.repeat(pa.scalar(_plain(part.get(field.name), field.type), field.type), length)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _refuse_unknown(columns: Mapping[str, Any], schema: pa.Schema) -> None:
    if unknown := sorted(set(columns) - set(schema.names)):
        raise ValueError(f"no such columns in the table {schema.metadata[b'pinnsweep_table'].decode()}: {unknown}")


def _plain(value: Any, kind: pa.DataType) -> Any:
    """Return a value as its column stores it: lists and dicts as JSON text, numpy scalars as Python ones."""
    if isinstance(value, np.generic):
        value = value.item()
    if kind == pa.string() and value is not None and not isinstance(value, str):
        return json.dumps(value, sort_keys=True)
    return float(value) if kind == pa.float64() and isinstance(value, int) else value
