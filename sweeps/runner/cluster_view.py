"""View of a Ray cluster: how many packs its nodes have room for, and on which device packs train there."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..errors import StudyError
from ..machine import index_of
from ..owner.capacity import ClusterCapacity
from ..spec.study_spec import StudySpec
from .ray_cluster import alive_nodes

_UNLIMITED: Final = -1  # number of nodes, as autoscalers write it
_EPSILON: Final = 1e-6  # so that three thirds of a GPU count as one


def device_of(spec: StudySpec, *, has_gpu: bool) -> str:
    """Return the device that a study trains on, given whether there are GPUs."""
    if spec.resources.device != "auto":
        return spec.resources.device
    return "cuda" if has_gpu else "cpu"


def packs_on_gpus(gpus: float, share: float) -> float:
    """Return the number of packs that `gpus` GPUs have room for, each with a share of one, or several, or none."""
    return int(gpus / share + _EPSILON) if share > 0 else math.inf


class ClusterView:
    """View of the nodes of a cluster for one study; `ray` is the connected module.

    Raises `StudyError` for a share of GPUs that Ray cannot give.
    """

    def __init__(self, ray: Any, spec: StudySpec) -> None:
        self._ray, self._spec, self._resources = ray, spec, spec.resources
        share = self._resources.gpus_per_pack
        self._gpu_share = 1.0 if share is None else share
        if self._gpu_share > 1 and self._gpu_share != int(self._gpu_share):
            raise StudyError(f"resources.gpus_per_pack: must be a whole number or at most 1, got {self._gpu_share:g}")
        self._saw_gpu = False

    def request(self, device: str) -> dict[str, float]:
        """Return the resources that a worker on `device` requests from Ray.

        Of a GPU chosen by its index it requests nothing: Ray would give it one of its own choice, and hide the others.
        """
        gpus = {"gpu": self._gpu_share} if device == "cuda" else {}
        return {"cpu": float(self._resources.cpus_per_pack), **gpus}

    def look(self) -> ClusterCapacity:
        """Return the present capacity of the cluster."""
        nodes, kinds = self._nodes(), _node_kinds(self._ray)
        device = self._device([*nodes, *(resources for resources, _ in kinds or ())])
        request = self.request(device)
        places = sum(_room(node, request) for node in nodes)
        if index_of(device) is not None:
            places = int(min(places, packs_on_gpus(1, min(self._gpu_share, 1.0))))
        if kinds is None:
            return ClusterCapacity(places, device, grows=_is_launched(self._ray))
        rooms = [(_room(resources, request), most) for resources, most in kinds]
        grows = any(room and most == _UNLIMITED for room, most in rooms)
        at_most = sum(room * most for room, most in rooms if most != _UNLIMITED)
        return ClusterCapacity(places, device, grows or at_most > places, None if grows else max(at_most, places))

    def check_fits(self, *, may_grow: bool) -> None:
        """Raise `StudyError` where no node of the cluster can ever hold a pack, or a shared one is to give GPU N.

        A cluster that may get more nodes (`may_grow`), as each that a run joins, is refused only where its autoscaler
        lists all kinds of nodes.
        """
        chosen = self._resources.device
        if may_grow and index_of(chosen) is not None:
            raise StudyError(
                f"resources.device: {chosen} is a GPU of this machine, but on the cluster that this run joins Ray "
                "gives every pack its GPU. Use device: cuda, or run without a cluster"
            )
        nodes, kinds = self._nodes(), _node_kinds(self._ray)
        possible = [*nodes, *(resources for resources, most in kinds or () if most)]
        if may_grow and kinds is None:
            return
        device = self._device(possible)
        if device == "cuda" and not any(node.get("GPU", 0) for node in possible):
            raise StudyError("resources.device: cuda, but no node of the cluster has a GPU. Use device: auto or cpu")
        if not any(_room(node, self.request(device)) for node in possible):
            raise StudyError(
                f"resources: no node can hold a pack of {self.wanted(device)}; {self._have(possible)}. Lower "
                "resources.cpus_per_pack or resources.gpus_per_pack"
            )

    def wanted(self, device: str) -> str:
        """Return as text the cores and GPUs that a pack needs on one node."""
        return _in_words(self.request(device).get("cpu", 0), self.request(device).get("gpu", 0))

    def missing(self) -> str:
        """Return as text what kind of node a study waits for, and what the present nodes have."""
        nodes = self._nodes()
        return f"no node has room for a pack, which needs {self.wanted(self._device(nodes))}; {self._have(nodes)}"

    def _nodes(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in alive_nodes(self._ray)]

    def _device(self, nodes: Iterable[Mapping[str, float]]) -> str:
        """Return the device of packs; a GPU seen once counts, since the node that had it can come again."""
        self._saw_gpu = self._saw_gpu or any(node.get("GPU", 0) >= min(self._gpu_share, 1.0) > 0 for node in nodes)
        return device_of(self._spec, has_gpu=self._saw_gpu)

    @staticmethod
    def _have(nodes: Sequence[Mapping[str, float]]) -> str:
        have = "; ".join(dict.fromkeys(_in_words(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes))
        return f"nodes have {have or 'nothing'}"


def _in_words(cores: float, gpus: float) -> str:
    parts = [f"{cores:g} core{'' if cores == 1 else 's'}", f"{gpus:g} GPU{'' if gpus == 1 else 's'}"]
    return " and ".join(parts if gpus else parts[:1])


def _room(node: Mapping[str, float], request: Mapping[str, float]) -> int:
    """Return the number of packs that one node has room for."""
    return min(int(node.get(name.upper(), 0) / wanted + _EPSILON) for name, wanted in request.items() if wanted > 0)


def _node_kinds(ray: Any) -> list[tuple[dict[str, float], int]] | None:
    """Return the kinds of nodes and the limit of each, None where no autoscaler lists them (that of KubeRay does)."""
    with contextlib.suppress(Exception):  # private to Ray; no public call gives this
        state = sys.modules["ray._private.state"].state
        config = state.get_cluster_config()
        if config is not None and config.node_group_configs:
            return [(dict(kind.resources), int(kind.max_count)) for kind in config.node_group_configs]
    return None


def _is_launched(ray: Any) -> bool:
    """Return whether an autoscaler that lists no kinds launches the nodes.

    Without an autoscaler each node is a kind of its own.
    """
    with contextlib.suppress(Exception):  # private to Ray, as above
        status = sys.modules["ray.experimental.internal_kv"]._internal_kv_get(b"__autoscaling_status")
        kinds = json.loads(status)["autoscaler_report"]["node_type_mapping"]
        return any(kind != f"node_{node}" for node, kind in kinds.items())
    return False
