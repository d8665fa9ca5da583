"""The result tables of a study: explicit schemas, atomic publication, plain Parquet.

A flush is published as one file per table. Curves, fields and weights are written first and trials last, so a flush
exists exactly when its trials file does; what a crash leaves behind is an orphan no reader here looks at. Files are
written beside their name, fsynced and renamed, and never touched again. `docs/tables.md` describes every column.
"""

from __future__ import annotations

import json
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pinncore.problems import PROBLEMS
from pinncore.settings import TrainSettings

from .errors import StudyError

Section = Literal["train", "problem"]

TABLES = ("trials", "curves", "fields", "weights", "events")
SCHEMA_VERSION = 1
ROWS_PER_GROUP = 65_536  # about ten trials of a field: small enough to skip by trial, large enough to compress
LOSS_TERMS = {"nonlocal_strain": ("residual", "lrb", "btb")}

_FLUSH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TIME = pa.timestamp("us", tz="UTC")


# ---- schemas -------------------------------------------------------------------------------------------------------


def _column(name: str, kind: pa.DataType, unit: str | None = None) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit} if unit else None)


def _columns(kind: pa.DataType, unit: str | None, names: str) -> tuple[pa.Field, ...]:
    return tuple(_column(name, kind, unit) for name in names.split())


_IDENTITY = (
    *_columns(pa.int32(), None, "trial replicate"),
    *_columns(pa.string(), None, "state"),
    *_columns(pa.int32(), None, "pack member"),
    *_columns(pa.int64(), None, "seed"),
    *_columns(pa.int32(), None, "attempt"),
)
_RESULTS = (
    *_columns(pa.float64(), "1", "rel_l2 paper_metric process_zone_error distance_to_local mean_abs_du_de"),
    *_columns(pa.float64(), "1", "heldout_residual loss grad_norm"),
    *_columns(pa.string(), None, "stop_reason stop_advice failure"),
    *_columns(pa.int32(), "count", "parameters"),
    *_columns(pa.int64(), "count", "adam_epochs_done lbfgs_iterations_done"),
    *_columns(pa.int64(), "count", "adam_evaluations lbfgs_evaluations evaluations"),
    *_columns(pa.float64(), "s", "adam_seconds lbfgs_seconds seconds"),
    *_columns(_TIME, None, "started_at finished_at"),
    *_columns(pa.string(), None, "engine_used device host python_version torch_version pinnsweep_version"),
    *_columns(pa.string(), None, "data_hash config_hash spec_hash"),
)


def trials_schema(problem: str = "nonlocal_strain", terms: Sequence[str] | None = None) -> pa.Schema:
    """One row per trial and replicate: state, every setting, every metric, costs, provenance."""
    term_columns = [_column(name, pa.float64(), "1") for name in _term_names(problem, terms)]
    after_loss = [field.name for field in _RESULTS].index("loss") + 1
    results = [*_RESULTS[:after_loss], *term_columns, *_RESULTS[after_loss:]]
    return _schema("trials", [*_IDENTITY, *_setting_fields(problem), *results])


def curves_schema(problem: str = "nonlocal_strain", terms: Sequence[str] | None = None) -> pa.Schema:
    """The course of training, one row every `record_every` epochs or iterations."""
    terms_and_norms = ["loss", *_term_names(problem, terms), "grad_norm", "rel_l2"]
    return _schema(
        "curves",
        [
            *_columns(pa.int32(), None, "trial replicate"),
            *_columns(pa.string(), None, "phase"),
            *_columns(pa.int32(), "count", "step"),
            *_columns(pa.int64(), "count", "evaluations"),
            *_columns(pa.float64(), "1", " ".join(terms_and_norms)),
            *_columns(pa.float64(), "s", "time_s"),
        ],
    )


def fields_schema() -> pa.Schema:
    """The predicted field at every Gauss point, beside the reference and the local strain."""
    return _schema(
        "fields",
        [
            *_columns(pa.int32(), None, "trial replicate"),
            *_columns(pa.float64(), "mm", "x_mm y_mm"),
            *_columns(pa.float64(), "1", "predicted reference local"),
        ],
    )


def weights_schema() -> pa.Schema:
    """The weights of the kept epochs, one row per number."""
    return _schema(
        "weights",
        [
            *_columns(pa.int32(), None, "trial replicate"),
            *_columns(pa.int32(), "count", "epoch"),
            *_columns(pa.int32(), None, "layer row column"),
            *_columns(pa.float64(), "1", "value"),
        ],
    )


def events_schema() -> pa.Schema:
    """What happened when."""
    return _schema(
        "events",
        [
            *_columns(_TIME, None, "time"),
            *_columns(pa.int32(), None, "attempt trial pack"),
            *_columns(pa.string(), None, "event detail"),
        ],
    )


def setting_columns(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The columns of a trials row that a member's resolved configuration fills, the problem's name among them."""
    problem = {name: value for name, value in config["problem"].items() if name != "name"}
    settings = {column_of("train", name): value for name, value in config["train"].items()}
    settings |= {column_of("problem", name): value for name, value in problem.items()}
    return {"problem": config["problem"]["name"], **settings}


def config_of(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The resolved configuration in a trials row: what `setting_columns` made a row of, as plain JSON values."""
    config: dict[str, dict[str, Any]] = {"train": {}, "problem": {"name": row["problem"]}}
    for section, field, hint in _settings(row["problem"]):
        value = row[column_of(section, field)]
        as_json = isinstance(value, str) and hint is not str and value.startswith(("[", "{"))
        config[section][field] = json.loads(value) if as_json else value
    return config


def column_of(section: Section, name: str) -> str:
    """The trials column of a setting: its own name, or `problem_loss` where a metric already has that name."""
    taken = any(name == field.name for field in (*_IDENTITY, *_RESULTS))
    return f"{section}_{name}" if taken else name


def _setting_fields(problem: str) -> list[pa.Field]:
    found = [_column("problem", pa.string())]
    for section, name, hint in _settings(problem):
        kind = _arrow_type(hint)
        unit = "1" if kind == pa.float64() else "count" if kind == pa.int64() else None
        found.append(_column(column_of(section, name), kind, unit))
    return found


def _settings(problem: str) -> Iterator[tuple[Section, str, Any]]:
    """Section, name and annotation of every setting."""
    sections: tuple[tuple[Section, type], ...] = (("train", TrainSettings), ("problem", PROBLEMS[problem]))
    for section, settings in sections:
        hints = typing.get_type_hints(settings, include_extras=True)
        yield from ((section, field.name, hints[field.name]) for field in dataclass_fields(settings))


def _arrow_type(hint: Any) -> pa.DataType:
    """The column type of an annotation; what is neither a number nor a truth value becomes text, lists as JSON."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _arrow_type(arguments[0])
    if origin is Literal:
        kinds = {_arrow_type(type(value)) for value in arguments}
        return kinds.pop() if len(kinds) == 1 else pa.string()
    if origin in (typing.Union, types.UnionType):
        kinds = {_arrow_type(argument) for argument in arguments if argument is not type(None)}
        return kinds.pop() if len(kinds) == 1 else pa.string()
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(hint, pa.string())


def _term_names(problem: str, terms: Sequence[str] | None) -> list[str]:
    return [f"loss_{term}" for term in (LOSS_TERMS[problem] if terms is None else terms)]


def _schema(table: str, columns: Sequence[pa.Field]) -> pa.Schema:
    return pa.schema(columns, metadata={"pinnsweep_table": table, "pinnsweep_schema_version": str(SCHEMA_VERSION)})


# ---- writing and reading -------------------------------------------------------------------------------------------


class StudyTables:
    """The five tables in a study's folder. One process writes, any number read.

    The loss terms and the problem fix the schemas, so that all files of a table have the same columns whatever a
    row lacks.
    """

    def __init__(
        self, study_dir: Path, *, problem: str = "nonlocal_strain", terms: Sequence[str] | None = None
    ) -> None:
        self.study_dir = Path(study_dir)
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
        for name, table in built.items():
            self._write(name, flush, table)

    def publish_events(self, flush: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Publish events under the name `flush`."""
        self._refuse_published("events", flush)
        self._write("events", flush, _from_rows(rows, self.schemas["events"]))

    def remove_orphans(self) -> list[str]:
        """Delete what an interrupted publication left behind; returns the paths, relative to the study.

        Only the writer may call this: to anybody else a publication in progress looks the same.
        """
        published = set(self.flushes())
        orphans = [path for name in TABLES for path in sorted((self.study_dir / name).glob(".*.parquet.tmp"))]
        for name in ("curves", "fields", "weights"):
            orphans += [path for path in _parquet_files(self.study_dir / name) if path.stem not in published]
        for path in orphans:
            path.unlink()
        for folder in {path.parent for path in orphans}:
            _fsync_folder(folder)
        return [path.relative_to(self.study_dir).as_posix() for path in orphans]

    def flushes(self) -> list[str]:
        """The names of the published flushes, sorted."""
        return [path.stem for path in _parquet_files(self.study_dir / "trials")]

    def files(self, table: str) -> list[Path]:
        """The published files of a table. Trials are listed first, so a flush seen is a flush whole."""
        flushes = self.flushes()
        found = _parquet_files(self.study_dir / table)
        return found if table in ("trials", "events") else [path for path in found if path.stem in set(flushes)]

    def dataset(self, table: str) -> ds.Dataset:
        """A table as an Arrow dataset of its published files, empty where there is none yet.

        Raises `StudyError` naming a file that is not a whole Parquet file.
        """
        paths = self.files(table)
        schemas = [self.schemas[table], *(_footer(path) for path in paths)]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        if not paths:
            return ds.dataset(schema.empty_table())
        scan = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        return ds.dataset(
            [str(path) for path in paths],
            schema=schema,
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

    def check_files(self, tables: Sequence[str] = TABLES) -> None:
        """Read every page of every published file; raises `StudyError` naming the first damaged one."""
        for path in (path for table in tables for path in self.files(table)):
            try:
                pq.read_table(path, page_checksum_verification=True)
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
            _fsync_folder(self.study_dir)
        temporary = folder / f".{flush}.parquet.tmp"  # neither *.parquet nor visible: no reader's pattern meets it
        with temporary.open("wb") as stream:
            pq.write_table(rows, stream, compression="zstd", row_group_size=ROWS_PER_GROUP, write_page_checksum=True)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, folder / f"{flush}.parquet")
        _fsync_folder(folder)


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


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


def _footer(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> StudyError:
    reason = " ".join(str(error).split())
    return StudyError(
        f"{path}: not a whole Parquet file ({reason}). It was whole when it was published, so the disk or a copy "
        "damaged it: restore it from a copy, or move it out of the folder to read the rest of the study without it."
    )


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
