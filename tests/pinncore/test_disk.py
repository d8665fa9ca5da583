"""A file that is written is the old one or the new one, whatever fails; one that is read is regular and bounded."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from pinncore.disk import open_regular, read_bytes, read_text, write_whole
from tests.special_files import REASONS, at_once


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a", "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_text() == "new"


def test_the_folder_is_synced_after_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    write_whole(tmp_path / "a", "text")
    assert synced == [str(tmp_path / ".a.new"), str(tmp_path)]


@pytest.mark.parametrize("kind", REASONS)
def test_what_is_no_file_is_refused_at_once(special_files: dict[str, Path], kind: str) -> None:
    with pytest.raises(OSError, match="not a file") as caught:
        at_once(lambda: read_bytes(special_files[kind], 100))
    assert caught.value.strerror == REASONS[kind]
    assert caught.value.filename == str(special_files[kind])
    (link := special_files[kind].with_name("link")).symlink_to(special_files[kind])
    with pytest.raises(OSError, match="not a file"):
        at_once(lambda: open_regular(link))


def test_a_file_has_bounded_size(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_bytes(file, 5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, at most 4 are read"):
        read_bytes(str(file), 4)
    os.truncate(file, 10**12)  # a hole: it takes no place on the disk
    with pytest.raises(OSError, match="it has 1,000,000,000,000 bytes"):
        read_bytes(file, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="a file of Linux")
def test_a_file_without_a_size_has_bounded_content() -> None:
    with pytest.raises(OSError, match="it has more than the 10 bytes that are read"):
        read_bytes("/proc/self/maps", 10)


def test_a_missing_file_and_an_impossible_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none", 10)
    for name in ("a\0b", "a\ud800\ud800"):
        with pytest.raises(OSError, match="its name is not possible"):
            read_bytes(name, 10)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    (file := tmp_path / "file").write_bytes(b"")
    file.chmod(0)
    with pytest.raises(PermissionError):
        read_bytes(file, 10)


def test_text_is_utf8_with_any_end_of_line(tmp_path: Path) -> None:
    (file := tmp_path / "file").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(file, 100) == "a\nb\nc\n"
    for encoding in ("utf-16", "latin-1"):
        file.write_text("ä", encoding=encoding)
        with pytest.raises(UnicodeDecodeError):
            read_text(file, 100)
