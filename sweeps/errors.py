"""Exceptions of `sweeps`: each message names the rule, the value and the way out; none is shown with a traceback."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

_LONGEST_VALUE: Final = 120  # characters of a value that a message shows


class _NotGiven:
    """The value of a mistake about a missing key."""

    def __repr__(self) -> str:
        return "nothing"


NOT_GIVEN: Final = _NotGiven()


class SweepError(Exception):
    """A mistake that the user can correct. The command prints the message and exits with `exit_code`."""

    exit_code = 2

    def _render_traceback_(self) -> list[str]:
        """Return the lines that a notebook shows: the message alone."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Mistake:
    """One mistake in a study file.

    `path` is its place (`space.width.choice[1]`), `value` the value there, `rule` the rule it breaks, `hint` the
    nearest valid name or another way out, as a whole sentence, or empty.
    """

    path: str
    value: Any
    rule: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        value = "" if isinstance(self.value, _NotGiven) else f", got {_shown(self.value)}"
        hint = f" {self.hint}" if self.hint else ""
        return f"{place}{self.rule}{value}.{hint}"


def _shown(value: Any) -> str:
    """Return a value as a study file would write it, cut to `_LONGEST_VALUE` characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


class SpecError(SweepError):
    """A study file that cannot be used; `mistakes` holds all its mistakes, in file order."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))

    def __reduce__(self) -> tuple[type[SpecError], tuple[tuple[Mistake, ...]]]:
        """Rebuild from the mistakes, not from the text, when the error crosses a process boundary."""
        return type(self), (self.mistakes,)


class StudyError(SweepError):
    """A study folder or database that cannot be used as asked."""


class RunLostError(StudyError):
    """A run that lost its cluster, database or object store; run the study again to resume it."""

    exit_code = 1


class QueryError(SweepError):
    """A query of the tables that cannot be answered."""


class StudyWarning(UserWarning):
    """Something about a study that its user should know; the command prints it without its place in the code."""


def listed(things: Sequence[object], most: int = 12) -> str:
    """Return the first `most` of many things as text, and how many more there are."""
    more = f" and {len(things) - most:,} more" if len(things) > most else ""
    return ", ".join(map(str, things[:most])) + more
