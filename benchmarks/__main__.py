"""The command `python -m benchmarks`; it prints tables or JSON."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli.errors import Command
from sweeps.cli.options import AsJson, print_json

from .evaluators.base import RIVALS
from .options import BenchError, Options, read_counts, read_dtypes, read_parts, read_rivals, read_shapes
from .run import Report, run_benchmark
from .tables import render

app = typer.Typer(
    name="benchmarks",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Parts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PART",
        help="a: loss and gradient; b: L-BFGS iteration; c: whole trial; d: sweep of short trials; e: other equations; "
        "f: two formulations; floor: share of the multiply-adds; gpu: packs on a GPU; kernels: machine code for GPUs "
        "(default: all).",
        show_default=False,
    ),
]


@app.command(cls=Command)
def bench(
    parts: Parts = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Take minutes instead of an hour; the figures are not to be quoted.")
    ] = False,
    repeats: Annotated[
        int | None,
        typer.Option("--repeats", metavar="N", min=1, help="Samples per contender (default: 5; c, d: 1)."),
    ] = None,
    threads: Annotated[str | None, typer.Option("--threads", metavar="LIST", help="Thread counts: 1,2.")] = None,
    shapes: Annotated[
        str | None, typer.Option("--shapes", metavar="LIST", help="Hidden layers x units: 8x8,2x16,16x16,3x32.")
    ] = None,
    dtypes: Annotated[str | None, typer.Option("--dtypes", metavar="LIST", help="float32,float64.")] = None,
    packs: Annotated[str | None, typer.Option("--packs", metavar="LIST", help="Members at once: 1,4,16.")] = None,
    pairs: Annotated[str | None, typer.Option("--pairs", metavar="LIST", help="Part b: 500,2000,5000.")] = None,
    rivals: Annotated[
        str | None, typer.Option("--rivals", metavar="LIST", help="Part a: slides,deepxde,jinns,jinns_jvp,jax.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", metavar="NAME", help="Engine of pinnsweep.")] = "auto",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write FILE: JSON if .json, else tables.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time this project and its alternatives on one machine.

    All contenders get the same points, weights, precision and threads; those with another answer are not timed.
    """
    if output is not None and not output.absolute().parent.is_dir():
        raise BenchError(f"--output: the folder of {output} does not exist")
    if output is not None and output.is_dir():
        raise BenchError(f"--output: must be a file, but {output} is a folder")
    options = Options(
        parts=read_parts(parts or ()),
        quick=quick,
        repeats=repeats,
        threads=read_counts("--threads", threads, most=1024),
        shapes=read_shapes(shapes),
        dtypes=read_dtypes(dtypes),
        packs=read_counts("--packs", packs, most=1024),
        pairs=read_counts("--pairs", pairs, most=100_000),
        rivals=read_rivals(rivals, RIVALS),
        engine=engine,
    )

    def keep(report: Report) -> None:
        if output is not None:
            text = json.dumps(report.as_json(), indent=2) if output.suffix == ".json" else render(report)
            output.write_text(text + "\n")

    report = run_benchmark(options, say=lambda line: typer.echo(line, err=True), keep=keep)
    if as_json:
        print_json(report.as_json())
    else:
        typer.echo(render(report, width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None))


if __name__ == "__main__":
    app()
