"""The command `report`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .options import DEFAULT_ROOT, AsJson, Root, Study, print_json, study_place


class Pictures(StrEnum):
    """What figures are written as."""

    SVG = "svg"
    PNG = "png"


def report(
    study: Study,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: report.html in the study.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Write every figure there too, as a file of its own."),
    ] = None,
    format: Annotated[Pictures, typer.Option("--format", help="What these files are.")] = Pictures.SVG,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Write a study's report, one self-contained HTML page."""
    place = study_place(study, root)
    from ..report import write_report

    written = write_report(place, out, figures=figures, format=format.value)
    if as_json:
        print_json({"page": written.page, "figures": written.figures})
        return
    typer.echo(written.page)
    for path in written.figures:
        typer.echo(path)
