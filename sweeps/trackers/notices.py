"""The notices of a run: what is told of its end, of its first failure, and of its target, as plain JSON values."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator
from typing import Any, Final

from ..owner.snapshot import BestTrial, StudySnapshot
from ..spec.study_spec import StudySpec
from ..states import FAIL, FINISHED, PRUNED
from ..words import rounded

_MOST_PARAMS: Final = 8  # of a trial, in a sentence
_ENDS: Final = {
    "finished": "has finished",
    "stopped": "was stopped",
    "over budget": "has ended",
    "unfinished": "has ended with unfinished trials",
    "lost": "was lost",
}


class Notices:
    """The notices of one run of a study in `place`; each event but the end is told once."""

    def __init__(self, spec: StudySpec, place: str) -> None:
        self._spec, self._place = spec, place
        self._snapshot: StudySnapshot | None = None
        self._new: set[int] = set()  # trials that finished in this run
        self._told: set[str] = set()

    def of(self, snapshot: StudySnapshot) -> Iterator[dict[str, Any]]:
        """Yield the notices of what is new in a snapshot."""
        self._snapshot = snapshot
        self._new |= {trial.trial for trial in snapshot.finished}
        failed = next((trial for trial in snapshot.finished if trial.state == FAIL), None)
        if failed is not None and self._is_first("failure"):
            reason = failed.failure or failed.stop_reason or "no reason was recorded"
            more = {"trial": {"trial": failed.trial, "failure": reason, "params": dict(failed.params)}}
            yield self._notice("failure", reason, f"trial {failed.trial} failed: {reason}. The run goes on", **more)
        best, target = snapshot.best, self._spec.budget.target
        if best is None or best.value is None or target is None or best.trial not in self._new:
            return
        if best.value <= target and self._is_first("target"):
            aim = rounded(target, is_percent=snapshot.is_percent)
            yield self._notice(
                "target", f"budget.target: {aim} is reached", f"{self._best(best)} reaches the target {aim}"
            )

    def end(self, reason: str, detail: str = "") -> dict[str, Any]:
        """Return the notice of the end: finished, stopped, over budget, unfinished or lost, with its cause."""
        snapshot, cause = self._snapshot, f": {detail}" if detail else ""
        parts = [f"{_ENDS[reason]}{cause}"]
        if snapshot is not None:
            done = sum(snapshot.counts.get(state, 0) for state in FINISHED)
            numbers = [f"{done}/{snapshot.limit} trials"]
            numbers += [f"{snapshot.counts[PRUNED]} pruned"] if snapshot.counts.get(PRUNED) else []
            numbers += [f"{snapshot.failures} failed"] if snapshot.failures else []
            parts.append(", ".join(numbers))
            parts += [f"best {self._best(snapshot.best)}"] if snapshot.best else []
        return self._notice("end", reason, "; ".join(parts), **({"detail": detail} if detail else {}))

    def _is_first(self, event: str) -> bool:
        is_first = event not in self._told
        self._told.add(event)
        return is_first

    def _best(self, best: BestTrial) -> str:
        """Return the best trial in words."""
        value = "" if best.value is None else f" {rounded(best.value, is_percent=self._spec.is_in_percent)}"
        params = ", ".join(f"{name} {_short(given)}" for name, given in list(best.params.items())[:_MOST_PARAMS])
        return f"{self._spec.objectives[0]}{value} of trial {best.trial}{f' ({params})' if params else ''}"

    def _notice(self, event: str, reason: str, sentence: str, **more: Any) -> dict[str, Any]:
        snapshot = self._snapshot
        best = snapshot.best if snapshot else None
        return {
            "text": f"{self._spec.study} {sentence}." if event == "end" else f"{self._spec.study}: {sentence}.",
            "event": event,
            "reason": reason,
            "study": self._spec.study,
            "place": self._place,
            "host": platform.node(),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "trials": snapshot.limit if snapshot else None,
            "counts": dict(snapshot.counts) if snapshot else {},
            "failures": snapshot.failures if snapshot else 0,
            "objective": self._spec.objectives[0],
            "best": best and {"trial": best.trial, "value": best.value, "params": dict(best.params)},
            **more,
        }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
