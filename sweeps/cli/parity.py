"""The command `parity`: where a recorded training parts from ours, or from another, and what explains it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import AsJson, Cpus, Force, bar_on_terminal, print_json, refuse_taken

if TYPE_CHECKING:
    from pinncore.parity.compare import Look

TraceFile = Annotated[Path, typer.Argument(metavar="TRACE", help="Trace of a training: .npz, .safetensors or .mat.")]


def parity(
    trace: TraceFile,
    other: Annotated[
        Path | None, typer.Argument(metavar="OTHER", help="Another trace to compare with (default: our replay).")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="State a setting of TRACE, such as adam_convention=keras. Repeatable."
        ),
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs/--no-pairs", help="Try two changes together where no single one explains it.")
    ] = True,
    study: Annotated[
        Path | None,
        typer.Option("--study", metavar="FILE", help="Write a study file that measures each convention's effect."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write an HTML page with maps and curves.")
    ] = None,
    inject: Annotated[
        Literal["gradients", "derivatives"] | None,
        typer.Option(
            "--inject",
            help="Also train with these of the trace in place of ours.",
        ),
    ] = None,
    cpus: Cpus = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Find where a recorded training parts from ours, and why.

    A trace holds what another program recorded while it trained (docs/parity.md). Exit code 0: they agree within
    rounding; 1: they part; 2: the trace cannot be used.
    """
    outputs = [file for file in (study, report) if file is not None]
    files = [file.absolute() for file in (trace, other, study, report) if file is not None]
    if outputs and len(set(files)) < len(files):
        raise typer.BadParameter("--study and --report must name files of their own")
    refuse_taken(*outputs, force=force)
    import torch

    from pinncore.disk import write_whole
    from pinncore.parity.compare import compare
    from pinncore.parity.inject import inject as train_with
    from pinncore.parity.reading import read_trace

    from ..machine import available_cpus
    from ..parity.page import write_page
    from ..parity.record import record_of
    from ..parity.study import study_text
    from ..parity.text import injection_text, text_of
    from ..query.values import json_value

    torch.set_num_threads(cpus or available_cpus())
    read = read_trace(trace, _settings(overrides or ()))
    second = None if other is None else read_trace(other)
    text = None if study is None else study_text(read)
    injection = None if inject is None else train_with(read, inject)  # before what takes long: it may be impossible
    with _progress() as look:
        comparison = compare(read, second, pairs=pairs, look=look)
    if study is not None and text is not None:
        write_whole(study.absolute(), text.encode())
    if report is not None:
        write_page(comparison, report)
    if as_json:
        more = {"injection": injection and json_value(asdict(injection)), "written": [str(file) for file in outputs]}
        print_json({**record_of(comparison), **more})
    else:
        width = shutil.get_terminal_size((80, 24)).columns
        typer.echo(text_of(comparison, width))
        if injection is not None:
            typer.echo("\n" + injection_text(injection, width))
        for file in outputs:
            typer.echo(f"wrote {file}")
    if comparison.first is not None:
        raise typer.Exit(1)


def _settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the settings of `--set KEY=VALUE`. Raises `SpecError` where one is none."""
    from ..errors import SpecError
    from ..spec.yaml_text import override

    settings: dict[str, Any] = {}
    if mistakes := override(settings, overrides):
        raise SpecError(mistakes)
    return settings


@contextmanager
def _progress() -> Iterator[Look]:
    """Yield a function that shows on stderr how far a comparison is: on a terminal only, it takes seconds."""
    with bar_on_terminal() as bar:
        if bar is None:
            yield lambda what, done, of: None
            return
        task = bar.add_task("replay", total=1.0)
        yield lambda what, done, of: bar.update(task, description=what, completed=done / max(of, 1))
