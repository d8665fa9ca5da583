"""The result tables of a study: published atomically, as plain Parquet.

A flush is published as one file per table that has rows. Curves, fields and weights are written first and trials last,
so a flush exists exactly when its trials file does. A crash leaves orphans, which no reader here looks at. Files are
written under a temporary name, fsynced and renamed, and never changed again. Where a study has an object store, a file
is uploaded before it is renamed: it is published once the store has it.

`compaction` merges the files of many flushes. Readers take a snapshot first, and another one where files were merged
while they were read. Files that are not the study's own are left out with a warning (`own_files`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pinncore.disk import sync_folder
from pinncore.problems.record import ProblemRecord
from pinncore.problems.source import ProblemSource

from ..errors import StudyError, StudyWarning, listed
from . import own_files
from .arrow import from_columns, from_rows
from .object_store import Remote, at_once
from .schema import TABLES, table_schema
from .stored_problem import read_problem

ROWS_PER_GROUP = 65_536  # about ten trials of a field: small enough to skip by trial, large enough to compress

COMPACTION: Final = ".compaction"  # the folder in which table folders are rebuilt
MARK: Final = ".generation-"  # prefix of the file whose name says how often a table was compacted
OLD: Final = "old-"  # prefix, in there, of a table's old folder where two renames replace a swap
MERGED: Final = "compacted-"  # prefix of the files that a compaction wrote
MOST_READS: Final = 10  # of one thing, because a compaction came in between
SWAP_PATIENCE_S: Final = 10.0  # for a compaction between two renames
SWAP_LOOK_S: Final = 0.02

_WITH_TRIALS = ("curves", "fields", "weights")  # tables of a flush that are published before its trials
_ENUMERATED: Final = ("phase",)  # columns with few different values in tables with many rows
_Result = TypeVar("_Result")


class Listing(NamedTuple):
    """The files in the folder of a table, published or not, and the number of its compactions."""

    generation: int
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Snapshot:
    """The published files of some tables at one moment, by table, and the number of compactions of each until then.

    Files in the folders that are not of this `identity` are among them, as only their content tells.
    """

    generations: Mapping[str, int]
    files: Mapping[str, tuple[Path, ...]]
    identity: str


class _SwappingError(Exception):
    """The folder of a table is between two renames."""


class StudyTables:
    """The five tables in a study's folder. One process writes, any number read.

    All files of a table have the columns of the study's problem, whatever its rows lack. Every file is also published
    in the object store `publish_in`, where there is one.
    """

    _filesystem: Any = None  # Arrow's file system of the files

    def __init__(self, study_dir: Path, *, publish_in: Remote | None = None) -> None:
        self.study_dir, self._publish_in = Path(study_dir), publish_in
        self.left_out: dict[str, None] = {}  # files that were found not to be the study's own, below the study

    @functools.cached_property
    def source(self) -> ProblemSource:
        """Return the study's problem. Raises `StudyError` where it cannot be read."""
        return read_problem(self.study_dir)

    @property
    def problem(self) -> ProblemRecord:
        """Return the record of the study's problem. Raises `StudyError` where it cannot be read."""
        return self.source.record

    def schema(self, table: str) -> pa.Schema:
        """Return the schema of the files that are written."""
        return table_schema(table, self.problem)

    def schema_of(self, table: str, parts: Iterable[pa.Schema]) -> pa.Schema:
        """Return the schema of a table whose files have these schemas, and those columns that its problem has now."""
        return unified([self.schema(table), *parts])

    def publish(
        self,
        flush: str,
        *,
        trials: Sequence[Mapping[str, Any]],
        curves: Sequence[Mapping[str, Any]] = (),
        fields: Sequence[Mapping[str, Any]] = (),
        weights: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Publish finished trials under the name `flush`, all tables together or none.

        `trials` holds row dicts; the others hold one column dict per trial, whose scalars stand for a whole column.
        Every table is built before the first is written. Raises `StudyError` where `flush` is already published.
        """
        self._refuse_published("trials", flush)
        built = {
            name: from_columns(columns, self.schema(name))
            for name, columns in (("curves", curves), ("fields", fields), ("weights", weights))
        }
        built["trials"] = from_rows(trials, self.schema("trials"))  # last, and so written last
        identity = self._own_identity()
        if self._publish_in is None:
            for name, table in built.items():
                self._write(name, flush, table, identity)
        else:  # in parallel, as a store answers later than a disk
            at_once(lambda name: self._write(name, flush, built[name], identity), _WITH_TRIALS)
            self._write("trials", flush, built["trials"], identity)

    def publish_events(self, flush: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Publish events under the name `flush`. Raises `StudyError` where `flush` is already published."""
        self._refuse_published("events", flush)
        self._write("events", flush, from_rows(rows, self.schema("events")), self._own_identity())

    def orphans(self) -> list[Path]:
        """Return the files that an interrupted publication left. Only the writer can tell them from one in progress."""
        published = set(self.flushes())
        orphans = [path for name in TABLES for path in sorted((self.study_dir / name).glob(".*.parquet.tmp"))]
        for name in _WITH_TRIALS:
            orphans += [path for path in self._listing(name).files if not _is_published(path.stem, published)]
        return orphans

    def remove_orphans(self) -> list[str]:
        """Delete the files that an interrupted publication left; return their paths. For the writer only."""
        orphans = self.orphans()
        for path in orphans:
            path.unlink()
        for folder in {path.parent for path in orphans}:
            sync_folder(folder)
        names = [path.relative_to(self.study_dir).as_posix() for path in orphans]
        if self._publish_in is not None:
            published, store = set(self.flushes()), self._publish_in
            stored = [name for table in _WITH_TRIALS for name in sorted(store.objects(table))]
            stored = [name for name in stored if PurePosixPath(name).stem not in published]
            self._publish_in.remove(stored)
            names += [name for name in stored if name not in names]
        return names

    def newest_attempt(self) -> int:
        """Return the highest attempt number among the events, 0 where there are none."""
        names = [path.stem.split("-") for path in self._listing("events").files]
        attempts = [int(parts[1]) for parts in names if parts[0] == "attempt" and parts[1].isdigit()]
        merged = self.dataset("events", self._part("events", lambda stem: stem.startswith(MERGED)))
        return max([*attempts, pc.max(merged.to_table(columns=["attempt"])["attempt"]).as_py() or 0])

    def flushes(self) -> list[str]:
        """Return the names of the published flushes, sorted; after a compaction, of the files they were merged into."""
        return [path.stem for path in self._listing("trials").files]

    def snapshot(self, tables: Sequence[str] = TABLES) -> Snapshot:
        """Return the published files of some tables at one moment.

        Trials are listed first, so that every listed flush is complete. A compaction swaps them last: where another
        table is ahead of them, the listing counts only if nothing was published meanwhile. Raises `StudyError` where a
        compaction was cut short between two renames.
        """
        deadline = time.monotonic() + SWAP_PATIENCE_S
        while True:
            try:
                trials = self._listing("trials")
                listings = {name: trials if name == "trials" else self._listing(name) for name in tables}
                if all(listing.generation <= trials.generation for listing in listings.values()):
                    break
                if self._listing("trials") == trials:
                    break
            except _SwappingError:
                if time.monotonic() > deadline:
                    raise StudyError(
                        f"{self.study_dir}: a compaction of its tables was cut short. The next start of the study "
                        "finishes it, and so does pinnsweep compact"
                    ) from None
                time.sleep(SWAP_LOOK_S)
        published = {path.stem for path in trials.files}
        files = {
            name: tuple(path for path in listing.files if name == "events" or _is_published(path.stem, published))
            for name, listing in listings.items()
        }
        generations = {name: listing.generation for name, listing in listings.items()}
        return Snapshot(generations, files, self.identity())

    def has_moved(self, snapshot: Snapshot) -> bool:
        """Return whether a compaction has removed files of a snapshot since."""
        try:
            return any(self._listing(name).generation != number for name, number in snapshot.generations.items())
        except _SwappingError:
            return True

    def files(self, table: str) -> tuple[Path, ...]:
        """Return the published files of a table."""
        return self.snapshot([table]).files[table]

    def identity(self) -> str:
        """Return what the study's own files name it by, empty before the first is written."""
        return own_files.identity_in(self.study_dir)

    def own(self, table: str, paths: Sequence[Path], identity: str) -> dict[Path, pa.Schema]:
        """Return those files of a table that are the study's own, with their schemas, and warn of the others.

        Raises `StudyError` that names a damaged Parquet file, and where the identity of the study is lost.
        """
        if paths and not identity:
            raise StudyError(
                f"{self.study_dir}/{own_files.IDENTITY} is missing or torn, by which a study knows its own files. "
                "Restore it: it holds what pinnsweep_study says in the metadata of these files"
            )
        schemas = dict(zip(paths, self._footers(paths), strict=True))
        own = {
            path: own_files.unmarked(schema)
            for path, schema in schemas.items()
            if own_files.is_own(schema, identity, f"{table}/{path.stem}")
        }
        foreign = [path.name for path in paths if path not in own]
        if foreign:
            self.left_out.update(dict.fromkeys(f"{table}/{name}" for name in foreign))
            warnings.warn(
                f"{self.study_dir}/{table}: left out {listed(foreign)}, which this study did not write. Move it "
                "elsewhere: other programs that read this folder count it",
                StudyWarning,
                stacklevel=2,
            )
        return own

    def dataset(self, table: str, snapshot: Snapshot | None = None, *, enumerated: bool = False) -> ds.Dataset:
        """Return a table as an Arrow dataset of its published files, empty where there is none yet.

        `enumerated` reads columns with few different values as dictionaries, which are faster to group by. Raises
        `StudyError` that names a damaged Parquet file.
        """
        snapshot = snapshot or self.snapshot([table])
        schemas = self.own(table, snapshot.files[table], snapshot.identity)
        schema = self.schema_of(table, schemas.values())
        words = [name for name in _ENUMERATED if enumerated and name in schema.names]
        for name in words:
            place = schema.get_field_index(name)
            schema = schema.set(place, schema.field(place).with_type(pa.dictionary(pa.int32(), pa.string())))
        if not schemas:
            return ds.dataset(schema.empty_table())
        scan = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        return ds.dataset(
            [str(path) for path in schemas],
            schema=schema,
            filesystem=self._filesystem,
            format=ds.ParquetFileFormat(dictionary_columns=words, default_fragment_scan_options=scan),
        )

    def read(self, table: str, *, columns: Sequence[str] | None = None, where: ds.Expression | None = None) -> pa.Table:
        """Return the rows of a table that satisfy `where`. Raises `StudyError` that names a damaged file."""

        def rows(snapshots: Mapping[str, Snapshot]) -> pa.Table:
            dataset = self.dataset(table, snapshots[""])
            return dataset.to_table(columns=list(columns) if columns else None, filter=where)

        try:
            return exactly({"": self}, [table], rows)
        except (pa.ArrowException, OSError):
            self.check_files([table])
            raise

    def trial_rows(self, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return every published trials row, with its flush as `flush`. Raises `StudyError` for a damaged file."""
        if not self.flushes():
            return []
        rows = self.read("trials", columns=[*columns, "__filename"]).to_pylist()
        return [{**row, "flush": Path(row.pop("__filename")).stem} for row in rows]

    def rows_of(self, flushes: Collection[str]) -> list[dict[str, Any]]:
        """Return the trials rows of some flushes, with all columns."""
        dataset = self.dataset("trials", self._part("trials", lambda stem: stem in flushes))
        return dataset.to_table().select(self.schema("trials").names).to_pylist()

    def _part(self, table: str, is_wanted: Callable[[str], bool]) -> Snapshot:
        """Return a snapshot of the files of a table whose names `is_wanted` accepts."""
        snapshot = self.snapshot([table])
        return replace(snapshot, files={table: tuple(p for p in snapshot.files[table] if is_wanted(p.stem))})

    def check_files(self, tables: Sequence[str] = TABLES) -> None:
        """Read every page of every published file. Raises `StudyError` that names the first damaged one."""
        for path in (path for table in tables for path in self.files(table)):
            with self._damage_named(path):
                pq.read_table(str(path), page_checksum_verification=True, filesystem=self._filesystem)

    def _listing(self, table: str) -> Listing:
        """Return every file of a table, from one listing of its folder."""
        folder = self.study_dir / table
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            if (self.study_dir / COMPACTION / f"{OLD}{table}").exists() and not folder.exists():
                raise _SwappingError from None
            names = []
        generation = max((int(name[len(MARK) :]) for name in names if name.startswith(MARK)), default=0)
        visible = sorted(name for name in names if name.endswith(".parquet") and not name.startswith("."))
        return Listing(generation, tuple(folder / name for name in visible))

    def _footers(self, paths: Iterable[Path]) -> list[pa.Schema]:
        return [self._footer(path) for path in paths]

    def _footer(self, path: Path) -> pa.Schema:
        with self._damage_named(path):
            return pq.read_schema(str(path), filesystem=self._filesystem)

    @contextlib.contextmanager
    def _damage_named(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise StudyError(
                f"{path}: not a whole Parquet file ({' '.join(str(error).split())}). It was whole when it was "
                "published, so the disk or a copy damaged it: restore it from a copy, or move it out of the folder to "
                "read the rest of the study without it."
            ) from error

    def _refuse_published(self, table: str, flush: str) -> None:
        path = self.study_dir / table / f"{flush}.parquet"
        if path.exists():
            raise StudyError(
                f"{path}: already published, and published files never change. "
                f"Publish under another name than {flush!r}."
            )

    def _own_identity(self) -> str:
        """Return the identity of the study that is written, drawn where it has none yet."""
        identity = self.identity()
        if not identity:
            identity = own_files.draw_identity(self.study_dir)
            if self._publish_in is not None:
                self._publish_in.put(own_files.IDENTITY, self.study_dir / own_files.IDENTITY)
        return identity

    def _write(self, table: str, flush: str, rows: pa.Table, identity: str) -> None:
        """Publish the rows of a table as one file, no file where there are none."""
        if not rows.num_rows:
            return
        folder = self.study_dir / table
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.study_dir)
        temporary = folder / f".{flush}.parquet.tmp"  # hidden and not *.parquet: no reader's pattern matches it
        write_parquet(own_files.marked(rows, identity, f"{table}/{flush}"), temporary)
        if self._publish_in is not None:
            self._publish_in.put(f"{table}/{flush}.parquet", temporary)
        os.replace(temporary, folder / f"{flush}.parquet")
        sync_folder(folder)


def exactly(
    studies: Mapping[str, StudyTables], tables: Sequence[str], work: Callable[[Mapping[str, Snapshot]], _Result]
) -> _Result:
    """Return the result of `work` on a snapshot of each study, repeated where a compaction removed files meanwhile."""
    for _ in range(MOST_READS):
        snapshots = {name: study.snapshot(tables) for name, study in studies.items()}
        try:
            return work(snapshots)
        except Exception:
            if not any(study.has_moved(snapshots[name]) for name, study in studies.items()):
                raise
    raise StudyError(f"the tables were compacted {MOST_READS} times while they were read. Try again")


def of_member(trial: int, replicate: int) -> ds.Expression:
    """Return the filter for the rows of one replicate of a trial, in any table."""
    return (ds.field("trial") == trial) & (ds.field("replicate") == replicate)


def unified(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Return one schema with the columns of all."""
    distinct = {schema.serialize().to_pybytes(): schema for schema in schemas}
    return pa.unify_schemas(list(distinct.values()), promote_options="permissive")


def write_parquet(rows: pa.Table, file: Path) -> None:
    """Write a file and sync it to disk."""
    with file.open("wb") as stream:
        pq.write_table(rows, stream, compression="zstd", row_group_size=ROWS_PER_GROUP, write_page_checksum=True)
        stream.flush()
        os.fsync(stream.fileno())


def _is_published(stem: str, published: Collection[str]) -> bool:
    """Return whether a file holds published rows; a compaction merges only such files."""
    return stem in published or stem.startswith(MERGED)
