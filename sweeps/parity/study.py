"""The study that measures what each convention of a training does to its error."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pinncore.errors import PinnError
from pinncore.parity.reading import training_of
from pinncore.parity.trace import Trace
from pinncore.problems import Problem
from pinncore.settings import TrainSettings

from ..spec.yaml_text import write

REPLICATES: Final = 10
_EPSILONS: Final = {"torch": 1e-8, "tf1": 1e-8, "keras": 1e-7, "inside": 1e-8}
_FAMILIES: Final = ("torch", "keras", "tf1", "glorot_normal", "he", "he_uniform", "lecun_normal")
_USUAL: Final = {"tensorflow": "tf1", "keras": "keras"}  # initial weights of frameworks
_NOT_OF_A_STUDY: Final = ("width", "depth", "init")


def study_text(trace: Trace) -> str:
    """Return a study file: the trace's training, and one with each convention changed, over ten seeds.

    Mistakes are not in it, and neither are the points of the trace: the study has those of the problem. Raises
    `TraceError` where the trace is no training, or has hidden layers of several widths.
    """
    train, problem = training_of(trace)
    if "init" not in trace.settings:
        usual = next((init for start, init in _USUAL.items() if trace.framework.startswith(start)), train.init)
        train = dataclasses.replace(train, init=usual)
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(trace.source).stem).strip("_") or "trace"
    rows = list(_rows(train, problem))
    keys = list(dict.fromkeys(itertools.chain.from_iterable(row for _, row in rows)))
    base = {key: getattr(train if key in _names(train) else problem, key) for key in keys}
    head: dict[str, Any] = {
        "study": f"{name}_conventions",
        "problem": {key: value for key, value in trace.problem.items() if key not in base},
        "train": {"width": train.width, "depth": train.depth}
        | {key: value for key, value in _stated(train).items() if key not in base},
    }
    lines = [f"# What does each convention do to the error? {trace.source}, and one change in each line."]
    if trace.points:
        lines.append("# It trains on the points of the problem, not on those of the trace.")
    lines += write(_plain(head)).splitlines()
    lines += ["search:", "  sampler: list", f"  replicates: {REPLICATES}", "  list:"]
    for comment, row in rows:
        _, _, written = write({"row": _plain({**base, **row})}, width=math.inf).partition(": ")
        lines.append(f"    - {written.strip()}  # {comment}")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    """Return settings as YAML has them: no tuples."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _rows(train: TrainSettings, problem: Problem) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield configurations as changes, with what they are; the first is that of the trace."""
    yield "as in the trace", {}
    changes: list[tuple[str, dict[str, Any]]] = []
    if train.first_stage in ("adam", "adamw"):
        for convention, eps in _EPSILONS.items():
            if convention != train.adam_convention:
                changes.append((f"epsilon of {convention}", {"adam_convention": convention, "adam_eps": eps}))
    if train.first_stage == "adamw":
        other = "l2" if train.weight_decay_form == "decoupled" else "decoupled"
        changes.append((f"weight decay: {other}", {"weight_decay_form": other}))
    changes += [(f"initial weights: {init}", {"init": init}) for init in _FAMILIES if init != train.init]
    other = "float32" if train.dtype == "float64" else "float64"
    changes.append((f"precision: {other}", {"dtype": other}))
    loss = "norm" if problem.loss == "mean_square" else "mean_square"
    changes.append((f"loss: {loss}", {"loss": loss}))
    if getattr(problem, "scale_scope", None) in ("all", "elocal"):
        changes.append(("scaled so that the equation stays", {"scale_scope": "consistent", "strain_multiplier": 1.0}))
    changes.append(("scale factor 10", {"scale_factor": 10.0}))
    for comment, change in changes:
        own = {key: value for key, value in change.items() if hasattr(problem, key) and key not in _names(train)}
        try:
            dataclasses.replace(problem, **own)
        except PinnError:
            continue
        yield comment, change


def _names(train: TrainSettings) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(train))


def _stated(train: TrainSettings) -> dict[str, Any]:
    """Return the settings of a training that are not at their defaults."""
    return {
        name: getattr(train, name)
        for name in _names(train)
        if name not in _NOT_OF_A_STUDY and getattr(train, name) != getattr(TrainSettings, name)
    }
