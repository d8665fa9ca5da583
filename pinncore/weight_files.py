"""Trained networks as files that other programs read: NumPy, safetensors, PyTorch, ONNX.

`npz`, `safetensors` and `state_dict` hold the bare network, whose inputs and output are scaled; ONNX holds the whole
function, from physical inputs to the physical output. The metadata give units and scales, as JSON.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import torch

from .disk import write_whole
from .equations.evaluation import without_arguments
from .errors import WeightsError
from .networks import unflatten
from .trained import TrainedNetwork

Format = Literal["npz", "safetensors", "state_dict", "onnx"]

METADATA: Final = "pinnsweep"  # key of the metadata, in the formats that can hold them
ENDINGS: Final[Mapping[str, Format]] = MappingProxyType(
    {".npz": "npz", ".safetensors": "safetensors", ".pt": "state_dict", ".pth": "state_dict", ".onnx": "onnx"}
)


def format_of(file: Path) -> Format:
    """Return the format that the ending of a file names. Raises `WeightsError` where it names none."""
    if file.suffix.lower() not in ENDINGS:
        raise WeightsError(f"{file}: the name must end in {', '.join(ENDINGS)}, or give --format")
    return ENDINGS[file.suffix.lower()]


def write_network(
    network: TrainedNetwork, file: Path, format: Format | None = None, *, metadata: Mapping[str, Any] | None = None
) -> Format:
    """Write a network, in the format of the file's ending unless given, and return the format.

    The file appears whole or not at all, and replaces a file of that name. `metadata` are written beside those of
    `about`. Raises `WeightsError` where its ending names no format, and where a library is missing.
    """
    file_format = format or format_of(file)
    write_whole(file.absolute(), _WRITERS[file_format](network, {**(metadata or {}), **about(network)}))
    return file_format


def about(network: TrainedNetwork) -> dict[str, Any]:
    """Return what is needed to use the bare network: layers, activation, precision, and the scales of its inputs.

    The network takes factor (value - centre) of each of `inputs`, in this order, where the value is in the given unit.
    The physical `outputs` are expressions of its outputs `fields`, of columns and of the numbers `symbols`.
    """
    problem = network.problem
    values = problem.symbol_values()
    used = sorted({s.name for output in problem.written.outputs.values() for s in output.free_symbols} & set(values))
    inputs = []
    for column in problem.input_columns:
        centre, factor = problem.scales[column.symbol]
        inputs.append({"name": column.name, "unit": column.unit, "centre": centre, "factor": factor})
    return {
        "layers": list(network.layers),
        "activation": network.activation,
        "dtype": network.train.dtype,
        "inputs": inputs,
        "fields": [without_arguments(field).name for field in problem.written.fields],
        "outputs": [
            {"name": column.symbol, "unit": column.unit, "expression": str(without_arguments(output))}
            for column, output in zip(problem.outputs, problem.written.outputs.values(), strict=True)
        ],
        "symbols": {name: values[name] for name in used},
    }


def _npz(network: TrainedNetwork, metadata: Mapping[str, Any]) -> bytes:
    """Return W1 [in, out], b1 [out], W2, ... in float64, as `init: file:PATH` reads them."""
    arrays: dict[str, Any] = {METADATA: np.array(json.dumps(metadata))}
    for level, (w, b) in enumerate(unflatten(network.parameters, network.layers), start=1):
        arrays |= {f"W{level}": w, f"b{level}": b}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _safetensors(network: TrainedNetwork, metadata: Mapping[str, Any]) -> bytes:
    from safetensors.torch import save

    return save(_state_dict(network), metadata={METADATA: json.dumps(metadata)})


def _pt(network: TrainedNetwork, metadata: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(_state_dict(network), stream)
    return stream.getvalue()


def _state_dict(network: TrainedNetwork) -> dict[str, torch.Tensor]:
    """Return 0.weight [out, in], 0.bias [out], 2.weight, ... of a Sequential of Linear layers and activations."""
    dtype = getattr(torch, network.train.dtype)
    tensors = {}
    for level, (w, b) in enumerate(unflatten(network.parameters, network.layers)):
        tensors[f"{2 * level}.weight"] = torch.tensor(w.T.copy(), dtype=dtype)
        tensors[f"{2 * level}.bias"] = torch.tensor(b, dtype=dtype)
    return tensors


def _onnx(network: TrainedNetwork, metadata: Mapping[str, Any]) -> bytes:
    try:
        from .onnx_model import model
    except ImportError:
        raise WeightsError("ONNX files need the package onnx: pip install 'pinnsweep[onnx]'") from None
    return model(network, {METADATA: json.dumps(metadata)})


_WRITERS: Final[Mapping[Format, Callable[[TrainedNetwork, Mapping[str, Any]], bytes]]] = MappingProxyType(
    {"npz": _npz, "safetensors": _safetensors, "state_dict": _pt, "onnx": _onnx}
)
