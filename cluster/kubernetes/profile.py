"""The profile of a namespace of a Kubernetes cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, MinLen

from ..errors import JobError
from ..profile import Profile


@dataclass(frozen=True, kw_only=True)
class KubernetesProfile(Profile):
    """A namespace of a Kubernetes cluster with KubeRay. None leaves a setting to the cluster.

    `root` lies under `mount_path`, where `volume_claim` is mounted on every node, or is an `s3://` or `gs://` address.
    Each node is a pod: the head drives the study, `workers` nodes train, and up to `max_workers` while there is work.
    `secrets` are names of Secrets whose keys become environment variables. `queue` is a local queue of Kueue. A job is
    stopped after `time_limit_min`, which includes the wait for its nodes. When it is stopped, cancelled or evicted it
    has `stop_grace_s` to save its work. `ray_version` is the version of Ray in the image; None: the version here.
    """

    kind: ClassVar[str] = "kubernetes"

    image: Annotated[str, MinLen(1)]
    namespace: Annotated[str, MinLen(1)] = "default"
    context: str | None = None
    kubeconfig: str | None = None
    service_account: str | None = None
    workers: Annotated[int, Ge(1)] = 1
    max_workers: Annotated[int, Ge(1)] | None = None
    cpus_per_node: Annotated[int, Ge(1)] | None = None
    memory_per_node_gb: Annotated[float, Gt(0)] | None = None
    gpus_per_node: Annotated[int, Ge(0)] = 0
    gpu_resource: Annotated[str, MinLen(1)] = "nvidia.com/gpu"
    head_cpus: Annotated[int, Ge(1)] | None = None
    head_memory_gb: Annotated[float, Gt(0)] | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, str | int], ...] = ()
    volume_claim: str | None = None
    mount_path: str | None = None
    secrets: tuple[str, ...] = ()
    queue: str | None = None
    time_limit_min: Annotated[float, Gt(0)] | None = None
    retries: Annotated[int, Ge(0)] = 0
    ttl_after_finished_s: Annotated[int, Ge(0)] = 0
    stop_grace_s: Annotated[int, Ge(1)] = 60
    ray_version: str | None = None

    def __post_init__(self) -> None:
        if (self.volume_claim is None) != (self.mount_path is None):
            raise JobError(
                "volume_claim and mount_path must be given together, "
                f"got volume_claim {self.volume_claim!r} and mount_path {self.mount_path!r}"
            )
        is_mounted = self.mount_path is not None and PurePosixPath(self.root).is_relative_to(self.mount_path)
        if not is_mounted and not self.root.startswith(("s3://", "gs://")):
            raise JobError(
                f"root must lie under mount_path, where volume_claim is mounted, or be an s3:// or gs:// address, "
                f"got root {self.root!r} and mount_path {self.mount_path!r}"
            )
        if self.max_workers is not None and self.max_workers < self.workers:
            raise JobError(f"max_workers must be at least workers, {self.workers}, got {self.max_workers}")
        if self.max_workers is not None and self.queue is not None:
            raise JobError(
                f"max_workers must be left out with queue: Kueue admits no job that grows, got {self.max_workers}"
            )
