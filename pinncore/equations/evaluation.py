"""Numbers from expressions: columns, parameters, physical outputs, references."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from sympy.core.function import AppliedUndef

from ..errors import ProblemError

Array = NDArray[np.float64]


def symbol(name: str) -> Any:
    """Return the symbol called `name`, a real number."""
    return sp.Symbol(name, real=True, positive=True) if name.startswith("size_") else sp.Symbol(name, real=True)


def without_arguments(expression: Any) -> Any:
    """Return an expression with a symbol in place of every function of the coordinates, of the function's name."""
    return expression.xreplace({each: sp.Symbol(each.func.__name__) for each in expression.atoms(AppliedUndef)})


def evaluated(expressions: tuple[Any, ...], values: Mapping[str, Any]) -> Array:
    """Return expressions [expressions, points] at arrays and numbers by the names of their symbols."""
    count = max((len(value) for value in values.values() if np.ndim(value)), default=1)
    if not expressions:
        return np.zeros((0, count))
    for expression in expressions:
        if expression.has(sp.zoo, sp.oo, -sp.oo, sp.nan):
            raise ProblemError(f"{expression} is not finite")
    names, function = _function(expressions)
    missing = [name for name in names if name not in values]
    if missing:
        raise ProblemError(f"there is no value of {missing[0]} at these points")
    with np.errstate(all="ignore"):
        found = function(*(values[name] for name in names))
    return np.stack([np.broadcast_to(np.asarray(each, dtype=np.float64), (count,)) for each in found])


@functools.lru_cache(maxsize=256)
def _function(expressions: tuple[Any, ...]) -> tuple[tuple[str, ...], Callable[..., Any]]:
    symbols = sorted(set().union(*(each.free_symbols for each in expressions)), key=str)
    return tuple(map(str, symbols)), sp.lambdify(symbols, list(expressions), modules=["scipy", "numpy"], cse=True)


def reference_values(
    found: Any,
    outputs: tuple[str, ...],
    points: Any,
    store: Callable[[str, Callable[[], dict[str, Array]]], dict[str, Array]],
    key: str,
    *,
    is_table: bool,
) -> Array:
    """Return a reference [outputs, points] from expressions, a function of arrays, or columns known at `points`.

    A function may take time: `store(key, compute)` keeps its values. Raises `ProblemError`.
    """
    if _is_symbolic(found):
        by_name = found if isinstance(found, Mapping) else dict.fromkeys(outputs, found)
        values = {name: evaluated((sp.sympify(each),), points.values)[0] for name, each in by_name.items()}
    elif callable(found):
        values = store(key, lambda: _called(found, outputs, points.values))
    elif is_table:
        values = {name: points.values[name] for name in outputs if name in points.values}
    else:
        raise ProblemError(f"must be an expression, a table or a function, not {type(found).__name__}")
    count, arrays = len(points), []
    for name in outputs:
        if name not in values:
            raise ProblemError(f"it has no values of {name}")
        array = np.asarray(values[name])
        if array.dtype.kind not in "fiu":
            raise ProblemError(f"{name} is no array of numbers")
        if array.shape not in ((), (1,), (count,)):
            raise ProblemError(f"it has {array.size:,} values of {name} at {count:,} points")
        arrays.append(np.broadcast_to(array.astype(np.float64), (count,)))
    if not all(np.isfinite(array).all() for array in arrays):
        raise ProblemError("it is not finite at some of its points")
    return np.stack(arrays)


def _is_symbolic(found: Any) -> bool:
    each = found.values() if isinstance(found, Mapping) else (found,)
    return all(isinstance(part, (sp.Expr, int, float)) for part in each)


def _called(function: Callable[..., Any], outputs: tuple[str, ...], values: Mapping[str, Array]) -> dict[str, Array]:
    """Return what a user's function gives at points; it is given the coordinates that it has parameters for."""
    try:
        parameters = inspect.signature(function).parameters.values()
        takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
        names = {each.name for each in parameters}
        returned = function(**{name: array for name, array in values.items() if takes_all or name in names})
    except Exception as problem:  # of a user's function
        raise ProblemError(f"{type(problem).__name__}: {problem}") from None
    if not isinstance(returned, Mapping):
        if len(outputs) > 1:
            raise ProblemError(f"its function must return a dictionary of {', '.join(outputs)}")
        returned = {outputs[0]: returned}
    return {name: np.asarray(returned[name]) for name in outputs if name in returned}
