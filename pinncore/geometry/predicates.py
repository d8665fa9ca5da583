"""Predicates that restrict a region: functions of coordinates, or inequalities in SymPy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from .checks import Array, known_names


def holds(predicate: Any, columns: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Return at which points [points] a predicate holds; coordinates are handed in by name.

    Raises `SettingError` for a predicate of something else, or one that does not give a truth value for each point.
    """
    function, names = _function(predicate)
    known_names("where", names, columns)
    shape = np.shape(next(iter(columns.values())))
    found = np.asarray(function(**{name: columns[name] for name in names}))
    if found.dtype != np.bool_ or found.shape not in (shape, ()):
        raise SettingError(
            "where",
            f"{found.dtype} of shape {found.shape}",
            f"the predicate must give a truth value for each of {shape[0]} points",
            "It gets arrays: write where(lambda x, y: (x > 0) & (y < 1)), with & and | in place of and and or.",
        )
    return np.broadcast_to(found, shape)


def _function(predicate: Any) -> tuple[Callable[..., Any], list[str]]:
    """Return a function of keywords and their names."""
    if hasattr(predicate, "free_symbols"):
        import sympy  # takes half a second to import

        if not (predicate.is_Boolean or predicate.is_Relational):
            raise SettingError("where", predicate, "must be an inequality", "Write where(x > 0).")
        symbols = sorted(predicate.free_symbols, key=str)
        return sympy.lambdify(symbols, predicate, "numpy"), [str(symbol) for symbol in symbols]
    if not callable(predicate):
        raise SettingError("where", predicate, "must be a function or an inequality", "Write where(lambda x: x > 0).")
    return predicate, list(inspect.signature(predicate).parameters)
