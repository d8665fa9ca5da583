"""Opening of a table, whatever its format; the content decides, not the name."""

from __future__ import annotations

import gzip
import importlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pinncore.disk import open_regular
from pinncore.errors import DataError
from pinncore.npz import Sparing

if TYPE_CHECKING:
    from .sheet import Sheet

FORMATS: Final = "CSV or TSV (also .gz), Parquet, Arrow, .xlsx, .npz, .mat"
MOST_BYTES: Final = 2**28  # of a table in text, unpacked

_MAGIC: Final = {
    b"PAR1": "columnar",
    b"ARROW1": "columnar",
    b"\xff\xff\xff\xff": "columnar",  # an Arrow stream
    b"MATLAB 5.0 MAT-file": "matlab",
    b"MATLAB 7.3 MAT-file": "matlab",
    b"\x89HDF\r\n\x1a\n": "matlab",
}


def open_table(path: str, role: str = "", chosen: Mapping[str, Any] | None = None) -> Sheet:
    """Open the table in a file. Raises `DataError`, also where the path names no regular file.

    `role` is `gauss_points`, `lrb` or `btb` where it is one of the tables of a data set; `chosen` may give `increment`
    and `mesh`, for files that hold several.
    """
    try:
        with open_regular(path) as stream:
            return _read(path, stream, role, chosen or {})
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror or problem}") from None


def _read(path: str, stream: BinaryIO, role: str, chosen: Mapping[str, Any]) -> Sheet:
    head = stream.read(32)
    stream.seek(0)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
    if head.startswith(b"PK"):
        kind = _zipped(path)
    if kind == "matlab":
        return _reader(kind)(path, stream, role, chosen)
    if chosen:
        raise DataError(f"{path} holds one table: {' and '.join(chosen)} choose from the tables of a .mat file")
    return _reader(kind)(path, stream) if kind else _reader("delimited")(path, _text(path, head, stream))


def _reader(kind: str) -> Callable[..., Sheet]:
    """Return the reader of a kind of file; what it imports is imported only now."""
    return importlib.import_module(f"{__package__}.{kind}").read


def _zipped(path: str) -> str:
    """Return the kind of a zip file, from its directory, which is bounded."""
    try:
        with open_regular(path) as stream, zipfile.ZipFile(Sparing(stream.raw)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError) as problem:
        raise DataError(f"{path} is a damaged zip file ({problem})") from None
    if "[Content_Types].xml" in names:
        return "workbook"
    if names and all(name.endswith(".npy") for name in names):
        return "arrays"
    raise DataError(f"{path} is a zip file that holds no table: unpack it. Tables are {FORMATS}")


def _text(path: str, head: bytes, stream: BinaryIO) -> bytes:
    """Return the bytes of a table in text, unpacked. Raises `DataError`."""
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError(f"{path} is a workbook in the old format .xls: save it as .xlsx or CSV")
    try:
        unpacked = gzip.GzipFile(fileobj=stream) if head.startswith(b"\x1f\x8b") else stream
        content = unpacked.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as problem:
        raise DataError(f"{path} cannot be unpacked ({problem})") from None
    if len(content) > MOST_BYTES:
        raise DataError(f"{path} holds more than {MOST_BYTES:,} bytes of text: write the table as Parquet")
    return content
