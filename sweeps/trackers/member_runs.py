"""Finished trials as trackers see them, one run for each replicate, read from the published tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds

from ..storage.schema import all_settings
from ..storage.tables import StudyTables, of_member

_AT_ONCE: Final = 50  # trials whose curves are in memory together
STEPS, TIME = "evaluations", "time_s"  # columns of curves that say when the other ones were taken
_NO_CURVE: Final = ("trial", "replicate", "step", STEPS, TIME)

Key = tuple[int, int]  # trial and replicate


@dataclass(frozen=True)
class Curve:
    """A quantity by the evaluations of loss and gradient until then, with the seconds since the training began."""

    evaluations: Sequence[int]
    values: Sequence[float]
    seconds: Sequence[float]


@dataclass(frozen=True)
class MemberRun:
    """A finished training: `name` is STUDY/TRIAL or STUDY/TRIAL.REPLICATE, `key` is unique among all studies.

    Values that are not given or not finite are left out. `words` is everything else of its row, as text.
    """

    key: str
    name: str
    study: str
    state: str
    failure: str | None
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    words: Mapping[str, str]
    curves: Mapping[str, Curve]
    started_at: datetime | None
    finished_at: datetime | None


def finished_keys(tables: StudyTables) -> list[Key]:
    """Return trial and replicate of every published row, in order."""
    rows = tables.read("trials", columns=["trial", "replicate"])
    return sorted(zip(rows["trial"].to_pylist(), rows["replicate"].to_pylist(), strict=True))


def member_runs(tables: StudyTables, study: str, keys: Sequence[Key], *, numbered: bool) -> Iterator[MemberRun]:
    """Yield the runs of published rows in the order of `keys`; `numbered` names the replicate, too."""
    trials, identity = list(dict.fromkeys(trial for trial, _ in keys)), tables.identity()
    for first in range(0, len(trials), _AT_ONCE):
        where = ds.field("trial").isin(trials[first : first + _AT_ONCE])
        rows = {(row["trial"], row["replicate"]): row for row in tables.read("trials", where=where).to_pylist()}
        curves = tables.read("curves", where=where)
        taken = set(trials[first : first + _AT_ONCE])
        for key in (key for key in keys if key[0] in taken):
            name = f"{study}/{key[0]}.{key[1]}" if numbered else f"{study}/{key[0]}"
            unique = f"{identity[:12]}-{key[0]}-{key[1]}"
            yield MemberRun(unique, name, study, curves=_curves(curves, key), **_results(tables, rows[key]))


def _results(tables: StudyTables, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the row of a member says, by the names of `MemberRun`."""
    columns = ("problem", *(setting.column for setting in all_settings(tables.problem)))
    measured = [name for name in _measured(tables.schema("trials")) if name not in columns]
    others = [name for name in tables.schema("trials").names if name not in (*columns, *measured)]
    return {
        **{name: row[name] for name in ("state", "failure", "started_at", "finished_at")},
        "settings": {name: row[name] for name in columns if row[name] is not None},
        "metrics": {name: float(row[name]) for name in measured if _is_finite(row[name])},
        "words": {name: str(row[name]) for name in others if row[name] is not None},
    }


def _measured(schema: pa.Schema) -> list[str]:
    """Return the columns with numbers that have a unit, be it 1; numbers of trials, packs and seeds have none."""
    return [field.name for field in schema if b"unit" in (field.metadata or {})]


def _curves(curves: pa.Table, key: Key) -> dict[str, Curve]:
    """Return the curves of a member, without what was not measured."""
    rows = curves.filter(of_member(*key)).to_pydict()
    steps, seconds = rows[STEPS], rows[TIME]
    by_name = {}
    for name in _measured(curves.schema):
        places = [place for place, value in enumerate(rows[name]) if _is_finite(value) and steps[place] is not None]
        if name not in _NO_CURVE and places:
            by_name[name] = Curve(*([column[place] for place in places] for column in (steps, rows[name], seconds)))
    return by_name


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
