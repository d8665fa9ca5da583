"""The command that writes a study's report: `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import DEFAULT_ROOT, AsJson, Force, Root, Study, print_json, refuse_taken, study_place


def report(
    study: Study,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: report.html in the study folder.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Also write every figure as a file into DIR."),
    ] = None,
    format: Annotated[Literal["svg", "png"], typer.Option("--format", help="Format of these files.")] = "svg",
    force: Force = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Write the report of a study as one self-contained HTML page.

    The page in the study's folder is written anew; a FILE or figures that exist are not replaced without --force.
    """
    place = study_place(study, root)
    if out is not None:
        refuse_taken(out, force=force)
    from ..report import write_report

    written = write_report(place, out, figures=figures, format=format, force=force)
    if as_json:
        print_json({"page": written.page, "figures": written.figures})
        return
    typer.echo(written.page)
    for path in written.figures:
        typer.echo(path)
