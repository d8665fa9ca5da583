"""What is allowed in a study file and likely to mislead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from .combinations import grid_count
from .sources import NEEDS_REFERENCE
from .study_spec import StudySpec

_MOST_COUNTED: Final = 10_000  # combinations of connected fields, where constraints must be decided to count them


def warnings_of(spec: StudySpec) -> tuple[str, ...]:
    """Return what is allowed and likely to mislead, one sentence each."""
    said = list(_about_trials(spec))
    if "loss" in spec.objectives:
        said.append(
            "search.objective loss does not rank trials: published runs with a sixth of the loss have three "
            "times the error. rel_l2 does, wherever the data carry a reference."
        )
    reproductions = [scope for scope in spec.values("scale_scope") if scope != "consistent"]
    if reproductions:
        said.append(
            f"scale_scope {' and '.join(reproductions)} reproduces published mistakes: with a scale_factor "
            "other than 1 another equation is solved."
        )
    if any("elocal" in inputs for inputs in spec.values("inputs")):
        said.append(
            "inputs with elocal: u = e then has no loss at all, and is 17 % away from the truth on strb100; "
            "watch distance_to_local."
        )
    if "mean_square" in spec.values("loss") and not set(spec.objectives) & set(NEEDS_REFERENCE):
        said.append("loss mean_square tends to over-fit between the points: watch heldout_residual.")
    if "float32" in spec.values("dtype") and max(spec.values("iterations")) > 0:
        said.append("dtype float32 makes L-BFGS stop early on rounding; float64 does not.")
    if min(spec.values("first_step")) < 0.1 and max(spec.values("iterations")) > 0:
        said.append(
            "first_step below 0.1: it is the first step of every line search, and costs about three times the "
            "evaluations of 1."
        )
    if min(spec.values("epochs")) == 0 and min(spec.values("iterations")) == 0:
        said.append("epochs 0 with iterations 0 trains nothing: such a trial is its initial weights.")
    return tuple(said)


def _about_trials(spec: StudySpec) -> Iterator[str]:
    """Say where there are fewer different trials than asked for."""
    trials, listed = spec.search.trials, spec.listed
    if not spec.space:
        yield "space is empty: there is one configuration, so use search.replicates for several seeds of it."
        return
    if spec.search.sampler == "list":
        if trials is not None and trials > len(listed):
            yield f"search.trials is {trials} and search.list has {len(listed)} rows: the smaller number is run."
        repeated = len(listed) - len({json.dumps(spec.config(row), sort_keys=True) for row in listed})
        if repeated:
            yield f"search.list has {repeated} rows that repeat another: no configuration is trained twice."
        return
    size = grid_count(spec, _MOST_COUNTED)
    if spec.search.sampler == "grid" and trials is not None and size is not None and trials != size:
        yield f"search.trials is {trials} and the grid has {size} combinations: the smaller number is run."
    if spec.search.sampler != "grid" and trials is not None and size is not None and trials > size:
        yield f"search.trials is {trials} and the space has {size} combinations: none is trained twice."
