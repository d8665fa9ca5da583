"""The part of a report on the field: the field of the best trial, its error, and the residual between the points."""

from __future__ import annotations

import numpy as np

from pinncore.mesh import mesh_of
from pinncore.problems import Problem
from pinncore.problems.base import rms

from ..figures.fields import KeptField, Plane, residual_map
from ..trial.tables import Row, settings_of
from .data import ReportStudy
from .gallery import Gallery
from .page import Html, figures, section


def fields(study: ReportStudy, best: Row, gallery: Gallery) -> Html:
    """Return the section on the best trial's field: prediction, reference, difference and held-out residual."""
    sentences, pictures = ["The field was not kept (results: fields in the study file)."], []
    problem: Problem = settings_of(best)[1]
    if len(study.field["predicted"]):
        kept = KeptField(type(problem), study.field, problem.marks)
        sentences = [_caption(problem, kept)]
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
        for name, caption in captions.items():
            pictures.append(gallery.hang(f"field-{name}", kept.picture(name), caption, caption=True))
    residual, why_not = _held_out(study, gallery)
    pictures += [residual] if residual else []
    return section("Field of the best trial", *sentences, why_not, figures(*pictures, columns="two"))


def _held_out(study: ReportStudy, gallery: Gallery) -> tuple[Html, str]:
    """Return the figure of the residual between the training points, or an empty one and why it cannot be shown."""
    network = study.network
    if isinstance(network, str):
        return Html(), f"The residual at points never trained on cannot be shown: {network.rstrip('.')}."
    problem, points = network.problem, network.problem.held_out
    if points is None:
        return Html(), "There are no points between the training points, so there is no held-out residual."
    scaled = study.scaled_residual(points)
    squares = np.sort(scaled**2)[::-1].cumsum()
    half = (np.searchsorted(squares, squares[-1] / 2) + 1) / len(squares)
    plane, within = (Plane.of(type(problem), at.columns, problem.marks) for at in (points, problem.point_sets[0]))
    figure = gallery.hang(
        "heldout-residual",
        residual_map(plane, scaled, within=within, title="Held-out residual"),
        f"Residual of the equation at {len(scaled):,} points never trained on. Its RMS is {rms(scaled):.3g} times that "
        f"of its forcing; at the training points it is {study.trained_residual:.3g} times. Half of the sum of its "
        f"squares comes from {100 * half:.2g} % of the points",
        caption=True,
    )
    return figure, ""


def _caption(problem: Problem, kept: KeptField) -> str:
    """Return the sentences on what the pictures are drawn on."""
    mesh = mesh_of(kept.plane.first, kept.plane.second)
    unit = "dimensionless" if problem.unit == "1" else problem.unit
    text = f"{_capitalised(problem.quantity)} ({unit}) at {len(kept.predicted):,} "
    if mesh is not None and mesh.elements:
        text += f"Gauss points, drawn on their {mesh.elements:,} elements: "
        text += "values are extrapolated to the nodes and averaged there. "
    else:
        text += "points. They are not the Gauss points of a mesh of quadrilaterals, so triangles join them. "
    text += f"The bold line is the {problem.mark}. " if problem.marks else ""
    if not kept.has_reference:
        return text + "The data have no reference field."
    return (
        text + "Prediction and reference share one colour scale. "
        "The scales of error and residual end at the 99.5th percentile of the absolute value."
    )


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _amount(value: float, unit: str) -> str:
    return f"{value:.3g}" if unit == "1" else f"{value:.1f} {unit}"
