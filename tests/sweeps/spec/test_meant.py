"""What the author of a study file meant: numbers in other spellings, names of other programs."""

from __future__ import annotations

import pytest

from sweeps.spec.meant import number_hint, other_names, why_not
from sweeps.spec.samplers import PRUNERS, SAMPLERS

EITHER = "Write 1000, or 1.000 if the comma is a decimal point."


@pytest.mark.parametrize(
    ("text", "of_a_count", "of_a_number"),
    [
        ("1000", "Remove the quotes.", "Remove the quotes."),
        ("1e-3", "Remove the quotes.", "Remove the quotes."),
        ("1_000", "Write 1000.", "Write 1000."),
        ("1 000", "Write 1000.", "Write 1000."),
        ("1'000'000", "Write 1000000.", "Write 1000000."),
        ("1,000", "Write 1000.", EITHER),
        (" 8", "Write 8.", "Write 8."),
        ("0x10", "Write 16.", "Write 16."),
        ("0b11", "Write 3.", "Write 3."),
        ("0,5", "", "Write 0.5."),
        ("1,5e-3", "", "Write 0.0015."),
        ("1d-3", "", "Write 0.001."),
        ("10^3", "Write 1000.", "Write 1000."),
        ("10**-3", "", "Write 0.001."),
        ("1/0", "", ""),
        ("1/4", "", "Write 0.25."),
        ("5 %", "", "Write 0.05."),
        ("9.9^999", "", ""),
        ("inf", "", ""),
        ("1e999999", "Remove the quotes.", "Remove the quotes."),
        ("many", "", ""),
        ("", "", ""),
        ("1_" * 10_000, "", ""),
    ],
)
def test_a_number_in_another_spelling(text: str, of_a_count: str, of_a_number: str) -> None:
    assert number_hint(text, is_whole=True) == of_a_count
    assert number_hint(text, is_whole=False) == of_a_number


def test_other_names_lead_to_names_that_exist() -> None:
    samplers, pruners = tuple(SAMPLERS), tuple(PRUNERS)
    assert other_names("Bayesian", samplers) == ["tpe", "gp"]
    assert other_names("Successive Halving", pruners) == ["asha"]
    assert other_names("bayes", pruners) == other_names("nonsense", samplers) == []


def test_a_value_left_out_on_purpose_is_explained_where_it_would_stand() -> None:
    assert "second derivative of zero" in why_not("Leaky ReLU", ("tanh", "sin"))
    assert why_not("relu", ("torch", "keras")) == why_not("softplus", ("tanh", "sin")) == ""
