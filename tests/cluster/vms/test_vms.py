"""Machines that Ray's cluster launcher starts: what it is told, and how jobs get there and back."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import yaml
from moto.server import ThreadedMotoServer
from pydantic import TypeAdapter
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster import ClusterError, Executor, Job, JobError, JobNotFound, JobState, Resources, executor_of
from cluster.vms import guard, idle
from cluster.vms.checks import typed_command
from cluster.vms.config import cluster_config, cluster_yaml
from cluster.vms.executor import VmsExecutor
from cluster.vms.profile import VmsProfile
from cluster.vms.tunnel import Tunnel
from tests.cluster.vms.place import AWS, NAME, stand_in, vms_place
from tests.cluster.waiting import WAIT_S, eventually
from tests.processes import end, line_of

ECHO = Job(argv=("echo", "hello"), name="greeting")
GCP = {**AWS, "provider": "gcp", "region": "us-west1", "availability_zone": "us-west1-a", "project_id": "lab-1"}
GCP |= {"head_cpus": 2, "worker_cpus": 8}
AZURE = {**AWS, "provider": "azure", "region": "westus2", "resource_group": "lab", "head_cpus": 2, "worker_cpus": 8}
PROVIDERS = {"aws": AWS, "gcp": GCP, "azure": AZURE}
NOWHERE = Path("/home/me/.config/pinnsweep/tokens/lab")


def config_of(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    return cluster_config(VmsProfile(**settings | more), "lab", user="me", token_file=NOWHERE)


def test_a_user_without_a_name_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_entry(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ClusterError, match=r"^USER: must be set"):
        VmsExecutor(VmsProfile(**AWS), "lab")


class TestConfiguration:
    @pytest.mark.parametrize("provider", PROVIDERS)
    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"worker_gpus": 1},
            {"spot": True, "worker_gpus": 4, "disk_gb": 200, "min_workers": 1, "max_workers": 8},
            {"docker_image": None, "setup": ("pip install pinnsweep 'ray[default]'",), "head_idle_shutdown_min": None},
        ],
    )
    def test_rays_launcher_takes_it(self, provider: str, more: dict[str, Any]) -> None:
        validate_config(prepare_config(yaml.safe_load(cluster_yaml(config_of(PROVIDERS[provider], **more)))))

    def test_head_and_workers_of_aws(self) -> None:
        config = config_of(AWS, image="ami-1", spot=True, disk_gb=100, ssh_private_key="/k", ssh_key_name="mine")
        common = {
            "ImageId": "ami-1",
            "KeyName": "mine",
            "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 100}}],
        }
        types = config["available_node_types"]
        shutdown = {"InstanceInitiatedShutdownBehavior": "terminate"}
        assert types["head"]["node_config"] == {"InstanceType": "m6i.large", **common, **shutdown}
        spot = {"InstanceMarketOptions": {"MarketType": "spot"}}
        assert types["worker"]["node_config"] == {"InstanceType": "c6i.4xlarge", **common, **spot}
        assert config["auth"] == {"ssh_user": "ubuntu", "ssh_private_key": "/k"}
        assert config["provider"] == {"type": "aws", "region": "us-west-2", "cache_stopped_nodes": False}

    def test_gpus_and_spot_on_gcp_are_for_workers(self) -> None:
        types = config_of(GCP, worker_gpus=2, worker_gpu_type="nvidia-tesla-t4", spot=True)["available_node_types"]
        worker = types["worker"]["node_config"]
        assert worker["guestAccelerators"] == [{"acceleratorType": "nvidia-tesla-t4", "acceleratorCount": 2}]
        scheduling = {"preemptible": True, "onHostMaintenance": "TERMINATE", "automaticRestart": False}
        assert worker["scheduling"] == [scheduling]
        assert types["worker"]["resources"] == {"CPU": 8, "GPU": 2}
        assert types["head"]["resources"] == {"CPU": 2}
        assert not {"guestAccelerators", "scheduling"} & types["head"]["node_config"].keys()

    def test_image_and_keys_of_azure(self) -> None:
        config = config_of(AZURE, image="a:b:c:latest", ssh_private_key="/k", spot=True)
        worker = config["available_node_types"]["worker"]["node_config"]["azure_arm_parameters"]
        image = {"imagePublisher": "a", "imageOffer": "b", "imageSku": "c", "imageVersion": "latest"}
        assert worker == {"vmSize": "c6i.4xlarge", **image, "priority": "Spot"}
        assert config["auth"] == {"ssh_user": "ubuntu", "ssh_private_key": "/k", "ssh_public_key": "/k.pub"}
        by_path = config_of(AZURE, image="/subscriptions/1/image")["available_node_types"]["head"]["node_config"]
        assert by_path["azure_arm_parameters"] == {"vmSize": "m6i.large", "imageId": "/subscriptions/1/image"}

    @pytest.mark.parametrize("provider", PROVIDERS)
    def test_ray_wants_a_token_and_shows_its_dashboard_to_the_head_only(self, provider: str) -> None:
        config = config_of(PROVIDERS[provider])
        starts = [
            line
            for which in ("head", "worker")
            for line in config[f"{which}_start_ray_commands"]
            if "ray start" in line
        ]
        assert len(starts) == 2
        for line in starts:
            assert "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.pinnsweep_token RAY_USAGE_STATS_ENABLED=0" in line
        assert "--dashboard-host=127.0.0.1" in starts[0]
        assert config["file_mounts"]["~/.pinnsweep_token"] == str(NOWHERE)

    def test_head_that_never_shuts_down_watches_nothing(self) -> None:
        watching = [config_of(AWS, head_idle_shutdown_min=minutes)["head_start_ray_commands"] for minutes in (5, None)]
        assert [any("idle.py 5 http://127.0.0.1:8265" in line for line in lines) for lines in watching] == [True, False]

    def test_overrides_count_last_at_any_depth(self) -> None:
        role = {"IamInstanceProfile": {"Name": "studies"}}
        overrides = {
            "available_node_types": {"worker": {"node_config": role}},
            "provider": {"use_internal_ips": True},
            "setup_commands": ["true"],
        }
        config, plain = config_of(AWS, overrides=overrides), config_of(AWS)
        types = config["available_node_types"]
        assert types["worker"]["node_config"] == {"InstanceType": "c6i.4xlarge"} | role
        assert types["head"] == plain["available_node_types"]["head"]
        assert config["provider"] == plain["provider"] | {"use_internal_ips": True}
        assert config["setup_commands"] == ["true"]

    def test_two_users_do_not_share_a_cluster(self) -> None:
        profile = VmsProfile(**AWS)
        names = {
            cluster_config(profile, "My_lab", user=user, token_file=NOWHERE)["cluster_name"]
            for user in ("ann", "Bob B")
        }
        assert names == {"pinnsweep-ann-my-lab", "pinnsweep-bob-b-my-lab"}


class TestProfile:
    def test_it_can_be_read_from_a_file(self) -> None:
        settings = {**AWS, "setup": ["true"], "overrides": {"provider": {"use_internal_ips": True}}, "spot": True}
        profile = TypeAdapter(VmsProfile).validate_json(json.dumps(settings), strict=True)
        assert profile == VmsProfile(**settings | {"setup": ("true",)})

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            (AWS | {"min_workers": 3}, "max_workers must be at least min_workers, 3, got 2"),
            (GCP | {"project_id": None}, "project_id must be given with provider gcp"),
            (AZURE | {"worker_cpus": None}, "worker_cpus must be given with provider azure"),
            (AWS | {"resource_group": "lab"}, "resource_group must be left out with provider aws"),
            (AWS | {"docker_image": None}, "one of image, docker_image or setup"),
            (AWS | {"ssh_private_key": "/k"}, "must be given together, got '/k' and None"),
            (AZURE | {"image": "ubuntu"}, "image must be publisher:offer:sku:version"),
        ],
    )
    def test_what_does_not_fit_together_is_refused(self, settings: dict[str, Any], problem: str) -> None:
        with pytest.raises(JobError, match=problem):
            VmsProfile(**settings)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Path]:
    """The folder of a stand-in's cloud, in which no dashboard ever answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        with stand_in(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}") as folder:
            yield folder


@pytest.fixture
def lab(cloud: Path) -> VmsExecutor:
    return executor_of(VmsProfile(**AWS), NAME)


def calls(cloud: Path) -> list[str]:
    return (
        [line.split()[0] for line in (cloud / "calls").read_text().splitlines()] if (cloud / "calls").exists() else []
    )


class TestClusterThatIsDown:
    def test_nothing_is_started_to_look_at_jobs(self, lab: VmsExecutor, cloud: Path) -> None:
        assert list(lab.list()) == []
        with pytest.raises(JobNotFound, match=r"no job 'x-1': no head .* is up"):
            lab.attach("x-1")
        assert calls(cloud) == ["dashboard", "dashboard"]

    def test_token_is_made_once_and_for_its_owner_only(self, lab: VmsExecutor, tmp_path: Path) -> None:
        token = tmp_path / "config" / "pinnsweep" / "tokens" / NAME
        lab.list()
        first = token.read_text()
        executor_of(VmsProfile(**AWS), NAME).list()
        assert token.read_text() == first
        assert len(first) == 64
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert first not in (tmp_path / "config" / "pinnsweep" / "vms" / f"{NAME}.yaml").read_text()
        assert first not in lab.preview(ECHO)

    def test_cluster_that_does_not_start(self, lab: VmsExecutor, cloud: Path) -> None:
        (cloud / "fail-up").write_text("Launching\n\x1b[31mInstanceLimitExceeded: no more than 5\x1b[0m\n\n")
        with pytest.raises(
            ClusterError,
            match=r"did not start: InstanceLimitExceeded: no more than 5; correct this .*: ray down -y .*lab.yaml$",
        ):
            lab.submit(ECHO)

    def test_head_that_cannot_be_reached(self, lab: VmsExecutor, cloud: Path) -> None:
        (cloud / "fail-dashboard").write_text("ssh: connect to host 10.0.0.5 port 22: Connection timed out\n")
        with pytest.raises(ClusterError, match=r"cannot be reached: ssh: connect to host .* timed out"):
            lab.submit(ECHO)
        assert calls(cloud) == ["dashboard"]  # and no second head is started

    def test_dashboard_that_does_not_answer(self, cloud: Path, tmp_path: Path) -> None:
        (cloud / "up").touch()
        with pytest.raises(ClusterError, match=r"does not answer within 0\.5 s"):
            Tunnel(str(tmp_path / "bin" / "ray"), Path("lab.yaml"), "lab", timeout_s=0.5)

    def test_job_that_cannot_run_there_starts_nothing(self, lab: VmsExecutor, cloud: Path) -> None:
        with pytest.raises(JobError, match="timeout_min"):
            lab.submit(dataclasses.replace(ECHO, resources=Resources(timeout_min=1)))
        assert calls(cloud) == []

    def test_preview_tells_everything_and_does_nothing(self, lab: VmsExecutor, cloud: Path, tmp_path: Path) -> None:
        file = tmp_path / "config" / "pinnsweep" / "vms" / f"{NAME}.yaml"
        told = lab.preview(ECHO)
        assert yaml.safe_load(told[told.index("cluster_name") : told.index("# if no head")])["max_workers"] == 2
        for line in (
            f"ray up -y --disable-usage-stats --log-style=pretty {file}",
            f"ray dashboard {file} --remote-port 8265 --port PORT",
            '"entrypoint": "exec echo hello"',
            f"ray down -y {file}",
        ):
            assert line in told
        assert calls(cloud) == []
        assert not file.parent.exists()

    def test_preview_shows_no_credentials(self, cloud: Path) -> None:
        credentials = {"provider": {"aws_credentials": {"aws_secret_access_key": "hidden"}}}
        assert "hidden" not in executor_of(VmsProfile(**AWS, overrides=credentials), NAME).preview(ECHO)


class TestChecks:
    def test_what_is_not_on_path_is_called_by_its_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
        assert typed_command("ray") == "ray"  # it is nowhere: `doctor` says so
        (tmp_path / "ray").touch(mode=0o755)
        assert typed_command("ray") == f"{tmp_path}/ray"
        monkeypatch.setenv("PATH", str(tmp_path))
        assert typed_command("ray") == "ray"

    def test_cluster_that_is_down_is_no_problem(self, lab: VmsExecutor) -> None:
        found = list(lab.checks())
        assert [check.problem for check in found] == [""] * 6
        assert "submitting a job starts one" in found[-1].what

    def test_missing_command(self, lab: VmsExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "bin" / "rsync").unlink()
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        assert "the command rsync" in list(lab.checks())[-1].problem

    def test_missing_credentials(self, lab: VmsExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, os.devnull)
        assert "no AWS credentials; run `aws configure`" in list(lab.checks())[-1].problem

    def test_missing_package(self, cloud: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "azure", None)
        found = list(executor_of(VmsProfile(**AZURE), NAME).checks())
        assert "pip install azure-cli" in found[-1].problem

    def test_unreadable_key(self, cloud: Path) -> None:
        profile = VmsProfile(**AWS, ssh_private_key="/no/such/key", ssh_key_name="mine")
        assert "ssh_private_key: /no/such/key" in list(executor_of(profile, NAME).checks())[-1].problem

    def test_configuration_that_ray_refuses(self, cloud: Path, capsys: pytest.CaptureFixture[str]) -> None:
        profile = VmsProfile(**AWS, overrides={"max_worker": 3})
        assert "'max_worker' was unexpected" in list(executor_of(profile, NAME).checks())[-1].problem
        assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Executor]]:
    with vms_place(tmp_path_factory.mktemp("vms")) as make:
        yield make


CLIENT = """
import sys
from cluster import VmsProfile, executor_of
from tests.cluster.vms.place import AWS, NAME
executor = executor_of(VmsProfile(**AWS), NAME)
print(len(executor.list()), executor._forwarded.tunnel.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow  # with a real Ray head behind the tunnel
@pytest.mark.xdist_group("vms")
class TestJobs:
    def test_cluster_is_started_by_the_first_job_alone(self, clients: Callable[[], Executor]) -> None:
        cloud = Path(os.environ["XDG_CONFIG_HOME"]).parent / "cloud"
        (cloud / "up").unlink(missing_ok=True)
        before = calls(cloud).count("up")
        with ThreadPoolExecutor() as at_once:
            handles = list(at_once.map(lambda _: clients().submit(ECHO), range(2)))
        assert calls(cloud).count("up") == before + 1
        for handle in handles:
            assert handle.wait(WAIT_S) is JobState.DONE
            assert "hello\n" in "".join(handle.logs())
        assert clients().attach(handles[0].id).job.argv == ECHO.argv

    def test_job_is_followed_and_cancelled_through_the_tunnel(self, clients: Callable[[], Executor]) -> None:
        code = "import time; print('beg' + 'un', flush=True); time.sleep(600)"
        handle = clients().submit(Job(argv=(sys.executable, "-c", code), name="long"))
        for piece in handle.logs(follow=True):  # to the end
            if "begun" in piece:
                handle.cancel()
        assert handle.state() is JobState.CANCELLED

    def test_tunnel_ends_with_the_last_that_needs_it(self, clients: Callable[[], Executor]) -> None:
        before = tunnels()
        executor = clients()
        handle = executor.submit(ECHO)
        mine = tunnels() - before
        assert mine
        del executor
        assert handle.wait(WAIT_S) is JobState.DONE  # it is still there for the handle
        del handle
        eventually(lambda: not mine & tunnels())

    def test_tunnel_ends_with_a_killed_client(self, clients: Callable[[], Executor]) -> None:
        clients().submit(ECHO)
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            _, port = map(int, line_of(process).split())
            eventually(lambda: listens(port))
            os.kill(process.pid, signal.SIGKILL)
            process.wait(WAIT_S)
        finally:
            end(process)
        eventually(lambda: not listens(port))

    def test_every_check_holds(self, clients: Callable[[], Executor]) -> None:
        clients().submit(ECHO)
        found = list(clients().checks())
        assert [check.problem for check in found] == [""] * len(found)
        assert "the Jobs API accepts this client and its token" in found[-1].what


def test_a_shared_connection_is_asked_to_give_up_the_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ssh").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with tempfile.TemporaryDirectory(prefix="ray_ssh_", dir="/tmp") as folder:  # where the launcher keeps them
        shared = Path(folder) / "lab" / "head"
        shared.parent.mkdir()
        shared.touch()
        words = [sys.executable, "-I", guard.__file__, "4000:localhost:8265", "sleep", "600"]
        subprocess.run(words, stdin=subprocess.DEVNULL, check=False, timeout=WAIT_S)
    assert f"-S {shared} -O cancel -L 4000:localhost:8265 head" in (tmp_path / "calls").read_text().splitlines()


def tunnels() -> set[int]:
    """Everything below this process that forwards a dashboard."""
    found = set()
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # or only its remains
            found |= {each.pid} if "dashboard" in each.cmdline() else set()
    return found


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class TestIdleHead:
    """The script on the head, with a dashboard of the test's and Ray's own provider on an EC2 that is none."""

    @pytest.fixture
    def jobs(self) -> Iterator[dict[str, Any]]:
        """What the dashboard at `url` answers: its `jobs`, to whoever has the token."""
        state: dict[str, Any] = {"jobs": []}

        class Dashboard(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                allowed = self.path == "/api/jobs/" and self.headers["Authorization"] == "Bearer secret"
                self.send_response(200 if allowed else 401)
                self.end_headers()
                self.wfile.write(json.dumps(state["jobs"]).encode() if allowed else b"")

            def log_message(self, format: str, *args: Any) -> None:
                state["asked"] = True

        server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
        state["url"] = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield state
        server.shutdown()
        thread.join(WAIT_S)
        server.server_close()

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        (tmp_path / "token").write_text("secret\n")
        config = {
            "cluster_name": "lab",
            "provider": {"type": "aws", "region": "us-west-2", "cache_stopped_nodes": False},
        }
        (tmp_path / idle.CONFIG).write_text(json.dumps(config))
        for name in ("ray", "sudo"):
            (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/calls\n')
            (tmp_path / name).chmod(0o755)
        return tmp_path

    @pytest.fixture
    def watch(self, home: Path, jobs: dict[str, Any]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
        started: list[subprocess.Popen[bytes]] = []

        def start(**environment: str) -> subprocess.Popen[bytes]:
            mine = {"HOME": str(home), "PATH": f"{home}:{os.environ['PATH']}", "RAY_AUTH_TOKEN_PATH": f"{home}/token"}
            words = [sys.executable, idle.__file__, "0.002", jobs["url"]]
            with (home / "log").open("ab") as log:
                started.append(subprocess.Popen(words, env=os.environ | mine | environment, stdout=log, stderr=log))
            return started[-1]

        yield start
        for process in started:
            end(process)

    def test_machines_are_given_back_when_no_job_is_left(
        self,
        jobs: dict[str, Any],
        home: Path,
        watch: Callable[..., subprocess.Popen[bytes]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        server = ThreadedMotoServer(port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        try:
            ec2 = boto3.resource("ec2", region_name="us-west-2", endpoint_url=f"http://{host}:{port}")
            for kind, number in (("head", 1), ("worker", 2)):
                tags = [{"Key": "ray-cluster-name", "Value": "lab"}, {"Key": "ray-node-type", "Value": kind}]
                ec2.create_instances(
                    ImageId="ami-12c6146b",
                    MinCount=number,
                    MaxCount=number,
                    TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
                )
            strangers = ec2.create_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)

            def running() -> set[str]:
                return {each.id for each in ec2.instances.all() if each.state["Name"] == "running"}

            eventually(lambda: len(running()) == 4)
            jobs["jobs"] = [{"status": "SUCCEEDED"}, {"status": "RUNNING"}]
            watch(AWS_ENDPOINT_URL=f"http://{host}:{port}")
            eventually(lambda: jobs.pop("asked", False))
            eventually(lambda: jobs.pop("asked", False))
            assert len(running()) == 4
            jobs["jobs"] = [{"status": "SUCCEEDED"}]
            eventually(lambda: running() == {each.id for each in strangers})
            given = [line for line in (home / "log").read_text().splitlines() if "giving back" in line]
            assert [line.count("i-") for line in given[:2]] == [2, 1]  # the workers, then the head
            assert "ray stop --force\n" in (home / "calls").read_text()
        finally:
            server.stop()

    def test_head_shuts_down_where_the_provider_keeps_failing(
        self, jobs: dict[str, Any], home: Path, watch: Callable[..., subprocess.Popen[bytes]]
    ) -> None:
        (home / idle.CONFIG).unlink()
        watch()
        eventually(lambda: (home / "calls").exists() and "sudo -n shutdown -h now\n" in (home / "calls").read_text())
        assert (home / "log").read_text().count("cannot be given back") >= idle.MAX_FAILURES

    def test_job_is_seen_past_a_proxy_for_the_world(
        self, jobs: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        for status, is_busy in (("PENDING", True), ("RUNNING", True), ("STOPPED", False)):
            jobs["jobs"] = [{"status": "FAILED"}, {"status": status}]
            assert idle.is_busy(jobs["url"]) is is_busy

    def test_newer_one_takes_over(self, home: Path, watch: Callable[..., subprocess.Popen[bytes]]) -> None:
        (home / idle.CONFIG).unlink()
        first = watch()
        eventually(lambda: (home / idle.PID).exists() and (home / idle.PID).read_text() == str(first.pid))
        watch()
        assert first.wait(WAIT_S) == 0
