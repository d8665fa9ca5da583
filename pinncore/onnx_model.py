"""A trained network as an ONNX model of the whole function, from physical inputs to the physical output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

from .networks import unflatten
from .trained import TrainedNetwork

OPSET: Final = 18  # old enough for common runtimes
IR_VERSION: Final = 8  # as old as the opset
OUTPUT: Final = "predicted"

_TYPES: Final = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


def model(network: TrainedNetwork, metadata: Mapping[str, str]) -> bytes:
    """Return the serialised model: the physical inputs by name, and the output `predicted`, [points] each.

    Inputs and output are doubles; inside, the model has the precision of the training.
    """
    graph = _Graph(network.train.dtype)
    problem, columns = network.problem, []
    for column in problem.input_columns:
        centre, factor = problem.scales[column.symbol]
        scaled = graph.add("Mul", graph.add("Sub", column.name, graph.double(centre)), graph.double(factor))
        columns.append(graph.add("Unsqueeze", scaled, graph.constant(np.array([1]))))
    value = graph.add("Cast", graph.add("Concat", *columns, axis=1), to=_TYPES[network.train.dtype])
    weights = unflatten(network.parameters, network.layers)
    for level, (w, b) in enumerate(weights, start=1):
        value = graph.add("Add", graph.add("MatMul", value, graph.weight(w)), graph.weight(b))
        if level < len(weights):
            value = graph.activation(network.activation, value)
    value = graph.add("Cast", graph.add("Squeeze", value, graph.constant(np.array([1]))), to=TensorProto.DOUBLE)
    graph.add("Div", value, graph.double(problem.output_factor), output=OUTPUT)
    return graph.serialised([column.name for column in problem.input_columns], metadata)


class _Graph:
    """Nodes and constants in the order of their creation."""

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, operation: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = output or f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def constant(self, array: NDArray[Any]) -> str:
        """Add an array as a constant and return its name."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def double(self, value: float) -> str:
        """Add a number as a constant in double precision and return its name."""
        return self.constant(np.array(value, dtype=np.float64))

    def weight(self, values: NDArray[np.float64]) -> str:
        """Add an array as a constant in the precision of the training and return its name."""
        return self.constant(np.ascontiguousarray(values, dtype=self._dtype))

    def activation(self, name: str, z: str) -> str:
        """Add the activation of `z` and return the name of its output."""
        if name == "silu":
            return self.add("Mul", z, self.add("Sigmoid", z))
        if name == "gelu":
            erf = self.add("Erf", self.add("Mul", z, self.weight(np.array(math.sqrt(0.5)))))
            share = self.add("Mul", self.add("Add", erf, self.weight(np.array(1.0))), self.weight(np.array(0.5)))
            return self.add("Mul", z, share)
        return self.add({"tanh": "Tanh", "sin": "Sin"}[name], z)

    def serialised(self, inputs: list[str], metadata: Mapping[str, str]) -> bytes:
        """Return the model as bytes, after the checks of the package onnx."""
        tensors = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["points"]) for name in (*inputs, OUTPUT)]
        graph = helper.make_graph(self._nodes, "network", tensors[:-1], tensors[-1:], self._constants)
        proto = helper.make_model(
            graph, producer_name="pinnsweep", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        helper.set_model_props(proto, dict(metadata))
        checker.check_model(proto, full_check=True)
        return bytes(proto.SerializeToString())
