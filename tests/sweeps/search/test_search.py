"""Samplers: properties of all, and of those that depend only on seed and place."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import create_trial
from scipy.stats import qmc

from sweeps.search import PastTrial, search_of, stable_hash
from sweeps.search.search import CLASSES
from sweeps.search.seeds import shuffled
from sweeps.spec.samplers import SAMPLERS as TRAITS
from tests.cluster.waiting import WAIT_S

from .searches import BOWL_WHEN, LEARNING, PURE, ROWS, SAMPLERS, Driver, points, study

RECORDED = json.loads(Path(__file__).with_name("points.json").read_text())


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_sampler_of_the_study_file_has_a_class_with_its_traits() -> None:
    assert {name: kind.traits for name, kind in CLASSES.items()} == TRAITS
    assert all(kind.traits is TRAITS[name] for name, kind in CLASSES.items())


class TestEverySampler:
    """Properties of all samplers."""

    def test_equal_seeds_draw_equal_trials_and_others_do_not(self, sampler: str) -> None:
        indices = range(4 if sampler == "list" else 12)
        assert points(study(sampler, seed=3), indices) == points(study(sampler, seed=3), indices)
        same = points(study(sampler, seed=3), indices) == points(study(sampler, seed=4), indices)
        assert same == (sampler == "list")

    def test_a_proposal_is_the_same_in_every_call(self, sampler: str) -> None:
        search = search_of(study(sampler))
        first = [search.propose(index) for index in range(4)]
        assert [search.propose(index) for index in range(4)] == first

    def test_a_changed_proposal_changes_nothing_in_the_search(self, sampler: str) -> None:
        search = search_of(study(sampler))
        first = search.propose(0)
        first.params["width"] = "spoiled"
        first.attrs["generation"] = "spoiled"
        assert "spoiled" not in [*search.propose(0).params.values(), *search.propose(0).attrs.values()]

    def test_proposals_make_configurations(self, sampler: str) -> None:
        spec = study(sampler)
        search = search_of(spec)
        for index in range(4):
            params = search.propose(index).params
            config = spec.config(params)
            assert {**config["train"], **config["problem"]}.items() >= params.items()
            assert json.loads(json.dumps(config)) == config

    def test_stored_parameters_are_decoded(self, sampler: str) -> None:
        search = search_of(study(sampler))
        for index in range(4):
            params = search.propose(index).params
            stored = search.stored(params)
            frozen = create_trial(params=stored, distributions=search.distributions(params), value=1.0)
            assert search.decoded(frozen.params) == params

    def test_the_order_of_keys_in_the_file_does_not_matter(self, sampler: str) -> None:
        space = study(sampler).to_plain()["space"]
        turned = dict(reversed(space.items()))
        assert points(study(sampler, space=space), range(4)) == points(study(sampler, space=turned), range(4))

    def test_an_empty_space_gives_the_one_configuration(self, sampler: str) -> None:
        spec = study(sampler, space={}, trials=3, **({"list": [{}]} if sampler == "list" else {}))
        assert points(spec, range(1)) == {0: {}}
        if sampler in LEARNING:
            assert points(spec, range(3)) == {0: {}, 1: {}, 2: {}}

    def test_only_those_that_learn_wait_for_generations(self, sampler: str) -> None:
        search = search_of(study(sampler, deterministic=True, generation=5))
        assert search.traits.learns == (sampler in LEARNING)
        assert search.generation_of(7) == (range(5, 10) if search.traits.learns else range(7, 8))
        assert search.ready(4) and search.ready(5) == (not search.traits.learns)
        assert search_of(study(sampler)).generation_of(7) == range(7, 8)
        assert search_of(study(sampler)).ready(40)


def test_another_process_draws_the_same() -> None:
    """Proposals do not depend on the hash seed of the interpreter or any other state of a process."""
    code = """
import json, sys
from pathlib import Path
from sweeps.search import PastTrial, search_of
from sweeps.study.loading import load_text
for text, trials, first in json.load(sys.stdin):
    rungs = [{int(rung): value for rung, value in trial["rungs"].items()} for trial in trials]
    history = [PastTrial(**{**trial, "rungs": reached}) for trial, reached in zip(trials, rungs)]
    search = search_of(load_text(text, base=Path("/")), history)
    print(json.dumps([search.propose(index).params for index in range(first, first + 3)]))
"""
    cases: list[Any] = []
    expected = []
    for sampler in PURE:
        cases.append((study(sampler, seed=11).to_yaml(), [], 0))
        expected.append(list(points(study(sampler, seed=11), range(3)).values()))
    for sampler in LEARNING:
        driver = Driver(study(sampler, seed=11, space=BOWL_WHEN))
        driver.run(22)
        cases.append((driver.spec.to_yaml(), [asdict(trial) for trial in driver.trials.values()], 22))
        expected.append([driver.search.propose(index).params for index in range(22, 25)])
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert [json.loads(line) for line in ran.stdout.splitlines()] == expected
    assert ran.stderr == ""


# ---- functions of seed and place -------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda r: f"{r['sampler']}-{len(r['space'])}-{r['seed']}")
def test_points_are_what_they_were(recorded: dict[str, Any]) -> None:
    """Points are those recorded, also where a constraint forbids nothing: a study resumes with the same trials.

    Floats agree to 1e-12, since exp and log differ between machines in the last digits.
    """
    arguments = {key: recorded[key] for key in ("sampler", "seed", "space")}
    for constraints, last in (([], 100_000), (["width > 0"], 1000)):
        search = search_of(study(constraints=constraints, trials=100_000, **arguments))
        for index, expected in recorded["points"].items():
            if int(index) <= last:
                params = search.propose(int(index)).params
                assert list(params) == list(expected)
                for name, value in expected.items():
                    assert params[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
@given(order=st.permutations(range(10)), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_pure_points_do_not_depend_on_the_order_of_proposals(sampler: str, order: list[int], seed: int) -> None:
    for constraints in ([], ["width * depth <= 60"]):
        spec = study(sampler, seed=seed, constraints=constraints)
        drawn = points(spec, order)
        assert drawn == points(spec, range(10))
        assert drawn == {index: search_of(spec).propose(index).params for index in order}


@pytest.mark.parametrize("sampler", PURE)
def test_pure_samplers_do_not_look_at_the_history(sampler: str) -> None:
    def never() -> Iterator[PastTrial]:
        raise AssertionError
        yield

    search = search_of(study(sampler), never())
    search.tell(0, "COMPLETE", (1.0,))
    assert search.propose(0) == search_of(study(sampler)).propose(0)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_a_grid_is_every_combination_exactly_once(sizes: list[int], seed: int) -> None:
    names = ("width", "depth", "epochs", "lbfgs_history")
    space = {name: {"choice": list(range(1, size + 1))} for name, size in zip(names, sizes, strict=False)}
    search = search_of(study("grid", seed=seed, trials=None, space=space))
    drawn = [tuple(search.propose(index).params[name] for name in space) for index in range(search.limit)]
    assert sorted(drawn) == sorted(itertools.product(*(kind["choice"] for kind in space.values())))


def test_a_grid_and_a_list_end() -> None:
    assert search_of(study("grid", trials=None)).limit == 18
    assert search_of(study("grid", trials=5)).limit == 5
    assert search_of(study("grid", trials=500)).limit == 18
    with pytest.raises(IndexError, match="the grid has 18 combinations, so there is no trial 18"):
        search_of(study("grid", trials=500)).propose(18)
    assert search_of(study("list", trials=None)).limit == 4
    assert search_of(study("list", trials=3)).limit == 3
    with pytest.raises(IndexError, match="the list has 4 configurations, so there is no trial 4"):
        search_of(study("list")).propose(4)
    assert search_of(study("tpe", trials=7)).limit == 7


def test_a_list_is_what_the_user_wrote() -> None:
    assert list(points(study("list"), range(4)).values()) == ROWS


def test_more_trials_leave_the_first_ones_as_they_are() -> None:
    for sampler in PURE:
        assert points(study(sampler, trials=4), range(4)) == points(study(sampler, trials=18), range(4))


def test_a_large_grid_is_not_written_out() -> None:
    space = {name: {"int": [1, 10**6]} for name in ("width", "depth", "epochs")}
    search = search_of(study("grid", trials=3, space=space))
    assert search.limit == 3
    assert all(1 <= value <= 10**6 for index in range(3) for value in search.propose(index).params.values())


@given(size=st.integers(1, 700), seed=st.integers(0, 2**63))
@settings(max_examples=60, deadline=None)
def test_shuffled_is_a_permutation(size: int, seed: int) -> None:
    assert sorted(shuffled(index, size, seed=seed) for index in range(size)) == list(range(size))


def test_the_first_part_of_a_shuffled_grid_is_a_fair_sample() -> None:
    """The first 1000 of 10,000 places lie in all ten tenths, about a hundred in each (standard deviation 9)."""
    counts = [0] * 10
    for index in range(1000):
        counts[shuffled(index, 10_000, seed=5) // 1000] += 1
    assert min(counts) > 60 and max(counts) < 140


def test_quasi_random_points_are_the_scrambled_sobol_points() -> None:
    space = {"adam_lr": {"uniform": [1.0, 2.0]}, "scale_factor": {"uniform": [1.0, 2.0]}}
    drawn = points(study("qmc", seed=9, trials=1000, space=space), range(1000))
    sobol = qmc.Sobol(2, scramble=True, rng=9).random(1024)[:1000] + 1
    assert np.array([[p["adam_lr"], p["scale_factor"]] for p in drawn.values()]) == pytest.approx(sobol, rel=1e-15)


def test_quasi_random_points_balance_choices() -> None:
    """The first 16 points of a Sobol sequence fall into every sixteenth of each axis once."""
    drawn = points(study("qmc", seed=2), range(16))
    widths = [params["width"] for params in drawn.values()]
    assert {width: widths.count(width) for width in set(widths)} == {8: 4, 16: 4, 20: 4, 32: 4}


@pytest.mark.parametrize("constraints", [[], ["width * depth <= 100"]], ids=["free", "constrained"])
def test_ten_thousand_quasi_random_points_are_fast(constraints: list[str]) -> None:
    """Measured 0.1 s and 0.4 s of processor time; a new engine for each point takes minutes."""
    search = search_of(study("qmc", trials=10_000, constraints=constraints))
    started = time.process_time()
    for index in range(10_000):
        search.propose(index)
    assert time.process_time() - started < 2


def test_stable_hash_is_what_it_was() -> None:
    """Seeds of networks are computed from it; a change would change every study."""
    assert stable_hash(7, 3) == 0x2676B917A3C56342
