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
    """The predicted strain field of the best trial, the reference, their difference, and the held-out residual."""
    found = study.tables.read("fields", where=is_row(best)).to_pydict()
    x_mm, y_mm, predicted, reference = (
        np.array(found[name], dtype=float) for name in ("x_mm", "y_mm", "predicted", "reference")
    )
    told, pictures = ["It was not kept (results: fields in the study file)."], []
    notch = NOTCHES.get(best["data"])
    if len(x_mm):
        known = bool(np.isfinite(reference).all())
        told = [_ground(x_mm, y_mm, known, notch is not None)]
        scale = reference if known else predicted
        limits = (min(0.0, float(scale.min())), float(scale.max()))
        strain = partial(strain_field, x_mm, y_mm, limits=limits, notch=notch)
        pictures.append(
            gallery.hang(
                "field-predicted",
                partial(strain, predicted, title="Predicted"),
                f"Non-local strain predicted by trial {best['trial']}",
            )
        )
        if known:
            pictures.append(
                gallery.hang(
                    "field-reference",
                    partial(strain, reference, title="Reference"),
                    "Finite-element reference, on the same colour scale",
                )
            )
            error = predicted - reference
            worst = int(np.abs(error).argmax())
            largest = f"largest {error[worst]:.3g} at x = {x_mm[worst]:.1f} mm, y = {y_mm[worst]:.1f} mm"
            drawing = partial(strain_error, x_mm, y_mm, error, title="Error", notch=notch)
            pictures.append(gallery.hang("field-error", drawing, f"Prediction minus reference, {largest}"))
    residual, why_not = _held_out(study, notch, gallery)
    pictures += [residual] if residual else []
    told += [why_not] if why_not else []
    return section(
        "Field of the best trial",
        *(tag("p", text, class_="quiet") for text in told),
        tag("div", *pictures, class_="figures two"),
    )


def _held_out(study: ReportStudy, notch: Line | None, gallery: Gallery) -> tuple[Html, str]:
    """The residual of the best network where it was never trained, or why it cannot be shown."""
    network = study.network
    if isinstance(network, str):
        return Html(), f"The residual at points never trained on cannot be shown: {network.rstrip('.')}."
    points, gauss = network.problem.data.held_out, network.problem.data.gauss
    if points is None:
        return Html(), "Nothing lies between these points, so there is no residual away from them."
    residual = network.residual(points.x_mm, points.y_mm, g_mm2=points.g_mm2, elocal=points.elocal)
    scaled = residual / rms(points.elocal)
    squares = np.sort(scaled**2)[::-1].cumsum()
    half = (np.searchsorted(squares, squares[-1] / 2) + 1) / len(squares)
    drawing = partial(residual_map, points.x_mm, points.y_mm, scaled, within=(gauss.x_mm, gauss.y_mm), notch=notch)
    drawn = gallery.hang(
        "heldout-residual",
        partial(drawing, title="Held-out residual"),
        f"Residual of the equation at {len(points):,} points never trained on: RMS {rms(scaled):.3g} of that of the "
        f"local strain, {study.trained_residual:.3g} at the training points; half of the sum of its "
        f"squares lies in {100 * half:.2g} % of the points",
    )
    return drawn, ""


def _ground(x_mm: Any, y_mm: Any, known: bool, notched: bool) -> str:
    """What the pictures are drawn on."""
    mesh = mesh_of(x_mm, y_mm)
    told = f"Non-local equivalent strain (dimensionless) at {len(x_mm):,} "
    if mesh is not None and mesh.elements:
        told += f"Gauss points, drawn on their {mesh.elements:,} elements: extrapolated to the nodes, averaged there. "
    else:
        told += "points, which are those of no mesh of quadrilaterals and are joined by triangles. "
    told += "The bold line is the notch. " if notched else ""
    if not known:
        return told + "The data have no reference field."
    return (
        told + "Predicted and reference share one colour scale; scales of signed pictures end at the 99.5th percentile."
    )
