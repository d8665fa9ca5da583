"""Independent programs train and record, with and without a mistake: clean ones are not accused, mistakes are named."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinncore.errors import TraceError
from pinncore.initialisation import SOURCES, initial_parameters
from pinncore.networks import unflatten
from pinncore.parity.compare import compare
from pinncore.parity.families import families_of
from pinncore.parity.reading import read_trace
from pinncore.parity.results import BEYOND, Comparison

from .writers import numpy_trace, torch_trace

DATA = Path(__file__).parents[3] / "examples" / "traces" / "tensorflow1_4-4-1.npz"
EIGHT, WIDE, SMALL = (4, *[8] * 8, 1), (2, 16, 16, 1), (4, 6, 6, 1)


def named(fault: str, layers: tuple[int, ...]) -> str:
    """Return how the name of the right explanation begins."""
    last, middle = len(layers) - 1, (len(layers) - 1) // 2 + 1
    return {
        "epsilon_hat": "adam_convention: keras",
        "epsilon_inside": "adam_convention: inside",
        "epsilon_1e-7": "adam_eps: 1e-07",
        "epsilon_1e-5": "adam_eps: 1e-05",
        "no_bias_correction": "bias correction: none",
        "float32_hyperparameters": "hyper-parameters in float32",
        "float32_computation": "dtype: float32",
        "elocal_x10": "elocal x 10",
        "g_x10": "g x 10",
        "g_div10": "g x 0.1",
        "coordinates_x10": "x and y x 10",
        "derivative_zero_lrb": "lrb/u_x is zero",
        "derivative_zero_btb": "btb/u_y is zero",
        "laplacian_zero": "residual/laplacian is zero",
        "derivative_empty": "lrb/u_x is zero",
        "derivatives_all_empty": "all derivatives are zero",
        "derivative_wrong_input": "lrb: derivative to y instead of x",
        "derivative_to_g": "btb: derivative to g instead of y",
        "boundary_swapped": "points of lrb and btb exchanged",
        "loss_sum": "loss: sum of squares",
        "loss_mean": "loss: mean_square",
        "loss_half": "loss: half the sum of squares",
        "weights_of_terms": "weights of lrb, btb x 10",
        "l2_decay": "weight_decay_form: l2",
        "decoupled_decay": "weight_decay_form: decoupled, weight_decay: 0.01",
        "bias_not_updated": f"b{last} not updated",
        "biases_not_updated": "all biases not updated",
        "bias_gradient_not_cleared": "gradient of all biases not cleared",
        "gradients_not_cleared": "gradient of all parameters not cleared",
        "parameter_without_gradient": f"W{middle} without gradient",
        "activation_derivative_left_out": "activation's derivative left out (value)",
        "activation_derivative_left_out_everywhere": "activation's derivative left out (both)",
        "weights_transposed": "W2 transposed",
        "activation_sin": "activation: sin",
        "lr_x10": "adam_lr: 0.01",
        "beta2_099": "adam_beta2: 0.99",
    }[fault]


def written(file: Path, program: Any, **options: Any) -> Comparison:
    pairs = options.pop("pairs", False)
    program.write(file, **options)
    return compare(read_trace(file), pairs=pairs)


def check(comparison: Comparison, layers: tuple[int, ...], *faults: str) -> None:
    """Assert that faults are named, or move nothing by more than ten times rounding."""
    if comparison.first is None:
        assert max(difference.units for difference in comparison.differences) <= BEYOND
        assert any(name.startswith(named(fault, layers)) for fault in faults for name in comparison.invisible)
        return
    found = [explanation.name for explanation in comparison.found]
    for fault in faults:
        assert any(named(fault, layers) in name for name in found), (fault, found, str(comparison.first.place))


def possible(fault: str, layers: tuple[int, ...], dtype: str) -> bool:
    return not (fault == "derivative_to_g" and layers[0] == 2) and not (
        fault == "float32_computation" and dtype != "float64"
    )


QUICK = (
    "epsilon_inside",
    "elocal_x10",
    "derivatives_all_empty",
    "loss_sum",
    "biases_not_updated",
    "activation_derivative_left_out",
)


@pytest.mark.parametrize("fault", QUICK)
def test_a_mistake_is_named(tmp_path: Path, fault: str) -> None:
    check(written(tmp_path / "t.npz", numpy_trace, layers=SMALL, seed=4, dtype="float64", faults=[fault]), SMALL, fault)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layers", [EIGHT, WIDE])
@pytest.mark.parametrize("program", ["numpy_trace", "torch_trace", "jax_trace"])
def test_every_mistake_is_named(tmp_path: Path, program: str, layers: tuple[int, ...], dtype: str) -> None:
    if program == "jax_trace":
        pytest.importorskip("jax")
    writer = importlib.import_module(f"{__package__}.writers.{program}")
    for fault in (each for each in writer.FAULTS if possible(each, layers, dtype)):
        check(
            written(tmp_path / f"{fault}.npz", writer, layers=layers, seed=3, dtype=dtype, faults=[fault]),
            layers,
            fault,
        )


PAIRS = (
    ("activation_derivative_left_out", "l2_decay"),
    ("elocal_x10", "epsilon_inside"),
    ("derivative_zero_lrb", "weights_of_terms"),
    ("loss_mean", "no_bias_correction"),
    ("boundary_swapped", "biases_not_updated"),
)


def test_two_mistakes_are_found_as_a_pair(tmp_path: Path) -> None:
    check(
        written(tmp_path / "t.npz", numpy_trace, layers=SMALL, seed=2, dtype="float64", faults=PAIRS[1], pairs=True),
        SMALL,
        *PAIRS[1],
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("layers", [EIGHT, WIDE])
@pytest.mark.parametrize("faults", PAIRS)
def test_every_pair_is_found(tmp_path: Path, faults: tuple[str, str], layers: tuple[int, ...]) -> None:
    comparison = written(
        tmp_path / "t.npz", numpy_trace, layers=layers, seed=2, dtype="float64", faults=faults, pairs=True
    )
    check(comparison, layers, *faults)


def drawn(number: int) -> dict[str, Any]:
    draw = random.Random(number)
    width, depth = draw.choice([4, 8, 16]), draw.choice([1, 2, 3, 8])
    return {
        "layers": (draw.choice([2, 4]), *[width] * depth, 1),
        "seed": draw.randrange(1000),
        "dtype": draw.choice(["float32", "float64"]),
        "loss": draw.choice(["norm", "mean_square"]),
    }


@pytest.mark.parametrize("number", range(6))
def test_a_clean_training_is_not_accused(tmp_path: Path, number: int) -> None:
    program = (numpy_trace, torch_trace)[number % 2]
    comparison = written(tmp_path / "t.npz", program, **drawn(number))
    assert comparison.first is None, (drawn(number), comparison.first)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", ["numpy_trace", "torch_trace", "jax_trace"])
def test_fifty_clean_trainings_are_not_accused(tmp_path: Path, program: str) -> None:
    if program == "jax_trace":
        pytest.importorskip("jax")
    writer = importlib.import_module(f"{__package__}.writers.{program}")
    for number in range(100, 117):  # 17 of each
        comparison = written(tmp_path / "t.npz", writer, **drawn(number))
        assert comparison.first is None, (drawn(number), comparison.first)


def test_programs_agree_with_each_other(tmp_path: Path) -> None:
    """Two clean traces of different programs have the same numbers: neither side is made of the other."""
    for program in (numpy_trace, torch_trace):
        program.write(tmp_path / f"{program.__name__}.npz", layers=SMALL, seed=5, dtype="float64")
    one, two = (np.load(tmp_path / f"{program.__name__}.npz") for program in (numpy_trace, torch_trace))
    for name in set(one.files) & set(two.files) - {"manifest"}:
        a, b = np.ravel(one[name]), np.ravel(two[name])
        assert np.abs(a - b).max() <= 1e-9 * max(np.abs(a).max(), 1e-300), name


def test_two_traces_with_each_other(tmp_path: Path) -> None:
    """Another start and another epsilon are told apart, each by itself and both together."""
    options: dict[str, Any] = {"layers": SMALL, "dtype": "float64"}
    numpy_trace.write(tmp_path / "a.npz", seed=5, **options)
    torch_trace.write(tmp_path / "b.npz", seed=5, faults=["epsilon_1e-7"], **options)
    a, b = read_trace(tmp_path / "a.npz"), read_trace(tmp_path / "b.npz")
    comparison = compare(a, b)
    assert comparison.first is not None and comparison.first.place.quantity == "weights"
    assert "adam_eps: 1e-07" in [explanation.name for explanation in comparison.found]
    assert {line.name for line in comparison.configuration} == {"framework", "version"}
    numpy_trace.write(tmp_path / "c.npz", seed=6, **options)
    c = read_trace(tmp_path / "c.npz")
    start = compare(a, dataclasses.replace(c, points=a.points))
    assert start.first is not None and start.first.place.quantity == "initial weights"
    data = compare(a, c)
    assert data.first is not None and (data.first.place.quantity, data.first.place.name) == ("data", "residual/elocal")
    assert "initial weights of the other trace" in [explanation.name for explanation in data.found]


def test_the_family_of_the_initial_weights(tmp_path: Path) -> None:
    """The writers draw Glorot normal weights with small biases: no family has these, and torch has bounds."""
    numpy_trace.write(tmp_path / "t.npz", layers=SMALL, seed=5, dtype="float64")
    comparison = compare(read_trace(tmp_path / "t.npz", {"init": "torch"}))
    assert comparison.first is not None and "not drawn as init: torch" in comparison.first.note
    for init, layers in itertools.product(SOURCES, (EIGHT, WIDE, (4, 4, 1))):
        for seed in range(5):
            families = families_of(unflatten(initial_parameters(init, layers, seed=seed), layers))
            assert init in families
            assert len(families) < len(SOURCES)
    eight = initial_parameters("he_uniform", EIGHT, seed=0)
    assert set(families_of(unflatten(eight, EIGHT))) == {"he", "he_uniform"}


def test_a_second_stage_alone(tmp_path: Path) -> None:
    """A trace without a step of the first stage is compared by its iterations, or refused."""
    trace = read_trace(DATA)
    arrays = trace.steps[0]
    alone = dataclasses.replace(
        trace,
        steps={},
        loss_terms_by_step=None,
        iterations={0: {name: array for name, array in arrays.items() if name[0] in "Wb" or "grad" in name}},
    )
    comparison = compare(alone)
    assert comparison.first is None and comparison.error is None
    with pytest.raises(TraceError, match="nothing in it can be compared"):
        compare(dataclasses.replace(alone, iterations={}))


def test_networks_of_other_shapes_are_refused(tmp_path: Path) -> None:
    for number, layers in enumerate((SMALL, (4, 5, 5, 1))):
        numpy_trace.write(tmp_path / f"{number}.npz", layers=layers, seed=1, dtype="float64")
    with pytest.raises(TraceError, match=r"4-5-5-1, those of .* 4-6-6-1; only networks of one shape"):
        compare(*(read_trace(tmp_path / f"{number}.npz") for number in (0, 1)))


def test_tensorflow_agrees_and_another_epsilon_does_not() -> None:
    trace = read_trace(DATA)
    comparison = compare(trace)
    assert comparison.first is None
    assert max(difference.units for difference in comparison.differences) < 6
    other = compare(read_trace(DATA, {"adam_convention": "torch"}))
    assert other.first is not None and (other.first.place.step, other.first.place.name) == (1, "W1")
    assert [explanation.name for explanation in other.found] == ["adam_convention: tf1"]
    (found,) = other.found
    assert found.settings == {"adam_convention": "tf1"} and found.error == pytest.approx(other.their_error, rel=1e-9)


def test_what_a_trace_lacks_is_said(tmp_path: Path) -> None:
    """Weights alone are compared as far as they go."""
    trace = read_trace(DATA)
    few = {step: {n: a for n, a in arrays.items() if n[0] in "Wb"} for step, arrays in trace.steps.items()}
    comparison = compare(dataclasses.replace(trace, steps=few, loss_terms_by_step=None))
    assert comparison.first is None
    assert any(line.startswith("Not recorded: prediction, derivative, loss term") for line in comparison.coverage)


def test_ranks_are_by_what_is_left(tmp_path: Path) -> None:
    comparison = written(tmp_path / "t.npz", numpy_trace, layers=SMALL, seed=4, dtype="float64", faults=["loss_sum"])
    agreeing = [explanation.agreeing for explanation in comparison.explanations]
    assert agreeing == sorted(agreeing, reverse=True)
    assert all(a.vanishes >= b.vanishes for a, b in itertools.pairwise(comparison.explanations))
