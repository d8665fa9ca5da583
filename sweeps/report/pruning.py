"""The section of a report on pruning: how well the order of the trials at each rung foretold their order at the end."""

from __future__ import annotations

from typing import Final

from ..analysis.rungs import RungFairness, StudyRungs, rungs_of_study
from ..errors import SpecError
from .data import ReportStudy
from .page import Html, section, table, tag

FEW: Final = 20  # trials of which a rank correlation is little more than chance


def pruning(study: ReportStudy) -> Html:
    """A table of the rungs: what pruning there went by, or would have gone by."""
    try:
        found = rungs_of_study(study.folder)
    except SpecError:
        told = "The rungs are not known: the study file can no longer be used as it is."
        return section("Pruning", tag("p", told, class_="quiet")) if study.pruned.num_rows else Html()
    kind = found.settings.kind
    if kind == "none" and all(rung.correlation is None for rung in found.rungs):
        return Html()
    heads = ["share of steps", "trials", "rank correlation"]
    cells = [[f"{100 * rung.rung:.3g} %", f"{rung.trials:,}", _correlation(rung)] for rung in found.rungs]
    if kind not in ("none", "patience"):
        heads.append("pruned there")
        for row, rung in zip(cells, found.rungs, strict=True):
            row.append(f"{rung.pruned:,}")
    title = "Would early stopping have been fair?" if kind == "none" else "Pruning"
    return section(
        title,
        tag("p", _what_was_done(study, found), class_="quiet"),
        table([(head, True) for head in heads], [[(cell, True) for cell in row] for row in cells], narrow=True),
        tag("p", _meaning(found), class_="quiet"),
    )


def _correlation(rung: RungFairness) -> str:
    return "not known" if rung.correlation is None else f"{rung.correlation:.2f}"


def _what_was_done(study: ReportStudy, found: StudyRungs) -> str:
    number, metric = study.pruned.num_rows, found.metric
    trials = f"{number:,} trial was" if number == 1 else f"{number:,} trials were"
    match found.settings.kind:
        case "none":
            return f"No trial was pruned. The table says what {metric} early in training tells of its end."
        case "patience":
            return f"{trials} ended because {metric} no longer improved, at whatever step that was."
        case kind:
            return f"{trials} ended early by {kind}, which compares trials by {metric} at these rungs."


def _meaning(found: StudyRungs) -> str:
    """What the correlation means, and when to distrust it."""
    told = (
        f"The rank correlation is Spearman's, of {found.metric} at the rung and {found.objective} at the end, over "
        "complete trials: near 1 the worst at the rung were the worst at the end, and near 0 chance decides who stops "
        f"there. Distrust it below about {FEW} trials"
    )
    if found.settings.kind != "none":
        told += ", and where many were pruned: it knows only those that went on"
    few = min((rung.trials for rung in found.rungs), default=0)
    told += f"; here it is of {few:,} trials at one rung." if few < FEW else "."
    return told + (f" {found.drawn:,} trials were drawn for it." if found.drawn else "")
