"""This project's engine on a pack."""

from __future__ import annotations

import numpy as np
import torch

from pinncore import Member, NonlocalStrain, Pack, Problem, TrainSettings
from pinncore.engines import Engine, Evaluation, choose_engine
from pinncore.problems import PointSet

from ..case import Array, Case
from ..equations import EquationCase, problems_of
from .base import Evaluator, Trainer
from .on_gpu import wait_for

NO_END = 1_000_000  # epochs, of which a part is trained


class OwnEvaluator(Evaluator):
    """An evaluator by one call of `Engine.evaluate` for all members."""

    def __init__(self, case: Case | EquationCase, *, dtype: str, kind: type[Engine], device: str) -> None:
        layers, at = tuple(map(int, case.layers)), torch.device(device)
        layout, precision = kind.arrange((layers,) * case.members), getattr(torch, dtype)
        self._layout, self._device = layout, device
        self._engine = kind(problems_at(case), layout, dtype=precision, device=at)
        self._parameters = layout.pack(list(case.starts), dtype=precision, device=at)
        self._evaluation: Evaluation | None = None
        self.note = f"engine {kind.name}"

    def evaluate(self) -> None:
        self._evaluation = self._engine.evaluate(self._parameters)

    def wait(self) -> None:
        wait_for(self._device)

    def answer(self) -> tuple[Array, Array]:
        assert self._evaluation is not None
        found = self._evaluation
        gradients = [self._layout.unpack(row, member) for member, row in enumerate(found.gradient)]
        return found.loss.double().cpu().numpy(), np.stack(gradients).astype(np.float64)


class OwnTrainer(Trainer):
    """The first stage of a `Pack`; its start and its end, where results are made, are not part of it."""

    def __init__(self, case: Case, *, dtype: str, engine: str, device: str, learning_rate: float) -> None:
        layers = [int(size) for size in case.layers]
        self._settings = TrainSettings(
            width=layers[1],
            depth=len(layers) - 2,
            dtype=dtype,  # type: ignore[arg-type]
            engine=engine,  # type: ignore[arg-type]
            adam_lr=learning_rate,
            epochs=NO_END,
            record_every=NO_END,
            iterations=0,
        )
        self._problems, self._device = problems_at(case), device

    def start(self) -> None:
        members = [Member(self._settings, problem, seed) for seed, problem in enumerate(self._problems)]
        self._pack = Pack(members, device=self._device)

    def train(self, epochs: int) -> None:
        self._pack.step(epochs)
        wait_for(self._device)

    def losses(self) -> list[float]:
        return self._pack.engine.evaluate(self._pack.x).loss.tolist()


def problems_at(case: Case | EquationCase) -> list[Problem]:
    """Return the problems of the members on the points of the case."""
    if isinstance(case, EquationCase):
        return problems_of(case.name, case.points, case.coefficients)
    problem = NonlocalStrain(boundary_weight=float(case.boundary_weight))
    inside = {"g": case.g, "elocal": case.elocal}
    vars(problem)["scales"] = dict.fromkeys(("x", "y", *inside), (0.0, 1.0))  # the case is in the network's units
    vars(problem)["point_sets"] = (
        PointSet("residual", case.interior, {**inside, "x": case.interior[:, 0], "y": case.interior[:, 1]}),
        PointSet("lrb", case.lrb, {}),
        PointSet("btb", case.btb, {}),
    )
    return [problem] * case.members


def build(
    case: Case | EquationCase, *, name: str, dtype: str, threads: int, engine: str, device: str = "cpu"
) -> Evaluator:
    """Build an evaluator with the engine of that name; `auto` is the engine of trials, `bmm` always `torch`."""
    torch.set_num_threads(threads)
    kind = choose_engine(_engine(name, engine), torch.device(device))
    return OwnEvaluator(case, dtype=dtype, kind=kind, device=device)


def build_trainer(case: Case, *, name: str, dtype: str, engine: str, device: str, learning_rate: float) -> Trainer:
    """Build the first stage with the engine of that name, `bmm` with `torch`."""
    return OwnTrainer(case, dtype=dtype, engine=_engine(name, engine), device=device, learning_rate=learning_rate)


def _engine(name: str, engine: str) -> str:
    return "torch" if name == "bmm" else engine
