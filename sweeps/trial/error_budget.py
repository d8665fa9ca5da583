"""Where the error of a trial comes from, in numbers and sentences; kept with the study for its report."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pinncore import Problem
from pinncore.budget.approximation import Approximation, Look
from pinncore.budget.parts import ErrorBudget, Formulation, Part, error_budget
from pinncore.disk import read_bytes, write_whole

from ..query.values import json_value
from ..storage.object_store import Remote
from ..words import rounded
from .tables import Row, TrialReader

FOLDER: Final = "error_budgets"  # in the folder of a study: a file for each replicate
NOT_A_SUM: Final = "The parts are measured apart and do not add up exactly."
_ROUNDING: Final = 1e-9  # relative errors up to this are shown as 0
_MOST_BYTES: Final = 1 << 20
_TRAINING: Final = ("trial", "replicate", "seed", "config_hash", "data_hash", "evaluations", "loss")  # which it was


@dataclass(frozen=True)
class Line:
    """A part of an error: its name, the relative L2 error that it alone causes (None: no number), and a sentence."""

    part: str
    rel_l2: float | None
    sentence: str


@dataclass(frozen=True)
class BudgetText:
    """An error budget as people read it: the whole error, its parts, the largest of them, and what to change."""

    rel_l2: float
    lines: tuple[Line, ...]
    largest: str
    advice: str


def budget_of(
    place: Path | Remote, trial: int, replicate: int = 0, *, look: Look | None = None
) -> tuple[Row, dict[str, Any]]:
    """Return the row that a replicate's results come from, and its error budget as a record for JSON.

    The code of a user's problem is executed. Raises `StudyError` as `network_of` does, and `pinncore.DataError` where
    the data have no reference or are gone.
    """
    reader = TrialReader.of(place)
    row = reader.original(reader.row(trial, replicate))
    network = reader.network(trial, replicate)
    budget = error_budget(network, look)
    return row, dict(json_value(_record(budget, network.problem)))


def _record(budget: ErrorBudget, problem: Problem) -> dict[str, Any]:
    formulation, numbers = budget.formulation, dict[str, Any]()
    if isinstance(formulation, Formulation):
        if formulation.nodal is not None:
            numbers["rel_l2_nodal"] = formulation.nodal[0]
        numbers["minimisers"] = [
            {"basis": each.kind, "functions": each.functions, "loss": each.loss, "rel_l2": each.rel_l2}
            for each in formulation.minimisers
        ]
    parts = [{"part": line.part, "rel_l2": line.rel_l2, "sentence": line.sentence} for line in _lines(budget)]
    return {
        "rel_l2": budget.rel_l2,
        "loss": budget.loss,
        "residual_at_points": budget.residual_at,
        "residual_between_points": budget.residual_between,
        **numbers,
        "parts": parts,
        "largest": budget.largest,
        "advice": _advice(budget, problem),
    }


# ---- sentences -----------------------------------------------------------------------------------------------------


def _lines(budget: ErrorBudget) -> Iterator[Line]:
    """Yield the parts in order."""
    yield Line("approximation", budget.approximation.rel_l2, _about_fit(budget.approximation))
    formulation = budget.formulation
    if isinstance(formulation, str):
        yield Line("formulation", None, f"Not computed: {formulation}.")
        text = f"The loss is {budget.loss:.4g}. Its smallest value is not known; it is at least 0."
        yield Line("optimisation", None, text)
    else:
        yield Line("formulation", formulation.exact.rel_l2, _about_minimiser(formulation))
        yield Line("optimisation", formulation.distance, _about_loss(budget.loss, formulation))
    between, at = budget.residual_between, budget.residual_at
    text = "Not computed: no residual is held out."
    if between is not None and at is not None:
        text = f"The residual is {between:.3g} between the training points and {at:.3g} at them"
        text += f": {between / at:.2g} times as large." if at else "."
    yield Line("between the points", None, text)


def _about_fit(fit: Approximation) -> str:
    return (
        f"The same network, fitted to the reference itself at {fit.points:,} points, comes within "
        f"{_percent(fit.rel_l2)} (the better of two fits, from {fit.start})."
    )


def _about_minimiser(formulation: Formulation) -> str:
    *smaller, exact = formulation.minimisers
    if formulation.nodal is not None:
        return (
            f"The exact minimiser of this loss is the finite-element solution at {exact.functions:,} nodes: "
            f"{_percent(formulation.nodal[1])} off where the shape functions read it, {_percent(exact.rel_l2)} where a "
            "smooth function through its nodal values does."
        )
    text = f"The exact minimiser of this loss among {exact.functions:,} {exact.kind} is {_percent(exact.rel_l2)} off"
    others = ", ".join(f"{_percent(each.rel_l2)} among {each.functions:,}" for each in smaller)
    return f"{text} ({others})." if others else f"{text}."


def _about_loss(loss: float, formulation: Formulation) -> str:
    least = formulation.exact.loss
    if formulation.nodal is not None:
        return (
            f"The loss is {loss:.4g}, at least 0; read by the shape functions, the prediction is "
            f"{_percent(formulation.distance)} away from the finite-element solution and "
            f"{_percent(formulation.nodal[0])} off."
        )
    text = f"The loss is {loss:.4g}, that of the exact minimiser {least:.4g}; the prediction is "
    text += f"{_percent(formulation.distance)} away from that minimiser."
    return text


def _advice(budget: ErrorBudget, problem: Problem) -> str:
    """Return what to change about the largest part."""
    points = "The network fits its training points and not what lies between them."
    if not budget.is_larger_between(1.0):
        points = "The loss is below that of the exact minimiser: from here on, a smaller loss is no smaller error."
    advice: dict[Part, str] = {
        "approximation": "The network is too small for this solution. Make it wider or deeper (width, depth).",
        "formulation": f"Even a perfect training of this loss ends here. {problem.formulation_advice}.",
        "optimisation": (
            "The prediction is far from the exact minimiser. Use more iterations, second_stage: ssbroyden or other "
            "seeds."
        ),
        "between the points": f"{points} Use more points, or final_weights: best_heldout.",
    }
    return advice[budget.largest]


def _percent(value: float) -> str:
    return rounded(value if value > _ROUNDING else 0.0, is_percent=True)


# ---- text, and the copy for the report -----------------------------------------------------------------------------


def read(record: Mapping[str, Any]) -> BudgetText:
    """Return what people read of a record. Raises `KeyError`, `TypeError` or `ValueError` where it is none."""
    lines = tuple(
        Line(str(part["part"]), None if part["rel_l2"] is None else float(part["rel_l2"]), str(part["sentence"]))
        for part in record["parts"]
    )
    return BudgetText(float(record["rel_l2"]), lines, str(record["largest"]), str(record["advice"]))


def text(name: str, row: Row, record: Mapping[str, Any]) -> str:
    """Return a record as text for a terminal."""
    budget = read(record)
    lines = [f"{name}, trial {row['trial']}, replicate {row['replicate']}: rel_l2 {_percent(budget.rel_l2)}", ""]
    for line in budget.lines:
        number = "" if line.rel_l2 is None else _percent(line.rel_l2)
        lines.append(f"  {line.part:<18} {number:>10}  {line.sentence}")
    return "\n".join([*lines, "", f"Look first at: {budget.largest}. {budget.advice}", NOT_A_SUM])


def keep(place: Path | Remote, row: Row, record: Mapping[str, Any]) -> Path | None:
    """Write a record into the folder of its study and return the file; None for a store, and where that fails."""
    if not isinstance(place, Path):
        return None
    file = _file(place, row)
    try:
        file.parent.mkdir(exist_ok=True)
        write_whole(file, json.dumps({"training": _training(row), **record}, indent=1) + "\n")
    except OSError:
        return None
    return file


def kept(place: Path | Remote, row: Row) -> BudgetText | None:
    """Return the error budget that was kept of a row; None where there is none of this training, or it is damaged."""
    if not isinstance(place, Path):
        return None
    with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
        record = json.loads(read_bytes(_file(place, row), _MOST_BYTES))
        if record["training"] == _training(row):
            return read(record)
    return None


def _file(place: Path, row: Row) -> Path:
    return place / FOLDER / f"{row['trial']}-{row['replicate']}.json"


def _training(row: Row) -> dict[str, Any]:
    """Return what tells a training from every other."""
    return {name: json_value(row[name]) for name in _TRAINING}
