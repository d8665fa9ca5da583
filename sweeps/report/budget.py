"""The part of a report on where the error of the best trial comes from, as `pinnsweep error-budget` kept it."""

from __future__ import annotations

from ..figures.budget import budget_bars
from ..own_name import SCRIPT
from ..trial.error_budget import NOT_A_SUM, kept
from ..trial.tables import Row
from ..words import rounded
from .data import ReportStudy, is_finite
from .gallery import Gallery
from .page import Html, figures, section, tag

_TITLE = "Where the error comes from"


def error_budget(study: ReportStudy, best: Row, gallery: Gallery) -> Html:
    """Return the section on the error budget of the best trial, or how to compute it; nothing without a reference.

    A budget takes seconds and runs the code of a user's problem, so a report computes none.
    """
    if not is_finite(best.get("rel_l2")):
        return Html()
    budget = kept(study.folder, best)
    if budget is None:
        command = f"{SCRIPT} error-budget {study.name} {best['trial']}"
        command += f" --replicate {best['replicate']}" if best["replicate"] else ""
        text = (
            "It was not computed for the best trial. This command does, in some seconds; then write the report again:"
        )
        return section(_TITLE, text, tag("pre", command))
    name = f"Trial {best['trial']}" + (f", replicate {best['replicate']}" if study.several else "")
    drawing = budget_bars(
        {line.part: line.rel_l2 for line in budget.lines if line.part != "between the points"},
        whole=budget.rel_l2,
        title=name,
    )
    picture = gallery.hang(
        "error-budget",
        drawing,
        f"The error of the best trial, {rounded(budget.rel_l2, is_percent=True)}, and what its parts alone cause",
    )
    items = [tag("li", tag("b", f"{line.part}: "), line.sentence) for line in budget.lines]
    first = f"Look first at: {budget.largest}. {budget.advice} {NOT_A_SUM}"
    return section(_TITLE, first, figures(picture), tag("ul", *items))
