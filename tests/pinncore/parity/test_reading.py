"""Traces read from npz, safetensors and MATLAB files, and what is refused with which words."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from pinncore import NonlocalStrain
from pinncore.errors import TraceError
from pinncore.parity.reading import read_trace, training_of, with_points
from pinncore.parity.trace import FORMAT, Trace
from pinncore.problems import problem_class
from tests.special_files import REASONS, at_once

TENSORFLOW = Path(__file__).parents[3] / "examples" / "traces" / "tensorflow1_4-4-1.npz"
LAYERS = (2, 3, 4, 1)
POINTS = 12
MANIFEST: dict[str, Any] = {
    "format": FORMAT,
    "framework": "numpy",
    "version": "2.3.0",
    "seed": 3,
    "settings": {"adam_lr": 0.01, "adam_convention": "inside", "keep_epochs": [0, 2]},
    "problem": {"name": "nonlocal_strain", "inputs": ["x", "y"], "loss": "mean_square"},
}
Values = dict[str, Any]


def weights(layers: tuple[int, ...] = LAYERS, step: str = "step0", dtype: str = "float64") -> Values:
    """Weights and gradients of a step."""
    generator = np.random.default_rng(5)
    arrays: Values = {}
    for level, (before, after) in enumerate(itertools.pairwise(layers), 1):
        for prefix in ("", "grad_"):
            arrays[f"{step}/{prefix}W{level}"] = generator.normal(size=(before, after)).astype(dtype)
            arrays[f"{step}/{prefix}b{level}"] = generator.normal(size=after).astype(dtype)
    return arrays


def points() -> Values:
    """Points of all three loss terms."""
    x, y = np.linspace(0, 100, POINTS), np.linspace(0, 50, POINTS)
    inside = {"x": x, "y": y, "g": np.full(POINTS, 8.0), "elocal": 1e-4 + 1e-6 * x}
    arrays: Values = {f"points/residual/{symbol}": values for symbol, values in inside.items()}
    for term in ("lrb", "btb"):
        arrays |= {f"points/{term}/x": x[:3], f"points/{term}/y": y[:3]}
    return arrays


def step() -> Values:
    """All arrays of one step, as a program may shape them."""
    return weights() | {
        "step0/u": np.arange(POINTS, dtype=float)[:, None],
        "step0/lrb/u_x": np.zeros((1, 0, 2)),
        "step0/loss_terms": np.array([1.0, 2.0, 3.0]),
        "step0/loss": np.array([[6.0]]),
        "loss_terms_by_step": np.ones((4, 3)),
    }


def write(file: Path, arrays: Values, manifest: Any = MANIFEST) -> Path:
    """A trace in the format of the file's ending."""
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    match file.suffix:
        case ".npz":
            np.savez(file, manifest=np.array(text), **arrays)
        case ".safetensors":
            save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, file, metadata={"manifest": text})
        case ".mat":
            scipy.io.savemat(file, {name.replace("/", "__"): a for name, a in arrays.items()} | {"manifest": text})
    return file


def without(arrays: Values, *names: str) -> Values:
    return {name: array for name, array in arrays.items() if name not in names}


def refused(file: Path, *fragments: str, settings: Values | None = None) -> str:
    """Reading ends with a sentence that names the file."""
    with pytest.raises(TraceError) as caught:
        read_trace(file, settings)
    message = str(caught.value)
    assert str(file) in message
    for fragment in fragments:
        assert fragment in message
    return message


def test_the_layout_of_tensorflow() -> None:
    trace = read_trace(TENSORFLOW)
    assert (trace.framework, trace.version, trace.dtype, trace.layers) == (
        "tensorflow",
        "2.21.0",
        "float64",
        (4, 4, 1),
    )
    assert trace.settings["adam_convention"] == "tf1"
    assert trace.settings["adam_lr"] == 1e-3
    assert list(trace.steps) == [0, 1, 2, 10, 50]
    assert "no manifest" in trace.notes[0]
    at = trace.steps[0]
    assert at["b1"].shape == (4,)
    assert at["u"].shape == at["laplacian"].shape == (6400,)
    assert trace.loss_terms_by_step is not None
    np.testing.assert_array_equal(trace.loss_terms_by_step[10], trace.steps[10]["loss_terms"])
    train, problem = training_of(trace)
    assert (train.width, train.depth, train.dtype) == (4, 1, "float64")
    assert problem == NonlocalStrain(inputs=("x", "y", "g", "elocal"), scale_scope="all", strain_multiplier=10.0)


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".mat"])
def test_three_formats_told_apart_by_their_content(tmp_path: Path, ending: str) -> None:
    arrays = step() | points() | weights(step="step2") | weights(step="iteration1")
    arrays |= {"iteration1/length": np.array(0.5), "iteration1/evaluations": np.array(2)}
    file = write(tmp_path / f"a{ending}", arrays).rename(tmp_path / "trace.txt")
    trace = read_trace(file)
    assert trace.layers == LAYERS
    assert (trace.seed, trace.dtype, trace.framework) == (3, "float64", "numpy")
    assert trace.settings["keep_epochs"] == (0, 2)
    assert trace.problem["inputs"] == ("x", "y")
    assert trace.notes == ()
    at = trace.steps[0]
    for name, array in weights().items():
        np.testing.assert_array_equal(at[name.removeprefix("step0/")], array)
    np.testing.assert_array_equal(at["u"], np.arange(POINTS))
    assert at["lrb/u_x"].shape == (1, 0, 2)  # evidence: it stays as it is
    assert at["loss_terms"].shape == (3,)
    assert at["loss"].shape == ()
    assert list(trace.steps) == [0, 2]
    assert trace.iterations[1]["length"] == 0.5
    assert trace.iterations[1]["evaluations"].shape == ()
    assert trace.points["lrb"]["x"].shape == (3,)
    assert trace.loss_terms_by_step is not None
    assert trace.loss_terms_by_step.shape == (4, 3)


def transposed(arrays: Values) -> Values:
    return {name: array.T if array.ndim == 2 and "W" in name else array for name, array in arrays.items()}


def test_weights_the_other_way_round(tmp_path: Path) -> None:
    expected = weights()
    by_shape = read_trace(write(tmp_path / "a.npz", transposed(expected)))
    np.testing.assert_array_equal(by_shape.steps[0]["W2"], expected["step0/W2"])
    np.testing.assert_array_equal(by_shape.steps[0]["grad_W1"], expected["step0/grad_W1"])
    assert by_shape.notes == ("weights are (out, in) by their shapes, and were transposed",)
    stated = read_trace(write(tmp_path / "b.npz", transposed(expected), MANIFEST | {"weights": "out_in"}))
    assert stated.notes == ("weights are (out, in) by the manifest, and were transposed",)
    wrong = read_trace(write(tmp_path / "c.npz", expected, MANIFEST | {"weights": "out_in"}))
    np.testing.assert_array_equal(wrong.steps[0]["W2"], expected["step0/W2"])
    assert "by their shapes they are (in, out)" in wrong.notes[0]


def test_biases_of_one_row_and_precision(tmp_path: Path) -> None:
    arrays = weights(dtype="float32")
    arrays = {name: array[None] if "b" in name.split("/")[1] else array for name, array in arrays.items()}
    trace = read_trace(write(tmp_path / "a.npz", arrays))
    assert trace.dtype == "float32"
    assert trace.steps[0]["b2"].shape == (4,)
    stated = read_trace(write(tmp_path / "b.npz", arrays, MANIFEST | {"dtype": "float64"}))
    assert stated.dtype == "float64"
    assert stated.notes == ("the training is float64 as stated; its weights were written as float32",)


def test_what_the_user_states_wins(tmp_path: Path) -> None:
    file = write(tmp_path / "a.npz", weights())
    trace = read_trace(file, {"adam_lr": 0.1, "loss": "norm", "derivatives": "coordinates", "dtype": "float32"})
    assert trace.settings["adam_lr"] == 0.1
    assert trace.problem["loss"] == "norm"
    assert (trace.derivatives, trace.dtype) == ("coordinates", "float32")
    assert trace.notes[0] == "adam_lr is 0.1 as stated beside the trace; the manifest says 0.01"
    bare = write(tmp_path / "b.npz", weights(), {"format": FORMAT})
    refused(bare, "problem: it names none")
    assert read_trace(bare, {"problem": "nonlocal_strain"}).problem == {"name": "nonlocal_strain"}
    refused(file, "unknown setting 'adam_rate'", "adam_lr", "strain_reference", settings={"adam_rate": 1})
    refused(file, "adam_lr must be greater than 0, got 0", settings={"adam_lr": 0})


def test_every_mistake_of_a_manifest_is_named_at_once(tmp_path: Path) -> None:
    manifest = {
        "format": "other",
        "colour": 1,
        "dtype": "float16",
        "layers": [2, 0],
        "settings": {"lr": 1, "adam_beta1": 2, "width": "wide"},
        "problem": {"name": "nonlocal_strain", "inputs": ["x"], "scale": 3, "loss": 1},
    }
    message = refused(write(tmp_path / "a.npz", weights(), manifest), "9 mistakes")
    for fragment in (
        "unknown key 'colour'; possible are format, framework",
        "format must be one of pinnsweep trace 1, got 'other'",
        "dtype must be one of float32, float64, got 'float16'",
        "layers must be at least 1, got (2, 0)",
        "settings: unknown key 'lr'; possible are width",
        "settings: adam_beta1 must be less than 1, got 2",
        "settings: width must be a whole number, got wide",
        "problem: unknown key 'scale'; possible are loss",
        "problem: loss must be one of mean_square, norm, got 1",
    ):
        assert fragment in message, fragment


@pytest.mark.parametrize(
    ("manifest", "fragments"),
    [
        ("{", ("its manifest is not JSON",)),
        ("[" * 60_000, ("its manifest is not JSON",)),
        ("[]", ("must be an object",)),
        ("{}", ("it has no format", "it names none")),
        (MANIFEST | {"problem": {"name": "none"}}, ("none called 'none'", "nonlocal_strain, allen_cahn")),
        (MANIFEST | {"problem": {"name": "a.py:A"}}, ("a.py:A is code", "problem=a.py:A")),
        (MANIFEST | {"problem": {"name": "nonlocal_strain", "inputs": ["x"]}}, ("inputs", "must be [x, y] or")),
        (MANIFEST | {"settings": {"second_stage": "bfgs", "lbfgs_memory": "dense"}}, ("lbfgs_memory",)),
        (MANIFEST | {"layers": [2, 3, 3, 1]}, ("have layers 2-3-4-1, but the manifest says 2-3-3-1",)),
        (MANIFEST | {"settings": []}, ("settings must be a dict",)),
        (MANIFEST | {"seed": 1.5}, ("seed must be a whole number",)),
        (MANIFEST | {"dtype": float("nan")}, ("dtype must be one of float32, float64, got nan",)),
        (
            MANIFEST | {"dtype": "float64", "settings": {"dtype": "float32"}},
            ("dtype is float32, but float64 beside the settings",),
        ),
    ],
    ids=itertools.count(),
)
def test_manifests_that_are_refused(tmp_path: Path, manifest: Any, fragments: tuple[str, ...]) -> None:
    refused(write(tmp_path / "a.npz", weights(), manifest), *fragments)


@pytest.mark.parametrize(
    ("arrays", "fragments"),
    [
        ({}, ("it has no step",)),
        ({"step0/u": np.zeros(3)}, ("step 0, the first one, has no weights",)),
        (without(weights(), "step0/b2", "step0/W3"), ("has no b2, W3",)),
        (weights() | {"step0/W2": np.ones((3, 5))}, ("fit no chain of layers", "W2 (3, 5)")),
        (weights() | {"step0/W2": np.ones(12)}, ("must have two dimensions",)),
        (weights() | {"step0/W2": np.full((3, 4), np.nan)}, ("step 0: W2 holds nan",)),
        (weights() | {"step5/W2": np.full((3, 4), np.inf)}, ("step 5: W2 holds inf",)),
        (weights() | {"step5/W2": np.ones((4, 4))}, ("step 5: W2 has the shape (4, 4), and must have (3, 4)",)),
        (weights() | {"step5/W9": np.ones((4, 4))}, ("step 5: there is a W9, but the layers are 2-3-4-1",)),
        (weights((2, 1)), ("must have a hidden layer",)),
        (weights() | {"step0/loss_terms": np.ones(2)}, ("loss_terms has 2 numbers", "3 terms: residual, lrb, btb")),
        (weights() | {"loss_terms_by_step": np.ones((5, 2))}, ("have the shape (5, 2)", "3 terms")),
        (weights() | {"epoch0/W1": np.ones((2, 3))}, ("two of its arrays are W1 of epoch 0",)),
        (weights() | {"step2000000/u": np.ones(2)}, ("steps up to 1,000,000",)),
        (weights() | {"step0/u": np.ones(2, dtype=np.float16)}, ("step0/u is float16",)),
        (weights() | {"step0/u": np.ones(2, dtype=complex)}, ("step0/u holds complex128",)),
        (weights() | {"points/residual/x": np.ones(2)}, ("points of residual have no y: add points/residual/y",)),
        (weights() | {"points/inside/x": np.ones(2)}, ("points of inside, which is no loss term",)),
        (weights() | points() | {"points/residual/g": np.ones(2)}, ("the same number of points", "g 2")),
        (weights() | points() | {"points/residual/g": np.full(POINTS, np.nan)}, ("points/residual/g is not finite",)),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, arrays: Values, fragments: tuple[str, ...]) -> None:
    refused(write(tmp_path / "a.npz", arrays), *fragments)


def test_unknown_arrays_are_passed_over_with_a_note(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "a.npz", weights() | {f"n{k}": np.zeros(1) for k in range(7)}))
    assert trace.notes == ("arrays with unknown names are passed over: n0, n1, n2, n3, n4 and 2 more",)


def test_types_that_safetensors_has(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    for dtype, name in ((torch.bfloat16, "BF16"), (torch.float16, "F16"), (torch.complex64, "C64")):
        save_tensors({"step0/W1": torch.zeros(2, 2, dtype=dtype)}, file, metadata={"manifest": json.dumps(MANIFEST)})
        refused(file, f"step0/W1 holds {name}")


def tensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]} | changes}


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (struct.pack("<Q", 2**60) + b"{}", "which is not possible"),
        (tensors(b"{" * 60_000), "is no trace that can be read"),
        (tensors(entry()), "the bytes of a do not fit its shape (2,), or the file is cut off"),
        (tensors(entry(shape=[2**40]), bytes(16)), "do not fit its shape"),
        (tensors(entry(shape=[-2]), bytes(16)), "the entry of a in its header is not possible"),
        (tensors(entry(data_offsets=[0]), bytes(16)), "the entry of a in its header is not possible"),
        (tensors({"a": 3}), "the entry of a in its header is not possible"),
        (tensors({"__metadata__": 3}), "its metadata must be texts"),
        (tensors({f"a{k}": 0 for k in range(40_001)}), "it has 40,001 arrays"),
    ],
    ids=itertools.count(),
)
def test_hostile_safetensors(tmp_path: Path, content: bytes, fragment: str) -> None:
    file = tmp_path / "a"
    file.write_bytes(content)
    refused(file, fragment)


def matlab(**variables: Any) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "is empty"),
        (b"text", "is no trace that can be read. A trace is an .npz"),
        (b"PK\x03\x04 and no more", "is no trace that can be read"),
        (b"\x93NUMPY\x01\x00", "is no trace that can be read. A trace is"),
        (b"MATLAB 7.3 MAT-file" + bytes(107) + b"IM", "save -v7"),
        (matlab(step0__W1=np.ones((2, 2), dtype=complex)), "step0__W1 is complex"),
        (matlab(step0__W1={"a": 1}), "step0__W1 is of the class 2 of MATLAB"),
        (matlab(step0__W1="text"), "step0__W1 holds a text"),
        (matlab(step0__W1=np.ones((2, 2)))[:160], "it is cut off in an element"),
        (matlab(step0__W1=np.ones((2, 2)))[:132], "it is cut off in the tag"),
        (matlab(step0__W1=np.ones((2, 2))).replace(struct.pack("<II", 9, 32), struct.pack("<II", 9, 24)), "do not fit"),
        (matlab(step0__W1=np.ones((2, 2))).replace(struct.pack("<ii", 2, 2), struct.pack("<ii", -2, -2)), "do not fit"),
        (matlab(step0__W1=np.ones((2, 2))), "has no manifest"),
    ],
    ids=itertools.count(),
)
def test_files_that_are_no_traces(tmp_path: Path, content: bytes, fragment: str) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(content)
    refused(file, fragment)


@pytest.mark.parametrize("kind", REASONS)
def test_special_files_are_refused_at_once(special_files: dict[str, Path], kind: str) -> None:
    at_once(lambda: refused(special_files[kind], f"cannot be read ({REASONS[kind]}"))


def test_compressed_variables_and_other_bytes(tmp_path: Path) -> None:
    names = {name.replace("/", "__"): array for name, array in weights(dtype="float32").items()}
    file = tmp_path / "a.mat"
    scipy.io.savemat(file, names | {"manifest": json.dumps(MANIFEST)}, do_compression=True)
    trace = read_trace(file)
    assert trace.dtype == "float32"
    np.testing.assert_array_equal(trace.steps[0]["W2"], weights(dtype="float32")["step0/W2"])
    content, generator = file.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 3):
            damaged[place] = generator.integers(0, 256)
        file.write_bytes(damaged)
        with contextlib.suppress(TraceError):
            read_trace(file)


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.npz", "does not exist")


def trace_of(tmp_path: Path, arrays: Values, manifest: Values = MANIFEST) -> Trace:
    return read_trace(write(tmp_path / "trace.npz", arrays, manifest))


def test_the_points_of_a_trace_take_the_place_of_the_problems(tmp_path: Path) -> None:
    train, problem = training_of(trace_of(tmp_path, weights() | points()))
    assert (train.width, train.depth, train.adam_lr) == (3, 2, 0.01)
    assert isinstance(problem, NonlocalStrain)
    assert [len(each) for each in problem.point_sets] == [POINTS, 3, 3]
    assert problem.scales["x"] == (50.0, 1 / 50)  # of the trace's points
    np.testing.assert_array_equal(problem.field_points.values["x"], np.linspace(0, 100, POINTS))
    assert problem.solution is None


def test_a_reference_is_that_of_equal_data(tmp_path: Path) -> None:
    own = NonlocalStrain(inputs=("x", "y"), loss="mean_square")
    arrays = {
        f"points/{each.name}/{symbol}": np.asarray(values, dtype=np.float32)
        for each in own.point_sets
        for symbol, values in each.values.items()
    }
    _, problem = training_of(trace_of(tmp_path, weights() | arrays))
    assert own.solution is not None
    np.testing.assert_array_equal(problem.solution, own.solution)


def test_points_that_do_not_suffice(tmp_path: Path) -> None:
    some = without(points(), "points/btb/x", "points/btb/y")
    with pytest.raises(TraceError, match=r"trace\.npz: it has points of residual, lrb, but none of btb"):
        training_of(trace_of(tmp_path, weights() | some))
    less = without(points(), "points/residual/g")
    with pytest.raises(TraceError, match="the points of residual have no g: add points/residual/g"):
        training_of(trace_of(tmp_path, weights() | less))
    four = MANIFEST["problem"] | {"inputs": ["x", "y", "g", "elocal"]}
    with pytest.raises(TraceError, match="layers 2-3-4-1, and nonlocal_strain with inputs x, y, g, elocal needs 4 in"):
        training_of(trace_of(tmp_path, weights(), MANIFEST | {"problem": four}))


@pytest.mark.parametrize("name", ["burgers", "kovasznay", "poisson"])
def test_points_of_other_problems(name: str) -> None:
    problem = problem_class(name)()
    points = {
        group.terms[0]: {symbol: values[:7] for symbol, values in each.values.items()}
        for group, each in zip(problem.groups, problem.point_sets, strict=True)
    }
    changed = with_points(problem, points)
    assert [len(each) for each in changed.point_sets] == [7] * len(problem.groups)
    for before, after in zip(problem.point_sets, changed.point_sets, strict=True):
        np.testing.assert_array_equal(after.inputs, before.inputs[:7])
    changed.check_at_points()
    assert changed.data_sha256 != problem.data_sha256


def test_hidden_layers_of_unequal_width(tmp_path: Path) -> None:
    train, _ = training_of(trace_of(tmp_path, weights((2, 5, 3, 1))))
    assert (train.width, train.depth) == (5, 2)


def test_a_users_problem_is_named_by_the_user(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from pinncore.geometry import Box\n"
        "from pinncore import Problem\n\n\n"
        "class Mine(Problem):\n"
        "    coordinates, outputs, domain = {'x': '1', 'y': '1'}, {'u': '1'}, Box(x=(0, 1), y=(0, 1))\n\n"
        "    def equations(self, u, x, y):\n"
        "        return {'residual': u.diff(x) - u}\n"
    )
    trace = read_trace(
        write(tmp_path / "a.npz", weights(), {"format": FORMAT}), {"problem": f"{file}:Mine", "points": 8}
    )
    _, problem = training_of(trace)
    assert type(problem).__name__ == "Mine"
    assert len(problem.point_sets[0]) == 8
