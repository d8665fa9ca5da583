"""One trial from the tables of a study: its rows, its kept weights, its network."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

import pinncore
from pinncore.networks import flatten
from pinncore.problems.source import ProblemSource

from ..errors import StudyError
from ..own_name import own_name
from ..spec.study_spec import build_settings
from ..states import FAIL
from ..storage.object_store import Remote
from ..storage.optuna_sql import TrialRecord
from ..storage.schema import config_of
from ..storage.stored_tables import tables_of
from ..storage.tables import of_member
from ..study.home import local
from ..study.initial_weights import weight_layers
from ..study.references import reference_store
from ..study.study_file import open_reader

Row = dict[str, Any]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrialReader:
    """The results of single trials of a study with the problem `source`; `read` is that of its `StudyTables`."""

    place: Path | Remote
    read: Callable[..., pa.Table]
    source: ProblemSource

    @staticmethod
    def of(place: Path | Remote) -> TrialReader:
        """Return the results of a study in a folder or an object store."""
        tables = tables_of(place)
        return TrialReader(place, tables.read, tables.source)

    def settings_of(self, row: Mapping[str, Any]) -> tuple[pinncore.TrainSettings, pinncore.Problem]:
        """Return the settings records of a row's configuration, executing the code of a user's problem."""
        train, problem = build_settings(config_of(row, self.source.record), self.source)
        if isinstance(self.place, Path):
            problem = problem.storing(reference_store(self.place, keeps=False))
        return train, problem

    def rows(self, trial: int) -> list[Row]:
        """Return the rows of a trial, one per finished replicate, in order. Raises `StudyError` where there is none."""
        rows = self.read("trials", where=ds.field("trial") == trial)
        if not rows.num_rows:
            raise StudyError(self._no_row(trial))
        return rows.sort_by("replicate").to_pylist()

    def row(self, trial: int, replicate: int = 0) -> Row:
        """Return the row of one replicate. Raises `StudyError` where it has not finished or does not exist."""
        rows = {row["replicate"]: row for row in self.rows(trial)}
        if replicate not in rows:
            finished = ", ".join(map(str, rows))
            raise StudyError(
                f"trial {trial} of {self.place} has no finished replicate {replicate}; finished: {finished}"
            )
        return rows[replicate]

    def original(self, row: Row) -> Row:
        """Return the row that the results in a row come from: itself, or that of the trial which it repeats."""
        return row if row["duplicate_of"] is None else self.row(row["duplicate_of"], row["replicate"])

    def part(self, table: str, row: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return the part of `curves`, `fields` or `weights` that belongs to a row, by column, shape [rows] each.

        Of curves, the terms that the loss does not have are left out.
        """
        rows = self.read(table, where=of_member(row["trial"], row["replicate"])).drop_columns(["trial", "replicate"])
        own = own_terms(rows)
        return {name: own[name].to_numpy() for name in own.column_names}

    def kept_weights(self, row: Mapping[str, Any]) -> dict[int, Array]:
        """Return the flat parameter vectors [parameters] of a row by running epoch; the last is the final network.

        Empty where the study keeps no weights. Raises `StudyError` where they are incomplete.
        """
        columns = self.part("weights", row)
        layers = pinncore.Member(*self.settings_of(row)).layers
        weights = {}
        for epoch in sorted(set(columns["epoch"].tolist())):
            is_epoch = columns["epoch"] == epoch
            matrices = weight_layers({name: values[is_epoch] for name, values in columns.items()}) or []
            if [w.shape for w, _ in matrices] != list(itertools.pairwise(layers)):
                raise StudyError(f"the weights of trial {row['trial']} of {self.place} at epoch {epoch} are incomplete")
            weights[int(epoch)] = flatten(matrices)
        return weights

    def network(self, trial: int, replicate: int = 0, *, epoch: int | None = None) -> pinncore.TrainedNetwork:
        """Return the trained network of a replicate; `network_of` says which and what it raises."""
        row = self.original(self.row(trial, replicate))
        name = f"replicate {replicate} of trial {trial} of {self.place}"
        if row["state"] == FAIL and epoch is None:
            raise StudyError(f"{name} failed ({row['failure']}): it has no trained network")
        weights = self.kept_weights(row)
        if not weights:
            raise StudyError(
                f"{name} kept no weights: its study has results.weights: none. This command makes them again: "
                f"{own_name()} retrain {shlex.quote(str(self.place))} {trial} -o network.npz"
            )
        chosen_epoch = max(weights) if epoch is None else epoch
        if chosen_epoch not in weights:
            raise StudyError(f"{name} kept no weights of epoch {epoch}; kept: {', '.join(map(str, weights))}")
        if not np.isfinite(weights[chosen_epoch]).all():
            raise StudyError(f"{name} has a weight that is not finite at epoch {chosen_epoch}")
        train, problem = self.settings_of(row)
        settings = replace(train, engine=row["engine_used"] or "auto")
        network = pinncore.TrainedNetwork(problem, settings, weights[chosen_epoch])
        digest = network.problem.data_sha256
        if row["data_hash"] not in (None, digest):
            raise StudyError(
                f"the data of {name} have changed since it was trained (hash {row['data_hash'][:12]}, now "
                f"{digest[:12]}), and its scaling depends on them. Restore them"
            )
        return network

    def _no_row(self, trial: int) -> str:
        """Return why a trial has no row."""
        record = asked_trial(self.place, trial)
        if record is not None:
            return f"trial {trial} of {self.place} is {record.state}: it has no results yet"
        numbers = self.read("trials", columns=["trial"])["trial"].to_pylist()
        if not numbers:
            return f"the study {self.place} has no finished trial yet"
        return f"the study {self.place} has no trial {trial}; its finished trials are {min(numbers)} to {max(numbers)}"


def network_of(
    place: Path | Remote, trial: int, replicate: int = 0, *, epoch: int | None = None
) -> pinncore.TrainedNetwork:
    """Return the trained network of a replicate, with its final weights or those of a kept `epoch`.

    A trial that repeats another has the network of the other. Raises `StudyError` where there is no such trial, where
    it failed or kept no weights, or where its data have changed; `pinncore.DataError` where the data are gone.
    """
    return TrialReader.of(place).network(trial, replicate, epoch=epoch)


def described(place: Path | Remote, row: Mapping[str, Any], *, epoch: int | None = None) -> dict[str, Any]:
    """Return where a network comes from, for files outside the study; without an `epoch` it is the final one."""
    names = ["trial", "replicate", "state", "seed", "config_hash", "data_hash", "pinnsweep_version"]
    names += ["rel_l2"] if epoch is None else []
    return {"study": place.name, **{name: row[name] for name in names}, "epoch": epoch}


def asked_trial(place: Path | Remote, trial: int) -> TrialRecord | None:
    """Return a trial as the study's database has it; None where it has no such trial or cannot be reached."""
    try:
        with open_reader(local(Path(str(place)))) as reader:
            return next(iter(reader.records(number=trial)), None)
    except StudyError:
        return None


def own_terms(curve: pa.Table) -> pa.Table:
    """Return the curve of one training without the terms that its loss does not have, columns of nulls."""
    terms = [name for name in curve.column_names if name.startswith("loss_")]
    others = [name for name in terms if curve.num_rows and curve[name].null_count == curve.num_rows]
    return curve.drop_columns(others)


def stage_ends(curve: Mapping[str, Sequence[Any]]) -> dict[str, Row]:
    """Return the row of a curve at the end of each stage, by phase: the first one of the next stage, else the last one.

    The first row of a stage is at the weights with which the one before ended, which that one did not record.
    """
    rows, ends = [dict(zip(curve, values, strict=True)) for values in zip(*curve.values(), strict=True)], {}
    for row, after in itertools.zip_longest(rows, rows[1:]):
        if after is None or after["phase"] != row["phase"]:
            ends[row["phase"]] = after if after and after["step"] == 0 else row
    return ends
