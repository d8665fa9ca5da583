"""MATLAB files of version 5: arrays of real numbers and texts, each judged by its tags before it is decoded.

MathWorks, MAT-File Format. SciPy's reader ends the whole process for some damaged files.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

BYTE_ORDERS: Final = {b"IM": "<", b"MI": ">"}  # by the last two bytes of the header
_HEADER: Final = 128  # bytes
_NUMBERS: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_TEXTS: Final = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CHARACTERS: Final = 4  # the class of texts
_CLASSES: Final = {6: "float64", 7: "float32"} | {
    8 + number: f"{sign}int{bits}"
    for number, (bits, sign) in enumerate((bits, sign) for bits in (8, 16, 32, 64) for sign in ("", "u"))
}
_COMPLEX: Final = 0x800


@dataclass(frozen=True)
class Variable:
    """An array in float64 with its type in MATLAB, or a text."""

    name: str
    dtype: str
    values: NDArray[np.float64] | str


def variables(content: bytes, most_bytes: int) -> Iterator[Variable]:
    """Yield the variables of a file. Raises `ValueError` for what is damaged, too large, or no array of numbers."""
    order = BYTE_ORDERS[content[126:128]]
    left = most_bytes
    for kind, data in _elements(memoryview(content)[_HEADER:], order):
        if kind == _COMPRESSED:
            data = _unpacked(data, order, left)
        elif kind != _MATRIX:
            raise ValueError(f"it has an element of the type {kind}, where variables are expected")
        left -= len(data)
        if left < 0:
            raise ValueError(f"its variables have more than the {most_bytes:,} bytes that are read")
        variable = _variable(data, order)
        if variable is not None:
            yield variable


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of each element."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError("it is cut off in the tag of an element")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:  # a small element: both in the first word
            kind, size, start, at = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError(f"a small element has {size} bytes, at most 4 are possible")
        else:
            at = start + size if kind == _COMPRESSED else start + -(-size // 8) * 8
        if start + size > len(data):
            raise ValueError("it is cut off in an element")
        yield kind, data[start : start + size]


def _unpacked(data: memoryview, order: str, most: int) -> memoryview:
    """Return the content of the matrix in a compressed element."""
    unpacker = zlib.decompressobj()
    try:
        tag = unpacker.decompress(data, 8)
        if len(tag) < 8:
            raise ValueError("a compressed variable is cut off")
        kind, size = struct.unpack(f"{order}II", tag)
        if kind != _MATRIX or size > most:
            raise ValueError(f"a compressed variable has the type {kind} and {size:,} bytes, at most {most:,} are read")
        content = unpacker.decompress(unpacker.unconsumed_tail, size) if size else b""
    except zlib.error as problem:
        raise ValueError(f"a compressed variable is damaged ({problem})") from None
    if len(content) < size:
        raise ValueError("a compressed variable is cut off")
    return memoryview(content)


def _variable(data: memoryview, order: str) -> Variable | None:
    """Return a variable; None for the nameless one that classes are kept in."""
    parts = _elements(data, order)
    try:
        (_, flags), (_, dimensions), (_, letters) = next(parts), next(parts), next(parts)
    except StopIteration:
        raise ValueError("a variable has no name") from None
    if len(flags) < 4 or len(dimensions) % 4:
        raise ValueError("a variable has flags or dimensions that are not possible")
    name = bytes(letters).decode("latin-1")
    (flag,) = struct.unpack_from(f"{order}I", flags)
    kind = flag & 0xFF
    if not name:
        return None
    if kind != _CHARACTERS and kind not in _CLASSES:
        raise ValueError(f"{name} is of the class {kind} of MATLAB, and must be an array of numbers")
    if flag & _COMPLEX:
        raise ValueError(f"{name} is complex, and must hold real numbers")
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    stored, values = next(parts, (0, memoryview(b"")))
    if kind == _CHARACTERS:
        return Variable(name, "text", _text(name, stored, values, order))
    if stored not in _NUMBERS and math.prod(shape):
        raise ValueError(f"{name} is stored as type {stored}, which no numbers have")
    dtype = np.dtype(order + _NUMBERS.get(stored, "f8"))
    if min(shape, default=0) < 0 or len(shape) > 32 or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"the bytes of {name} do not fit its shape {str(shape)[:80]}")
    return Variable(
        name, _CLASSES[kind], np.frombuffer(values, dtype=dtype).astype(np.float64).reshape(shape, order="F")
    )


def _text(name: str, stored: int, values: memoryview, order: str) -> str:
    if stored not in _TEXTS:
        raise ValueError(f"{name} is stored as type {stored}, which no text has")
    coding = _TEXTS[stored]
    wide = coding in ("utf-16", "utf-32")
    return bytes(values).decode(coding + ({"<": "-le", ">": "-be"}[order] if wide else ""))
