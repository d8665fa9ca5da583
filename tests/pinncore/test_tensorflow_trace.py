"""Real TensorFlow, epoch after epoch: `examples/traces/tensorflow1_4-4-1.npz`.

The trace is of TensorFlow 2.21 in TF1 graph mode (`tf.gradients`, `AdamOptimizer`) in float64: a 4-4-1 network with
raw inputs (x, y, g, elocal), elocal times ten, the published loss on StrB100, learning rate 1e-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pinncore import Member, MemberResult, NonlocalStrain, Pack, TrainSettings
from pinncore.engines import ENGINES
from pinncore.networks import flatten
from pinncore.optim import FirstOrderSettings, PackedFirstOrder

from .helpers import assert_close

TRACE = Path(__file__).parents[2] / "examples" / "traces" / "tensorflow1_4-4-1.npz"
TENSORFLOW = 1e-10  # the bar, relative to the largest value; 7e-12 seen, at a saturated unit
TERMS = ("residual", "lrb", "btb")


@pytest.fixture(scope="module")
def trace() -> Iterator[dict[str, NDArray[np.float64]]]:
    with np.load(TRACE) as archive:
        yield {key: archive[key] for key in archive.files}


def settings(engine: str, epochs: int) -> TrainSettings:
    """The trace's training: its start weights and the whole TensorFlow 1 convention."""
    return TrainSettings(
        width=4,
        depth=1,
        init=f"file:{TRACE}#epoch0",
        engine=engine,
        epochs=epochs,
        adam_lr=1e-3,
        adam_convention="tf1",
        iterations=0,
        record_every=1,
        keep_epochs=(0, 1, 2, 10, 50),
    )


PROBLEM = NonlocalStrain(inputs=("x", "y", "g", "elocal"), scale_scope="all", strain_multiplier=10.0)


def weights(trace: dict[str, NDArray[np.float64]], epoch: int, prefix: str = "") -> NDArray[np.float64]:
    return flatten([(trace[f"epoch{epoch}/{prefix}W{i}"], trace[f"epoch{epoch}/{prefix}b{i}"][0]) for i in (1, 2)])


@pytest.mark.parametrize("kind", sorted(ENGINES.keys() - {"torch_compiled"}))  # which needs a compiler
def test_epoch_zero(trace: dict[str, NDArray[np.float64]], kind: str) -> None:
    """Prediction, derivatives, loss terms and each gradient array before the first step."""
    pack = Pack([Member(settings(kind, 1), PROBLEM)], device="cpu")
    (problem,) = pack.engine.problems
    points, channels = problem.point_sets[0], problem.groups[0].channels
    (jet,) = pack.engine.channels(pack.x[0], 0, channels, points, problem.group_columns(0, points))
    for name, found in zip(("u", "u_x", "u_y", "laplacian"), jet, strict=True):
        assert_close(found, trace[f"epoch0/{name}"][:, 0], TENSORFLOW, name)
    loss, terms, gradient = pack.engine.evaluate(pack.x)
    assert_close(terms[0], trace["epoch0/loss_terms"], TENSORFLOW, "loss terms")
    assert_close(loss[0], trace["epoch0/loss_terms"].sum(), TENSORFLOW, "loss")
    start = 0
    for name in ("W1", "b1", "W2", "b2"):
        expected = trace[f"epoch0/grad_{name}"]
        found_gradient = gradient[0, start : start + expected.size].reshape(expected.shape)
        assert_close(found_gradient, expected, TENSORFLOW, f"gradient of {name}")
        start += expected.size


@pytest.fixture(scope="module")
def trained() -> MemberResult:
    """Fifty epochs from TensorFlow's start weights."""
    pack = Pack([Member(settings("torch", 50), PROBLEM)], device="cpu")
    pack.step(1000)
    return pack.results[0]


@pytest.mark.parametrize("epoch", [0, 1, 2, 10, 50])
def test_weights_epoch_after_epoch(trace: dict[str, NDArray[np.float64]], trained: MemberResult, epoch: int) -> None:
    assert_close(trained.weights[epoch], weights(trace, epoch), TENSORFLOW, f"weights after {epoch} epochs")


def test_loss_terms_epoch_after_epoch(trace: dict[str, NDArray[np.float64]], trained: MemberResult) -> None:
    found = np.stack([trained.curves[f"loss_{term}"] for term in TERMS], axis=1)
    assert trained.curves["step"].tolist() == list(range(51))
    assert_close(found[:50], trace["loss_terms_by_epoch"], TENSORFLOW, "loss terms")


def test_tensorflow_gradients_fed_to_our_adam(trace: dict[str, NDArray[np.float64]]) -> None:
    """Without our derivatives in between the weights agree to rounding."""
    x = torch.as_tensor(weights(trace, 0))[None]
    adam = PackedFirstOrder([FirstOrderSettings(1e-3, convention="tf1")], x)
    for epoch in (0, 1):
        x = adam.step(x, torch.as_tensor(weights(trace, epoch, "grad_"))[None], [0])
        assert_close(x[0], weights(trace, epoch + 1), 1e-15, f"weights after {epoch + 1} epochs")


@pytest.mark.parametrize("convention", ["torch", "inside"])
def test_another_convention_is_not_tensorflow(trace: dict[str, NDArray[np.float64]], convention: str) -> None:
    """Ten epochs apart the epsilons differ by more than the bar: the agreement above is not for free."""
    pack = Pack([Member(replace(settings("torch", 10), adam_convention=convention), PROBLEM)], device="cpu")
    pack.step(1000)
    apart = np.abs(pack.results[0].weights[10] - weights(trace, 10)).max()
    assert apart > 100 * TENSORFLOW * np.abs(weights(trace, 10)).max()
