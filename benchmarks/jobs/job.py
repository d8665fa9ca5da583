"""A piece of work that a worker prepares once and times again and again."""

from __future__ import annotations

import abc
from typing import Any


class Job(abc.ABC):
    """Prepared by its constructor, compilation and all; `run` is what is timed."""

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the reader of the table should know: `difference` to the reference, a `note`, results."""

    @abc.abstractmethod
    def run(self, amount: int) -> dict[str, Any]:
        """Do `amount` units and return at least their `seconds`, measured around the work alone."""
