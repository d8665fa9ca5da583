"""Numbers as words for people, and the width that there is for words."""

from __future__ import annotations

import math
import os
import sys
from typing import TextIO


def rounded(value: float, *, is_percent: bool = False) -> str:
    """Return a number with four significant digits; `is_percent` where people see it in per cent."""
    return f"{100 * value:.4g} %" if is_percent and math.isfinite(value) else f"{value:.4g}"


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the columns of the terminal that a stream is (default: stdout); None where it is none, or has no size.

    The variable COLUMNS goes before, as for other programs.
    """
    stream = sys.stdout if stream is None else stream
    if stream is None or not stream.isatty():  # None after `>&-`
        return None
    if (columns := os.environ.get("COLUMNS", "")).isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None
