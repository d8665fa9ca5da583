"""Layouts: the places of the flat vectors of many networks in the rows of a pack.

In a padded pack every hidden layer is filled up with zeros to the widest member. That is exact for an activation with
sigma(0) = 0: a padded unit has zero activation, zero derivatives, zero gradient, and adds nothing to inner products.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import SettingError
from .networks import Layers, parameter_count

ROW_MULTIPLE = 16  # a row is a whole number of SIMD vectors


class Layout(abc.ABC):
    """The places of each member's parameters in the vectors [members, size] of a pack; all else there is zero."""

    members: tuple[Layers, ...]
    padded: Layers

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Return the length of a row."""

    @abc.abstractmethod
    def positions(self, member: int) -> NDArray[np.int64]:
        """Return the indices [parameters] of the member's parameters in its row."""

    @abc.abstractmethod
    def keep(self, rows: Sequence[int]) -> Layout:
        """Return the layout of the members `rows` only, with the same row length."""

    def pack(self, flats: Sequence[NDArray[np.float64]], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return parameters [members, size] from one flat vector per member."""
        padded = np.zeros((len(self.members), self.size))
        for member, flat in enumerate(flats):
            padded[member, self.positions(member)] = flat
        return torch.as_tensor(padded, dtype=dtype, device=device)

    def unpack(self, padded: Tensor, member: int) -> NDArray[np.float64]:
        """Return the member's flat vector from its row [size]."""
        row: NDArray[np.float64] = padded.detach().to("cpu", torch.float64).numpy()
        return row[self.positions(member)]


@dataclass(frozen=True)
class CompactLayout(Layout):
    """A layout with the flat vector at the front of each row, for engines that compute members at their own shape."""

    members: tuple[Layers, ...]
    length: int = 0  # 0: the length that the largest member needs
    padded: Layers = ()

    @property
    def size(self) -> int:
        longest = max(parameter_count(layers) for layers in self.members)
        return self.length or -(-longest // ROW_MULTIPLE) * ROW_MULTIPLE

    def positions(self, member: int) -> NDArray[np.int64]:
        return np.arange(parameter_count(self.members[member]))

    def keep(self, rows: Sequence[int]) -> CompactLayout:
        return CompactLayout(tuple(self.members[row] for row in rows), self.size)


@dataclass(frozen=True)
class PackedLayout(Layout):
    """A layout of members padded to one shape, for engines that multiply all of them at once."""

    members: tuple[Layers, ...]
    padded: Layers = ()  # default: the widest member in every layer

    def __post_init__(self) -> None:
        widest = tuple(max(sizes) for sizes in zip(*self.members, strict=False))
        if not self.padded:
            object.__setattr__(self, "padded", widest)
        if len({(len(layers), layers[0], layers[-1]) for layers in self.members}) != 1:
            raise SettingError("layers", self.members, "must share depth, inputs and outputs in a pack")
        ends = (self.padded[0], self.padded[-1]) != (widest[0], widest[-1])
        if ends or len(self.padded) != len(widest) or any(p < w for p, w in zip(self.padded, widest, strict=True)):
            raise SettingError(
                "padded", self.padded, f"must be at least {widest} in every hidden layer, and the same at both ends"
            )

    @property
    def size(self) -> int:
        return parameter_count(self.padded)

    def positions(self, member: int) -> NDArray[np.int64]:
        place, start = [], 0
        layers, padded = self.members[member], self.padded
        for level in range(len(padded) - 1):
            before, after = padded[level], padded[level + 1]
            rows, columns = np.arange(layers[level])[:, None], np.arange(layers[level + 1])
            place += [(start + rows * after + columns).reshape(-1), start + before * after + columns]
            start += (before + 1) * after
        return np.concatenate(place)

    def views(self, parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
        """View padded parameters [members, size] as [(W [members, in, out], b [members, out]), ...]."""
        weights, start, members = [], 0, parameters.shape[0]
        for before, after in zip(self.padded[:-1], self.padded[1:], strict=True):
            w = parameters[:, start : start + before * after].view(members, before, after)
            b = parameters[:, start + before * after : start + (before + 1) * after]
            weights.append((w, b))
            start += (before + 1) * after
        return weights

    def keep(self, rows: Sequence[int]) -> PackedLayout:
        return PackedLayout(tuple(self.members[row] for row in rows), self.padded)
