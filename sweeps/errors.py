"""Exceptions of `sweeps`: each says the rule, the value and the way out, and none deserves a traceback."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

_LONGEST_VALUE: Final = 120  # characters of a value that a message shows


class _NotGiven:
    """The value of a mistake that is about a key which is not there."""

    def __repr__(self) -> str:
        return "nothing"


NOT_GIVEN: Final = _NotGiven()


class SweepError(Exception):
    """A mistake the user can mend; the command prints the message and ends with `exit_code`."""

    exit_code = 2


@dataclass(frozen=True)
class Mistake:
    """One thing wrong in a study file.

    `path` is where it stands (`space.width.choice[1]`), `value` what stands there, `rule` what must hold,
    `hint` the nearest valid name or another way out, a whole sentence or empty.
    """

    path: str
    value: Any
    rule: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        found = "" if isinstance(self.value, _NotGiven) else f", got {_shown(self.value)}"
        hint = f" {self.hint}" if self.hint else ""
        return f"{place}{self.rule}{found}.{hint}"


def _shown(value: Any) -> str:
    """Write a value much as a study file does."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


class SpecError(SweepError):
    """A study file that cannot be used; `mistakes` holds everything that is wrong with it, in file order."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))

    def __reduce__(self) -> tuple[type[SpecError], tuple[tuple[Mistake, ...]]]:
        """Rebuild from the mistakes, not from the text, when the error crosses a process boundary."""
        return type(self), (self.mistakes,)


class StudyError(SweepError):
    """A study folder or database that cannot be used as asked."""


class RunLostError(StudyError):
    """A run that was cut off by its surroundings; the study can be run again."""

    exit_code = 1


class QueryError(SweepError):
    """A question to the tables that cannot be answered."""
