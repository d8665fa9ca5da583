"""The commands on one trial: what is known of it, training it again, its network on other points and in other files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .options import DEFAULT_ROOT, AsJson, Root, Study, print_json, study_place, warn

if TYPE_CHECKING:
    import pinncore

    from ..storage.object_store import Remote
    from ..trial.retrain import Look, Retrained

PLAIN_INTERVAL_S: Final = 5.0

Trial = Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="Number of the trial.")]
Replicate = Annotated[int, typer.Option("--replicate", metavar="R", min=0, help="Which of its replicates.")]


class Engine(StrEnum):
    """How loss and gradient are computed."""

    AUTO = "auto"
    FUSED = "fused"
    TORCH = "torch"
    TORCH_COMPILED = "torch_compiled"
    REFERENCE = "reference"


class WeightsFormat(StrEnum):
    """What a file of weights is written as."""

    NPZ = "npz"
    SAFETENSORS = "safetensors"
    STATE_DICT = "state_dict"
    ONNX = "onnx"


def show(
    study: Study,
    trial: Trial,
    replicate: Annotated[
        int | None, typer.Option("--replicate", metavar="R", min=0, help="Of one replicate alone (default: all).")
    ] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Tell all about one trial."""
    place = _place(study, root)
    from ..query.values import json_value
    from ..trial import show, show_text

    found = show.about_trial(place, trial, replicate)
    print_json(json_value(found)) if as_json else typer.echo(show_text.text(found))


def retrain(
    study: Study,
    trial: Trial,
    replicate: Replicate = 0,
    engine: Annotated[
        Engine | None, typer.Option("--engine", help="Engine to train with (default: the one it was trained with).")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Keep the network: .npz, .safetensors, .pt, .onnx."),
    ] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Train one trial again, alone: are the numbers the same?

    The study is not changed. Exit code 0: the same bit for bit; 1: different.
    """
    place = _place(study, root)
    from ..trial import retrain, weight_files

    if output is not None:
        weight_files.format_of(output)
        weight_files.refuse_taken(output)
    with _progress() as look:
        found = retrain.retrain(place, trial, replicate, engine=engine and engine.value, look=look)
    written = output is not None and _keep(place, found, output)
    if as_json:
        print_json(_record(place, trial, found, output if written else None))
    else:
        from ..trial.retrain_text import text

        typer.echo(text(place, trial, found))
        if written:
            typer.echo(f"wrote {output}")
    if not found.same:
        raise typer.Exit(1)


def predict(
    study: Study,
    trial: Trial,
    points: Annotated[
        Path, typer.Argument(metavar="POINTS", help="CSV or Parquet: x_mm, y_mm (and g_mm2, elocal where inputs).")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help=".csv, .json, .parquet, .arrow, .xlsx (default: CSV on stdout)."
        ),
    ] = None,
    replicate: Replicate = 0,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Mean and spread over the replicates.")] = False,
    gradient: Annotated[bool, typer.Option("--gradient", help="Derivatives to x and y too, per mm.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Evaluate a trained network on a table of points.

    Lengths in mm, strains physical. Columns xcoord, ycoord, g are understood too.
    """
    place = _place(study, root)
    from ..query.files import format_of, write_file
    from ..query.text import render
    from ..trial import predict, weight_files
    from ..trial.tables import network_of, rows_of

    if ensemble and replicate:
        raise typer.BadParameter("--ensemble takes all replicates and --replicate one: give one of the two")
    if output is not None:
        format_of(output)
        weight_files.refuse_taken(output)
    table = predict.read_points(points)
    chosen = predict.members(rows_of(place, trial)) if ensemble else [replicate]
    networks = [network_of(place, trial, each) for each in chosen]
    predicted = predict.predict(networks, table, gradient=gradient)
    warn(predict.warnings(networks, predicted))
    if output is None:
        typer.echo(render(predicted, "json" if as_json else "csv"))
        return
    write_file(output, format_of(output), predicted.schema, predicted.to_batches())
    if as_json:
        outside = sum(predicted["extrapolated"].to_pylist())
        print_json({"file": str(output), "points": len(predicted), "extrapolated": outside, "replicates": chosen})
    else:
        typer.echo(f"wrote {output}: {len(predicted)} points")


def weights(
    study: Study,
    trial: Trial,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help=".npz, .safetensors, .pt or .onnx; must not be there."),
    ],
    file_format: Annotated[
        WeightsFormat | None, typer.Option("--format", help="What to write (default: by the file's ending).")
    ] = None,
    epoch: Annotated[
        int | None, typer.Option("--epoch", metavar="E", min=0, help="A kept epoch (default: the final weights).")
    ] = None,
    replicate: Replicate = 0,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Write a trained network into a file that other programs read."""
    place = _place(study, root)
    from ..trial import weight_files
    from ..trial.tables import described, network_of, row_of

    network = network_of(place, trial, replicate, epoch=epoch)
    metadata = described(place, row_of(place, trial, replicate), epoch=epoch)
    format = file_format.value if file_format else None
    chosen = weight_files.write_network(network, output, format, metadata=metadata)  # type: ignore[arg-type]
    if as_json:
        print_json({"file": str(output), "format": chosen, **metadata, **weight_files.about(network)})
    else:
        layers = "-".join(map(str, network.layers))
        typer.echo(f"wrote {output}: {chosen}, {layers}, {len(network.parameters)} parameters")


def _place(study: Path, root: Path) -> Path | Remote:
    from ..query.query import place_of

    return place_of(study_place(study, root))


def _keep(place: Path | Remote, found: Retrained, output: Path) -> bool:
    """Write the network that came out; whether there is one."""
    from ..trial import weight_files
    from ..trial.tables import described

    if found.result is None or found.failure is not None:
        warn([f"{output} was not written: the training failed"])
        return False
    import pinncore

    network = pinncore.TrainedNetwork(found.problem, found.settings, found.result.parameters)
    here = {"state": found.state, "rel_l2": found.result.metrics.get("rel_l2")}
    weight_files.write_network(network, output, metadata=described(place, found.row) | here)
    return True


def _record(place: Path | Remote, trial: int, found: Retrained, output: Path | None) -> dict[str, Any]:
    from dataclasses import asdict

    from ..query.values import json_value

    differences = [{**asdict(each), "relative": each.relative} for each in found.ends]
    record = {
        "study": str(place),
        "trial": trial,
        "replicate": found.row["replicate"],
        "same": found.same,
        "state": {"stored": found.row["state"], "here": found.state},
        "engine": found.settings.engine,
        "device": found.device,
        "compared": found.compared,
        "first": found.first and {**asdict(found.first), "relative": found.first.relative},
        "differences": differences,
        "reasons": found.reasons,
        "failure": found.failure,
        "metrics": found.result.metrics if found.result else {},
        "loss": found.result.loss if found.result else None,
        "file": output and str(output),
    }
    return dict(json_value(record))


@contextmanager
def _progress() -> Iterator[Look]:
    """How far a training is, on stderr: a bar on a terminal, else a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %  {task.description}"), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=1.0)
            yield lambda pack: bar.update(task, completed=pack.fraction(0), description=_course(pack))
        return
    told_at = time.monotonic()

    def tell(pack: pinncore.Pack) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PLAIN_INTERVAL_S:
            told_at = time.monotonic()
            typer.echo(f"{100 * pack.fraction(0):.0f} %  {_course(pack)}", err=True)

    yield tell


def _course(pack: pinncore.Pack) -> str:
    from ..query.text import shown

    losses, errors = pack.course(0, "loss"), pack.course(0, "rel_l2")
    if not losses:
        return pack.stage(0)
    return f"{pack.stage(0)}  loss {losses[-1]:.4g}  rel_l2 {shown('rel_l2', errors[-1])}"
