"""The slides' predictions side by side: 8x8 and 16x16, from TensorFlow's and PyTorch's initial weights.

    python examples/documents/slides_predictions.py                            # 8x8, shortened: seconds
    pinnsweep run examples/documents/slides_predictions.yaml                   # all of it: minutes
    python examples/documents/slides_predictions.py runs/slides-predictions

Both trainings of a pair start from the same weights, those of `slides_starts.npz`. The slides show maps of
(u_TF - u_torch)² / u_TF²; we print their median, because it is huge wherever u_TF is near zero, and `rel_l2` of both.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

import pinncore
import sweeps
from pinncore import NonlocalStrain, TrainSettings
from pinncore.initialisation import initial_parameters
from pinncore.networks import layer_sizes, unflatten
from pinncore.problems.columns import relative
from table import Row, equal, show

Array = NDArray[np.float64]

FOLDER = Path(__file__).parent
STUDY, NAME = FOLDER / "slides_predictions.yaml", "slides-predictions"
STARTS = FOLDER / "slides_starts.npz"
SHORT = {"epochs": 200, "iterations": 30}
EPS = float(np.finfo(float).eps)


def starts() -> dict[str, Array]:
    """Return the initial weights of the four pairs, by the names under which `init: file:` finds them."""
    arrays = {}
    for units in (8, 16):
        layers = layer_sizes(4, width=units, depth=units)
        for init in ("tf1", "torch"):
            for number, pair in enumerate(unflatten(initial_parameters(init, layers, seed=0), layers), 1):
                for kind, array in zip("Wb", pair, strict=True):
                    arrays[f"{init}-{units}/{kind}{number}"] = array.astype(np.float32)
    return arrays


def configurations() -> Iterator[tuple[NonlocalStrain, dict[str, Any]]]:
    """Yield problem and training of every trial of the study file: of a pair TensorFlow's, then PyTorch's."""
    study: dict[str, Any] = yaml.safe_load(STUDY.read_text())
    problem = {key: value for key, value in study["problem"].items() if key != "name"}
    del study["train"]["keep_epochs"]  # for maps of the weights
    for chosen in study["search"]["list"]:
        start = {"init": chosen["init"].replace("file:", f"file:{FOLDER}/")}
        yield NonlocalStrain(**{**problem, "inputs": tuple(problem["inputs"])}), {**study["train"], **chosen, **start}


def train(problem: NonlocalStrain, settings: dict[str, Any]) -> tuple[Array, Array, float]:
    """Return prediction and reference [points] of a shortened training, and the evaluations an iteration took."""
    result = pinncore.train(problem, TrainSettings(**{**settings, **SHORT}), device="cpu")
    field, counts = result.field, result.counts
    return field["predicted"], field["reference"], counts["second_evaluations"] / counts["iterations_done"]


def compared(name: str, tensorflow: Array, pytorch: Array, reference: Array) -> list[Row]:
    """Return what a pair of predictions [points] differs by."""
    share = float(np.median(((tensorflow - pytorch) / tensorflow) ** 2))
    errors = [100 * relative(u, reference) for u in (tensorflow, pytorch)]
    return [
        Row(f"map error, median, {name}", "a picture", f"{share:.0e}", 0 < share < 1, "equal initial weights"),
        Row(
            f"rel_l2 in %, TensorFlow's and PyTorch's settings, {name}",
            "",
            f"{errors[0]:.2g}, {errors[1]:.2g}",
            max(errors) < 100,
        ),
    ]


def finished(path: str) -> list[Row]:
    """Return the rows of the finished study. Raises `StudyError` where it is another one, or not finished."""
    study = sweeps.open(path)
    if not isinstance(study, sweeps.Study) or study.name != NAME:
        raise sweeps.StudyError(f"{path} is not the study {NAME}. Train it: pinnsweep run {STUDY}")
    found = []
    for number, (_, settings) in enumerate(configurations()):
        if number % 2 == 0:
            fields = [study.fields(trial) for trial in (number, number + 1)]
            tensorflow, pytorch = (field["predicted"].to_numpy() for field in fields)
            found += compared(
                settings["init"].partition("#")[2], tensorflow, pytorch, fields[0]["reference"].to_numpy()
            )
    return found


def rows() -> list[Row]:
    """Return the settings of the second stage as printed, and the pairs of 8x8 after a shortened training."""
    pairs = list(configurations())[:4]
    pytorch = TrainSettings(**pairs[1][1])
    budget = pairs[1][1]["max_evaluations"] / pytorch.iterations
    found = [
        equal("L-BFGS of PyTorch, lr: first_step", "0.001", pytorch.first_step),
        equal("L-BFGS of PyTorch, history_size: lbfgs_history", "5000", pytorch.lbfgs_history),
        equal("L-BFGS of PyTorch, tolerance_grad", "1e-7", pytorch.tolerance_grad),
        equal(
            "L-BFGS of PyTorch, tolerance_change over 0.000001 eps", "1", pytorch.tolerance_change / (1e-6 * EPS), 1e-2
        ),
        equal("L-BFGS of PyTorch, max_eval over max_iter", "1.25", budget),
        Row(
            "L-BFGS-B of TensorFlow: second_stage, lbfgs_history",
            "a picture",
            f"{pairs[0][1]['second_stage']}, {pairs[0][1]['lbfgs_history']}",
            pairs[0][1]["second_stage"] == "scipy",
            "published run files: 50 corrections, ftol 1e-6 eps",
        ),
    ]
    ends = [train(*each) for each in pairs]
    for number, init in ((0, "tf1-8"), (2, "torch-8")):
        (tensorflow, reference, _), (port, _, _) = ends[number : number + 2]
        found += compared(f"{init}, shortened", tensorflow, port, reference)
    plain = train(pairs[1][0], {**pairs[1][1], "first_step": 1.0})[2]
    found.append(
        Row(
            "evaluations an iteration, lr 0.001 and 1",
            "",
            f"{ends[1][2]:.2g}, {plain:.2g}",
            ends[1][2] > 1.5 * plain,
            "lr is the first step of every line search",
        )
    )
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["starts"]:
        np.savez(STARTS, **starts())
    else:
        try:
            show(finished(sys.argv[1]) if sys.argv[1:] else rows())
        except sweeps.StudyError as problem:
            sys.exit(f"error: {problem}")
