"""RayJobs as text, compared with KubeRay's published schema, and as jobs, at a stand-in for API server and operator."""

from __future__ import annotations

import base64
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from cluster import ClusterError, Job, JobError, JobNotFound, JobState, LogsNotKept, Resources, executor_of
from cluster.kubernetes.manifest import config_map, exit_code_of, new_id, rayjob, state_of
from cluster.kubernetes.profile import KubernetesProfile

from ..waiting import WAIT_S, eventually
from .api import NAMESPACE, Refusal, StandIn, rayjob_errors

STUDY = Job(argv=("pinnsweep", "run", "study.yaml"), name="widths", files={"study.yaml": b"study: widths\n"})
FULL: dict[str, Any] = {
    "root": "/studies/runs",
    "image": "registry.example/pinnsweep:1",
    "namespace": "lab",
    "service_account": "sweeper",
    "workers": 2,
    "max_workers": 8,
    "cpus_per_node": 4,
    "memory_per_node_gb": 7.5,
    "gpus_per_node": 1,
    "gpu_resource": "amd.com/gpu",
    "head_cpus": 2,
    "head_memory_gb": 8,
    "node_selector": {"pool": "train"},
    "tolerations": ({"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},),
    "volume_claim": "claim",
    "mount_path": "/studies",
    "secrets": ("s3", "tracking"),
    "time_limit_min": 90.5,
    "retries": 2,
    "ttl_after_finished_s": 300,
    "stop_grace_s": 120,
    "ray_version": "2.55.0",
    "environment": {"OMP_NUM_THREADS": "1"},
}
SMALL: dict[str, Any] = {"root": "s3://bucket/runs", "image": "pinnsweep:1"}


def python(code: str, **settings: Any) -> Job:
    return Job(argv=(sys.executable, "-u", "-c", code), **settings)


SLEEP = python("import time; print('asleep'); time.sleep(600)")


def described(settings: dict[str, Any], job: Job = STUDY) -> dict[str, Any]:
    return rayjob(KubernetesProfile(**settings), job, "widths-1a2b", submitted_at=datetime(2026, 1, 2, tzinfo=UTC))


def pods(manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod of the head and that of the workers."""
    cluster = manifest["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    return cluster["headGroupSpec"]["template"]["spec"], workers["template"]["spec"]


class TestManifest:
    @pytest.mark.parametrize("settings", [SMALL, FULL, {**SMALL, "queue": "team"}])
    def test_is_valid_by_the_published_definition(self, settings: dict[str, Any]) -> None:
        assert rayjob_errors(described(settings)) == []

    @pytest.mark.parametrize(
        ("change", "status", "message"),
        [
            ({"backofLimit": 1}, 400, 'unknown field "spec.backofLimit"'),
            ({"backoffLimit": "1"}, 422, "'1' is not of type 'integer'"),
            ({"rayClusterSpec": {"authOptions": {"mode": "tokens"}}}, 422, "'tokens' is not one of"),
            ({"rayClusterSpec": {}}, 422, "'headGroupSpec' is a required property"),
        ],
    )
    def test_definition_finds_mistakes(self, change: dict[str, Any], status: int, message: str) -> None:
        manifest = described(SMALL)
        errors = rayjob_errors({**manifest, "spec": {**manifest["spec"], **change}})
        assert [found for found, said in errors if message in said] == [status]

    def test_small_profile_leaves_the_rest_to_the_cluster(self) -> None:
        spec = described(SMALL)["spec"]
        head, worker = pods(described(SMALL))
        assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
        assert spec["rayClusterSpec"]["enableInTreeAutoscaling"] is False
        assert not spec["suspend"] and "activeDeadlineSeconds" not in spec
        assert worker["containers"][0]["resources"] == head["containers"][0]["resources"] == {}
        assert worker["volumes"] == [] and worker["containers"][0]["envFrom"] == []
        assert not {"serviceAccountName", "nodeSelector", "tolerations"} & {*head, *worker}

    def test_every_setting_has_its_place(self) -> None:
        manifest = described(FULL)
        spec, (head, worker) = manifest["spec"], pods(manifest)
        (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
        assert manifest["metadata"]["namespace"] == "lab"
        assert spec["activeDeadlineSeconds"] == 5430
        assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (2, 300)
        assert spec["rayClusterSpec"]["rayVersion"] == "2.55.0"
        assert spec["rayClusterSpec"]["enableInTreeAutoscaling"] is True
        assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 8)
        quantities = {"cpu": 4, "memory": "7500M", "amd.com/gpu": 1}
        assert worker["containers"][0]["resources"] == {"limits": quantities, "requests": quantities}
        assert head["containers"][0]["resources"]["limits"] == {"cpu": 2, "memory": "8000M"}
        for pod in (head, worker, spec["submitterPodTemplate"]["spec"]):
            assert pod["serviceAccountName"] == "sweeper"
            assert pod["nodeSelector"] == {"pool": "train"}
            assert pod["tolerations"] == list(FULL["tolerations"])
            assert pod["containers"][0]["image"] == "registry.example/pinnsweep:1"
        for pod in (head, worker):
            (container,) = pod["containers"]
            assert pod["terminationGracePeriodSeconds"] > 120
            assert {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "120"} in container["env"]
            assert {"name": "OMP_NUM_THREADS", "value": "1"} in container["env"]
            assert container["envFrom"] == [{"secretRef": {"name": name}} for name in ("s3", "tracking")]
            assert {"name": "studies", "mountPath": "/studies"} in container["volumeMounts"]
            assert {"name": "studies", "persistentVolumeClaim": {"claimName": "claim"}} in pod["volumes"]

    def test_queue(self) -> None:
        manifest = described({**SMALL, "queue": "team"})
        assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
        assert manifest["spec"]["suspend"] is True

    def test_time_limit_of_the_job_counts_before_that_of_the_profile(self) -> None:
        job = Job(argv=("true",), resources=Resources(timeout_min=1))
        assert described(FULL, job)["spec"]["activeDeadlineSeconds"] == 60

    @pytest.mark.parametrize("resources", [{"cpus": 4}, {"gpus": 1}, {"memory_gb": 2}])
    def test_resources_are_those_of_the_profile(self, resources: dict[str, Any]) -> None:
        with pytest.raises(JobError, match="profile gives to each node"):
            described(SMALL, Job(argv=("true",), resources=Resources(**resources)))

    def test_dollar_signs_are_not_expanded(self) -> None:
        head, _ = pods(described({**SMALL, "environment": {"A": "$(HOME) $$"}}))
        assert {"name": "A", "value": "$$(HOME) $$$$"} in head["containers"][0]["env"]

    @pytest.mark.parametrize("where", ["environment", "argv"])
    def test_password_in_an_address_is_refused_and_not_repeated(self, where: str) -> None:
        value = "postgresql://me:hidden@db/studies"
        job = Job(argv=("run", value)) if where == "argv" else Job(argv=("run",), environment={"STORE": value})
        with pytest.raises(JobError, match="no address with a password") as problem:
            described(SMALL, job)
        assert "hidden" not in str(problem.value)

    def test_files_are_in_the_config_map_and_mounted_where_the_command_starts(self) -> None:
        job = Job(argv=("pinnsweep", "run", "a b.yaml"), files={"a b.yaml": b"\xff", "start": b""})
        content = config_map(KubernetesProfile(**SMALL), job, "x-1", "uid-7")
        head, _ = pods(described(SMALL, job))
        (volume,) = head["volumes"]
        keys = {item["path"]: item["key"] for item in volume["configMap"]["items"]}
        assert base64.b64decode(content["binaryData"][keys["files/a b.yaml"]]) == b"\xff"
        assert content["binaryData"][keys["files/start"]] == ""
        assert content["data"][keys["start"]] == "cd \"${0%/*}\"/files && exec pinnsweep run 'a b.yaml'\n"
        (owner,) = content["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("RayJob", "x-1", "uid-7")

    def test_command_starts_in_the_folder_of_the_job(self) -> None:
        content = config_map(KubernetesProfile(**SMALL), Job(argv=("true",), cwd=Path("/a b")), "x-1", "")
        assert content["data"]["start"] == "cd '/a b' && exec true\n"

    def test_too_large_files(self) -> None:
        job = Job(argv=("true",), files={"weights.npz": bytes(1 << 20)})
        with pytest.raises(JobError, match=r"1 MiB, got 1\.0 MiB; put large inputs on the volume"):
            config_map(KubernetesProfile(**SMALL), job, "x-1", "")

    def test_entrypoint_needs_no_quotes(self) -> None:
        """It passes through the submitter's shell, `ray job submit` and the head's shell, of whatever version."""
        entrypoint = described(SMALL, Job(argv=("echo", "$HOME;", "'")))["spec"]["entrypoint"]
        assert shlex.join(shlex.split(entrypoint)) == entrypoint

    @pytest.mark.parametrize(
        ("name", "job_id"), [("", "job-x"), ("Größe_2", "gr-e-2-x"), ("3d", "job-3d-x"), ("a" * 99, f"{'a' * 45}-x")]
    )
    def test_names_are_those_kuberay_takes(self, name: str, job_id: str) -> None:
        assert new_id(Job(argv=("true",), name=name), "x") == job_id
        assert len(job_id) <= 47


class TestProfile:
    @pytest.mark.parametrize(
        ("change", "rule"),
        [
            ({"root": "/elsewhere"}, "root must lie under mount_path"),
            ({"volume_claim": None, "mount_path": None}, "root must lie under mount_path"),
            ({"mount_path": None}, "must be given together"),
            ({"max_workers": 1}, "max_workers must be at least workers, 2, got 1"),
            ({"queue": "team"}, "max_workers must be left out with queue"),
        ],
    )
    def test_rules_between_settings(self, change: dict[str, Any], rule: str) -> None:
        with pytest.raises(JobError, match=rule):
            KubernetesProfile(**{**FULL, **change})

    def test_is_read_from_plain_text(self) -> None:
        text = """{"root": "gs://b/r", "image": "i", "memory_per_node_gb": 4, "secrets": ["s3"], "workers": 3,
                   "tolerations": [{"key": "gpu", "operator": "Exists"}], "node_selector": {"a": "b"}}"""
        profile = TypeAdapter(KubernetesProfile).validate_json(text, strict=True)
        assert rayjob_errors(rayjob(profile, STUDY, "x-1", submitted_at=datetime.now(UTC))) == []


@pytest.mark.parametrize(
    ("status", "state", "exit_code"),
    [
        ({}, JobState.PENDING, None),
        ({"jobDeploymentStatus": "Suspended"}, JobState.PENDING, None),
        ({"jobDeploymentStatus": "Initializing"}, JobState.PENDING, None),
        ({"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED", "reason": "AppFailed"}, JobState.PENDING, None),
        ({"jobDeploymentStatus": "Running"}, JobState.PENDING, None),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, JobState.RUNNING, None),
        ({"jobDeploymentStatus": "Running", "jobStatus": "SUCCEEDED"}, JobState.RUNNING, None),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, JobState.DONE, 0),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, JobState.CANCELLED, None),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, JobState.TIMED_OUT, None),
        ({"jobDeploymentStatus": "Failed", "reason": "JobStatusCheckTimeoutExceeded"}, JobState.LOST, None),
        ({"jobDeploymentStatus": "Failed", "reason": "SubmissionFailed"}, JobState.FAILED, None),
        ({"jobDeploymentStatus": "ValidationFailed", "message": "no"}, JobState.FAILED, None),
        (
            {"jobDeploymentStatus": "Failed", "message": "Job entrypoint command failed with exit code 3, last ..."},
            JobState.FAILED,
            3,
        ),
        (
            {"jobDeploymentStatus": "Failed", "message": "Job entrypoint command failed with exit code -9. No logs"},
            JobState.FAILED,
            137,
        ),
    ],
)
def test_status(status: dict[str, str], state: JobState, exit_code: int | None) -> None:
    assert state_of(status) is state
    assert exit_code_of(status) == exit_code


@pytest.fixture
def place(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path) as place:
        yield place


class TestJobs:
    def test_command_files_and_environment_arrive(self, place: StandIn) -> None:
        words = ("a b", "$HOME", "*", "; exit 7", "'", '"', "\\", "", "é")
        show = "import os, sys; print(sys.argv[1:], os.environ['A'], open('my study.yaml').read())"
        job = Job(
            argv=(sys.executable, "-c", show, *words),
            name="First job",
            files={"my study.yaml": b"study: x"},
            environment={"A": "$(HOME)"},
        )
        handle = executor_of(place.profile(), "lab").submit(job)
        assert handle.wait(WAIT_S) is JobState.DONE
        assert handle.exit_code() == 0
        assert "".join(handle.logs()) == f"{list(words)} $(HOME) study: x\n"
        attached = executor_of(place.profile(), "other").attach(handle.id)
        assert (attached.job.argv, attached.job.name) == (job.argv, "First job")
        assert attached.submitted_at == handle.submitted_at
        assert attached.id.startswith("first-job-")

    def test_exit_code(self, place: StandIn) -> None:
        handle = executor_of(place.profile(), "lab").submit(python("raise SystemExit(3)"))
        assert handle.wait(WAIT_S) is JobState.FAILED
        assert handle.exit_code() == 3

    def test_listed_oldest_first_and_found_again(self, place: StandIn) -> None:
        executor = executor_of(place.profile(), "lab")
        ids = [executor.submit(python("")).id for _ in range(3)]
        assert [handle.id for handle in executor.list()] == ids
        for unknown in ("", "..", "widths-1a2b"):
            with pytest.raises(JobNotFound, match=f"known jobs: {', '.join(ids)}"):
                executor.attach(unknown)

    def test_log_is_followed_through_broken_connections(self, place: StandIn, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        wait = f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
        code = f"import os, time\nfor i in range(5): print(i)\n{wait}\nprint('last')"
        handle = executor_of(place.profile(), "lab").submit(python(code))
        place.cut_after_lines = 3
        pieces = handle.logs(follow=True)
        assert [next(pieces) for _ in range(5)] == [f"{i}\n" for i in range(5)]
        gate.touch()
        assert list(pieces) == ["last\n"]
        assert sum("/log?" in request for request in place.requests) >= 2

    def test_words_of_the_kubelet_do_not_confuse_a_follower(self, place: StandIn, tmp_path: Path) -> None:
        handle = executor_of(place.profile(), "lab").submit(python("print('whole')"))
        handle.wait(WAIT_S)
        place.jobs[handle.id].lines.insert(0, ("unable", b"to retrieve container logs\n"))
        assert list(handle.logs(follow=True)) == ["whole\n"]
        assert "".join(handle.logs()) == "unable to retrieve container logs\nwhole\n"

    def test_cancel_lets_the_command_end_well(self, place: StandIn, tmp_path: Path) -> None:
        saved = tmp_path / "saved"
        end = f"def end(*_): open({str(saved)!r}, 'w').close(); raise SystemExit(130)"
        code = f"import signal, time\n{end}\nsignal.signal(signal.SIGTERM, end)\nprint('ready'); time.sleep(600)"
        handle = executor_of(place.profile(stop_grace_s=30), "lab").submit(python(code))
        assert next(handle.logs(follow=True)) == "ready\n"
        handle.cancel()
        assert handle.wait(WAIT_S) is JobState.CANCELLED
        assert saved.exists()
        assert handle.exit_code() is None
        assert place.config_maps == {}
        with pytest.raises(LogsNotKept, match="its pods are gone"):
            handle.logs()

    def test_cancel_of_a_command_that_will_not_stop(self, place: StandIn) -> None:
        ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(600)"
        handle = executor_of(place.profile(stop_grace_s=1), "lab").submit(python(ignore))
        assert next(handle.logs(follow=True)) == "deaf\n"
        handle.cancel()
        assert handle.wait(WAIT_S) is JobState.CANCELLED

    def test_finished_job_stays_so_whatever_is_tidied_up(self, place: StandIn) -> None:
        handle = executor_of(place.profile(), "lab").submit(python(""))
        handle.wait(WAIT_S)
        handle.cancel()
        assert handle.id in place.jobs
        place.jobs[handle.id].delete()
        assert handle.state() is JobState.DONE

    def test_time_limit(self, place: StandIn) -> None:
        handle = executor_of(place.profile(time_limit_min=0.01, stop_grace_s=1), "lab").submit(SLEEP)
        assert handle.wait(WAIT_S) is JobState.TIMED_OUT
        assert handle.exit_code() is None

    def test_queued_job_is_pending_until_it_is_cancelled(self, place: StandIn) -> None:
        handle = executor_of(place.profile(queue="team"), "lab").submit(SLEEP)
        eventually(lambda: place.jobs[handle.id].rayjob.get("status"))
        assert handle.state() is JobState.PENDING
        assert "".join(handle.logs()) == ""
        handle.cancel()
        assert handle.wait(WAIT_S) is JobState.CANCELLED

    def test_nothing_stays_where_the_files_are_refused(self, place: StandIn) -> None:
        place.refused["configmaps"] = Refusal(403, "exceeded quota")
        executor = executor_of(place.profile(), "lab")
        with pytest.raises(ClusterError, match="exceeded quota"):
            executor.submit(STUDY)
        eventually(lambda: not executor.list())

    @pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "PGPASSWORD", "AWS_SESSION_TOKEN"])
    def test_credentials_are_neither_sent_nor_shown(self, place: StandIn, name: str) -> None:
        hidden = {"environment": {name: "hidden"}}
        for executor, job in (
            (executor_of(place.profile(**hidden), "lab"), STUDY),
            (executor_of(place.profile(), "lab"), replace(STUDY, **hidden)),
        ):
            assert name in executor.preview(job) and "hidden" not in executor.preview(job)
            with pytest.raises(JobError, match="name that under secrets") as problem:
                executor.submit(job)
            assert "hidden" not in str(problem.value)
        assert place.requests == []

    def test_paths_of_credentials_are_sent(self, place: StandIn) -> None:
        environment = {"GOOGLE_APPLICATION_CREDENTIALS": "/studies/key.json"}
        show = python("import os; print(os.environ['GOOGLE_APPLICATION_CREDENTIALS'])", environment=environment)
        handle = executor_of(place.profile(), "lab").submit(show)
        assert handle.wait(WAIT_S) is JobState.DONE
        assert "".join(handle.logs()) == "/studies/key.json\n"

    def test_foreign_object_under_our_label(self, place: StandIn) -> None:
        executor = executor_of(place.profile(), "lab")
        handle = executor.submit(python(""))
        place.jobs[handle.id].rayjob["metadata"]["annotations"].clear()
        with pytest.raises(ClusterError, match=f"kubectl delete rayjob {handle.id}"):
            executor.list()

    def test_preview_is_what_is_sent_and_sends_nothing(self, place: StandIn) -> None:
        executor = executor_of(place.profile(secrets=("s3",)), "lab")
        sent, content = yaml.safe_load_all(executor.preview(STUDY))
        assert place.requests == []
        handle = executor.submit(STUDY)
        assert sent["spec"]["rayClusterSpec"].keys() == place.jobs[handle.id].rayjob["spec"]["rayClusterSpec"].keys()
        assert sent["metadata"]["name"] == content["metadata"]["name"]
        assert base64.b64decode(content["binaryData"]["file-0"]) == STUDY.files["study.yaml"]
        assert place.token not in executor.preview(STUDY)


class TestChecks:
    def problem(self, profile: KubernetesProfile) -> str:
        """The problem of the last check; those before it must have none."""
        *passed, last = executor_of(profile, "lab").checks()
        assert not any(check.problem for check in passed)
        return last.problem

    def test_place_that_can_be_used(self, place: StandIn) -> None:
        profile = place.profile(volume_claim="claim", mount_path="/studies", secrets=("s3",), queue="team")
        assert self.problem(profile) == ""
        assert place.jobs == {}

    def test_no_kubernetes_client(self, place: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "kubernetes", None)
        assert "pip install 'pinnsweep[kubernetes]'" in self.problem(place.profile())
        with pytest.raises(ClusterError, match="pip install"):
            executor_of(place.profile(), "lab").submit(STUDY)

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            ({"context": "gone"}, "does not provide context gone"),
            ({"kubeconfig": "/gone/config"}, "the kubeconfig /gone/config does not provide a current context"),
            ({"namespace": "gone"}, 'namespaces "gone" not found; create it'),
            ({"volume_claim": "gone", "mount_path": "/studies"}, 'volume_claim: .*"gone" not found; create it'),
            ({"secrets": ("s3", "gone")}, 'secrets: .*"gone" not found; create it'),
            ({"service_account": "gone"}, 'service_account: .*"gone" not found; create it'),
            ({"queue": "gone"}, 'queue: .*"gone" not found; create it'),
            ({"environment": {"API_KEY": "x"}}, "environment must hold no credentials"),
        ],
    )
    def test_mistakes_in_the_profile(self, place: StandIn, settings: dict[str, Any], problem: str) -> None:
        with pytest.raises(ClusterError, match=problem):
            raise ClusterError(self.problem(place.profile(**settings)))

    def test_api_server_that_cannot_be_reached(self, place: StandIn) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and nobody listens
            config = Path(str(place.profile().kubeconfig))
            address = f"http://127.0.0.1:{taken.getsockname()[1]}"
            config.write_text(config.read_text().replace(place.address, address))
            assert f"the API server at {address} does not answer" in self.problem(place.profile())

    def test_expired_token(self, place: StandIn) -> None:
        profile = place.profile()
        place.token = "new"
        assert "does not accept the credentials of a current context" in self.problem(profile)

    def test_no_kuberay(self, place: StandIn) -> None:
        del place.groups["ray.io"]
        assert "ask for KubeRay 1.5.1 or newer" in self.problem(place.profile())

    def test_kuberay_that_does_not_know_authentication(self, place: StandIn) -> None:
        place.refused["rayjobs"] = Refusal(
            400, 'strict decoding error: unknown field "spec.rayClusterSpec.authOptions"'
        )
        assert "ask for KubeRay 1.5.1 or newer" in self.problem(place.profile())

    def test_no_kueue(self, place: StandIn) -> None:
        del place.groups["kueue.x-k8s.io"]
        assert "the cluster has no Kueue" in self.problem(place.profile(queue="team"))

    def test_user_who_may_not(self, place: StandIn) -> None:
        place.allowed = False
        assert f"may not create RayJobs in namespace {NAMESPACE}" in self.problem(place.profile())
        place.refused["rayjobs"] = Refusal(403, 'rayjobs.ray.io is forbidden: User "me" cannot create')
        with pytest.raises(ClusterError, match='User "me" cannot create; ask for a role'):
            executor_of(place.profile(), "lab").submit(STUDY)

    def test_what_may_not_be_looked_at_is_taken_for_there(self, place: StandIn) -> None:
        place.hidden.add("secrets")
        assert self.problem(place.profile(secrets=("gone",))) == ""


def test_library_is_imported_only_when_needed() -> None:
    code = "import sys, cluster.kubernetes; assert 'kubernetes' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], timeout=WAIT_S, check=True)
