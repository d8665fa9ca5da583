"""The parts of a report on the field of the best trial: the field, its error, and the residual between the points."""

from __future__ import annotations

import numpy as np

from pinncore.mesh import mesh_of
from pinncore.problems.columns import rms
from pinncore.problems.record import ProblemRecord

from ..figures.fields import KeptField, Plane, residual_map
from ..trial.tables import Row
from .data import ReportStudy
from .gallery import Gallery
from .page import Html, paragraph, section, tag


def maps(study: ReportStudy, best: Row, gallery: Gallery) -> Html:
    """Return the best trial's field, on linear and on logarithmic colour scales, and what the pictures show."""
    problem = study.problem
    if not study.field:
        return paragraph("The field was not kept (results: fields in the study file).")
    kept = KeptField(problem, study.field, problem.marks_on(study.problem_settings))
    captions = {"predicted": f"{_capitalised(problem.quantity)} predicted by trial {best['trial']}"}
    if kept.has_reference:
        error = kept.predicted - kept.reference
        worst = int(np.abs(error).argmax())
        place = ", ".join(
            f"{column.symbol} = {_amount(study.field[column.name][worst], column.unit)}"
            for column in problem.coordinates
        )
        captions["reference"] = "Reference, on the same colour scale"
        captions["error"] = f"Prediction minus reference; largest at {place}: {error[worst]:.3g}"
        captions["relative-error"] = "Absolute error over the reference, logarithmic colour scale"
    linear, log = kept.pictures
    shown = [
        gallery.hang(
            f"field-{name}",
            kept.picture(name, small=True),
            captions.get(name) or f"{captions[name.removesuffix('-log')]}, logarithmic",
            zoom=True,
        )
        for name in (*linear, *log)
    ]
    style = f"--across: {len(linear)}; --down: {2 if log else 1}"
    row = tag("div", *shown, class_="maps", style=style)
    hint = tag("p", "Click a picture to enlarge it.", class_="quiet hint")
    return Html(row + paragraph(_caption(problem, kept, captions.get("error", ""))) + hint)


def residual(study: ReportStudy, gallery: Gallery) -> Html:
    """Return the section on the residual of the best network between the training points."""
    picture, words = _held_out(study, gallery)
    title = "Residual between the training points"
    return section(title, tag("div", picture, paragraph(words), class_="split") if picture else words)


def _held_out(study: ReportStudy, gallery: Gallery) -> tuple[Html, str]:
    """Return the figure of the residual with what it shows, or an empty one and why it cannot be shown."""
    network = study.network
    if isinstance(network, str):
        return Html(), f"The residual at points never trained on cannot be shown: {network.rstrip('.')}."
    problem, held_out = network.problem, network.problem.held_out
    if not held_out:
        return Html(), "There are no points between the training points, so there is no held-out residual."
    points = held_out[0][1]
    scaled = study.scaled_residual(points)
    squares = np.sort(scaled**2)[::-1].cumsum()
    half = (np.searchsorted(squares, squares[-1] / 2) + 1) / len(squares)
    marks = study.problem.marks_on(study.problem_settings)
    plane, within = (
        Plane.of(study.problem, {column.name: at.values[column.symbol] for column in problem.coordinates}, marks)
        for at in (points, problem.point_sets[0])
    )
    drawing = residual_map(plane, scaled, within=within, title="Held-out residual")
    what = f"Residual of the equation at {len(scaled):,} points never trained on"
    words = (
        f"{what}. Its RMS is {rms(scaled):.3g} times that of its forcing; at the training points it is "
        f"{study.trained_residual:.3g} times. Half of the sum of its squares comes from {100 * half:.2g} % of the "
        "points. The colour scale ends at the 99.5th percentile of the absolute value. From the outermost of these "
        "points to the border, the residual of the nearest one is drawn."
    )
    return gallery.hang("heldout-residual", drawing, what), words


def _caption(problem: ProblemRecord, kept: KeptField, error: str) -> str:
    """Return the sentences on what the pictures show, and what they are drawn on."""
    mesh = mesh_of(kept.plane.first, kept.plane.second)
    unit = "dimensionless" if problem.unit == "1" else problem.unit
    over = f"over {' and '.join(kept.plane.labels)}"
    text = f"{_capitalised(problem.quantity)} ({unit}) at {len(kept.predicted):,} "
    if mesh is not None and mesh.elements:
        text += f"Gauss points of {mesh.elements:,} elements, {over}. Extrapolated values are averaged at nodes. "
    else:
        text += f"points, {over}. They are not the Gauss points of a mesh of quadrilaterals, so triangles join them. "
    text += f"The bold line is the {problem.mark}. " if kept.plane.marks else ""
    text += "" if kept.pictures[1] else "The field does not span a decade of positive values: no logarithmic scale. "
    text += f"{error}. " if error else "The data have no reference field. "
    return text + "Scales of errors end at the 99.5th percentile."


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _amount(value: float, unit: str) -> str:
    return f"{value:.3g}" if unit == "1" else f"{value:.1f} {unit}"
