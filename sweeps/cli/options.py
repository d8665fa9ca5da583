"""The arguments and options that several commands share, and how they are read and printed."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..errors import StudyError, SweepError
from ..states import COMPLETE, FAIL
from ..storage.object_store import uri_of
from ..study import home
from ..study.home import is_study, local, studies_in
from ..study.study_file import identified, open_reader, whole_text
from .printing import print_text

if TYPE_CHECKING:
    from rich.progress import Progress

DEFAULT_ROOT = Path(home.DEFAULT_ROOT)
BAR_WIDTH: Final = 12


def study_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the studies in ROOT whose names begin so, for the shell; it completes paths itself where this is empty."""
    root = Path(ctx.params.get("root") or DEFAULT_ROOT)
    studies = studies_in(root) if uri_of(root) is None else []  # a store takes seconds
    return [study.name for study in studies if study.name.startswith(incomplete)]


def trial_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return `best` and the numbers of the finished trials of the study before, for the shell."""
    return [name for name in ("best", *_numbers(ctx, COMPLETE)) if name.startswith(incomplete)]


def failed_trial_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the numbers of the failed trials of the study before, for the shell."""
    return [name for name in _numbers(ctx, FAIL) if name.startswith(incomplete)]


def _numbers(ctx: typer.Context, state: str) -> list[str]:
    """Return the trials in a state of the study on the command line; none of a study that is not on this machine."""
    try:
        place = study_place(Path(ctx.params["study"]), Path(ctx.params.get("root") or DEFAULT_ROOT))
        if uri_of(place) is not None or identified(whole_text(place), place)[1].is_shared:
            return []  # a store or a server takes seconds
        with open_reader(place) as reader:
            return list(map(str, reader.numbers(state)))
    except (KeyError, TypeError, SweepError):  # no study yet, or none that can be read: the command will say so
        return []


Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="Study file (YAML).")]
Study = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY", help="Study: its folder or URI, or its name in --root.", autocompletion=study_names
    ),
]
SomeStudies = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="STUDY", help="Studies: folders or names (default: all in --root).", autocompletion=study_names
    ),
]
Studies = Annotated[
    list[Path],
    typer.Argument(metavar="STUDY", help="Studies: folders or URIs, or names in --root.", autocompletion=study_names),
]
Root = Annotated[
    Path, typer.Option("--root", metavar="DIR|URI", help="Folder with the studies, or their s3:// or gs:// URI.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a value of the study file, such as search.trials=8. Repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; errors as JSON on stderr.")]
Cpus = Annotated[int | None, typer.Option("--cpus", metavar="N", min=1, help="CPU cores to use (default: all).")]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT|auto", help="Ray cluster to join (default: this machine only)."),
]
State = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="DIR|URL",
        help="Folder or postgresql:// server of the study's database (default: in the study).",
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="Print progress as lines, not as a live view.")]
Trials = Annotated[
    int | None,
    typer.Option("--trials", metavar="N", min=1, help="Number of trials in all, instead of the one in the file."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist already.")]


def study_place(study: Path, root: Path) -> Path:
    """Return the place of a study given by path or by name: a folder or an object store's URI.

    Raises `StudyError` where there is no such study.
    """
    for place in (study,) if uri_of(study) else (study, root / study):
        if is_study(place):
            return place
    names = ", ".join(place.name for place in studies_in(root)) or "none"
    places = [uri_of(place) or str(place) for place in (study, root / study)]
    searched = places[0] if uri_of(study) else " or ".join(dict.fromkeys(places))
    raise StudyError(f"no study at {searched}; studies in {uri_of(root) or root}: {names}")


def study_dir(study: Path, root: Path) -> Path:
    """Return the folder of a study given by path or by name, for an object store the study's home on this machine.

    Raises `StudyError` where there is no such study.
    """
    return local(study_place(study, root))


def refuse_taken(*files: Path, force: bool) -> None:
    """Raise `StudyError` where a file to be written exists already, unless `force`, or cannot be in its place.

    Every command that writes files asks this before it does anything else.
    """
    for file in files:
        if not file.absolute().parent.is_dir():
            raise StudyError(f"there is no folder {file.absolute().parent} to write {file.name} to")
        if file.exists() and not file.is_file():
            raise StudyError(f"{file} is not a file, so it is not replaced by one")
        if file.exists() and not force:
            raise StudyError(f"{file} exists already: add --force to replace it, or give another name")


def warn(warnings: Sequence[str]) -> None:
    """Print warnings on stderr, apart from the result."""
    for warning in warnings:
        print_text(f"warning: {warning}", err=True)


def print_json(value: object) -> None:
    """Print a value as JSON; paths and dates become text."""
    typer.echo(json.dumps(value, indent=2, default=str))


@contextlib.contextmanager
def bar_on_terminal(*, quiet: bool = False, redirect_stdout: bool = True) -> Iterator[Progress | None]:
    """Yield a transient bar of progress on stderr; None where that is no terminal, or `quiet`.

    The description of its task is last, and cut with an ellipsis where the terminal is narrow.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    console = Console(stderr=True)
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        yield None
        return
    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns = (
        *(BarColumn(bar_width=BAR_WIDTH), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn(compact=True)),
        TextColumn("{task.description}", table_column=rest),
    )
    with Progress(*columns, console=console, transient=True, expand=True, redirect_stdout=redirect_stdout) as bar:
        yield bar


def root_option(root: Path) -> str:
    """Return the option `--root` that a hint needs to find jobs in `root`, empty for the default root."""
    is_default = root.absolute() == DEFAULT_ROOT.absolute()
    return "" if is_default else f" --root {shlex.quote(uri_of(root) or str(root))}"
