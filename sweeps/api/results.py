"""The tables of one or several studies, and the ranking of their configurations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import StudyError
from ..storage.object_store import Remote

if TYPE_CHECKING:
    import pyarrow as pa

    from ..query.rows import Rows
    from .assessment import Assessment

Trial = int | Literal["best"]  # the number of a trial, or the best trial of a study


class Results:
    """The tables of studies, each read on demand; where `named`, their first column is the study."""

    def __init__(self, places: Mapping[str, Path | Remote], *, named: bool) -> None:
        self._places, self._named = dict(places), named

    def trials(self) -> Rows:
        """Return one row per finished trial and replicate: every setting and metric, times in s, lengths in mm."""
        return self._rows("trials")

    def curves(self, trial: Trial | None = None) -> Rows:
        """Return the loss, its terms and rel_l2 by step, of one trial or of all; `time_s` is in seconds."""
        return self._rows("curves", trial)

    def fields(self, trial: Trial | None = None) -> Rows:
        """Return the field at every point, of one trial or of all: coordinates, predicted, reference, data."""
        return self._rows("fields", trial)

    def weights(self, trial: Trial | None = None) -> Rows:
        """Return the weights at the kept epochs, of one trial or of all, one row per number; row -1 is the bias."""
        return self._rows("weights", trial)

    def events(self) -> Rows:
        """Return the events in the order of time, in UTC."""
        return self._rows("events")

    def sql(self, text: str) -> pa.Table:
        """Return the answer to one SELECT over the tables and views.

        Raises `QueryError` where the statement is wrong or does more than read them, or its answer exceeds 1 GiB.
        """
        from ..query.query import query

        return query(list(self._places.values()), text)

    def top(self, n: int = 10, by: str | None = None) -> Assessment:
        """Rank the configurations and mark those that may be the best, as the command `top` does.

        All seeds of a configuration are one row, also across studies. `by` is a column (default: the objective).
        Raises `QueryError` where it is no number, or the studies have different objectives.
        """
        from .assessment import of_leaderboard

        return of_leaderboard(list(self._places.values()), n, by)

    def _rows(self, table: str, trial: Trial | None = None) -> Rows:
        from ..query.rows import Rows
        from ..storage.stored_tables import tables_of

        rows = Rows(table, {name: tables_of(place) for name, place in self._places.items()}, named=self._named)
        if trial is None:
            return rows
        from ..query.query import trial_number

        places = list(self._places.values())
        if trial == "best" and len(places) > 1:
            raise StudyError(f"best is a trial of one study, and these are {len(places)}. Give a number")
        number = trial_number(places[0], trial)
        if not len(self.trials().filter(trial=number)):
            raise StudyError(f"{', '.join(map(str, places))}: there is no finished trial {number}")
        return rows.filter(trial=number)
