"""The commands on one trial: `show`, `retrain`, `predict`, `weights`, `error-budget`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from pinncore.settings import EngineName

from .options import (
    DEFAULT_ROOT,
    AsJson,
    Force,
    Root,
    Study,
    bar_on_terminal,
    print_json,
    refuse_taken,
    study_place,
    trial_names,
    warn,
)
from .printing import print_text

if TYPE_CHECKING:
    import pinncore

    from ..storage.object_store import Remote
    from ..trial.retrain import Look, Retrained

PLAIN_INTERVAL_S: Final = 5.0

Trial = Annotated[
    str, typer.Argument(metavar="TRIAL", help="Number of the trial, or best.", autocompletion=trial_names)
]
Replicate = Annotated[int, typer.Option("--replicate", metavar="R", min=0, help="Number of the replicate (seed).")]
WeightsFormat = Literal["npz", "safetensors", "state_dict", "onnx"]


def show(
    study: Study,
    trial: Trial,
    replicate: Annotated[
        int | None, typer.Option("--replicate", metavar="R", min=0, help="Show one replicate only (default: all).")
    ] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Show everything about one trial."""
    place, number = _place(study, root, trial)
    from ..query.values import json_value
    from ..storage.stored_problem import read_problem
    from ..trial import show

    record, problem = show.about_trial(place, number, replicate), read_problem(place).record
    print_json(json_value(record)) if as_json else print_text(show.text(record, problem))


def retrain(
    study: Study,
    trial: Trial,
    replicate: Replicate = 0,
    engine: Annotated[
        EngineName | None,
        typer.Option(
            "--engine",
            help="Engine (default: the one it was trained with).",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write the network to this .npz, .safetensors, .pt or .onnx file."
        ),
    ] = None,
    force: Force = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Train one trial again, alone, and compare the numbers.

    The study is not changed. Exit code 0: the numbers are the same, bit for bit; 1: they differ.
    """
    place, number = _place(study, root, trial)
    from pinncore import weight_files

    from ..trial import retrain

    if output is not None:
        weight_files.format_of(output)
        refuse_taken(output, force=force)
    with _progress() as look:
        retrained = retrain.retrain(place, number, replicate, engine=engine, look=look)
    is_written = output is not None and _write_network(place, retrained, output)
    if as_json:
        print_json(_record(place, number, retrained, output if is_written else None))
    else:
        print_text(retrain.text(place, number, retrained))
        if is_written:
            typer.echo(f"wrote {output}")
    if not retrained.same:
        raise typer.Exit(1)


def predict(
    study: Study,
    trial: Trial,
    points: Annotated[
        Path,
        typer.Argument(
            metavar="POINTS",
            help="Table with a column for each input of the network, such as x_mm.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write to this .csv, .json, .parquet, .arrow or .xlsx file (default: CSV on stdout).",
        ),
    ] = None,
    force: Force = False,
    replicate: Replicate = 0,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Mean and standard deviation over the replicates.")
    ] = False,
    gradient: Annotated[
        bool, typer.Option("--gradient", help="Add the derivatives with respect to the coordinates.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Evaluate a trained network on a table of points.

    Inputs and prediction are physical; docs/trials.md and the error for a missing column name the columns and units.
    """
    place, number = _place(study, root, trial)
    from ..inputs.opening import open_table
    from ..query.files import format_of, write_file
    from ..query.text import render
    from ..trial import predict
    from ..trial.tables import TrialReader

    if ensemble and replicate:
        raise typer.BadParameter("--ensemble and --replicate exclude each other: --ensemble takes all replicates")
    if output is not None:
        format_of(output)
        refuse_taken(output, force=force)
    table = open_table(str(points))
    reader = TrialReader.of(place)
    replicates = predict.members(reader.rows(number)) if ensemble else [replicate]
    networks = [reader.network(number, one) for one in replicates]
    predicted = predict.predict(networks, table, gradient=gradient)
    warn(predict.warnings(networks, table, predicted))
    if output is None:
        typer.echo(render(predicted, "json" if as_json else "csv", as_written=True))
        return
    write_file(output, format_of(output), predicted.schema, predicted.to_batches(), as_written=True)
    if as_json:
        outside = sum(predicted["extrapolated"].to_pylist())
        print_json({"file": str(output), "points": len(predicted), "extrapolated": outside, "replicates": replicates})
    else:
        typer.echo(f"wrote {output}: {len(predicted)} points")


def weights(
    study: Study,
    trial: Trial,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Write to this .npz, .safetensors, .pt or .onnx file."),
    ],
    file_format: Annotated[
        WeightsFormat | None,
        typer.Option(
            "--format",
            help="Format (default: by the name of FILE).",
        ),
    ] = None,
    force: Force = False,
    epoch: Annotated[
        int | None,
        typer.Option("--epoch", metavar="E", min=0, help="The weights kept at this epoch (default: the final ones)."),
    ] = None,
    replicate: Replicate = 0,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Write a trained network to a file for other programs."""
    place, number = _place(study, root, trial)
    from pinncore import weight_files

    from ..trial.tables import TrialReader, described

    file_format = file_format or weight_files.format_of(output)
    refuse_taken(output, force=force)
    reader = TrialReader.of(place)
    network = reader.network(number, replicate, epoch=epoch)
    metadata = described(place, reader.row(number, replicate), epoch=epoch)
    chosen = weight_files.write_network(network, output, file_format, metadata=metadata)
    if as_json:
        print_json({"file": str(output), "format": chosen, **metadata, **weight_files.about(network)})
    else:
        layers = "-".join(map(str, network.layers))
        typer.echo(f"wrote {output}: {chosen}, {layers}, {len(network.parameters)} parameters")


def error_budget(
    study: Study,
    trial: Trial,
    replicate: Replicate = 0,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Say what the error of one trial is due to.

    Fits the network to the reference, and minimises the loss exactly where the equation is linear; this takes some
    seconds. The result is kept in the study's folder for its report.
    """
    place, number = _place(study, root, trial)
    from ..trial import error_budget

    with _progress() as look:
        row, record = error_budget.budget_of(place, number, replicate, look=look)
    if error_budget.keep(place, row, record) is None:
        warn([f"the report cannot show this: the folder of {place} cannot be written to"])
    if as_json:
        print_json({"study": str(place), "trial": row["trial"], "replicate": row["replicate"], **record})
    else:
        print_text(error_budget.text(place.name, row, record))


def _place(study: Path, root: Path, trial: str) -> tuple[Path | Remote, int]:
    """Return where a study is and the number of one of its trials. Raises `StudyError` where there is no such study."""
    from ..query.query import place_of, trial_number

    place = place_of(study_place(study, root))
    return place, trial_number(place, trial)


def _write_network(place: Path | Remote, retrained: Retrained, output: Path) -> bool:
    """Write the retrained network unless the training failed; return whether it was written."""
    from pinncore import weight_files

    from ..trial.tables import described

    if retrained.result is None or retrained.failure is not None:
        warn([f"{output} was not written: the training failed"])
        return False
    import pinncore

    network = pinncore.TrainedNetwork(retrained.problem, retrained.settings, retrained.result.parameters)
    outcome = {"state": retrained.state, "rel_l2": retrained.result.metrics.get("rel_l2")}
    weight_files.write_network(network, output, metadata=described(place, retrained.row) | outcome)
    return True


def _record(place: Path | Remote, trial: int, retrained: Retrained, output: Path | None) -> dict[str, Any]:
    from dataclasses import asdict

    from ..query.values import json_value

    differences = [{**asdict(end), "relative": end.relative} for end in retrained.ends]
    record = {
        "study": str(place),
        "trial": trial,
        "replicate": retrained.row["replicate"],
        "same": retrained.same,
        "state": {"stored": retrained.row["state"], "here": retrained.state},
        "engine": retrained.settings.engine,
        "device": retrained.device,
        "compared": retrained.compared,
        "first": retrained.first and {**asdict(retrained.first), "relative": retrained.first.relative},
        "differences": differences,
        "reasons": retrained.reasons,
        "failure": retrained.failure,
        "metrics": retrained.result.metrics if retrained.result else {},
        "loss": retrained.result.loss if retrained.result else None,
        "file": output and str(output),
    }
    return dict(json_value(record))


@contextmanager
def _progress() -> Iterator[Look]:
    """Yield a function that shows the progress of a pack on stderr: as a bar on a terminal, otherwise as lines."""
    with bar_on_terminal() as bar:
        if bar is not None:
            task = bar.add_task("", total=1.0)
            yield lambda pack: bar.update(task, completed=pack.fraction(0), description=_progress_text(pack))
            return
    printed_at = time.monotonic()

    def print_progress(pack: pinncore.Pack) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at >= PLAIN_INTERVAL_S:
            printed_at = time.monotonic()
            typer.echo(f"{100 * pack.fraction(0):.0f} %  {_progress_text(pack)}", err=True)

    yield print_progress


def _progress_text(pack: pinncore.Pack) -> str:
    from ..query.text import shown

    losses, errors = pack.course(0, "loss"), pack.course(0, "rel_l2")
    if not losses:
        return pack.stage(0)
    return f"{pack.stage(0)}  loss {losses[-1]:.4g}  rel_l2 {shown('rel_l2', errors[-1])}"
