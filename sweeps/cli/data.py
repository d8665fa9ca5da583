"""The commands on tables: `data build` computes them, `data check` reads them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import StudyError
from .options import AsJson, Force, bar_on_terminal, print_json, refuse_taken, warn
from .printing import print_text

if TYPE_CHECKING:
    from pinncore.data.increments import IncrementTables, TableFormat
    from pinncore.fem.damage import Increment

MOST_INCREMENTS: Final = 1000  # the plate is torn by then, and the analysis still converges

# the factor by which the local strain of a table is multiplied
ElocalFactor = StrEnum("ElocalFactor", {"AUTO": "auto", "ONE": "1", "TEN": "10"})
WrittenFactor = StrEnum("WrittenFactor", {"ONE": "1", "TEN": "10"})
FileFormat = StrEnum("FileFormat", {"CSV": "csv", "NPZ": "npz", "MAT": "mat"})


def check(
    gauss_points: Annotated[
        Path, typer.Argument(metavar="GAUSS", help="The Gauss points: a table, or a .mat or .npz with all three.")
    ],
    lrb: Annotated[Path | None, typer.Argument(metavar="LRB", help="The left and right boundary nodes.")] = None,
    btb: Annotated[Path | None, typer.Argument(metavar="BTB", help="The bottom and top boundary nodes.")] = None,
    elocal_factor: Annotated[
        ElocalFactor,
        typer.Option("--elocal-factor", help="Factor in the column elocal; auto finds it."),
    ] = ElocalFactor.AUTO,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="OURS=THEIRS", help="Name of a column in the file, such as x=X_pos. Repeatable."
        ),
    ] = None,
    length: Annotated[
        str | None, typer.Option("--length", metavar="UNIT", help="Unit of lengths: mm, m, cm, um or in.")
    ] = None,
    increment: Annotated[
        int | None, typer.Option("--increment", metavar="N", help="Load increment, from 1, in a .mat.")
    ] = None,
    mesh: Annotated[str | None, typer.Option("--mesh", metavar="NAME", help="Name of the mesh in a .mat.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read tables as a study would, and print what they contain.

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
        print_text(note)
    for name, points in tables.items():
        typer.echo(f"{name}: {len(points)} points")
        for column_name, (low, high) in ranges[name].items():
            typer.echo(f"  {column_name:<15} {low:.6g} .. {high:.6g}")
    typer.echo(f"sha256 {data.sha256}")


def build(
    specimen: Annotated[str, typer.Argument(metavar="SPECIMEN", help="Specimen: strb100.")],
    increment: Annotated[
        list[int], typer.Option("--increment", metavar="N", help="Load increment to write, from 1. Repeatable.")
    ],
    mesh: Annotated[int, typer.Option("--mesh", metavar="N", help="Elements along an edge: 40, 50, 80, 100 ...")] = 40,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Folder of the files; made where there is none.")
    ] = Path(),
    formats: Annotated[
        list[FileFormat] | None,
        typer.Option("--format", metavar="csv|npz|mat", help="Format of the files (default: csv). Repeatable."),
    ] = None,
    elocal_factor: Annotated[
        WrittenFactor, typer.Option("--elocal-factor", help="Factor in the column elocal of csv files.")
    ] = WrittenFactor.ONE,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Compute reference data with finite elements.

    A plate is loaded, increment by increment, until damage spreads.

    Writes tables of the Gauss points, of the boundary nodes and of all nodes, for several increments in one pass. The
    files of an increment are written as soon as it is reached.
    """
    from pinncore.data.increments import IncrementTables, table_files, tables_name
    from pinncore.fem.damage import DamageAnalysis
    from pinncore.fem.specimens import specimen as specimen_of

    started = time.monotonic()
    analysis = DamageAnalysis(specimen_of(specimen), mesh)
    kinds: list[TableFormat] = [kind.value for kind in dict.fromkeys(formats or [FileFormat.CSV])]
    wanted, factor = _increments(increment), _written_factor(elocal_factor, kinds)
    elements = len(analysis.quads.corners)
    names = [tables_name(analysis, number) for number in wanted]
    _make_folder(output)
    refuse_taken(*(output / file for name in names for kind in kinds for file in table_files(name, kind)), force=force)
    records, notes, iterations = [], [], 0
    with _increment_progress(wanted[-1], quiet=as_json) as look:
        for reached in analysis.increments():
            look(reached)
            iterations += reached.iterations
            if reached.note:
                notes.append(reached.note)
                warn([reached.note])
            if reached.number in wanted:
                tables = IncrementTables(analysis, reached)
                files = [file for kind in kinds for file in tables.write(output, kind, elocal_factor=factor)]
                records.append(_build_record(tables, files))
                if not as_json:
                    print_text(_build_text(records[-1]))
            if reached.number == wanted[-1]:
                break
    seconds = time.monotonic() - started
    if as_json:
        about = {"specimen": specimen, "mesh": mesh, "elements": elements, "iterations": iterations, "notes": notes}
        print_json({**about, "seconds": seconds, "increments": records})
    else:
        typer.echo(f"{wanted[-1]} increments, {elements} elements, {iterations} Newton iterations, {seconds:.1f} s")


def _increments(given: list[int]) -> list[int]:
    """Return the increments to write, each once, in their order."""
    for number in given:
        if not 1 <= number <= MOST_INCREMENTS:
            raise typer.BadParameter(
                f"--increment must be from 1 to {MOST_INCREMENTS:,}, got {number}: increment 1 is the first load step"
            )
    return sorted(set(given))


def _written_factor(given: WrittenFactor, kinds: list[TableFormat]) -> int:
    """Return the factor of `elocal` in csv files; the other formats hold physical strains by their definition."""
    if given is WrittenFactor.TEN and kinds != ["csv"]:
        raise typer.BadParameter("--elocal-factor 10 is for csv: .npz and .mat files hold physical strains")
    return int(given.value)


def _make_folder(folder: Path) -> None:
    """Make the folder of the files. Raises `StudyError` now rather than after the analysis."""
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is not a folder: give another one with -o FOLDER")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StudyError(f"{folder} cannot be made ({problem.strerror}): give another folder with -o FOLDER") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StudyError(f"{folder} cannot be written to: give another folder with -o FOLDER")


def _build_record(tables: IncrementTables, files: list[Path]) -> dict[str, Any]:
    gauss, increment = tables.tables["gauss_points"], tables.increment
    columns = ("elocal", "enonlocal_true", "damage")
    return {
        "increment": increment.number,
        "load_factor": round(increment.load_factor, 12),
        "ranges": {name: (float(gauss[name].min()), float(gauss[name].max())) for name in columns},
        "equation_error": tables.equation_error,
        "files": list(map(str, files)),
    }


def _build_text(record: dict[str, Any]) -> str:
    ranges = {name: f"{low:.4g} .. {high:.4g}" for name, (low, high) in record["ranges"].items()}
    lines = [
        f"increment {record['increment']}: load factor {record['load_factor']:g}",
        *(f"  {name:<15} {text}" for name, text in ranges.items()),
        f"  enonlocal_true solves K u = F of this elocal to {record['equation_error']:.1g} of its largest value",
        *(f"  wrote {file}" for file in record["files"]),
    ]
    return "\n".join(lines)


@contextmanager
def _increment_progress(last: int, *, quiet: bool) -> Iterator[Callable[[Increment], None]]:
    """Yield a function that shows an increment in a bar on stderr; it shows nothing where that is no terminal."""
    beside_bar = sys.stdout.isatty()  # what is printed in between goes above the bar; a file gets it as it is
    with bar_on_terminal(quiet=quiet, redirect_stdout=beside_bar) as bar:
        if bar is None:
            yield lambda increment: None
            return
        task = bar.add_task(f"increment 0 of {last}", total=last)

        def show(increment: Increment) -> None:
            text = f"increment {increment.number} of {last}, load factor {increment.load_factor:.3f}"
            bar.update(
                task, completed=increment.number, description=f"{text}, Newton iterations {increment.iterations}"
            )

        yield show


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
