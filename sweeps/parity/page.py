"""The page of a comparison of traces: one HTML file that loads nothing and runs no script."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from pinncore.disk import write_whole
from pinncore.parity.results import BEYOND, QUANTITIES, Comparison, Explanation

from ..figures.courses import weight_maps
from ..figures.drawing import Array
from ..figures.maps import Plane, figure_of, log_map
from ..figures.parity import difference_lines, difference_map
from ..report.gallery import Gallery
from ..report.page import Html, document, figures, paragraph, section, tag
from ..words import rounded
from .text import advice, amount, sentences, verdict

_OPEN_LAYERS: Final = 3  # the maps of deeper networks are folded away
_MOST_ROWS: Final = 12


def write_page(comparison: Comparison, file: Path) -> None:
    """Write the page of a comparison."""
    gallery = Gallery()
    notes = sentences(comparison.notes)
    title = f"Parity of {Path(comparison.source).name}"
    parts = (
        tag("h1", title),
        tag("p", verdict(comparison)),
        paragraph(advice(comparison)) if advice(comparison) else Html(),
        _explanations(comparison),
        _differences(comparison, gallery),
        _weights(comparison, gallery),
        _field(comparison, gallery),
        section("What was compared", *comparison.coverage, *notes, _configuration(comparison)),
    )
    write_whole(file.absolute(), document(title, *(part for part in parts if part)).encode())


def _explanations(comparison: Comparison) -> Html:
    if not comparison.explanations:
        hidden = "; ".join(comparison.invisible)
        return section("Not visible in this trace", hidden) if hidden else Html()
    tables = [_table(comparison.explanations)]
    if comparison.pairs:
        tables += [tag("h3", "Two changes together"), _table(comparison.pairs)]
    words = "Each was changed on our side alone, everything else kept. Those that leave nothing cannot be told apart."
    return section("Explanations", words, *tables)


def _table(explanations: tuple[Explanation, ...]) -> Html:
    """Return a table of the best explanations: name, what is left, where, what to write."""
    heads = ("explanation", "what is left", "where", "setting")
    rows = [
        (
            explanation.name,
            "nothing" if explanation.parts_at is None else amount(explanation.parts_at),
            "" if explanation.parts_at is None else str(explanation.parts_at.place),
            ", ".join(f"{name}: {value}" for name, value in explanation.settings.items()) or "none: a mistake",
        )
        for explanation in explanations[:_MOST_ROWS]
    ]
    head = tag("thead", tag("tr", *(tag("th", head, class_="short") for head in heads)))
    body = [
        tag("tr", *(tag("td", text, class_="short") for text in row), class_="best" if row[1] == "nothing" else "row")
        for row in rows
    ]
    return tag("div", tag("table", head, tag("tbody", *body)), class_="scroll")


def _differences(comparison: Comparison, gallery: Gallery) -> Html:
    if not comparison.differences:
        return Html()
    stage = comparison.differences[-1].place.stage if comparison.first is None else comparison.first.place.stage
    here = [each for each in comparison.differences if each.place.stage == stage]
    along = "step" if stage == "first" else "iteration"
    arrays = [each for each in here if each.place.quantity != "loss term"]
    steps = sorted({each.place.step for each in arrays} or {each.place.step for each in here})
    names = list(dict.fromkeys(each.place.name for each in here))
    units = np.full((len(names), len(steps)), np.nan)
    for each in here:
        if each.place.step in steps:
            units[names.index(each.place.name), steps.index(each.place.step)] = each.units
    picture = gallery.hang(
        "differences",
        difference_map(units, names=names, steps=steps, along=along),
        "Difference of each array at each recorded step, in units of rounding",
        wide=True,
    )
    courses = {}
    for quantity in QUANTITIES:
        found: dict[int, float] = {}
        for each in here:
            if each.place.quantity.removeprefix("initial ") == quantity:
                found[each.place.step] = max(found.get(each.place.step, 0.0), each.units)
        if len(found) > 1:
            courses[quantity] = (np.array(list(found), dtype=float), np.array(list(found.values())))
    pictures = [picture]
    if courses:
        lines = difference_lines(courses, limit=BEYOND, along=along)
        pictures.append(gallery.hang("growth", lines, "Largest difference of each quantity over the steps", wide=True))
    words = f"In units of the rounding of each entry; beyond rounding from {BEYOND:g} on. Arrays stand in their order."
    words += " What was not recorded is hatched." if np.isnan(units).any() else ""
    return section("Where they part", words, figures(*pictures))


def _weights(comparison: Comparison, gallery: Gallery) -> Html:
    pictures = [
        gallery.hang(
            f"layer-{level}", weight_maps(maps, title=f"Layer {level}"), f"Weights of layer {level}", wide=True
        )
        for level, maps in _layers(comparison)
    ]
    if not pictures:
        return Html()
    shown = figures(*pictures)
    if len(pictures) > _OPEN_LAYERS:
        shown = tag("details", tag("summary", f"Show {len(pictures)} layers"), shown)
    words = "At the last common step. Rows are input units, with the bias at the bottom; columns are output units."
    return section("Weights and biases side by side", words, shown)


def _layers(comparison: Comparison) -> Iterator[tuple[int, dict[str, Array]]]:
    """Yield the maps of each layer: ours, theirs, their difference relative to the largest."""
    weights, level = comparison.weights, 1
    while f"W{level}" in weights and f"b{level}" in weights:
        ours, theirs = (np.vstack([weights[f"W{level}"][side], weights[f"b{level}"][side]]) for side in (0, 1))
        largest = float(np.abs(ours - theirs).max())
        factor = float(np.abs(ours).max()) / largest if largest else 1.0
        yield level, {"ours": ours, "theirs": theirs, f"difference x {factor:.1e}": (ours - theirs) * factor}
        level += 1


def _field(comparison: Comparison, gallery: Gallery) -> Html:
    """Return the map of (u_a - u_b)^2 / u_a^2 where the points lie in a plane."""
    fields = dict(comparison.fields)
    ours, theirs = fields.pop("u_ours", None), fields.pop("u_theirs", None)
    if ours is None or theirs is None or len(fields) != 2 or not ours.all():
        return Html()
    error = (theirs - ours) ** 2 / theirs**2 if theirs.all() else (theirs - ours) ** 2 / ours**2
    errors = _errors(comparison)
    if not error.any():
        return section("Map error", f"The predictions of both are the same at all points. {errors}")
    (first, one), (second, two) = fields.items()
    plane = Plane(one, two, (first, second))
    if plane.surface is None:
        return Html()
    drawn = figure_of(log_map(plane, error, title="(u_a - u_b)² / u_a²", unit="", of=error))
    picture = gallery.hang("map-error", drawn, "Map error of the last common weights, a: theirs, b: ours")
    return section(
        "Map error", f"Of the last common weights; a is theirs, b is ours. {errors}", figures(picture, columns="two")
    )


def _errors(comparison: Comparison) -> str:
    parts = (("ours", comparison.error), ("theirs", comparison.their_error))
    known = [f"{rounded(error)} {side}" for side, error in parts if error is not None and math.isfinite(error)]
    return f"rel_l2: {', '.join(known)}." if known else ""


def _configuration(comparison: Comparison) -> Html:
    if not comparison.configuration:
        return Html()
    return tag("ul", *(tag("li", f"{line.name}: {line.ours}, {line.theirs}") for line in comparison.configuration))
