"""The result tables of a study: published atomically, as plain Parquet.

A flush is published as one file per table. Curves, fields and weights are written first and trials last, so a flush
exists exactly when its trials file does; what a crash leaves behind is an orphan no reader here looks at. Files are
written beside their name, fsynced and renamed, and never touched again. Of a study in an object store a file counts
once it is there: it is put there before it is renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pinncore.checkpoint import sync_folder

from .errors import StudyError
from .remote import Remote, at_once
from .schemas import TABLES as TABLES
from .schemas import column_of as column_of
from .schemas import config_of as config_of
from .schemas import curves_schema, events_schema, fields_schema, weights_schema
from .schemas import setting_columns as setting_columns
from .schemas import trials_schema as trials_schema

ROWS_PER_GROUP = 65_536  # about ten trials of a field: small enough to skip by trial, large enough to compress

_WITH_TRIALS = ("curves", "fields", "weights")  # of a flush, published before its trials
_FLUSH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class StudyTables:
    """The five tables in a study's folder. One process writes, any number read.

    The loss terms and the problem fix the schemas, so that all files of a table have the same columns whatever a
    row lacks. In the object store `publish_in` every file is published too.
    """

    _filesystem: Any = None  # Arrow's, of the files

    def __init__(
        self,
        study_dir: Path,
        *,
        problem: str = "nonlocal_strain",
        terms: Sequence[str] | None = None,
        publish_in: Remote | None = None,
    ) -> None:
        self.study_dir, self._publish_in = Path(study_dir), publish_in
        self.schemas: dict[str, pa.Schema] = {
            "trials": trials_schema(problem, terms),
            "curves": curves_schema(problem, terms),
            "fields": fields_schema(),
            "weights": weights_schema(),
            "events": events_schema(),
        }

    def publish(
        self,
        flush: str,
        *,
        trials: Sequence[Mapping[str, Any]],
        curves: Sequence[Mapping[str, Any]] = (),
        fields: Sequence[Mapping[str, Any]] = (),
        weights: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Publish finished trials under the name `flush`: afterwards all of it is there, or none of it counts.

        `trials` holds row dicts; the others hold one column dict per trial, scalars standing for the whole column.
        Every table is built before the first is written. Raises `StudyError` where `flush` is already published.
        """
        self._refuse_published("trials", flush)
        built = {
            name: _from_columns(columns, self.schemas[name])
            for name, columns in (("curves", curves), ("fields", fields), ("weights", weights))
        }
        built["trials"] = _from_rows(trials, self.schemas["trials"])  # last, and so written last
        if self._publish_in is None:
            for name, table in built.items():
                self._write(name, flush, table)
        else:  # its answers take longer than a disk's
            at_once(lambda name: self._write(name, flush, built[name]), _WITH_TRIALS)
            self._write("trials", flush, built["trials"])

    def publish_events(self, flush: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Publish events under the name `flush`."""
        self._refuse_published("events", flush)
        self._write("events", flush, _from_rows(rows, self.schemas["events"]))

    def orphans(self) -> list[Path]:
        """What an interrupted publication left here. To anybody but the writer one in progress looks the same."""
        published = set(self.flushes())
        left = [path for name in TABLES for path in sorted((self.study_dir / name).glob(".*.parquet.tmp"))]
        for name in _WITH_TRIALS:
            left += [path for path in self._parquet_files(name) if path.stem not in published]
        return left

    def remove_orphans(self) -> list[str]:
        """Delete what an interrupted publication left behind, which only the writer may; returns the paths."""
        orphans = self.orphans()
        for path in orphans:
            path.unlink()
        for folder in {path.parent for path in orphans}:
            sync_folder(folder)
        names = [path.relative_to(self.study_dir).as_posix() for path in orphans]
        if self._publish_in is not None:
            stored = self._stored_orphans(self._publish_in)
            self._publish_in.remove(stored)
            names = list(dict.fromkeys([*names, *stored]))
        return names

    def _stored_orphans(self, store: Remote) -> list[str]:
        published = set(self.flushes())
        stored = (name for table in _WITH_TRIALS for name in store.objects(table))
        return sorted(name for name in stored if PurePosixPath(name).stem not in published)

    def newest_attempt(self) -> int:
        """The highest attempt number among the events, 0 where there are none."""
        names = [path.stem.split("-") for path in self._parquet_files("events")]
        return max((int(parts[1]) for parts in names if parts[0] == "attempt" and parts[1].isdigit()), default=0)

    def flushes(self) -> list[str]:
        """The names of the published flushes, sorted."""
        return [path.stem for path in self._parquet_files("trials")]

    def files(self, table: str, flushes: Collection[str] | None = None) -> list[Path]:
        """The published files of a table, of `flushes` alone where given.

        Trials are listed first, so that a flush seen is a flush whole. Who reads several tables together lists the
        flushes once and hands them to each. Events belong to no flush and are always all there.
        """
        published = set(self.flushes() if flushes is None else flushes)
        return [path for path in self._parquet_files(table) if table == "events" or path.stem in published]

    def dataset(self, table: str, flushes: Collection[str] | None = None) -> ds.Dataset:
        """A table as an Arrow dataset of its published files, empty where there is none yet.

        Raises `StudyError` naming a file that is not a whole Parquet file.
        """
        paths = self.files(table, flushes)
        schemas = [self.schemas[table], *self._footers(paths)]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        if not paths:
            return ds.dataset(schema.empty_table())
        scan = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        return ds.dataset(
            [str(path) for path in paths],
            schema=schema,
            filesystem=self._filesystem,
            format=ds.ParquetFileFormat(default_fragment_scan_options=scan),
        )

    def read(self, table: str, *, columns: Sequence[str] | None = None, where: ds.Expression | None = None) -> pa.Table:
        """The rows of a table that satisfy `where`. Raises `StudyError` naming a damaged file."""
        dataset = self.dataset(table)
        try:
            return dataset.to_table(columns=list(columns) if columns else None, filter=where)
        except (pa.ArrowException, OSError):
            self.check_files([table])
            raise

    def published_trials(self) -> pa.Table:
        """Every published trials row."""
        return self.read("trials")

    def trial_rows(self, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Every published trials row, its flush as `flush`. Raises `StudyError` for a damaged file."""
        if not self.flushes():
            return []
        dataset = self.dataset("trials")
        try:
            rows = dataset.scanner(columns=[*columns, "__filename"]).to_table().to_pylist()
        except (pa.ArrowException, OSError):
            self.check_files(["trials"])
            raise
        return [{**row, "flush": Path(row.pop("__filename")).stem} for row in rows]

    def rows_of(self, flushes: Collection[str]) -> list[dict[str, Any]]:
        """The whole trials rows of some flushes."""
        return self.dataset("trials", flushes).to_table().select(self.schemas["trials"].names).to_pylist()

    def check_files(self, tables: Sequence[str] = TABLES) -> None:
        """Read every page of every published file; raises `StudyError` naming the first damaged one."""
        for path in (path for table in tables for path in self.files(table)):
            with self._damage_named(path):
                pq.read_table(str(path), page_checksum_verification=True, filesystem=self._filesystem)

    def _parquet_files(self, table: str) -> list[Path]:
        return sorted(path for path in (self.study_dir / table).glob("*.parquet") if not path.name.startswith("."))

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
            raise _damaged(path, error) from error

    def _refuse_published(self, table: str, flush: str) -> None:
        if not _FLUSH_NAME.fullmatch(flush):
            raise ValueError(f"flush must be letters, digits, dots, dashes and underscores, got {flush!r}")
        path = self.study_dir / table / f"{flush}.parquet"
        if path.exists():
            raise StudyError(
                f"{path}: already published, and published files never change. "
                f"Publish under another name than {flush!r}."
            )

    def _write(self, table: str, flush: str, rows: pa.Table) -> None:
        folder = self.study_dir / table
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.study_dir)
        temporary = folder / f".{flush}.parquet.tmp"  # neither *.parquet nor visible: no reader's pattern meets it
        with temporary.open("wb") as stream:
            pq.write_table(rows, stream, compression="zstd", row_group_size=ROWS_PER_GROUP, write_page_checksum=True)
            stream.flush()
            os.fsync(stream.fileno())
        if self._publish_in is not None:
            self._publish_in.put(f"{table}/{flush}.parquet", temporary)
        os.replace(temporary, folder / f"{flush}.parquet")
        sync_folder(folder)


class StoredTables(StudyTables):
    """The tables of a study in an object store, to be read."""

    def __init__(self, remote: Remote) -> None:
        super().__init__(Path(remote.path("")))
        self._remote = remote

    @property
    def _filesystem(self) -> Any:
        return self._remote.filesystem

    def _parquet_files(self, table: str) -> list[Path]:
        return sorted(
            Path(self._remote.path(name)) for name in self._remote.objects(table) if name.endswith(".parquet")
        )

    def _footers(self, paths: Iterable[Path]) -> list[pa.Schema]:
        return at_once(self._footer, paths)

    @contextlib.contextmanager
    def _damage_named(self, path: Path) -> Iterator[None]:
        with super()._damage_named(path), self._remote.explained():
            yield


def tables_of(place: Path | Remote) -> StudyTables:
    """The tables of a study in a folder or an object store."""
    return StoredTables(place) if isinstance(place, Remote) else StudyTables(place)


def _from_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    for row in rows:
        _refuse_unknown(row, schema)
    arrays = [pa.array([_plain(row.get(field.name), field.type) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _from_columns(parts: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *(_from_part(part, schema) for part in parts)])


def _from_part(part: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    _refuse_unknown(part, schema)
    lengths = {name: len(value) for name, value in part.items() if isinstance(value, (np.ndarray, list, tuple))}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of one trial must be equally long, got {lengths}")
    length = next(iter(lengths.values()), 1)
    arrays = [
        pa.array(part[field.name], field.type)
        if field.name in lengths
        else pa.repeat(pa.scalar(_plain(part.get(field.name), field.type), field.type), length)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _refuse_unknown(columns: Mapping[str, Any], schema: pa.Schema) -> None:
    if unknown := sorted(set(columns) - set(schema.names)):
        raise ValueError(f"no such columns in the table {schema.metadata[b'pinnsweep_table'].decode()}: {unknown}")


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A value as its column stores it: lists and dicts as JSON text, numpy scalars as Python ones."""
    if isinstance(value, np.generic):
        value = value.item()
    if kind == pa.string() and value is not None and not isinstance(value, str):
        return json.dumps(value, sort_keys=True)
    return float(value) if kind == pa.float64() and isinstance(value, int) else value


def _damaged(path: Path, error: Exception) -> StudyError:
    reason = " ".join(str(error).split())
    return StudyError(
        f"{path}: not a whole Parquet file ({reason}). It was whole when it was published, so the disk or a copy "
        "damaged it: restore it from a copy, or move it out of the folder to read the rest of the study without it."
    )
