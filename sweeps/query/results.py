"""The tables of a study, or of several as one, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..storage.object_store import Remote

if TYPE_CHECKING:
    import pyarrow as pa

    from .rows import Rows


class Results:
    """The tables of studies, each read on demand; where `named`, their first column is the study."""

    def __init__(self, places: Mapping[str, Path | Remote], *, named: bool) -> None:
        self._places, self._named = dict(places), named

    def trials(self) -> Rows:
        """Return one row per finished trial and replicate: every setting and metric, times in s, lengths in mm."""
        return self._rows("trials")

    def curves(self) -> Rows:
        """Return the loss, its terms and rel_l2 by step; `time_s` is in seconds."""
        return self._rows("curves")

    def fields(self) -> Rows:
        """Return the field at every Gauss point: predicted, reference and local strain; `x_mm`, `y_mm` in mm."""
        return self._rows("fields")

    def weights(self) -> Rows:
        """Return the weights at the kept epochs, one row per number; row -1 is the bias."""
        return self._rows("weights")

    def events(self) -> Rows:
        """Return the events in the order of time, in UTC."""
        return self._rows("events")

    def sql(self, text: str) -> pa.Table:
        """Return the answer to one SELECT over the tables and views.

        Raises `QueryError` where the statement is wrong or does more than read them, or its answer exceeds 1 GiB.
        """
        from .query import query

        return query(list(self._places.values()), text)

    def _rows(self, table: str) -> Rows:
        from ..storage.stored_tables import tables_of
        from .rows import Rows

        return Rows(table, {name: tables_of(place) for name, place in self._places.items()}, named=self._named)
