"""Tables in `.npz` files, one array for each column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import pyarrow as pa

from pinncore.errors import DataError
from pinncore.npz import open_npz

from .sheet import Sheet


def read(source: str, stream: IO[bytes]) -> Sheet:
    """Return the table of an `.npz` file. Raises `DataError`."""
    try:
        with open_npz(source) as archive:
            return of_arrays(source, archive.numbers(archive.names))
    except ValueError as problem:
        raise DataError(f"{source} cannot be read: {problem}") from None


def of_arrays(source: str, arrays: Mapping[str, Any]) -> Sheet:
    """Return arrays of one length, by name, as a table. Raises `DataError`."""
    columns = {}
    for name, array in arrays.items():
        if array.ndim > 2 or (array.ndim == 2 and 1 not in array.shape) or not array.size:
            raise DataError(f"{source}: the array {name} has the shape {array.shape}, and must be a column")
        if array.dtype.kind not in "biufU":
            raise DataError(f"{source}: the array {name} holds {array.dtype}, and must hold numbers")
        columns[name] = pa.array(np.ascontiguousarray(array.ravel()))
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{source}: its columns have different lengths: {lengths}")
    return Sheet(source, pa.table(columns))
