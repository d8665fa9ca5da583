"""The part of a report on the plate: the field of the best trial, its error, and the residual between the points."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np

from ..figures.fields import Line, residual_map, strain_error, strain_field
from ..figures.mesh import mesh_of
from .data import ReportStudy, is_row, rms
from .gallery import Gallery
from .page import Html, section, tag

NOTCHES: Final[dict[str, Line]] = {"strb100": ((0.0, 0.0), (30.0, 0.0))}  # of bundled data, whose tables lack them


def fields(study: ReportStudy, best: dict[str, Any], gallery: Gallery) -> Html:
    """Return the section on the best trial's strain field: prediction, reference, difference and held-out residual."""
    columns = study.tables.read("fields", where=is_row(best)).to_pydict()
    x_mm, y_mm, predicted, reference = (
        np.array(columns[name], dtype=float) for name in ("x_mm", "y_mm", "predicted", "reference")
    )
    sentences, pictures = ["The field was not kept (results: fields in the study file)."], []
    notch = NOTCHES.get(best["data"])
    if len(x_mm):
        has_reference = bool(np.isfinite(reference).all())
        sentences = [_caption(x_mm, y_mm, has_reference, notch is not None)]
        scale = reference if has_reference else predicted
        limits = (min(0.0, float(scale.min())), float(scale.max()))
        strain = partial(strain_field, x_mm, y_mm, limits=limits, notch=notch)
        pictures.append(
            gallery.hang(
                "field-predicted",
                partial(strain, predicted, title="Predicted"),
                f"Non-local strain predicted by trial {best['trial']}",
            )
        )
        if has_reference:
            pictures.append(
                gallery.hang(
                    "field-reference",
                    partial(strain, reference, title="Reference"),
                    "Finite-element reference, on the same colour scale",
                )
            )
            error = predicted - reference
            worst = int(np.abs(error).argmax())
            largest = f"largest at x = {x_mm[worst]:.1f} mm, y = {y_mm[worst]:.1f} mm: {error[worst]:.3g}"
            drawing = partial(strain_error, x_mm, y_mm, error, title="Error", notch=notch)
            pictures.append(gallery.hang("field-error", drawing, f"Prediction minus reference; {largest}"))
    residual, why_not = _held_out(study, notch, gallery)
    pictures += [residual] if residual else []
    sentences += [why_not] if why_not else []
    return section(
        "Field of the best trial",
        *(tag("p", text, class_="quiet") for text in sentences),
        tag("div", *pictures, class_="figures two"),
    )


def _held_out(study: ReportStudy, notch: Line | None, gallery: Gallery) -> tuple[Html, str]:
    """Return the figure of the residual between the training points, or an empty one and why it cannot be shown."""
    network = study.network
    if isinstance(network, str):
        return Html(), f"The residual at points never trained on cannot be shown: {network.rstrip('.')}."
    points, gauss = network.problem.data.held_out, network.problem.data.gauss
    if points is None:
        return Html(), "There are no points between the training points, so there is no held-out residual."
    residual = network.residual(points.x_mm, points.y_mm, g_mm2=points.g_mm2, elocal=points.elocal)
    scaled = residual / rms(points.elocal)
    squares = np.sort(scaled**2)[::-1].cumsum()
    half = (np.searchsorted(squares, squares[-1] / 2) + 1) / len(squares)
    drawing = partial(residual_map, points.x_mm, points.y_mm, scaled, within=(gauss.x_mm, gauss.y_mm), notch=notch)
    figure = gallery.hang(
        "heldout-residual",
        partial(drawing, title="Held-out residual"),
        f"Residual of the equation at {len(points):,} points never trained on. Its RMS is {rms(scaled):.3g} times that "
        f"of the local strain; at the training points it is {study.trained_residual:.3g} times. Half of the sum of its "
        f"squares comes from {100 * half:.2g} % of the points",
    )
    return figure, ""


def _caption(x_mm: Any, y_mm: Any, has_reference: bool, has_notch: bool) -> str:
    """Return the sentences on what the pictures are drawn on."""
    mesh = mesh_of(x_mm, y_mm)
    text = f"Non-local equivalent strain (dimensionless) at {len(x_mm):,} "
    if mesh is not None and mesh.elements:
        text += f"Gauss points, drawn on their {mesh.elements:,} elements: "
        text += "values are extrapolated to the nodes and averaged there. "
    else:
        text += "points. They are not the Gauss points of a mesh of quadrilaterals, so triangles join them. "
    text += "The bold line is the notch. " if has_notch else ""
    if not has_reference:
        return text + "The data have no reference field."
    return (
        text + "Prediction and reference share one colour scale. "
        "The scales of error and residual end at the 99.5th percentile of the absolute value."
    )
