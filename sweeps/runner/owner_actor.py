"""The owner of a study as a Ray actor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..owner.capacity import ClusterCapacity
from ..owner.owner import StudyOwner
from ..spec.study_spec import StudySpec


class OwnerActor(StudyOwner):
    """Owner that begins by a call, because an error in an actor's constructor loses its type."""

    def __init__(self) -> None:
        pass

    def begin(
        self,
        study_dir: Path,
        capacity: ClusterCapacity,
        spec: StudySpec,
        *,
        driver_pid: int,
        retry: Sequence[int],
        offered: int,
    ) -> None:
        """Take the study over. Raises what `StudyOwner` raises."""
        super().__init__(
            study_dir, capacity, spec, driver_pid=driver_pid, retry=retry, offered=offered, is_alive=_is_alive
        )


def _is_alive(node_id: str) -> bool:
    import ray

    nodes: Any = ray.nodes  # untyped in Ray
    return any(node["NodeID"] == node_id and node["Alive"] for node in nodes())
