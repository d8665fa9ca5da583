"""TensorFlow's gradients and derivatives in place of ours: the study behind this project."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pinncore.errors import TraceError
from pinncore.parity.inject import inject
from pinncore.parity.reading import read_trace

TRACE = Path(__file__).parents[3] / "examples" / "traces" / "tensorflow1_4-4-1.npz"


def test_its_gradients_leave_no_difference_with_its_convention() -> None:
    injection = inject(read_trace(TRACE), "gradients")
    assert injection.steps == (0, 1, 2)
    assert {each.step for each in injection.arrays} == {1, 2}
    assert max(each.with_it for each in injection.arrays) < 1e-14


def test_another_epsilon_shows_in_the_row_of_the_smallest_gradients() -> None:
    """The row of the local strain is apart, because its gradients are as small as epsilon."""
    injection = inject(read_trace(TRACE, {"adam_convention": "torch"}), "gradients")
    (w1,) = (each for each in injection.arrays if each.name == "W1" and each.step == 2)
    assert max(w1.rows) > 1e-7 and w1.with_it == pytest.approx(w1.without, rel=1e-3)


def test_its_derivatives_give_its_loss_terms() -> None:
    trace = read_trace(TRACE)
    injection = inject(trace, "derivatives")
    assert injection.steps == (0,)
    residual = next(each for each in injection.arrays if each.name == "residual")
    assert residual.with_it < 1e-14
    wrong = {**trace.steps[0], "laplacian": 2 * trace.steps[0]["laplacian"]}
    changed = inject(dataclasses.replace(trace, steps={**trace.steps, 0: wrong}), "derivatives")
    residual = next(each for each in changed.arrays if each.name == "residual")
    assert residual.with_it > 1e-6 > residual.without, "what is injected is what counts"


def test_a_trace_without_them_is_refused() -> None:
    trace = read_trace(TRACE)
    bare = {step: {n: a for n, a in arrays.items() if n[0] in "Wb"} for step, arrays in trace.steps.items()}
    for what in ("gradients", "derivatives"):
        with pytest.raises(TraceError, match=f"has no {what} to inject. Record "):
            inject(dataclasses.replace(trace, steps=bare), what)  # type: ignore[arg-type]
