"""Back-end `kubernetes`: each job is a RayJob of KubeRay's, with a Ray cluster of its own that goes when it ends."""

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
from ..executor import Check, Executor, checked
from ..job import Job, without_secrets
from . import manifest
from .client import RAYJOBS, KubernetesClient, Refused, context_of
from .handle import KubernetesHandle
from .profile import KubernetesProfile


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
