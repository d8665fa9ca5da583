"""Numbers as users give them: converted and checked when they are needed, because they may be symbols before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError

Array = NDArray[np.float64]
Interval = tuple[float, float]


def number(field: str, value: Any) -> float:
    """Return a finite number, also one of SymPy. Raises `SettingError`."""
    try:
        converted = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError, OverflowError):
        converted = math.nan
    if not math.isfinite(converted):
        raise SettingError(field, value, "must be a finite number")
    return converted


def is_symbol(value: Any) -> bool:
    """Return whether a value is no number yet."""
    return bool(getattr(value, "free_symbols", None))


def interval(field: str, ends: tuple[Any, Any]) -> Interval:
    """Return the two ends of an interval. Raises `SettingError` where it is empty."""
    low, high = (number(field, end) for end in ends)
    if not low < high:
        raise SettingError(field, (low, high), "the first end must be less than the second", "Write (smaller, larger).")
    return low, high


def known_names(field: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `SettingError` for the first name that is no coordinate."""
    known = tuple(known)
    for name in given:
        if name not in known:
            raise SettingError(field, name, "must be a coordinate of the domain", f"It has {', '.join(known)}.")
