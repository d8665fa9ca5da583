"""What a report draws on: the trials of a study, the best first, and the rows of their replicates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from pinncore import PinnError, TrainedNetwork
from pinncore.problems import PointSet

from ..analysis.importance import Importance, importance
from ..analysis.study_axes import Judged, existing, judged
from ..errors import SweepError
from ..query.query import place_of, ranked_trials, read_study_file
from ..query.ranking import Ranking, dimensions, ranking_of, swept_columns
from ..query.text import scale
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.object_store import Remote
from ..storage.stored_tables import tables_of
from ..storage.tables import StudyTables, of_member
from ..study.replicates import quantile_name, value_of
from ..trial.tables import network_of

_COLUMNS: Final = (
    *("trial", "replicate", "state", "pack", "duplicate_of", "retry_of", "taken_from", "failure", "stop_reason"),
    *("inputs", "problem_loss", "scale_factor", "scale_scope", "first_stage", "adam_convention", "adam_eps"),
    *("second_stage", "iterations", "first_step", "second_evaluations", "iterations_done", "dtype"),
    *("rel_l2", "loss", "distance_to_local", "started_at", "finished_at"),
    *("seconds", "first_seconds", "second_seconds", "evaluations", "engine_used", "device", "host", "data_hash"),
    *("python_version", "torch_version", "pinnsweep_version"),
)


@dataclass(frozen=True)
class ReportStudy:
    """A study as its report sees it.

    `ranked`, `failed` and `pruned` are lines of `query.ranked_trials`, without the failed trials that were trained
    again. `rows` has the rows of their replicates. `best` is the complete row of one replicate of the best trial.
    """

    folder: Path | Remote
    file: dict[str, Any]
    tables: StudyTables
    ranking: Ranking
    ranked: pa.Table
    failed: pa.Table
    pruned: pa.Table
    rows: pa.Table
    best: dict[str, Any] | None
    repeated: tuple[int, ...]  # trials that were not trained because another has their configuration
    again: tuple[tuple[int, int], ...]  # failed trials and those that repeat them

    @property
    def name(self) -> str:
        """Return the name of the study."""
        return str(self.file.get("study", self.folder.name))

    @property
    def objective(self) -> str:
        """Return the metric that trials rank by first."""
        return self.ranking.objectives[0]

    @property
    def middle(self) -> str:
        """Return the name of the quantile over its replicates that is the value of a trial."""
        return quantile_name(self.ranking.quantile)

    @cached_property
    def judged(self) -> Judged:
        """Return every trial with all its replicates, as the analysis reads them."""
        return judged(self.folder)

    @cached_property
    def importance(self) -> Importance:
        """Return how much each swept field decided which trials are among the best."""
        return importance(self.judged)

    @cached_property
    def network(self) -> TrainedNetwork | str:
        """Return the trained network of the best row, or why there is none."""
        if self.best is None:
            return "no trial is complete"
        try:
            return network_of(self.folder, self.best["trial"], self.best["replicate"])
        except (SweepError, PinnError) as error:
            return str(error).replace(str(self.folder), self.name)  # a page names no folders

    @cached_property
    def trained_residual(self) -> float | None:
        """Return the RMS residual of the best network at its training points over the RMS of its forcing there.

        None where there is no network.
        """
        if isinstance(self.network, str):
            return None
        return rms(self.scaled_residual(self.network.problem.point_sets[0]))

    def scaled_residual(self, points: PointSet) -> NDArray[np.float64]:
        """Return the residual [points] of the best network, which must exist, over the RMS of its forcing there."""
        assert not isinstance(self.network, str)
        forcing = self.network.problem.to_physical(self.network.problem.forcing(points))
        return self.network.residual_at(points) / rms(forcing)

    def complete(self) -> pa.Table:
        """Return the rows of complete replicates of the trials that rank."""
        is_ranked = pc.is_in(self.rows["trial"], self.ranked["trial"])
        return self.rows.filter(pc.and_(is_ranked, pc.equal(self.rows["state"], COMPLETE)))

    def values_of(self, trial: int, metric: str) -> list[float]:
        """Return a metric of every replicate of a trial, infinite where the replicate failed."""
        rows = self.rows.filter(pc.equal(self.rows["trial"], trial)).sort_by("replicate")
        pairs = zip(rows["state"].to_pylist(), rows[metric].to_pylist(), strict=True)
        return [value_of(value, has_result=state == COMPLETE) for state, value in pairs]

    def settings(self, lines: pa.Table) -> dict[str, list[Any]]:
        """Return the values of the swept fields in some trials, for the fields that the table `trials` has."""
        columns = zip(dimensions(self.file), swept_columns(self.file), strict=True)
        return {name: lines[column].to_pylist() for name, column in columns if column in lines.column_names}

    def exists(self, name: str, settings: dict[str, list[Any]]) -> NDArray[np.bool_]:
        """Return, for each of the trials with these `settings`, whether a swept field exists beside the others."""
        return existing(name, self.file, settings)


def read(study_dir: Path) -> ReportStudy:
    """Read what a report draws on. Raises `StudyError` where the folder is no study or a table is damaged."""
    place = place_of(study_dir)
    file = read_study_file(place)
    tables, ranking = tables_of(place), ranking_of(file)
    lines = ranked_trials([place])
    metrics = [name for name in ranking.objectives if name not in _COLUMNS]
    existing_columns = tables.dataset("trials").schema.names  # problems have other settings and metrics
    columns = [name for name in (*_COLUMNS, *metrics) if name in existing_columns]
    rows = tables.read("trials", columns=columns)
    copies = rows.filter(pc.is_valid(rows["duplicate_of"]))
    rows = rows.filter(pc.is_null(rows["duplicate_of"]))
    retries = rows.filter(pc.is_valid(rows["retry_of"]))
    again = sorted(set(zip(retries["retry_of"].to_pylist(), retries["trial"].to_pylist(), strict=True)))
    is_complete = pc.and_(pc.equal(lines["state"], COMPLETE), pc.is_valid(lines[ranking.objectives[0]]))
    is_failed = pc.and_(pc.equal(lines["state"], FAIL), pc.invert(pc.is_in(lines["trial"], retries["retry_of"])))
    ranked = lines.filter(is_complete)
    return ReportStudy(
        folder=place,
        file=file,
        tables=tables,
        ranking=ranking,
        ranked=ranked,
        failed=lines.filter(is_failed),
        pruned=lines.filter(pc.equal(lines["state"], PRUNED)),
        rows=rows,
        best=_best(tables, rows, ranked, ranking.objectives[0]),
        repeated=tuple(sorted(set(copies["trial"].to_pylist()))),
        again=tuple(again),
    )


def is_row(row: dict[str, Any]) -> ds.Expression:
    """Return the filter for the rows of one replicate in any table."""
    return of_member(row["trial"], row["replicate"])


def in_per_cent(metric: str) -> tuple[str, float]:
    """Return the label of a metric in figures, and the factor on its values there."""
    factor, unit = scale(metric)
    return (f"{metric} in{unit}" if unit else metric), float(factor)


def rms(values: Any) -> float:
    """Return the root mean square of values of any shape."""
    return float(np.sqrt(np.mean(np.square(values))))


def is_finite(value: Any) -> bool:
    """Return whether a value is a number and neither infinite nor NaN."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def listed(numbers: Sequence[object], most: int = 12) -> str:
    """Return the first `most` of many things as text, and how many more there are."""
    more = f" and {len(numbers) - most:,} more" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more


def spread_indices(count: int, most: int) -> list[int]:
    """Return the indices of at most `most` of `count` things, evenly spread, the first one included."""
    return (
        sorted({round(place * (count - 1) / max(most - 1, 1)) for place in range(most)})
        if count > most
        else [*range(count)]
    )


def _best(tables: StudyTables, rows: pa.Table, ranked: pa.Table, objective: str) -> dict[str, Any] | None:
    """Return the row of that replicate of the best trial whose objective is nearest to the trial's value."""
    if not ranked.num_rows:
        return None
    value, is_best = ranked[objective][0].as_py(), pc.equal(rows["trial"], ranked["trial"][0])
    replicates = [
        row for row in rows.filter(is_best).to_pylist() if row["state"] == COMPLETE and is_finite(row[objective])
    ]
    nearest = min(replicates, key=lambda row: (abs(row[objective] - value), row[objective], row["replicate"]))
    row: dict[str, Any] = tables.read("trials", where=is_row(nearest)).to_pylist()[0]
    return row
