"""Atomic and durable writing of files: complete or absent, also after a power cut."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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
