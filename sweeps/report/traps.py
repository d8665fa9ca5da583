"""The part of a report on the traps of this problem: a mark for each, and the numbers behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import spearmanr

from pinncore.budget.parts import OVERFITTED
from pinncore.problems.columns import relative

from ..errors import listed
from ..query.text import shown
from ..storage.schema import FIRST
from ..trial.tables import Row
from ..words import rounded
from .data import ReportStudy, distinct, is_finite
from .page import Html, section, tag

State = Literal["fine", "look out", "not checked", "not applicable"]  # whether a study may be in a trap
Mark = tuple[State, str]  # with the evidence

IDENTITY_TRAP: Final = 0.05  # relative distance to u = e below which a prediction may copy its forcing
WELL_RANKED: Final = 0.9  # rank correlation from which the loss orders trials much like the error
EPSILON_MATTERS: Final = 100.0  # gradients over epsilon below which epsilon changes a step by more than a per cent
MANY_EVALUATIONS: Final = 2.0  # per iteration of the second stage; with a suitable first step it is 1.2
RISEN: Final = 1.1  # final over minimum error above which the error has risen
_FEWEST: Final = 5  # trials needed for a rank correlation

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
    text = f"The best prediction is {_in_per_cent(distance)} away from the local strain e"
    if of_reference := _reference_distance(study):
        text += f"; the reference is {_in_per_cent(of_reference)} away"
    near = pc.sum(pc.less(rows["distance_to_local"], IDENTITY_TRAP)).as_py() or 0
    text += f". Predictions within {100 * IDENTITY_TRAP:.0f} %: {near:,} of {rows.num_rows:,}."
    with_strain = [inputs for inputs in distinct(rows, "inputs") if "elocal" in json.loads(inputs)]
    if with_strain and is_finite(best["mean_abs_du_de"]):
        text += f" Mean |du/de| of the best trial: {best['mean_abs_du_de']:.3g}."
    text += "" if with_strain else " The networks do not take e as an input; it is only their forcing."
    return ("look out" if near or distance < IDENTITY_TRAP else "fine", text)


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


def _loss(study: ReportStudy, rows: pa.Table, best: Row) -> Mark | None:
    if "rel_l2" not in best:
        return None
    as_objective = "loss" in study.ranking.objectives
    text = "The loss is an objective of this study. " if as_objective else ""
    with_both = rows.filter(pc.and_(pc.is_finite(rows["loss"]), pc.is_finite(rows["rel_l2"])))
    if (number := with_both.num_rows) < _FEWEST:
        text += f"A rank correlation with the error needs {_FEWEST} trainings with both; there are {number}."
        return ("look out" if as_objective else "not checked", text)
    loss, error = with_both["loss"].to_numpy(), with_both["rel_l2"].to_numpy()
    correlation = float(spearmanr(loss, error).statistic) if np.ptp(loss) and np.ptp(error) else math.nan
    least = int(loss.argmin())
    rank = int((error < error[least]).sum()) + 1
    text += f"Loss and rel_l2 of {len(loss):,} trainings have a rank correlation of {correlation:.2f}. "
    unit = "replicate" if study.several else "trial"
    place = "also has the lowest error" if rank == 1 else f"has rank {rank:,} by error"
    text += f"The {unit} with the lowest loss {place} ({shown('rel_l2', float(error[least]))})."
    many = len(distinct(rows, "problem_loss")) > 1
    text += " The study trained different forms of the loss, whose values cannot be compared." if many else ""
    return ("look out" if as_objective or not correlation >= WELL_RANKED else "fine", text)


def _scaling(study: ReportStudy, rows: pa.Table, best: Row) -> Mark | None:
    if "scale_scope" not in best:
        return None
    other = rows.filter(pc.not_equal(rows["scale_scope"], "consistent"))
    factors = pc.min_max(rows["scale_factor"]).as_py()
    low, high = (f"{factors[end]:.4g}" if factors[end] is not None else "unknown" for end in ("min", "max"))
    span = low if low == high else f"{low} to {high}"
    if other.num_rows:
        scopes = listed(distinct(other, "scale_scope"))
        text = (
            f"{other.num_rows:,} of {rows.num_rows:,} trainings have scale_scope {scopes}, with scale_factor {span}. "
        )
        is_affected = best["scale_scope"] != "consistent"
        text += "They solve another equation unless the factor is 1. "
        text += f"The best trial is {'one' if is_affected else 'not one'} of them."
        return ("look out", text)
    text = f"scale_scope is consistent everywhere, so scale_factor {span} changes only the training."
    return ("fine", text)


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


def _overfitting(study: ReportStudy, rows: pa.Table, best: Row) -> Mark:
    forms = distinct(rows, "problem_loss")
    sentences = [f"Loss: {listed(forms)}."] if forms else []
    findings = [*_by_curve(study.curve, best), *_by_residual(study, best)]
    sentences += [sentence for sentence, _ in findings]
    if not findings:
        sentences.append("This cannot be judged, because neither curves nor weights were kept.")
        return ("not checked", " ".join(sentences))
    return ("look out" if any(is_raised for _, is_raised in findings) else "fine", " ".join(sentences))


def _by_curve(curve: dict[str, list[Any]], best: Row) -> Iterator[tuple[str, bool]]:
    """Yield a sentence on the error of the best trial at its end, and whether it rose while the loss fell.

    The end is at the weights that are its result.
    """
    kept_at, steps = best["kept_at"], zip(curve["phase"], curve["step"], strict=True)
    if kept_at is not None:
        until = sum(phase == FIRST or step <= kept_at - best["epochs_done"] for phase, step in steps)
        curve = {name: values[:until] for name, values in curve.items()}
    error, loss = (np.array(curve[name], dtype=float) for name in ("rel_l2", "loss"))
    if not len(error) or not np.isfinite(error).all():
        return
    least = int(error.argmin())
    has_risen = bool(error[-1] > RISEN * error[least] and loss[-1] < loss[least])
    times = error[-1] / error[least] if error[least] else 1.0
    text = f"The error of the best trial ended {f'at {times:.3g} times' if times >= 1.005 else 'near'} its minimum"
    text += f", while the loss fell to {loss[-1] / loss[least]:.2g} times its value there" if has_risen else ""
    yield f"{text}.", has_risen


def _by_residual(study: ReportStudy, best: Row) -> Iterator[tuple[str, bool]]:
    """Yield a sentence on the residual between the training points, and whether it is much larger than at them."""
    between, at = best.get("heldout_residual"), study.trained_residual
    if between is not None and is_finite(between) and at:
        text = f"The residual of the best trial is {between:.3g} between the training points, "
        text += f"{between / at:.2g} times the residual at them."
        yield text, between > OVERFITTED * at


_TRAPS: Final[dict[str, Callable[[ReportStudy, pa.Table, Row], Mark | None]]] = {
    "Do networks only copy their forcing, u = e?": _identity,
    "Does the loss put trials in another order than the error?": _loss,
    "Did scaling the inputs change the equation?": _scaling,
    "Does the convention of Adam's epsilon matter?": _epsilon,
    "Was the second stage held up by its line search or its precision?": _second_stage,
    "Did the best trial overfit its training points?": _overfitting,
}
