"""Residuals that are linear in what the network predicts, as numbers at points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from ..equations.channels import Group, TorchCall
from ..equations.evaluation import evaluated
from ..problems import PointSet, Problem
from .basis import Orders

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinearTerm:
    """A loss term: its residual is the sum of coefficients times derivatives of the outputs, plus `free`, at points.

    `coefficients`: (output, orders of the derivative) -> [points]; `weight` is the factor of the term in the loss.
    """

    name: str
    points: PointSet
    coefficients: Mapping[tuple[int, Orders], Array]
    free: Array
    weight: float


def why_nonlinear(problem: Problem) -> str | None:
    """Return why the residuals of a problem are not linear in its outputs; None where they are."""
    for group in problem.groups:
        channels = {symbol for symbols in group.channel_symbols for symbol in symbols}
        for name, residual in zip(group.terms, group.residuals, strict=True):
            if isinstance(residual, TorchCall):
                return f"the residual of {name} is a torch function, of which it is not known whether it is linear"
            if any(sp.diff(residual, symbol).free_symbols & channels for symbol in channels):
                outputs = ", ".join(column.symbol for column in problem.outputs)
                return f"the equation {name} is not linear in {outputs}"
    return None


def linear_terms(problem: Problem) -> Iterator[LinearTerm]:
    """Yield the loss terms of a linear problem, as `why_nonlinear` has it."""
    weights = iter(problem.weights)
    for index, (group, points) in enumerate(zip(problem.groups, problem.point_sets, strict=True)):
        columns = problem.group_columns(index, points)
        named = dict(zip(map(str, group.column_symbols), columns, strict=True))
        named |= dict(zip(map(str, group.parameter_symbols), problem.group_parameters(index), strict=True))
        for name, residual in zip(group.terms, group.residuals, strict=True):
            coefficients, free = _affine(residual, group, columns, named, (len(points), len(problem.coordinates)))
            yield LinearTerm(name, points, coefficients, free, next(weights))


def _affine(
    residual: Any, group: Group, columns: Array, named: Mapping[str, Any], shape: tuple[int, int]
) -> tuple[dict[tuple[int, Orders], Array], Array]:
    """Return coefficients and free part of a residual; `shape` is (points, coordinates)."""
    channels = [symbol for symbols in group.channel_symbols for symbol in symbols]
    free = residual.xreplace(dict.fromkeys(channels, sp.Integer(0)))
    slopes = tuple(sp.diff(residual, symbol) for symbol in channels)
    values = evaluated((free, *slopes), named)
    values = np.broadcast_to(values, (len(values), shape[0]))
    coefficients: dict[tuple[int, Orders], Array] = {}
    for number, (slope, factors) in enumerate(zip(slopes, values[1:], strict=True)):
        if slope == 0:
            continue
        output, channel = divmod(number, group.channels.count)
        for orders, factor in _derivatives(group, channel, columns, shape[1]):
            known = coefficients.get((output, orders), np.zeros(shape[0]))
            coefficients[output, orders] = known + factor * factors
    return coefficients, values[0]


def _derivatives(group: Group, channel: int, columns: Array, count: int) -> Iterator[tuple[Orders, Any]]:
    """Yield the derivatives that a channel is the sum of, each with its factor."""
    firsts, forms = group.channels.firsts, group.channels.forms
    if channel <= len(firsts):
        yield _orders(firsts[channel - 1 : channel] if channel else (), count), 1.0
        return
    for p, q, column in forms[channel - 1 - len(firsts)]:
        yield _orders((firsts[p], firsts[q]), count), 1.0 if column is None else columns[column]


def _orders(axes: tuple[int, ...], count: int) -> Orders:
    return tuple(axes.count(axis) for axis in range(count))
