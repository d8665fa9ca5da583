"""A trial ranks by the quantile over its replicates that the owner of its study told the sampler, and by no other."""

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
from sweeps.storage.tables import StudyTables
from sweeps.study.trials import Book, Trial, end_of

from .. import synthetic
from ..bare_rows import Row, replicates, row, study


def top(studies: list[Path], n: int = 10, by: str | None = None) -> pa.Table:
    """The best configurations as people see them."""
    return leaderboard.top(studies, n, by).shown()


# ---- replicates ----------------------------------------------------------------------------------------------------


def test_a_trial_is_a_line_with_the_median_of_its_replicates_and_their_spread(tmp_path: Path) -> None:
    rows = [
        *replicates(0, 0.2, 0.1, 0.9, seconds=3.0, stop_reason="a"),
        *replicates(1, 0.15, None, 0.12, stop_reason="b"),
        *replicates(2, 0.01, None, None),
        *replicates(3, 0.3, 0.3, 0.3),
    ]
    rows[1]["stop_reason"] = "b"
    found = top([study(tmp_path / "demo", "replicates: 3", rows)])
    assert found.column_names[:5] == ["trial", "rel_l2", "rel_l2_min", "rel_l2_max", "replicates"]
    lines = [tuple(line.values())[:5] for line in found.to_pylist()]
    assert lines == [(1, 0.15, 0.12, math.inf, 3), (0, 0.2, 0.1, 0.9, 3), (3, 0.3, 0.3, 0.3, 3)]
    assert ranked_trials([tmp_path / "demo"])["state"].to_pylist() == ["COMPLETE"] * 3 + ["FAIL"]
    assert found["stop_reason"].to_pylist()[:2] == ["b", "a, b"] and found["seconds"].to_pylist()[1] == 3.0
    assert render(found).splitlines()[2].split()[:8] == ["1", "15", "%", "12", "%", "inf", "3", "b"]


@pytest.mark.parametrize(("quantile", "first", "value"), [(0, 2, 0.01), (0.25, 0, 0.125), (1, 3, 0.3)])
def test_another_quantile_ranks_otherwise(tmp_path: Path, quantile: float, first: int, value: float) -> None:
    rows = [*replicates(0, 0.1, 0.15, 0.9), *replicates(2, 0.01, 0.4, None), *replicates(3, 0.3, 0.3, 0.3)]
    found = top([study(tmp_path / "demo", f"replicates: 3, quantile: {quantile}", rows)])
    assert found["trial"][0].as_py() == first and found["rel_l2"][0].as_py() == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("quantile", [0, 0.1, 0.25, 0.5, 2 / 3, 0.9, 1])
def test_trials_rank_as_the_owner_values_them(tmp_path: Path, quantile: float) -> None:
    draw = np.random.default_rng(0)
    errors = np.where(draw.random((200, 4)) < draw.random((200, 1)), None, draw.integers(1, 9, (200, 4)) / 8)
    rows = [each for trial, own in enumerate(errors) for each in replicates(trial, *own)]
    book, expected = Book(4, quantile), []
    for number in range(len(errors)):
        trial = Trial(number, number, {}, "", 0, ())
        trial.done = {each["replicate"]: end_of(each, ["rel_l2"]) for each in rows[4 * number : 4 * number + 4]}
        state, values = book.outcome(trial) or ("", None)
        if state == "COMPLETE" and values:
            expected.append((values[0], number))
    found = top([study(tmp_path / "demo", f"replicates: 4, quantile: {quantile!r}", rows)], 200)
    assert 20 < len(expected) < 200
    assert found["trial"].to_pylist() == [number for _, number in sorted(expected)]
    assert found["rel_l2"].to_pylist() == [value for value, _ in sorted(expected)]


def test_a_trial_counts_when_all_its_replicates_are_published_and_none_was_pruned(tmp_path: Path) -> None:
    rows = [*replicates(0, 0.1, 0.2), *replicates(1, 0.3, 0.3, 0.3)]
    rows += [row(2, 0.1, r, state="PRUNED" if r == 2 else "COMPLETE") for r in range(3)]
    folder = study(tmp_path / "demo", "replicates: 3", rows)
    assert top([folder])["trial"].to_pylist() == [1]
    lines = ranked_trials([folder])
    assert dict(zip(lines["trial"].to_pylist(), lines["state"].to_pylist(), strict=True)) == {
        1: "COMPLETE",
        2: "PRUNED",
    }


def test_by_another_metric_its_quantile_ranks(tmp_path: Path) -> None:
    rows = [*replicates(0, 0.1, 0.1, 0.1, loss=3.0), *replicates(1, 0.2, 0.2, 0.2, loss=2.0)]
    rows[0]["loss"] = None  # cannot be had of one replicate: the worst of three
    found = top([study(tmp_path / "demo", "replicates: 3", rows)], by="loss")
    assert found.column_names[:5] == ["trial", "loss", "loss_min", "loss_max", "replicates"]
    assert [tuple(line.values())[:4] for line in found.to_pylist()] == [(1, 2.0, 2.0, 2.0), (0, 3.0, 3.0, math.inf)]


def test_studies_with_and_without_replicates_stand_beside_each_other(tmp_path: Path) -> None:
    one = study(tmp_path / "it's one", "quantile: 0.9", [row(0, 0.2), row(1, None), row(2, 0.05)])
    many = study(tmp_path / "many", "replicates: 2, quantile: 0", [*replicates(0, 0.1, None), *replicates(1, 0.3, 0.4)])
    found = top([one, many])
    assert [tuple(line.values())[:3] for line in found.to_pylist()] == [
        ("it's one", 2, 0.05),
        ("many", 0, 0.1),
        ("it's one", 0, 0.2),
        ("many", 1, 0.3),
    ]
    assert found["replicates"].to_pylist() == [1, 2, 1, 2]


# ---- what does not rank --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [1, 2])
def test_repeated_and_failed_trials_do_not_rank_and_trained_again_ones_do(tmp_path: Path, several: int) -> None:
    def trial(number: int, error: float | None, **columns: Any) -> list[Row]:
        return replicates(number, *[error] * several, **columns)

    rows = [*trial(0, 0.1), *trial(1, 0.1, duplicate_of=0), *trial(2, None), *trial(3, 0.2, retry_of=2)]
    rows += trial(4, 0.01, state="PRUNED") + trial(5, 0.3, taken_from="/elsewhere/7")
    folder = study(tmp_path / "demo", f"replicates: {several}", rows)
    assert top([folder])["trial"].to_pylist() == [0, 3, 5]
    lines = ranked_trials([folder])
    assert lines["trial"].to_pylist() == [0, 3, 5, 2, 4]
    assert lines["state"].to_pylist() == ["COMPLETE"] * 3 + ["FAIL", "PRUNED"]


def test_a_study_of_an_older_version_ranks_as_before(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=4, failed=1)
    before = top([tables.study_dir])
    for file in tables.files("trials"):
        older = pq.read_table(file).drop_columns(["duplicate_of", "retry_of", "rebatched", "divergence_factor"])
        place = older.column_names.index("seed")
        pq.write_table(older.add_column(place, "member", pa.array([0] * len(older), pa.int32())), file)
    assert top([tables.study_dir]).equals(before) and before.num_rows == 4


# ---- several objectives --------------------------------------------------------------------------------------------


def test_of_several_objectives_compromises_come_first(tmp_path: Path) -> None:
    pairs = {0: (0.3, 1.0), 1: (0.1, 3.0), 2: (0.2, 3.0), 3: (0.1, 4.0), 4: (0.2, 2.0), 6: (0.3, 1.0)}
    rows = [row(trial, error, loss=loss) for trial, (error, loss) in pairs.items()]
    rows += [row(5, None), row(7, 0.0, loss=0.0, state="PRUNED")]
    folder = study(tmp_path / "demo", "objective: [rel_l2, loss]", rows)
    found = top([folder])
    assert found.column_names[:4] == ["trial", "pareto", "rel_l2", "loss"]
    assert found["trial"].to_pylist() == [1, 4, 0, 6, 3, 2]
    assert found["pareto"].to_pylist() == [True] * 4 + [False] * 2
    assert top([folder], 2)["trial"].to_pylist() == [1, 4]
    assert ranked_trials([folder])["pareto"].to_pylist()[-2:] == [None, None]
    assert "true" in render(found) and '"pareto": true' in render(found, "json")
    by_loss = top([folder], by="loss")
    assert by_loss["trial"].to_pylist() == [0, 6, 4, 1, 2, 3] and "pareto" not in by_loss.column_names
    assert by_loss["rel_l2"].to_pylist()[0] == 0.3


def test_replicates_of_several_objectives(tmp_path: Path) -> None:
    rows = [*replicates(0, 0.1, 0.2, 0.3, loss=1.0), *replicates(1, 0.3, 0.1, 0.1, loss=0.9)]
    folder = study(tmp_path / "demo", "objective: [rel_l2, loss], replicates: 3", rows)
    found = top([folder])
    spread = ["rel_l2", "rel_l2_min", "rel_l2_max", "loss", "loss_min", "loss_max", "replicates"]
    assert found.column_names[:9] == ["trial", "pareto", *spread]
    assert found["trial"].to_pylist() == [1, 0] and found["pareto"].to_pylist() == [True, False]


def test_other_objectives_in_another_study_are_told(tmp_path: Path) -> None:
    one = study(tmp_path / "one", "objective: [rel_l2, loss]", [row(0, 0.1, loss=1.0)])
    other = study(tmp_path / "other", "", [row(0, 0.2, loss=0.5)])
    with pytest.raises(QueryError, match=r"different objectives \(rel_l2, rel_l2 and loss\)"):
        top([one, other])
    assert top([one, other], by="loss")["study"].to_pylist() == ["other", "one"]


@given(hnp.arrays(float, st.tuples(st.integers(0, 25), st.integers(1, 4)), elements=st.integers(0, 5).map(float)))
def test_the_front_is_what_nothing_dominates(values: np.ndarray[Any, Any]) -> None:
    expected = [not any((other <= own).all() and (other < own).any() for other in values) for own in values]
    assert front(values).tolist() == expected


# ---- the study file ------------------------------------------------------------------------------------------------


def test_rules_and_swept_columns_come_from_the_study_file() -> None:
    assert ranking_of({}) == Ranking(("rel_l2",), 1, 0.5)
    search = {"objective": ["loss", "rel_l2"], "replicates": 4, "quantile": 0}
    assert ranking_of({"search": search}) == Ranking(("loss", "rel_l2"), 4, 0.0)
    space = {"second_stage": {"choice": ["lbfgs", "bfgs"]}, "loss": {"when": {"second_stage": "lbfgs"}, "choice": [1]}}
    assert dimensions({"space": space}) == {"second_stage": "choice", "loss": "choice"}
    assert swept_columns({"space": space}) == ["second_stage", "problem_loss"]
    listed = {"search": {"sampler": "list", "list": [{"width": 8}, {"depth": 2, "width": 9}]}, "space": {}}
    assert swept_columns(listed) == ["width", "depth"]


def test_a_span_has_one_unit() -> None:
    assert span("rel_l2", 0.010061, 0.0205) == "1.01 – 2.05 %" and span("loss", 0.5, 2.0) == "0.5 – 2"
    assert span("rel_l2", 0.01, math.inf) == "1 – ∞"


# ---- scale ---------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_trials_rank_in_seconds(tmp_path: Path) -> None:
    trials, per_trial = 100_000, 2
    rows, draw = trials * per_trial, np.random.default_rng(0)
    folder = study(tmp_path / "big", f"objective: [rel_l2, loss], replicates: {per_trial}", [])
    schema = StudyTables(folder).schemas["trials"]
    known = {
        "trial": np.repeat(np.arange(trials), per_trial),
        "replicate": np.tile(np.arange(per_trial), trials),
        "state": ["COMPLETE"] * rows,
        "rel_l2": draw.random(rows),
        "loss": draw.random(rows),
    }
    columns = [pa.array(known[f.name], f.type) if f.name in known else pa.nulls(rows, f.type) for f in schema]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), folder / "trials" / "all.parquet")
    started = time.process_time()  # not the wait for a busy core
    found = top([folder], 20)
    assert time.process_time() - started < 10
    assert found.num_rows == 20 and found["pareto"][0].as_py()
