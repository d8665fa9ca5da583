"""Files that are there whole or not at all, and stay through a power cut."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_whole(file: Path, content: str | bytes) -> None:
    """Write beside, sync, rename, sync the folder: the file is the old one or the new one, never a part."""
    beside = file.with_name(f".{file.name}.new")
    try:
        write_synced(beside, content.encode() if isinstance(content, str) else content)
        os.replace(beside, file)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_folder(file.parent)


def write_synced(file: Path, content: bytes) -> None:
    """Write a file down to the disk."""
    with open(file, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as fsync makes a file's content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
