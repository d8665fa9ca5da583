"""The command `pinnsweep`: arguments in, text or JSON out; what it does is done by the modules it calls.

Exit codes: 0 done, 1 finished with failed trials, 2 usage or study file wrong, 130 interrupted. Heavy libraries are
imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shlex
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import cli_bench, cli_jobs
from .cli_errors import INTERRUPTED, Commands
from .cli_options import (
    DEFAULT_ROOT,
    AsJson,
    Cpus,
    Root,
    Set,
    Spec,
    Studies,
    Study,
    Trials,
    own_name,
    print_json,
    study_dir,
    study_dirs,
    warn,
)
from .errors import SweepError

app = typer.Typer(
    name="pinnsweep",
    cls=Commands,
    help="Sweeps of physics-informed neural networks: trained in packs, resumable, results as plain tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data", help="Data tables of your own.")


class Format(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class ElocalFactor(StrEnum):
    """What the local strain of a table is multiplied by."""

    AUTO = "auto"
    ONE = "1"
    TEN = "10"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pinnsweep {importlib.metadata.version('pinnsweep')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    target: Annotated[Path, typer.Argument(metavar="SPEC|STUDY_DIR", help="Study file, or folder of a study.")],
    root: Root = DEFAULT_ROOT,
    overrides: Set = None,
    trials: Trials = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDR", help="Ray cluster to join (default: this machine).")
    ] = None,
    cpus: Cpus = None,
    plain: Annotated[bool, typer.Option("--plain", help="Progress as plain lines, not as a live view.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the trials of a study, or go on where it stopped."""
    from .driver import run as run_study

    # With --json, stdout is for the result alone: progress goes to stderr.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        outcome = run_study(
            target,
            root=root,
            overrides=overrides or (),
            trials=trials,
            address=address,
            cpus=cpus,
            plain=plain or as_json,
        )
    if as_json:
        print_json(
            {
                "exit_code": outcome.exit_code,
                "study_dir": str(outcome.study_dir),
                "counts": outcome.counts,
                "best": outcome.best,
            }
        )
    else:
        _print_next(outcome.exit_code, outcome.study_dir)
    raise typer.Exit(outcome.exit_code)


def _print_next(exit_code: int, study_dir: Path) -> None:
    command, study = own_name(), shlex.quote(str(study_dir))
    if exit_code == INTERRUPTED and (study_dir / "study.yaml").is_file():
        typer.echo(f"Interrupted. To go on where it stopped:\n  {command} run {study}")
        return
    if exit_code == INTERRUPTED:
        typer.echo("Interrupted before the study began. To begin it, run the same command again")
        return
    typer.echo("Next:")
    typer.echo(f"  {command} top {study}")
    typer.echo(f'  {command} query {study} "SELECT state, count(*), min(rel_l2) FROM trials GROUP BY state"')
    typer.echo(f"  {command} report {study}")


@app.command()
def validate(spec: Spec, overrides: Set = None, as_json: AsJson = False) -> None:
    """Check a study file: every mistake at once."""
    from .spec import load_spec

    study = load_spec(spec, overrides or ())
    if as_json:
        print_json({"study": study.study, "warnings": study.warnings, "spec_hash": study.sha256()})
        return
    warn(study.warnings)
    trials = study.search.trials or "all"
    swept = ", ".join(study.space) or "nothing"
    typer.echo(f"{spec}: valid. Study {study.study}, {trials} trials by {study.search.sampler}, sweeping {swept}.")


@app.command()
def plan(
    spec: Spec,
    overrides: Set = None,
    cpus: Cpus = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate/--no-calibrate", help="Time a few evaluations on this machine.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Estimate memory and time; nothing is trained or written."""
    from dataclasses import asdict

    from . import plan as planning
    from .machine import available_cpus
    from .spec import load_spec

    study = load_spec(spec, overrides or ())
    estimate = planning.plan(study, cpus=cpus or available_cpus(), calibrate=calibrate)
    if as_json:
        print_json(asdict(estimate))
        return
    warn(study.warnings)
    typer.echo(planning.render(estimate))


@app.command()
def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from .spec import json_schema

    print_json(json_schema())


@app.command()
def status(
    study: Annotated[Path | None, typer.Argument(metavar="[STUDY]", help="Default: all studies in ROOT.")] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Say how far a study is, and which trial is best."""
    folder = study_dir(study, root) if study else None
    from .study import read_status

    if folder:
        found = read_status(folder)
        if as_json:
            print_json(found)
        else:
            typer.echo(_status_text(found))
        return
    all_found = [_status_or_error(folder) for folder in study_dirs(root)]
    if as_json:
        print_json(all_found)
    elif all_found:
        typer.echo("\n".join(map(_status_text, all_found)))
    else:
        typer.echo(f"no study in {root}")


def _status_or_error(folder: Path) -> dict[str, Any]:
    """One damaged study must not hide the others."""
    from .study import read_status

    try:
        return read_status(folder)
    except SweepError as error:
        return {"study": folder.name, "error": str(error)}


def _status_text(status: Mapping[str, Any]) -> str:
    if "error" in status:
        return f"{status['study']}: {status['error']}"
    counts = ", ".join(f"{number} {state.lower()}" for state, number in status["counts"].items() if number)
    lines = [f"{status['study']}: {status['limit']} trials ({counts or 'none started'})"]
    if best := status["best"]:
        params = ", ".join(f"{name} {_short(value)}" for name, value in best["params"].items())
        lines.append(f"  best {status['objective']} {_short(best['value'])}: trial {best['trial']} ({params})")
    if status.get("held_by"):
        lines.append(f"  being run by {status['held_by']}")
    return "\n".join(lines)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def query(
    studies: Studies,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT over trials, curves, fields, weights, events.")],
    root: Root = DEFAULT_ROOT,
    output: Annotated[Format, typer.Option("--format", help="How the answer is printed.")] = Format.TABLE,
    as_json: AsJson = False,
) -> None:
    """Ask the result tables of studies in SQL, read-only."""
    folders = [study_dir(study, root) for study in studies]
    from . import query as querying

    answer = querying.query(folders, sql)
    typer.echo(querying.render(answer, "json" if as_json else output.value))


@app.command()
def top(
    studies: Studies,
    number: Annotated[int, typer.Option("-n", min=1, help="How many trials.")] = 10,
    by: Annotated[str | None, typer.Option("--by", metavar="METRIC", help="Column (default: the objective).")] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """List the best trials with their swept values."""
    folders = [study_dir(study, root) for study in studies]
    from . import query as querying

    best = querying.top(folders, n=number, by=by)
    typer.echo(querying.render(best, "json" if as_json else "table"))


@app.command()
def report(
    study: Study,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: report.html in the study.")
    ] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Write a study's report, one self-contained HTML page."""
    folder = study_dir(study, root)
    from .report import write_report

    typer.echo(write_report(folder, out))


@data_app.command()
def check(
    gauss_points: Annotated[Path, typer.Argument(metavar="GAUSS", help="CSV of the Gauss points.")],
    lrb: Annotated[Path, typer.Argument(metavar="LRB", help="CSV of the left and right boundary nodes.")],
    btb: Annotated[Path, typer.Argument(metavar="BTB", help="CSV of the bottom and top boundary nodes.")],
    elocal_factor: Annotated[
        ElocalFactor, typer.Option("--elocal-factor", help="Factor the tables' elocal carries; auto finds it.")
    ] = ElocalFactor.AUTO,
    as_json: AsJson = False,
) -> None:
    """Read three tables and say what was found.

    Units, factor of ten, ranges and hash, read as a study would read them.
    """
    from pinncore.data import load_data

    factor = elocal_factor.value if elocal_factor is ElocalFactor.AUTO else int(elocal_factor.value)
    paths = {"gauss_points": str(gauss_points), "lrb": str(lrb), "btb": str(btb)}
    data = load_data({**paths, "elocal_factor": factor})
    tables = {"gauss_points": data.gauss, "lrb": data.lrb, "btb": data.btb}
    ranges = {
        name: {column: (float(values.min()), float(values.max())) for column, values in points.columns.items()}
        for name, points in tables.items()
    }
    if as_json:
        counts = {name: len(points) for name, points in tables.items()}
        print_json({"notes": data.notes, "points": counts, "ranges": ranges, "sha256": data.sha256})
        return
    for note in data.notes:
        typer.echo(note)
    for name, points in tables.items():
        typer.echo(f"{name}: {len(points)} points")
        for column, (low, high) in ranges[name].items():
            typer.echo(f"  {column:<15} {low:.6g} .. {high:.6g}")
    typer.echo(f"sha256 {data.sha256}")


for _command in (cli_jobs.submit, cli_jobs.jobs, cli_jobs.logs, cli_jobs.cancel, cli_bench.bench):
    app.command()(_command)


def main() -> None:
    """Entry point of the console command."""
    app()


if __name__ == "__main__":
    main()
