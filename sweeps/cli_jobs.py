"""The commands about jobs: a study handed to a back-end of `cluster`, looked at, stopped."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cluster import ClusterError, JobState, LocalExecutor

from . import api
from .cli_options import DEFAULT_ROOT, AsJson, Cpus, Root, Set, Spec, Trials, own_name, print_json
from .housekeeping import JOBS_FOLDER

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Number of the job, as `jobs` lists it.")]


class Target(StrEnum):
    """Where a submitted study runs."""

    LOCAL = "local"
    INLINE = "inline"


def submit(
    spec: Spec,
    to: Annotated[Target, typer.Option("--to", help="local: in the background of this machine; inline: here.")],
    root: Root = DEFAULT_ROOT,
    overrides: Set = None,
    trials: Trials = None,
    cpus: Cpus = None,
    as_json: AsJson = False,
) -> None:
    """Run a study as a job, in the background or here."""
    from .spec import load_spec

    study = load_spec(spec, overrides or ())  # a wrong file is refused here, not found in a log later
    handle = api.submit_file(
        spec, study.study, to.value, root=root, overrides=overrides or (), trials=trials, cpus=cpus
    )
    if as_json:
        print_json({"job": handle.id, "study": study.study, "state": handle.state().value})
    elif to is Target.LOCAL:
        at = "" if root == DEFAULT_ROOT else f" --root {shlex.quote(str(root))}"
        typer.echo(f"job {handle.id} runs study {study.study} in the background")
        typer.echo(f"  {own_name()} logs {handle.id} -f{at}\n  {own_name()} cancel {handle.id}{at}")
    raise typer.Exit(handle.exit_code() or 0)


def jobs(root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """List submitted jobs, oldest first."""
    handles = _executor(root).list()
    records = [
        {
            "job": handle.id,
            "study": handle.job.name,
            "state": handle.state().value,
            "exit_code": handle.exit_code(),
            "submitted_at": handle.submitted_at.isoformat(timespec="seconds"),
        }
        for handle in handles
    ]
    if as_json:
        print_json(records)
    elif not records:
        typer.echo(f"no job in {root}")
    for record in () if as_json else records:
        typer.echo(f"{record['job']:>4}  {record['state']:<10} {record['submitted_at']}  {record['study']}")


def logs(
    job: JobId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the job has ended.")] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Print what a job has written."""
    for piece in _executor(root).attach(job).logs(follow=follow):
        typer.echo(piece, nl=False)


def cancel(
    job: JobId,
    grace_s: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", min=0, help="Time to end well before it is killed.")
    ] = 30.0,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Stop a job; running its study again goes on from there."""
    handle = _executor(root).attach(job)
    handle.cancel(grace_s=grace_s)
    state = handle.wait(grace_s + 10)
    if as_json:
        print_json({"job": handle.id, "study": handle.job.name, "state": state.value})
    else:
        typer.echo(f"job {handle.id}: {state.value}")
    if state is JobState.RUNNING:
        raise ClusterError(f"job {handle.id} still runs; its log says more: {own_name()} logs {handle.id}")


def _executor(root: Path) -> LocalExecutor:
    """Jobs of both targets share a folder, so either back-end finds them all."""
    return LocalExecutor(root / JOBS_FOLDER)
