"""What a report draws on: the trials of a study, the best first, and the rows of their replicates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from pinncore import PinnError, TrainedNetwork
from pinncore.problems import Problem
from pinncore.problems.record import ProblemRecord
from pinncore.problems.source import ProblemSource

from ..analysis.importance import Importance, importance
from ..analysis.leaderboard import Leaderboard, top_in
from ..analysis.study_axes import Judged, existing, judged_of
from ..errors import SpecError, SweepError
from ..own_name import SCRIPT, own_name
from ..query.confined import Limits, database
from ..query.query import OpenStudies, Schemas
from ..query.ranking import Ranking, dimensions, ranking_of, swept_columns
from ..query.text import scale
from ..spec.study_spec import StudySpec
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.object_store import Remote
from ..storage.schema import TABLES, Setting, all_settings, config_of
from ..storage.tables import Snapshot, exactly, of_member
from ..study.loading import parse_stored
from ..study.replicates import quantile_name, value_of
from ..study.study_file import whole_text
from ..trial.tables import Row, TrialReader, own_terms

RANKED: Final = 10  # configurations in the ranking

_COLUMNS: Final = (  # those that only some problems have are for the traps of these
    *("trial", "replicate", "state", "pack", "duplicate_of", "retry_of", "taken_from", "failure", "stop_reason"),
    *("inputs", "problem_loss", "scale_factor", "scale_scope", "first_stage", "adam_convention", "adam_eps"),
    *("second_stage", "iterations", "first_step", "second_evaluations", "iterations_done", "dtype"),
    *("rel_l2", "loss", "heldout_residual", "trained_residual", "spread", "over_constant", "distance_to_local"),
    *("effective_g_mm2", "equation_error", "started_at", "finished_at"),
    *("seconds", "first_seconds", "second_seconds", "evaluations", "engine_used", "device", "host", "data_hash"),
    *("python_version", "torch_version", "pinnsweep_version"),
)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ReportStudy:
    """A study as its report sees it, at one moment.

    `read` reads its tables, as `StudyTables.read` does; `connection` is a database with the table `trials`. `lines` are
    those of `query.ranked_trials`; `ranked`, `failed` and `pruned` are parts of it, without the failed trials that were
    trained again. `published` has the rows of all replicates, `rows` those of trials that do not repeat another.
    """

    folder: Path | Remote
    file: dict[str, Any]
    source: ProblemSource
    read: Callable[..., pa.Table]
    connection: duckdb.DuckDBPyConnection
    lines: pa.Table
    leaderboard: Leaderboard

    @cached_property
    def ranking(self) -> Ranking:
        """Return the rules by which trials rank."""
        return ranking_of(self.file)

    @cached_property
    def loss_settings(self) -> tuple[Setting, ...]:
        """Return the settings that decide what the loss measures."""
        names = {"loss", *self.problem.loss_settings}
        settings = all_settings(self.problem)
        return tuple(each for each in settings if each.section == "problem" and each.name in names)

    @cached_property
    def published(self) -> pa.Table:
        """Return the rows of all replicates, with those columns of the report that the problem has."""
        of_loss = (setting.column for setting in self.loss_settings)
        columns = dict.fromkeys((*_COLUMNS, *self.ranking.objectives, *of_loss))
        existing_columns = self.read("trials", where=pc.scalar(False)).column_names
        return self.read("trials", columns=[name for name in columns if name in existing_columns])

    @cached_property
    def rows(self) -> pa.Table:
        """Return the rows of replicates that were trained."""
        return self.published.filter(pc.is_null(self.published["duplicate_of"]))

    @cached_property
    def repeated(self) -> list[int]:
        """Return the trials that were not trained because another has their configuration."""
        copies = self.published.filter(pc.is_valid(self.published["duplicate_of"]))
        return sorted(set(copies["trial"].to_pylist()))

    @cached_property
    def again(self) -> list[tuple[int, int]]:
        """Return the failed trials that were trained again, each with a trial that repeats it."""
        retries = self.rows.filter(pc.is_valid(self.rows["retry_of"]))
        return sorted(set(zip(retries["retry_of"].to_pylist(), retries["trial"].to_pylist(), strict=True)))

    @cached_property
    def ranked(self) -> pa.Table:
        """Return the complete trials, the best first."""
        is_complete = pc.equal(self.lines["state"], COMPLETE)
        return self.lines.filter(pc.and_(is_complete, pc.is_valid(self.lines[self.objective])))

    @cached_property
    def failed(self) -> pa.Table:
        """Return the failed trials that were not trained again."""
        is_retried = pc.is_in(self.lines["trial"], self.rows["retry_of"].drop_null())
        return self.lines.filter(pc.and_(pc.equal(self.lines["state"], FAIL), pc.invert(is_retried)))

    @cached_property
    def pruned(self) -> pa.Table:
        """Return the pruned trials."""
        return self.lines.filter(pc.equal(self.lines["state"], PRUNED))

    @cached_property
    def best(self) -> Row | None:
        """Return the row of that replicate of the best trial whose objective is nearest to the trial's value."""
        if not self.ranked.num_rows:
            return None
        value, name = self.ranked[self.objective][0].as_py(), self.objective
        rows = self.rows.filter(pc.equal(self.rows["trial"], self.ranked["trial"][0])).to_pylist()
        complete = [row for row in rows if row["state"] == COMPLETE and is_finite(row[name])]
        nearest = min(complete, key=lambda row: (abs(row[name] - value), row[name], row["replicate"]))
        return self._reader.row(nearest["trial"], nearest["replicate"])

    @property
    def _reader(self) -> TrialReader:
        return TrialReader(self.folder, self.read, self.source)

    @property
    def problem(self) -> ProblemRecord:
        """Return the record of the problem."""
        return self.source.record

    @cached_property
    def solved(self) -> Problem | None:
        """Return the problem of the best row, which must exist; None for a user's, whose code a report never runs."""
        assert self.best is not None
        return self._reader.settings_of(self.best)[1] if self.source.is_shipped else None

    @property
    def problem_settings(self) -> dict[str, Any]:
        """Return the settings of the problem in the best row, which must exist."""
        assert self.best is not None
        return config_of(self.best, self.problem)["problem"]

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

    @property
    def several(self) -> bool:
        """Return whether its trials have several replicates."""
        return self.ranking.replicates > 1

    @cached_property
    def spec(self) -> StudySpec | SpecError:
        """Return what the study file says, or why it is no longer valid; the tables it names are not looked at."""
        try:
            return parse_stored(whole_text(self.folder), self.folder, self.source)
        except SpecError as error:
            return error

    def part(self, table: str) -> pa.Table:
        """Return the rows of a table that belong to the best row, which must exist."""
        assert self.best is not None
        return self.read(table, where=of_member(self.best["trial"], self.best["replicate"]))

    @cached_property
    def curve(self) -> dict[str, list[Any]]:
        """Return the curve of the best row, which must exist, by column, in the order of evaluations.

        Terms that its loss does not have are left out.
        """
        return own_terms(self.part("curves")).sort_by("evaluations").to_pydict()

    @cached_property
    def field(self) -> dict[str, NDArray[np.float64]]:
        """Return the field of the best row, which must exist, by column; arrays of shape [points].

        Empty where it was not kept.
        """
        columns = self.part("fields").drop_columns(["trial", "replicate"])
        if not columns.num_rows:
            return {}
        return {name: columns[name].to_numpy() for name in columns.column_names}

    @cached_property
    def judged(self) -> Judged:
        """Return every trial with all its replicates, as the analysis reads them."""
        retried = self.published["retry_of"].drop_null()
        return judged_of(self.folder, self.file, self.source, self.lines, retried)

    @cached_property
    def importance(self) -> Importance:
        """Return how much each swept field decided which trials are among the best."""
        return importance(self.judged)

    @cached_property
    def network(self) -> TrainedNetwork | str:
        """Return the trained network of the best row, or why there is none."""
        if self.best is None:
            return "no trial is complete"
        if not self.source.is_shipped:
            return "a report never runs the code of a user's problem"
        try:
            return self._reader.network(self.best["trial"], self.best["replicate"])
        except (SweepError, PinnError) as error:
            return (
                str(error).replace(own_name(), SCRIPT).replace(str(self.folder), self.name)
            )  # a page names no folders

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
        columns = zip(dimensions(self.file), swept_columns(self.file, self.problem), strict=True)
        return {name: lines[column].to_pylist() for name, column in columns if column in lines.column_names}

    def exists(self, name: str, settings: dict[str, list[Any]]) -> NDArray[np.bool_]:
        """Return, for each of the trials with these `settings`, whether a swept field exists beside the others."""
        return existing(name, self.file, settings)


def at_one_moment(study_dir: Path, work: Callable[[ReportStudy], _Result]) -> _Result:
    """Return the result of `work` on a study as it was published at one moment.

    `work` is called again from the beginning where a compaction has removed files in the meantime. Raises `StudyError`
    where the folder is no study or a table is damaged.
    """
    studies = OpenStudies([study_dir])
    ((name, place),) = studies.places.items()

    def ranked(connection: duckdb.DuckDBPyConnection, schemas: Schemas) -> tuple[pa.Table, Leaderboard]:
        return studies.ranked_in(connection, schemas), top_in(studies, connection, schemas, RANKED)

    def attempt(snapshots: Mapping[str, Snapshot]) -> _Result:
        def read(table: str, *, columns: Sequence[str] | None = None, where: ds.Expression | None = None) -> pa.Table:
            dataset = studies.tables[name].dataset(table, snapshots[name])
            return dataset.to_table(columns=None if columns is None else list(columns), filter=where)

        with database(Limits()) as connection:
            answers = studies.read_in(connection, snapshots, ["trials"], ranked)
            source = studies.tables[name].source
            return work(ReportStudy(place, studies.files[name], source, read, connection, *answers))

    try:
        return exactly(studies.tables, TABLES, attempt)
    except (pa.ArrowException, OSError):
        studies.tables[name].check_files()
        raise


def in_per_cent(metric: str, problem: ProblemRecord) -> tuple[str, float]:
    """Return the label of a metric in figures, and the factor on its values there."""
    factor, unit = scale(metric, problem.in_per_cent)
    return (f"{metric} in{unit}" if unit else metric), float(factor)


def is_finite(value: Any) -> bool:
    """Return whether a value is a number and neither infinite nor NaN."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def distinct(rows: pa.Table, column: str) -> list[str]:
    """Return the distinct values of a text column, sorted; none where there is no such column."""
    values = pc.unique(rows[column]).to_pylist() if column in rows.column_names else []
    return sorted(value for value in values if value)
