"""Dimensions: values within their bounds, every value reached, Optuna's own meaning, exact round trips."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.spec.dimensions import KINDS, Choice, Dimension, Int, LogInt, LogUniform, Uniform, dimension

UNIT = st.floats(min_value=0, max_value=1)
FINITE = st.floats(min_value=-1e308, max_value=1e308)
POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False))
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8))
NESTED = st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.dictionaries(st.text(max_size=4), PLAIN, max_size=3))


def ordered(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.tuples(numbers, numbers).filter(lambda pair: pair[0] < pair[1])


RANGES = st.one_of(
    ordered(FINITE).map(lambda ends: Uniform(*ends)),
    ordered(POSITIVE).map(lambda ends: LogUniform(*ends)),
    ordered(st.integers(-(2**40), 2**40)).map(lambda ends: Int(*ends)),
    ordered(st.integers(1, 2**40)).map(lambda ends: LogInt(*ends)),
)
CHOICES = st.lists(NESTED, min_size=1, max_size=6, unique_by=repr).map(lambda values: Choice(tuple(values)))


@given(kind=RANGES, u=UNIT)
def test_a_range_stays_within_its_ends(kind: Dimension, u: float) -> None:
    low, high = kind.arguments()
    value = kind.from_unit(u)
    assert low <= value <= high
    assert isinstance(value, type(low))
    assert kind.distribution()._contains(kind.distribution().to_internal_repr(value))


@given(kind=RANGES)
def test_the_ends_of_the_unit_interval_are_the_ends_of_a_range(kind: Dimension) -> None:
    low, high = kind.arguments()
    assert (kind.from_unit(0.0), kind.from_unit(1.0)) == (
        pytest.approx(low, rel=1e-12),  # exp(log(x)) rounds
        pytest.approx(high, rel=1e-12),
    )


@given(kind=st.one_of(RANGES, CHOICES), u=UNIT, v=UNIT)
def test_a_larger_share_never_gives_an_earlier_value(kind: Dimension, u: float, v: float) -> None:
    first, second = kind.from_unit(min(u, v)), kind.from_unit(max(u, v))
    listed = kind.finite_values() if isinstance(kind, Choice) else None
    if listed is None:
        assert first <= second
    else:
        assert listed.index(first) <= listed.index(second)


@given(kind=CHOICES, u=UNIT)
def test_a_choice_goes_through_optuna_unchanged(kind: Choice, u: float) -> None:
    value = kind.from_unit(u)
    distribution = kind.distribution()
    stored = distribution.to_external_repr(distribution.to_internal_repr(kind.encode(value)))
    assert repr(kind.decode(stored)) == repr(value) or kind.decode(stored) == value
    assert stored is None or isinstance(stored, (bool, int, float, str))


@pytest.mark.parametrize(
    ("kind", "values"),
    [(Int(2, 6), [2, 3, 4, 5, 6]), (LogInt(1, 4), [1, 2, 3, 4]), (Choice(("a", "b", "c")), ["a", "b", "c"])],
)
def test_finite_values_are_all_and_only_what_can_be_drawn(kind: Dimension, values: list[Any]) -> None:
    assert list(kind.finite_values() or ()) == values
    assert sorted({kind.from_unit(i / 1000) for i in range(1000)}) == values


@pytest.mark.parametrize("kind", [Uniform(0.0, 1.0), LogUniform(1e-3, 1.0)])
def test_a_continuum_has_no_finite_values(kind: Dimension) -> None:
    assert kind.finite_values() is None


def test_equal_shares_are_equally_likely() -> None:
    counts = Counter(Int(0, 3).from_unit((i + 0.5) / 400) for i in range(400))
    assert set(counts.values()) == {100}
    assert LogUniform(1e-4, 1e-2).from_unit(0.5) == pytest.approx(1e-3, rel=1e-14)
    assert LogUniform(1.0, 16.0).from_unit(0.25) == pytest.approx(2.0, rel=1e-14)


def test_logint_has_the_shares_of_optuna() -> None:
    """P(k) is the logarithm of (k + 1/2) / (k - 1/2) over that of the whole stretch."""
    kind, n = LogInt(1, 8), 200_000
    counts = Counter(kind.from_unit((i + 0.5) / n) for i in range(n))
    for k in range(1, 9):
        share = math.log((k + 0.5) / (k - 0.5)) / math.log(8.5 / 0.5)
        assert counts[k] / n == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (
            Choice((1, None, "a", [1, 2], {"npz": "d.npz"})),
            optuna.distributions.CategoricalDistribution([1, None, "a", "[1, 2]", '{"npz": "d.npz"}']),
        ),
        (Int(2, 8), optuna.distributions.IntDistribution(2, 8)),
        (LogInt(2, 8), optuna.distributions.IntDistribution(2, 8, log=True)),
        (Uniform(-1.0, 2.0), optuna.distributions.FloatDistribution(-1, 2)),
        (LogUniform(1e-4, 1e-2), optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)),
    ],
)
def test_optuna_writes_the_same_dimension(kind: Dimension, written: optuna.distributions.BaseDistribution) -> None:
    assert kind.distribution() == written
    assert dimension(kind.kind, kind.arguments()) == kind


def test_kinds_are_those_of_the_study_file() -> None:
    assert list(KINDS) == ["choice", "uniform", "loguniform", "int", "logint"]


def test_lists_that_look_like_stored_text_stay_apart() -> None:
    kind = Choice(("x", ["x", "y"], {"a": 1}))
    for value, other in itertools.permutations(kind.values, 2):
        assert kind.encode(value) != kind.encode(other)
        assert kind.decode(kind.encode(value)) == value
