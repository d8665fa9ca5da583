"""Export of result tables, batch by batch: one table or the answer to a query to a file, or all tables to a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from ..errors import QueryError
from ..storage.object_store import Remote
from ..storage.own_files import IDENTITY
from ..storage.schema import TABLES
from ..storage.tables import Snapshot, exactly
from ..study.study_file import SPEC_FILE
from .confined import Limits
from .files import format_of, write_file
from .formats import FileFormat
from .query import OpenStudies, stream_query
from .rows import BATCH_ROWS, checking_files, dataset_of

# exports do not write over these
_OF_A_STUDY: Final = (*TABLES, "checkpoints", SPEC_FILE, "study.db", "lock", IDENTITY)


@dataclass(frozen=True)
class Place:
    """The file that a table is to be written to, and its format."""

    path: Path
    format: FileFormat


@dataclass(frozen=True)
class Exported:
    """A file that was written, and the number of its rows."""

    path: Path
    rows: int


def place_for(output: Path, name: str, format: FileFormat | None) -> Place:
    """Return the place of one table: the file `output`, or a file called `name` in it where that is a folder.

    Without `format` the ending of the file name decides; in a folder it is CSV. Raises `QueryError` where the ending
    is no format, and where the file would be among those of a study.
    """
    if output.is_dir():
        chosen = format or FileFormat.CSV
        return Place(_checked(output / f"{name}.{chosen}"), chosen)
    return Place(_checked(output), format or format_of(output))


def places_in(output: Path, names: Sequence[str], format: FileFormat) -> dict[str, Place]:
    """Return the places of several tables in a folder, and create the folder.

    Raises `QueryError` where `output` is a file or is named like one.
    """
    if output.is_file() or (not output.exists() and output.suffix.lower().removeprefix(".") in list(FileFormat)):
        raise QueryError(f"a file holds one table: choose the table with --table, or give a folder instead of {output}")
    places = {name: Place(_checked(output / f"{name}.{format}"), format) for name in names}
    output.mkdir(parents=True, exist_ok=True)
    return places


def export_tables(study_dirs: Sequence[Path | Remote], places: Mapping[str, Place]) -> list[Exported]:
    """Write tables of the studies as published at one moment, in the order of publication.

    The first column is the study. Parquet and Arrow files have the units in the metadata of their fields. Raises
    `QueryError` where a format cannot hold a table, and `StudyError` where a folder is not a study or a file is
    damaged.
    """
    studies = OpenStudies(study_dirs).tables

    def write(snapshots: Mapping[str, Snapshot]) -> list[Exported]:
        files = []
        for table, place in places.items():
            dataset = dataset_of(table, studies, snapshots)
            batches = dataset.scanner(batch_size=BATCH_ROWS).to_reader()
            files.append(_write(place, dataset.schema, batches))
        return files

    with checking_files(studies, list(places)):
        return exactly(studies, list(places), write)


def export_answer(study_dirs: Sequence[Path | Remote], sql: str, place: Place, limits: Limits) -> Exported:
    """Write the answer to one SQL statement over the studies. Raises what `query` and `export_tables` raise."""
    return stream_query(study_dirs, sql, lambda schema, batches: _write(place, schema, batches), limits)


def _write(place: Place, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Exported:
    return Exported(place.path, write_file(place.path, place.format, schema, batches))


def _checked(path: Path) -> Path:
    """Return the path. Raises `QueryError` where it is among the files of a study."""
    resolved = path.resolve()
    for folder in resolved.parents:
        if (folder / SPEC_FILE).is_file() and resolved.relative_to(folder).parts[0] in _OF_A_STUDY:
            raise QueryError(f"{path} would be among the files of the study {folder}. Write it elsewhere")
    return path
