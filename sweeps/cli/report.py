"""The command that writes a study's report: `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import DEFAULT_ROOT, AsJson, Force, Root, Study, print_json, refuse_taken, study_place


def report(
    study: Study,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write to this file (default: report.html in the study's folder)."
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Also write every figure as a file into DIR."),
    ] = None,
    format: Annotated[Literal["svg", "png"], typer.Option("--format", help="Format of these files.")] = "svg",
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Also draw the study as one picture: .svg or .png."),
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="Colours of this picture for dark pages; .svg only.")] = False,
    force: Force = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Write the report of a study as one self-contained HTML page.

    The page in the study's folder is written anew; a FILE or figures that exist are not replaced without --force. The
    picture shows prediction, reference and error of the best trial beside the error curves of all trials.
    """
    if dark and picture is None:
        raise typer.BadParameter("--dark is for the picture: add --picture FILE")
    place = study_place(study, root)
    refuse_taken(*(file for file in (out, picture) if file is not None), force=force)
    from ..report import write_picture, write_report

    pictures = () if picture is None else (write_picture(place, picture, dark=dark),)  # whose name may be wrong
    written = write_report(place, out, figures=figures, format=format, force=force)
    if as_json:
        print_json({"page": written.page, "figures": written.figures, "picture": picture})
        return
    for path in (written.page, *written.figures, *pictures):
        typer.echo(path)
