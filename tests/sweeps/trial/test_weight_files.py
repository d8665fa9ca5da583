"""Trained networks as files: read back by what they are for, with the numbers of `predict`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from pinncore import NonlocalStrain, TrainedNetwork, TrainSettings
from pinncore.errors import WeightsError
from pinncore.initialisation import initial_parameters, read_weights
from pinncore.weight_files import write_network
from sweeps.trial.tables import TrialReader, network_of

from ..invoking import errors_of, invoke
from ..trained_studies import EXPLODING, PLAIN, SINGLE, every_end, sampled

ACTIVATIONS = ("tanh", "sin", "silu", "gelu")
SIGMA = {"tanh": torch.tanh, "sin": torch.sin, "silu": torch.nn.SiLU(), "gelu": torch.nn.GELU()}
X_MM, Y_MM = np.random.default_rng(0).uniform(0, 100, (2, 40))
G_MM2, ELOCAL = np.full(40, 8.0), np.random.default_rng(1).uniform(0, 8e-4, 40)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_end(tmp_path_factory)


def network(activation: str, dtype: str = "float64", inputs: tuple[str, ...] = ("x", "y")) -> TrainedNetwork:
    settings = TrainSettings(width=7, depth=3, activation=activation, dtype=dtype, engine="torch")  # type: ignore[arg-type]
    start = initial_parameters("keras", (len(inputs), 7, 7, 7, 1), seed=3)
    parameters = start + np.random.default_rng(2).normal(0, 0.1, len(start))  # biases too
    problem = NonlocalStrain(scale_factor=2.0, inputs=inputs)
    return TrainedNetwork(problem, settings, np.float32(parameters) if dtype == "float32" else parameters)


def predicted(trained: TrainedNetwork) -> NDArray[np.float64]:
    return trained.predict(X_MM, Y_MM, g_mm2=G_MM2, elocal=ELOCAL)


def off(values: Any, trained: TrainedNetwork) -> float:
    """Return the largest difference from `predict` over its largest value."""
    expected = predicted(trained)
    return float(np.abs(np.asarray(values) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("inputs", [("x", "y"), ("x", "y", "g", "elocal")], ids=["two", "four"])
@pytest.mark.parametrize(
    # the reference evaluator computes the error function of gelu in float32
    ("activation", "dtype", "tolerance"),
    [(name, "float64", 1e-6 if name == "gelu" else 1e-13) for name in ACTIVATIONS] + [("tanh", "float32", 1e-5)],
)
def test_onnx_is_the_whole_function(
    tmp_path: Path, activation: str, dtype: str, tolerance: float, inputs: tuple[str, ...]
) -> None:
    reference = pytest.importorskip("onnx.reference")
    trained = network(activation, dtype, inputs)
    write_network(trained, tmp_path / "n.onnx", metadata={"study": "s"})
    feed = {"x_mm": X_MM, "y_mm": Y_MM} | ({"g_mm2": G_MM2, "elocal": ELOCAL} if len(inputs) == 4 else {})
    (strain,) = reference.ReferenceEvaluator(str(tmp_path / "n.onnx")).run(["predicted"], feed)
    assert strain.dtype == np.float64 and off(strain, trained) < tolerance


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_state_dict_is_the_bare_network_of_the_documented_layers(tmp_path: Path, activation: str) -> None:
    trained = network(activation)
    write_network(trained, tmp_path / "n.pt")
    write_network(trained, tmp_path / "n.safetensors", metadata={"study": "s"})
    tensors = torch.load(tmp_path / "n.pt", weights_only=True)
    with safe_open(tmp_path / "n.safetensors", "pt") as file:
        about = json.loads(file.metadata()["pinnsweep"])
        assert {name: file.get_tensor(name).tolist() for name in file.keys()} == {  # noqa: SIM118
            name: tensor.tolist() for name, tensor in tensors.items()
        }
    assert about["study"] == "s" and about["layers"] == [2, 7, 7, 7, 1] and about["activation"] == activation
    columns = [
        torch.tensor(column["factor"] * (values - column["centre"]))
        for column, values in zip(about["inputs"], (X_MM, Y_MM), strict=True)
    ]
    value = torch.stack(columns, dim=1)
    for level in range(4):
        value = torch.nn.functional.linear(value, tensors[f"{2 * level}.weight"], tensors[f"{2 * level}.bias"])
        value = SIGMA[activation](value) if level < 3 else value
    assert about["outputs"] == [{"name": "u", "unit": "1", "expression": "N_u*size_u"}] and about["fields"] == ["N_u"]
    assert off(value[:, 0] * about["symbols"]["size_u"], trained) < 1e-13


def test_an_npz_is_the_start_of_another_study(study: Path, tmp_path: Path) -> None:
    """Written by the command, read by a study file: the kept weights of epoch 0 are the final ones of before."""
    file = tmp_path / "final.npz"
    assert invoke("weights", study, PLAIN, "-o", file).exit_code == 0
    parameters = network_of(study, PLAIN).parameters
    assert np.array_equal(read_weights(str(file), (2, 5, 5, 1)), parameters)
    with np.load(file) as arrays:
        about = json.loads(str(arrays["pinnsweep"]))
    row = TrialReader.of(study).row(PLAIN)
    assert (about["trial"], about["config_hash"], about["rel_l2"]) == (PLAIN, row["config_hash"], row["rel_l2"])
    assert about["activation"] == "tanh" and 0 < about["symbols"]["size_u"] < 1
    overrides = (f"train.init=file:{file}", "train.width=5", "space={scale_factor: {choice: [1]}}")
    begun = sampled(tmp_path / "next", *overrides, trials=1)
    assert np.array_equal(TrialReader.of(begun).kept_weights(TrialReader.of(begun).row(0))[0], parameters)


def test_a_kept_epoch_and_the_precision_of_training(study: Path, tmp_path: Path) -> None:
    assert invoke("weights", study, PLAIN, "-o", tmp_path / "start.npz", "--epoch", 0).exit_code == 0
    first = TrialReader.of(study).kept_weights(TrialReader.of(study).row(PLAIN))[0]
    assert np.array_equal(read_weights(str(tmp_path / "start.npz"), (2, 5, 5, 1)), first)
    answer = json.loads(invoke("weights", study, SINGLE, "-o", tmp_path / "n.pt", "--json").stdout)
    assert (answer["format"], answer["dtype"], answer["layers"], answer["epoch"]) == (
        "state_dict",
        "float32",
        [2, 6, 6, 1],
        None,
    )
    assert torch.load(tmp_path / "n.pt", weights_only=True)["0.weight"].dtype == torch.float32


def test_a_file_is_not_written_over_and_appears_whole(study: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    file.write_text("mine")
    assert "exists already" in errors_of(invoke("weights", study, PLAIN, "-o", file))
    assert file.read_text() == "mine"
    assert invoke("weights", study, PLAIN, "-o", file, "--force").exit_code == 0 and file.read_bytes()[:2] == b"PK"
    assert "or give --format" in errors_of(invoke("weights", study, PLAIN, "-o", tmp_path / "a.bin"))
    assert "there is no folder" in errors_of(invoke("weights", study, PLAIN, "-o", tmp_path / "none" / "a.npz"))
    assert invoke("weights", study, PLAIN, "-o", tmp_path / "a.bin", "--format", "npz").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "mine.npz"], "nothing is left beside them"


def test_weights_that_are_not_there_are_named(study: Path, tmp_path: Path) -> None:
    assert "kept: 0, 23" in errors_of(invoke("weights", study, PLAIN, "-o", tmp_path / "a.npz", "--epoch", 7))
    assert "it has no trained network" in errors_of(invoke("weights", study, EXPLODING, "-o", tmp_path / "a.npz"))


def test_without_the_package_onnx_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pinncore.onnx_model", None)
    with pytest.raises(WeightsError, match=r"pip install 'pinnsweep\[onnx\]'"):
        write_network(network("tanh"), tmp_path / "n.onnx")
