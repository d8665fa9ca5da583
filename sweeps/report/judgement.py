"""The parts of a report that judge: which settings mattered, and what to try next."""

from __future__ import annotations

from functools import partial

from ..analysis.suggestions import suggestions
from ..figures import studies as studyfigures
from ..query.ranking import dimensions
from .data import ReportStudy
from .gallery import Gallery
from .page import Html, section, tag


def importance(study: ReportStudy, gallery: Gallery) -> Html:
    """Return the section on how much each setting decided which trials are among the best, and how much is chance."""
    result = study.importance
    if not dimensions(study.file):
        return Html()
    if result.why_not:
        return section("Importance", tag("p", f"Not known: {result.why_not}.", class_="quiet"))
    shares = {dimension.name: (dimension.share, dimension.low, dimension.high) for dimension in result.dimensions}
    drawing = partial(
        studyfigures.importances, shares, {dimension.name: dimension.noise for dimension in result.dimensions}
    )
    figure = gallery.hang("importance", drawing, "Importance of each swept setting", wide=True, caption=False)
    text = (
        f"A bar measures how much the values of a setting in the {result.top} best of {result.trials:,} trials differ "
        "from those in all trials (PED-ANOVA). The line over the bar covers 90 % of the results for random halves of "
        "the trials. A bar that ends before its dashed mark is no longer than chance alone makes it; an arrow stands "
        "for a mark beyond the scale."
    )
    if study.judged.traits.learns:
        text += " The sampler preferred regions with good results, so settings look more important than they are."
    return section("Importance", tag("p", text, class_="quiet"), tag("div", figure, class_="figures"))


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
