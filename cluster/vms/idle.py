"""The end of an idle cluster; started on the head as `python3 idle.py MINUTES URL`.

It needs only Ray there. Ray's node provider ends the machines, workers first, because nothing would end them after the
head is gone. `sudo shutdown` alone is not enough: on GCP the disk and on Azure the whole machine would still cost, and
containers have no shutdown. It is the last resort where the provider keeps failing, and on AWS it ends the head, whose
machine is launched to terminate on shutdown.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

CONFIG = "ray_bootstrap_config.yaml"  # in the home folder, where Ray's launcher puts it for the autoscaler, as JSON
PID = ".pinnsweep_idle.pid"
MAX_PAUSE_S = 30.0
MAX_FAILURES = 10


def main(argv: Sequence[str]) -> None:
    """Poll the jobs at the dashboard `argv[1]` and end the machines after `argv[0]` minutes without a job."""
    idle_min, dashboard = float(argv[0]), argv[1]
    home, own_pid = Path.home(), str(os.getpid())
    (home / PID).write_text(own_pid)
    failures, busy_at = 0, time.monotonic()
    while (home / PID).read_text() == own_pid:  # else a newer process has taken over
        if is_busy(dashboard):
            busy_at = time.monotonic()
        elif time.monotonic() - busy_at >= 60 * idle_min:
            try:
                give_back(home / CONFIG)
            except Exception as problem:  # whatever a provider's library raises
                failures += 1
                print(f"the machines cannot be given back: {problem!r}", flush=True)
                if failures >= MAX_FAILURES:
                    subprocess.run(["sudo", "-n", "shutdown", "-h", "now"], check=False)
        time.sleep(min(MAX_PAUSE_S, 15 * idle_min))


def is_busy(dashboard: str) -> bool:
    """Return whether a job runs or waits. A dashboard that does not answer has none: its jobs died with it."""
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    request = urllib.request.Request(f"{dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            jobs = json.load(answer)
    except (OSError, ValueError, http.client.HTTPException) as problem:
        print(f"no answer from the dashboard: {problem}", flush=True)
        return False
    return any(job["status"] in ("PENDING", "RUNNING") for job in jobs)


def give_back(config_file: Path) -> None:
    """End the workers, or the head where no worker is left."""
    providers = importlib.import_module("ray.autoscaler._private.providers")
    with contextlib.suppress(subprocess.TimeoutExpired):  # so that the autoscaler launches no new workers
        subprocess.run(["ray", "stop", "--force"], check=False, timeout=120)
    config = json.loads(config_file.read_text())
    provider = providers._get_node_provider(config["provider"], config["cluster_name"])
    nodes = provider.non_terminated_nodes({"ray-node-type": "worker"})
    nodes = nodes or provider.non_terminated_nodes({"ray-node-type": "head"})
    print(f"nothing to do: giving back {', '.join(nodes)}", flush=True)
    provider.terminate_nodes(nodes)


if __name__ == "__main__":
    main(sys.argv[1:])
