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
    """How much each setting decided which trials are among the best, and how much of that is chance."""
    found = study.importance
    if not dimensions(study.file):
        return Html()
    if found.why_not:
        return section("Importance", tag("p", f"Not known: {found.why_not}.", class_="quiet"))
    shares = {each.name: (each.share, each.low, each.high) for each in found.dimensions}
    drawing = partial(studyfigures.importances, shares, {each.name: each.noise for each in found.dimensions})
    drawn = gallery.hang("importance", drawing, "Importance of each swept setting", wide=True, caption=False)
    told = (
        f"How differently the {found.top} best of {found.trials:,} trials are spread over a setting than all of them "
        "(PED-ANOVA). The line over a bar holds 90 % of what random halves of the trials give; a bar that ends before "
        "its dashed mark (an arrow where that is off the scale) is no more than chance gives."
    )
    if study.judged.is_adaptive:
        told += " The sampler went where results were good, which makes settings look more important than they are."
    return section("Importance", tag("p", told, class_="quiet"), tag("div", drawn, class_="figures"))


def what_to_try(study: ReportStudy) -> Html:
    """What the best trials suggest, each with the line of the study file that does it."""
    found = suggestions(study.judged, study.importance)
    if not found:
        return Html()
    items = [tag("li", each.text, tag("pre", f"{each.section}:\n  {each.study_file}", class_="line")) for each in found]
    return section("What to try next", tag("ul", *items))
