"""This project's engine on a pack."""

from __future__ import annotations

import torch

from pinncore import NonlocalStrain
from pinncore.engines import Evaluation, choose_engine
from pinncore.layouts import PackedLayout
from pinncore.problems.base import PointSet

from ..case import Array, Case
from .base import Evaluator


class OwnEvaluator(Evaluator):
    """An evaluator by one call of `Engine.evaluate` for all members."""

    def __init__(self, case: Case, *, dtype: str, engine: str) -> None:
        layers = tuple(map(int, case.layers))
        layout = PackedLayout((layers,) * case.members)
        cpu, precision = torch.device("cpu"), getattr(torch, dtype)
        kind = choose_engine(engine, cpu)
        self._engine = kind([case_problem(case)] * case.members, layout, dtype=precision, device=cpu)
        self._parameters = layout.pack(list(case.starts), dtype=precision, device=cpu)
        self._evaluation: Evaluation | None = None
        self.note = f"engine {kind.name}"

    def evaluate(self) -> None:
        self._evaluation = self._engine.evaluate(self._parameters)

    def answer(self) -> tuple[Array, Array]:
        assert self._evaluation is not None
        return self._evaluation.loss.double().numpy(), self._evaluation.gradient.double().numpy()


def case_problem(case: Case) -> NonlocalStrain:
    """Return the problem on the points of the case."""
    problem = NonlocalStrain()
    weight = float(case.boundary_weight)
    vars(problem)["point_sets"] = (
        PointSet("residual", case.interior, {"g": case.g, "elocal": case.elocal}),
        PointSet("lrb", case.lrb, {}, weight),
        PointSet("btb", case.btb, {}, weight),
    )
    return problem


def build(case: Case, *, name: str, dtype: str, threads: int, engine: str) -> Evaluator:
    """Build an evaluator with the engine of that name; `auto` is the engine of trials."""
    torch.set_num_threads(threads)
    return OwnEvaluator(case, dtype=dtype, engine=engine)
