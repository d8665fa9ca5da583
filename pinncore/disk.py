"""Files: written complete or not at all, also in a power cut; read where they are regular and of bounded size.

A file that a user names may be a FIFO that nobody writes to, an endless device, or larger than the memory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

_SPECIAL: Final = (
    (stat.S_ISDIR, errno.EISDIR, "it is a folder, not a file"),
    (stat.S_ISFIFO, errno.EINVAL, "it is a FIFO (named pipe), not a file"),
    (stat.S_ISSOCK, errno.EINVAL, "it is a socket, not a file"),
    (stat.S_ISCHR, errno.EINVAL, "it is a device, not a file"),
    (stat.S_ISBLK, errno.EINVAL, "it is a device, not a file"),
)


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file atomically and durably: readers and a power cut leave the old content or the new, never a part."""
    temporary = file.with_name(f".{file.name}.new")
    try:
        write_synced(temporary, content.encode() if isinstance(content, str) else content)
        os.replace(temporary, file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(file.parent)


def write_synced(file: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with open(file, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that new and renamed files in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(file: str | Path) -> BufferedReader:
    """Open a regular file for reading.

    Raises `OSError` for anything else, at once also for a FIFO that nobody writes to; its `strerror` is the reason.
    """
    try:
        _refuse_special(os.stat(file), file)  # before it is opened: a socket cannot be, a device may react
        stream = open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))  # noqa: SIM115
    except ValueError as problem:
        raise OSError(errno.EINVAL, f"its name is not possible: {problem}", str(file)) from None
    try:
        _refuse_special(os.fstat(stream.fileno()), file)
    except OSError:
        stream.close()
        raise
    return stream


def read_bytes(file: str | Path, most_bytes: int) -> bytes:
    """Return the content of a regular file of at most `most_bytes`. Raises `OSError`, with the reason in `strerror`."""
    with open_regular(file) as stream:
        refuse_large(stream, most_bytes)
        content = stream.read(most_bytes + 1)
        if len(content) > most_bytes:  # it grew, or is one of the kernel's, which have no size
            raise OSError(errno.EFBIG, f"it has more than the {most_bytes:,} bytes that are read", str(file))
    return content


def read_text(file: str | Path, most_bytes: int) -> str:
    """Return the text of a regular file in UTF-8, with `\\n` for every end of line.

    Raises `OSError` as `read_bytes` does, and `UnicodeDecodeError`.
    """
    return read_bytes(file, most_bytes).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def refuse_large(stream: BufferedReader, most_bytes: int) -> None:
    """Raise `OSError` where an open file has more than `most_bytes`."""
    size = os.fstat(stream.fileno()).st_size
    if size > most_bytes:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, at most {most_bytes:,} are read", stream.name)


def _refuse_special(status: os.stat_result, file: str | Path) -> None:
    for is_kind, number, reason in _SPECIAL:
        if is_kind(status.st_mode):
            raise OSError(number, reason, str(file))
