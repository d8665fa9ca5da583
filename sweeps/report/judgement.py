"""The parts of a report that judge: which settings mattered, what to try next, and whether pruning was fair."""

from __future__ import annotations

from typing import Final

from ..analysis.rungs import RungFairness, StudyRungs, rungs_of_study
from ..analysis.suggestions import suggestions
from ..errors import SpecError
from ..figures.studies import importances
from ..query.ranking import dimensions
from .data import ReportStudy
from .gallery import Gallery
from .page import Html, figures, section, table, tag

FEW: Final = 20  # with fewer trials, a rank correlation is little more than chance


def importance(study: ReportStudy, gallery: Gallery) -> Html:
    """Return the section on how much each setting decided which trials are among the best, and how much is chance."""
    result = study.importance
    if not dimensions(study.file):
        return Html()
    if result.why_not:
        return section("Importance", f"Not known: {result.why_not}.")
    shares = {dimension.name: (dimension.share, dimension.low, dimension.high) for dimension in result.dimensions}
    drawing = importances(shares, {dimension.name: dimension.noise for dimension in result.dimensions})
    figure = gallery.hang("importance", drawing, "Importance of each swept setting", wide=True)
    text = (
        f"A bar measures how much the values of a setting in the {result.top} best of {result.trials:,} trials differ "
        "from those in all trials (PED-ANOVA). The line over the bar covers 90 % of the results for random halves of "
        "the trials. A bar that ends before its dashed mark is no longer than chance alone makes it; an arrow stands "
        "for a mark beyond the scale."
    )
    if study.judged.traits.learns:
        text += " The sampler preferred regions with good results, so settings look more important than they are."
    return section("Importance", text, figures(figure))


def what_to_try(study: ReportStudy) -> Html:
    """Return the section of suggestions drawn from the best trials, each with the line of the study file for it."""
    advice = suggestions(study.judged, study.importance)
    if not advice:
        return Html()
    items = [
        tag("li", suggestion.text, tag("pre", f"{suggestion.section}:\n  {suggestion.study_file}", class_="line"))
        for suggestion in advice
    ]
    return section("What to try next", tag("ul", *items))


def pruning(study: ReportStudy) -> Html:
    """Return the section with a table of the rungs, where trials were pruned or would have been."""
    if isinstance(study.spec, SpecError):
        text = "The rungs are not known because the study file is no longer valid."
        return section("Pruning", text) if study.pruned.num_rows else Html()
    study_rungs = rungs_of_study(study.spec, study.read, study.connection)
    kind, rungs = study_rungs.settings.kind, study_rungs.rungs
    if kind == "none" and all(rung.correlation is None for rung in rungs):
        return Html()
    heads = ["share of steps", "trials", "rank correlation"]
    rows = [[f"{100 * rung.rung:.3g} %", f"{rung.trials:,}", _correlation(rung)] for rung in rungs]
    if study_rungs.settings.traits.compares_at_rungs:
        heads.append("pruned there")
        rows = [[*row, f"{rung.pruned:,}"] for row, rung in zip(rows, rungs, strict=True)]
    return section(
        "Would early stopping have been fair?" if kind == "none" else "Pruning",
        _what_was_done(study, study_rungs),
        table(heads, rows, narrow=True),
        _meaning(study_rungs),
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
