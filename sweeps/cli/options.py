"""The arguments and options that several commands share, and what they are turned into."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..errors import StudyError
from ..storage.object_store import uri_of
from ..study.home import is_study, local, studies_in

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="Study file (YAML).")]
Study = Annotated[Path, typer.Argument(metavar="STUDY", help="Study folder or URI, or the name of a study in ROOT.")]
SomeStudies = Annotated[
    list[Path] | None, typer.Argument(metavar="[STUDY]...", help="Study folders or names (default: all in ROOT).")
]
Studies = Annotated[list[Path], typer.Argument(metavar="STUDY", help="Study folders, or names of studies in ROOT.")]
Root = Annotated[
    Path, typer.Option("--root", metavar="DIR|URI", help="Folder, s3:// or gs:// prefix that holds the studies.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the study file: search.trials=8. Repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; errors too, on stderr.")]
Cpus = Annotated[int | None, typer.Option("--cpus", metavar="N", min=1, help="CPU cores to use (default: all).")]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT|auto", help="Ray cluster to join (default: none but this machine)."),
]
Plain = Annotated[bool, typer.Option("--plain", help="Progress as plain lines, not as a live view.")]
Trials = Annotated[
    int | None, typer.Option("--trials", metavar="N", min=1, help="Trials altogether, instead of the file's number.")
]
DEFAULT_ROOT = Path("runs")


def study_place(study: Path, root: Path) -> Path:
    """Where a study is that is given by path or by name, which may be in an object store. Raises `StudyError`."""
    for place in (study,) if uri_of(study) else (study, root / study):
        if is_study(place):
            return place
    known = ", ".join(place.name for place in studies_in(root)) or "none"
    places = [uri_of(place) or str(place) for place in (study, root / study)]
    looked = places[0] if uri_of(study) else " or ".join(dict.fromkeys(places))
    raise StudyError(f"no study at {looked}; studies in {uri_of(root) or root}: {known}")


def study_dir(study: Path, root: Path) -> Path:
    """The folder of a study given by path or by name, of one in an object store its home here. Raises `StudyError`."""
    return local(study_place(study, root))


def warn(warnings: Sequence[str]) -> None:
    """Print warnings where they do not mix with the answer."""
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def print_json(value: object) -> None:
    """Print a value as JSON, paths and dates as text."""
    typer.echo(json.dumps(value, indent=2, default=str))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words as columns, the first row their names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def root_option(root: Path) -> str:
    """The option that finds this machine's jobs in a root, where that is not the usual one."""
    is_usual = root.absolute() == DEFAULT_ROOT.absolute()
    return "" if is_usual else f" --root {shlex.quote(uri_of(root) or str(root))}"
