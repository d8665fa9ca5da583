"""Tables of one or several studies as one, read on demand in their state at that moment."""

from __future__ import annotations

import contextlib
import html
import importlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds

from ..errors import QueryError, StudyError, SweepError
from ..storage.tables import Snapshot, StudyTables, exactly, unified
from .blocks import Listing, html_of_table, html_of_text
from .statement import column_hint
from .text import render
from .values import is_number, unit_of

if TYPE_CHECKING:
    import polars as pl

ORDER: Final = {  # the columns that the rows of a table are sorted by
    "trials": ("trial", "replicate"),
    "curves": ("trial", "replicate"),
    "fields": ("trial", "replicate"),
    "weights": ("trial", "replicate", "epoch", "layer", "row", "column"),
    "events": ("time",),
}
BATCH_ROWS: Final = 65_536
_HEAD_ROWS: Final = 10  # shown in a notebook
_TEXT_ROWS: Final = 5  # shown as text
_Result = TypeVar("_Result")


def dataset_of(
    table: str,
    studies: Mapping[str, StudyTables],
    snapshots: Mapping[str, Snapshot],
    *,
    named: bool = True,
    enumerated: bool = False,
) -> ds.Dataset:
    """Return a table of all studies as one Arrow dataset; columns that a study lacks are null.

    Where `named`, the first column `study` holds the names of `studies`. Raises `StudyError` where a file is damaged.
    """
    datasets = {name: tables.dataset(table, snapshots[name], enumerated=enumerated) for name, tables in studies.items()}
    schema = unified(dataset.schema for dataset in datasets.values())
    if named:
        schema = pa.schema([pa.field("study", pa.string()), *schema], metadata=schema.metadata)
    parts = [_part(dataset, schema, name if named else None) for name, dataset in datasets.items()]
    filled = [part for part in parts if part is not None]
    return ds.UnionDataset(schema, filled) if filled else ds.dataset(schema.empty_table())


def _part(dataset: ds.Dataset, schema: pa.Schema, study: str | None) -> ds.Dataset | None:
    """Return the files of one study as a dataset, its name as a constant column like one of a partitioned dataset."""
    if not isinstance(dataset, ds.FileSystemDataset):  # no files yet
        return None
    if study is None:
        return dataset.replace_schema(schema)
    is_its = ds.field("study") == study
    files = [
        dataset.format.make_fragment(fragment.path, filesystem=fragment.filesystem, partition_expression=is_its)
        for fragment in dataset.get_fragments()
    ]
    return ds.FileSystemDataset(files, schema, dataset.format, dataset.filesystem)


@contextlib.contextmanager
def checking_files(studies: Mapping[str, StudyTables], tables: Sequence[str]) -> Iterator[None]:
    """Raise `StudyError` instead of an error of Arrow that a damaged file caused."""
    try:
        yield
    except (pa.ArrowException, OSError):
        check_files(studies, tables)
        raise


def check_files(studies: Mapping[str, StudyTables], tables: Sequence[str]) -> None:
    """Raise `StudyError` where a file of some tables is damaged."""
    for study in studies.values():
        study.check_files(tables)


class Rows:
    """Rows of a result table. They are read on demand, and anew every time.

    `to_arrow` and the methods built on it return rows in the order of trials. `batches`, `lazy` and Arrow streams
    return them in the order of publication, and so hold one batch in memory. Every method that reads raises
    `StudyError` where a file is damaged.
    """

    def __init__(
        self,
        table: str,
        studies: Mapping[str, StudyTables],
        *,
        named: bool,
        where: ds.Expression | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        self._table, self._studies, self._named = table, dict(studies), named
        self._where, self._columns = where, None if columns is None else tuple(columns)

    @property
    def schema(self) -> pa.Schema:
        """Return the columns with their types, units in their metadata. No row is read."""
        schema = self._exactly(lambda dataset: dataset.schema)
        return schema if self._columns is None else pa.schema([schema.field(name) for name in self._columns])

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return self.schema.names

    def select(self, *columns: str) -> Rows:
        """Return only these columns. Raises `QueryError` where one does not exist."""
        self._refuse_unknown(columns)
        return self._with(columns=columns)

    def filter(self, *conditions: ds.Expression, **equal: Any) -> Rows:
        """Return the rows that satisfy all conditions.

        A condition is an Arrow expression, `pyarrow.compute.field("rel_l2") < 0.02`, or a column with its value or a
        list of values, `width=[8, 16]`. Raises `QueryError` where a column does not exist.
        """
        self._refuse_unknown(tuple(equal))
        where = self._where
        fields = [(ds.field(name), value) for name, value in equal.items()]
        equalities = [
            field.isin(value) if isinstance(value, (list, tuple)) else field == value for field, value in fields
        ]
        for condition in (*conditions, *equalities):
            where = condition if where is None else where & condition
        return self._with(where=where)

    def to_arrow(self) -> pa.Table:
        """Return all rows as an Arrow table, in the order of studies, trials and replicates, events in that of time."""
        keys = [*(["study"] if self._named else []), *ORDER[self._table]]
        chosen = self._columns
        names = None if chosen is None else list(dict.fromkeys([*chosen, *keys]))
        table = self._exactly(lambda dataset: dataset.to_table(columns=names, filter=self._where))
        ordered = table.sort_by([(key, "ascending") for key in keys])
        return ordered if chosen is None else ordered.select(list(chosen))

    def to_pandas(self) -> Any:
        """Return all rows as a pandas data frame. Raises `QueryError` where pandas is not installed."""
        _import("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> pl.DataFrame:
        """Return all rows as a Polars data frame. Raises `QueryError` where Polars is not installed."""
        return _import("polars").from_arrow(self.to_arrow())

    def to_pylist(self) -> list[dict[str, Any]]:
        """Return all rows as dictionaries."""
        return self.to_arrow().to_pylist()

    def lazy(self) -> pl.LazyFrame:
        """Return a Polars query over the files, which reads only what it needs.

        Raises `QueryError` where Polars is not installed.
        """
        frame = _import("polars").scan_pyarrow_dataset(self.dataset())
        return frame if self._columns is None else frame.select(self._columns)

    def dataset(self) -> ds.Dataset:
        """Return an Arrow dataset of the present files with all columns, for DuckDB, Dask and similar programs."""
        return self._exactly(lambda dataset: dataset if self._where is None else dataset.filter(self._where))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as record batches, a bounded number in memory.

        Raises `StudyError` where a compaction removes files in the meantime.
        """
        snapshots: dict[str, Snapshot] = {}

        def reader(current: Mapping[str, Snapshot]) -> pa.RecordBatchReader:
            snapshots.update(current)
            return self._scanner(dataset_of(self._table, self._studies, current, named=self._named)).to_reader()

        with checking_files(self._studies, [self._table]):
            try:
                yield from exactly(self._studies, [self._table], reader)
            except (pa.ArrowException, OSError):
                if any(tables.has_moved(snapshots[name]) for name, tables in self._studies.items()):
                    raise StudyError(f"{self._table} was compacted while it was being read. Read it again") from None
                raise

    def _scanner(self, dataset: ds.Dataset) -> ds.Scanner:
        columns = None if self._columns is None else list(self._columns)
        return dataset.scanner(columns=columns, filter=self._where, batch_size=BATCH_ROWS)

    def __len__(self) -> int:
        return self._exactly(lambda dataset: dataset.count_rows(filter=self._where))

    def __getitem__(self, column: str) -> pa.ChunkedArray:
        return self.select(column).to_arrow()[column]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        reader = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        return reader.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        try:
            head = self._head(_TEXT_ROWS)
            caption = self._caption(head)
        except (SweepError, pa.ArrowException, OSError) as error:
            return f"<{self._name}: {error}>"
        units = {field.name: unit_of(field) for field in head.schema}
        named = [name if units[name] in ("", "1") else f"{name} [{units[name]}]" for name in head.column_names]
        width = shutil.get_terminal_size((120, 24)).columns
        fitting = Listing(head.rename_columns(named), self._in_per_cent).fitting(width)
        more = len(named) - len(fitting.table.column_names)
        left_out = f"... and {more} more columns: .columns names them, .schema has their units" if more else ""
        shown = render(fitting.table, in_per_cent=self._in_per_cent, width=width) if len(head) else ""
        return "\n".join(line for line in (caption, shown, left_out) if line)

    def _repr_html_(self) -> str:
        try:
            head = self._head(_HEAD_ROWS)
            caption = self._caption(head)
        except (SweepError, pa.ArrowException, OSError) as error:
            return html_of_text(f"{self._name}: {error}")
        numbers, units = [is_number(field.type) for field in head.schema], [unit_of(field) for field in head.schema]
        cells = Listing(head, self._in_per_cent).cells()
        return f"<p>{html.escape(caption)}</p>{html_of_table(head.column_names, cells, numbers=numbers, units=units)}"

    @property
    def _name(self) -> str:
        return f"{self._table} of {', '.join(self._studies)}{'' if self._where is None else ', filtered'}"

    @property
    def _in_per_cent(self) -> set[str]:
        return {name for tables in self._studies.values() for name in tables.problem.in_per_cent}

    def _head(self, rows: int) -> pa.Table:
        return self._exactly(lambda dataset: self._scanner(dataset).head(rows))

    def _caption(self, head: pa.Table) -> str:
        count = len(self)
        first = f", the first {len(head)}" if len(head) < count else ""
        return f"{self._name}: {count:,} rows{first}, {len(head.schema)} columns"

    def _with(self, *, where: ds.Expression | None = None, columns: Sequence[str] | None = None) -> Rows:
        where = self._where if where is None else where
        columns = self._columns if columns is None else columns
        return Rows(self._table, self._studies, named=self._named, where=where, columns=columns)

    def _exactly(self, read: Callable[[ds.Dataset], _Result]) -> _Result:
        """Return the result of `read` on the rows published at one moment."""

        def work(snapshots: Mapping[str, Snapshot]) -> _Result:
            return read(dataset_of(self._table, self._studies, snapshots, named=self._named))

        with checking_files(self._studies, [self._table]):
            return exactly(self._studies, [self._table], work)

    def _refuse_unknown(self, names: Sequence[str]) -> None:
        columns = self._exactly(lambda dataset: dataset.schema).names
        for name in names:
            if name not in columns:
                raise QueryError(f"there is no column {name!r}." + column_hint(name, columns, self._table))


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise QueryError(f"this needs {name}, which is not installed: pip install {name}") from None
