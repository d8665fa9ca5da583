"""A whole trial as PINN code for PyTorch usually trains: `torch.optim.Adam` epochs, then one call of L-BFGS."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..evaluators.slides import StrainModel, train_first_stage

NO_LIMIT = 10**9


@dataclass(frozen=True)
class Schedule:
    """The training schedule of both sides; tolerances are zero, so that neither ends early."""

    epochs: int
    iterations: int
    adam_lr: float = 1e-3
    first_step: float = 1.0
    history: int = 5000


@dataclass(frozen=True)
class Outcome:
    """The counts of a trial and its final loss and error."""

    first_evaluations: int
    second_evaluations: int
    iterations: int
    loss: float
    rel_l2: float

    def as_facts(self) -> dict[str, Any]:
        """Return the outcome as plain values."""
        return asdict(self)


def train(model: StrainModel, schedule: Schedule) -> Outcome:
    """Train a model from its current weights and return the outcome."""
    evaluations = 0
    train_first_stage(model, schedule.epochs, schedule.adam_lr)
    lbfgs = torch.optim.LBFGS(
        model.network.parameters(),
        lr=schedule.first_step,
        max_iter=schedule.iterations,
        max_eval=NO_LIMIT,
        history_size=schedule.history,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        lbfgs.zero_grad()
        loss = model.loss()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    lbfgs.step(closure)  # type: ignore[no-untyped-call]
    done = lbfgs.state[lbfgs.param_groups[0]["params"][0]]["n_iter"]
    return Outcome(schedule.epochs, evaluations, done, float(model.loss().detach()), model.error())
