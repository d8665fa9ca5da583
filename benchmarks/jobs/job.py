"""The base of jobs: work that a worker prepares once and times repeatedly."""

from __future__ import annotations

import abc
from typing import Any


class Job(abc.ABC):
    """A piece of work; the constructor prepares and compiles it, and `run` is timed."""

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return facts for the table: `difference` to the reference, a `note`, results."""

    @abc.abstractmethod
    def run(self, amount: int) -> dict[str, Any]:
        """Do `amount` units and return at least their `seconds`, measured around the work only."""
