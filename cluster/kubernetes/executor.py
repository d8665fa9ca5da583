"""Back-end `kubernetes`: each job is a RayJob of KubeRay with its own Ray cluster, removed when the job ends."""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml

from ..errors import ClusterError, JobNotFound
from ..executor import Check, Executor, run_checks
from ..hiding import without_secrets
from ..job import Job
from . import manifest
from .client import RAYJOBS, KubernetesClient, Refused, context_of
from .handle import KubernetesHandle
from .profile import KubernetesProfile


class KubernetesExecutor(Executor):
    """An executor of RayJobs in one namespace; `name` is the user's name for the place."""

    def __init__(self, profile: KubernetesProfile, name: str) -> None:
        self._profile = profile
        self._api = KubernetesClient(profile, name)

    def submit(self, job: Job) -> KubernetesHandle:
        manifest.refuse_secrets(self._environment(job))
        job_id, rayjob = self._rayjob(job)
        manifest.config_map(self._profile, job, job_id, "")  # raises before anything is created
        created = self._api.create_rayjob(rayjob)
        handle = KubernetesHandle(self._api, created)
        try:
            # Created after the RayJob, because that owns it and is deleted with it. The head waits for it meanwhile.
            files = manifest.config_map(self._profile, job, job_id, created["metadata"]["uid"])
            self._api.call_in_namespace(self._api.core.create_namespaced_config_map, body=files)
        except BaseException:
            handle.cancel()
            raise
        return handle

    def _preview(self, job: Job) -> str:
        job = replace(job, environment=without_secrets(self._environment(job)))
        job_id, rayjob = self._rayjob(job)
        files = manifest.config_map(self._profile, job, job_id, "(that of the RayJob)")
        return str(yaml.safe_dump_all([rayjob, files], sort_keys=False, width=math.inf, allow_unicode=True))

    def attach(self, job_id: str) -> KubernetesHandle:
        handles = {handle.id: handle for handle in self.list()}
        if job_id not in handles:
            newest = ", ".join(list(handles)[-5:]) or "none"
            raise JobNotFound(f"no job {job_id!r} in namespace {self._profile.namespace}; newest known jobs: {newest}")
        return handles[job_id]

    def list(self) -> Sequence[KubernetesHandle]:
        selector = ",".join(f"{key}={value}" for key, value in manifest.MANAGED_BY.items())
        rayjobs = self._api.call_in_namespace(
            self._api.objects.list_namespaced_custom_object, **RAYJOBS, label_selector=selector
        )
        return sorted(
            (KubernetesHandle(self._api, item) for item in rayjobs["items"]), key=lambda job: job.submitted_at
        )

    def checks(self) -> Iterator[Check]:
        return run_checks(self._steps())

    def _steps(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield what must hold, each with a function that raises `ClusterError` where it does not."""
        profile, api = self._profile, self._api
        yield "the Python package kubernetes is installed", lambda: api.package
        yield f"the kubeconfig has {context_of(profile)}", lambda: api.client
        yield "the API server answers and accepts this user", api.groups
        yield f"the cluster has RayJobs of {manifest.KUBERAY}", self._check_kuberay
        yield f"RayJobs may be created in namespace {profile.namespace}", self._check_permission
        yield "the API server accepts a job of this profile (dry run)", self._check_dry_run
        for setting, names, read in (
            ("volume_claim", [profile.volume_claim], api.core.read_namespaced_persistent_volume_claim),
            ("secrets", profile.secrets, api.core.read_namespaced_secret),
            ("service_account", [profile.service_account], api.core.read_namespaced_service_account),
            ("queue", [profile.queue], self._read_queue),
        ):
            for name in filter(None, names):
                yield (
                    f"{setting}: {name} exists (skipped where this user may not read it)",
                    functools.partial(self._check_exists, setting, name, read),
                )

    def _check_kuberay(self) -> None:
        if manifest.VERSION not in self._api.groups().get(manifest.GROUP, ()):
            raise ClusterError(
                f"the cluster has no RayJob ({manifest.GROUP}/{manifest.VERSION}); ask for {manifest.KUBERAY}: "
                "https://docs.ray.io/en/latest/cluster/kubernetes/getting-started/kuberay-operator-installation.html"
            )

    def _check_permission(self) -> None:
        attributes = {
            "namespace": self._profile.namespace,
            "group": manifest.GROUP,
            "resource": "rayjobs",
            "verb": "create",
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        authorization = self._api.package.client.AuthorizationV1Api(self._api.client)
        if not self._api.call(authorization.create_self_subject_access_review, body=review).status.allowed:
            raise ClusterError(
                f"this user may not create RayJobs in namespace {self._profile.namespace}; ask for a role that allows "
                "everything on rayjobs.ray.io and configmaps, and get and list on pods and pods/log"
            )

    def _check_exists(self, setting: str, name: str, read: Callable[..., Any]) -> None:
        try:
            self._api.call_in_namespace(read, name=name)
        except Refused as problem:
            if problem.status != 403:
                raise ClusterError(f"{setting}: {problem}; create it, or correct the name in the profile") from None

    def _read_queue(self, *, name: str, namespace: str, _request_timeout: object) -> Any:
        group = "kueue.x-k8s.io"
        versions = self._api.groups().get(group)
        if not versions:
            raise ClusterError("queue: the cluster has no Kueue; leave queue out, or ask for Kueue")
        return self._api.objects.get_namespaced_custom_object(
            group, versions[0], namespace, "localqueues", name, _request_timeout=_request_timeout
        )

    def _check_dry_run(self) -> None:
        job = Job(argv=self._profile.command, name="check")
        manifest.refuse_secrets(self._environment(job))
        self._api.create_rayjob(self._rayjob(job)[1], dry_run="All")

    def _environment(self, job: Job) -> dict[str, str]:
        return {**self._profile.environment, **job.environment}

    def _rayjob(self, job: Job) -> tuple[str, dict[str, Any]]:
        job_id = manifest.new_id(job, secrets.token_hex(4))
        return job_id, manifest.rayjob(self._profile, job, job_id, submitted_at=datetime.now(UTC))
