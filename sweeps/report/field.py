"""The part of a report on the field: the field of the best trial, its error, and the residual between the points."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from pinncore.problems import Problem

from ..figures.fields import Plane, error_map, field_map, residual_map
from ..figures.mesh import mesh_of
from ..trial.tables import settings_of
from .data import ReportStudy, is_row, rms
from .gallery import Gallery
from .page import Html, section, tag


def fields(study: ReportStudy, best: dict[str, Any], gallery: Gallery) -> Html:
    """Return the section on the best trial's field: prediction, reference, difference and held-out residual."""
    rows = study.tables.read("fields", where=is_row(best)).to_pydict()
    columns = {name: np.array(values, dtype=float) for name, values in rows.items()}
    predicted, reference = columns["predicted"], columns["reference"]
    sentences, pictures = ["The field was not kept (results: fields in the study file)."], []
    problem = settings_of(best)[1]
    if len(predicted):
        plane = Plane.of(type(problem), columns, problem.marks)
        has_reference = bool(np.isfinite(reference).all())
        sentences = [_caption(problem, plane, has_reference)]
        scale = reference if has_reference else predicted
        limits = (min(0.0, float(scale.min())), float(scale.max()))
        drawing = partial(field_map, plane, limits=limits, label=problem.quantity, unit=problem.unit)
        pictures.append(
            gallery.hang(
                "field-predicted",
                partial(drawing, predicted, title="Predicted"),
                f"{_capitalised(problem.quantity)} predicted by trial {best['trial']}",
            )
        )
        if has_reference:
            pictures.append(
                gallery.hang(
                    "field-reference",
                    partial(drawing, reference, title="Reference"),
                    "Reference, on the same colour scale",
                )
            )
            error = predicted - reference
            worst = int(np.abs(error).argmax())
            place = ", ".join(
                f"{column.symbol} = {_amount(columns[column.name][worst], column.unit)}"
                for column in problem.coordinates
            )
            of_error = partial(error_map, plane, error, title="Error", unit=problem.unit)
            caption = f"Prediction minus reference; largest at {place}: {error[worst]:.3g}"
            pictures.append(gallery.hang("field-error", of_error, caption))
    residual, why_not = _held_out(study, gallery)
    pictures += [residual] if residual else []
    sentences += [why_not] if why_not else []
    return section(
        "Field of the best trial",
        *(tag("p", text, class_="quiet") for text in sentences),
        tag("div", *pictures, class_="figures two"),
    )


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
    planes = [Plane.of(type(problem), each.columns, problem.marks) for each in (points, problem.point_sets[0])]
    figure = gallery.hang(
        "heldout-residual",
        partial(residual_map, planes[0], scaled, within=planes[1], title="Held-out residual"),
        f"Residual of the equation at {len(scaled):,} points never trained on. Its RMS is {rms(scaled):.3g} times that "
        f"of its forcing; at the training points it is {study.trained_residual:.3g} times. Half of the sum of its "
        f"squares comes from {100 * half:.2g} % of the points",
    )
    return figure, ""


def _caption(problem: Problem, plane: Plane, has_reference: bool) -> str:
    """Return the sentences on what the pictures are drawn on."""
    mesh = mesh_of(plane.first, plane.second)
    unit = "dimensionless" if problem.unit == "1" else problem.unit
    text = f"{_capitalised(problem.quantity)} ({unit}) at {len(plane.first):,} "
    if mesh is not None and mesh.elements:
        text += f"Gauss points, drawn on their {mesh.elements:,} elements: "
        text += "values are extrapolated to the nodes and averaged there. "
    else:
        text += "points. They are not the Gauss points of a mesh of quadrilaterals, so triangles join them. "
    text += "The bold line is the notch. " if problem.marks else ""
    if not has_reference:
        return text + "The data have no reference field."
    return (
        text + "Prediction and reference share one colour scale. "
        "The scales of error and residual end at the 99.5th percentile of the absolute value."
    )


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _amount(value: float, unit: str) -> str:
    return f"{value:.3g}" if unit == "1" else f"{value:.1f} {unit}"
