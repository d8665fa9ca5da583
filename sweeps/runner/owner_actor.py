"""The owner of a study as a Ray actor."""

from __future__ import annotations

from typing import Any

from ..owner.owner import StudyOwner
from .ray_cluster import alive_nodes


class OwnerActor(StudyOwner):
    """Owner that begins by a call, because an error in an actor's constructor loses its type."""

    def __init__(self) -> None:
        pass

    def begin(self, *arguments: Any, **options: Any) -> None:
        """Take the study over, with the arguments and the errors of `StudyOwner`."""
        super().__init__(*arguments, is_alive=_is_alive, **options)


def _is_alive(node_id: str) -> bool:
    import ray

    return any(node["NodeID"] == node_id for node in alive_nodes(ray))
