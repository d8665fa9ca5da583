"""The configuration for `ray up`, Ray's cluster launcher, as a pure function of a profile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from . import idle
from .profile import VmsProfile

DASHBOARD_PORT: Final = 8265
HEAD, WORKER = "head", "worker"  # the two node types
TOKEN: Final = ".pinnsweep_token"  # on every node, in the home folder
IDLE: Final = ".pinnsweep_idle.py"
_PORTS: Final = "--object-manager-port=8076"
_ENVIRONMENT: Final = f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/{TOKEN} RAY_USAGE_STATS_ENABLED=0"
# The images of Ray's examples, for profiles without an image.
_GCP_IMAGE: Final = "projects/deeplearning-platform-release/global/images/family/common-cpu"
_GCP_DISK_GB: Final = 50
_AZURE_IMAGE: Final = "microsoft-dsvm:ubuntu-2204:2204-gen2:latest"
_AZURE_IMAGE_PARTS: Final = ("imagePublisher", "imageOffer", "imageSku", "imageVersion")


def cluster_yaml(config: Mapping[str, Any]) -> str:
    """Return a configuration as the text of the launcher's file."""
    return yaml.safe_dump(dict(config), sort_keys=False, width=1000)


def cluster_config(profile: VmsProfile, name: str, *, user: str, token_file: Path) -> dict[str, Any]:
    """Return the configuration of the cluster that `user` calls `name`, with the path of its token, not the token.

    The profile's `overrides` are applied last.
    """
    config: dict[str, Any] = {
        "cluster_name": cluster_name(name, user),
        "max_workers": profile.max_workers,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": profile.idle_timeout_min,
        "provider": _provider(profile),
        "auth": _auth(profile),
        "available_node_types": {
            HEAD: {
                "min_workers": 0,
                "max_workers": 0,
                "resources": _resources(profile.head_cpus, None),
                "node_config": _node(profile, HEAD),
            },
            WORKER: {
                "min_workers": profile.min_workers,
                "max_workers": profile.max_workers,
                "resources": _resources(profile.worker_cpus, profile.worker_gpus),
                "node_config": _node(profile, WORKER),
            },
        },
        "head_node_type": HEAD,
        "file_mounts": {f"~/{TOKEN}": str(token_file), f"~/{IDLE}": idle.__file__},
        "setup_commands": [*_own_setup(profile), *profile.setup],
        "head_start_ray_commands": _head_start(profile),
        "worker_start_ray_commands": [
            "ray stop",
            f"{_ENVIRONMENT}; ulimit -n 65536; ray start --address=$RAY_HEAD_IP:6379 {_PORTS}",
        ],
    }
    if profile.docker_image is not None:
        config["docker"] = {
            "image": profile.docker_image,
            "container_name": "pinnsweep",
            "run_options": ["--ulimit nofile=65536:65536"],
        }
    return _merge(config, profile.overrides)


def cluster_name(name: str, user: str) -> str:
    """Return the cluster's name at the provider, unique even if users of one account name profiles alike."""
    return re.sub(r"[^a-z0-9]+", "-", f"pinnsweep-{user}-{name}".lower()).strip("-")


def _head_start(profile: VmsProfile) -> list[str]:
    start = f"ray start --head --port=6379 {_PORTS} --autoscaling-config=~/ray_bootstrap_config.yaml"
    dashboard = f"--dashboard-host=127.0.0.1 --dashboard-port={DASHBOARD_PORT}"
    # The launcher runs this on every `ray up`; the jobs of a healthy Ray must survive it.
    is_healthy = "ray health-check >/dev/null 2>&1"
    commands = [f"{_ENVIRONMENT}; {is_healthy} || {{ ray stop; ulimit -n 65536; {start} {dashboard}; }}"]
    if profile.head_idle_shutdown_min is not None:
        watch = f"python3 ~/{IDLE} {profile.head_idle_shutdown_min:g} http://127.0.0.1:{DASHBOARD_PORT}"
        # In its own session, or it would end with the launcher's login.
        commands.append(f"{_ENVIRONMENT}; nohup setsid {watch} >~/.pinnsweep_idle.log 2>&1 </dev/null &")
    return commands


def _own_setup(profile: VmsProfile) -> list[str]:
    """Return the command that makes the token readable in a container, whose user may differ from the machine's."""
    token = f"~/{TOKEN}"
    give = f"cat {token} >/dev/null 2>&1 || sudo chown $(id -u):$(id -g) {token}"
    return [give] if profile.docker_image is not None else []


def _provider(profile: VmsProfile) -> dict[str, Any]:
    place = {
        "type": profile.provider,
        ("location" if profile.provider == "azure" else "region"): profile.region,
        "availability_zone": profile.availability_zone,
        "project_id": profile.project_id,
        "resource_group": profile.resource_group,
        "cache_stopped_nodes": False,  # a stopped machine still costs its disk
    }
    return {key: value for key, value in place.items() if value is not None}


def _auth(profile: VmsProfile) -> dict[str, str]:
    auth = {"ssh_user": profile.ssh_user}
    if profile.ssh_private_key is not None:
        key = str(Path(profile.ssh_private_key).expanduser())
        auth |= {"ssh_private_key": key}
        auth |= {"ssh_public_key": f"{key}.pub"} if profile.provider == "azure" else {}
    return auth


def _resources(cpus: int | None, gpus: int | None) -> dict[str, int]:
    """Return the resources of a node type for the autoscaler; on AWS Ray looks them up itself."""
    return {name: number for name, number in (("CPU", cpus), ("GPU", gpus)) if number is not None}


def _node(profile: VmsProfile, which: str) -> dict[str, Any]:
    machine = profile.head_type if which == HEAD else profile.worker_type
    is_spot = profile.spot and which == WORKER
    gpus = profile.worker_gpus if which == WORKER else None
    if profile.provider == "aws":
        return _aws_node(profile, machine, is_spot=is_spot, is_head=which == HEAD)
    if profile.provider == "gcp":
        return _gcp_node(profile, machine, gpus or 0, is_spot=is_spot)
    return _azure_node(profile, machine, is_spot=is_spot)


def _aws_node(profile: VmsProfile, machine: str, *, is_spot: bool, is_head: bool) -> dict[str, Any]:
    node: dict[str, Any] = {"InstanceType": machine}
    if profile.image is not None:
        node["ImageId"] = profile.image
    if profile.ssh_key_name is not None:
        node["KeyName"] = profile.ssh_key_name
    if profile.disk_gb is not None:
        node["BlockDeviceMappings"] = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": profile.disk_gb}}]
    if is_spot:
        node["InstanceMarketOptions"] = {"MarketType": "spot"}
    if is_head:
        node["InstanceInitiatedShutdownBehavior"] = "terminate"
    return node


def _gcp_node(profile: VmsProfile, machine: str, gpus: int, *, is_spot: bool) -> dict[str, Any]:
    disk = {"diskSizeGb": profile.disk_gb or _GCP_DISK_GB, "sourceImage": profile.image or _GCP_IMAGE}
    node: dict[str, Any] = {
        "machineType": machine,
        "disks": [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": disk}],
    }
    if gpus and profile.worker_gpu_type is not None:  # other machine types include their GPUs
        node["guestAccelerators"] = [{"acceleratorType": profile.worker_gpu_type, "acceleratorCount": gpus}]
    scheduling: dict[str, Any] = {"preemptible": True} if is_spot else {}
    if gpus:  # machines with GPUs cannot move to another host
        scheduling |= {"onHostMaintenance": "TERMINATE", "automaticRestart": False}
    if scheduling:
        node["scheduling"] = [scheduling]
    return node


def _azure_node(profile: VmsProfile, machine: str, *, is_spot: bool) -> dict[str, Any]:
    image = profile.image or _AZURE_IMAGE
    parts = (
        {"imageId": image} if image.startswith("/") else dict(zip(_AZURE_IMAGE_PARTS, image.split(":"), strict=True))
    )
    node: dict[str, Any] = {"vmSize": machine, **parts}
    if profile.disk_gb is not None:
        node["osDiskSize"] = profile.disk_gb
    if is_spot:
        node["priority"] = "Spot"
    return {"azure_arm_parameters": node}


def _merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `overrides`: mappings are merged at every depth, other values are replaced."""
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged
