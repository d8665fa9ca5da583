"""What a user writes beside equations: conditions on parts of the domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..geometry import Region

NORMAL: Final = "normal_"  # prefix of the symbols of the outward unit normal, known on boundaries


@dataclass(frozen=True)
class Condition:
    """A residual on a part of the domain, a loss term of its own.

    `residual` is an expression that is to be zero, `on` a region, `weight` the factor of the term in the loss (a number
    or a float setting), `points` their number, if it is not that of `condition_points`.
    """

    name: str
    residual: Any
    on: Region | None = None
    weight: Any = 1.0
    points: int | None = None


def normal_derivative(u: Any) -> Any:
    """Return the derivative of an output along the outward normal of the boundary that a condition stands on."""
    import sympy as sp

    return sp.Add(*(sp.Symbol(f"{NORMAL}{x}", real=True) * u.diff(x) for x in u.args))
