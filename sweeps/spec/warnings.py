"""Warnings about choices in a study file that are allowed but likely to mislead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from .combinations import grid_count
from .sections import FROM_ENVIRONMENT
from .study_spec import StudySpec

_MOST_COUNTED: Final = 100_000  # combinations of connected fields that are counted one by one


def of_choices(spec: StudySpec) -> tuple[str, ...]:
    """Return warnings about choices that are allowed but likely to mislead."""
    warnings = list(_about_trials(spec))
    if "loss" in spec.objectives:
        warnings.append(
            "search.objective loss does not rank trials: published runs with a sixth of the loss have three "
            "times the error. Use rel_l2 where the data have a reference."
        )
    if "mean_square" in spec.values("loss") and "loss" in spec.objectives:
        warnings.append("loss mean_square tends to overfit between the points: watch heldout_residual.")
    if "float32" in spec.values("dtype") and max(spec.values("iterations")) > 0:
        warnings.append("dtype float32 makes L-BFGS stop early because of rounding; float64 does not.")
    if min(spec.values("first_step")) < 0.1 and max(spec.values("iterations")) > 0:
        warnings.append(
            "first_step below 0.1: a line search that starts with so small a step needs about three times as many "
            "evaluations as with 1."
        )
    if min(spec.values("epochs")) == 0 and min(spec.values("iterations")) == 0:
        warnings.append("epochs 0 with iterations 0 trains nothing: such a trial keeps its initial weights.")
    if spec.notify.webhook is not None and not spec.notify.webhook.startswith(FROM_ENVIRONMENT):
        warnings.append(
            "notify.webhook: whoever can read the study can read this address and write to it. env:NAME takes it from "
            "the environment."
        )
    return tuple(warnings)


def _about_trials(spec: StudySpec) -> Iterator[str]:
    """Yield a warning where there are fewer distinct trials than asked for."""
    trials, listed = spec.search.trials, spec.listed
    if not spec.space:
        yield "space is empty: there is one configuration, so use search.replicates for several seeds of it."
        return
    if spec.search.traits.reads_list:
        if trials is not None and trials > len(listed):
            yield f"search.trials is {trials} and search.list has {len(listed)} rows: the smaller number is run."
        repeated = len(listed) - len({json.dumps(spec.config(row), sort_keys=True) for row in listed})
        if repeated:
            yield f"search.list has {repeated} rows that repeat another: no configuration is trained twice."
        return
    size = grid_count(spec, _MOST_COUNTED)
    if trials is None or size is None:
        return
    if spec.search.traits.every_combination:
        if trials != size:
            yield f"search.trials is {trials} and the grid has {size} combinations: the smaller number is run."
    elif trials > size:
        yield f"search.trials is {trials} and the space has {size} combinations: none is trained twice."
