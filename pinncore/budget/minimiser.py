"""The exact minimiser of a loss that is linear in what the network predicts, among the functions of a rich basis.

Sums of mean squares are minimised by least squares, sums of norms by iteratively reweighted ones: the norm of a
residual r is at most r'r / (2 n) + n / 2, with equality where n = ||r||. Each loss term is reduced once to the triangle
of its QR factorisation, of which the leading columns belong to the smaller bases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ..problems import PointSet, Problem
from .basis import Basis, Kind
from .linear import LinearTerm, linear_terms

Array = NDArray[np.float64]

MOST_FUNCTIONS: Final = {"cosines": 1600, "polynomials": 900}  # of all outputs together
LARGEST_SIZE: Final = 64  # functions of one coordinate
POINTS_PER_FUNCTION: Final = 4
SIZES: Final = (0.5, 0.75, 1.0)  # of the largest basis, in each coordinate
LEAST_SIZE: Final = 4
REWEIGHTINGS: Final = 50
SETTLED: Final = 1e-6  # relative change of the loss that ends them
_NOTHING: Final = 1e-10  # share of a term's value at u = 0 below which it counts as zero
_RANK: Final = 1e-13  # relative singular value below which a combination of functions is left out
_ROWS: Final = 4096  # points that are reduced at a time


@dataclass(frozen=True)
class Minimiser:
    """The function with the smallest loss in a basis of so many functions: its loss, relative L2 error, raw values.

    `raw` [outputs, points] are what a network would give on the field points.
    """

    kind: Kind | Literal["finite elements"]
    functions: int
    loss: float
    rel_l2: float
    raw: Array


def minimisers(problem: Problem) -> Iterator[Minimiser]:
    """Yield the minimisers of a linear problem with a reference in bases of several sizes, the smallest first.

    Inputs of the network beside the coordinates belong to the basis, with no derivatives, as for the network. Nothing
    is yielded where the points are too few.
    """
    terms = [term for term in linear_terms(problem) if term.weight]
    basis = basis_for(problem, terms)
    if basis is None:
        return
    outputs, more = len(problem.outputs), len(problem.input_columns) - len(problem.coordinates)
    reduced = [_reduced(problem, basis, term) for term in terms]
    scales = [_scale(problem, term) for term in terms]
    for size in dict.fromkeys(math.ceil(share * basis.size) for share in SIZES):
        functions = size ** len(basis.low)
        count = outputs * (functions + more)
        parts = [np.hstack([triangle[:, :count], triangle[:, -1:]]) for triangle in reduced]
        found, loss = _minimum(parts, np.array(scales), is_norm=problem.loss_form == "norm")
        points = problem.field_points
        raw = np.stack(
            [_functions(problem, basis, points)[:, : functions + more] @ each for each in found.reshape(-1, outputs).T]
        )
        error = problem.error(raw)
        assert error is not None
        yield Minimiser(basis.kind, functions, loss, error, raw)


def basis_for(problem: Problem, terms: list[LinearTerm]) -> Basis | None:
    """Return the largest basis for the points of a problem, None where they are too few.

    Cosines where all conditions are that slopes vanish at the ends of the box of all points, else polynomials.
    """
    places = [_places(problem, points) for points in problem.point_sets]
    every = np.concatenate(places)
    low, high = every.min(axis=0), every.max(axis=0)
    is_flat = [_is_flat(problem, term, low, high) for term in terms if term.name not in problem.written.equations]
    kind: Kind = "cosines" if is_flat and all(is_flat) else "polynomials"
    count = sum(map(len, places))
    most = min(MOST_FUNCTIONS[kind] / len(problem.outputs), count / POINTS_PER_FUNCTION)
    size = min(LARGEST_SIZE, int(most ** (1 / len(low)) + 1e-9))
    return Basis(kind, low, high, size) if size >= LEAST_SIZE and (high > low).all() else None


def _is_flat(problem: Problem, term: LinearTerm, low: Array, high: Array) -> bool:
    """Return whether a term asks for slopes of zero, each across the side of the box that its points are on."""
    places = _places(problem, term.points)
    at_end = np.minimum(places - low, high - places) <= 1e-9 * (high - low)
    return not term.free.any() and all(
        sum(orders) == 1 and (at_end[:, orders.index(1)] | (factors == 0)).all()
        for (_, orders), factors in term.coefficients.items()
    )


def _places(problem: Problem, points: PointSet) -> Array:
    return np.stack([points.values[column.symbol] for column in problem.coordinates], axis=1)


def _functions(problem: Problem, basis: Basis, points: PointSet, orders: tuple[int, ...] | None = None) -> Array:
    """Return a derivative of all functions [points, functions], those of the other inputs first."""
    orders = orders or (0,) * len(basis.low)
    others = points.inputs[:, len(basis.low) :]
    return np.hstack(
        [others if not any(orders) else np.zeros_like(others), basis.values(_places(problem, points), orders)]
    )


def _reduced(problem: Problem, basis: Basis, term: LinearTerm) -> Array:
    """Return the triangle R [rows, unknowns + 1] of a term: its residual has the norm of R (c, -1).

    Unknowns are ordered by function, then by output.
    """
    triangle = np.zeros((0, 0))
    for start in range(0, len(term.points), _ROWS):
        at = slice(start, start + _ROWS)
        values = {name: numbers[at] for name, numbers in term.points.values.items()}
        points = PointSet(term.name, term.points.inputs[at], values)
        blocks: list[Array] = [np.zeros(()) for _ in problem.outputs]
        for (output, orders), factors in term.coefficients.items():
            blocks[output] = blocks[output] + factors[at, None] * _functions(problem, basis, points, orders)
        width = next(block.shape[1] for block in blocks if block.ndim)
        design = np.stack([np.broadcast_to(block, (len(points), width)) for block in blocks], axis=2)
        rows = np.hstack([design.reshape(len(points), -1), -term.free[at, None]])
        rows = np.vstack([triangle, rows]) if triangle.size else rows
        triangle = _triangle(rows)
    return triangle


def _scale(problem: Problem, term: LinearTerm) -> float:
    """Return the factor on the norm, or on the sum of squares, of a term in the loss."""
    return term.weight if problem.loss_form == "norm" else term.weight / len(term.points)


def _minimum(parts: list[Array], scales: Array, *, is_norm: bool) -> tuple[Array, float]:
    """Return the unknowns with the smallest loss, and that loss."""
    at_zero = np.array([np.linalg.norm(part[:, -1]) for part in parts])
    least = _NOTHING * max(at_zero.max(), np.finfo(float).tiny)
    weights, loss = scales, math.inf
    for _ in range(REWEIGHTINGS if is_norm else 1):
        stacked = np.vstack([math.sqrt(weight) * part for weight, part in zip(weights, parts, strict=True)])
        unknowns = _least_squares(stacked)
        norms = np.array([np.linalg.norm(part @ np.append(unknowns, -1.0)) for part in parts])
        before, loss = loss, float((scales * (norms if is_norm else norms**2)).sum())
        if is_norm and (before - loss <= SETTLED * before if math.isfinite(before) else loss <= least):
            break
        weights = scales / np.maximum(norms, least)
    return unknowns, loss


def _triangle(rows: Array) -> Array:
    return np.asarray(np.linalg.qr(rows, mode="r"))


def _least_squares(rows: Array) -> Array:
    triangle = _triangle(rows)
    count = rows.shape[1] - 1
    corner = triangle[:count, :count]
    size = np.abs(np.diag(corner))
    if corner.shape == (count, count) and size.min() > _RANK * size.max():
        return np.asarray(scipy.linalg.solve_triangular(corner, triangle[:count, -1]))
    found, *_ = scipy.linalg.lstsq(triangle[:, :-1], triangle[:, -1], cond=_RANK, lapack_driver="gelsy")
    return np.asarray(found)
