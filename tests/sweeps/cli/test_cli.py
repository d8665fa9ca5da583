"""The command: its help, its exit codes, and what it hands to the modules that do the work."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import Result

from cluster import ClusterError, Job, JobHandle, JobState, LocalExecutor
from pinncore.errors import DataError
from sweeps.errors import Mistake, SpecError, StudyError
from sweeps.jobs import places
from tests.cluster.waiting import WAIT_S
from tests.processes import line_of, started

from ..clusters import command
from ..invoking import StandIn, errors_of, invoke, made_study, raising
from ..invoking import stand_in as stand_in

COMMANDS = [
    "init",
    "problem",
    "validate",
    "plan",
    "schema",
    "run",
    "stop",
    "extend",
    "retry",
    "status",
    "list",
    "query",
    "export",
    "report",
    "dashboard",
    "track",
    "top",
    "effects",
    "compare",
    "parity",
    "show",
    "error-budget",
    "retrain",
    "predict",
    "weights",
    "submit",
    "jobs",
    "logs",
    "cancel",
    "doctor",
    "delete",
    "compact",
    "gc",
    "data check",
    "data build",
]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder that looks like a study."""
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    (folder / "study.yaml").touch()
    return folder


class TestHelp:
    def test_lists_every_command(self) -> None:
        result = invoke("--help")
        assert result.exit_code == 0
        commands = result.stdout.partition("\n\nWrite a study:")[2]  # each sentence fits its line
        listed = re.findall(r"^  ([a-z-]+)  +[A-Z].*\.$", commands, flags=re.MULTILINE)
        assert listed == [*COMMANDS[:-2], "data"]

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_each_command(self, command: str) -> None:
        result = invoke(*command.split(), "--help")
        assert result.exit_code == 0
        assert "Usage:" in result.stdout
        assert result.stderr == ""

    @pytest.mark.parametrize("command", COMMANDS)
    def test_whatever_writes_a_file_replaces_one_only_by_force(self, command: str) -> None:
        help_text = invoke(*command.split(), "--help").stdout
        assert ("--output" in help_text) <= ("--force" in help_text)

    def test_version(self) -> None:
        assert invoke("--version").stdout == f"pinnsweep {importlib.metadata.version('pinnsweep')}\n"


class TestMistakes:
    """What goes wrong outside our code is one message and exit code 2; what goes wrong inside keeps its traceback."""

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (StudyError("no study there"), "error: no study there\n"),
            (
                SpecError([Mistake("a.b", 0, "must be 1"), Mistake("c", 1, "must be 2", "Try 2.")]),
                "error: a.b: must be 1, got 0.\nerror: c: must be 2, got 1. Try 2.\n",
            ),
            (DataError("no such table"), "error: no such table\n"),
            (ClusterError("no such machine"), "error: no such machine\n"),
            (PermissionError(13, "Permission denied", "runs"), "error: Permission denied: runs\n"),
            (OSError(28, "No space left on device"), "error: No space left on device\n"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_one_message(self, stand_in: StandIn, error: Exception, message: str) -> None:
        stand_in("sweeps.runner.driver", run=raising(error))
        assert errors_of(invoke("run", "study.yaml")) == message

    def test_as_json(self, stand_in: StandIn) -> None:
        stand_in("sweeps.runner.driver", run=raising(SpecError([Mistake("a.b", {1}, "must be 1", "Try 1.")])))
        record = json.loads(errors_of(invoke("run", "study.yaml", "--json")))["error"]
        assert record["type"] == "SpecError"
        assert record["message"] == "a.b: must be 1, got {1}. Try 1."
        assert record["mistakes"] == [{"path": "a.b", "value": "{1}", "rule": "must be 1", "hint": "Try 1."}]

    @pytest.mark.parametrize("error", [ValueError("a bug"), FileNotFoundError(2, "gone", "x"), KeyError("k")])
    def test_a_bug_is_not_hidden(self, stand_in: StandIn, error: Exception) -> None:
        stand_in("sweeps.runner.driver", run=raising(error))
        result = invoke("run", "study.yaml")
        assert result.exit_code == 1
        assert result.exception is error

    @pytest.mark.parametrize(
        "words",
        [
            ["nonsense"],
            ["run"],
            ["run", "study.yaml", "--trials", "0"],
            ["run", "study.yaml", "--cpus", "many"],
            ["run", "study.yaml", "--new-study", "a", "--branch", "b"],
            ["extend", "runs/first"],
            ["extend", "runs/first", "0"],
            ["retry", "runs/first", "two"],
            ["delete"],
            ["top", "runs/first", "-n", "0"],
            ["submit", "study.yaml"],
            ["data", "check", "a.csv"],
            ["data", "check", "a.csv", "b.csv", "c.csv", "--elocal-factor", "100"],
            ["logs"],
        ],
        ids=" ".join,
    )
    def test_usage(self, words: list[str]) -> None:
        message = errors_of(invoke(*words))
        assert "Usage:" in message
        assert "Error:" in message
        assert "message" in json.loads(errors_of(invoke(*words, "--json")))["error"]

    def test_interrupted(self, stand_in: StandIn) -> None:
        stand_in("sweeps.runner.driver", run=raising(KeyboardInterrupt()))
        assert invoke("run", "study.yaml").exit_code == 130


class TestReaders:
    """Who reads what a command prints may leave: the command ends then, without a word."""

    @pytest.mark.parametrize(
        "words",
        [
            ["--help"],
            ["run", "--help"],
            ["--version"],
            ["schema"],
            ["list", "--root", "."],
            ["jobs", "--json"],
            ["query", "first", "SELECT * FROM trials", "--format", "csv", "--root", "."],
        ],
        ids=" ".join,
    )
    def test_a_pipe_that_nobody_reads(self, tmp_path: Path, words: list[str]) -> None:
        made_study(tmp_path)
        read_end, write_end = os.pipe()
        os.close(read_end)
        ended = subprocess.run(
            command(*words), stdout=write_end, stderr=subprocess.PIPE, cwd=tmp_path, timeout=60, check=False
        )
        os.close(write_end)
        assert (ended.returncode, ended.stderr) == (141, b"")

    def test_a_log_that_is_followed(self, tmp_path: Path) -> None:
        handle = LocalExecutor(tmp_path / ".jobs").submit(Job(argv=("sh", "-c", "echo begun; exec sleep 600")))
        try:
            words = command("logs", "1", "-f", "--root", tmp_path)
            with started(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
                assert following.stdout is not None and following.stderr is not None
                assert line_of(following) == "begun\n"
                following.stdout.close()
                assert following.wait(timeout=WAIT_S) == 141  # though the job writes nothing more
                assert following.stderr.read() == ""
            assert handle.state() is JobState.RUNNING
        finally:
            handle.cancel(grace_s=0)

    def test_another_pipe_is_a_bug(self, stand_in: StandIn) -> None:
        stand_in("sweeps.runner.driver", run=raising(BrokenPipeError(32, "Broken pipe")))
        assert isinstance(invoke("run", "study.yaml").exception, RuntimeError)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is full")
    def test_a_full_disk_is_told_once(self, tmp_path: Path) -> None:
        with open("/dev/full", "w") as full:
            ended = subprocess.run(
                command("list", "--root", tmp_path), stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
            )
        assert (ended.returncode, ended.stderr) == (2, b"error: No space left on device\n")

    def test_no_output_at_all(self, tmp_path: Path) -> None:
        words = ["sh", "-c", 'exec "$@" >&-', "sh", *command("list", "--root", tmp_path)]
        ended = subprocess.run(words, stderr=subprocess.PIPE, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")


class TestTables:
    def test_study_by_name(self, stand_in: StandIn, study: Path) -> None:
        def written(folder: Path, out: Path | None, **_: object) -> SimpleNamespace:
            return SimpleNamespace(page=folder, figures=())

        stand_in("sweeps.report", write_report=written, write_picture=None)
        assert invoke("report", "first", "--root", study.parent).stdout == f"{study}\n"

    @pytest.mark.parametrize(
        "words",
        [
            ["top", "x"],
            ["query", "x", "SELECT 1"],
            ["report", "x"],
            ["status", "x"],
            ["stop", "x"],
            ["extend", "x", "1"],
            ["retry", "x"],
            ["delete", "x", "--yes"],
            ["gc", "x"],
        ],
    )
    def test_no_such_study(self, study: Path, words: list[str]) -> None:
        assert "studies in" in (message := errors_of(invoke(*words, "--root", study.parent)))
        assert "first" in message


class TestStudyFile:
    """`validate`, `plan` and `schema` on a small file, read by the real reader."""

    @pytest.fixture
    def spec(self, tmp_path: Path) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text("study: small\nsearch: {sampler: random, trials: 4}\nspace: {width: {choice: [4, 8]}}\n")
        return path

    def test_valid(self, spec: Path) -> None:
        result = invoke("validate", spec, "--set", "search.trials=6")
        assert result.exit_code == 0
        assert "study small, 6 trials by random, sweeping width" in result.stdout.lower()
        assert set(json.loads(invoke("validate", spec, "--json").stdout)) == {"study", "warnings", "spec_hash"}

    def test_every_mistake_at_once(self, spec: Path) -> None:
        message = errors_of(invoke("validate", spec, "--set", "search.trials=0", "--set", "train.adam_lr=-1"))
        assert len(message.splitlines()) == 2
        assert "search.trials" in message
        assert "train.adam_lr" in message

    def test_no_such_file(self, tmp_path: Path) -> None:
        assert "nowhere.yaml" in errors_of(invoke("validate", tmp_path / "nowhere.yaml"))
        assert list(tmp_path.iterdir()) == []

    def test_schema(self) -> None:
        assert "search" in json.loads(invoke("schema").stdout)["properties"]

    def test_plan(self, stand_in: StandIn, spec: Path) -> None:
        @dataclass(frozen=True)
        class Plan:
            trials: int
            cpus: int
            calibrate: bool
            warnings: tuple[str, ...] = ()

        stand_in(
            "sweeps.runner.plan",
            plan=lambda study, cpus, calibrate: Plan(study.search.trials, cpus, calibrate),
            render=lambda plan: f"{plan.trials} trials",
        )
        assert invoke("plan", spec).stdout == "4 trials\n"
        assert json.loads(invoke("plan", spec, "--no-calibrate", "--cpus", "3", "--json").stdout) == {
            "trials": 4,
            "cpus": 3,
            "calibrate": False,
            "warnings": [],
        }


class TestDataCheck:
    @pytest.fixture
    def tables(self, tmp_path: Path) -> list[Path]:
        paths = [tmp_path / name for name in ("gauss.csv", "lrb.csv", "btb.csv")]
        for path in paths:
            rows = [f"{x},{y},8,{(x + y + 1) * 1e-4}" for x in (0.0, 50.0, 100.0) for y in (0.0, 50.0, 100.0)]
            path.write_text("\n".join(["xcoord,ycoord,g,elocal", *rows]) + "\n")
        return paths

    def test_says_what_it_found(self, tables: list[Path]) -> None:
        result = invoke("data", "check", *tables, "--elocal-factor", "10")
        assert result.exit_code == 0
        assert "mm" in result.stdout
        assert "factor 10" in result.stdout
        assert "gauss_points: 9 points\n  x_mm            0 .. 100\n" in result.stdout
        assert "  elocal          1e-05 .. 0.00201\n" in result.stdout

    def test_as_json(self, tables: list[Path]) -> None:
        report = json.loads(invoke("data", "check", *tables, "--elocal-factor", "1", "--json").stdout)
        assert report["points"] == {"gauss_points": 9, "lrb": 9, "btb": 9}
        assert report["ranges"]["lrb"]["elocal"] == pytest.approx([1e-4, 2.01e-2])
        assert len(report["sha256"]) == 64

    def test_what_cannot_be_known_is_asked_for(self, tables: list[Path]) -> None:
        assert "elocal_factor" in errors_of(invoke("data", "check", *tables))

    def test_missing_table(self, tables: list[Path]) -> None:
        tables[1].unlink()
        assert "lrb.csv" in errors_of(invoke("data", "check", *tables, "--elocal-factor", "1"))


class TestJobs:
    @pytest.fixture(autouse=True)
    def instead_of_training(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Jobs print their command line and study file; that of the study `long` then sleeps, that of `bad` fails."""
        code = (
            "import sys, time; print(*sys.argv[2:]); print(open('study.yaml').read()); sys.stdout.flush()\n"
            "time.sleep(600 * (sys.argv[1] == 'long')); sys.exit(3 * (sys.argv[1] == 'bad'))"
        )

        def printing(executor: type[LocalExecutor]) -> type[LocalExecutor]:
            class Printing(executor):  # type: ignore[valid-type, misc]
                def submit(self, job: Job) -> JobHandle:
                    return super().submit(replace(job, argv=(sys.executable, "-c", code, job.name, *job.argv)))

            return Printing

        for name in ("LocalExecutor", "InlineExecutor"):
            monkeypatch.setattr(places, name, printing(getattr(places, name)))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def submit(self, root: Path, name: str, *words: object) -> Result:
        file = root / f"{name}.yaml"
        file.write_text(f"study: {name}\nsearch: {{trials: 1}}\n")
        return invoke("submit", file, "--to", *words)

    def test_submit_follow_list(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        result = self.submit(
            tmp_path, "a", "local", "--root", root, "--set", "search.seed=5", "--trials", "2", "--cpus", "1"
        )
        assert result.exit_code == 0
        assert result.stdout.startswith("job 1 runs study a in the background\n")
        assert f"logs 1 -f --root {root}" in result.stdout
        log = invoke("logs", "1", "-f", "--root", root).stdout
        arguments = f"run study.yaml --root {root} --plain --trials 2 --cpus 1"
        assert log.startswith(f"{sys.executable} -P -m sweeps.cli {arguments}\n")
        assert "seed: 5" in log
        assert json.loads(invoke("jobs", "--root", root, "--json").stdout)[0]["state"] == "done"
        heads, line = invoke("jobs", "--root", root).stdout.splitlines()
        assert heads.split() == ["job", "state", "submitted", "study"]
        assert line.split()[:2] == ["1", "done"] and line.index("a") == heads.index("study")

    @pytest.mark.parametrize("job", ["1", "local/1", "lab/1"])
    def test_every_command_knows_a_job_by_the_name_it_is_listed_by(self, tmp_path: Path, job: str) -> None:
        place, root = job.rpartition("/")[0] or "local", tmp_path / "root"
        profile = f"kind: local, root: {tmp_path}/lab, command: [sh, -c, 'cat study.yaml; exit 3', sh]"
        (tmp_path / "clusters.yaml").write_text(f"lab: {{{profile}}}\n")
        self.submit(tmp_path, "bad", place, "--root", root, "--follow")
        listed = json.loads(invoke("jobs", place, "--root", root, "--json").stdout)
        assert [record["job"] for record in listed] == [job.removeprefix("local/")]
        status = invoke("status", job, "--root", root)
        assert status.stdout.startswith(f"job {listed[0]['job']}: failed, exit code 3, study bad, submitted ")
        assert json.loads(invoke("status", job, "--root", root, "--json").stdout)["last_line"]
        assert "study: bad" in invoke("logs", job, "--root", root).stdout
        assert invoke("cancel", job, "--root", root).stdout == f"job {job}: failed\n"

    def test_the_status_of_a_job_that_kept_no_log(self, tmp_path: Path) -> None:
        self.submit(tmp_path, "bad", "inline")
        assert invoke("status", "1").stdout.startswith("job 1: failed, exit code 3, study bad, submitted ")

    def test_a_study_goes_before_a_job_of_its_name(self, tmp_path: Path) -> None:
        made_study(tmp_path / "runs").rename(tmp_path / "runs" / "1")
        assert invoke("status", "1").stderr == ""  # there is no such job yet
        self.submit(tmp_path, "bad", "local", "--follow")
        status = invoke("status", "1")
        assert status.stdout.startswith("first: 3 trials")
        assert "this is the status of the study runs/1." in status.stderr and "status local/1\n" in status.stderr
        assert invoke("status", "local/1").stdout.startswith("job 1: failed")

    @pytest.mark.parametrize("name", ["9", "local/9"])
    def test_what_is_neither_study_nor_job(self, tmp_path: Path, name: str) -> None:
        made_study(tmp_path / "runs")
        self.submit(tmp_path, "bad", "local", "--follow")
        message = errors_of(invoke("status", name))
        assert "studies in runs: first; no job '9'" in message and message.endswith("known jobs: 1\n")
        assert "no job" not in errors_of(invoke("status", "furst"))

    def test_the_study_file_is_that_of_the_moment_of_submission(self, tmp_path: Path) -> None:
        self.submit(tmp_path, "a", "local")
        (tmp_path / "a.yaml").write_text("study: a\nsearch: {trials: 99}\n")
        assert "trials: 1\n" in invoke("logs", "1", "-f").stdout

    def test_inline_gives_the_exit_code_of_its_job(self, tmp_path: Path) -> None:
        result = self.submit(tmp_path, "bad", "inline", "--json")
        assert result.exit_code == 3
        assert json.loads(result.stdout) == {
            "job": "1",
            "study": "bad",
            "state": "failed",
            "root": str(tmp_path / "runs"),
        }

    def test_follow_gives_the_exit_code_of_its_job(self, tmp_path: Path) -> None:
        result = self.submit(tmp_path, "bad", "local", "--follow")
        assert result.exit_code == 3
        assert "study: bad" in result.stdout

    def test_a_dry_run_shows_all_and_does_nothing(self, tmp_path: Path) -> None:
        result = self.submit(tmp_path, "a", "local", "--dry-run")
        assert f"run study.yaml --root {tmp_path / 'runs'} --plain" in result.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]

    def test_an_unknown_place(self, tmp_path: Path) -> None:
        (tmp_path / "clusters.yaml").write_text("lab: {kind: local, root: /r}\n")
        message = errors_of(self.submit(tmp_path, "a", "leb"))
        assert 'there is no profile of this name, got "leb". Did you mean lab?' in message
        assert len(message.splitlines()) == 1

    def test_cancel(self, tmp_path: Path) -> None:
        self.submit(tmp_path, "long", "local", "--root", tmp_path)
        assert invoke("cancel", "1", "--root", tmp_path).stdout == "job 1: cancelled\n"
        assert json.loads(invoke("cancel", "1", "--root", tmp_path, "--json").stdout)["state"] == "cancelled"

    @pytest.mark.parametrize("command", ["logs", "cancel"])
    def test_unknown_job(self, tmp_path: Path, command: str) -> None:
        assert "known jobs: none" in errors_of(invoke(command, "9", "--root", tmp_path))

    def test_no_jobs(self, tmp_path: Path) -> None:
        assert invoke("jobs", "--root", tmp_path).stdout == f"no job in {tmp_path}\n"
        assert json.loads(invoke("jobs", "--root", tmp_path, "--json").stdout) == []
        assert list(tmp_path.iterdir()) == []

    def test_a_wrong_study_file_is_never_submitted(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("study: a\nsearch: {trials: 0}\n")
        errors_of(invoke("submit", "a.yaml", "--to", "local"))
        assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
