"""Our own trainings as traces: the numbers of another engine, and agreement with the replay."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pinncore import NonlocalStrain, TrainSettings
from pinncore.engines import ReferenceEngine
from pinncore.errors import TraceError
from pinncore.networks import flatten
from pinncore.parity import Recorder, read_trace, record
from pinncore.parity.compare import compare
from pinncore.problems import PROBLEMS, Problem, problem_class

TRAIN = TrainSettings(width=5, depth=2, epochs=1)


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".mat"])
def test_a_recorded_training_agrees(tmp_path: Path, ending: str) -> None:
    problem = problem_class("burgers")(points=80, condition_points=20)  # type: ignore[call-arg]
    train = dataclasses.replace(TRAIN, adam_convention="keras", adam_eps=1e-7)
    trace = read_trace(record(problem, train, tmp_path / f"t{ending}", seed=3, steps=(0, 1, 4)))
    assert trace.settings["adam_convention"] == "keras" and trace.layers == (2, 5, 5, 1)
    comparison = compare(trace)
    assert comparison.first is None
    kinds = {difference.place.quantity for difference in comparison.differences}
    assert {"prediction", "derivative", "loss term", "loss", "gradient", "weights"} <= kinds


def test_its_numbers_are_those_of_engine_reference(tmp_path: Path) -> None:
    problem = NonlocalStrain()
    trace = read_trace(record(problem, TRAIN, tmp_path / "t.npz", steps=(0, 2)))
    arrays = trace.steps[2]
    engine = ReferenceEngine(
        [problem], ReferenceEngine.arrange([trace.layers]), dtype=torch.float64, device=torch.device("cpu")
    )
    flat = flatten([(arrays[f"W{k}"], arrays[f"b{k}"]) for k in (1, 2, 3)])
    loss, terms, gradient = engine.evaluate(engine.layout.pack([flat], dtype=torch.float64, device=engine.device))
    assert float(arrays["loss"]) == pytest.approx(float(loss[0]), rel=1e-12)
    assert np.abs(arrays["loss_terms"] - terms[0].numpy()).max() < 1e-12 * float(terms.max())
    recorded = flatten([(arrays[f"grad_W{k}"], arrays[f"grad_b{k}"]) for k in (1, 2, 3)])
    found = engine.layout.unpack(gradient[0], 0)
    assert np.abs(recorded - found).max() < 1e-11 * np.abs(found).max()
    assert compare(trace).first is None


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"must end in .npz, .safetensors, .mat"):
        Recorder(tmp_path / "t.csv", framework="numpy")
    with pytest.raises(TraceError, match="nothing was recorded"):
        Recorder(tmp_path / "t.npz", framework="numpy").save()
    for steps in ((), (-1,), (1.5,), (True,), ("a", 1)):
        with pytest.raises(TraceError, match="steps: must be whole numbers from 0 on"):
            record(NonlocalStrain(), TRAIN, tmp_path / "t.npz", steps=steps)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([None, 1]), "must be real numbers, got object; convert it to float32 or float64"),
        (np.zeros(2, complex), "must be real numbers, got complex128"),
        ([[1, 2], [3]], "does not convert to a NumPy array"),
        (torch.zeros(2, requires_grad=True), r"does not convert to a NumPy array .*detach"),
        (torch.zeros(2, dtype=torch.bfloat16), "does not convert to a NumPy array"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_when_recorded(tmp_path: Path, array: object, reason: str) -> None:
    recorder = Recorder(tmp_path / "t.npz", framework="numpy")
    with pytest.raises(TraceError, match=f"^step3/W1: {reason}"):
        recorder.step(3, W1=array)
    recorder.loss_terms([1.0, 2.0])
    with pytest.raises(TraceError, match=r"loss_terms of step 1: must have the shape of those before, \(2,\), got"):
        recorder.loss_terms([1.0])


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    for name in ("none/t.npz", "folder.npz"):
        recorder = Recorder(tmp_path / name, framework="numpy")
        recorder.step(0, W1=np.zeros((2, 1)))
        with pytest.raises(TraceError, match=f"{name}: cannot be written: "):
            recorder.save()
    assert [file.name for file in tmp_path.iterdir()] == ["folder.npz"]


def test_a_manifest_takes_numbers_of_numpy_and_refuses_what_json_has_not(tmp_path: Path) -> None:
    recorder = Recorder(
        tmp_path / "t.npz", framework="numpy", layers=np.array([4, 2, 1]), settings={"adam_lr": np.float64(2e-3)}
    )  # type: ignore[arg-type]
    recorder.step(0, W1=np.zeros((4, 2)), b1=np.zeros(2), W2=np.zeros((2, 1)), b2=np.zeros(1))
    recorder.manifest["problem"] = {"name": "nonlocal_strain", "inputs": ["x", "y", "g", "elocal"]}
    trace = read_trace(recorder.save())
    assert trace.layers == (4, 2, 1) and trace.settings["adam_lr"] == 2e-3
    recorder.manifest["settings"] = {"adam_lr": torch.float32}
    with pytest.raises(TraceError, match=r"the manifest cannot be written as JSON: torch.float32 is no number"):
        recorder.save()


def problem_called(name: str) -> Problem:
    if name in ("nonlocal_strain", "fe"):
        return NonlocalStrain(formulation="fe") if name == "fe" else NonlocalStrain(scale_factor=2.0)
    return problem_class(name)(points=60, condition_points=15) if name != "regression" else problem_class(name)()  # type: ignore[call-arg]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PROBLEMS, "fe"])
def test_any_equation_is_replayed_and_explained(tmp_path: Path, name: str) -> None:
    problem = problem_called(name)
    file = record(problem, dataclasses.replace(TRAIN, adam_lr=2e-3), tmp_path / "t.npz", steps=(0, 1, 3))
    assert compare(read_trace(file)).first is None
    assert [each.name for each in compare(read_trace(file, {"adam_eps": 1e-3})).found] == ["adam_eps: 1e-08"]
    if name != "fe":
        loss = "norm" if problem.loss == "mean_square" else "mean_square"
        found = compare(read_trace(file, {"loss": loss})).found
        assert [each.name for each in found] == [f"loss: {problem.loss}"]
