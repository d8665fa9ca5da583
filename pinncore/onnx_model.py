"""A trained network as an ONNX model of the whole function, from physical inputs to the physical outputs."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

from .errors import SettingError
from .networks import unflatten
from .problems import Problem
from .trained import TrainedNetwork

OPSET: Final = 18  # old enough for common runtimes
IR_VERSION: Final = 8  # as old as the opset

_TYPES: Final = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
_UNARY: Final[Mapping[Any, str]] = MappingProxyType(  # functions of SymPy as operators
    {
        sp.exp: "Exp",
        sp.log: "Log",
        sp.sin: "Sin",
        sp.cos: "Cos",
        sp.tan: "Tan",
        sp.asin: "Asin",
        sp.acos: "Acos",
        sp.atan: "Atan",
        sp.sinh: "Sinh",
        sp.cosh: "Cosh",
        sp.tanh: "Tanh",
        sp.asinh: "Asinh",
        sp.acosh: "Acosh",
        sp.atanh: "Atanh",
        sp.Abs: "Abs",
        sp.sign: "Sign",
        sp.floor: "Floor",
        sp.ceiling: "Ceil",
        sp.erf: "Erf",
    }
)
_MANY: Final[Mapping[Any, str]] = MappingProxyType({sp.Add: "Add", sp.Mul: "Mul", sp.Max: "Max", sp.Min: "Min"})


def model(network: TrainedNetwork, metadata: Mapping[str, str]) -> bytes:
    """Return the serialised model: the physical inputs by name, and `predicted`, [points] each.

    Several outputs are `predicted_u`, `predicted_v`, ...; inputs and outputs are doubles; inside, the network has the
    precision of the training. Raises `SettingError` where a hard condition has a function that ONNX does not have.
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
    value = graph.add("Cast", value, to=TensorProto.DOUBLE)
    symbols = {column.symbol: column.name for column in network.columns}
    symbols |= {name: graph.double(number) for name, number in problem.symbol_values().items()}
    places: dict[Any, str] = {}
    for number, field in enumerate(problem.written.fields):
        places[field] = graph.add("Gather", value, graph.constant(np.array(number)), axis=1)
    names = output_names(problem)
    for name, output in zip(names, problem.written.outputs.values(), strict=True):
        graph.add("Identity", _place(graph, output, places, symbols), output=name)
    return graph.serialised([column.name for column in network.columns], names, metadata)


def output_names(problem: Problem) -> list[str]:
    """Return the names of the physical outputs: `predicted`, or `predicted_u`, `predicted_v`, ..."""
    if len(problem.outputs) == 1:
        return ["predicted"]
    return [f"predicted_{column.symbol}" for column in problem.outputs]


def _place(graph: _Graph, expression: Any, places: dict[Any, str], symbols: Mapping[str, str]) -> str:
    """Return the name of the result of an expression; `places` has the names of those that are in the graph."""
    if expression not in places:
        places[expression] = _added(graph, expression, places, symbols)
    return places[expression]


def _added(graph: _Graph, expression: Any, places: dict[Any, str], symbols: Mapping[str, str]) -> str:
    if expression.is_number:
        return graph.double(float(expression))
    if expression.is_Symbol:
        return symbols[expression.name]
    parts = [_place(graph, part, places, symbols) for part in expression.args] if expression.func in _MANY else []
    if parts:
        return functools.reduce(lambda a, b: graph.add(_MANY[expression.func], a, b), parts)
    if expression.is_Pow:
        base, exponent = (_place(graph, part, places, symbols) for part in expression.as_base_exp())
        return graph.add("Pow", base, exponent)
    if expression.func in _UNARY:
        return graph.add(_UNARY[expression.func], _place(graph, expression.args[0], places, symbols))
    raise SettingError(
        "transform",
        str(expression.func),
        "is a function that ONNX files cannot hold",
        f"Write the hard condition with {', '.join(sorted(map(str, _UNARY)))}, Max, Min and powers, or use "
        "another format, which holds the bare network.",
    )


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

    def serialised(self, inputs: list[str], outputs: list[str], metadata: Mapping[str, str]) -> bytes:
        """Return the model as bytes, after the checks of the package onnx."""
        given, found = (
            [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["points"]) for name in names]
            for names in (inputs, outputs)
        )
        graph = helper.make_graph(self._nodes, "network", given, found, self._constants)
        proto = helper.make_model(
            graph, producer_name="pinnsweep", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        helper.set_model_props(proto, dict(metadata))
        checker.check_model(proto, full_check=True)
        return bytes(proto.SerializeToString())
