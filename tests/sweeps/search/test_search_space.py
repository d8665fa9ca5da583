"""Conditional fields and constraints in every sampler: points that are drawn, left out and refused."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import SweepError
from sweeps.search import search_of

from .searches import BOWL, BOWL_WHEN, LEARNING, SAMPLERS, Driver, bowl, points, study

TREE = {
    "second_stage": {"choice": ["lbfgs", "bfgs", "scipy"]},
    "lbfgs_history": {"choice": [5, 50], "when": {"second_stage": "lbfgs"}},
    "width": {"int": [8, 10]},
    "depth": {"int": [2, 3], "when": {"lbfgs_history": 50, "width": [8, 9]}},
}
TREE_COMBINATIONS = {  # by hand: (second_stage, lbfgs_history, width, depth)
    *(("lbfgs", 5, width, None) for width in (8, 9, 10)),
    *(("lbfgs", 50, width, depth) for width in (8, 9) for depth in (2, 3)),
    ("lbfgs", 50, 10, None),
    *((stage, None, width, None) for stage in ("bfgs", "scipy") for width in (8, 9, 10)),
}
NARROW = ["width * depth <= 60", "adam_lr < 5e-3 or width > 8"]


def combination(params: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(params.get(name) for name in ("second_stage", "lbfgs_history", "width", "depth"))


def drawn(**search: Any) -> list[dict[str, Any]]:
    """Return all points of a grid."""
    grid = search_of(study("grid", trials=None, **search))
    return [grid.propose(index).params for index in range(grid.limit)]


# ---- conditional fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_grid_with_conditions_has_every_distinct_combination_once(seed: int) -> None:
    combinations = [combination(params) for params in drawn(space=TREE, seed=seed)]
    assert len(combinations) == 14
    assert set(combinations) == TREE_COMBINATIONS


def test_the_seed_orders_a_grid_with_conditions() -> None:
    assert drawn(space=TREE, seed=1) == drawn(space=TREE, seed=1) != drawn(space=TREE, seed=2)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in ("list", "cmaes")])
def test_points_name_the_active_fields_only(sampler: str) -> None:
    search = search_of(study(sampler, space=TREE))
    for index in range(14):
        params = search.propose(index).params
        assert combination(params) in TREE_COMBINATIONS
        assert None not in params.values()
        assert list(params) == sorted(params)
        assert search.decoded(search.stored(params)) == params
        assert search.distributions(params).keys() == params.keys()


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_conditions_only_remove_fields(sampler: str) -> None:
    """A point of a conditional space is the point of the space without conditions, minus the inactive fields."""
    free = {name: {key: value for key, value in kind.items() if key != "when"} for name, kind in BOWL_WHEN.items()}
    conditional = points(study(sampler, space=BOWL_WHEN, seed=4), range(40))
    for index, params in points(study(sampler, space=free, seed=4), range(40)).items():
        assert conditional[index].items() <= params.items()
        assert ("depth" in conditional[index]) == (params["width"] < 40)
    assert 0 < sum("lbfgs_history" in params for params in conditional.values()) < 40


# ---- constraints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "list"])
def test_constraints_hold_for_every_trial(sampler: str) -> None:
    rules = {"grid": ["width * depth != 16"], "cmaes": ["width < 30"]}
    spec = study(sampler, constraints=rules.get(sampler, NARROW))
    search = search_of(spec)
    for index in range(14):
        params = search.propose(index).params
        assert spec.allowed(params)
        if search.traits.learns:
            search.tell(index, "COMPLETE", (float(index % 5),))


@given(least=st.integers(8, 30), seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("sampler", ["grid", "qmc"])
def test_constraints_skip_points_of_the_same_sequence(sampler: str, least: int, seed: int) -> None:
    space = {"width": {"choice": [8, 20, 30]}, "depth": {"int": [2, 6]}}
    free = search_of(study(sampler, trials=15, space=space, seed=seed))
    allowed = [params for index in range(15) if (params := free.propose(index).params)["width"] >= least]
    narrow = search_of(study(sampler, trials=15, space=space, seed=seed, constraints=[f"width >= {least}"]))
    assert [narrow.propose(index).params for index in range(len(allowed))] == allowed
    assert narrow.limit == (15 if sampler == "qmc" else len(allowed))


def test_forbidden_points_are_drawn_again_from_the_same_generator() -> None:
    free = points(study("random", space=BOWL, seed=3), range(30))
    narrow = points(study("random", space=BOWL, seed=3, constraints=["width < 30"]), range(30))
    assert {index: p for index, p in narrow.items() if free[index]["width"] < 30} == {
        index: p for index, p in free.items() if p["width"] < 30
    }
    assert len({repr(params) for params in narrow.values()}) == 30


def test_constraints_look_at_the_whole_configuration() -> None:
    """Fields that are not swept or not active enter with their values under train."""
    space = {"width": {"int": [1, 10]}, "second_stage": {"choice": ["lbfgs", "bfgs"]}}
    history = {"lbfgs_history": {"choice": [1, 7], "when": {"second_stage": "lbfgs"}}}  # by default 50
    grid = drawn(space={**space, **history}, constraints=["width * lbfgs_history >= 70 * 1.0"])
    expected = {("lbfgs", 7, 10), *(("bfgs", None, width) for width in range(2, 11))}
    assert {(p["second_stage"], p.get("lbfgs_history"), p["width"]) for p in grid} == expected
    assert len(grid) == 10


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe", "cmaes"])
def test_constraints_that_allow_almost_nothing_are_an_error(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.search.independent.MOST_TRIES", 2000)
    search = search_of(study(sampler, space=BOWL, constraints=["adam_lr > 0.0999999999"]))
    message = r"search.constraints must allow some points .* forbid 2,000 of 2,000: adam_lr > 0.0999999999. Loosen them"
    with pytest.raises(SweepError, match=message):
        search.propose(0)


@pytest.mark.parametrize("sampler", LEARNING)
def test_learners_draw_at_random_where_all_their_proposals_are_forbidden(sampler: str) -> None:
    """One point in a thousand is allowed: a hundred proposals usually miss it."""
    driver = Driver(study(sampler, space=BOWL, constraints=["adam_lr < 1.007e-4"]))
    proposals = driver.run(6)
    assert all(proposal.params["adam_lr"] < 1.007e-4 for proposal in proposals)
    driver.restart()
    assert [driver.search.propose(index) for index in range(6)] == proposals


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_learners_learn_where_the_best_point_is_forbidden(sampler: str) -> None:
    """The bowl has its minimum at width * scale_factor = 60, where all tries of a proposal could end.

    Measured means of the late trials: 0.6 (tpe) and 0.4 (gp); of random draws 1.2.
    """
    driver = Driver(study(sampler, space=BOWL, constraints=["width * scale_factor <= 50"], seed=1))
    values = [bowl(proposal.params) for proposal in driver.run(26, at_once=1)]
    assert sum(values[16:]) / 10 < 0.9


def test_a_grid_without_an_allowed_combination_is_refused() -> None:
    """The check of a study file finds this first only where there are few combinations."""
    spec = study("grid")
    spec = dataclasses.replace(spec, search=spec.search.model_copy(update={"constraints": ["width > 99"]}))
    with pytest.raises(SweepError, match=r"forbid 18 of 18: width > 99"):
        _ = search_of(spec).limit


# ---- large grids -----------------------------------------------------------------------------------------------------


def test_a_grid_of_a_hundred_thousand_combinations_is_written_out_quickly() -> None:
    """Measured 0.1 s of processor time for the limit and the first points."""
    space = {
        "width": {"int": [1, 100]},
        "depth": {"int": [1, 10]},
        "epochs": {"int": [1, 100]},
        "lbfgs_history": {"int": [1, 10], "when": {"width": [1, 2]}},
    }
    spec = study("grid", space=space, trials=None, constraints=["width * depth <= 200"])
    started = time.process_time()
    search = search_of(spec)
    pairs = [(width, depth) for width in range(1, 101) for depth in range(1, 11) if width * depth <= 200]
    assert search.limit == sum(100 * (10 if width <= 2 else 1) for width, _ in pairs)
    assert len({repr(search.propose(index)) for index in range(100)}) == 100
    assert time.process_time() - started < 1


def test_a_grid_too_large_to_write_out_is_refused_with_a_way_out() -> None:
    space = {"width": {"int": [1, 1000]}, "depth": {"int": [1, 1001]}}
    assert search_of(study("grid", space=space, trials=None)).limit == 1_001_000
    with pytest.raises(SweepError, match=r"may have 1,000,000 combinations, got 1,001,000 or more. List fewer values"):
        _ = search_of(study("grid", space=space, trials=None, constraints=["width > depth"])).limit
