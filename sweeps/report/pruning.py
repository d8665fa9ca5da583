"""The part of a report on pruning: how well the order of the trials at each rung predicted their final order."""

from __future__ import annotations

from typing import Final

from ..analysis.rungs import RungFairness, StudyRungs, rungs_of_study
from ..errors import SpecError
from .data import ReportStudy
from .page import Html, section, table, tag

FEW: Final = 20  # with fewer trials, a rank correlation is little more than chance


def pruning(study: ReportStudy) -> Html:
    """Return the section with a table of the rungs, where trials were pruned or would have been."""
    try:
        study_rungs = rungs_of_study(study.folder)
    except SpecError:
        text = "The rungs are not known because the study file is no longer valid."
        return section("Pruning", tag("p", text, class_="quiet")) if study.pruned.num_rows else Html()
    kind = study_rungs.settings.kind
    if kind == "none" and all(rung.correlation is None for rung in study_rungs.rungs):
        return Html()
    heads = ["share of steps", "trials", "rank correlation"]
    cells = [[f"{100 * rung.rung:.3g} %", f"{rung.trials:,}", _correlation(rung)] for rung in study_rungs.rungs]
    if study_rungs.settings.traits.compares_at_rungs:
        heads.append("pruned there")
        for row, rung in zip(cells, study_rungs.rungs, strict=True):
            row.append(f"{rung.pruned:,}")
    title = "Would early stopping have been fair?" if kind == "none" else "Pruning"
    return section(
        title,
        tag("p", _what_was_done(study, study_rungs), class_="quiet"),
        table([(head, True) for head in heads], [[(cell, True) for cell in row] for row in cells], narrow=True),
        tag("p", _meaning(study_rungs), class_="quiet"),
    )


def _correlation(rung: RungFairness) -> str:
    return "not known" if rung.correlation is None else f"{rung.correlation:.2f}"


def _what_was_done(study: ReportStudy, study_rungs: StudyRungs) -> str:
    number, metric = study.pruned.num_rows, study_rungs.metric
    trials = f"{number:,} trial was" if number == 1 else f"{number:,} trials were"
    if study_rungs.settings.traits.compares_at_rungs:
        kind = study_rungs.settings.kind
        return f"{trials} ended early by {kind}, which compares trials by {metric} at these rungs."
    if study_rungs.settings.traits.watches_curve:
        return f"{trials} ended because {metric} no longer improved. This can happen at any step."
    ending = f"{study_rungs.objective} at the end"
    return f"No trial was pruned. The table shows how well {metric} early in training predicts {ending}."


def _meaning(study_rungs: StudyRungs) -> str:
    """Return the sentences on what the correlation means, and when not to rely on it."""
    text = (
        f"The table has Spearman's rank correlation between {study_rungs.metric} at the rung and "
        f"{study_rungs.objective} at the end, over complete trials. Near 1, the worst trials at the rung were also the "
        "worst at the end; near 0, chance decides which trials stop there. "
        f"Do not rely on it below about {FEW} trials"
    )
    if study_rungs.settings.kind != "none":
        text += " or where many were pruned, because it covers only the trials that went on"
    few = min((rung.trials for rung in study_rungs.rungs), default=0)
    text += f". Fewest trials at a rung here: {few:,}." if few < FEW else "."
    return text + (f" {study_rungs.drawn:,} trials were drawn for it." if study_rungs.drawn else "")
