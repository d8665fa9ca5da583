"""The arguments of the kernels, field by field as their sources declare them."""

from __future__ import annotations

import ctypes
from typing import ClassVar, Self

import torch
from torch import Tensor

_P, _L, _I = ctypes.c_void_p, ctypes.c_long, ctypes.c_int


class Arguments(ctypes.Structure):
    """A structure that keeps its tensors alive and knows their addresses."""

    kept: dict[str, Tensor]

    @classmethod
    def of(cls, **values: Tensor | int | None) -> Self:
        """Return arguments by name; tensors must be contiguous. What is not given is null or 0."""
        self = cls()
        self.kept = {}
        self.give(**values)
        return self

    def give(self, **values: Tensor | int | None) -> None:
        """Set arguments."""
        for name, value in values.items():
            if isinstance(value, Tensor):
                if not value.is_contiguous():
                    raise ValueError(f"{name} is not contiguous")
                self.kept[name] = value
                value = value.data_ptr() if value.numel() else None
            setattr(self, name, value)


class LossArguments(Arguments):
    """See network.cuh."""

    _fields_: ClassVar = [
        *((name, _P) for name in ("x", "rows", "widths", "inputs", "columns", "seeds", "parameters", "weights")),
        *((name, _P) for name in ("squares", "gradients", "outputs", "tape")),
        ("size", _L),
        *((name, _I) for name in ("depth", "count", "coordinates", "tasks", "task", "terms")),
    ]


class StepArguments(Arguments):
    """See step.cuh."""

    _fields_: ClassVar = [
        *((name, _P) for name in ("squares", "gradients", "groups", "weights", "averages")),
        *((name, _P) for name in ("loss", "norm", "terms_of", "gradient", "x", "m", "v")),
        *((name, _P) for name in ("coefficients", "constants", "rules", "epochs", "stopped")),
        *((name, _P) for name in ("first_loss", "divergence")),
        ("size", _L),
        *((name, _I) for name in ("rows", "tasks", "widest", "terms", "group_count")),
    ]


class KeepArguments(Arguments):
    """See step.cuh."""

    _fields_: ClassVar = [
        *((name, _P) for name in ("loss", "norm", "terms_of", "errors", "records", "slots")),
        *((name, _I) for name in ("rows", "terms", "tasks", "outputs")),
    ]


class PullArguments(Arguments):
    """See step.cuh."""

    _fields_: ClassVar = [
        *((name, _P) for name in ("outputs", "columns", "values", "places")),
        *((name, _I) for name in ("count", "entries")),
    ]


def integers(values: object, device: torch.device) -> Tensor:
    """Return 32-bit integers on a device."""
    return torch.as_tensor(values, dtype=torch.int32).contiguous().to(device)
