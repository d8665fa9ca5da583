"""One trial out of a study's tables: its rows, its kept weights, its network."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

import pinncore
from pinncore.networks import flatten, parameter_count

from ..errors import StudyError
from ..own_name import own_name
from ..spec.study_spec import build_settings
from ..states import FAIL
from ..storage import database, optuna_reader
from ..storage.object_store import Remote
from ..storage.schema import config_of
from ..storage.stored_tables import tables_of
from ..storage.tables import of_member
from ..study.home import local
from ..study.study_file import identified, whole_text

Row = dict[str, Any]
Array = NDArray[np.float64]


def rows_of(place: Path | Remote, trial: int) -> list[Row]:
    """The trials rows of a trial, one a replicate that finished, by number. Raises `StudyError` where there is none."""
    rows = tables_of(place).read("trials", where=ds.field("trial") == trial).to_pylist()
    if not rows:
        raise StudyError(_no_row(place, trial))
    return sorted(rows, key=lambda row: row["replicate"])


def row_of(place: Path | Remote, trial: int, replicate: int = 0) -> Row:
    """The row of one replicate. Raises `StudyError` where it has not finished, or there is no such one."""
    rows = {row["replicate"]: row for row in rows_of(place, trial)}
    if replicate not in rows:
        there = ", ".join(map(str, rows))
        raise StudyError(f"trial {trial} of {place} has no finished replicate {replicate}; finished: {there}")
    return rows[replicate]


def original(place: Path | Remote, row: Row) -> Row:
    """The row of the trial whose results stand in a row: itself, or the trial that it repeats."""
    return row if row["duplicate_of"] is None else row_of(place, row["duplicate_of"], row["replicate"])


def part_of(place: Path | Remote, table: str, row: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The columns of `curves`, `fields` or `weights` that belong to a row."""
    where = of_member(row["trial"], row["replicate"])
    found = tables_of(place).read(table, where=where).drop_columns(["trial", "replicate"])
    return {
        name: np.asarray(found[name].to_pylist() if name == "phase" else found[name]) for name in found.column_names
    }


def settings_of(row: Mapping[str, Any]) -> tuple[pinncore.TrainSettings, Any]:
    """The settings records of a row's configuration; what a row of an earlier version lacks has its default."""
    config = config_of(row)
    return build_settings(
        {section: {k: v for k, v in values.items() if v is not None} for section, values in config.items()}
    )


def kept_weights(place: Path | Remote, row: Mapping[str, Any]) -> dict[int, Array]:
    """The flat parameter vectors [parameters] of a row by running epoch; the last is the final network.

    Empty where the study keeps no weights. Raises `StudyError` where they are not whole.
    """
    found = part_of(place, "weights", row)
    train, problem = settings_of(row)
    layers = pinncore.Member(train, problem).layers
    kept = {}
    for epoch in sorted(set(found["epoch"].tolist())):
        here = found["epoch"] == epoch
        order = np.lexsort([found[name][here] for name in ("column", "row", "layer")])
        layer, value = found["layer"][here][order], found["value"][here][order]
        by_layer = [value[layer == number] for number in range(1, len(layers))]
        sizes = [(before + 1) * after for before, after in itertools.pairwise(layers)]
        if [len(each) for each in by_layer] != sizes or len(value) != parameter_count(layers):
            raise StudyError(f"the weights of trial {row['trial']} of {place} at epoch {epoch} are not whole")
        tables = [each.reshape(-1, after) for each, after in zip(by_layer, layers[1:], strict=True)]
        kept[int(epoch)] = flatten([(table[1:], table[0]) for table in tables])  # the bias is row -1
    return kept


def network_of(
    place: Path | Remote, trial: int, replicate: int = 0, *, epoch: int | None = None
) -> pinncore.TrainedNetwork:
    """The trained network of a replicate, with its final weights or those of a kept `epoch`.

    A trial that repeats another has the other's. Raises `StudyError` where there is no such trial, where it failed or
    kept no weights, and where its data have changed since; `pinncore.DataError` where these are gone.
    """
    row = original(place, row_of(place, trial, replicate))
    named = f"replicate {replicate} of trial {trial} of {place}"
    if row["state"] == FAIL and epoch is None:
        raise StudyError(f"{named} failed ({row['failure']}): it has no trained network")
    kept = kept_weights(place, row)
    if not kept:
        raise StudyError(
            f"{named} kept no weights: its study has results.weights: none. This makes them anew: "
            f"{own_name()} retrain {shlex.quote(str(place))} {trial} -o network.npz"
        )
    chosen = max(kept) if epoch is None else epoch
    if chosen not in kept:
        raise StudyError(f"{named} kept no weights of epoch {epoch}; kept: {', '.join(map(str, kept))}")
    if not np.isfinite(kept[chosen]).all():
        raise StudyError(f"{named} has a weight that is not finite at epoch {chosen}")
    train, problem = settings_of(row)
    network = pinncore.TrainedNetwork(problem, replace(train, engine=row["engine_used"] or "auto"), kept[chosen])
    if row["data_hash"] not in (None, network.problem.data_sha256):
        raise StudyError(
            f"the data of {named} have changed since it was trained (hash {row['data_hash'][:12]}, now "
            f"{network.problem.data_sha256[:12]}), and they belong to its scaling. Restore them"
        )
    return network


def described(place: Path | Remote, row: Mapping[str, Any], *, epoch: int | None = None) -> dict[str, Any]:
    """Where a network comes from, for files that leave the study; without an `epoch` it is the final one."""
    names = ["trial", "replicate", "state", "seed", "config_hash", "data_hash", "pinnsweep_version"]
    names += ["rel_l2"] if epoch is None else []
    return {"study": place.name, **{name: row[name] for name in names}, "epoch": epoch}


def asked_trial(place: Path | Remote, trial: int) -> optuna_reader.TrialRecord | None:
    """State and parameters of a trial by the study's database; None where it was not asked for.

    Raises `StudyError` where the database cannot be reached.
    """
    study_dir = local(Path(str(place)))
    name, where = identified(whole_text(study_dir), study_dir)
    connection = database.connect(where)
    try:
        study = optuna_reader.study_id(connection, name)
        found = connection.rows("SELECT trial_id, state FROM trials WHERE study_id = ? AND number = ?", study, trial)
        if not found:
            return None
        trial_id, standing = found[0]
        params = connection.rows(
            "SELECT param_name, distribution_json, param_value FROM trial_params WHERE trial_id = ? ORDER BY param_id",
            trial_id,
        )
    finally:
        connection.close()
    return optuna_reader.TrialRecord(
        trial, standing, {name: optuna_reader.parameter(kind, value) for name, kind, value in params}
    )


def _no_row(place: Path | Remote, trial: int) -> str:
    """Why a trial has no row."""
    try:
        asked = asked_trial(place, trial)
    except StudyError:
        asked = None
    if asked is not None:
        return f"trial {trial} of {place} is {asked.state}: it has no results yet"
    numbers = tables_of(place).read("trials", columns=["trial"])["trial"].to_numpy()
    if not len(numbers):
        return f"the study {place} has no finished trial yet"
    return f"the study {place} has no trial {trial}; its finished trials are {numbers.min()} to {numbers.max()}"
