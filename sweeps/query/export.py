"""Result tables taken out of studies, batch by batch: a table or an answer to a file, or all tables to a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from ..errors import QueryError
from ..storage.object_store import Remote
from ..storage.schema import TABLES
from ..storage.stored_tables import tables_of
from ..storage.tables import Snapshot, exactly
from ..study.study_file import SPEC_FILE
from .confined import Limits
from .files import FileFormat, format_of, write_file
from .query import named_studies, read_study_file, stream_query
from .rows import BATCH_ROWS, dataset_of

_OF_A_STUDY: Final = (*TABLES, "checkpoints", SPEC_FILE, "study.db", "lock")  # what nothing else is written over


@dataclass(frozen=True)
class Place:
    """A file that a table is to be written to, and as what."""

    path: Path
    format: FileFormat


@dataclass(frozen=True)
class Exported:
    """A file that was written, with its rows."""

    path: Path
    rows: int


def place_for(output: Path, name: str, format: FileFormat | None) -> Place:
    """Where one table goes: the file `output`, or one called `name` where that is a folder.

    The format is what is given, or what the file's name says, or CSV in a folder. Raises `QueryError` where the name
    says none, and for a file of a study.
    """
    if output.is_dir():
        chosen = format or FileFormat.CSV
        return Place(_free(output / f"{name}.{chosen}"), chosen)
    return Place(_free(output), format or format_of(output))


def places_in(output: Path, names: Sequence[str], format: FileFormat) -> dict[str, Place]:
    """Where several tables go in a folder, which is made. Raises `QueryError` where `output` is to be a file."""
    if output.is_file() or (not output.exists() and output.suffix.lower().removeprefix(".") in list(FileFormat)):
        raise QueryError(f"a file holds one table: choose it with --table, or give a folder instead of {output}")
    places = {name: Place(_free(output / f"{name}.{format}"), format) for name in names}
    output.mkdir(parents=True, exist_ok=True)
    return places


def export_tables(study_dirs: Sequence[Path | Remote], places: Mapping[str, Place]) -> list[Exported]:
    """Write tables of the studies, all of one moment, in the order of publication; the first column is the study.

    Units stand in the metadata of Parquet and Arrow fields. Raises `QueryError` where a format cannot hold a table,
    and `StudyError` for what is no study or a damaged file.
    """
    found = named_studies(study_dirs)
    for place in found.values():
        read_study_file(place)
    studies = {name: tables_of(place) for name, place in found.items()}

    def write(snapshots: Mapping[str, Snapshot]) -> list[Exported]:
        written = []
        for table, place in places.items():
            dataset = dataset_of(table, studies, snapshots)
            batches = dataset.scanner(batch_size=BATCH_ROWS).to_reader()
            written.append(_write(place, dataset.schema, batches))
        return written

    try:
        return exactly(studies, list(places), write)
    except pa.ArrowException:
        for each in studies.values():
            each.check_files(list(places))
        raise


def export_answer(study_dirs: Sequence[Path | Remote], sql: str, place: Place, limits: Limits) -> Exported:
    """Write the answer to one statement over the studies. Raises as `query` and `export_tables` do."""
    return stream_query(study_dirs, sql, lambda schema, batches: _write(place, schema, batches), limits)


def _write(place: Place, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Exported:
    return Exported(place.path, write_file(place.path, place.format, schema, batches))


def _free(path: Path) -> Path:
    """The path, where it is not among the files of a study."""
    whole = path.resolve()
    for folder in whole.parents:
        if (folder / SPEC_FILE).is_file() and whole.relative_to(folder).parts[0] in _OF_A_STUDY:
            raise QueryError(f"{path} would be among the files of the study {folder}. Write it elsewhere")
    return path
