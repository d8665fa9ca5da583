"""The files of traces: npz, safetensors and MATLAB 5, told apart by their content, judged before they are decoded."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..disk import open_regular, read_bytes
from ..errors import TraceError
from ..npz import MOST_BYTES, MOST_CHARACTERS, MOST_VALUES, open_npz
from . import matlab
from .trace import Array

MOST_ARRAYS: Final = 40_000
MANIFEST: Final = "manifest"
TEXTS: Final[tuple[str, ...]] = (MANIFEST, "tensorflow")  # arrays that hold a text
_LONGEST_HEADER: Final = 2**23  # bytes, of safetensors
_TYPES: Final = {"F32": "float32", "F64": "float64"} | {  # of safetensors
    f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}
_ANY_FORMAT: Final = "A trace is an .npz, a .safetensors or a MATLAB file of version 5 (save -v7)"


@dataclass(frozen=True)
class Archive:
    """The arrays of a file by name in float64, their types as written, and its texts.

    `is_matlab` tells that arrays have two dimensions at least, as those of MATLAB do.
    """

    arrays: Mapping[str, Array]
    dtypes: Mapping[str, str]
    texts: Mapping[str, str]
    is_matlab: bool = False


def read_archive(file: str | Path) -> Archive:
    """Return what a file holds. Raises `TraceError` where it is missing, empty, damaged, hostile or of another kind."""
    try:
        with open_regular(file) as stream:
            start = stream.read(128)
        if not start:
            raise TraceError(f"{file} is empty")
        if start.startswith(b"PK"):
            return _npz(file)
        if start[8:9] == b"{":
            return _safetensors(file)
        if start[126:128] in matlab.BYTE_ORDERS and not start.startswith(b"MATLAB 7.3"):
            return _matlab(file)
    except FileNotFoundError:
        raise TraceError(f"{file} does not exist") from None
    except OSError as problem:
        raise TraceError(f"{file} cannot be read ({problem.strerror or problem})") from None
    except ValueError as problem:
        if isinstance(problem, TraceError):
            raise
        raise TraceError(f"{file} is no trace that can be read: {problem}") from None
    raise TraceError(f"{file} is no trace that can be read. {_ANY_FORMAT}")


def _npz(file: str | Path) -> Archive:
    with open_npz(file, MOST_ARRAYS) as archive:
        texts = {name: archive.text(name) for name in TEXTS if name in archive.names}
        names = [name for name in archive.names if name not in texts]
        return Archive(archive.numbers(names), {name: archive.dtype(name) for name in names}, texts)


def _safetensors(file: str | Path) -> Archive:
    content = read_bytes(file, MOST_BYTES)
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(_LONGEST_HEADER, len(content) - 8):
        raise ValueError(f"its header has {length:,} bytes by its first number, which is not possible")
    try:
        header = json.loads(content[8 : 8 + length])
    except RecursionError:
        raise ValueError("its header is nested too deep") from None
    metadata = header.pop("__metadata__", {})
    if len(header) > MOST_ARRAYS:
        raise ValueError(f"it has {len(header):,} arrays, at most {MOST_ARRAYS:,} are possible")
    if not isinstance(metadata, dict):
        raise ValueError("its metadata must be texts by name")
    texts = {name: metadata[name] for name in TEXTS if isinstance(metadata.get(name), str)}
    data = memoryview(content)[8 + length :]
    found = {name: _tensor(name, entry, len(data)) for name, entry in header.items()}
    _refuse_many(math.prod(shape) for _, shape, _ in found.values())
    arrays = {
        name: np.frombuffer(data, dtype=np.dtype(kind).newbyteorder("<"), count=math.prod(shape), offset=start)
        .reshape(shape)
        .astype(np.float64)
        for name, (kind, shape, start) in found.items()
    }
    return Archive(arrays, {name: kind for name, (kind, _, _) in found.items()}, texts)


def _tensor(name: str, entry: Any, size: int) -> tuple[str, tuple[int, ...], int]:
    """Return type, shape and first byte of a tensor by its entry in the header, where they fit."""
    try:
        kind, shape, (start, end) = str(entry["dtype"]), tuple(entry["shape"]), entry["data_offsets"]
        is_possible = all(type(n) is int and 0 <= n < 2**48 for n in (*shape, start, end)) and len(shape) <= 32
    except (KeyError, TypeError, ValueError):
        is_possible, kind = False, "?"
    if not is_possible:
        raise ValueError(f"the entry of {name} in its header is not possible")
    if kind not in _TYPES:
        raise ValueError(f"{name} holds {kind}, and must hold F32, F64 or whole numbers")
    if end - start != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize or end > size:
        raise ValueError(f"the bytes of {name} do not fit its shape {shape}, or the file is cut off")
    return _TYPES[kind], shape, start


def _matlab(file: str | Path) -> Archive:
    arrays: dict[str, Array] = {}
    dtypes: dict[str, str] = {}
    texts: dict[str, str] = {}
    for variable in matlab.variables(read_bytes(file, MOST_BYTES), 8 * MOST_VALUES):
        name, values = variable.name.replace("__", "/"), variable.values
        if name in arrays or name in texts:
            raise ValueError(f"two of its variables are called {variable.name}")
        if isinstance(values, str):
            if name not in TEXTS:
                raise ValueError(f"{variable.name} holds a text, and must hold numbers")
            if len(values) > MOST_CHARACTERS:
                raise ValueError(f"{name} has {len(values):,} characters, at most {MOST_CHARACTERS:,} are read")
            texts[name] = values
        else:
            arrays[name], dtypes[name] = values, variable.dtype
        if len(arrays) > MOST_ARRAYS:
            raise ValueError(f"it has more than {MOST_ARRAYS:,} arrays")
    return Archive(arrays, dtypes, texts, is_matlab=True)


def _refuse_many(counts: Iterator[int]) -> None:
    count = sum(counts)
    if count > MOST_VALUES:
        raise ValueError(f"its arrays have {count:,} values in total, at most {MOST_VALUES:,} are read")
