"""The part of a report on the traps of this problem: a mark for each, and the numbers behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pinncore.problems.columns import relative

from ..errors import listed
from ..trial.tables import Row
from ..words import rounded
from .data import ReportStudy, distinct, is_finite
from .loss_traps import loss_order, overfitting
from .marks import NAMED, Mark, counted, spanned
from .page import Html, section, tag

IDENTITY_TRAP: Final = 0.1  # relative distance to u = e below which a prediction may copy its forcing
OF_REFERENCE: Final = 0.6  # the same as a share of the distance of the reference, where it is known
CONSTANT: Final = 0.2  # spread over that of the reference below which a prediction counts as constant
TRIVIAL: Final = 0.5  # error over that of the best constant above which a prediction counts as trivial
EPSILON_MATTERS: Final = 100.0  # gradients over epsilon below which epsilon changes a step by more than a per cent
MANY_EVALUATIONS: Final = 2.0  # per iteration of the second stage; with a suitable first step it is 1.2

ADAMS: Final = ("adam", "adamw")  # first stages with Adam's epsilon


def traps(study: ReportStudy, best: Row) -> Html:
    """Return the section with a mark for each trap of the study's problem, and the evidence for it."""
    rows, items, raised = study.complete(), [], 0
    for trap, judge in _TRAPS.items():
        if mark := judge(study, rows, best):
            state, evidence = mark
            raised += state == "look out"
            badge = tag("span", state, class_="mark " + state.replace(" ", "-"))
            items.append(tag("li", badge, tag("div", tag("b", trap), tag("p", evidence))))
    text = (
        f"{len(items)} known ways to get a wrong result without noticing, as questions to this study. "
        f"Marked 'look out': {raised or 'none'}."
    )
    return section("Traps", text, tag("ul", *items, class_="traps"))


def _identity(study: ReportStudy, rows: pa.Table, best: Row) -> Mark | None:
    if "distance_to_local" not in best:  # a problem without local strain
        return None
    distance = best["distance_to_local"]
    if not is_finite(distance):
        return ("not checked", "The distance to the local strain is not known.")
    text, limit = f"The best prediction is {_in_per_cent(distance)} away from the local strain e", IDENTITY_TRAP
    if of_reference := _reference_distance(study):
        text += f"; the reference is {_in_per_cent(of_reference)} away"
        limit = OF_REFERENCE * of_reference
    is_near = pc.less(rows["distance_to_local"], limit)
    near = pc.any(is_near).as_py()
    text += f". Predictions within {100 * limit:.2g} %: {counted(rows, is_near)}."
    with_strain = [inputs for inputs in distinct(rows, "inputs") if "elocal" in json.loads(inputs)]
    if with_strain and is_finite(best["mean_abs_du_de"]):
        text += f" Mean |du/de| of the best trial: {best['mean_abs_du_de']:.3g}."
    text += "" if with_strain else " The networks do not take e as an input; it is only their forcing."
    return ("look out" if near else "fine", text)


def _in_per_cent(distance: float) -> str:
    return rounded(distance, is_percent=True)


def _reference_distance(study: ReportStudy) -> float | None:
    """Return the relative L2 distance of the reference to the local strain, None without a reference."""
    if not study.field:
        return None
    reference, local = study.field["reference"], study.field["local"]
    if not np.isfinite(reference).all() or not np.linalg.norm(local):
        return None
    return relative(reference, local)


def _constant(study: ReportStudy, rows: pa.Table, best: Row) -> Mark | None:
    if "spread" not in best:
        return None
    if not is_finite(best["spread"]):
        return ("not checked", "Without a reference that varies, it is not known how much a prediction should vary.")
    is_constant, is_trivial = pc.less(rows["spread"], CONSTANT), pc.greater(rows["over_constant"], TRIVIAL)
    text = f"The best prediction varies {best['spread']:.3g} times as much as the reference, and its error is "
    text += f"{best['over_constant']:.2g} times that of the best constant field. "
    text += f"Spread below {CONSTANT:g} (constant): {counted(rows, is_constant)}. "
    text += f"Error above {TRIVIAL:g} times that of a constant (trivial): {counted(rows, is_trivial)}."
    has_fault = pc.any(is_constant).as_py() or pc.any(is_trivial).as_py()
    return ("look out" if has_fault else "fine", text)


def _scaling(study: ReportStudy, rows: pa.Table, best: Row) -> Mark | None:
    if "scale_scope" not in best:
        return None
    other = rows.filter(pc.not_equal(rows["scale_scope"], "consistent"))
    if not other.num_rows:
        factors = spanned(rows["scale_factor"])
        text = f"scale_scope is consistent everywhere, so scale_factor {factors} changes only the training"
        return ("fine", f"{text}: effective g {spanned(rows['effective_g_mm2'])} mm^2.")
    text = f"{other.num_rows:,} of {rows.num_rows:,} trainings have scale_scope "
    text += f"{listed(distinct(other, 'scale_scope'))}, with scale_factor {spanned(other['scale_factor'])}. "
    changed = other.filter(pc.and_(pc.equal(other["scale_scope"], "all"), pc.not_equal(other["scale_factor"], 1.0)))
    if not changed.num_rows:
        return ("look out", f"{text}They solve the equation itself, with raw inputs, as published mistakes did.")
    text += f"{changed.num_rows:,} of them solved another equation. "
    for factor, g, error in _equations(changed)[:NAMED]:
        text += f"With scale_factor {factor:.4g} the effective g is {g:.3g} mm^2"
        text += ". " if error is None else f", and its exact solution is {_in_per_cent(error)} off. "
    is_affected = best["scale_scope"] == "all" and best["scale_factor"] != 1
    return ("look out", f"{text}The best trial is {'one' if is_affected else 'not one'} of them.")


def _equations(rows: pa.Table) -> list[tuple[float, float, float | None]]:
    """Return factor, effective g in mm^2, and error of the exact solution of each equation that was solved."""
    columns = (rows[name].to_pylist() for name in ("scale_factor", "effective_g_mm2", "equation_error"))
    return sorted({*zip(*columns, strict=True)}, key=lambda equation: equation[0])


def _epsilon(study: ReportStudy, rows: pa.Table, best: Row) -> Mark:
    with_adam = rows.filter(pc.is_in(rows["first_stage"], pa.array(ADAMS)))
    if not with_adam.num_rows:
        return ("not applicable", "No trial used Adam in its first stage.")
    columns = (with_adam[name].to_pylist() for name in ("adam_convention", "adam_eps"))
    conventions = sorted({*zip(*columns, strict=True)}, key=str)
    pairs = [f"{convention} with {eps:g}" for convention, eps in conventions if eps is not None]
    text = f"Convention and epsilon: {listed(pairs)}. "
    norms = [
        norm
        for norm, phase in zip(study.curve["grad_norm"], study.curve["phase"], strict=True)
        if phase == "first" and best["first_stage"] in ADAMS and is_finite(norm) and norm > 0
    ]
    ratio = math.inf
    if norms and best["adam_eps"] and best["parameters"]:
        component = min(norms) / math.sqrt(best["parameters"])
        ratio = component / best["adam_eps"]
        text += f"The smallest recorded gradient of the best trial is {component:.2g} (RMS of its components), "
        text += f"which is {ratio:.2g} times epsilon. "
    if len(conventions) > 1:
        text += "They differ between trials: compare only trials with the same convention."
    elif ratio < EPSILON_MATTERS:
        text += "Another convention would have taken different steps."
    return ("look out" if len(conventions) > 1 or ratio < EPSILON_MATTERS else "fine", text.strip())


def _second_stage(study: ReportStudy, rows: pa.Table, best: Row) -> Mark:
    with_stage = rows.filter(pc.greater(rows["iterations"], 0))
    if not with_stage.num_rows:
        return ("not applicable", "No trial had a second stage.")
    number, faults = with_stage.num_rows, []
    evaluations, iterations, short, single, idle = (
        pc.sum(column).as_py() or 0
        for column in (
            with_stage["second_evaluations"],
            with_stage["iterations_done"],
            pc.and_(pc.less(with_stage["first_step"], 1.0), pc.not_equal(with_stage["second_stage"], "scipy")),
            pc.equal(with_stage["dtype"], "float32"),
            pc.equal(with_stage["iterations_done"], 0),
        )
    )
    numbers = [f"{evaluations / iterations:.2f} evaluations per iteration"] if iterations else []
    numbers += [f"first_step below 1 in {short:,} of {number:,}", f"float32 in {single:,}"]
    numbers.append("methods: " + listed(distinct(with_stage, "second_stage")))
    faults += ["line searches are long"] if evaluations > MANY_EVALUATIONS * iterations > 0 else []
    faults += ["every line search starts too short (first_step below 1)"] if short else []
    faults += ["float32 makes L-BFGS stop early"] if single else []
    faults += [f"{idle:,} of {number:,} took no step"] if idle else []
    text = "; ".join(numbers) + "." + (f" Problems: {', '.join(faults)}." if faults else "")
    return ("look out" if faults else "fine", text[0].upper() + text[1:])


_TRAPS: Final[dict[str, Callable[[ReportStudy, pa.Table, Row], Mark | None]]] = {
    "Do networks only copy their forcing, u = e?": _identity,
    "Is a prediction constant or trivial?": _constant,
    "Does the loss put trials in another order than the error?": loss_order,
    "Did scaling the inputs change the equation?": _scaling,
    "Does the convention of Adam's epsilon matter?": _epsilon,
    "Was the second stage held up by its line search or its precision?": _second_stage,
    "Did trainings overfit their points?": overfitting,
}
