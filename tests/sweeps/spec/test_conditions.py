"""Dimensions that exist only for some values of others, and configurations that constraints leave out."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import SweepError
from sweeps.spec.combinations import grid_count, possible, related
from sweeps.spec.conditions import (
    combinations,
    is_active,
    linked,
    never_active,
    parents_first,
    with_conditions,
    with_parents,
)
from sweeps.spec.dimensions import Choice, Dimension, Int, contains
from sweeps.spec.parse import parse_spec
from sweeps.study.input_checks import warnings_of
from sweeps.study.loading import load_text
from sweeps.study.problems import load_problem
from tests.sweeps.spec.study_files import ELSEWHERE, MINIMAL

NETS = """
study: s
search: {trials: 4}
space:
  lbfgs_memory: {choice: [two_loop, compact], when: {second_stage: lbfgs, lbfgs_history: [5, 50]}}
  lbfgs_history: {choice: [5, 50, 500], when: {second_stage: [lbfgs, scipy]}}
  second_stage: {choice: [lbfgs, bfgs, scipy]}
  width: {int: [8, 9]}
train: {lbfgs_history: 20, depth: 3}
"""


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Dimension]:
    """Draw small spaces of the fields a, b, c, d, each depending on some of those before it in the alphabet."""
    space: dict[str, Dimension] = {}
    for field in "abcd"[: draw(st.integers(1, 4))]:
        when = {}
        for parent in draw(st.lists(st.sampled_from(sorted(space)), unique=True)) if space else []:
            values = list(space[parent].finite_values() or ())
            when[parent] = tuple(draw(st.lists(st.sampled_from(values), min_size=1, unique=True)))
        kind = draw(st.sampled_from([Choice((1, 2)), Choice(("x", "y", "z")), Int(1, 3)]))
        space[field] = dataclasses.replace(kind, when=when)
    return dict(draw(st.permutations(list(space.items()))))


def combinations_by_hand(space: dict[str, Dimension]) -> set[tuple[tuple[str, Any], ...]]:
    """Return every combination of all values, with inactive dimensions removed until none is left."""
    distinct = set()
    for values in itertools.product(*(kind.finite_values() or () for kind in space.values())):
        params = dict(zip(space, values, strict=True))
        while dropped := [
            name
            for name in params
            if any(
                parent not in params or params[parent] not in allowed for parent, allowed in space[name].when.items()
            )
        ]:
            params = {name: value for name, value in params.items() if name not in dropped}
        distinct.add(tuple(sorted(params.items())))
    return distinct


@given(space=spaces())
def test_combinations_are_distinct_and_complete(space: dict[str, Dimension]) -> None:
    listed = [tuple(sorted(params.items())) for params in combinations(space, space, lambda kind: kind.finite_values())]
    assert len(listed) == len(set(listed))
    assert set(listed) == combinations_by_hand(space)
    order = parents_first(space)
    assert sorted(order) == sorted(space)
    assert all(order.index(parent) < order.index(name) for name in space for parent in space[name].when)
    for name in space:
        ever = any(name in dict(params) for params in listed)
        assert never_active(space, name) == (not ever)


def test_a_grid_is_counted_without_being_written_out() -> None:
    whole = ", ".join(f"{name}: {{int: [1, 1000]}}" for name in ("width", "depth", "epochs", "iterations"))
    child = "lbfgs_history: {choice: [1, 2, 3], when: {width: 7}}"
    spec = load_text(f"{MINIMAL}space: {{{whole}, {child}}}", base=ELSEWHERE)
    assert grid_count(spec, 10_000) == 1000**3 * (999 + 3)


def test_a_field_whose_condition_does_not_hold_has_its_own_value() -> None:
    spec = load_text(NETS, base=ELSEWHERE)
    assert spec.space["lbfgs_history"].when == {"second_stage": ("lbfgs", "scipy")}
    assert spec.space["width"].when == {}
    config = spec.config({"second_stage": "bfgs", "width": 8})
    assert (config["train"]["lbfgs_history"], config["train"]["lbfgs_memory"], config["train"]["depth"]) == (
        20,
        "auto",
        3,
    )
    assert spec.config({"second_stage": "scipy", "lbfgs_history": 500, "width": 8})["train"]["lbfgs_history"] == 500
    assert spec.values("lbfgs_history") == (5, 50, 500, 20)
    assert spec.train["lbfgs_history"] == 20 and "width" not in spec.train


@pytest.mark.parametrize(
    ("params", "active"),
    [
        ({"second_stage": "lbfgs", "lbfgs_history": 5}, {"lbfgs_history", "lbfgs_memory"}),
        ({"second_stage": "lbfgs", "lbfgs_history": 500}, {"lbfgs_history"}),
        ({"second_stage": "scipy", "lbfgs_history": 5}, {"lbfgs_history"}),
        ({"second_stage": "bfgs"}, set()),
        ({"second_stage": "bfgs", "lbfgs_history": 5}, set()),
        ({}, set()),
    ],
)
def test_a_dimension_exists_where_all_it_names_do(params: dict[str, Any], active: set[str]) -> None:
    spec = load_text(NETS, base=ELSEWHERE)
    assert {field for field in ("lbfgs_history", "lbfgs_memory") if spec.is_active(field, params)} == active
    assert spec.is_active("second_stage", params) and not spec.is_active("depth", params)


def test_conditions_come_back_from_the_canonical_form() -> None:
    spec = load_text(NETS, base=ELSEWHERE)
    assert load_text(spec.to_yaml(), base=ELSEWHERE) == spec
    assert spec.to_plain()["space"]["lbfgs_history"] == {
        "choice": [5, 50, 500],
        "when": {"second_stage": ["lbfgs", "scipy"]},
    }
    assert spec.to_plain()["space"]["width"] == {"int": [8, 9]}
    changed = load_text(NETS.replace("[lbfgs, scipy]}", "[lbfgs]}"), base=ELSEWHERE)
    assert changed.sha256() != spec.sha256()


def test_a_list_that_is_a_value_is_that_value() -> None:
    text = MINIMAL + "space: {inputs: {choice: [[x, y], [x, y, g, elocal]]}, "
    text += "width: {choice: [3, 4], when: {inputs: WHEN}}}"
    two, four = ["x", "y"], ["x", "y", "g", "elocal"]
    for written, values in (("[x, y]", (two,)), ("[[x, y], [x, y, g, elocal]]", (two, four))):
        assert load_text(text.replace("WHEN", written), base=ELSEWHERE).space["width"].when == {"inputs": values}


def test_values_of_conditions_are_those_of_the_field() -> None:
    text = MINIMAL + "space: {width: {choice: [3, 4], when: WHEN}, scale_factor: {choice: [1, 10]}, "
    text += "allow_tf32: {choice: [true, false]}}"
    spec = load_text(text.replace("WHEN", "{scale_factor: 10}"), base=ELSEWHERE)
    (value,) = spec.space["width"].when["scale_factor"]
    assert (value, type(value)) == (10.0, float)
    with pytest.raises(SweepError, match=r"is not a value of space\.allow_tf32, got 1"):
        load_text(text.replace("WHEN", "{allow_tf32: 1}"), base=ELSEWHERE)
    assert contains([True], True) and not contains([True], 1) and contains([1.0], 1)


def test_paths_in_conditions_are_those_of_the_field(tmp_path: Any) -> None:
    text = MINIMAL + "space: {init: {choice: [torch, file:w.npz]}, width: {choice: [3, 4], when: {init: file:w.npz}}}"
    spec = parse_spec(text, base=tmp_path, load_problem=load_problem)
    assert spec.space["width"].when == {"init": (f"file:{tmp_path}/w.npz",)}


def test_circles_are_removed_one_by_one() -> None:
    space: dict[str, Dimension] = {name: Choice((1, 2)) for name in "abcde"}
    conditions = {"a": {"b": [1]}, "b": {"c": [1]}, "c": {"b": [2], "d": [1]}, "d": {"d": [1]}, "e": {"a": [1]}}
    result, circles = with_conditions(space, conditions)
    assert sorted(map(sorted, circles)) == [["b", "c"], ["d"]]
    assert {name: dict(kind.when) for name, kind in result.items() if kind.when} == {"a": {"b": (1,)}, "e": {"a": (1,)}}
    assert with_parents(result, ["e"]) == ["b", "a", "e"] and not is_active(result, "e", {"b": 1})


def test_groups_that_share_a_field_are_one() -> None:
    assert linked([["a", "b"], ["c"], ["d", "e"], ["b", "d"], ["f"]]) == [{"c"}, {"a", "b", "d", "e"}, {"f"}]


# ---- with constraints ----


def test_a_configuration_is_allowed_where_every_constraint_holds() -> None:
    text = NETS.replace("trials: 4", "trials: 4, constraints: [width * depth < 27, lbfgs_history != 500]")
    spec = load_text(text, base=ELSEWHERE)
    assert spec.allowed({"second_stage": "bfgs", "width": 8})  # the history is 20 where it is not active
    assert not spec.allowed({"second_stage": "bfgs", "width": 9})
    assert not spec.allowed({"second_stage": "scipy", "width": 8, "lbfgs_history": 500})
    assert load_text(NETS, base=ELSEWHERE).allowed({})
    assert load_text(spec.to_yaml(), base=ELSEWHERE) == spec


def test_possible_configurations_are_the_allowed_ones() -> None:
    text = NETS.replace("trials: 4", "trials: 4, constraints: [width < 9 or second_stage == 'bfgs']")
    spec = load_text(text, base=ELSEWHERE)
    every = list(combinations(spec.space, spec.space, lambda kind: kind.finite_values()))
    allowed = [params for params in every if spec.allowed(params)]
    assert len(every) == 18 and len(allowed) == 10
    assert sorted(map(str, possible(spec, ["width"], 100, whole=True))) == sorted(map(str, allowed))
    assert related(spec) == [["lbfgs_memory", "lbfgs_history", "second_stage", "width"]]
    assert grid_count(spec, 100) == 10 and grid_count(spec, 5) is None
    assert all(spec.allowed(params) for params in possible(spec, ["width"], 3, whole=True))


def test_the_warning_counts_the_grid_that_is_left() -> None:
    text = NETS.replace("trials: 4", "sampler: grid, trials: TRIALS, constraints: [width < 9]")
    assert warnings_of(load_text(text.replace("TRIALS", "9"), base=ELSEWHERE)) == ()
    (warning,) = warnings_of(load_text(text.replace("TRIALS", "10"), base=ELSEWHERE))
    assert warning == "search.trials is 10 and the grid has 9 combinations: the smaller number is run."
    (warning,) = warnings_of(load_text(text.replace("TRIALS", "10").replace("grid", "tpe"), base=ELSEWHERE))
    assert warning == "search.trials is 10 and the space has 9 combinations: none is trained twice."


def test_combinations_that_never_occur_break_no_rule_between_fields() -> None:
    space = "space: {lbfgs_memory: {choice: [dense, compact]}, lbfgs_history: {choice: [50, 500]}}\n"
    space += "train: {iterations: 500}"
    with pytest.raises(SweepError, match="dense needs an lbfgs_history"):
        load_text(MINIMAL + space, base=ELSEWHERE)
    rule = "lbfgs_memory != 'dense' or lbfgs_history >= iterations"
    load_text(f'study: s\nsearch: {{trials: 4, constraints: ["{rule}"]}}\n{space}', base=ELSEWHERE)
    when = space.replace("[dense, compact]", "[dense, compact], when: {lbfgs_history: 500}")
    load_text(MINIMAL + when, base=ELSEWHERE)
    many = space.replace("}}\n", "}, width: {choice: [" + ", ".join(map(str, range(1, 400))) + "]}}\n")
    with pytest.raises(SweepError, match="dense needs an lbfgs_history"):
        load_text(MINIMAL + many, base=ELSEWHERE)
    load_text(f'study: s\nsearch: {{trials: 4, constraints: ["{rule}"]}}\n{many}', base=ELSEWHERE)


def test_a_constraint_on_a_continuum_is_not_called_impossible() -> None:
    text = "study: s\nsearch: {trials: 4, constraints: [0.004 < adam_lr < 0.006]}\n"
    text += "space: {adam_lr: {uniform: [0.001, 0.01]}}"
    assert not load_text(text, base=ELSEWHERE).allowed({"adam_lr": 0.001})
    with pytest.raises(SweepError, match="division by zero"):  # at an end of the range
        load_text(text.replace("0.004 < adam_lr < 0.006", "1 / (adam_lr - 0.01) < 5"), base=ELSEWHERE)
