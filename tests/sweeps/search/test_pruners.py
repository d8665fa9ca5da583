"""Pruners are pure functions: fixed cases by hand, and properties that hold for any log."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.search.pruners import has_stalled, is_hopeless, rungs_of
from sweeps.spec.samplers import PRUNERS
from sweeps.spec.sections import PrunerSettings

Values = tuple[float, ...]
Log = tuple[PrunerSettings, int, Values, dict[int, Values]]  # pruner, trial, its value, values of the others

KINDS = ("asha", "hyperband", "median")

# few distinct numbers, so that ties are common
numbers = st.integers(0, 12).map(lambda n: n / 4)
not_finite = st.sampled_from([math.nan, math.inf])


def pruner(kind: str, **settings: Any) -> PrunerSettings:
    return PrunerSettings(kind=kind, **settings)  # type: ignore[arg-type]


def alone(*values: float) -> dict[int, Values]:
    """Return values of trials 100, 102, ..., which are all in the bracket of trial 0."""
    return {100 + 2 * place: (value,) for place, value in enumerate(values)}


def test_traits_say_what_a_pruner_does() -> None:
    assert [kind for kind in PRUNERS if rungs_of(pruner(kind), 0)] == list(KINDS)
    flat = [1.0] * 100
    for kind, traits in PRUNERS.items():
        assert traits.compares_at_rungs == (kind in KINDS)
        assert traits.watches_curve == has_stalled(pruner(kind), range(100), flat, 100)
        assert set(traits.keys) <= PrunerSettings.model_fields.keys()


@st.composite
def logs(draw: st.DrawFn, *, objectives: int | None = None) -> Log:
    """Draw a pruner, a trial, its finite value at a rung and the values of others, some of them not finite."""
    settings = pruner(
        draw(st.sampled_from(KINDS)),
        reduction=draw(st.integers(2, 5)),
        rungs=1,
        startup_trials=draw(st.integers(0, 4)),
        brackets=1,
    )
    width = objectives or draw(st.integers(1, 3))
    value = draw(st.tuples(*[numbers] * width))
    entries = st.tuples(*[numbers | not_finite] * width)
    others = draw(st.dictionaries(st.integers(1, 60), entries, max_size=25))
    return settings, 0, value, others


def hopeless(settings: PrunerSettings, trial: int, value: Values, others: Mapping[int, Values]) -> bool:
    return is_hopeless(settings, trial, rungs_of(settings, trial)[-1], value, others)


class TestRungs:
    @pytest.mark.parametrize(
        ("settings", "trial", "rungs"),
        [
            (pruner("none"), 0, ()),
            (pruner("patience"), 0, ()),
            (pruner("asha"), 0, (37, 111, 333)),
            (pruner("asha", brackets=5), 4, (37, 111, 333)),
            (pruner("asha", reduction=2, rungs=2), 7, (250, 500)),
            (pruner("asha", reduction=16, rungs=20), 0, (4, 62)),  # 16^-3 is below one per mille
            (pruner("hyperband", brackets=3), 3, (37, 111, 333)),
            (pruner("hyperband", brackets=3), 4, (111, 333)),
            (pruner("hyperband", brackets=3), 5, (333,)),
            (pruner("hyperband", rungs=1, brackets=3), 2, ()),
            (pruner("median"), 5, (250, 500, 750)),
            (pruner("median", rungs=1), 0, (500,)),
        ],
    )
    def test_by_hand(self, settings: PrunerSettings, trial: int, rungs: tuple[int, ...]) -> None:
        assert rungs_of(settings, trial) == rungs

    @given(st.sampled_from(KINDS), st.integers(2, 16), st.integers(1, 20), st.integers(1, 5), st.integers(0, 10**6))
    def test_ascend_between_start_and_end(
        self, kind: str, reduction: int, rungs: int, brackets: int, trial: int
    ) -> None:
        result = rungs_of(pruner(kind, reduction=reduction, rungs=rungs, brackets=brackets), trial)
        assert list(result) == sorted(set(result))
        assert all(0 < rung < 1000 for rung in result)


class TestSuccessiveHalving:
    @pytest.mark.parametrize(("value", "expected"), [(2.5, False), (3.0, False), (3.5, True), (9.0, True)])
    def test_the_best_third_goes_on(self, value: float, expected: bool) -> None:
        others = alone(1, 2, 3, 4, 5, 6, 7, 8)  # nine values with its own: three go on, and equal ones
        assert is_hopeless(pruner("asha"), 0, 111, (value,), others) is expected

    def test_a_share_is_rounded_up(self) -> None:
        settings = pruner("asha", startup_trials=0)
        assert not is_hopeless(settings, 0, 111, (2.0,), alone(1, 3, 4))  # two of four
        assert is_hopeless(settings, 0, 111, (2.0,), alone(1, 3))  # one of three

    def test_waits_for_the_startup_trials(self) -> None:
        assert not is_hopeless(pruner("asha", startup_trials=5), 0, 111, (9.0,), alone(1, 2, 3, 4))
        assert is_hopeless(pruner("asha", startup_trials=4), 0, 111, (9.0,), alone(1, 2, 3, 4))

    def test_its_own_entry_in_the_log_does_not_count_twice(self) -> None:
        others = alone(1, 2, 3, 4)
        settings = pruner("asha", startup_trials=5)
        assert not is_hopeless(settings, 0, 111, (9.0,), {**others, 0: (9.0,)})

    def test_equal_trials_are_treated_alike_whatever_their_numbers(self) -> None:
        """Trials that differ only in the second stage are equal through the first."""
        values = dict.fromkeys(range(20), (0.5,))
        assert not any(is_hopeless(pruner("asha"), trial, 111, (0.5,), values) for trial in values)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_value_that_is_not_finite_is_hopeless_at_once(self, kind: str, value: float) -> None:
        assert is_hopeless(pruner(kind), 0, 111, (value,), {})
        assert is_hopeless(pruner(kind), 0, 111, (0.1, value), {})

    def test_others_that_are_not_finite_count_as_the_worst(self) -> None:
        others = alone(math.nan, math.inf, -math.inf, math.nan)
        assert not is_hopeless(pruner("asha"), 0, 111, (1e300,), others)
        assert hopeless(pruner("asha", reduction=6), 0, (2.0,), {**others, 1: (1.0,)})


class TestHyperband:
    def test_compares_within_a_bracket(self) -> None:
        settings = pruner("hyperband", brackets=2)
        others = dict.fromkeys((1, 3, 5, 7), (1.0,)) | dict.fromkeys((2, 4, 6, 8), (3.0,))
        assert not is_hopeless(settings, 0, 333, (2.0,), others)
        assert is_hopeless(settings, 9, 333, (2.0,), others)

    def test_the_startup_trials_are_of_its_bracket(self) -> None:
        settings = pruner("hyperband", brackets=2, startup_trials=3)
        assert not is_hopeless(settings, 0, 333, (9.0,), {1: (1.0,), 2: (1.0,), 3: (1.0,), 4: (1.0,)})
        assert is_hopeless(settings, 0, 333, (9.0,), {1: (1.0,), 2: (1.0,), 6: (1.0,), 4: (1.0,)})

    def test_a_later_bracket_is_not_compared_at_the_lowest_rung(self) -> None:
        others = dict.fromkeys(range(1, 20, 2), (1.0,))
        assert not is_hopeless(pruner("hyperband"), 21, 37, (9.0,), others)
        assert is_hopeless(pruner("hyperband"), 21, 111, (9.0,), others)


class TestMedian:
    @pytest.mark.parametrize(("value", "expected"), [(2.0, False), (3.0, False), (3.1, True)])
    def test_worse_than_the_median_of_the_others(self, value: float, expected: bool) -> None:
        assert is_hopeless(pruner("median"), 0, 500, (value,), alone(1, 2, 3, 4, 5)) is expected

    @pytest.mark.parametrize(("value", "expected"), [(2.9, False), (3.0, False), (3.1, True)])
    def test_of_an_even_number_the_worse_of_the_two_in_the_middle(self, value: float, expected: bool) -> None:
        assert is_hopeless(pruner("median"), 0, 500, (value,), alone(1, 2, 3, 4)) is expected

    @given(st.lists(numbers, min_size=1, max_size=15).filter(lambda values: len(values) % 2 == 1), numbers)
    def test_is_the_median_of_numpy_where_the_number_is_odd(self, values: list[float], value: float) -> None:
        settings = pruner("median", startup_trials=0)
        assert hopeless(settings, 0, (value,), alone(*values)) is bool(value > np.median(values))


class TestSeveralObjectives:
    # the front is (0, 4), (1, 3), (1.5, 2.5), (4, 0); (2, 3.5) is dominated by two, (5, 5) by all
    LOG: Mapping[int, Values] = dict(
        enumerate([(0.0, 4.0), (1.0, 3.0), (1.5, 2.5), (4.0, 0.0), (2.0, 3.5), (5.0, 5.0)])
    )

    @pytest.mark.parametrize(
        ("reduction", "more", "stopped"),
        [
            (2, 6, []),  # six of twelve go on
            (2, 4, [5]),
            (2, 2, [4, 5]),
            # within the front its ends come first, then its middle by crowding distance: (1.5, 2.5) has 3/4 + 3/4,
            # (1, 3) has 1.5/4 + 1.5/4
            (2, 0, [1, 4, 5]),
            (3, 0, [1, 2, 4, 5]),
            (6, 0, [1, 2, 4, 5]),  # one goes on, and the other end of the front is as good
        ],
    )
    def test_fewest_dominating_first_then_least_crowded(self, reduction: int, more: int, stopped: list[int]) -> None:
        settings = pruner("asha", startup_trials=0, reduction=reduction)
        log = {**self.LOG, **dict.fromkeys(range(100, 100 + more), (9.0, 9.0))}
        assert [trial for trial in self.LOG if hopeless(settings, trial, log[trial], log)] == stopped

    @pytest.mark.parametrize(("copies", "expected"), [(1, False), (2, True)])
    def test_equal_values_count_each(self, copies: int, expected: bool) -> None:
        """Half of six go on. One value dominates (2, 2), none dominates (1, 4), the rest are worse."""
        others = {1: (1.9, 1.9)} | dict.fromkeys(range(10, 10 + copies), (1.0, 4.0))
        others |= dict.fromkeys(range(20, 24 - copies), (9.0, 9.0))
        settings = pruner("asha", startup_trials=0, reduction=2)
        assert hopeless(settings, 0, (2.0, 2.0), others) is expected

    @given(logs(objectives=2), st.permutations(range(2)))
    def test_the_order_of_objectives_does_not_matter(self, log: Log, order: list[int]) -> None:
        settings, trial, value, others = log
        turned = {number: (other[order[0]], other[order[1]]) for number, other in others.items()}
        assert hopeless(settings, trial, (value[order[0]], value[order[1]]), turned) == hopeless(*log)

    @given(logs(objectives=3))
    def test_against_the_plain_count(self, log: Log) -> None:
        """A trial dominated by as many as go on is stopped; one with fewer rivals than that is not."""
        settings, trial, value, others = log
        settings = settings.model_copy(update={"kind": "asha", "startup_trials": 0})
        finite = [other for other in others.values() if all(map(math.isfinite, other))]
        pairs = [list(zip(other, value, strict=True)) for other in finite]
        dominating = sum(all(a <= b for a, b in pair) and any(a < b for a, b in pair) for pair in pairs)
        lower_somewhere = sum(any(a < b for a, b in pair) for pair in pairs)
        keep = -(-(len(others) + 1) // settings.reduction)
        if dominating >= keep:
            assert hopeless(settings, trial, value, others)
        if lower_somewhere < keep:
            assert not hopeless(settings, trial, value, others)


class TestEveryRule:
    @given(logs(), st.randoms(use_true_random=False))
    def test_a_permutation_of_the_others_changes_nothing(self, log: Log, random: Any) -> None:
        settings, trial, value, others = log
        order, names = list(others), list(others)
        random.shuffle(order)
        random.shuffle(names)
        assert hopeless(settings, trial, value, {number: others[number] for number in order}) == hopeless(*log)
        renamed = {name: others[number] for name, number in zip(names, order, strict=True)}
        assert hopeless(settings, trial, value, renamed) == hopeless(*log)

    @given(logs())
    def test_the_best_is_never_pruned(self, log: Log) -> None:
        settings, trial, value, others = log
        best = tuple(
            min([mine, *(o for o in entries if math.isfinite(o))])
            for mine, *entries in zip(value, *others.values(), strict=True)
        )
        assert not hopeless(settings, trial, best, others)

    @given(logs())
    def test_in_any_log_some_trial_goes_on(self, log: Log) -> None:
        settings, trial, value, others = log
        everyone = {**others, trial: value}
        assert not all(hopeless(settings, number, entry, everyone) for number, entry in everyone.items())

    @given(logs(), st.integers(1, 8))
    def test_worse_trials_make_no_trial_hopeless(self, log: Log, more: int) -> None:
        """After the startup."""
        settings, trial, value, others = log
        if len(others) < max(settings.startup_trials, 1) or hopeless(*log):
            return
        worst = tuple(max(filter(math.isfinite, entries)) + 1 for entries in zip(value, *others.values(), strict=True))
        added = {1000 + place: worst for place in range(more)}
        assert not hopeless(settings, trial, value, others | added)

    @given(logs(objectives=1), numbers)
    def test_a_worse_value_is_not_safer(self, log: Log, extra: float) -> None:
        settings, trial, value, others = log
        assert hopeless(settings, trial, (value[0] + extra,), others) >= hopeless(*log)

    @given(logs(), st.randoms(use_true_random=False))
    def test_decisions_made_again_from_the_log_are_the_same(self, log: Log, random: Any) -> None:
        """Trials reach a rung one by one; later the decisions are repeated from the stored log, in any order."""
        settings, trial, value, others = log
        arrivals = [*others.items(), (trial, value)]
        decisions = [hopeless(settings, *one, dict(arrivals[:place])) for place, one in enumerate(arrivals)]
        written = json.loads(json.dumps(arrivals))
        for place in random.sample(range(len(arrivals)), len(arrivals)):
            before = {number: tuple(entry) for number, entry in written[:place]}
            assert hopeless(settings, written[place][0], tuple(written[place][1]), before) == decisions[place]


class TestPatience:
    RULE = pruner("patience", patience=0.25, min_improvement=0.1)  # of 40 planned steps: 10

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([1.0, 0.5, 0.4, 0.3], False),
            ([1.0, 1.0], False),  # steps 0 and 5: the share has not passed
            ([1.0, 1.0, 1.0], True),
            ([1.0, 0.95, 0.90], True),  # less 10 % is not more than 10 %
            ([1.0, 0.95, 0.89], False),
            ([1.0, 0.5, 0.6, 0.7], True),  # the best value before counts
            ([1.0, 0.4, 0.6, 0.3], False),
            ([1.0, math.nan, math.inf], True),
            ([math.nan, math.nan, 1.0], False),
            ([math.nan, math.nan, math.nan], True),
            ([0.0, 0.0, 0.0], True),
            ([-1.0, -1.05, -1.05], True),
            ([-1.0, -1.05, -1.15], False),
        ],
    )
    def test_by_hand(self, values: list[float], expected: bool) -> None:
        assert has_stalled(self.RULE, range(0, 5 * len(values), 5), values, 40) is expected

    def test_is_for_the_pruner_patience_only(self) -> None:
        assert not has_stalled(pruner("asha"), [0, 50, 100], [1.0, 1.0, 1.0], 100)
        assert has_stalled(pruner("patience"), [0, 50, 100], [1.0, 1.0, 1.0], 100)

    def test_an_empty_curve_has_not_stalled(self) -> None:
        assert not has_stalled(self.RULE, [], [], 40)

    @given(st.floats(0.01, 1), st.integers(1, 500), st.lists(numbers, min_size=1, max_size=30))
    def test_never_before_the_share_has_passed(self, patience: float, planned: int, values: list[float]) -> None:
        settings = pruner("patience", patience=patience)
        steps = range(len(values))
        if has_stalled(settings, steps, values, planned):
            assert steps[-1] >= patience * planned

    @given(st.integers(2, 40), st.floats(0, 0.5))
    def test_a_steady_improvement_never_stalls(self, rows: int, min_improvement: float) -> None:
        settings = pruner("patience", patience=0.1, min_improvement=min_improvement)
        values = [0.4**row for row in range(rows)]
        assert not any(has_stalled(settings, range(n), values[:n], 40) for n in range(1, rows + 1))
