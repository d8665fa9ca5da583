"""An `.npz` that somebody else wrote: judged by its directory and the headers of its arrays before any is decoded.

Only numbers are read, and text where it is asked for: no objects, which are pickles, no complex numbers, no records.
"""

from __future__ import annotations

import contextlib
import io
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .disk import open_regular, refuse_large

MOST_VALUES: Final = 2**26  # read from one file: 512 MiB in float64
MOST_ARRAYS: Final = 10_000
MOST_BYTES: Final = 2**30  # of a file
MOST_CHARACTERS: Final = 2**16  # of a text
_MOST_AT_ONCE: Final = 4 * 2**20  # bytes, more than the directory of so many arrays has
_LONGEST_HEADER: Final = 10_000  # bytes
_ENDING: Final = ".npy"
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # NumPy's; others decode without a bound
_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Npz:
    """The arrays of an open file; its methods raise `ValueError` for an array that is not as it should be."""

    def __init__(self, archive: zipfile.ZipFile, most_arrays: int = MOST_ARRAYS) -> None:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(_ENDING)]
        if len(entries) > most_arrays:
            raise ValueError(f"it has {len(entries):,} arrays, at most {most_arrays:,} are possible")
        self._archive = archive
        self._entries = {entry.filename.removesuffix(_ENDING): entry for entry in entries}
        if len(self._entries) < len(entries):
            raise ValueError("two of its arrays have the same name")

    @property
    def names(self) -> list[str]:
        """Return the names of the arrays."""
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array of real numbers, by its header."""
        return self._real(name)[0]

    def dtype(self, name: str) -> str:
        """Return the type of an array of real numbers as it was written, such as float32."""
        return self._real(name)[1].name

    def numbers(self, names: Iterable[str]) -> dict[str, NDArray[np.float64]]:
        """Return arrays of real numbers in float64."""
        names = list(names)
        count = sum(math.prod(self.shape(name)) for name in names)
        if count > MOST_VALUES:
            raise ValueError(f"its arrays have {count:,} values in total, at most {MOST_VALUES:,} are read")
        return {name: self._decoded(name).astype(np.float64, copy=False) for name in names}

    def text(self, name: str) -> str:
        """Return a single text."""
        shape, dtype = self._header(name)
        if dtype.kind != "U" or shape:
            raise ValueError(f"{name} must be a text, and is {_kind(dtype)} of shape {shape}")
        if dtype.itemsize > 4 * MOST_CHARACTERS:
            raise ValueError(f"{name} has {dtype.itemsize // 4:,} characters, at most {MOST_CHARACTERS:,} are read")
        return str(self._decoded(name))

    def _real(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        shape, dtype = self._header(name)
        if dtype.kind not in "fiu" or dtype.itemsize > 8:
            raise ValueError(f"{name} holds {_kind(dtype)}, and must hold real numbers of at most 64 bits")
        return shape, dtype

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and type of an array, where its size is that in the directory."""
        if name not in self._entries:
            raise ValueError(f"it has no array {name}")
        entry = self._entries[name]
        if entry.flag_bits & 1:
            raise ValueError(f"{name} is encrypted")
        if entry.compress_type not in _METHODS:
            raise ValueError(f"{name} is compressed by an unusual method; numpy.savez_compressed has the usual one")
        with self._archive.open(entry) as stream:
            start = io.BytesIO(stream.read(_LONGEST_HEADER))
        version = npy.read_magic(start)
        if version not in _HEADERS:
            raise ValueError(f"{name} is of version {version} of the format, and only 1.0 and 2.0 hold plain numbers")
        with warnings.catch_warnings(action="ignore"):  # about headers written by Python 2
            shape, _, dtype = _HEADERS[version](start)
        if len(shape) > 32 or not all(0 <= length < 2**48 for length in shape):
            raise ValueError(f"{name} has the impossible shape {str(shape)[:80]}")
        stated = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and start.tell() + stated != entry.file_size:
            found = entry.file_size - start.tell()
            raise ValueError(f"{name} has {stated:,} bytes by its header, but {found:,} by the directory of the file")
        return shape, dtype

    def _decoded(self, name: str) -> NDArray[Any]:
        with self._archive.open(self._entries[name]) as stream:
            return npy.read_array(stream)


@contextlib.contextmanager
def open_npz(file: str | Path, most_arrays: int = MOST_ARRAYS) -> Iterator[Npz]:
    """Open an `.npz`. Raises `OSError` where it cannot be read, and `ValueError` where it is damaged or hostile."""
    with open_regular(file) as stream:
        refuse_large(stream, MOST_BYTES)
        try:
            with zipfile.ZipFile(Sparing(stream.raw)) as archive:
                yield Npz(archive, most_arrays)
        except _DAMAGE as problem:
            raise ValueError(str(problem) or type(problem).__name__) from None


_DAMAGE: Final = (  # what zipfile, zlib and NumPy raise for files that are not as they should be
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    EOFError,
    OverflowError,
    RuntimeError,  # also NotImplementedError, RecursionError
    SyntaxError,
    TypeError,
    MemoryError,  # of the parser of headers
)


class Sparing(io.BufferedReader):
    """A file that is never read in large parts: `zipfile` would read a directory of any size in one."""

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes. Raises `ValueError` where too many are asked for."""
        is_whole = size is None or size < 0
        content = super().read(_MOST_AT_ONCE + 1 if is_whole else min(size or 0, _MOST_AT_ONCE + 1))
        if len(content) > _MOST_AT_ONCE:
            raise ValueError(f"its directory has more than {_MOST_AT_ONCE:,} bytes")
        return content


def _kind(dtype: np.dtype[Any]) -> str:
    return "objects" if dtype.hasobject else "records" if dtype.names else str(dtype)
