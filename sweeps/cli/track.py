"""The command that sends the finished trials of a study to trackers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import StudyError
from .options import DEFAULT_ROOT, AsJson, Root, Study, bar_on_terminal, print_json, study_dir

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec


def track(
    study: Study,
    to: Annotated[
        Literal["tensorboard", "mlflow", "wandb"] | None,
        typer.Option("--to", help="Tracker (default: those of the study file)."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="tensorboard: folder of the event files.")
    ] = None,
    uri: Annotated[str | None, typer.Option("--uri", metavar="URI", help="mlflow: tracking URI.")] = None,
    experiment: Annotated[
        str | None, typer.Option("--experiment", metavar="NAME", help="mlflow: experiment (default: the study).")
    ] = None,
    project: Annotated[str | None, typer.Option("--project", metavar="NAME", help="wandb: project.")] = None,
    entity: Annotated[str | None, typer.Option("--entity", metavar="NAME", help="wandb: user or team.")] = None,
    mode: Annotated[Literal["online", "offline"] | None, typer.Option("--mode", help="wandb: mode.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Send every trial, also those that were sent before.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Send finished trials to TensorBoard, MLflow or W&B.

    Each trial is sent once; what was sent is noted in the study's folder. Options replace those of the study file.
    """
    given = {"folder": folder and str(folder.absolute()), "uri": uri, "experiment": experiment}
    given |= {"project": project, "entity": entity, "mode": mode}
    place = study_dir(study, root)
    spec = _spec(place, to, {name: value for name, value in given.items() if value is not None})
    names = [to] if to else list(spec.track.chosen)
    records = [_sent(spec, place, name, again=again, quiet=as_json) for name in names]
    if as_json:
        print_json(records)
        return
    for record in records:
        before = f", {record['before']} were sent before" if record["before"] else ""
        typer.echo(f"{record['tracker']}: {record['sent']} runs sent to {record['place']}{before}")


def _sent(spec: StudySpec, folder: Path, name: str, *, again: bool, quiet: bool) -> dict[str, Any]:
    """Send a study to one tracker, with a bar of progress, and return the record of it."""
    from ..trackers.once import send_once

    with bar_on_terminal(quiet=quiet) as bar:
        task = None if bar is None else bar.add_task(f"sending to {name}", total=None)

        def show(done: int, total: int) -> None:
            if bar is not None and task is not None:
                bar.update(task, completed=done, total=total)

        return send_once(spec, folder, name, again=again, show=show)


def _spec(folder: Path, to: str | None, given: Mapping[str, Any]) -> StudySpec:
    """Return the study with the trackers that are asked for. Raises `StudyError` where there is none."""
    from ..spec.sections import TrackSettings
    from ..study.loading import read_spec

    spec = read_spec(folder)
    if to is None:
        if given:
            raise typer.BadParameter(f"--{next(iter(given))} needs --to, the tracker that it is for")
        if not spec.track.chosen:
            raise StudyError(f"{folder}: its study file names no tracker. Name one: --to tensorboard, mlflow or wandb")
        return spec
    keys = TrackSettings.model_fields[to].annotation.model_fields  # type: ignore[union-attr]
    if wrong := [name for name in given if name not in keys]:
        raise typer.BadParameter(f"--{wrong[0]} is not for {to}, whose options are --{', --'.join(keys)}")
    changes = [] if to in spec.track.chosen else [f"track.{to}={{}}"]
    changes += [f"track.{to}.{name}={json.dumps(value)}" for name, value in given.items()]
    return read_spec(folder, changes) if changes else spec
