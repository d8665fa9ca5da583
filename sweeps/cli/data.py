"""The commands on users' tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import AsJson, print_json, warn

# the factor by which the local strain of a table is multiplied
ElocalFactor = StrEnum("ElocalFactor", {"AUTO": "auto", "ONE": "1", "TEN": "10"})


def check(
    gauss_points: Annotated[
        Path, typer.Argument(metavar="GAUSS", help="The Gauss points: a table, or a .mat or .npz with all three.")
    ],
    lrb: Annotated[Path | None, typer.Argument(metavar="LRB", help="The left and right boundary nodes.")] = None,
    btb: Annotated[Path | None, typer.Argument(metavar="BTB", help="The bottom and top boundary nodes.")] = None,
    elocal_factor: Annotated[
        ElocalFactor, typer.Option("--elocal-factor", help="Factor in the column elocal; auto detects it.")
    ] = ElocalFactor.AUTO,
    column: Annotated[
        list[str] | None, typer.Option("--column", metavar="OURS=THEIRS", help="Name of a column, such as x=X_pos.")
    ] = None,
    length: Annotated[str | None, typer.Option("--length", help="Unit of lengths: mm, m, cm, um or in.")] = None,
    increment: Annotated[int | None, typer.Option("--increment", help="Load increment, from 1, in a .mat.")] = None,
    mesh: Annotated[str | None, typer.Option("--mesh", help="Name of the mesh in a .mat.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read tables and print what they contain, as a study would read them.

    Prints units, the factor of ten, ranges and hash; warns of what is doubtful, and refuses what cannot be right.
    """
    from pinncore.data.loading import load_data

    from ..inputs.opening import open_table

    factor = elocal_factor.value if elocal_factor is ElocalFactor.AUTO else int(elocal_factor.value)
    options = {"length": length, "increment": increment, "mesh": mesh, "columns": _columns(column or [])}
    stated = {name: value for name, value in options.items() if value is not None}
    if gauss_points.suffix.lower() != ".npz":
        stated["elocal_factor"] = factor
    data = load_data(_files(gauss_points, lrb, btb) | stated, open_table)
    tables = {"gauss_points": data.gauss, "lrb": data.lrb, "btb": data.btb}
    ranges = {
        name: {column: (float(values.min()), float(values.max())) for column, values in points.columns.items()}
        for name, points in tables.items()
    }
    if as_json:
        counts = {name: len(points) for name, points in tables.items()}
        record = {"notes": data.notes, "warnings": data.warnings, "points": counts, "ranges": ranges}
        print_json({**record, "sha256": data.sha256})
        return
    warn(data.warnings)
    for note in data.notes:
        typer.echo(note)
    for name, points in tables.items():
        typer.echo(f"{name}: {len(points)} points")
        for column_name, (low, high) in ranges[name].items():
            typer.echo(f"  {column_name:<15} {low:.6g} .. {high:.6g}")
    typer.echo(f"sha256 {data.sha256}")


def _files(gauss_points: Path, lrb: Path | None, btb: Path | None) -> dict[str, Any]:
    """Return files as a study file names them."""
    if lrb is not None and btb is not None:
        return {"gauss_points": str(gauss_points), "lrb": str(lrb), "btb": str(btb)}
    if lrb is None and gauss_points.suffix.lower() in (".mat", ".npz"):
        return {gauss_points.suffix.lower().lstrip("."): str(gauss_points)}
    raise typer.BadParameter("give all three tables, GAUSS LRB BTB, or one .mat or .npz that holds them")


def _columns(given: list[str]) -> dict[str, str] | None:
    """Return the names of columns by ours, None where none is given."""
    wrong = [column for column in given if not all(column.partition("="))]
    if wrong:
        raise typer.BadParameter(f"--column must be OURS=THEIRS, such as x=X_pos, got {wrong[0]!r}")
    return dict(column.split("=", 1) for column in given) or None
