"""Compaction: the many small files of a study's tables become few, with the same rows in the order of their trials.

In a folder each table's folder is made anew beside the old one and swapped with it, trials last. Who reads the old one
meanwhile misses a file and says so, but never counts a row twice; who reads through a snapshot looks again. What is no
published row, stays as it is. In an object store the files of flushes stay and a manifest names the merged ones.

Only who holds the study's lock may compact it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.scratch import scratch_folder
from pinncore.disk import sync_folder

from .object_store import MANIFEST, MERGED_FOLDER, Remote
from .schema import TABLES
from .stored_tables import Manifest, Merged, read_manifest
from .tables import COMPACTION, MARK, MERGED, StudyTables, unified, write_parquet

FULL_ROWS: Final = {"trials": 50_000, "curves": 1_000_000, "fields": 2_000_000, "weights": 2_000_000, "events": 500_000}
DUE_FILES: Final = 64  # of trials or events, from which on the end of a run compacts

_ORDER: Final = ("events", "curves", "fields", "weights", "trials")  # what trials refer to is there before them
_SORTED_BY: Final = {"events": ("time",)}
_OLD: Final = "old-"  # begins the name of a table's folder where two renames stand for a swap
_AT_FDCWD: Final = -100  # of renameat2, as _EXCHANGE
_EXCHANGE: Final = 2


@dataclass(frozen=True)
class Compacted:
    """The number of files of all tables before and after."""

    before: int
    after: int


def is_due(tables: StudyTables) -> bool:
    """Whether a study has enough small files for a compaction to be worth its time."""
    files = tables.snapshot(["trials", "events"]).files
    return any(sum(not path.stem.startswith(MERGED) for path in found) > DUE_FILES for found in files.values())


def compact(tables: StudyTables, remote: Remote | None = None) -> Compacted:
    """Merge the files of a study's tables, of one in an object store those that are `remote`.

    Raises `StudyError` for a damaged file, and `OSError` where there is no room: nothing has changed then.
    """
    recover(tables.study_dir)
    try:
        return _in_folder(tables) if remote is None else _in_store(tables, remote)
    except (pa.ArrowException, OSError) as problem:
        if not getattr(problem, "errno", None):  # not the system's, but what Arrow says of a file
            tables.check_files()
        raise


def recover(study_dir: Path) -> None:
    """Finish a compaction that was cut short between two renames, and remove what one left; only the writer may."""
    anew = study_dir / COMPACTION
    if not anew.exists():
        return
    for table in TABLES:
        if not (study_dir / table).exists() and (anew / table).exists():
            os.rename(anew / table, study_dir / table)
            sync_folder(study_dir)
    shutil.rmtree(anew, ignore_errors=True)  # a network file system keeps what somebody still reads, for a while


def leftover(study_dir: Path) -> Path | None:
    """The folder that a compaction left which was cut short, unless `recover` needs it."""
    anew = study_dir / COMPACTION
    needed = any(not (study_dir / table).exists() and (anew / table).exists() for table in TABLES)
    return anew if anew.exists() and not needed else None


# ---- in a folder ---------------------------------------------------------------------------------------------------


def _in_folder(tables: StudyTables) -> Compacted:
    snapshot = tables.snapshot(TABLES)
    files = snapshot.files
    before = sum(map(len, files.values()))
    parts = {name: _to_merge(paths, FULL_ROWS[name]) for name, paths in files.items()}
    if not any(parts.values()):
        return Compacted(before, before)
    anew, generation = tables.study_dir / COMPACTION, 1 + max(snapshot.generations.values())
    try:
        for name in _ORDER:
            _make_folder(tables, name, parts[name], anew / name, generation)
        sync_folder(anew)
        for name in _ORDER:
            _swap(anew / name, tables.study_dir / name)
            sync_folder(tables.study_dir)
    finally:
        recover(tables.study_dir)
    return Compacted(before, sum(map(len, tables.snapshot(TABLES).files.values())))


def _to_merge(paths: Sequence[Path], full_rows: int) -> list[list[Path]]:
    """Groups of files to be merged into one each; those that are large already, and a single one, stay."""
    groups: list[list[Path]] = []
    rows = 0
    for path in paths:
        found = pq.read_metadata(path).num_rows
        if path.stem.startswith(MERGED) and found >= full_rows // 2:
            continue
        if not groups or rows + found > full_rows:
            groups.append([])
            rows = 0
        groups[-1].append(path)
        rows += found
    return [group for group in groups if len(group) > 1]


def _make_folder(
    tables: StudyTables, name: str, groups: Sequence[Sequence[Path]], folder: Path, generation: int
) -> None:
    folder.mkdir(parents=True)
    old = tables.study_dir / name
    merged = {path for group in groups for path in group}
    for number, group in enumerate(groups):
        write_parquet(_merged(group, name, tables), folder / f"{MERGED}{generation:04d}-{number:05d}.parquet")
    for path in sorted(old.glob("*.parquet")) if old.exists() else ():
        if path not in merged:
            _link(path, folder / path.name)
    (folder / f"{MARK}{generation}").touch()
    sync_folder(folder)


def _merged(paths: Sequence[Path], name: str, tables: StudyTables) -> pa.Table:
    """The rows of some files, by trial and replicate and otherwise in the order they had."""
    parts = [pq.read_table(path, partitioning=None, page_checksum_verification=True) for path in paths]
    schema = unified([tables.schemas[name], *(part.schema for part in parts)])
    whole = pa.concat_tables(parts, promote_options="permissive")
    missing = [field for field in schema if field.name not in whole.column_names]
    for field in missing:
        whole = whole.append_column(field, pa.nulls(len(whole), field.type))
    keys = _SORTED_BY.get(name, ("trial", "replicate"))
    ordered = whole.sort_by([(key, "ascending") for key in keys])
    return ordered.select(schema.names).cast(schema)


def _link(path: Path, beside: Path) -> None:
    try:
        os.link(path, beside)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, beside)


def _swap(new: Path, table: Path) -> None:
    """Put a folder in the place of another, at once where the system can."""
    if not table.exists():
        os.rename(new, table)
        return
    with contextlib.suppress(NotImplementedError):
        _exchange(new, table)
        return
    os.rename(table, new.with_name(f"{_OLD}{table.name}"))
    os.rename(new, table)


def _exchange(one: Path, other: Path) -> None:
    """Let two names change places. Raises `NotImplementedError` where system or file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise NotImplementedError
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise NotImplementedError
        raise OSError(number, os.strerror(number), str(other))


# ---- in an object store --------------------------------------------------------------------------------------------


def _in_store(tables: StudyTables, remote: Remote) -> Compacted:
    """Merge from the files in the study's home, which are those of the store."""
    old, files = read_manifest(remote), tables.snapshot(TABLES).files
    generation = old.generation + 1
    with scratch_folder("compact") as scratch:
        made = dict(_put_merged(tables, files, old, generation, remote, scratch))
        new = Manifest(generation, made)
        if new.tables == old.tables:
            new = old
        else:
            remote.put(MANIFEST, new.to_json().encode())
    kept = {each.file for merged in new.tables.values() for each in merged}
    remote.remove(sorted(set(remote.objects(MERGED_FOLDER)) - kept))
    return Compacted(_count(files, old), _count(files, new))


def _put_merged(
    tables: StudyTables,
    files: Mapping[str, Sequence[Path]],
    old: Manifest,
    generation: int,
    remote: Remote,
    scratch: Path,
) -> Iterator[tuple[str, list[Merged]]]:
    for name in TABLES:
        full = [each for each in old.tables.get(name, ()) if each.rows >= FULL_ROWS[name] // 2]
        inside = {flush for each in full for flush in each.flushes}
        groups = _to_merge([path for path in files[name] if path.stem not in inside], FULL_ROWS[name])
        unchanged = {each.flushes: each for each in old.tables.get(name, ())}
        merged = []
        for number, group in enumerate(groups):
            flushes = tuple(path.stem for path in group)
            if flushes in unchanged:
                merged.append(unchanged[flushes])
                continue
            rows = _merged(group, name, tables)
            write_parquet(rows, scratch / "rows.parquet")
            file = f"{MERGED_FOLDER}/{name}/{MERGED}{generation:04d}-{number:05d}.parquet"
            remote.put(file, scratch / "rows.parquet")
            merged.append(Merged(file, len(rows), flushes))
        yield name, [*full, *merged]


def _count(files: Mapping[str, Sequence[Path]], manifest: Manifest) -> int:
    """The files that are read, merged or not."""
    inside = {name: {flush for each in merged for flush in each.flushes} for name, merged in manifest.tables.items()}
    left = sum(path.stem not in inside.get(name, ()) for name, paths in files.items() for path in paths)
    return left + sum(map(len, manifest.tables.values()))
