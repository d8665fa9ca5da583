"""This project's engine on a pack."""

from __future__ import annotations

import torch

from pinncore import NonlocalStrain, Problem
from pinncore.engines import Evaluation, choose_engine
from pinncore.layouts import PackedLayout
from pinncore.problems import PointSet

from ..case import Array, Case
from ..equations import EquationCase, problems_of
from .base import Evaluator


class OwnEvaluator(Evaluator):
    """An evaluator by one call of `Engine.evaluate` for all members."""

    def __init__(self, case: Case | EquationCase, *, dtype: str, engine: str) -> None:
        layers = tuple(map(int, case.layers))
        layout = PackedLayout((layers,) * case.members)
        cpu, precision = torch.device("cpu"), getattr(torch, dtype)
        kind = choose_engine(engine, cpu)
        self._engine = kind(_problems(case), layout, dtype=precision, device=cpu)
        self._parameters = layout.pack(list(case.starts), dtype=precision, device=cpu)
        self._evaluation: Evaluation | None = None
        self.note = f"engine {kind.name}"

    def evaluate(self) -> None:
        self._evaluation = self._engine.evaluate(self._parameters)

    def answer(self) -> tuple[Array, Array]:
        assert self._evaluation is not None
        return self._evaluation.loss.double().numpy(), self._evaluation.gradient.double().numpy()


def _problems(case: Case | EquationCase) -> list[Problem]:
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


def build(case: Case | EquationCase, *, name: str, dtype: str, threads: int, engine: str) -> Evaluator:
    """Build an evaluator with the engine of that name; `auto` is the engine of trials."""
    torch.set_num_threads(threads)
    return OwnEvaluator(case, dtype=dtype, engine=engine)
