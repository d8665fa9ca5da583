"""Back-end `kubernetes`: each job is a RayJob of KubeRay's, with a Ray cluster of its own that goes when it ends."""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar

import yaml
from annotated_types import Ge, Gt, MinLen

from . import rayjob_manifest as manifest
from .errors import ClusterError, JobError, JobNotFound
from .executor import Check, Executor, checked
from .job import Job, without_secrets
from .kubernetes_client import RAYJOBS, KubernetesClient, Refused, context_of
from .kubernetes_job import KubernetesHandle
from .profile import Profile


@dataclass(frozen=True, kw_only=True)
class KubernetesProfile(Profile):
    """A namespace of a Kubernetes cluster with KubeRay in it. None leaves a setting to the cluster.

    `root` lies under `mount_path`, where `volume_claim` is mounted on every node, or is an `s3://` or `gs://` address.
    A node is a pod: `workers` of them train, up to `max_workers` as there is work; the head drives the study. `secrets`
    are names of Secrets whose keys become environment variables. `queue` is a local queue of Kueue's. A job is stopped
    after `time_limit_min`, waiting for its nodes included, and then, or when it is cancelled or evicted, has
    `stop_grace_s` to save its work. `ray_version` is that of Ray in the image; None: the same as here.
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
                f"max_workers must be left out with queue, for Kueue admits no job that grows, got {self.max_workers}"
            )

    def executor(self, name: str) -> KubernetesExecutor:
        return KubernetesExecutor(self, name)


class KubernetesExecutor(Executor):
    """Creates RayJobs in one namespace; `name` is what the user calls the place."""

    def __init__(self, profile: KubernetesProfile, name: str) -> None:
        self._profile = profile
        self._api = KubernetesClient(profile, name)

    def submit(self, job: Job) -> KubernetesHandle:
        manifest.refuse_secrets(self._environment(job))
        job_id, rayjob = self._described(job)
        manifest.config_map(self._profile, job, job_id, "")  # raises before anything is created
        created = self._api.create_rayjob(rayjob)
        handle = KubernetesHandle(self._api, created)
        try:
            # After the RayJob, whose it is and with which it goes; until it is there, the head waits for it.
            files = manifest.config_map(self._profile, job, job_id, created["metadata"]["uid"])
            self._api.here(self._api.core.create_namespaced_config_map, body=files)
        except BaseException:
            handle.cancel()
            raise
        return handle

    def preview(self, job: Job) -> str:
        job = replace(job, environment=without_secrets(self._environment(job)))
        job_id, rayjob = self._described(job)
        files = manifest.config_map(self._profile, job, job_id, "(that of the RayJob)")
        return str(yaml.safe_dump_all([rayjob, files], sort_keys=False, width=math.inf, allow_unicode=True))

    def attach(self, job_id: str) -> KubernetesHandle:
        found = {handle.id: handle for handle in self.list()}
        if job_id not in found:
            known = ", ".join(list(found)[-5:]) or "none"
            raise JobNotFound(f"no job {job_id!r} in namespace {self._profile.namespace}; newest known jobs: {known}")
        return found[job_id]

    def list(self) -> Sequence[KubernetesHandle]:
        selector = ",".join(f"{key}={value}" for key, value in manifest.MANAGED_BY.items())
        found = self._api.here(self._api.objects.list_namespaced_custom_object, **RAYJOBS, label_selector=selector)
        return sorted((KubernetesHandle(self._api, item) for item in found["items"]), key=lambda job: job.submitted_at)

    def checks(self) -> Iterator[Check]:
        return checked(self._steps())

    def _steps(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What must hold, and how to look, which raises `ClusterError` where it does not hold."""
        profile, api = self._profile, self._api
        yield "the Python package kubernetes is installed", lambda: api.package
        yield f"the kubeconfig has {context_of(profile)}", lambda: api.client
        yield "the API server answers, and knows this user", api.groups
        yield f"RayJobs are served, by {manifest.KUBERAY}", self._look_for_kuberay
        yield f"RayJobs may be created in namespace {profile.namespace}", self._look_for_permission
        yield "the API server takes such a job (dry run)", self._try_a_job
        for setting, names, read in (
            ("volume_claim", [profile.volume_claim], api.core.read_namespaced_persistent_volume_claim),
            ("secrets", profile.secrets, api.core.read_namespaced_secret),
            ("service_account", [profile.service_account], api.core.read_namespaced_service_account),
            ("queue", [profile.queue], self._read_queue),
        ):
            for name in filter(None, names):
                yield (
                    f"{setting}: {name} exists, if this user may look",
                    functools.partial(self._look_for, setting, name, read),
                )

    def _look_for_kuberay(self) -> None:
        if manifest.VERSION not in self._api.groups().get(manifest.GROUP, ()):
            raise ClusterError(
                f"the cluster has no RayJob ({manifest.GROUP}/{manifest.VERSION}); have {manifest.KUBERAY} installed: "
                "https://docs.ray.io/en/latest/cluster/kubernetes/getting-started/kuberay-operator-installation.html"
            )

    def _look_for_permission(self) -> None:
        asked = {"namespace": self._profile.namespace, "group": manifest.GROUP, "resource": "rayjobs", "verb": "create"}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        authorization = self._api.package.client.AuthorizationV1Api(self._api.client)
        if not self._api.call(authorization.create_self_subject_access_review, body=review).status.allowed:
            raise ClusterError(
                f"this user may not create RayJobs in namespace {self._profile.namespace}; ask for a role that allows "
                "everything on rayjobs.ray.io and configmaps, and get and list on pods and pods/log"
            )

    def _look_for(self, setting: str, name: str, read: Callable[..., Any]) -> None:
        try:
            self._api.here(read, name=name)
        except Refused as problem:
            if problem.status != 403:
                raise ClusterError(f"{setting}: {problem}; create it, or correct the name in the profile") from None

    def _read_queue(self, *, name: str, namespace: str, _request_timeout: object) -> Any:
        group = "kueue.x-k8s.io"
        versions = self._api.groups().get(group)
        if not versions:
            raise ClusterError("queue: the cluster has no Kueue; leave queue out, or have Kueue installed")
        return self._api.objects.get_namespaced_custom_object(
            group, versions[0], namespace, "localqueues", name, _request_timeout=_request_timeout
        )

    def _try_a_job(self) -> None:
        job = Job(argv=self._profile.command, name="check")
        manifest.refuse_secrets(self._environment(job))
        self._api.create_rayjob(self._described(job)[1], dry_run="All")

    def _environment(self, job: Job) -> dict[str, str]:
        return {**self._profile.environment, **job.environment}

    def _described(self, job: Job) -> tuple[str, dict[str, Any]]:
        job_id = manifest.new_id(job, secrets.token_hex(4))
        return job_id, manifest.rayjob(self._profile, job, job_id, submitted_at=datetime.now(UTC))
