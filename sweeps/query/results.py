"""The tables of a study, or of several as one, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from ..storage.object_store import Remote
from ..storage.stored_tables import tables_of
from .query import query
from .rows import Rows


class Results:
    """Tables that are read when they are asked for; where `named`, their first column is the study."""

    def __init__(self, places: Mapping[str, Path | Remote], *, named: bool) -> None:
        self._places, self._named = dict(places), named

    def trials(self) -> Rows:
        """One row a finished trial and replicate, by number: every setting and metric, times in s, lengths in mm."""
        return self._rows("trials")

    def curves(self) -> Rows:
        """The course of training: loss, its terms and rel_l2 by step; `time_s` in s."""
        return self._rows("curves")

    def fields(self) -> Rows:
        """The field at every Gauss point: `x_mm`, `y_mm` in mm; predicted, reference and local strain."""
        return self._rows("fields")

    def weights(self) -> Rows:
        """The weights at the kept epochs, one row a number; the bias is row -1."""
        return self._rows("weights")

    def events(self) -> Rows:
        """What happened when, in order; times in UTC."""
        return self._rows("events")

    def sql(self, text: str) -> pa.Table:
        """The answer to one SELECT over the tables and views, at most 1 GiB. Raises `QueryError`."""
        return query(list(self._places.values()), text)

    def _rows(self, table: str) -> Rows:
        return Rows(table, {name: tables_of(place) for name, place in self._places.items()}, named=self._named)
