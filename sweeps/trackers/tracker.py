"""What every tracker can do."""

from __future__ import annotations

from typing import Final, Protocol

from .member_runs import MemberRun

CURVES: Final = "curves"  # section of the curves in a tracker: curves/rel_l2 is the course, rel_l2 the result


class Tracker(Protocol):
    """A tracker of one study. Its library is imported when the first run is logged."""

    @property
    def place(self) -> str:
        """Return where its runs are, without secrets."""

    def log(self, run: MemberRun) -> None:
        """Let the tracker hold this run, once: one with the same key is replaced. Raises what its library raises."""

    def close(self) -> None:
        """End what the library has started."""
