"""Trials rank by the same quantile over their replicates that the owner of the study tells the sampler."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sweeps.analysis import leaderboard
from sweeps.errors import QueryError
from sweeps.query.query import ranked_trials
from sweeps.query.ranking import Ranking, dimensions, front, ranking_of, swept_columns
from sweeps.query.text import render, span
from sweeps.storage.own_files import draw_identity, marked
from sweeps.storage.tables import StudyTables
from sweeps.study.trials import StudyTrials, Trial, Window, end_of

from ..bare_rows import Row, replicates, row, study
from ..problems import STRAIN


def top(studies: list[Path], n: int = 10, by: str | None = None) -> pa.Table:
    """Return the best configurations, with the columns for people."""
    return leaderboard.top(studies, n, by).shown()


# ---- replicates ----------------------------------------------------------------------------------------------------


def test_a_trial_is_one_row_with_the_median_and_range_of_its_replicates(tmp_path: Path) -> None:
    rows = [
        *replicates(0, 0.2, 0.1, 0.9, seconds=3.0, stop_reason="a"),
        *replicates(1, 0.15, None, 0.12, stop_reason="b"),
        *replicates(2, 0.01, None, None),
        *replicates(3, 0.3, 0.3, 0.3),
    ]
    rows[1]["stop_reason"] = "b"
    table = top([study(tmp_path / "demo", "replicates: 3", rows)])
    assert table.column_names[:5] == ["trial", "rel_l2", "rel_l2_min", "rel_l2_max", "replicates"]
    lines = [tuple(line.values())[:5] for line in table.to_pylist()]
    assert lines == [(1, 0.15, 0.12, math.inf, 3), (0, 0.2, 0.1, 0.9, 3), (3, 0.3, 0.3, 0.3, 3)]
    assert ranked_trials([tmp_path / "demo"])["state"].to_pylist() == ["COMPLETE"] * 3 + ["FAIL"]
    assert table["stop_reason"].to_pylist()[:2] == ["b", "a, b"] and table["seconds"].to_pylist()[1] == 3.0
    assert render(table).splitlines()[2].split()[:8] == ["1", "15", "%", "12", "%", "inf", "3", "b"]


@pytest.mark.parametrize(("quantile", "first", "value"), [(0, 2, 0.01), (0.25, 0, 0.125), (1, 3, 0.3)])
def test_another_quantile_gives_another_ranking(tmp_path: Path, quantile: float, first: int, value: float) -> None:
    rows = [*replicates(0, 0.1, 0.15, 0.9), *replicates(2, 0.01, 0.4, None), *replicates(3, 0.3, 0.3, 0.3)]
    table = top([study(tmp_path / "demo", f"replicates: 3, quantile: {quantile}", rows)])
    assert table["trial"][0].as_py() == first and table["rel_l2"][0].as_py() == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("quantile", [0, 0.1, 0.25, 0.5, 2 / 3, 0.9, 1])
def test_trials_rank_by_the_values_of_the_owner(tmp_path: Path, quantile: float) -> None:
    draw = np.random.default_rng(0)
    errors = np.where(draw.random((200, 4)) < draw.random((200, 1)), None, draw.integers(1, 9, (200, 4)) / 8)
    rows = [line for trial, own in enumerate(errors) for line in replicates(trial, *own)]
    trials, expected = StudyTrials(4, quantile, ["rel_l2"]), []
    for number in range(len(errors)):
        trial = Trial(number, number, {}, "", 0, Window(0, 0, 0, 0))
        trial.done = {line["replicate"]: end_of(line, ["rel_l2"]) for line in rows[4 * number : 4 * number + 4]}
        state, values = trials.outcome(trial) or ("", None)
        if state == "COMPLETE" and values:
            expected.append((values[0], number))
    table = top([study(tmp_path / "demo", f"replicates: 4, quantile: {quantile!r}", rows)], 200)
    assert 20 < len(expected) < 200
    assert table["trial"].to_pylist() == [number for _, number in sorted(expected)]
    assert table["rel_l2"].to_pylist() == [value for value, _ in sorted(expected)]


def test_a_trial_is_ranked_once_all_replicates_are_published_and_none_was_pruned(tmp_path: Path) -> None:
    rows = [*replicates(0, 0.1, 0.2), *replicates(1, 0.3, 0.3, 0.3)]
    rows += [row(2, 0.1, r, state="PRUNED" if r == 2 else "COMPLETE") for r in range(3)]
    folder = study(tmp_path / "demo", "replicates: 3", rows)
    assert top([folder])["trial"].to_pylist() == [1]
    lines = ranked_trials([folder])
    assert dict(zip(lines["trial"].to_pylist(), lines["state"].to_pylist(), strict=True)) == {
        1: "COMPLETE",
        2: "PRUNED",
    }


def test_another_metric_ranks_by_its_quantile(tmp_path: Path) -> None:
    rows = [*replicates(0, 0.1, 0.1, 0.1, loss=3.0), *replicates(1, 0.2, 0.2, 0.2, loss=2.0)]
    rows[0]["loss"] = None  # unknown for one replicate, so it counts as infinite
    table = top([study(tmp_path / "demo", "replicates: 3", rows)], by="loss")
    assert table.column_names[:5] == ["trial", "loss", "loss_min", "loss_max", "replicates"]
    assert [tuple(line.values())[:4] for line in table.to_pylist()] == [(1, 2.0, 2.0, 2.0), (0, 3.0, 3.0, math.inf)]


def test_studies_with_and_without_replicates_are_ranked_together(tmp_path: Path) -> None:
    one = study(tmp_path / "it's one", "quantile: 0.9", [row(0, 0.2), row(1, None), row(2, 0.05)])
    many = study(tmp_path / "many", "replicates: 2, quantile: 0", [*replicates(0, 0.1, None), *replicates(1, 0.3, 0.4)])
    table = top([one, many])
    assert [tuple(line.values())[:3] for line in table.to_pylist()] == [
        ("it's one", 2, 0.05),
        ("many", 0, 0.1),
        ("it's one", 0, 0.2),
        ("many", 1, 0.3),
    ]
    assert table["replicates"].to_pylist() == [1, 2, 1, 2]


# ---- trials that are not ranked ------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [1, 2])
def test_repeated_and_failed_trials_are_not_ranked_but_retried_ones_are(tmp_path: Path, several: int) -> None:
    def trial(number: int, error: float | None, **columns: Any) -> list[Row]:
        return replicates(number, *[error] * several, **columns)

    rows = [*trial(0, 0.1), *trial(1, 0.1, duplicate_of=0), *trial(2, None), *trial(3, 0.2, retry_of=2)]
    rows += trial(4, 0.01, state="PRUNED") + trial(5, 0.3, taken_from="/elsewhere/7")
    folder = study(tmp_path / "demo", f"replicates: {several}", rows)
    assert top([folder])["trial"].to_pylist() == [0, 3, 5]
    lines = ranked_trials([folder])
    assert lines["trial"].to_pylist() == [0, 3, 5, 2, 4]
    assert lines["state"].to_pylist() == ["COMPLETE"] * 3 + ["FAIL", "PRUNED"]


# ---- several objectives --------------------------------------------------------------------------------------------


def test_with_several_objectives_the_front_comes_first(tmp_path: Path) -> None:
    pairs = {0: (0.3, 1.0), 1: (0.1, 3.0), 2: (0.2, 3.0), 3: (0.1, 4.0), 4: (0.2, 2.0), 6: (0.3, 1.0)}
    rows = [row(trial, error, loss=loss) for trial, (error, loss) in pairs.items()]
    rows += [row(5, None), row(7, 0.0, loss=0.0, state="PRUNED")]
    folder = study(tmp_path / "demo", "objective: [rel_l2, loss]", rows)
    table = top([folder])
    assert table.column_names[:4] == ["trial", "pareto", "rel_l2", "loss"]
    assert table["trial"].to_pylist() == [1, 4, 0, 6, 3, 2]
    assert table["pareto"].to_pylist() == [True] * 4 + [False] * 2
    assert top([folder], 2)["trial"].to_pylist() == [1, 4]
    assert ranked_trials([folder])["pareto"].to_pylist()[-2:] == [None, None]
    assert "true" in render(table) and '"pareto": true' in render(table, "json")
    by_loss = top([folder], by="loss")
    assert by_loss["trial"].to_pylist() == [0, 6, 4, 1, 2, 3] and "pareto" not in by_loss.column_names
    assert by_loss["rel_l2"].to_pylist()[0] == 0.3


def test_replicates_of_several_objectives(tmp_path: Path) -> None:
    rows = [*replicates(0, 0.1, 0.2, 0.3, loss=1.0), *replicates(1, 0.3, 0.1, 0.1, loss=0.9)]
    folder = study(tmp_path / "demo", "objective: [rel_l2, loss], replicates: 3", rows)
    table = top([folder])
    spread = ["rel_l2", "rel_l2_min", "rel_l2_max", "loss", "loss_min", "loss_max", "replicates"]
    assert table.column_names[:9] == ["trial", "pareto", *spread]
    assert table["trial"].to_pylist() == [1, 0] and table["pareto"].to_pylist() == [True, False]


def test_different_objectives_are_refused(tmp_path: Path) -> None:
    one = study(tmp_path / "one", "objective: [rel_l2, loss]", [row(0, 0.1, loss=1.0)])
    other = study(tmp_path / "other", "", [row(0, 0.2, loss=0.5)])
    with pytest.raises(QueryError, match=r"different objectives \(rel_l2, rel_l2 and loss\)"):
        top([one, other])
    assert top([one, other], by="loss")["study"].to_pylist() == ["other", "one"]


@given(hnp.arrays(float, st.tuples(st.integers(0, 25), st.integers(1, 4)), elements=st.integers(0, 5).map(float)))
def test_no_trial_dominates_one_on_the_front(values: np.ndarray[Any, Any]) -> None:
    expected = [not any((other <= own).all() and (other < own).any() for other in values) for own in values]
    assert front(values).tolist() == expected


# ---- the study file ------------------------------------------------------------------------------------------------


def test_ranking_and_swept_columns_come_from_the_study_file() -> None:
    assert ranking_of({}) == Ranking(("rel_l2",), 1, 0.5)
    search = {"objective": ["loss", "rel_l2"], "replicates": 4, "quantile": 0}
    assert ranking_of({"search": search}) == Ranking(("loss", "rel_l2"), 4, 0.0)
    space = {"second_stage": {"choice": ["lbfgs", "bfgs"]}, "loss": {"when": {"second_stage": "lbfgs"}, "choice": [1]}}
    assert dimensions({"space": space}) == {"second_stage": "choice", "loss": "choice"}
    assert swept_columns({"space": space}, STRAIN.record) == ["second_stage", "problem_loss"]
    listed = {"search": {"sampler": "list", "list": [{"width": 8}, {"depth": 2, "width": 9}]}, "space": {}}
    assert swept_columns(listed, STRAIN.record) == ["width", "depth"]


def test_a_span_has_one_unit() -> None:
    assert span("rel_l2", 0.010061, 0.0205) == "1.01 – 2.05 %" and span("loss", 0.5, 2.0) == "0.5 – 2"
    assert span("rel_l2", 0.01, math.inf) == "1 – ∞"


# ---- scale ---------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_trials_rank_in_seconds(tmp_path: Path) -> None:
    trials, per_trial = 100_000, 2
    rows, draw = trials * per_trial, np.random.default_rng(0)
    folder = study(tmp_path / "big", f"objective: [rel_l2, loss], replicates: {per_trial}", [])
    schema, identity = StudyTables(folder).schema("trials"), draw_identity(folder)
    values = {
        "trial": np.repeat(np.arange(trials), per_trial),
        "replicate": np.tile(np.arange(per_trial), trials),
        "state": ["COMPLETE"] * rows,
        "rel_l2": draw.random(rows),
        "loss": draw.random(rows),
    }
    columns = [pa.array(values[f.name], f.type) if f.name in values else pa.nulls(rows, f.type) for f in schema]
    (folder / "trials").mkdir()
    rows = marked(pa.Table.from_arrays(columns, schema=schema), identity, "trials/all")
    pq.write_table(rows, folder / "trials" / "all.parquet")
    started = time.process_time()  # without waiting for a busy core
    table = top([folder], 20)
    assert time.process_time() - started < 10
    assert table.num_rows == 20 and table["pareto"][0].as_py()
