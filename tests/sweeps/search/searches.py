"""Shared by the tests of samplers: studies with every sampler, and a search driven as a study drives it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps.search import PastTrial, Proposal, search_of
from sweeps.spec.study_spec import StudySpec
from sweeps.study.loading import load_text

SPACE = {
    "width": {"choice": [8, 16, 20, 32]},
    "depth": {"int": [2, 8]},
    "adam_lr": {"loguniform": [1e-4, 1e-2]},
    "scale_factor": {"uniform": [1.0, 4.0]},
    "lbfgs_history": {"logint": [3, 500]},
    "inputs": {"choice": [["x", "y"], ["x", "y", "g", "elocal"]]},
}
FINITE = {"width": {"choice": [8, 16, 20]}, "depth": {"int": [2, 3]}, "init": {"choice": ["torch", "keras", "tf1"]}}
BOWL = {"adam_lr": {"loguniform": [1e-4, 1e-1]}, "scale_factor": {"uniform": [1.0, 9.0]}, "width": {"int": [4, 64]}}
BOWL_WHEN = {  # a condition on a conditional field; no choice, because cmaes cannot search choices
    **BOWL,
    "depth": {"int": [2, 8], "when": {"width": list(range(4, 40))}},
    "lbfgs_history": {"logint": [3, 50], "when": {"depth": [2, 3, 4]}},
}
ROWS = [{"width": 8}, {"width": 8, "init": "keras"}, {"width": 20, "inputs": ["x", "y", "g", "elocal"]}, {}]

PURE = ("random", "qmc", "grid", "list")
LEARNING = ("tpe", "gp", "cmaes", "nsga2")
SAMPLERS = (*PURE, *LEARNING)


def study(
    sampler: str,
    *,
    trials: int | None = 64,
    space: dict[str, Any] | None = None,
    objective: Any = "rel_l2",
    **search: Any,
) -> StudySpec:
    """Return a study, checked like a user's; the default space fits the sampler."""
    search = {"sampler": sampler, "trials": trials, "objective": objective, **search}
    if sampler == "list":
        search.setdefault("list", ROWS)
    if space is None:
        space = {"grid": FINITE, "list": {}, "cmaes": BOWL}.get(sampler, SPACE)
    content = {"study": "s", "search": search, "space": space}
    return load_text(json.dumps(content), base=Path("/"))


def points(spec: StudySpec, indices: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the parameters at places of a sequence, proposed in this order."""
    search = search_of(spec)
    return {index: search.propose(index).params for index in indices}


def bowl(params: dict[str, Any]) -> float:
    """Return a quadratic with its minimum at adam_lr = 2e-3, scale_factor = 3, width = 20."""
    rate = math.log10(params["adam_lr"] / 2e-3)
    return rate**2 + ((params["scale_factor"] - 3) / 4) ** 2 + ((params["width"] - 20) / 30) ** 2


class Driver:
    """A study without training: it proposes and reports trials, and keeps them as a database would.

    Every seventh trial fails and every seventh is pruned. With several objectives, wide networks are worse in the
    others. `restart` creates the search again from the trials, in any order.
    """

    def __init__(self, spec: StudySpec, *, warm: Iterable[PastTrial] = (), order: int = 0) -> None:
        self.spec, self.search, self.warm = spec, search_of(spec, warm=warm), list(warm)
        self.trials: dict[int, PastTrial] = {}
        self._finishing = random.Random(order)
        self._history = random.Random(order)

    def restart(self) -> None:
        history = list(self.trials.values())
        self._history.shuffle(history)
        self.search = search_of(self.spec, iter(history), iter(self.warm))

    def ask(self, index: int) -> Proposal:
        proposal = self.search.propose(index)
        attrs = json.loads(json.dumps(proposal.attrs))
        self.trials[index] = PastTrial(
            index, proposal.params, self._history.choice(["WAITING", "RUNNING"]), attrs=attrs
        )
        return proposal

    def finish(self, index: int) -> None:
        trial, value = self.trials[index], bowl(dict(self.trials[index].params))
        if index % 7 == 3:
            trial = replace(trial, state="FAIL")
        elif index % 7 == 5:
            trial = replace(trial, state="PRUNED", rungs={111: value + 1, 333: value})
        else:
            others = (trial.params["width"] + value,) * (len(self.spec.objectives) - 1)
            trial = replace(trial, state="COMPLETE", values=(value, *others))
        self.trials[index] = trial
        self.search.tell(index, trial.state, trial.values, trial.rungs)

    def run(self, trials: int, *, at_once: int = 5, restart: bool = False) -> list[Proposal]:
        """Run a search with trials in flight that finish in any order; `restart` creates it again before each trial."""
        proposals, in_flight = [], []
        for index in range(trials):
            if not self.search.ready(index):
                self._finishing.shuffle(in_flight)
                while in_flight:
                    self.finish(in_flight.pop())
            if restart:
                self.restart()
            proposals.append(self.ask(index))
            in_flight.append(index)
            while len(in_flight) > at_once:
                self.finish(in_flight.pop(self._finishing.randrange(len(in_flight))))
        return proposals
