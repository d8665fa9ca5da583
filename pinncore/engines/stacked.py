"""Points and numbers of all members of a pack as tensors on one device, for engines that evaluate members together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..equations.channels import Group
from ..layouts import Layout
from ..problems import Problem
from .base import Engine, Picks, group_starts, loss_shape, residual_weights


class StackedPoints(NamedTuple):
    """Points of one group of several members: inputs [members, inputs, points], columns [members, columns, points]."""

    inputs: Tensor
    columns: Tensor


class StackedMembers(NamedTuple):
    """What differs between the members of a group: factors of coordinates, parameters, weights of residuals."""

    seeds: Tensor  # [members, coordinates]
    parameters: Tensor  # [members, parameters]
    weights: Tensor  # [members, residuals], of the cotangents


class Coupling(NamedTuple):
    """Sparse matrices of several members, rows filled up to one length: both [members, points, entries of a row]."""

    values: Tensor
    columns: Tensor

    def product(self, r: Tensor) -> Tensor:
        """Return M r [members, points]."""
        return (self.values * r.gather(1, self.columns.flatten(1)).view_as(self.values)).sum(dim=2)

    def rows(self, place: Tensor) -> Coupling:
        return Coupling(self.values[place], self.columns[place])


class Rows(NamedTuple):
    """Some members in an evaluation: points and numbers by group, weights and averages [members, terms]."""

    points: list[StackedPoints]
    members: list[StackedMembers]
    weights: Tensor
    averages: Tensor
    coupling: Coupling | None


class StackedEngine(Engine):
    """An engine with the points of its members in tensors."""

    def __init__(self, problems: Sequence[Problem], layout: Layout, **options: Any) -> None:
        super().__init__(problems, layout, **options)
        self._groups: tuple[Group, ...] = tuple(problems[0].groups)
        self._starts = group_starts(problems[0])
        groups = range(len(self._groups))
        weights, averages = (self.as_tensor(table) for table in loss_shape(problems))
        self._all = Rows(
            [_stacked([self._points(problem, group) for problem in problems]) for group in groups],
            [self._members(group) for group in groups],
            weights,
            averages,
            self._coupling(),
        )
        self._some: tuple[tuple[int, ...], Rows] | None = None  # the rows of the last evaluation of some members

    def renew(self, row: int, problem: Problem) -> None:
        self.problems[row], self._some = problem, None
        self.__dict__.pop("_field_inputs", None)
        for index, points in enumerate(self._all.points):
            for stacked, own in zip(points, self._points(problem, index), strict=True):
                stacked[row] = own

    def _points(self, problem: Problem, group: int) -> StackedPoints:
        """Return the points of one member, without the dimension of members."""
        points = problem.point_sets[group]
        columns = self.as_tensor(problem.group_columns(group, points))
        return StackedPoints(self.as_tensor(points.inputs.T.copy()), columns)

    def _members(self, group: int) -> StackedMembers:
        seeds = np.stack([problem.seeds for problem in self.problems])
        parameters = np.stack([problem.group_parameters(group) for problem in self.problems])
        weights = residual_weights(self.problems, group)
        return StackedMembers(*(self.as_tensor(table) for table in (seeds, parameters, weights)))

    def _coupling(self) -> Coupling | None:
        """Return the matrices of all members, None where their loss has none."""
        if not self._groups[0].is_coupled:
            return None
        matrices = [problem.coupling for problem in self.problems]
        most = max(int(np.diff(matrix.indptr).max()) for matrix in matrices)
        values, columns = np.zeros((2, len(matrices), matrices[0].shape[0], most))
        for row, matrix in enumerate(matrices):
            is_filled = np.arange(most) < np.diff(matrix.indptr)[:, None]
            values[row][is_filled], columns[row][is_filled] = matrix.data, matrix.indices
        return Coupling(self.as_tensor(values), torch.as_tensor(columns, dtype=torch.int64, device=self.device))

    @cached_property
    def _field_inputs(self) -> Tensor:
        """Return the network inputs [members, inputs, points] of the field points."""
        return torch.stack([self.as_tensor(problem.field_points.inputs.T.copy()) for problem in self.problems])

    def _chosen(self, rows: Sequence[int] | None) -> Rows:
        if rows is None or list(rows) == list(range(len(self.problems))):
            return self._all
        if self._some is None or self._some[0] != tuple(rows):
            place = torch.as_tensor(list(rows), dtype=torch.int64, device=self.device)
            self._some = (
                tuple(rows),
                Rows(
                    [StackedPoints(*(table[place] for table in points)) for points in self._all.points],
                    [StackedMembers(*(table[place] for table in members)) for members in self._all.members],
                    self._all.weights[place],
                    self._all.averages[place],
                    self._all.coupling and self._all.coupling.rows(place),
                ),
            )
        return self._some[1]

    def _picked(self, rows: Sequence[int] | None, picks: Picks) -> Rows:
        """Return members with some of their points only."""
        rows = list(range(len(self.problems)) if rows is None else rows)
        place = torch.as_tensor(rows, dtype=torch.int64, device=self.device)
        points, counts = [], []
        for group, stacked in enumerate(self._all.points):
            every = np.arange(stacked.inputs.shape[2])
            own = (each[group] for each in picks)
            chosen = np.stack([every if indices is None else indices for indices in own])
            at = place[:, None], torch.as_tensor(chosen, device=self.device)
            points.append(StackedPoints(*(table.transpose(1, 2)[at].transpose(1, 2).contiguous() for table in stacked)))
            counts.append(chosen.shape[1])
        _, averages = loss_shape([self.problems[row] for row in rows], counts)
        members = [StackedMembers(*(table[place] for table in each)) for each in self._all.members]
        return Rows(points, members, self._all.weights[place], self.as_tensor(averages), None)


def _stacked(points: Sequence[StackedPoints]) -> StackedPoints:
    return StackedPoints(*(torch.stack(tables) for tables in zip(*points, strict=True)))
