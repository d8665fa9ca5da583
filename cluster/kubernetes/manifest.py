"""Pure functions: the RayJob and ConfigMap of a job, and the meaning of a RayJob's status."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import math
import re
import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ..errors import ClusterError, JobError
from ..hiding import holds_login, without_secrets
from ..job import Job, JobState
from .profile import KubernetesProfile

GROUP: Final = "ray.io"
VERSION: Final = "v1"
KUBERAY: Final = "KubeRay 1.5.1 or newer"  # the first whose RayJob has `authOptions`
MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "pinnsweep"}
RECORD: Final = "pinnsweep-job"  # annotation with the job's record
QUEUE: Final = "kueue.x-k8s.io/queue-name"
SUBMITTER: Final = "ray-job-submitter"  # the container whose log is the log of the job
JOB_FOLDER: Final = "/etc/pinnsweep"  # where the ConfigMap is mounted on the head
FILES_LIMIT_BYTES: Final = 1 << 20
TEARDOWN_S: Final = 15  # from the end of the job to the end of its pods
_NAME_LENGTH: Final = 47  # KubeRay's limit for a RayJob
_START, _FILES = "start", "files"
_EXIT_CODE: Final = re.compile(r"Job entrypoint command failed with exit code (-?\d+)")


def new_id(job: Job, suffix: str) -> str:
    """Return the job's name in the characters that Kubernetes allows, made unique by a random suffix."""
    slug = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"job-{slug}"
    return f"{slug[: _NAME_LENGTH - len(suffix) - 1].strip('-')}-{suffix}"


def rayjob(profile: KubernetesProfile, job: Job, job_id: str, *, submitted_at: datetime) -> dict[str, Any]:
    """Return the RayJob that runs the job. Raises `JobError` for a job that Kubernetes cannot run."""
    for name in ("cpus", "gpus", "memory_gb"):
        if (value := getattr(job.resources, name)) is not None:
            raise JobError(
                f"{name} must be left out on Kubernetes: a job has what its profile gives to each node, got {value}"
            )
    for text in (*profile.environment.values(), *job.environment.values(), *job.argv):
        if holds_login(text):
            raise JobError("argv and environment must hold no address with a password; put it into a Secret")
    time_limit_min = job.resources.timeout_min or profile.time_limit_min
    # without the environment, because KubeRay copies annotations to everything it creates from the RayJob
    record = {**Job(argv=job.argv, name=job.name, cwd=job.cwd).to_json(), "submitted_at": submitted_at.isoformat()}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "RayJob",
        "metadata": {
            "name": job_id,
            "namespace": profile.namespace,
            "labels": MANAGED_BY | ({QUEUE: profile.queue} if profile.queue else {}),
            "annotations": {RECORD: json.dumps(record)},
        },
        "spec": {
            "jobId": job_id,
            # Two shells and a command line lie between here and the head. Only plain words survive them in every
            # version of Ray and KubeRay, so the command itself is in a file.
            "entrypoint": f"/bin/sh {JOB_FOLDER}/{_START}",
            "submissionMode": "K8sJobMode",  # the one whose submitter keeps a log after the Ray cluster is gone
            "suspend": profile.queue is not None,
            "backoffLimit": profile.retries,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": profile.ttl_after_finished_s,
            **({"activeDeadlineSeconds": math.ceil(60 * time_limit_min)} if time_limit_min else {}),
            "submitterPodTemplate": {"spec": _submitter(profile)},
            "rayClusterSpec": {
                "rayVersion": profile.ray_version or _own_ray(),
                "authOptions": {"mode": "token"},
                "enableInTreeAutoscaling": profile.max_workers is not None,
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},  # the head drives the study; workers train
                    "template": {"spec": _head(profile, job, job_id)},
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": profile.workers,
                        "minReplicas": profile.workers,
                        "maxReplicas": profile.max_workers or profile.workers,
                        "rayStartParams": {},
                        "template": {"spec": _worker(profile, job, job_id)},
                    }
                ],
            },
        },
    }


def refuse_secrets(environment: Mapping[str, str]) -> None:
    """Raise `JobError` for variables that look like credentials; paths of files with credentials are allowed."""
    for name, visible in without_secrets(environment).items():
        if visible != environment[name] and not name.endswith("_CREDENTIALS"):
            raise JobError(
                f"environment must hold no credentials, got {name}; put it into a Secret (kubectl create secret "
                f"generic NAME --from-literal={name}=...) and name that under secrets in the profile"
            )


def config_map(profile: KubernetesProfile, job: Job, job_id: str, owner_uid: str) -> dict[str, Any]:
    """Return the ConfigMap with the job's command and files, owned by its RayJob. Raises `JobError` if too large."""
    start = _start_script(job)
    size_bytes = len(start.encode()) + sum(map(len, job.files.values()))
    if size_bytes > FILES_LIMIT_BYTES:
        raise JobError(
            f"the command and files of a job must fit into a ConfigMap of 1 MiB, got {size_bytes / (1 << 20):.1f} MiB; "
            "put large inputs on the volume of the profile's volume_claim and name them by their path there"
        )
    owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "RayJob", "name": job_id, "uid": owner_uid}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": job_id,
            "namespace": profile.namespace,
            "labels": MANAGED_BY,
            "ownerReferences": [owner],
        },
        "immutable": True,
        "data": {_START: start},
        "binaryData": {
            key: base64.b64encode(content).decode() for key, content in zip(_keys(job), job.files.values(), strict=True)
        },
    }


def _start_script(job: Job) -> str:
    folder = shlex.quote(str(job.cwd)) if job.cwd else '"${0%/*}"' + f"/{_FILES}" if job.files else None
    return (f"cd {folder} && " if folder else "") + f"exec {shlex.join(job.argv)}\n"


def _keys(job: Job) -> list[str]:
    return [f"file-{number}" for number in range(len(job.files))]  # not every file name is allowed as a key


def _head(profile: KubernetesProfile, job: Job, job_id: str) -> dict[str, Any]:
    pod = _pod(profile, job, job_id, "ray-head", _quantities(profile.head_cpus, profile.head_memory_gb))
    container = pod["containers"][0]
    # KubeRay ends the pods of a deleted, late or evicted job at once. Ray signals a job once only.
    stop = ["ray", "job", "stop", "--address", "http://127.0.0.1:8265", job_id]
    container["lifecycle"] = {"preStop": {"exec": {"command": stop}}}
    container["volumeMounts"].append({"name": "job", "mountPath": JOB_FOLDER, "readOnly": True})
    items = [{"key": _START, "path": _START}]
    items += [{"key": key, "path": f"{_FILES}/{name}"} for key, name in zip(_keys(job), job.files, strict=True)]
    pod["volumes"].append({"name": "job", "configMap": {"name": job_id, "items": items}})
    return pod


def _worker(profile: KubernetesProfile, job: Job, job_id: str) -> dict[str, Any]:
    gpus = {profile.gpu_resource: profile.gpus_per_node} if profile.gpus_per_node else {}
    resources = _quantities(profile.cpus_per_node, profile.memory_per_node_gb) | gpus
    pod = _pod(profile, job, job_id, "ray-worker", resources)
    stay = 'while ray health-check --address "$RAY_ADDRESS"; do sleep 1; done'  # until the head has ended the job
    pod["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", "-c", stay]}}}
    return pod


def _pod(profile: KubernetesProfile, job: Job, job_id: str, name: str, resources: Mapping[str, Any]) -> dict[str, Any]:
    claim, folder = profile.volume_claim, profile.mount_path
    return {
        **_placement(profile),
        "terminationGracePeriodSeconds": profile.stop_grace_s + TEARDOWN_S,
        "containers": [
            {
                "name": name,
                "image": profile.image,
                # In the containers, not in the runtime environment, which passes through the submitter's shell. The
                # container's environment reaches the entrypoint, a descendant of `ray start`, and every worker.
                "env": [{"name": key, "value": value} for key, value in _environment(profile, job, job_id).items()],
                "envFrom": [{"secretRef": {"name": secret}} for secret in profile.secrets],
                "resources": {"limits": dict(resources), "requests": dict(resources)} if resources else {},
                "volumeMounts": [{"name": "studies", "mountPath": folder}] if claim else [],
            }
        ],
        "volumes": [{"name": "studies", "persistentVolumeClaim": {"claimName": claim}}] if claim else [],
    }


def _submitter(profile: KubernetesProfile) -> dict[str, Any]:
    """Return the pod that submits the command and prints its log: KubeRay's default, placed as the others."""
    resources = {"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    container = {"name": SUBMITTER, "image": profile.image, "resources": resources}
    return {**_placement(profile), "restartPolicy": "Never", "containers": [container]}


def _placement(profile: KubernetesProfile) -> dict[str, Any]:
    return {
        **({"serviceAccountName": profile.service_account} if profile.service_account else {}),
        **({"nodeSelector": dict(profile.node_selector)} if profile.node_selector else {}),
        **({"tolerations": [dict(toleration) for toleration in profile.tolerations]} if profile.tolerations else {}),
    }


def _environment(profile: KubernetesProfile, job: Job, job_id: str) -> dict[str, str]:
    variables = {
        "RAY_JOB_STOP_SIGNAL": "SIGTERM",
        "RAY_JOB_STOP_WAIT_TIME_S": str(profile.stop_grace_s),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PINNSWEEP_JOB": job_id,
        **profile.environment,
        **job.environment,
    }
    return {name: value.replace("$", "$$") for name, value in variables.items()}  # Kubernetes would expand $(NAME)


def _quantities(cpus: int | None, memory_gb: float | None) -> dict[str, Any]:
    """Return quantities for requests and limits alike, because Ray takes the limits as its resources."""
    memory = {} if memory_gb is None else {"memory": f"{math.ceil(1000 * memory_gb)}M"}
    return ({} if cpus is None else {"cpu": cpus}) | memory


def _own_ray() -> str:
    try:
        return importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        raise ClusterError(
            "ray_version must be given where Ray is not installed: the version of Ray in the image"
        ) from None


def state_of(status: Mapping[str, Any]) -> JobState:
    """Return the job state of a RayJob's status.

    `jobDeploymentStatus` counts before `jobStatus`, which may be that of an earlier attempt.
    """
    deployment, job, reason = (status.get(key, "") for key in ("jobDeploymentStatus", "jobStatus", "reason"))
    match deployment:
        case "Running":
            return JobState.PENDING if job in ("", "PENDING") else JobState.RUNNING
        case "Complete":
            return {"SUCCEEDED": JobState.DONE, "STOPPED": JobState.CANCELLED}.get(job, JobState.FAILED)
        case "Failed" if reason in ("DeadlineExceeded", "PreRunningDeadlineExceeded"):
            return JobState.TIMED_OUT
        case "Failed" if reason == "JobStatusCheckTimeoutExceeded":  # the head no longer answers
            return JobState.LOST
        case "Failed" | "ValidationFailed":
            return JobState.FAILED
    return JobState.PENDING  # Initializing, Waiting, Suspending, Suspended, Retrying, or not yet seen by the operator


def exit_code_of(status: Mapping[str, Any]) -> int | None:
    """Return the command's exit code, or None where the status does not say.

    Only Ray's message has it; the submitter's exit code is that of following the log.
    """
    state = state_of(status)
    if state is JobState.DONE:
        return 0
    match = _EXIT_CODE.match(status.get("message", "")) if state is JobState.FAILED else None
    code = int(match[1]) if match else None
    return code if code is None or code >= 0 else 128 - code
