"""A cluster that grows: Ray's autoscaler with the provider that starts fake nodes on this machine."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ..clusters import RAY, below, kill, wait_for

LISTS = (
    "cluster_synced_files",
    "head_setup_commands",
    "head_start_ray_commands",
    "initialization_commands",
    "setup_commands",
    "worker_setup_commands",
    "worker_start_ray_commands",
)  # keys that the autoscaler requires


class GrowingCluster:
    """Cluster of a head without cores and up to `most` workers of `resources`, started on request."""

    def __init__(
        self,
        folder: Path,
        resources: Mapping[str, int],
        *,
        most: int = 2,
        idle_s: float = 6.0,
        environment: Mapping[str, str],
    ) -> None:
        port = random.SystemRandom().randrange(20000, 30000)
        self.address, log = f"127.0.0.1:{port}", folder / "head.log"
        config = {
            **{name: [] for name in LISTS},
            "cluster_name": "growing",
            "max_workers": most,
            "idle_timeout_minutes": idle_s / 60,
            "upscaling_speed": 20.0,
            "auth": {"ssh_user": "nobody"},
            "docker": {},
            "file_mounts": {},
            "file_mounts_sync_continuously": False,
            "provider": {
                "type": "fake_multinode",
                "gcs_address": self.address,
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                "worker": {"resources": dict(resources), "node_config": {}, "min_workers": 0, "max_workers": most},
            },
        }
        file = folder / "autoscaling.yaml"
        file.write_text(json.dumps(config))
        words = [RAY, "start", "--head", "--block", "--num-cpus=0", f"--port={port}", "--include-dashboard=false"]
        fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        with open(log, "w") as output:
            self.process = subprocess.Popen(
                [*words, f"--autoscaling-config={file}"],
                stdout=output,
                stderr=output,
                env={**environment, **fake},
                start_new_session=True,
            )
        wait_for(lambda: "Ray runtime started" in log.read_text(), self.process)

    @property
    def workers(self) -> int:
        """Return the number of nodes besides the head."""
        return len([pid for pid in below(self.process.pid) if _is_raylet(pid)]) - 1

    def kill(self) -> None:
        """End the head and every node."""
        for pid in [*below(self.process.pid), self.process.pid]:
            kill(pid)
        self.process.wait(timeout=30)


def _is_raylet(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0].endswith("/raylet")
    except OSError:
        return False
