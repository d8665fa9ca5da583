"""The profile of a Ray cluster on machines of a cloud provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal

from annotated_types import Ge, Gt, MinLen

from ..errors import JobError
from ..profile import Profile

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": (),
    "gcp": ("availability_zone", "project_id", "head_cpus", "worker_cpus"),
    "azure": ("resource_group", "head_cpus", "worker_cpus"),
}
_ONLY: Final = {"project_id": "gcp", "worker_gpu_type": "gcp", "resource_group": "azure", "ssh_key_name": "aws"}


@dataclass(frozen=True, kw_only=True)
class VmsProfile(Profile):
    """A Ray cluster on machines of a cloud provider: a head, and workers on demand. None: the provider decides.

    `head_type` and `worker_type` are the provider's names of machine types, `image` is the name of a machine image
    (`publisher:offer:sku:version` or a resource's path on Azure). With `docker_image` everything runs in a container of
    that image. `setup` holds shell commands that every node runs once. A worker without work ends after
    `idle_timeout_min`; a head without a job ends after `head_idle_shutdown_min` (None: never), and the cluster with it.
    `overrides` is merged into the configuration of Ray's launcher. With `carry_code` every job brings this machine's
    pinnsweep. A job that is stopped has `stop_grace_s` seconds to save its work.
    """

    kind: ClassVar[str] = "vms"

    provider: Literal["aws", "gcp", "azure"]
    region: Annotated[str, MinLen(1)]
    head_type: Annotated[str, MinLen(1)]
    worker_type: Annotated[str, MinLen(1)]
    availability_zone: str | None = None
    project_id: str | None = None
    resource_group: str | None = None
    head_cpus: Annotated[int, Ge(1)] | None = None
    worker_cpus: Annotated[int, Ge(1)] | None = None
    worker_gpus: Annotated[int, Ge(0)] | None = None
    worker_gpu_type: str | None = None
    image: str | None = None
    docker_image: str | None = None
    disk_gb: Annotated[int, Ge(1)] | None = None
    min_workers: Annotated[int, Ge(0)] = 0
    max_workers: Annotated[int, Ge(0)] = 2
    spot: bool = False
    idle_timeout_min: Annotated[float, Gt(0)] = 5
    head_idle_shutdown_min: Annotated[float, Gt(0)] | None = 30
    ssh_user: Annotated[str, MinLen(1)] = "ubuntu"
    ssh_private_key: str | None = None
    ssh_key_name: str | None = None
    setup: tuple[str, ...] = ()
    carry_code: bool = False
    stop_grace_s: Annotated[int, Ge(1)] = 90
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.min_workers > self.max_workers:
            raise JobError(f"max_workers must be at least min_workers, {self.min_workers}, got {self.max_workers}")
        for name in _NEEDS[self.provider]:
            if getattr(self, name) is None:
                raise JobError(f"{name} must be given with provider {self.provider}, got none")
        for name, provider in _ONLY.items():
            if getattr(self, name) is not None and self.provider != provider:
                raise JobError(f"{name} must be left out with provider {self.provider}, it is for {provider} only")
        if self.image is None and self.docker_image is None and not self.setup:
            raise JobError(
                "one of image, docker_image or setup must be given: Ray's default images have no Python 3.11 and no "
                "pinnsweep"
            )
        if self.provider == "aws" and (self.ssh_private_key is None) != (self.ssh_key_name is None):
            raise JobError(
                "ssh_private_key, a file here, and ssh_key_name, its key pair in EC2, must be given together, "
                f"got {self.ssh_private_key!r} and {self.ssh_key_name!r}"
            )
        image = self.image or "/"
        if self.provider == "azure" and not image.startswith("/") and image.count(":") != 3:
            raise JobError(f"image must be publisher:offer:sku:version or a resource's path, got {self.image!r}")
