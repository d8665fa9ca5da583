"""Rank correlations between rungs and the end, compared with a slow and simple reference."""

from __future__ import annotations

import math
import time
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from sweeps.analysis.rungs import RungFairness, rung_correlations
from sweeps.search.pruners import rungs_of
from sweeps.spec.sections import PrunerSettings

ASHA = PrunerSettings(kind="asha", reduction=2, rungs=2)  # at 1/4 and 1/2
EPOCHS, ITERATIONS, EVERY = 40, 60, 5  # rungs at 25, in the first stage, and 50, in the second
Member = dict[str, Any]


def member(trial: int, course: list[float], *, replicate: int = 0, state: str = "COMPLETE", final: Any = ...) -> Member:
    """Return a member with a row every five steps: `course` is its metric there, `final` its objective, or the last."""
    final = course[-1] if final is ... else final
    return {"trial": trial, "replicate": replicate, "state": state, "course": course, "final": final}


def line(start: float, end: float) -> list[float]:
    return [float(value) for value in np.linspace(start, end, 21)]


def tables(members: list[Member], *, metric: str = "rel_l2", objective: str = "rel_l2") -> tuple[pa.Table, pa.Table]:
    curves = []
    for one in members:
        for place, value in enumerate(one["course"]):
            running = place * EVERY
            stage, step = ("first", running) if running < EPOCHS else ("second", running - EPOCHS)
            row = {"phase": stage, "step": step, "loss": 1.0, "rel_l2": 1.0, metric: value}
            curves.append({"trial": one["trial"], "replicate": one["replicate"], **row})
    planned = {"epochs": EPOCHS, "iterations": ITERATIONS}
    names = ("trial", "replicate", "state")
    trials = [{**{name: one[name] for name in names}, **planned, objective: one["final"]} for one in members]
    kinds = {"trial": pa.int32(), "replicate": pa.int32(), "phase": pa.string(), "step": pa.int32()}
    schema = pa.schema([*kinds.items(), ("loss", pa.float64()), ("rel_l2", pa.float64())])
    columns = {"state": pa.string(), "epochs": pa.int64(), "iterations": pa.int64(), objective: pa.float64()}
    key = {"trial": pa.int32(), "replicate": pa.int32()}
    return pa.Table.from_pylist(curves, schema), pa.Table.from_pylist(trials, pa.schema(list((key | columns).items())))


def judged(members: list[Member], settings: PrunerSettings = ASHA) -> list[RungFairness]:
    with duckdb.connect() as connection:
        return rung_correlations(connection, *tables(members), settings, "rel_l2", "rel_l2")


def reference(members: list[Member], settings: PrunerSettings) -> list[RungFairness]:
    """Return the rungs by their definition, one member and one row at a time."""
    rungs = []
    for rung in rungs_of(settings, 0):
        limit = rung * (EPOCHS + ITERATIONS) / 1000
        early: dict[int, list[float]] = {}
        late: dict[int, list[float]] = {}
        for one in (m for m in members if m["state"] == "COMPLETE"):
            running = [place * EVERY for place in range(len(one["course"]))]
            if running and running[-1] >= limit:
                value = [value for step, value in zip(running, one["course"], strict=True) if step <= limit][-1]
                early.setdefault(one["trial"], []).append(value)
            if one["final"] is not None:
                late.setdefault(one["trial"], []).append(one["final"])
        both = sorted(set(early) & set(late))
        x, y = ([median(side[trial]) for trial in both] for side in (early, late))
        rho = None
        if len(both) >= 3 and len(set(x)) > 1 and len(set(y)) > 1:
            rho = float(spearmanr(x, y).statistic)
        rungs.append(RungFairness(rung / 1000, len(both), rho, 0))
    return rungs


def test_an_order_that_holds_and_one_that_turns() -> None:
    """At a quarter the order is the reverse of the final one, at half it is the final one."""
    courses = [[float(9 - trial)] * 6 + [float(trial)] * 15 for trial in range(5)]
    rungs = judged([member(trial, course) for trial, course in enumerate(courses)])
    assert [(rung.rung, rung.trials, rung.pruned) for rung in rungs] == [(0.25, 5, 0), (0.5, 5, 0)]
    assert [rung.correlation for rung in rungs] == pytest.approx([-1, 1])


def test_the_row_at_a_rung_belongs_to_it_and_the_next_does_not() -> None:
    flat = [[0.0] * 5 + [float(trial)] + [0.0] * 14 + [float(trial)] for trial in range(3)]
    at_quarter, at_half = judged([member(trial, course) for trial, course in enumerate(flat)])
    assert at_quarter.correlation == pytest.approx(1)
    assert at_half.correlation is None  # all equal there


@pytest.mark.parametrize(("trials", "known"), [(2, False), (3, True)])
def test_two_trials_have_no_correlation(trials: int, known: bool) -> None:
    rungs = judged([member(trial, line(1 + trial, trial)) for trial in range(trials)])
    assert [rung.trials for rung in rungs] == [trials, trials]
    assert [rung.correlation is not None for rung in rungs] == [known, known]


def test_equal_final_values_have_no_correlation() -> None:
    assert [rung.correlation for rung in judged([member(n, line(1 + n, n), final=0.5) for n in range(4)])] == [None] * 2


def test_a_trial_that_ended_before_a_rung_does_not_count_there() -> None:
    members = [member(trial, line(1 + trial, trial)) for trial in range(4)]
    members.append(member(4, [9.0] * 7, final=0.1))  # converged at step 30
    assert [rung.trials for rung in judged(members)] == [5, 4]


def test_pruned_and_failed_trials_are_counted_but_not_correlated() -> None:
    members = [member(trial, line(1 + trial, trial)) for trial in range(4)]
    members += [
        member(4, [9.0] * 6, state="PRUNED", final=None),  # at 25
        member(5, [9.0] * 7, state="PRUNED", final=None),  # at 30: after the first rung
        member(6, [9.0] * 11, state="PRUNED", final=None),  # at 50
        member(7, [9.0] * 5, state="PRUNED", final=None),  # at 20: at no rung
        member(8, [0.0] * 21, state="FAIL", final=None),
    ]
    rungs = judged(members)
    assert [rung.pruned for rung in rungs] == [2, 1]
    assert [rung.trials for rung in rungs] == [4, 4]
    assert [rung.correlation for rung in rungs] == pytest.approx([1, 1])


def test_a_pruned_trial_of_several_replicates_counts_once() -> None:
    members = [member(0, [1.0] * n, replicate=r, state="PRUNED", final=None) for r, n in enumerate((6, 11, 11))]
    assert [rung.pruned for rung in judged(members)] == [0, 1]


def test_a_pruned_trial_is_not_correlated_by_the_replicates_that_ended_before() -> None:
    members = [member(trial, line(1 + trial, trial)) for trial in range(4)]
    members += [member(4, [9.0] * 11, state="PRUNED", final=None), member(4, line(9, 0), replicate=1)]
    rungs = judged(members)
    assert [(rung.trials, rung.pruned) for rung in rungs] == [(4, 0), (4, 1)]
    assert [rung.correlation for rung in rungs] == pytest.approx([1, 1])


def test_a_bracket_is_stopped_at_its_own_rungs_only() -> None:
    settings = PrunerSettings(kind="hyperband", reduction=2, rungs=2, brackets=2)
    members = [member(trial, [1.0] * 7, state="PRUNED", final=None) for trial in (0, 1)]
    assert [rung.pruned for rung in judged(members, settings)] == [1, 0]


def test_the_median_over_replicates_counts() -> None:
    """One outlier among three replicates changes nothing."""
    members = []
    for trial in range(4):
        wild = [100.0 * (4 - trial)] * 21
        courses = [line(trial, trial), wild, line(trial - 1.5, trial - 1.5)]
        members += [member(trial, course, replicate=r) for r, course in enumerate(courses)]
    assert [rung.correlation for rung in judged(members)] == pytest.approx([1, 1])


def test_without_a_pruner_the_rungs_are_those_of_asha() -> None:
    members = [member(trial, line(1 + trial, trial)) for trial in range(4)]
    for kind in ("none", "patience"):
        rungs = judged(members, PrunerSettings(kind=kind))
        assert [rung.rung for rung in rungs] == [0.037, 0.111, 0.333]
        assert [rung.correlation for rung in rungs] == pytest.approx([1, 1, 1])


def test_the_correlation_is_that_of_the_metric_with_the_objective() -> None:
    members = [member(trial, line(1 + trial, trial)) for trial in range(4)]
    curves, trials = tables(members, metric="loss", objective="paper_metric")
    by_error = rung_correlations(duckdb.connect(), curves, trials, ASHA, "rel_l2", "paper_metric")
    assert [rung.correlation for rung in by_error] == [None, None]  # rel_l2 is 1 everywhere
    by_loss = rung_correlations(duckdb.connect(), curves, trials, ASHA, "loss", "paper_metric")
    assert [rung.correlation for rung in by_loss] == pytest.approx([1, 1])


def test_an_empty_study_has_rungs_and_nothing_there() -> None:
    expected = [RungFairness(0.25, 0, None, 0), RungFairness(0.5, 0, None, 0)]
    assert judged([]) == expected
    curves, trials = tables([member(0, [1.0])])
    assert rung_correlations(duckdb.connect(), curves.slice(0, 0), trials, ASHA, "rel_l2", "rel_l2") == expected
    assert rung_correlations(duckdb.connect(), curves, trials.slice(0, 0), ASHA, "rel_l2", "rel_l2") == expected


def test_numbers_that_are_not_finite_are_left_out() -> None:
    members = [member(trial, line(1 + trial, trial)) for trial in range(4)]
    members += [member(4, [math.nan] * 21, final=0.0), member(5, line(0, 0), final=math.inf)]
    assert [rung.trials for rung in judged(members)] == [4, 4]


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9).map(float), min_size=1, max_size=21),
            st.sampled_from(["COMPLETE", "COMPLETE", "COMPLETE", "FAIL"]),
            st.none() | st.integers(0, 9).map(float),
        ),
        max_size=24,
    ),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_against_the_definition(
    drawn: list[tuple[list[float], str, float | None]], replicates: int, random: Any
) -> None:
    members = [
        member(place // replicates, course, replicate=place % replicates, state=state, final=final)
        for place, (course, state, final) in enumerate(drawn)
    ]
    expected = reference(members, ASHA)
    random.shuffle(members)  # the order of rows does not matter either
    rungs = judged(members)
    for one, other in zip(rungs, expected, strict=True):
        assert (one.rung, one.trials, one.pruned) == (other.rung, other.trials, other.pruned)
        assert one.correlation == (None if other.correlation is None else pytest.approx(other.correlation))


def test_ten_thousand_trials_take_less_than_a_second() -> None:
    trials, rows = 10_000, 100
    generator = np.random.default_rng(0)
    number = np.repeat(np.arange(trials, dtype=np.int32), rows)
    error = generator.random(trials * rows)
    curves = pa.table(
        {
            "trial": number,
            "replicate": np.zeros_like(number),
            "phase": pa.array(["first"] * 50 + ["second"] * 50).take(np.tile(np.arange(rows), trials)),
            "step": np.tile(np.r_[np.arange(50), np.arange(50)].astype(np.int32), trials),
            "loss": error,
            "rel_l2": error,
        }
    )
    column = np.full(trials, 50)
    finals = {"rel_l2": error[rows - 1 :: rows], "state": ["COMPLETE"] * trials}
    keys = {"trial": np.arange(trials), "replicate": np.zeros(trials, dtype=int)}
    table = pa.table({**keys, **finals, "epochs": column, "iterations": column - 1})
    started = time.process_time()  # without waiting for a busy core
    rungs = rung_correlations(duckdb.connect(), curves, table, PrunerSettings(), "rel_l2", "rel_l2")
    assert time.process_time() - started < 1
    assert [rung.trials for rung in rungs] == [trials] * 3
