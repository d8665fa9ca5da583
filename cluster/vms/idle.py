"""Takes a cluster down when no job has run on it for a while; started on the head as `python3 idle.py MINUTES URL`.

It needs nothing but Ray there. The machines are given back by Ray's own node provider, workers first, since nobody
would end them after the head is gone. `sudo shutdown` alone would not do: on GCP it leaves the disk, on Azure the whole
machine on the bill, and in a container there is none. It is what remains where the provider keeps failing, and ends the
head on AWS, whose machines are launched to terminate by it.
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
MOST_PAUSE_S = 30.0
MOST_FAILURES = 10


def main(argv: Sequence[str]) -> None:
    """Look at the jobs until there has been none for `argv[0]` minutes."""
    idle_min, dashboard = float(argv[0]), argv[1]
    home, me = Path.home(), str(os.getpid())
    (home / PID).write_text(me)
    failures, busy_at = 0, time.monotonic()
    while (home / PID).read_text() == me:  # else a newer one is at work
        if is_busy(dashboard):
            busy_at = time.monotonic()
        elif time.monotonic() - busy_at >= 60 * idle_min:
            try:
                give_back(home / CONFIG)
            except Exception as problem:  # whatever a provider's library raises
                failures += 1
                print(f"the machines cannot be given back: {problem!r}", flush=True)
                if failures >= MOST_FAILURES:
                    subprocess.run(["sudo", "-n", "shutdown", "-h", "now"], check=False)
        time.sleep(min(MOST_PAUSE_S, 15 * idle_min))


def is_busy(dashboard: str) -> bool:
    """Whether a job runs or waits. A dashboard that does not answer has none: its jobs died with it."""
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    request = urllib.request.Request(f"{dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=20) as answer:
            jobs = json.load(answer)
    except (OSError, ValueError, http.client.HTTPException) as problem:
        print(f"no answer from the dashboard: {problem}", flush=True)
        return False
    return any(job["status"] in ("PENDING", "RUNNING") for job in jobs)


def give_back(config_file: Path) -> None:
    """End the workers, or the head where there are none any more."""
    providers = importlib.import_module("ray.autoscaler._private.providers")
    with contextlib.suppress(subprocess.TimeoutExpired):  # so that nothing launches new workers
        subprocess.run(["ray", "stop", "--force"], check=False, timeout=120)
    config = json.loads(config_file.read_text())
    provider = providers._get_node_provider(config["provider"], config["cluster_name"])
    nodes = provider.non_terminated_nodes({"ray-node-type": "worker"})
    nodes = nodes or provider.non_terminated_nodes({"ray-node-type": "head"})
    print(f"nothing to do: giving back {', '.join(nodes)}", flush=True)
    provider.terminate_nodes(nodes)


if __name__ == "__main__":
    main(sys.argv[1:])
