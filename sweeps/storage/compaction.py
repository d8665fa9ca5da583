"""Compaction: the many small files of a study's tables are merged into few, with the same rows, sorted by trial.

In a folder, the folder of each table is rebuilt beside the old one and swapped with it, trials last. A reader of the
old folder may miss a file and gets an error, but never counts a row twice; a reader with a snapshot reads again. Files
that belong to no published row are left alone. In an object store the files of flushes stay and a manifest names the
merged ones.

Only the holder of the study's lock may compact it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.scratch import scratch_folder
from pinncore.disk import sync_folder

from .object_store import MANIFEST, MERGED_FOLDER, Remote
from .own_files import marked, unmarked
from .schema import TABLES
from .stored_tables import Manifest, Merged, read_manifest
from .tables import COMPACTION, MARK, MERGED, OLD, StudyTables, write_parquet

FULL_ROWS: Final = {"trials": 50_000, "curves": 1_000_000, "fields": 2_000_000, "weights": 2_000_000, "events": 500_000}
DUE_FILES: Final = 64  # with more small files of trials or events than this, the end of a run compacts

_ORDER: Final = ("events", "curves", "fields", "weights", "trials")  # tables that trials refer to are swapped first
_SORTED_BY: Final = {"events": ("time",)}
_AT_FDCWD: Final = -100  # arguments of renameat2
_EXCHANGE: Final = 2


@dataclass(frozen=True)
class Compacted:
    """The number of files of all tables before and after."""

    before: int
    after: int


def is_due(tables: StudyTables) -> bool:
    """Return whether a study has enough small files for a compaction to be worth its time."""
    files = tables.snapshot(["trials", "events"]).files
    return any(sum(not path.stem.startswith(MERGED) for path in paths) > DUE_FILES for paths in files.values())


def compact(tables: StudyTables, remote: Remote | None = None) -> Compacted:
    """Merge the files of a study's tables; `remote` is its object store, where it has one. Return the numbers of files.

    Raises `StudyError` for a damaged file, and `OSError` where the disk is full. Nothing has changed then.
    """
    recover(tables.study_dir)
    try:
        return _in_folder(tables) if remote is None else _in_store(tables, remote)
    except (pa.ArrowException, OSError) as problem:
        if not getattr(problem, "errno", None):  # an error of Arrow about a file, not of the system
            tables.check_files()
        raise


def recover(study_dir: Path) -> None:
    """Finish a compaction that was cut short between two renames, and remove its leftovers; for the writer only."""
    rebuilt = study_dir / COMPACTION
    if not rebuilt.exists():
        return
    for table in TABLES:
        if not (study_dir / table).exists() and (rebuilt / f"{OLD}{table}").exists():
            os.rename(rebuilt / table, study_dir / table)
            sync_folder(study_dir)
    shutil.rmtree(rebuilt, ignore_errors=True)  # network file systems keep files that are open for a while


def leftover(study_dir: Path) -> Path | None:
    """Return the folder left by a compaction that was cut short; None where there is none or `recover` needs it."""
    rebuilt = study_dir / COMPACTION
    is_needed = any(not (study_dir / table).exists() and (rebuilt / f"{OLD}{table}").exists() for table in TABLES)
    return rebuilt if rebuilt.exists() and not is_needed else None


# ---- in a folder ---------------------------------------------------------------------------------------------------


def _in_folder(tables: StudyTables) -> Compacted:
    snapshot = tables.snapshot(TABLES)
    files = {name: list(tables.own(name, paths, snapshot.identity)) for name, paths in snapshot.files.items()}
    before = sum(map(len, files.values()))
    groups = {name: _groups(paths, FULL_ROWS[name]) for name, paths in files.items()}
    if not any(groups.values()):
        return Compacted(before, before)
    rebuilt, generation = tables.study_dir / COMPACTION, 1 + max(snapshot.generations.values())
    try:
        for name in _ORDER:
            _make_folder(tables, name, groups[name], rebuilt / name, generation, snapshot.identity)
        sync_folder(rebuilt)
        for name in _ORDER:
            _swap(rebuilt / name, tables.study_dir / name)
            sync_folder(tables.study_dir)
    finally:
        recover(tables.study_dir)
    return Compacted(before, before - sum(len(group) - 1 for parts in groups.values() for group in parts))


def _groups(paths: Sequence[Path], full_rows: int) -> list[list[Path]]:
    """Return groups of files, each to be merged into one file; large files and groups of one are left out."""
    groups: list[list[Path]] = []
    group_rows = 0
    for path in paths:
        file_rows = pq.read_metadata(path).num_rows
        if path.stem.startswith(MERGED) and file_rows >= full_rows // 2:
            continue
        if not groups or group_rows + file_rows > full_rows:
            groups.append([])
            group_rows = 0
        groups[-1].append(path)
        group_rows += file_rows
    return [group for group in groups if len(group) > 1]


def _make_folder(
    tables: StudyTables, name: str, groups: Sequence[Sequence[Path]], folder: Path, generation: int, identity: str
) -> None:
    folder.mkdir(parents=True)
    old = tables.study_dir / name
    merged = {path for group in groups for path in group}
    for number, group in enumerate(groups):
        stem = f"{MERGED}{generation:04d}-{number:05d}"
        rows = marked(_merged(group, name, tables), identity, f"{name}/{stem}")
        write_parquet(rows, folder / f"{stem}.parquet")
    for path in sorted(old.glob("*.parquet")) if old.exists() else ():
        if path not in merged:
            _link(path, folder / path.name)
    (folder / f"{MARK}{generation}").touch()
    sync_folder(folder)


def _merged(paths: Sequence[Path], name: str, tables: StudyTables) -> pa.Table:
    """Return the rows of some files, sorted by trial and replicate; the sort is stable."""
    parts = [pq.read_table(path, partitioning=None, page_checksum_verification=True) for path in paths]
    parts = [part.replace_schema_metadata(unmarked(part.schema).metadata) for part in parts]
    schema = tables.schema_of(name, [part.schema for part in parts])
    rows = pa.concat_tables([schema.empty_table(), *parts], promote_options="permissive")
    keys = _SORTED_BY.get(name, ("trial", "replicate"))
    return rows.sort_by([(key, "ascending") for key in keys]).cast(schema)


def _link(path: Path, beside: Path) -> None:
    try:
        os.link(path, beside)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, beside)


def _swap(new: Path, table: Path) -> None:
    """Put a folder in the place of another, atomically where the system can."""
    if not table.exists():
        os.rename(new, table)
        return
    with contextlib.suppress(NotImplementedError):
        _exchange(new, table)
        return
    os.rename(table, new.with_name(f"{OLD}{table.name}"))
    os.rename(new, table)


def _exchange(one: Path, other: Path) -> None:
    """Swap two paths atomically. Raises `NotImplementedError` where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise NotImplementedError
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) != 0:
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise NotImplementedError
        raise OSError(code, os.strerror(code), str(other))


# ---- in an object store --------------------------------------------------------------------------------------------


def _in_store(tables: StudyTables, remote: Remote) -> Compacted:
    """Merge the files in the study's home, which are the same as in the store."""
    old, snapshot = read_manifest(remote), tables.snapshot(TABLES)
    files = {name: list(tables.own(name, paths, snapshot.identity)) for name, paths in snapshot.files.items()}
    generation, merged = old.generation + 1, dict[str, list[Merged]]()
    with scratch_folder("compact") as scratch:
        for name in TABLES:
            merged[name] = [part for part in old.tables.get(name, ()) if part.rows >= FULL_ROWS[name] // 2]
            flushes_of_full = {flush for part in merged[name] for flush in part.flushes}
            by_flushes = {part.flushes: part for part in old.tables.get(name, ())}
            paths = [path for path in files[name] if path.stem not in flushes_of_full]
            for number, group in enumerate(_groups(paths, FULL_ROWS[name])):
                flushes = tuple(path.stem for path in group)
                if flushes not in by_flushes:
                    stem = f"{MERGED}{generation:04d}-{number:05d}"
                    file = f"{MERGED_FOLDER}/{name}/{stem}.parquet"
                    rows = marked(_merged(group, name, tables), snapshot.identity, f"{name}/{stem}")
                    write_parquet(rows, scratch / "rows.parquet")
                    remote.put(file, scratch / "rows.parquet")
                    by_flushes[flushes] = Merged(file, len(rows), flushes)
                merged[name].append(by_flushes[flushes])
        new = Manifest(generation, merged)
        if new.tables == old.tables:
            new = old
        else:
            remote.put(MANIFEST, new.to_json().encode())
    kept = {part.file for parts in new.tables.values() for part in parts}
    remote.remove(sorted(set(remote.objects(MERGED_FOLDER)) - kept))
    return Compacted(_count(files, old), _count(files, new))


def _count(files: Mapping[str, Sequence[Path]], manifest: Manifest) -> int:
    """Return the number of files that are read, merged or not."""
    merged = {name: {flush for part in parts for flush in part.flushes} for name, parts in manifest.tables.items()}
    single = sum(path.stem not in merged.get(name, ()) for name, paths in files.items() for path in paths)
    return single + sum(map(len, manifest.tables.values()))
