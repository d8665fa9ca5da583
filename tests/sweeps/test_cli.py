"""The command: its help, its exit codes, and what it hands to the modules that do the work."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import sweeps
from cluster import ClusterError, Job, JobHandle, LocalExecutor
from pinncore.errors import DataError
from sweeps import cli_jobs
from sweeps.cli import app
from sweeps.errors import Mistake, SpecError, StudyError

COMMANDS = [
    "run",
    "validate",
    "plan",
    "schema",
    "status",
    "query",
    "top",
    "report",
    "submit",
    "jobs",
    "logs",
    "cancel",
    "bench",
    "data check",
]


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def errors_of(result: Result) -> str:
    """The standard error of a command that ended as the user's mistakes do."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)  # and so no traceback
    assert result.stdout == ""
    return result.stderr


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a module of `sweeps` aside for one with the given functions."""

    def put(name: str, **functions: Any) -> None:
        module = ModuleType(f"sweeps.{name}")
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, f"sweeps.{name}", module)
        monkeypatch.setattr(sweeps, name, module, raising=False)

    return put


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
        listed = result.stdout.partition("Commands:")[2].strip().splitlines()
        assert [line.split()[0] for line in listed] == [*COMMANDS[:-1], "data"]
        assert [line for line in listed if line.endswith("...")] == []  # each sentence fits its line

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_each_command(self, command: str) -> None:
        result = invoke(*command.split(), "--help")
        assert result.exit_code == 0
        assert "Usage:" in result.stdout
        assert result.stderr == ""

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
    def test_one_message(self, stand_in: Callable[..., None], error: Exception, message: str) -> None:
        stand_in("driver", run=_raising(error))
        assert errors_of(invoke("run", "study.yaml")) == message

    def test_as_json(self, stand_in: Callable[..., None]) -> None:
        stand_in("driver", run=_raising(SpecError([Mistake("a.b", {1}, "must be 1", "Try 1.")])))
        record = json.loads(errors_of(invoke("run", "study.yaml", "--json")))["error"]
        assert record["type"] == "SpecError"
        assert record["message"] == "a.b: must be 1, got {1}. Try 1."
        assert record["mistakes"] == [{"path": "a.b", "value": "{1}", "rule": "must be 1", "hint": "Try 1."}]

    @pytest.mark.parametrize("error", [ValueError("a bug"), FileNotFoundError(2, "gone", "x"), KeyError("k")])
    def test_a_bug_is_not_hidden(self, stand_in: Callable[..., None], error: Exception) -> None:
        stand_in("driver", run=_raising(error))
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
            ["query", "runs/first"],
            ["top", "runs/first", "-n", "0"],
            ["submit", "study.yaml", "--to", "moon"],
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

    def test_interrupted(self, stand_in: Callable[..., None]) -> None:
        stand_in("driver", run=_raising(KeyboardInterrupt()))
        assert invoke("run", "study.yaml").exit_code == 130


def _raising(error: BaseException) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        raise error

    return run


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    study_dir: Path
    counts: dict[str, int]
    best: dict[str, Any] | None


class TestRun:
    @pytest.mark.parametrize("exit_code", [0, 1, 130])
    def test_exit_code_is_the_outcomes(
        self, stand_in: Callable[..., None], exit_code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("runs/a b").mkdir(parents=True)
        Path("runs/a b/study.yaml").touch()
        stand_in("driver", run=lambda target, **options: Outcome(exit_code, Path("runs/a b"), {}, None))
        result = invoke("run", "study.yaml")
        assert result.exit_code == exit_code
        expected = ["run"] if exit_code == 130 else ["top", "query", "report"]
        commands = [line for line in result.stdout.splitlines() if line.startswith("  ")]
        assert [
            word for line, word in zip(commands, expected, strict=True) if f" {word} 'runs/a b'" in line
        ] == expected

    def test_an_interrupt_before_the_study_began_says_so(self, stand_in: Callable[..., None], tmp_path: Path) -> None:
        stand_in("driver", run=lambda target, **options: Outcome(130, tmp_path / "nothing", {}, None))
        result = invoke("run", "study.yaml")
        assert result.exit_code == 130 and "before the study began" in result.stdout

    def test_options_reach_the_driver(self, stand_in: Callable[..., None]) -> None:
        seen: dict[str, Any] = {}

        def run(target: Path, **options: Any) -> Outcome:
            seen.update(options, target=target)
            return Outcome(0, target, {}, None)

        stand_in("driver", run=run)
        options = ["--root", "r", "--set", "a=1", "--set", "b=[1, 2]", "--trials", "3", "--address", "auto"]
        invoke("run", "s.yaml", *options, "--cpus", "2", "--plain")
        assert seen == {
            "target": Path("s.yaml"),
            "root": Path("r"),
            "overrides": ["a=1", "b=[1, 2]"],
            "trials": 3,
            "address": "auto",
            "cpus": 2,
            "plain": True,
        }

    def test_json_stands_alone_on_stdout(self, stand_in: Callable[..., None]) -> None:
        def run(target: Path, **options: Any) -> Outcome:
            print("progress")
            return Outcome(1, target, {"COMPLETE": 3, "FAIL": 1}, {"trial": 2, "value": 0.5, "params": {}})

        stand_in("driver", run=run)
        result = invoke("run", "runs/a", "--json")
        assert result.exit_code == 1
        assert result.stderr == "progress\n"
        assert json.loads(result.stdout) == {
            "exit_code": 1,
            "study_dir": "runs/a",
            "counts": {"COMPLETE": 3, "FAIL": 1},
            "best": {"trial": 2, "value": 0.5, "params": {}},
        }


class TestTables:
    def test_query(self, stand_in: Callable[..., None], study: Path) -> None:
        stand_in("query", query=lambda studies, sql: (studies, sql), render=lambda table, form: f"{form}: {table[1]}")
        assert invoke("query", study, study, "SELECT 1", "--format", "csv").stdout == "csv: SELECT 1\n"
        assert invoke("query", study, "SELECT 1", "--json").stdout == "json: SELECT 1\n"

    def test_top(self, stand_in: Callable[..., None], study: Path) -> None:
        stand_in("query", top=lambda studies, n, by: (studies, n, by), render=lambda table, form: f"{form}: {table}")
        assert invoke("top", study, "-n", "3", "--by", "loss").stdout == f"table: {([study], 3, 'loss')}\n"

    def test_report(self, stand_in: Callable[..., None], study: Path) -> None:
        stand_in("report", write_report=lambda folder, out: out or folder / "report.html")
        assert invoke("report", study).stdout == f"{study / 'report.html'}\n"
        assert invoke("report", study, "-o", "a.html").stdout == "a.html\n"

    def test_study_by_name(self, stand_in: Callable[..., None], study: Path) -> None:
        stand_in("report", write_report=lambda folder, out: folder)
        assert invoke("report", "first", "--root", study.parent).stdout == f"{study}\n"

    @pytest.mark.parametrize("words", [["top", "x"], ["query", "x", "SELECT 1"], ["report", "x"], ["status", "x"]])
    def test_no_such_study(self, study: Path, words: list[str]) -> None:
        assert "studies in" in (message := errors_of(invoke(*words, "--root", study.parent)))
        assert "first" in message


STATUS: dict[str, Any] = {
    "study": "first",
    "limit": 8,
    "counts": {"COMPLETE": 3, "FAIL": 0, "RUNNING": 2, "WAITING": 3},
    "objective": "rel_l2",
    "best": {"trial": 2, "value": 0.01234567, "params": {"width": 16, "adam_lr": 0.00123456}},
    "held_by": "pid 7 on here",
}


class TestStatus:
    def test_of_one_study(self, stand_in: Callable[..., None], study: Path) -> None:
        stand_in("study", read_status=lambda folder: STATUS)
        assert invoke("status", study).stdout == (
            "first: 8 trials (3 complete, 2 running, 3 waiting)\n"
            "  best rel_l2 0.01235: trial 2 (width 16, adam_lr 0.001235)\n"
            "  being run by pid 7 on here\n"
        )
        assert json.loads(invoke("status", study, "--json").stdout) == STATUS

    def test_a_damaged_study_does_not_hide_the_others(self, stand_in: Callable[..., None], study: Path) -> None:
        (study.parent / "bad").mkdir()
        (study.parent / "bad" / "study.yaml").touch()

        def read_status(folder: Path) -> dict[str, Any]:
            if folder.name == "bad":
                raise StudyError("study.db is damaged")
            return {**STATUS, "best": None, "held_by": None}

        stand_in("study", read_status=read_status)
        result = invoke("status", "--root", study.parent)
        assert result.stdout == "bad: study.db is damaged\nfirst: 8 trials (3 complete, 2 running, 3 waiting)\n"
        assert len(json.loads(invoke("status", "--root", study.parent, "--json").stdout)) == 2

    def test_of_an_empty_root(self, stand_in: Callable[..., None], tmp_path: Path) -> None:
        stand_in("study", read_status=_raising(AssertionError()))
        assert invoke("status", "--root", tmp_path).stdout == f"no study in {tmp_path}\n"


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

    def test_plan(self, stand_in: Callable[..., None], spec: Path) -> None:
        @dataclass(frozen=True)
        class Plan:
            trials: int
            cpus: int
            calibrate: bool

        stand_in(
            "plan",
            plan=lambda study, cpus, calibrate: Plan(study.search.trials, cpus, calibrate),
            render=lambda plan: f"{plan.trials} trials",
        )
        assert invoke("plan", spec).stdout == "4 trials\n"
        assert json.loads(invoke("plan", spec, "--no-calibrate", "--cpus", "3", "--json").stdout) == {
            "trials": 4,
            "cpus": 3,
            "calibrate": False,
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
        found = json.loads(invoke("data", "check", *tables, "--elocal-factor", "1", "--json").stdout)
        assert found["points"] == {"gauss_points": 9, "lrb": 9, "btb": 9}
        assert found["ranges"]["lrb"]["elocal"] == pytest.approx([1e-4, 2.01e-2])
        assert len(found["sha256"]) == 64

    def test_what_cannot_be_known_is_asked_for(self, tables: list[Path]) -> None:
        assert "elocal_factor" in errors_of(invoke("data", "check", *tables))

    def test_missing_table(self, tables: list[Path]) -> None:
        tables[1].unlink()
        assert "lrb.csv" in errors_of(invoke("data", "check", *tables, "--elocal-factor", "1"))


class TestJobs:
    @pytest.fixture(autouse=True)
    def instead_of_training(self, monkeypatch: pytest.MonkeyPatch, stand_in: Callable[..., None]) -> None:
        """Jobs print their command line, and the study named `long` then sleeps."""
        code = (
            "import sys, time; print(*sys.argv[1:]); sys.stdout.flush()\n"
            "time.sleep(600 if 'long' in sys.argv[5] else 0); sys.exit(3 * ('bad' in sys.argv[5]))"
        )

        def printing(executor: type[LocalExecutor]) -> type[LocalExecutor]:
            class Printing(executor):  # type: ignore[valid-type, misc]
                def submit(self, job: Job) -> JobHandle:
                    return super().submit(replace(job, argv=(sys.executable, "-c", code, *job.argv)))

            return Printing

        for name in ("LocalExecutor", "InlineExecutor"):
            monkeypatch.setattr(cli_jobs, name, printing(getattr(cli_jobs, name)))
        stand_in("spec", load_spec=lambda path, overrides: SimpleNamespace(study=path.stem))

    def test_submit_follow_list(self, tmp_path: Path) -> None:
        result = invoke("submit", "a.yaml", "--to", "local", "--root", tmp_path, "--set", "a=1", "--trials", "2")
        assert result.exit_code == 0
        assert result.stdout.startswith("job 1 runs study a in the background\n")
        assert f"logs 1 -f --root {tmp_path}" in result.stdout
        arguments = f"run {Path('a.yaml').absolute()} --root {tmp_path} --set a=1 --trials 2 --plain"
        assert invoke("logs", "1", "-f", "--root", tmp_path).stdout == f"{sys.executable} -m sweeps.cli {arguments}\n"
        assert json.loads(invoke("jobs", "--root", tmp_path, "--json").stdout)[0]["state"] == "done"
        assert invoke("jobs", "--root", tmp_path).stdout.split()[:2] == ["1", "done"]

    def test_inline_gives_the_exit_code_of_its_job(self, tmp_path: Path) -> None:
        result = invoke("submit", "bad.yaml", "--to", "inline", "--root", tmp_path, "--json")
        assert result.exit_code == 3
        assert json.loads(result.stdout) == {"job": "1", "study": "bad", "state": "failed"}

    def test_cancel(self, tmp_path: Path) -> None:
        invoke("submit", "long.yaml", "--to", "local", "--root", tmp_path)
        assert invoke("cancel", "1", "--root", tmp_path).stdout == "job 1: cancelled\n"
        assert json.loads(invoke("cancel", "1", "--root", tmp_path, "--json").stdout)["state"] == "cancelled"

    @pytest.mark.parametrize("command", ["logs", "cancel"])
    def test_unknown_job(self, tmp_path: Path, command: str) -> None:
        assert "known jobs: none" in errors_of(invoke(command, "9", "--root", tmp_path))

    def test_no_jobs(self, tmp_path: Path) -> None:
        assert invoke("jobs", "--root", tmp_path).stdout == f"no job in {tmp_path}\n"
        assert json.loads(invoke("jobs", "--root", tmp_path, "--json").stdout) == []
        assert list(tmp_path.iterdir()) == []

    def test_a_wrong_study_file_is_never_submitted(self, tmp_path: Path, stand_in: Callable[..., None]) -> None:
        stand_in("spec", load_spec=_raising(SpecError([Mistake("a", 1, "must be 2")])))
        errors_of(invoke("submit", "a.yaml", "--to", "local", "--root", tmp_path))
        assert list(tmp_path.iterdir()) == []
