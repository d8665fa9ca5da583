"""The part of a report on the six traps of this problem: a mark for each, and the numbers that it rests on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import spearmanr

from ..query.text import shown
from .data import ReportStudy, is_finite, is_row, listed
from .page import Html, section, tag

State = Literal["fine", "look out", "not applicable"]
Row = dict[str, Any]

IDENTITY_TRAP: Final = 0.05  # relative distance to u = e below which a prediction is suspected to copy its forcing
WELL_RANKED: Final = 0.9  # rank correlation from which the loss orders trials much as the error does
EPSILON_MATTERS: Final = 100.0  # times epsilon a gradient must be for it not to change a step by a per cent
MANY_EVALUATIONS: Final = 2.0  # of one iteration of the second stage; a first step that fits takes 1.2
RISEN: Final = 1.1  # times its least value an error is said to have risen
OVERFITTED: Final = 2.0  # times the residual at training points that of held-out ones is said to be larger
_FEWEST: Final = 5  # trials of which a rank correlation is told

ADAMS: Final = ("adam", "adamw")  # first stages that have Adam's epsilon


@dataclass(frozen=True)
class Mark:
    """One trap: whether the study may have fallen into it, and what says so."""

    trap: str
    state: State
    told: str


def traps(study: ReportStudy, best: Row) -> Html:
    """The marks as a list."""
    curve = study.tables.read("curves", where=is_row(best)).sort_by("evaluations").to_pydict()
    rows = study.complete()
    marks = (
        _identity(study, rows, best),
        _loss(study, rows),
        _scaling(rows, best),
        _epsilon(rows, best, curve),
        _second_stage(rows, best),
        _overfitting(study, rows, best, curve),
    )
    items = [
        tag(
            "li",
            tag("span", mark.state, class_="mark " + mark.state.replace(" ", "-")),
            tag("div", tag("b", mark.trap), tag("p", mark.told)),
        )
        for mark in marks
    ]
    out = sum(mark.state == "look out" for mark in marks)
    told = f"Six known ways to be wrong without noticing; {out or 'none'} to look at here."
    return section("Traps", tag("p", told, class_="quiet"), tag("ul", *items, class_="traps"))


def _identity(study: ReportStudy, rows: pa.Table, best: Row) -> Mark:
    trap = "The identity u = e has no loss where e is an input"
    distance = best["distance_to_local"]
    if not is_finite(distance):
        return Mark(trap, "not applicable", "The distance to the local strain is not known.")
    told = f"The best prediction is {shown('distance_to_local', distance)} away from the local strain e"
    if truth := _distance_of_truth(study, best):
        told += f", the reference {shown('distance_to_local', truth)}"
    near = pc.sum(pc.less(rows["distance_to_local"], IDENTITY_TRAP)).as_py() or 0
    told += f"; {near or 'none'} of {rows.num_rows:,} are within {100 * IDENTITY_TRAP:.0f} %."
    sees = [each for each in _different(rows, "inputs") if "elocal" in json.loads(each)]
    if sees and is_finite(best["mean_abs_du_de"]):
        told += f" Mean |du/de| of the best: {best['mean_abs_du_de']:.3g}."
    told += "" if sees else " e is no input of the networks, only their forcing."
    return Mark(trap, "look out" if near or distance < IDENTITY_TRAP else "fine", told)


def _distance_of_truth(study: ReportStudy, best: Row) -> float | None:
    """The relative L2 distance of the reference to the local strain."""
    field = study.tables.read("fields", columns=("reference", "local"), where=is_row(best))
    reference, local = (field[name].to_numpy() for name in ("reference", "local"))
    if not len(local) or not np.isfinite(reference).all() or not np.linalg.norm(local):
        return None
    return float(np.linalg.norm(reference - local) / np.linalg.norm(local))


def _loss(study: ReportStudy, rows: pa.Table) -> Mark:
    trap = "The loss does not rank trials"
    as_objective = "loss" in study.ranking.objectives
    told = "It is an objective of this study. " if as_objective else ""
    known = rows.filter(pc.and_(pc.is_finite(rows["loss"]), pc.is_finite(rows["rel_l2"])))
    if known.num_rows < _FEWEST:
        told += f"How the loss orders trials is not known: the error of {known.num_rows} of them is."
        return Mark(trap, "look out" if as_objective else "not applicable", told)
    loss, error = known["loss"].to_numpy(), known["rel_l2"].to_numpy()
    correlation = float(spearmanr(loss, error).statistic) if np.ptp(loss) and np.ptp(error) else math.nan
    least = int(loss.argmin())
    place = int((error < error[least]).sum()) + 1
    told += f"Loss and rel_l2 of {len(loss):,} trainings have a rank correlation of {correlation:.2f}; "
    told += f"the one of least loss is number {place:,} by error, with {shown('rel_l2', float(error[least]))}."
    many = len(_different(rows, "problem_loss")) > 1
    told += " Losses of different forms were trained, which do not compare at all." if many else ""
    return Mark(trap, "look out" if as_objective or not correlation >= WELL_RANKED else "fine", told)


def _scaling(rows: pa.Table, best: Row) -> Mark:
    trap = "Scaling all inputs solves another equation"
    other = rows.filter(pc.not_equal(rows["scale_scope"], "consistent"))
    factors = pc.min_max(rows["scale_factor"]).as_py()
    low, high = (f"{factors[end]:.4g}" if factors[end] is not None else "unknown" for end in ("min", "max"))
    span = low if low == high else f"{low} to {high}"
    if other.num_rows:
        scopes = listed(_different(other, "scale_scope"))
        told = f"{other.num_rows:,} of {rows.num_rows:,} have scale_scope {scopes}, with scale_factor {span}: "
        told += "another equation unless the factor is 1. "
        told += "The best is one of them." if best["scale_scope"] != "consistent" else "The best is none of them."
        return Mark(trap, "look out", told)
    return Mark(trap, "fine", f"scale_scope is consistent throughout; scale_factor {span} changes the training alone.")


def _epsilon(rows: pa.Table, best: Row, curve: dict[str, list[Any]]) -> Mark:
    trap = "Adam's epsilon stands in three places"
    used = rows.filter(pc.is_in(rows["first_stage"], pa.array(ADAMS)))
    if not used.num_rows:
        return Mark(trap, "not applicable", "No first stage was Adam.")
    kinds = sorted({*zip(used["adam_convention"].to_pylist(), used["adam_eps"].to_pylist(), strict=True)}, key=str)
    told = "Convention and epsilon: " + listed([f"{kind}, {eps:g}" for kind, eps in kinds if eps is not None]) + ". "
    norms = [
        norm
        for norm, phase in zip(curve["grad_norm"], curve["phase"], strict=True)
        if phase == "first" and best["first_stage"] in ADAMS and is_finite(norm) and norm > 0
    ]
    ratio = math.inf
    if norms and best["adam_eps"] and best["parameters"]:
        component = min(norms) / math.sqrt(best["parameters"])
        ratio = component / best["adam_eps"]
        told += f"The smallest recorded gradient of the best is {component:.2g} (RMS of its components), "
        told += f"{ratio:.2g} times epsilon. "
    if len(kinds) > 1:
        told += "They differ between trials: compare these within one convention."
    elif ratio < EPSILON_MATTERS:
        told += "Other conventions would have taken other steps."
    return Mark(trap, "look out" if len(kinds) > 1 or ratio < EPSILON_MATTERS else "fine", told.strip())


def _second_stage(rows: pa.Table, best: Row) -> Mark:
    trap = "L-BFGS is not one algorithm"
    used = rows.filter(pc.greater(rows["iterations"], 0))
    if not used.num_rows:
        return Mark(trap, "not applicable", "No trial had a second stage.")
    told, out = [], []
    evaluations = pc.sum(used["second_evaluations"]).as_py() or 0
    iterations = pc.sum(used["iterations_done"]).as_py() or 0
    if iterations:
        each = evaluations / iterations
        told.append(f"{each:.2f} evaluations an iteration")
        out += ["line searches are long"] if each > MANY_EVALUATIONS else []
    short = pc.sum(pc.and_(pc.less(used["first_step"], 1.0), pc.not_equal(used["second_stage"], "scipy"))).as_py() or 0
    told.append(f"first_step below 1 in {short:,} of {used.num_rows:,}")
    out += ["with first_step below 1 every line search starts too short"] if short else []
    single = pc.sum(pc.equal(used["dtype"], "float32")).as_py() or 0
    told.append(f"float32 in {single:,}")
    out += ["float32 makes it stop early"] if single else []
    idle = pc.sum(pc.equal(used["iterations_done"], 0)).as_py() or 0
    out += [f"{idle:,} took no step at all"] if idle else []
    told.append("methods: " + listed(_different(used, "second_stage")))
    words = "; ".join(told) + "." + (f" Look at this: {', '.join(out)}." if out else "")
    return Mark(trap, "look out" if out else "fine", words[0].upper() + words[1:])


def _overfitting(study: ReportStudy, rows: pa.Table, best: Row, curve: dict[str, list[Any]]) -> Mark:
    trap = "A mean-square loss over-fits between the points"
    forms = _different(rows, "problem_loss")
    told = [f"Loss: {listed(forms)}."] if forms else []
    found = [*_of_course(curve), *_of_residual(study, best)]
    told += [sentence for sentence, _ in found]
    if not found:
        return Mark(trap, "not applicable", " ".join([*told, "Neither curves nor weights were kept to tell."]))
    return Mark(trap, "look out" if any(bad for _, bad in found) else "fine", " ".join(told))


def _of_course(curve: dict[str, list[Any]]) -> Iterator[tuple[str, bool]]:
    """Whether the error of the best trial rose at the end, while its loss fell."""
    error, loss = (np.array(curve[name], dtype=float) for name in ("rel_l2", "loss"))
    if not len(error) or not np.isfinite(error).all():
        return
    least = int(error.argmin())
    rose = bool(error[-1] > RISEN * error[least] and loss[-1] < loss[least])
    times = error[-1] / error[least] if error[least] else 1.0
    told = f"The error of the best ended {f'at {times:.3g} times' if times >= 1.005 else 'near'} its least value"
    yield told + (f", while its loss fell to {loss[-1] / loss[least]:.2g} of what it was there." if rose else "."), rose


def _of_residual(study: ReportStudy, best: Row) -> Iterator[tuple[str, bool]]:
    """Whether the residual between the training points is much larger than at them."""
    between, at = best["heldout_residual"], study.trained_residual
    if is_finite(between) and at:
        told = f"Its residual between the training points is {between:.3g}, {between / at:.2g} times that at them."
        yield told, between > OVERFITTED * at


def _different(rows: pa.Table, column: str) -> list[str]:
    return sorted(value for value in pc.unique(rows[column]).to_pylist() if value)
