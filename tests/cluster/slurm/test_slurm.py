"""Jobs of SLURM: the script as text, what SLURM's words mean, and jobs under stand-ins for its commands."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from cluster import ClusterError, Executor, Job, JobError, JobState, Resources, executor_of
from cluster.slurm.commands import job_state
from cluster.slurm.executor import SlurmExecutor
from cluster.slurm.profile import SlurmProfile

from ..waiting import WAIT_S, eventually
from .jobs import SAVES_ON_TERM, begun, log_of, python
from .stand_in import profile_for, slurm_stand_in

DOWN = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"


class TestProfile:
    def test_it_is_read_from_plain_values(self) -> None:
        text = '{"root": "/shared", "nodes": 2, "memory_per_node_gb": 16, "setup": ["module load cuda"]}'
        profile = TypeAdapter(SlurmProfile).validate_json(text, strict=True)
        assert (profile.nodes, profile.setup) == (2, ("module load cuda",))
        with pytest.raises(ValidationError, match="nodes"):
            TypeAdapter(SlurmProfile).validate_json('{"root": "/shared", "nodes": 0}')

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            ({"gpu_type": "a100"}, "gpu_type needs gpus_per_node"),
            ({"time_limit_min": 3}, "time_limit_min must be more than signal_before_end_s"),
            ({"scratch": "/local/scratch/of/a/long/name"}, "scratch must be an absolute path of at most 28 bytes"),
            ({"scratch": "tmp"}, "scratch must be an absolute path"),
            ({"options": ("exclusive",)}, "options must be options of sbatch"),
            ({"root": "s3://bucket/runs"}, "jobs_dir must be given"),
        ],
    )
    def test_what_does_not_go_together_is_said(self, settings: dict[str, Any], problem: str) -> None:
        with pytest.raises(JobError, match=problem):
            SlurmProfile(**{"root": "/shared", **settings})

    @pytest.mark.parametrize(
        ("settings", "folder"),
        [
            ({"root": "/shared"}, "/shared/.jobs/hpc/<number>"),
            ({"root": "s3://bucket/runs", "jobs_dir": "/home/me/jobs"}, "/home/me/jobs/<number>"),
        ],
    )
    def test_where_jobs_are_kept(self, settings: dict[str, Any], folder: str) -> None:
        assert f"{folder}/job.sh" in executor_of(SlurmProfile(**settings), "hpc").preview(python(""))


class TestScript:
    def text(self, job: Job, **settings: Any) -> str:
        return executor_of(SlurmProfile(root="/shared disk", **settings), "hpc").preview(job)

    def options(self, job: Job, **settings: Any) -> list[str]:
        return [line[8:] for line in self.text(job, **settings).splitlines() if line.startswith("#SBATCH ")]

    def test_only_what_is_asked_for_is_passed_on(self) -> None:
        always = [
            "--nodes=1",
            "--ntasks-per-node=1",
            "--signal=B:USR1@120",
            "--requeue",
            "--output='/shared disk/.jobs/hpc/<number>/stdout.log'",
            "--open-mode=append",
        ]
        assert self.options(python("")) == ["--job-name=pinnsweep", *always]

    @pytest.mark.parametrize(
        ("settings", "option"),
        [
            ({"partition": "gpu"}, "--partition=gpu"),
            ({"account": "my project"}, "--account='my project'"),
            ({"qos": "long"}, "--qos=long"),
            ({"constraint": "a100|h100"}, "--constraint='a100|h100'"),
            ({"nodes": 4}, "--nodes=4"),
            ({"cpus_per_node": 16}, "--cpus-per-task=16"),
            ({"gpus_per_node": 2}, "--gres=gpu:2"),
            ({"gpus_per_node": 2, "gpu_type": "a100"}, "--gres=gpu:a100:2"),
            ({"memory_per_node_gb": 8.589934592}, "--mem=8192M"),
            ({"time_limit_min": 90}, "--time=90"),
            ({"signal_before_end_s": 300}, "--signal=B:USR1@300"),
            ({"options": ("--exclusive",)}, "--exclusive"),
        ],
    )
    def test_what_is_asked_for(self, settings: dict[str, Any], option: str) -> None:
        assert option in self.options(python(""), **settings)

    def test_a_name_cannot_hold_an_option(self) -> None:
        assert self.options(python("", name="a\n#SBATCH --nodes=9"))[0] == "--job-name='a #SBATCH --nodes=9'"

    def test_bash_accepts_it(self) -> None:
        job = Job(argv=("a b", "$HOME", "'", '"', ";", "two\nlines", ""), environment={"A": "it's 5 $HOME"})
        text = self.text(job, setup=("module load x  # a comment", "source 'my venv/bin/activate'"), nodes=2)
        script = text[text.index("#!/bin/bash") :]
        checked = subprocess.run(
            ["bash", "-n"], input=script, capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("job", "settings", "problem"),
        [
            (python("", environment={"no name": "x"}), {}, "'no name'"),
            (python(""), {"setup": ("a\nb",)}, "single lines"),
            (python(""), {"options": ("--comment=a\nb",)}, "single lines"),
        ],
    )
    def test_what_no_script_can_hold(self, job: Job, settings: dict[str, Any], problem: str) -> None:
        with pytest.raises(JobError, match=problem):
            self.text(job, **settings)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ("PENDING", JobState.PENDING),
        ("CONFIGURING", JobState.PENDING),
        ("REQUEUED", JobState.PENDING),
        ("REQUEUE_HOLD", JobState.PENDING),
        ("RUNNING", JobState.RUNNING),
        ("COMPLETING", JobState.RUNNING),
        ("SUSPENDED", JobState.RUNNING),
        ("COMPLETED", JobState.DONE),
        ("FAILED", JobState.FAILED),
        ("OUT_OF_MEMORY", JobState.FAILED),
        ("CANCELLED", JobState.CANCELLED),
        ("CANCELLED by 1000", JobState.CANCELLED),
        ("CANCELLED+", JobState.CANCELLED),
        ("TIMEOUT", JobState.TIMED_OUT),
        ("DEADLINE", JobState.TIMED_OUT),
        ("NODE_FAIL", JobState.LOST),
        ("BOOT_FAIL", JobState.LOST),
        ("PREEMPTED", JobState.LOST),
        ("A_NEW_ONE", JobState.UNKNOWN),
    ],
)
def test_the_states_of_slurm(told: str, state: JobState) -> None:
    assert job_state(told) is state


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Path]:
    """Stand-ins for SLURM's commands, and the folder that steers them."""
    with slurm_stand_in(tmp_path / "slurm") as stand_in:
        yield stand_in


@pytest.fixture
def clients(slurm: Path, tmp_path: Path) -> Callable[..., Executor]:
    """What makes one more client; its settings go into the profile."""

    def client(**settings: Any) -> Executor:
        return SlurmExecutor(profile_for(slurm, root=str(tmp_path / "root"), **settings), "hpc", poll_s=0.0)

    return client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """That of the first job."""
    return tmp_path / "root" / ".jobs" / "hpc" / "1"


def signal_job(slurm: Path, number: int, which: signal.Signals) -> None:
    """As SLURM itself signals the script of a job."""
    os.kill(int((slurm / "jobs" / str(number) / "pid").read_text()), which)


class TestJobs:
    def test_nothing_is_left_but_the_record(self, clients: Callable[..., Executor], slurm: Path, folder: Path) -> None:
        code = "import os; print(os.environ['RAY_ADDRESS'], open(os.environ['RAY_AUTH_TOKEN_PATH']).read())"
        handle = clients(nodes=3).submit(python(code))
        assert handle.wait(WAIT_S) is JobState.DONE
        address, token = log_of(handle).split()
        assert address == "127.0.0.1:6379" and len(token) == 64
        assert {path.name for path in folder.iterdir()} == {
            *("job.json", "job.sh", "files", "stdout.log", "ray.log", "slurm_ids", "ended.json")
        }
        assert not list((slurm / "scratch").iterdir())
        head, *workers = (slurm / "ray").read_text().splitlines()
        assert "--head" in head and f"--temp-dir={(slurm / 'scratch').readlink()}/r1.0/t" in head
        assert len(workers) == 2 and all("--address=127.0.0.1:6379" in line for line in workers)
        assert all("--num-cpus=3 --num-gpus=1" in line for line in (head, *workers)), "what SLURM grants"
        seen = (slurm / "ray").read_text() + (folder / "job.sh").read_text() + (folder / "ray.log").read_text()
        assert token not in seen

    def test_the_token_is_for_its_owner_alone(self, clients: Callable[..., Executor], folder: Path) -> None:
        handle = clients().submit(python("print('begun'); import time; time.sleep(600)"))
        eventually(begun(handle))
        assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
        token = (folder / "token").read_text()
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not any(token.encode() in line for line in lines)
        handle.cancel(grace_s=0)
        assert handle.wait(WAIT_S) is JobState.CANCELLED
        assert not (folder / "token").exists()

    def test_near_the_limit_it_saves_and_is_queued_again(self, clients: Callable[..., Executor], slurm: Path) -> None:
        handle = clients().submit(python(SAVES_ON_TERM))
        eventually(begun(handle))
        (slurm / "held").touch()
        signal_job(slurm, 1, signal.SIGUSR1)
        eventually(lambda: handle.state() is JobState.PENDING)
        assert handle.exit_code() is None
        (slurm / "held").unlink()
        assert handle.wait(WAIT_S) is JobState.DONE
        assert [line for line in log_of(handle).splitlines() if "pinnsweep" not in line] == [
            "begun",
            "saved",
            "went on",
        ]
        assert "r1.1/t" in (slurm / "ray").read_text().splitlines()[1]

    def test_where_that_is_refused_it_is_submitted_again(
        self, clients: Callable[..., Executor], slurm: Path, folder: Path
    ) -> None:
        (slurm / "no_requeue").touch()
        handle = clients().submit(python(SAVES_ON_TERM))
        eventually(begun(handle))
        (slurm / "held").touch()
        signal_job(slurm, 1, signal.SIGUSR1)
        eventually(lambda: (folder / "slurm_ids").read_text().split()[-1] == "2")
        assert handle.state() is JobState.PENDING
        (slurm / "held").unlink()
        assert handle.wait(WAIT_S) is JobState.DONE
        assert "went on" in log_of(handle)

    def test_a_command_that_cannot_save_has_timed_out(self, clients: Callable[..., Executor], slurm: Path) -> None:
        handle = clients().submit(python("print('begun'); import time; time.sleep(600)"))
        eventually(begun(handle))
        signal_job(slurm, 1, signal.SIGUSR1)
        assert handle.wait(WAIT_S) is JobState.TIMED_OUT
        assert handle.exit_code() == 128 + signal.SIGTERM

    def test_a_command_that_was_interrupted_otherwise_is_not_queued_again(
        self, clients: Callable[..., Executor]
    ) -> None:
        handle = clients().submit(python("raise SystemExit(130)"))
        assert handle.wait(WAIT_S) is JobState.FAILED
        assert handle.exit_code() == 130

    def test_a_limit_too_short_for_ray_is_not_tried_again(self, clients: Callable[..., Executor], slurm: Path) -> None:
        (slurm / "slow_ray").touch()
        handle = clients().submit(python(""))
        eventually((slurm / "ray").exists)
        signal_job(slurm, 1, signal.SIGUSR1)
        assert handle.wait(WAIT_S) is JobState.TIMED_OUT
        assert "longer time_limit_min" in log_of(handle)

    def test_a_preempted_job_is_not_at_its_end(
        self, clients: Callable[..., Executor], slurm: Path, folder: Path
    ) -> None:
        handle = clients().submit(python(SAVES_ON_TERM))
        eventually(begun(handle))
        (slurm / "jobs" / "1" / "requeued").touch()
        signal_job(slurm, 1, signal.SIGTERM)
        assert handle.wait(WAIT_S) is JobState.DONE
        assert "went on" in log_of(handle)

    def test_a_job_cancelled_by_other_means(self, clients: Callable[..., Executor], slurm: Path) -> None:
        handle = clients().submit(python("print('begun'); import time; time.sleep(600)"))
        eventually(begun(handle))
        subprocess.run(["scancel", "1"], timeout=WAIT_S, check=True)
        assert handle.wait(WAIT_S) is JobState.CANCELLED
        assert handle.exit_code() is None

    def test_cancel_before_it_runs(self, clients: Callable[..., Executor], slurm: Path) -> None:
        (slurm / "held").touch()
        handle = clients().submit(python(""))
        assert handle.state() is JobState.PENDING
        assert log_of(handle) == ""
        handle.cancel()
        assert handle.state() is JobState.CANCELLED

    def test_cancel_while_it_starts(self, clients: Callable[..., Executor], slurm: Path) -> None:
        (slurm / "slow_ray").touch()
        handle = clients().submit(python(""))
        eventually((slurm / "ray").exists)
        handle.cancel()
        assert handle.wait(WAIT_S) is JobState.CANCELLED
        assert not list((slurm / "scratch").iterdir())

    def test_a_cancelled_job_is_not_queued_again(self, clients: Callable[..., Executor], slurm: Path) -> None:
        handle = clients().submit(python(SAVES_ON_TERM))
        eventually(begun(handle))
        handle.cancel()
        assert handle.wait(WAIT_S) is JobState.CANCELLED
        assert handle.exit_code() == 130

    def test_ray_that_does_not_start(self, clients: Callable[..., Executor], slurm: Path) -> None:
        (slurm / "no_ray").touch()
        handle = clients(nodes=2).submit(python(""))
        assert handle.wait(WAIT_S) is JobState.FAILED
        assert "did not start on all 2 nodes" in log_of(handle) and "no Ray today" in log_of(handle)

    def test_setup_that_fails(self, clients: Callable[..., Executor]) -> None:
        handle = clients(setup=("source /nowhere/activate",)).submit(python("print('never')"))
        assert handle.wait(WAIT_S) is JobState.FAILED
        assert "/nowhere/activate" in log_of(handle) and "never" not in log_of(handle)

    def test_the_environment_of_profile_and_job(self, clients: Callable[..., Executor]) -> None:
        show = "import os; print(os.environ['A'], os.environ['B'], os.environ['C'])"
        environment = {"A": "profile", "B": "profile"}
        job = python(show, environment={"B": "job"})
        handle = clients(environment=environment, setup=("export C=$A",)).submit(job)
        assert handle.wait(WAIT_S) is JobState.DONE, log_of(handle)
        assert log_of(handle) == "profile job profile\n"

    def test_a_job_from_within_another_is_on_its_own(
        self, clients: Callable[..., Executor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLURM_GPUS_PER_TASK", "8")
        monkeypatch.setenv("INHERITED", "yes")
        show = "import os; print(os.environ.get('SLURM_GPUS_PER_TASK'), os.environ['INHERITED'])"
        handle = clients().submit(python(show))
        assert handle.wait(WAIT_S) is JobState.DONE
        assert log_of(handle) == "None yes\n"

    def test_accounting_remembers_what_the_queue_forgot(
        self, clients: Callable[..., Executor], slurm: Path, folder: Path
    ) -> None:
        handle = clients().submit(python(""))
        handle.wait(WAIT_S)
        (folder / "ended.json").unlink()
        (folder / "slurm_ids").write_text("77\n")
        assert handle.state() is JobState.LOST
        (slurm / "accounting").mkdir()
        (slurm / "accounting" / "77").write_text("TIMEOUT\n")
        assert handle.state() is JobState.TIMED_OUT

    def test_a_controller_that_is_away_is_no_verdict(self, clients: Callable[..., Executor], slurm: Path) -> None:
        (slurm / "held").touch()
        handle = clients().submit(python(""))
        (slurm / "down").write_text(DOWN)
        assert handle.state() is JobState.UNKNOWN
        with pytest.raises(ClusterError, match="does not answer"):
            handle.cancel()
        with pytest.raises(ClusterError, match="does not answer"):
            clients().submit(python(""))
        (slurm / "down").unlink()
        (slurm / "held").unlink()
        assert handle.wait(WAIT_S) is JobState.CANCELLED, "the wish is on record"

    def test_a_refused_job_leaves_nothing(self, clients: Callable[..., Executor], folder: Path) -> None:
        with pytest.raises(ClusterError, match=r"invalid partition specified: nope.*change profile hpc"):
            clients(partition="nope").submit(python(""))
        assert not folder.exists()

    def test_resources_are_those_of_the_profile(self, clients: Callable[..., Executor], folder: Path) -> None:
        with pytest.raises(JobError, match="what its profile asks for"):
            clients().submit(python("", resources=Resources(cpus=2)))
        assert not folder.exists()


class TestChecks:
    def last(self, executor: Executor) -> str:
        *others, last = executor.checks()
        assert not any(check.problem for check in others)
        return last.problem

    def test_in_order(self, clients: Callable[..., Executor]) -> None:
        assert self.last(clients(partition="main")) == ""

    def test_without_slurm(self, clients: Callable[..., Executor], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        assert self.last(clients()) == (
            "sbatch is not on PATH: use a login node of the cluster, or load SLURM's module first"
        )
        with pytest.raises(ClusterError, match="sbatch is not on PATH"):
            clients().submit(python(""))
        assert clients().list() == []

    def test_without_an_answer(self, clients: Callable[..., Executor], slurm: Path) -> None:
        (slurm / "down").write_text(DOWN)
        assert "controller does not answer" in self.last(clients())

    def test_without_a_configuration(self, clients: Callable[..., Executor], slurm: Path) -> None:
        (slurm / "down").write_text(
            "sinfo: error: fetch_config: DNS SRV lookup failed\n"
            "sinfo: fatal: Could not establish a configuration source"
        )
        assert self.last(clients()) == (
            "SLURM is not set up on this machine (fetch_config: DNS SRV lookup failed; Could not establish a "
            "configuration source): use a login node of the cluster, or set SLURM_CONF"
        )

    @pytest.mark.parametrize(
        ("partition", "problem"), [("nope", "must be one of main, long, got 'nope'"), ("long", "long is drain")]
    )
    def test_partition(self, clients: Callable[..., Executor], partition: str, problem: str) -> None:
        assert problem in self.last(clients(partition=partition))

    def test_folder_that_cannot_be_written_to(self, clients: Callable[..., Executor], tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "cannot be written to" in self.last(clients(jobs_dir=str(tmp_path / "file" / "jobs")))
