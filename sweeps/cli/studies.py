"""The commands on whole studies: `status`, `list`, `delete`, `compact`, `gc`."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import LOCAL, JobNotFound

from ..errors import StudyError, SweepError
from ..jobs import places
from ..own_name import own_name
from ..storage.object_store import uri_of
from ..study import housekeeping
from ..study.home import local, studies_in
from ..study.status import best_value, read_status, status_text
from . import jobs
from .options import (
    DEFAULT_ROOT,
    AsJson,
    Root,
    SomeStudies,
    Studies,
    print_json,
    root_option,
    study_dir,
    study_names,
    study_place,
    warn,
)
from .printing import aligned, print_text


def status(
    study: Annotated[
        Path | None,
        typer.Argument(
            metavar="STUDY|JOB",
            help="Study: its folder or URI, or its name in --root; or a job as `jobs` lists it (default: all studies).",
            autocompletion=study_names,
        ),
    ] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Show the progress of a study and its best trial."""
    if study is None:
        _status_of_all(root, as_json=as_json)
        return
    try:
        place = study_place(study, root)
    except StudyError as no_study:
        if not places.names_job(str(study)):
            raise
        try:
            status = jobs.job_status(str(study), root)
        except JobNotFound as no_job:
            raise StudyError(f"{no_study}; {no_job}") from None
        print_json(status) if as_json else print_text(jobs.job_status_text(status))
        return
    warn(_ambiguous(str(study), place, root))
    status = read_status(local(place))
    print_json(status) if as_json else print_text(status_text(status))


def _ambiguous(name: str, place: Path, root: Path) -> list[str]:
    """Return a warning where a study and a job have the same name, else nothing."""
    if not places.names_job(name):
        return []
    how = "run this command in another folder"
    if "/" not in name:
        try:
            places.find_job(name, root)
        except JobNotFound:
            return []
        how = f"{own_name()} status {LOCAL}/{name}{root_option(root)}"
    return [f"this is the status of the study {place}. For the job of the same name: {how}"]


def _status_of_all(root: Path, *, as_json: bool) -> None:
    states = [_status_or_error(folder) for folder in studies_in(root)]
    if as_json:
        print_json(states)
    else:
        print_text("\n".join(map(status_text, states)) or f"no study in {uri_of(root) or root}")


def _status_or_error(folder: Path) -> dict[str, Any]:
    """Return the status of a study, or its error: a damaged study must not hide the others."""
    try:
        return read_status(local(folder))
    except SweepError as error:
        return {"study": folder.name, "error": str(error)}


def list_studies(root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """List studies with their trials, best value and size."""
    studies = [housekeeping.overview(folder) for folder in studies_in(root)]
    if as_json:
        print_json(studies)
    elif studies:
        heads = ("study", "trials", "failed", "best", "size", "last change", "run by")
        typer.echo(aligned([heads, *map(_line, studies)]))
    else:
        typer.echo(f"no study in {uri_of(root) or root}")


def _line(study: Mapping[str, Any]) -> Sequence[str]:
    changed = datetime.datetime.fromisoformat(study["changed_at"]).astimezone()
    size, when = _size(study["bytes"]), f"{changed:%Y-%m-%d %H:%M}"
    if "error" in study:
        return study["study"], "?", "", "", size, when, str(study["error"]).splitlines()[0]
    counts, best = study["counts"], study["best"]
    done = f"{counts['COMPLETE'] + counts['PRUNED'] + study['failures']}/{study['limit']}"
    value = f"{study['objective'].partition(',')[0]} {best_value(study)}" if best else ""
    return study["study"], done, str(study["failures"] or ""), value, size, when, study["held_by"] or ""


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def delete(
    studies: Studies,
    root: Root = DEFAULT_ROOT,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove studies with all their results for good."""
    folders = list(dict.fromkeys(_deletable(study, root) for study in studies))
    if not yes:
        if not sys.stdin.isatty():
            raise StudyError("delete asks for confirmation, which needs a terminal: add --yes")
        for folder in folders:
            overview = housekeeping.overview(folder)
            trials = sum(overview["counts"].values()) if "counts" in overview else "unknown"
            typer.echo(f"{folder}: {trials} trials, {_size(overview['bytes'])}", err=True)
        if not typer.confirm("Remove for good?", err=True):
            typer.echo("nothing was removed", err=True)
            return
    kept = {folder: housekeeping.delete(folder) for folder in folders}
    if as_json:
        print_json([{"study": folder.name, "path": str(folder), "stays": text} for folder, text in kept.items()])
    else:
        typer.echo("\n".join(f"removed {folder}" for folder in folders))
    warn([text for text in kept.values() if text])


def _deletable(study: Path, root: Path) -> Path:
    folder = study if study.is_dir() else study_dir(study, root)
    housekeeping.refuse_deletion(folder)
    return folder


def gc(
    studies: SomeStudies = None,
    root: Root = DEFAULT_ROOT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old checkpoints, unfinished files and old jobs."""
    from ..study import cleaning

    removed: list[tuple[str, cleaning.Waste]] = []  # the name of a study, empty for jobs, and a piece of waste
    skipped = []
    for folder in [study_dir(study, root) for study in studies or ()] or studies_in(root):
        try:
            removed += [(folder.name, waste) for waste in cleaning.collect(local(folder), dry_run=dry_run)]
        except StudyError as error:
            if studies:
                raise
            skipped.append(str(error))
    if not studies and uri_of(root) is None:
        removed += [("", waste) for waste in cleaning.collect_jobs(root, dry_run=dry_run)]
    if as_json:
        records = [
            {"study": name or None, "what": w.what, "path": str(w.path), "bytes": w.bytes} for name, w in removed
        ]
        print_json({"removed": not dry_run, "waste": records, "skipped": skipped})
        return
    warn(skipped)
    for name, what in dict.fromkeys((name, waste.what) for name, waste in removed):
        sizes = [waste.bytes for other, waste in removed if (other, waste.what) == (name, what)]
        typer.echo(f"{name or root}: {what}: {len(sizes)}, {_size(sum(sizes))}")
    total = _size(sum(waste.bytes for _, waste in removed))
    typer.echo(f"{'would remove' if dry_run else 'removed'} {total}" if removed else "nothing to remove")


def compact(studies: Studies, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Merge the many small files of the result tables into a few.

    A run does this at its end, too. The rows stay the same, and whoever reads the tables meanwhile sees each row once.
    """
    from ..study import cleaning

    folders = [study_dir(study, root) for study in studies]
    compacted = {folder: cleaning.compact(folder) for folder in folders}
    if as_json:
        print_json(
            [{"study": path.name, "before": files.before, "after": files.after} for path, files in compacted.items()]
        )
        return
    for path, files in compacted.items():
        typer.echo(f"{path.name}: {files.before:,} table files merged into {files.after:,}")
