"""The commands that train a study or stop its training: `run`, `extend`, `retry`, `stop`."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ..machine import process_age_s
from ..own_name import own_name
from ..study import requests
from ..study.study_file import SPEC_FILE
from .errors import INTERRUPTED
from .options import (
    DEFAULT_ROOT,
    Address,
    AsJson,
    Cpus,
    Plain,
    Root,
    Set,
    State,
    Study,
    Trials,
    failed_trial_names,
    print_json,
    study_dir,
)

if TYPE_CHECKING:
    from ..runner.driver import RunOutcome


def run(
    target: Annotated[
        Path, typer.Argument(metavar="SPEC|FOLDER", help="Study file (YAML), or folder of a study to resume.")
    ],
    root: Root = DEFAULT_ROOT,
    overrides: Set = None,
    trials: Trials = None,
    new_study: Annotated[
        str | None,
        typer.Option("--new-study", metavar="NAME", help="Start a new study of this name, as --set study=NAME does."),
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option(
            "--branch",
            metavar="NAME",
            help="Start a new study of this name with those trials of the old one that fit it.",
        ),
    ] = None,
    state: State = None,
    address: Address = None,
    cpus: Cpus = None,
    plain: Plain = False,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", hidden=True)
    ] = None,  # for jobs: the files submitted with it
    as_json: AsJson = False,
) -> None:
    """Train the trials of a study, or resume where they stopped."""
    if inputs is not None:
        from ..jobs.bundle import unpack

        unpack(inputs, root)
    if new_study and branch:
        raise typer.BadParameter(
            "--new-study and --branch exclude each other: --new-study reuses no trials, --branch does"
        )
    changes = list(overrides or ())
    changes += [requests.kept_in(state)] if state else []
    changes += [requests.named(new_study)] if new_study else []
    changes += requests.branched(target, branch, root=root, overrides=changes) if branch else []
    options: dict[str, Any] = {"root": root, "overrides": changes, "trials": trials, "address": address, "cpus": cpus}
    _train(target, plain=plain, as_json=as_json, **options)


def extend(
    study: Study,
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="Number of trials to add.")],
    root: Root = DEFAULT_ROOT,
    address: Address = None,
    cpus: Cpus = None,
    plain: Plain = False,
    as_json: AsJson = False,
) -> None:
    """Add trials to a study and train them."""
    folder = study_dir(study, root)
    trials = requests.more_trials(folder, number)
    _train(folder, plain=plain, as_json=as_json, root=root, trials=trials, address=address, cpus=cpus)


def retry(
    study: Study,
    trials: Annotated[
        list[int] | None,
        typer.Argument(
            metavar="TRIAL",
            help="Numbers of failed trials (default: all that were not retried).",
            autocompletion=failed_trial_names,
        ),
    ] = None,
    root: Root = DEFAULT_ROOT,
    address: Address = None,
    cpus: Cpus = None,
    plain: Plain = False,
    as_json: AsJson = False,
) -> None:
    """Train the failed trials of a study again."""
    folder = study_dir(study, root)
    failed = requests.to_retry(folder, trials or ())
    _train(folder, plain=plain, as_json=as_json, root=root, retry=failed, address=address, cpus=cpus)


def _train(target: Path, *, plain: bool, as_json: bool, **options: Any) -> NoReturn:
    """Run a study and exit with its exit code."""
    began = time.monotonic() - process_age_s()
    # With --json, only the result goes to stdout: progress goes to stderr.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        if sys.stdout.isatty():
            print(f"reading {target}", flush=True)  # the imports below take a second
        from ..runner.driver import run as run_study

        leave = functools.partial(_exit_at_once, as_json=as_json)
        outcome = run_study(target, plain=plain or as_json, began=began, leave=leave, **options)
    _print_outcome(outcome, as_json=as_json)
    raise typer.Exit(outcome.exit_code)


def _exit_at_once(outcome: RunOutcome, *, as_json: bool) -> NoReturn:
    """Exit without cleaning up: the Ray cluster is lost, and Ray would wait for it and then abort."""
    _print_outcome(outcome, as_json=as_json)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(outcome.exit_code)


def _print_outcome(outcome: RunOutcome, *, as_json: bool) -> None:
    folder, command, study = outcome.study_dir, own_name(), shlex.quote(str(outcome.study_dir))
    if as_json:
        record = {"exit_code": outcome.exit_code, "study_dir": str(folder)}
        print_json({**record, "counts": outcome.counts, "best": outcome.best and asdict(outcome.best)})
    elif outcome.exit_code == INTERRUPTED and (folder / SPEC_FILE).is_file():
        typer.echo(f"Interrupted. To resume:\n  {command} run {study}")
    elif outcome.exit_code == INTERRUPTED:
        typer.echo("Interrupted before the study began. Run the same command again to start it")
    else:
        typer.echo("Next:")
        if outcome.exit_code and outcome.counts.get("FAIL"):
            typer.echo(f"  {command} retry {study}")
        typer.echo(f"  {command} top {study}")
        typer.echo(f'  {command} query {study} "SELECT state, count(*), avg(seconds) FROM trials GROUP BY state"')
        typer.echo(f"  {command} report {study}")


def stop(
    study: Study,
    root: Root = DEFAULT_ROOT,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the study has stopped.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop a running study after it has saved its work."""
    folder = study_dir(study, root)
    holder = requests.stop(folder, wait=wait)
    if as_json:
        print_json({"study": folder.name, "held_by": holder, "stopped": wait})
    elif wait:
        typer.echo(f"{folder.name}: {holder} has stopped. To resume:\n  {own_name()} run {shlex.quote(str(folder))}")
    else:
        typer.echo(f"{folder.name}: {holder} is finishing and saving the current step, then it stops")
