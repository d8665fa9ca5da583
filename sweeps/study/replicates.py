"""The value of a configuration over its replicates: a quantile, in which a failed replicate counts as infinite.

The same rule in Python, for arrays and in SQL, equal in every digit: linear between the two nearest replicates, and
infinite where the upper one is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..states import COMPLETE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INFINITE: Final = "'inf'::DOUBLE"


def value_of(number: float | None, *, has_result: bool) -> float:
    """Return what a number counts as in one replicate: infinite where there is no result or it is not finite."""
    return float(number) if has_result and number is not None and math.isfinite(number) else math.inf


def finite(value: float) -> float | None:
    """Return a value over replicates as tables hold it: None where it is infinite."""
    return value if math.isfinite(value) else None


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile of a few numbers, which may be infinite."""
    ordered = sorted(values)
    low, high, part = _place(len(ordered), share)
    return min(ordered[high], ordered[low] + part * (ordered[high] - ordered[low]))  # not NaN where both are infinite


def quantiles(values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return the quantile over the last axis of an array."""
    import numpy as np  # takes a tenth of a second

    ordered = np.sort(values, axis=-1)
    low, high, part = _place(ordered.shape[-1], share)
    with np.errstate(invalid="ignore"):
        between = ordered[..., low] + part * (ordered[..., high] - ordered[..., low])
    return np.fmin(ordered[..., high], between)


def quantile_name(share: float) -> str:
    """Return the name of a quantile for people: minimum, median, maximum, `90 % quantile`."""
    return {0.0: "minimum", 0.5: "median", 1.0: "maximum"}.get(share, f"{100 * share:g} % quantile")


def _place(count: int, share: float) -> tuple[int, int, float]:
    """Return the indices of the two nearest of `count` ascending numbers, and the weight of the upper one."""
    place = share * (count - 1)
    return math.floor(place), math.ceil(place), place - math.floor(place)


def values_sql(column: str, chosen: str = "true") -> str:
    """Return the SQL aggregate for the ascending list of `value_of`, over the rows where `chosen` holds.

    Complete replicates have a result. `column` is quoted as SQL needs it.
    """
    value = f"CASE WHEN state = '{COMPLETE}' AND isfinite({column}::DOUBLE) THEN {column}::DOUBLE ELSE {_INFINITE} END"
    return f"list_sort(list({value}) FILTER ({chosen}))"


def quantile_sql(values: str, share: str) -> str:
    """Return the SQL expression for the quantile of an ascending list, null where it is infinite."""
    place = f"({share}::DOUBLE * (len({values}) - 1))"
    low, high = (f"{values}[{end}({place})::BIGINT + 1]" for end in ("floor", "ceil"))
    return finite_sql(f"least({high}, {low} + ({place} - floor({place})) * ({high} - {low}))")


def finite_sql(value: str) -> str:
    """Return the SQL expression for `finite`."""
    return f"nullif({value}, {_INFINITE})"
