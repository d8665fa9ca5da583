"""The files of traces: npz, safetensors and MATLAB 5, told apart by their content, judged before they are decoded."""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.io

from ..disk import open_regular, read_bytes
from ..errors import TraceError
from ..npz import MOST_BYTES, MOST_CHARACTERS, MOST_VALUES, open_npz
from .trace import Array

MOST_ARRAYS: Final = 40_000
MANIFEST: Final = "manifest"
TEXTS: Final[tuple[str, ...]] = (MANIFEST, "tensorflow")  # arrays that hold a text
_LONGEST_HEADER: Final = 2**23  # bytes, of safetensors
_TYPES: Final = {"F32": "float32", "F64": "float64"} | {  # of safetensors
    f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}
_CLASSES: Final = ("double", "single", "char", *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)))
_MATLAB_BYTE_ORDERS: Final = (b"IM", b"MI")
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
        if start[126:128] in _MATLAB_BYTE_ORDERS and not start.startswith(b"MATLAB 7.3"):
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
    content = read_bytes(file, MOST_BYTES)
    try:
        headers = _headers(content)
        _refuse_many(math.prod(shape) for shape, _ in headers.values())
        loaded = scipy.io.loadmat(io.BytesIO(content), variable_names=list(headers), chars_as_strings=True)
    except ValueError:
        raise
    except Exception as problem:  # scipy raises whatever its parsers raise
        raise ValueError(f"{type(problem).__name__}: {problem}") from None
    arrays, dtypes, texts = {}, {}, {}
    for variable, (_, kind) in headers.items():
        name, value = variable.replace("__", "/"), np.asarray(loaded[variable])
        if name in TEXTS:
            texts[name] = "".join(map(str, value.reshape(-1)))
        elif kind == "char":
            raise ValueError(f"{variable} holds a text, and must hold numbers")
        elif value.dtype.kind not in "fiu":
            raise ValueError(f"{variable} holds {value.dtype}, and must hold real numbers")
        else:
            arrays[name], dtypes[name] = value.astype(np.float64), value.dtype.name
    return Archive(arrays, dtypes, texts, is_matlab=True)


def _headers(content: bytes) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and class of each variable."""
    headers = {}
    for name, shape, kind in scipy.io.whosmat(io.BytesIO(content)):
        if name.startswith("__"):
            continue
        if kind not in _CLASSES:
            raise ValueError(f"{name} is of the class {kind}, and must be an array of numbers")
        most = MOST_CHARACTERS if kind == "char" else MOST_VALUES
        if math.prod(shape) > most:
            raise ValueError(f"{name} has {math.prod(shape):,} values, at most {most:,} are read")
        headers[name] = (shape, kind)
    if len(headers) > MOST_ARRAYS:
        raise ValueError(f"it has {len(headers):,} arrays, at most {MOST_ARRAYS:,} are possible")
    return headers


def _refuse_many(counts: Iterator[int]) -> None:
    count = sum(counts)
    if count > MOST_VALUES:
        raise ValueError(f"its arrays have {count:,} values in total, at most {MOST_VALUES:,} are read")
