"""The importance of settings, as `effects` and the report have it, in the form that optuna-dashboard asks for."""

from __future__ import annotations

import threading
from typing import Any, Final

from ..analysis.importance import importance
from ..analysis.study_axes import judged
from .storage import StudyStorage, unavailable_on_error

ADDRESS: Final = "/api/studies/<study_id:int>/param_importances"  # where the page asks for it


class Importances:
    """The answer to the page, computed again when trials were published since the last one."""

    def __init__(self, storage: StudyStorage) -> None:
        self._storage = storage
        self._lock = threading.Lock()  # one at a time: it takes seconds for a thousand trials
        self._flushes: list[str] | None = None
        self._answer: dict[str, Any] = {}

    def __call__(self, study_id: int) -> dict[str, Any]:
        """Return the share of each setting for each objective; none where there are too few trials to know.

        Raises HTTP's 503 where the study cannot be read.
        """
        with self._lock, unavailable_on_error():
            flushes = self._storage.tables.flushes()
            if flushes != self._flushes:
                kinds = self._storage.kinds()
                self._answer = {"param_importances": [self._shares(name, kinds) for name in self._storage.objectives]}
                self._flushes = flushes
            return self._answer

    def _shares(self, objective: str, kinds: dict[str, str]) -> list[dict[str, Any]]:
        result = importance(judged(self._storage.place, objective))
        return [
            {"name": dimension.name, "importance": dimension.share, "distribution": kinds[dimension.name]}
            for dimension in result.dimensions
        ]
