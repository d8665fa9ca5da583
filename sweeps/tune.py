"""The bridge to Ray Tune: one Tune trial trains one pack.

The searcher hands Tune `{"pack": id}` and nothing else; the trainable asks the owner what that pack is. Tune places,
starts and restarts processes. Its checkpoints, loggers and `Tuner.restore` are not used: the study is the owner's.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from .packs import PackRun

SUGGEST_WAIT_S = 0.008  # suggest runs in Tune's loop and must not hold it up
SEGMENT_S = 5.0


@dataclass(frozen=True)
class WorkerContext:
    """What every worker of an attempt knows: where the study is and who owns it."""

    study_dir: str
    owner: str
    namespace: str


class PackSearcher(Searcher):
    """Hands out the owner's packs, without ever waiting for it in Tune's loop."""

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self._owner = owner
        self._asked: Any = None
        self._packs: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """The next pack, None while the owner is thinking, FINISHED when there is none left."""
        self._asked = self._asked if self._asked is not None else self._owner.next_pack.remote()
        ready, _ = ray.wait([self._asked], timeout=SUGGEST_WAIT_S)
        if not ready:
            return None
        pack = ray.get(self._asked)
        self._asked = None
        if pack is None:
            return Searcher.FINISHED
        self._packs[trial_id] = pack
        return {"pack": pack}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: workers report to the owner themselves."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the owner of a pack that Tune has given up."""
        pack = self._packs.pop(trial_id, None)
        if error and pack is not None:
            self._owner.lost.remote(pack, "the worker process died twice; its log is in Ray's session folder")

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the owner remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Metric, mode and space are the study's own."""
        return True


def pack_trainable(context: WorkerContext) -> type[tune.Trainable]:
    """The trainable of one attempt: a segment of one pack a step, its process used again for the next pack."""

    class PackTrainable(tune.Trainable):
        """Trains the pack named in its configuration."""

        _run: PackRun

        def setup(self, config: dict[str, Any]) -> None:
            self._owner = ray.get_actor(context.owner, namespace=context.namespace)
            self._begin(config["pack"])

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._last_result = {}  # type: ignore[assignment]  # or Tune takes the last pack's `done`
            self._begin(new_config["pack"])
            return True

        def step(self) -> dict[str, Any]:
            try:
                report = self._run.segment(SEGMENT_S)
            except Exception as problem:  # a bug would come again: the pack fails, the study goes on
                pack = self._run.task.pack
                reason = f"unexpected {type(problem).__name__} in training: {problem}"
                ray.get(self._owner.lost.remote(pack, reason, traceback.format_exc()))
                return {"pack": pack, "done": True}
            if not ray.get(self._owner.report.remote(report)):
                return {"pack": report.pack, "done": True}  # what it says is in the last checkpoint, and stays there
            self._run.checkpoint()
            return {"pack": report.pack, "done": report.done}

        def _begin(self, pack: int) -> None:
            task: Any = ray.get(self._owner.lease.remote(pack))
            self._run = PackRun(task, Path(context.study_dir))

    return PackTrainable
