"""Numbers as words for people."""

from __future__ import annotations

import math


def rounded(value: float, *, is_percent: bool = False) -> str:
    """Return a number with four significant digits; `is_percent` where people see it in per cent."""
    return f"{100 * value:.4g} %" if is_percent and math.isfinite(value) else f"{value:.4g}"
