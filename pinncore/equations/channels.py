"""What engines evaluate: the channels that a network carries at a point, and residuals in these channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Form = tuple[tuple[int, int, int | None], ...]


@dataclass(frozen=True)
class Channels:
    """The value of every output, its first derivatives to some coordinates, and second-order forms.

    `firsts` are indices of coordinates. A form is the sum over (p, q, column) of a coefficient times the second
    derivative to the coordinates `firsts[p]` and `firsts[q]`; the coefficient is 1 where `column` is None, else the
    number in that data column of the group at each point. Order: value, first derivatives, forms.
    """

    firsts: tuple[int, ...] = ()
    forms: tuple[Form, ...] = ()

    @property
    def count(self) -> int:
        """Return the number of channels of one output."""
        return 1 + len(self.firsts) + len(self.forms)

    @property
    def kind(self) -> tuple[int, tuple[tuple[tuple[int, int, bool], ...], ...]]:
        """Return what kernels are compiled for: the number of first derivatives, and forms with their kind of terms."""
        return len(self.firsts), tuple(tuple((p, q, c is not None) for p, q, c in form) for form in self.forms)


@dataclass(frozen=True)
class TorchCall:
    """A residual that SymPy cannot say: a torch function of the values of expressions at the points."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]  # SymPy expressions


@dataclass(frozen=True, eq=False)
class Group:
    """Residuals at common points, one for each of its loss terms.

    `residuals` are SymPy expressions (or a `TorchCall` of such) of the symbols in `channel_symbols`
    [outputs][channels], `column_symbols` and `parameter_symbols`. `columns` are the expressions of the data columns,
    one number at each point, in coordinates, known data and settings; `parameters` those of the parameters, one number
    for each member, in settings. `written` are the residuals as their problem wrote them, with hard conditions
    substituted: expressions of network outputs (`fields`), their derivatives, coordinates, known data and settings, for
    engines that know no channels.

    The term of a coupled group is r' M r / 2 over all its points, with the problem's `coupling` M, instead of a sum of
    squares; its one residual r is the value of the output minus its one column.
    """

    terms: tuple[str, ...]
    channels: Channels
    residuals: tuple[Any, ...]
    channel_symbols: tuple[tuple[Any, ...], ...]
    columns: tuple[Any, ...] = ()
    column_symbols: tuple[Any, ...] = ()
    parameters: tuple[Any, ...] = ()
    parameter_symbols: tuple[Any, ...] = ()
    written: tuple[Any, ...] = ()
    fields: tuple[Any, ...] = ()  # applied functions N_o(coordinates), one for each output
    is_coupled: bool = False

    @property
    def torch_terms(self) -> tuple[str, ...]:
        """Return the terms that only engines of torch can evaluate."""
        pairs = zip(self.terms, self.residuals, strict=True)
        return tuple(term for term, residual in pairs if isinstance(residual, TorchCall))

    @property
    def needs_torch(self) -> bool:
        """Return whether only engines of torch can evaluate it."""
        return bool(self.torch_terms)
