"""The same numbers on a GPU, where there is one."""

from __future__ import annotations

import pytest
import torch

import pinncore
from pinncore import NonlocalStrain
from pinncore.engines import TorchEngine
from pinncore.initialisation import initial_parameters
from pinncore.layouts import PackedLayout

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

WIDTHS = (8, 16, 12)


def test_loss_and_gradient_equal_those_of_the_cpu() -> None:
    problems = [NonlocalStrain(scale_factor=s) for s in (1.0, 2.0, 5.0)]
    layout = PackedLayout(tuple((2, w, w, 1) for w in WIDTHS))
    flats = [initial_parameters("tf1", layers, seed=i) for i, layers in enumerate(layout.members)]
    found = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        x = layout.pack(flats, dtype=torch.float64, device=device)
        found.append(TorchEngine(problems, layout, dtype=torch.float64, device=device).evaluate(x))
    for on_cpu, on_gpu in zip(*found, strict=True):
        difference = (on_cpu - on_gpu.cpu()).abs().max() / on_cpu.abs().max()
        assert difference < 1e-12  # other summation orders


def test_a_pack_trains_on_the_gpu_and_goes_on_from_its_state() -> None:
    def members() -> list[pinncore.Member]:
        train = [pinncore.TrainSettings(width=w, epochs=20, iterations=10, lbfgs_history=4) for w in WIDTHS]
        return [pinncore.Member(t, NonlocalStrain(), seed, seed) for seed, t in enumerate(train)]

    whole, stopped, resumed = (pinncore.Pack(members(), device="cuda") for _ in range(3))
    whole.step(100)
    stopped.step(25)  # inside L-BFGS
    resumed.restore(stopped.state())
    resumed.step(100)
    for one, other in zip(whole.results, resumed.results, strict=True):
        assert one.device == "cuda"
        assert one.metrics["rel_l2"] == pytest.approx(other.metrics["rel_l2"], rel=1e-9)  # atomics reorder sums
