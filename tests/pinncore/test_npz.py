"""Hostile .npz files: each is refused by its directory and headers, before anything large is decoded."""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pinncore import DataError, WeightsError, load_data
from pinncore.initialisation import check_init
from pinncore.npz import MOST_ARRAYS, MOST_VALUES, open_npz
from tests.special_files import REASONS, at_once

LITTLE = 32 * 2**20  # bytes of memory


def header(shape: object, descr: object = "<f8", version: int = 1) -> bytes:
    """The start of an .npy."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


def archive(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return path


def saved(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes names for flags
    return path


def changed(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def refused(path: Path, *fragments: str, read: str = "numbers") -> None:
    """Reading ends with a sentence, and takes little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught, open_npz(path) as file:  # noqa: PT011 - its fragments are compared
            file.text("a") if read == "text" else file.numbers(file.names)
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()
    for fragment in fragments:
        assert fragment in str(caught.value), f"{fragment!r} is not in: {caught.value}"


def test_numbers_and_text(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", a=np.float32([[1, 2], [3, 4]]).T, b=np.int8(7), c=np.array("text"), d=np.ones(0))
    with open_npz(path) as file:
        assert file.names == ["a", "b", "c", "d"]
        assert (file.shape("a"), file.text("c")) == ((2, 2), "text")
        numbers = file.numbers(["a", "b", "d"])
    assert [array.tolist() for array in numbers.values()] == [[[1, 3], [2, 4]], 7, []]
    assert {array.dtype for array in numbers.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([{}, None], dtype=object), "objects"),
        (np.ones(2, dtype=[("a", "f8"), ("b", "O")]), "objects"),
        (np.ones(2, dtype=[("a", "f8")]), "records"),
        (np.ones(2, dtype=complex), "complex128"),
        (np.array(["a"]), "<U1"),
        (np.array([b"a"]), "|S1"),
        (np.ones(2, dtype=bool), "bool"),
        (np.array(["2020-01-01"], dtype="M8[s]"), "datetime64[s]"),
    ],
)
def test_only_real_numbers_are_read(tmp_path: Path, array: np.ndarray, kind: str) -> None:
    refused(saved(tmp_path / "a.npz", a=array), f"a holds {kind}, and must hold real numbers of at most 64 bits")


def test_arrays_of_too_many_values_are_refused_by_their_headers(tmp_path: Path) -> None:
    limit = f"{MOST_VALUES:,} are read"
    stated = archive(tmp_path / "stated.npz", {"a": header((10**11,))})
    refused(stated, "800,000,000,000 bytes by its header, but 0 by the directory")
    zeros = bytes(4 * 2**20)
    bomb = tmp_path / "bomb.npz"  # a true one, with what it states
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open("a.npy", "w") as stream:
        stream.write(header((MOST_VALUES + 2**22,), "|i1"))
        for _ in range(MOST_VALUES // len(zeros) + 1):
            stream.write(zeros)
    assert bomb.stat().st_size < 2**20
    refused(bomb, "71,303,168 values in total", limit)
    many = dict.fromkeys(map(str, range(40)), header((2**21,), "|i1") + bytes(2**21))
    refused(archive(tmp_path / "many.npz", many), "83,886,080 values in total", limit)
    lies = archive(tmp_path / "lies.npz", {"a": header((10**11,), "|i1") + b"1"})
    with zipfile.ZipFile(lies) as file:
        size = file.infolist()[0].file_size
    refused(changed(lies, struct.pack("<I", size), struct.pack("<I", 2**32 - 2)), "a has 100,000,000,000 bytes")
    refused(zip64(tmp_path / "zip64.npz", 10**11), "100,000,000,000 values in total", limit)


def zip64(path: Path, count: int) -> Path:
    """An archive of one byte whose directory states `count` bytes, with the sizes of Zip64."""
    start = header((count,), "|i1")
    archive(path, {"a": start + b"1"}, zipfile.ZIP_STORED)
    content = path.read_bytes()
    place = content.index(b"PK\x01\x02")
    entry = bytearray(content[place : place + 46])
    entry[24:28], entry[30:32] = b"\xff" * 4, struct.pack("<H", 12)
    extra = struct.pack("<HHQ", 1, 8, count + len(start))
    directory = bytes(entry) + b"a.npy" + extra
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), place, 0)
    path.write_bytes(content[:place] + directory + end)
    return path


DAMAGED = (
    (b"", "magic string"),
    (b"no array at all", "magic string"),
    (b"\x93NUMPY\x01\x00\xff", "array header length"),
    (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(10**6), "array header"),
    (b"\x93NUMPY\x09\x00" + bytes(100), "version (9, 0)"),
    (header((3,), version=3), "version (3, 0)"),
    (header((-1,)), "impossible shape"),
    (header((0, 10**30)), "impossible shape"),
    (header((1,) * 60) + bytes(8), "impossible shape"),
    (header((10**2000,)), "impossible shape"),
    (header("many"), "shape is not valid"),
    (header((1,), "<q9"), "descr is not a valid"),
    (header((1,), "f8,O"), "objects"),
    (header((1,), ("<f8", (10**9,))), ""),
    (b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 9990, ""),
    (b"\x93NUMPY\x01\x00\x10\x27" + b"-" * 9990, ""),
    (header((2,)) + bytes(8), "16 bytes by its header, but 8 by the directory"),
    (header((2,)) + bytes(24), "16 bytes by its header, but 24 by the directory"),
)


@pytest.mark.parametrize("number", range(len(DAMAGED)))
def test_damaged_headers_are_refused(tmp_path: Path, number: int) -> None:
    content, reason = DAMAGED[number]
    refused(archive(tmp_path / "a.npz", {"a": content}), reason)


def test_archives_that_numpy_does_not_write_are_refused(tmp_path: Path) -> None:
    content = header((2,)) + bytes(16)
    twice = archive(tmp_path / "twice.npz", {"a": content, "b": content})
    refused(changed(twice, b"b.npy", b"a.npy"), "two of its arrays have the same name")
    many = archive(tmp_path / "many.npz", dict.fromkeys(map(str, range(MOST_ARRAYS + 1)), b""), zipfile.ZIP_STORED)
    refused(many, f"it has {MOST_ARRAYS + 1:,} arrays, at most {MOST_ARRAYS:,} are possible")
    wide = archive(tmp_path / "wide.npz", {f"{i}{'a' * 60_000}": b"" for i in range(80)}, zipfile.ZIP_STORED)
    refused(wide, "its directory has more than 4,194,304 bytes")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):  # a few KB of these can hold a GB
        refused(archive(tmp_path / "method.npz", {"a": content}, method), "compressed by an unusual method")
    secret = archive(tmp_path / "secret.npz", {"a": content})
    place = secret.read_bytes().index(b"PK\x01\x02") + 8
    refused(
        changed(secret, secret.read_bytes()[place - 8 : place + 2], b"PK\x01\x02\x14\x03\x14\x00\x01\x00"), "encrypted"
    )
    flipped = archive(tmp_path / "flipped.npz", {"a": header((2,)) + b"12345678" * 2}, zipfile.ZIP_STORED)
    refused(changed(flipped, b"12345678" * 2, b"12345679" * 2), "Bad CRC-32")


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, lambda content: content[::-1]])
def test_files_that_are_no_archive_are_refused(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(3))
    (tmp_path / "a.npz").write_bytes(pack(stream.getvalue()))
    refused(tmp_path / "a.npz", "not a zip file")


def test_every_torn_or_changed_file_ends_with_a_sentence(tmp_path: Path) -> None:
    whole = archive(tmp_path / "whole.npz", {"a": header((2,)) + bytes(16)}).read_bytes()
    path = tmp_path / "a.npz"
    for place in range(len(whole)):
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            path.write_bytes(content)
            with contextlib.suppress(ValueError, OSError), open_npz(path) as file:
                file.numbers(file.names)


def test_text_is_one_short_text(tmp_path: Path) -> None:
    refused(saved(tmp_path / "a.npz", a=np.ones(3)), "a must be a text, and is float64 of shape (3,)", read="text")
    refused(saved(tmp_path / "a.npz", a=np.array(["a", "b"])), "of shape (2,)", read="text")
    refused(saved(tmp_path / "a.npz", a=np.array("a" * 70_000)), "70,000 characters, at most 65,536", read="text")
    refused(saved(tmp_path / "a.npz", b=np.ones(3)), "it has no array a", read="text")


def test_data_and_weights_are_read_this_way(tmp_path: Path, coarse_npz: Path, special_files: dict[str, Path]) -> None:
    path = tmp_path / "a.npz"

    def refused(*reasons: str) -> None:
        with pytest.raises(DataError) as of_data:
            at_once(lambda: load_data({"npz": str(path)}))
        with pytest.raises(WeightsError) as of_weights:
            at_once(lambda: check_init(f"file:{path}", (2, 1)))
        for reason in reasons:
            assert reason in str(of_data.value)
            assert reason in str(of_weights.value)

    start = header((2, 1))
    for content, reason in ((header((2, 1), "|O"), "objects"), (header((2, 1), "<c16") + bytes(32), "complex128")):
        with np.load(coarse_npz) as whole:
            saved(path, header=whole["header"])
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("W1.npy", content)
            file.writestr("b1.npy", start + bytes(16))
        refused(f"W1 holds {reason}")
    for kind, special in special_files.items():
        path.unlink(missing_ok=True)
        path.symlink_to(special)
        refused(f"{path} cannot be read ({REASONS[kind]})")
