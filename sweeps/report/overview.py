"""The picture of a study: what its best trial predicts, how far that is off, and how all trials came there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pinncore.disk import write_whole
from pinncore.problems.columns import REL_L2

from ..errors import StudyError
from ..figures import courses
from ..figures.drawing import Format, for_dark_pages, picture_bytes
from ..figures.overview import overview
from ..query.text import shown
from .data import ReportStudy, at_one_moment
from .field import kept_field
from .training import curves_of, curves_shown

_ERROR: Final = "relative error"  # rel_l2, to people who have read nothing else


def write_picture(study_dir: Path, target: Path, *, dark: bool = False) -> Path:
    """Write the picture of a study to an SVG or PNG file; an SVG may have colours for `dark` pages.

    Raises `StudyError` where no trial is complete, where neither fields nor curves were kept, or where the file cannot
    be written.
    """
    format: Format = "png" if target.suffix == ".png" else "svg"
    if target.suffix != f".{format}":
        raise StudyError(f"{target} is neither a .svg nor a .png file: give the picture one of these names")
    if dark and format == "png":
        raise StudyError(f"{target}: only an SVG has colours for dark pages. Write {target.with_suffix('.svg')}")
    content = at_one_moment(study_dir, lambda study: _drawn(study, format))
    try:
        write_whole(target, for_dark_pages(content) if dark else content)
    except OSError as error:
        raise StudyError(f"{target} cannot be written: {error.strerror}. Give another file.") from None
    return target


def _drawn(study: ReportStudy, format: Format) -> bytes:
    best = study.best
    if best is None:
        raise StudyError(f"{study.name}: no trial is complete, so there is nothing to draw")
    field = kept_field(study)
    field = field if field is not None and field.is_drawable else None
    trials = study.ranked["trial"].to_pylist()[: curves_shown(study)]
    curves, label = courses.in_per_cent(curves_of(study, trials, REL_L2.name)), f"{_ERROR} in %"
    if not curves:  # no reference is known
        curves, label = curves_of(study, trials, "loss"), "loss"
    if field is None and not curves:
        raise StudyError(f"{study.name}: neither fields nor curves were kept, so there is nothing to draw")
    metric = _ERROR if study.objective == REL_L2.name else study.objective
    value = shown(study.objective, best[study.objective], study.problem.in_per_cent)
    title = f"{study.name}: the best of {study.ranked.num_rows} trials, number {best['trial']}, {metric} {value}"
    drawn = overview(field, curves, best=(best["trial"], best["replicate"]), title=title, label=label)
    return picture_bytes(drawn, format, transparent=format == "svg")
