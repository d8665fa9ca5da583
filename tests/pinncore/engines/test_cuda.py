"""The same numbers on a GPU, where there is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pinncore
from pinncore import NonlocalStrain
from pinncore.engines import Engine, FusedCudaEngine, TorchEngine
from pinncore.initialisation import initial_parameters

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
WIDTHS = (8, 5, 7)
BOUNDS = {torch.float64: 1e-12, torch.float32: 2e-5}  # 6400 points in another order


@pytest.mark.parametrize("activation", ["tanh", "sin"])
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("kind", [TorchEngine, FusedCudaEngine])
def test_loss_and_gradient_equal_those_of_the_cpu(kind: type[Engine], dtype: torch.dtype, activation: str) -> None:
    problems = [NonlocalStrain(scale_factor=s) for s in (1.0, 2.0, 5.0)]
    members = [(2, w, w, 1) for w in WIDTHS]
    flats = [initial_parameters("tf1", layers, seed=i) for i, layers in enumerate(members)]
    found = []
    for engine_kind, device, precision in ((TorchEngine, CPU, torch.float64), (kind, CUDA, dtype)):
        layout = engine_kind.arrange(members)
        engine = engine_kind(problems, layout, dtype=precision, device=device, activation=activation)
        evaluation = engine.evaluate(layout.pack(flats, dtype=precision, device=device))
        found.append([layout.unpack(evaluation.gradient[row], row) for row in range(len(members))])
    for on_cpu, on_gpu in zip(*found, strict=True):
        assert abs(on_cpu - on_gpu).max() < BOUNDS[dtype] * abs(on_cpu).max()


@pytest.mark.parametrize("engine", ["torch", "fused"])
def test_a_pack_trains_on_the_gpu_and_goes_on_from_its_state(engine: Any) -> None:
    def members(widths: tuple[int, ...] = WIDTHS) -> list[pinncore.Member]:
        settings: dict[str, Any] = {"epochs": 40, "iterations": 10, "lbfgs_history": 4, "record_every": 10}
        train = [pinncore.TrainSettings(width=w, engine=engine, **settings) for w in widths]
        return [pinncore.Member(t, NonlocalStrain(), seed, seed) for seed, t in enumerate(train)]

    whole, stopped, resumed = (pinncore.Pack(members(), device="cuda") for _ in range(3))
    whole.step(100)
    stopped.step(45)  # inside L-BFGS
    resumed.restore(stopped.state())
    resumed.step(100)
    for one, other in zip(whole.results, resumed.results, strict=True):
        assert (one.device, one.engine) == ("cuda", engine)
        if engine == "fused":
            assert one.parameters.tobytes() == other.parameters.tobytes()
        else:
            assert one.metrics["rel_l2"] == pytest.approx(other.metrics["rel_l2"], rel=1e-9)  # atomics reorder sums


def test_the_first_stage_alone_is_that_of_the_pack() -> None:
    train = [pinncore.TrainSettings(width=w, epochs=300, iterations=0, dtype="float32") for w in (8, 16, 20, 24)]
    members = [pinncore.Member(t, NonlocalStrain(), seed, seed) for seed, t in enumerate(train)]
    pack = pinncore.Pack(members, device="cuda")
    pack.step(300)
    for result in pack.results:
        alone = pinncore.Pack([members[result.label]], device="cuda")
        alone.step(300)
        assert alone.results[0].parameters.tobytes() == result.parameters.tobytes()
