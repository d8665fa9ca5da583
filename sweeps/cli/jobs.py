"""The commands about jobs, `submit`, `jobs`, `logs`, `cancel`, and about the places that run them, `doctor`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import INLINE, LOCAL, Check, ClusterError, JobHandle, JobState, LogsNotKept

from ..jobs import places
from ..jobs.places import full_id
from ..own_name import own_name
from .errors import USER_ERROR, exit_when_output_closes
from .options import DEFAULT_ROOT, AsJson, Cpus, Root, Set, Spec, State, Trials, print_json, root_option, warn
from .printing import aligned, print_text

JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="Job as `jobs` lists it: NAME/ID, or the number of a job of this machine.")
]
JobsRoot = Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder with the jobs of this machine.")]


def submit(
    spec: Spec,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="NAME",
            help="A profile of clusters.yaml; or local: this machine, in the background; or inline: in the foreground.",
        ),
    ],
    root: Annotated[
        str | None,
        typer.Option(
            "--root", metavar="DIR|URI", help="Folder or URI of the studies there (default: that of the profile)."
        ),
    ] = None,
    overrides: Set = None,
    trials: Trials = None,
    cpus: Cpus = None,
    state: State = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be submitted.")] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Print the log until the job ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a study as a job in the background or on a cluster."""
    options: dict[str, Any] = {"trials": trials, "cpus": cpus, "state": state}
    from ..jobs.submission import prepare

    prepared = prepare(spec, to, root, overrides=overrides or (), **options)
    if dry_run:
        typer.echo(prepared.executor.preview(prepared.job))
        return
    handle = prepared.submit()
    job = full_id(to, handle)
    if as_json:
        print_json({"job": job, "study": prepared.study, "state": handle.state().value, "root": prepared.root})
    elif to != INLINE:
        at = root_option(Path(prepared.root)) if to == LOCAL else ""
        where = "in the background" if to == LOCAL else f"on {to}, into {prepared.root}"
        typer.echo(f"job {job} runs study {prepared.study} {where}")
        if not follow:
            typer.echo(f"  {own_name()} logs {job} -f{at}\n  {own_name()} cancel {job}{at}")
    if follow and to != INLINE:
        _print_log(handle, follow=True)
    raise typer.Exit(handle.exit_code() or 0 if follow or to == INLINE else 0)


def jobs(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Profiles of clusters.yaml, or local for this machine (default: all)."),
    ] = None,
    root: JobsRoot = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """List submitted jobs by place, the oldest first."""
    records = []
    for name in names or places.places():
        try:
            records += [_record(name, handle) for handle in places.place(name, root).list()]
        except ClusterError as problem:
            if names:
                raise
            warn([f"{name}: {problem}"])  # an unreachable place does not hide the others
    if as_json:
        print_json(records)
    elif not records:
        typer.echo(f"no job in {root}" if not names else f"no job on {', '.join(names)}")
    else:
        typer.echo(aligned([("job", "state", "submitted", "study"), *map(_line, records)]))


def logs(
    job: JobId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Print the log until the job ends.")] = False,
    root: JobsRoot = DEFAULT_ROOT,
) -> None:
    """Print the log of a job."""
    _print_log(places.find_job(job, root), follow=follow)


def cancel(
    job: JobId,
    grace_s: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", min=0, help="Time to save its work before it is killed.")
    ] = 30.0,
    root: JobsRoot = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Stop a job; submit its study again to resume it."""
    handle = places.find_job(job, root)
    handle.cancel(grace_s=grace_s)
    state = handle.wait(grace_s + 10)
    if as_json:
        print_json({"job": job, "study": handle.job.name, "state": state.value})
    else:
        typer.echo(f"job {job}: {state.value}")
    if not state.finished:
        raise ClusterError(f"job {job} is still {state.value}; see its log: {own_name()} logs {job}{root_option(root)}")


def doctor(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A profile of clusters.yaml, or local for this machine.")
    ] = LOCAL,
    run: Annotated[bool, typer.Option("--run", help="Also run a test job there.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Check step by step whether a place can run studies."""
    from ..jobs import doctor as doctors

    checks: list[Check] = []
    for check in doctors.check_here(str(root)) if name == LOCAL else doctors.check_profile(name, run=run):
        checks.append(check)
        if not as_json:
            print_text(f"{'NO' if check.problem else 'ok':<3} {check.what}")
    if as_json:
        print_json([{"what": check.what, "ok": not check.problem, "problem": check.problem} for check in checks])
    if checks[-1].problem:
        print_text(f"error: {checks[-1].problem}", err=True)
        raise typer.Exit(USER_ERROR)


def _record(name: str, handle: JobHandle) -> dict[str, Any]:
    return {
        "job": full_id(name, handle),
        "study": handle.job.name,
        "state": handle.state().value,
        "exit_code": handle.exit_code(),
        "submitted_at": handle.submitted_at.isoformat(timespec="seconds"),
    }


def _line(record: dict[str, Any]) -> Sequence[str]:
    submitted = datetime.fromisoformat(record["submitted_at"]).astimezone()
    return record["job"], record["state"], f"{submitted:%Y-%m-%d %H:%M:%S}", record["study"]


def _print_log(handle: JobHandle, *, follow: bool) -> None:
    if follow:
        exit_when_output_closes()
    for piece in handle.logs(follow=follow):
        typer.echo(piece, nl=False)


def job_status(job: str, root: Path) -> dict[str, Any]:
    """Return the state of a job and the last line of its log, which shows the progress of its study.

    Raises `JobNotFound` where there is no such job.
    """
    handle = places.find_job(job, root)
    record, log = _record(job.rpartition("/")[0] or LOCAL, handle), ""
    if record["state"] != JobState.PENDING:
        with contextlib.suppress(LogsNotKept):  # the job ran in the foreground
            log = "".join(handle.logs())
    return {**record, "last_line": log.rstrip().rpartition("\n")[2].strip()}


def job_status_text(status: dict[str, Any]) -> str:
    """Return the status of a job, as `job_status` returns it, as text."""
    ended = "" if status["exit_code"] is None else f", exit code {status['exit_code']}"
    text = f"job {status['job']}: {status['state']}{ended}, study {status['study']}, submitted {status['submitted_at']}"
    return f"{text}\n  {status['last_line']}" if status["last_line"] else text
