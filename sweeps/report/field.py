"""The parts of a report on the field of the best trial: the field, its error, and the residual between the points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from pinncore.problems import Column, PointSet, Problem
from pinncore.problems.columns import rms
from pinncore.problems.record import ProblemRecord

from ..figures.drawing import Array, axis_label
from ..figures.fields import KeptField, Picture
from ..figures.lines import residual_line
from ..figures.maps import Plane, figure_of, residual_map
from ..trial.tables import Row
from .data import ReportStudy
from .gallery import Gallery
from .page import Html, figures, paragraph, section, tag

_MOST_DRAWN: Final = 2  # coordinates up to which a residual is drawn


def kept_field(study: ReportStudy) -> KeptField | None:
    """Return the field of the best trial, None where it was not kept."""
    problem = study.problem
    if not study.field:
        return None
    return KeptField(problem.coordinates, problem.outputs, study.field, problem.marks_on(study.problem_settings))


def maps(study: ReportStudy, best: Row, gallery: Gallery) -> Html:
    """Return the pictures of the best trial's field, and what they show."""
    problem, kept = study.problem, kept_field(study)
    if kept is None:
        return paragraph("The field was not kept (results: fields in the study file).")
    if not kept.is_drawable:
        return paragraph("The field is not drawn: it has too few points, or values that are not finite.")
    rows = kept.rows
    shown = [
        gallery.hang(
            f"field-{kept.name(picture)}",
            kept.figure(picture, small=len(row) > 1 or len(rows) > 1),
            _description(problem, kept, picture, best),
            zoom=True,
        )
        for row in rows
        for picture in row
    ]
    is_one_field = len(kept.outputs) == len(kept.views) == 1
    kind = "lines" if rows[0][0].kind == "lines" else "maps" if is_one_field else "maps several"
    row = tag("div", *shown, class_=kind, style=f"--across: {len(rows[0])}; --down: {len(rows)}")
    hint = tag("p", "Click a picture to enlarge it.", class_="quiet hint")
    return Html(row + paragraph(" ".join(_sentences(problem, kept))) + (hint if kind != "lines" else ""))


def residual(study: ReportStudy, gallery: Gallery) -> Html:
    """Return the section on the residual of the best network between the training points."""
    title, network = "Residual between the training points", study.network
    if isinstance(network, str):
        text = f"The residual at points never trained on cannot be shown: {network.rstrip('.')}."
        return section(title, text)
    problem = network.problem
    if not problem.held_out:
        return section(title, "There are no points between the training points, so there is no held-out residual.")
    _, points = problem.held_out[0]  # those of all equations
    residuals = network.scaled_residuals(points)
    pictures = [
        gallery.hang(
            "heldout-residual" if len(residuals) == 1 else f"heldout-residual-{name}",
            drawing,
            f"{_subject(name, residuals)} at {len(points):,} points never trained on",
        )
        for name, values in residuals.items()
        for drawing in _drawn(study, problem, points, values, "Held-out residual" if len(residuals) == 1 else name)
    ]
    text = paragraph(_words(study, problem, len(points), residuals, is_drawn=bool(pictures)))
    if len(pictures) > 1:
        return section(title, text, figures(*pictures, columns="three"))
    return section(title, tag("div", *pictures, text, class_="split") if pictures else text)


def _drawn(study: ReportStudy, problem: Problem, points: PointSet, residual: Array, title: str) -> Iterator[Figure]:
    """Yield the picture of a residual [points] over one or two coordinates, none over more."""
    symbols = [column.symbol for column in problem.coordinates]
    label = "residual / RMS of the forcing" if _has_forcing(problem) else "residual"
    if len(symbols) == 1:
        (along,) = problem.coordinates
        label_of_axis = axis_label(along.symbol, along.unit)
        yield residual_line(points.values[symbols[0]], residual, along=label_of_axis, title=title, label=label)
    elif len(symbols) <= _MOST_DRAWN:
        first, second = symbols
        marks = study.problem.marks_on(study.problem_settings)
        plane, within = (
            Plane.of(tuple(problem.coordinates), (at.values[first], at.values[second]), marks)
            for at in (points, problem.field_points)
        )
        yield figure_of(residual_map(plane, residual, within=within, title=title, label=label))


def _words(study: ReportStudy, problem: Problem, count: int, residuals: dict[str, Array], *, is_drawn: bool) -> str:
    """Return the sentences on the residuals [points] by equation at `count` points."""
    everywhere = np.concatenate(list(residuals.values()))
    squares = np.sort(everywhere**2)[::-1].cumsum()
    half = (np.searchsorted(squares, squares[-1] / 2) + 1) / len(squares)
    times = " times" if _has_forcing(problem) else ""
    of_forcing = " times that of its forcing" if times else ""
    text = f"{_subject('', residuals)} at {count:,} points never trained on. Its RMS is {rms(everywhere):.3g}"
    trained = study.best and study.best.get("trained_residual")
    text += f"{of_forcing}; at the training points it is {trained:.3g}{times}. " if trained else f"{of_forcing}. "
    if len(residuals) > 1:
        text += f"By equation: {', '.join(f'{name} {rms(values):.3g}' for name, values in residuals.items())}. "
    text += f"Half of the sum of its squares comes from {100 * half:.2g} % of the points."
    if is_drawn and len(problem.coordinates) > 1:
        text += (
            " The colour scale ends at the 99.5th percentile of the absolute value. From the outermost of these points "
            "to the border, the residual of the nearest one is drawn."
        )
    return text


def _has_forcing(problem: Problem) -> bool:
    return type(problem).forcing is not Problem.forcing


def _subject(name: str, residuals: dict[str, Array]) -> str:
    if len(residuals) == 1:
        return "Residual of the equation"
    return f"Residual of {name}" if name else "Residuals of the equations"


def _description(problem: ProblemRecord, kept: KeptField, picture: Picture, best: Row) -> str:
    """Return what a picture shows."""
    output, view = kept.outputs[picture.output], kept.views[picture.view]
    is_only = len(kept.outputs) == 1
    what = _subject_of(problem) if is_only else output.column.symbol
    end = f", at {view.place}" if view.place else ""
    if picture.kind == "lines":
        with_reference = ", with the reference, and the error below" if output.has_reference else ""
        return f"{what} predicted by trial {best['trial']}{with_reference}"
    of_output = "" if is_only else f" of {output.column.symbol}"
    match picture.kind:
        case "predicted":
            text = f"{what} predicted by trial {best['trial']}"
        case "reference":
            text = f"Reference{of_output}, on the same colour scale"
        case "error":
            text = f"Prediction{of_output} minus reference"
            text += f"; {_worst(kept, picture.output)}" if len(kept.views) == 1 else ""
        case _:
            return "Absolute error over the reference, logarithmic colour scale"
    return text + end + (", logarithmic" if picture.is_log else "")


def _worst(kept: KeptField, number: int) -> str:
    """Return where the error of an output is largest, and how large."""
    error = kept.outputs[number].error
    worst = int(np.abs(error).argmax())
    place = ", ".join(
        f"{column.symbol} = {_amount(values[worst], column.unit)}"
        for column, values in zip(kept.coordinates, kept.places, strict=True)
    )
    return f"largest at {place}: {error[worst]:.3g}"


def _sentences(problem: ProblemRecord, kept: KeptField) -> Iterator[str]:
    """Yield the sentences on what the pictures show, and what they are drawn on."""
    is_only = len(kept.outputs) == 1
    what = _with_unit(_subject_of(problem), problem.outputs[0]) if is_only else _listed(problem.outputs)
    over = _words_of(axis_label(column.symbol, column.unit) for column in kept.coordinates)
    surface = kept.planes[0].surface if len(kept.coordinates) == len(kept.views[0].axes) == 2 else None
    points = f"{kept.points:,} points" if surface is None else surface.describe(kept.points)
    yield f"{what} at {points}, over {over}."
    if "elements" in points:
        yield "Extrapolated values are averaged at nodes."
    if places := [view.place for view in kept.views if view.place]:
        yield f"Slices at the points nearest to the middle: {'; '.join(places)}."
    if problem.marks and kept.marks:
        yield f"The bold line is the {problem.mark}."
    if len(kept.coordinates) == 2 and is_only and len(kept.rows) == 1:
        yield "The field does not span a decade of positive values: no logarithmic scale."
    if not all(output.has_reference for output in kept.outputs):
        yield "The data have no reference field."
        return
    if is_only or kept.rows[0][0].kind == "lines":
        errors = (_worst(kept, number) for number in range(len(kept.outputs)))
        names = ("Prediction minus reference",) if is_only else tuple(f"Error of {c.symbol}" for c in problem.outputs)
        yield " ".join(f"{name}; {error}." for name, error in zip(names, errors, strict=True))
    if kept.rows[0][0].kind != "lines":
        yield "Scales of errors end at the 99.5th percentile."


def _subject_of(problem: ProblemRecord) -> str:
    """Return what the only output is, at the start of a sentence; a symbol stays as it is."""
    quantity, symbol = problem.quantity, problem.outputs[0].symbol
    return symbol if quantity in ("", symbol) else quantity[:1].upper() + quantity[1:]


def _with_unit(name: str, column: Column) -> str:
    return f"{name} ({'dimensionless' if column.unit == '1' else column.unit})"


def _listed(columns: Sequence[Column]) -> str:
    if len({column.unit for column in columns}) == 1:
        return _with_unit(_words_of(column.symbol for column in columns), columns[0])
    return _words_of(_with_unit(column.symbol, column) for column in columns)


def _words_of(words: Iterator[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _amount(value: float, unit: str) -> str:
    return f"{value:.3g}" if unit == "1" else f"{value:.3g} {unit}"
