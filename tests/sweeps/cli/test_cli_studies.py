"""The commands on studies as a whole: run and its variants, stop, extend, retry, status, list, delete, gc."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sweeps
from sweeps.errors import StudyError
from sweeps.owner.snapshot import BestTrial
from sweeps.storage import lock
from tests.cluster.waiting import WAIT_S
from tests.processes import line_of, started

from ..invoking import StandIn, errors_of, invoke, made_study, raising, run_here
from ..invoking import stand_in as stand_in
from ..problems import of_strain
from ..small import write_study

HOLD = """\
import os, sys, time
from pathlib import Path
from sweeps.storage.lock import StudyLock
study = Path(sys.argv[1])
held = StudyLock(study, driver_pid=os.getpid())
print("held", flush=True)
while not (study / "stop").exists():
    time.sleep(0.05)
time.sleep(0.5)  # the running stretch
(study / "stop").unlink()
held.release()
"""


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    study_dir: Path
    counts: dict[str, int]
    best: BestTrial | None


@pytest.fixture
def driven(stand_in: StandIn) -> dict[str, Any]:
    """What the driver is called with, instead of training."""
    seen: dict[str, Any] = {}

    def run(target: Path, **options: Any) -> Outcome:
        seen.update(options, target=target)
        return Outcome(0, target, {}, None)

    stand_in("sweeps.runner.driver", run=run)
    return seen


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return made_study(tmp_path)


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """The study file of `first`, with other learning rates."""
    file = tmp_path / "first.yaml"
    file.write_text("study: first\nsearch: {sampler: tpe, trials: 9}\nspace: {adam_lr: {uniform: [0.2, 0.3]}}\n")
    return file


@pytest.fixture
def driver_process(study: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the study until it is asked to stop."""
    with started([sys.executable, "-c", HOLD, str(study)], stdout=subprocess.PIPE) as process:
        assert line_of(process) == "held\n"
        yield process


class TestRun:
    @pytest.mark.parametrize("exit_code", [0, 1, 130])
    def test_exit_code_is_the_outcomes(
        self, stand_in: StandIn, exit_code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("runs/a b").mkdir(parents=True)
        Path("runs/a b/study.yaml").touch()
        counts = {"COMPLETE": 3, "FAIL": exit_code}
        stand_in(
            "sweeps.runner.driver", run=lambda target, **options: Outcome(exit_code, Path("runs/a b"), counts, None)
        )
        result = invoke("run", "study.yaml")
        assert result.exit_code == exit_code
        expected = {0: ["top", "query", "report"], 1: ["retry", "top", "query", "report"], 130: ["run"]}[exit_code]
        commands = [line for line in result.stdout.splitlines() if line.startswith("  ")]
        assert [
            word for line, word in zip(commands, expected, strict=True) if f" {word} 'runs/a b'" in line
        ] == expected

    def test_an_interrupt_before_the_study_began_says_so(self, stand_in: StandIn, tmp_path: Path) -> None:
        stand_in("sweeps.runner.driver", run=lambda target, **options: Outcome(130, tmp_path / "nothing", {}, None))
        result = invoke("run", "study.yaml")
        assert result.exit_code == 130 and "before the study began" in result.stdout

    def test_options_reach_the_driver(self, driven: dict[str, Any]) -> None:
        options = ["--root", "r", "--set", "a=1", "--set", "b=[1, 2]", "--trials", "3", "--address", "auto"]
        before = time.monotonic()
        invoke("run", "s.yaml", *options, "--cpus", "2", "--plain")
        assert driven.pop("began") < before, "time counts from the start of the process"
        assert callable(driven.pop("leave"))
        assert driven == {
            "target": Path("s.yaml"),
            "root": Path("r"),
            "overrides": ["a=1", "b=[1, 2]"],
            "trials": 3,
            "address": "auto",
            "cpus": 2,
            "plain": True,
        }

    def test_json_stands_alone_on_stdout(self, stand_in: StandIn) -> None:
        def run(target: Path, **options: Any) -> Outcome:
            print("progress")
            return Outcome(1, target, {"COMPLETE": 3, "FAIL": 1}, BestTrial(2, 0.5, {}))

        stand_in("sweeps.runner.driver", run=run)
        result = invoke("run", "runs/a", "--json")
        assert result.exit_code == 1
        assert result.stderr == "progress\n"
        assert json.loads(result.stdout) == {
            "exit_code": 1,
            "study_dir": "runs/a",
            "counts": {"COMPLETE": 3, "FAIL": 1},
            "best": {"trial": 2, "value": 0.5, "params": {}},
        }

    def test_a_new_study_is_a_name(self, driven: dict[str, Any]) -> None:
        invoke("run", "s.yaml", "--set", "a=1", "--new-study", "12")
        assert driven["overrides"] == ["a=1", 'study="12"']  # text, whatever YAML takes it for

    @pytest.mark.parametrize(
        ("state", "kept"),
        [("here/it", "{cwd}/here/it"), ("/there", "/there"), ("postgresql://h/d", "postgresql://h/d")],
    )
    def test_a_state_is_relative_to_where_one_is(
        self, driven: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, kept: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        invoke("run", "specs/s.yaml", "--state", state)
        assert driven["overrides"] == [f'state="{kept.format(cwd=tmp_path)}"']


class TestBranch:
    def test_a_branch_takes_over_and_learns_from_the_study_it_leaves(
        self, study: Path, spec_file: Path, driven: dict[str, Any]
    ) -> None:
        assert invoke("run", spec_file, "--root", study.parent, "--branch", "second").exit_code == 0
        old = json.dumps(str(study))
        assert driven["overrides"] == ['study="second"', f"search.branch_of={old}", f"search.warm_start=[{old}]"]
        assert driven["target"] == spec_file and driven["root"] == study.parent

    @pytest.mark.parametrize("change", ["search.sampler=qmc", "search.objective=loss"])
    def test_where_nothing_can_be_learnt_it_only_takes_over(
        self, study: Path, spec_file: Path, driven: dict[str, Any], change: str
    ) -> None:
        invoke("run", spec_file, "--root", study.parent, "--branch", "second", "--set", change)
        assert driven["overrides"] == [change, 'study="second"', f"search.branch_of={json.dumps(str(study))}"]

    def test_of_a_folder(self, study: Path, driven: dict[str, Any]) -> None:
        invoke("run", study, "--branch", "second", "--set", "train.epochs=7", "--set", f"search.reuse=[{study}]")
        assert driven["overrides"][-2:] == ['study="second"', f"search.branch_of={json.dumps(str(study))}"]

    def test_through_the_real_owner_nothing_is_trained_twice(self, tmp_path: Path, stand_in: StandIn) -> None:
        stand_in("sweeps.runner.driver", run=run_here)
        file = write_study(tmp_path / "data", trials=4, sampler="random")
        assert invoke("run", file, "--root", tmp_path).exit_code == 0
        change = ["--set", "search.objective=loss", "--trials", "5"]
        assert "--branch small-2" in errors_of(invoke("run", file, "--root", tmp_path, *change))
        assert invoke("run", file, "--root", tmp_path, *change, "--branch", "small-2").exit_code == 0
        old, new = (sweeps.open(tmp_path / name).trials() for name in ("small", "small-2"))
        assert new["taken_from"].to_pylist() == [*(f"{tmp_path / 'small'}/{n}" for n in range(4)), None]
        assert new["rel_l2"].to_pylist()[:4] == old["rel_l2"].to_pylist()
        assert new["evaluations"].to_pylist()[:4] == [0] * 4 and new["evaluations"].to_pylist()[4] > 0
        assert invoke("run", tmp_path / "small-2").exit_code == 0  # a study like any other

    def test_there_must_be_a_study(self, spec_file: Path, tmp_path: Path) -> None:
        message = errors_of(invoke("run", spec_file, "--root", tmp_path / "empty", "--branch", "second"))
        assert f"no study in {tmp_path / 'empty' / 'first'}" in message

    def test_it_must_have_another_name(self, study: Path, spec_file: Path) -> None:
        assert "another name" in errors_of(invoke("run", spec_file, "--root", study.parent, "--branch", "first"))


class TestExtend:
    def test_by_so_many_trials(self, study: Path, driven: dict[str, Any]) -> None:
        assert invoke("extend", "first", "5", "--root", study.parent, "--cpus", "1", "--plain").exit_code == 0
        assert (driven["target"], driven["trials"]) == (study, 8)
        assert (driven["cpus"], driven["plain"]) == (1, True)

    @pytest.mark.parametrize(
        ("trials", "more", "now"),
        [
            (None, 1, "the grid has only 6 trials, and the study has them all"),
            (6, 1, "the grid has only 6 trials, and the study has them all"),
            (9, 1, "the grid has only 6 trials, and the study has them all"),
            (4, 3, "the study has 4 of the grid's 6 trials: add at most 2"),
            (4, 2, 6),
        ],
    )
    def test_a_grid_comes_to_an_end(
        self, tmp_path: Path, driven: dict[str, Any], trials: int | None, more: int, now: int | str
    ) -> None:
        search = f"{{sampler: grid, trials: {trials}}}" if trials else "{sampler: grid}"
        folder = of_strain(tmp_path / "g")
        space = "{width: {choice: [2, 3, 4]}, init: {choice: [torch, keras]}}"
        (folder / "study.yaml").write_text(f"study: g\nsearch: {search}\nspace: {space}\n# end of the study file\n")
        if isinstance(now, str):
            assert now in errors_of(invoke("extend", folder, more))
        else:
            assert invoke("extend", folder, more).exit_code == 0 and driven["trials"] == now


class TestRetry:
    @pytest.mark.parametrize(("words", "numbers"), [([], [1, 3]), (["3"], [3]), (["3", "1", "3"], [1, 3])])
    def test_failed_trials(
        self, tmp_path: Path, driven: dict[str, Any], words: Sequence[str], numbers: Sequence[int]
    ) -> None:
        study = made_study(tmp_path, states=("COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE"), repeats={4: 2})
        assert invoke("retry", study, *words).exit_code == 0
        assert (driven["target"], driven["retry"]) == (study, numbers)

    def test_no_other_trial(self, study: Path) -> None:
        assert "trial 0 has not failed" in errors_of(invoke("retry", study, "0"))
        assert (
            "trial 0 has not failed" in json.loads(errors_of(invoke("retry", study, "0", "--json")))["error"]["message"]
        )


@pytest.mark.parametrize("words", [["extend", "first", "2"], ["retry", "first"]])
def test_a_running_study_is_neither_extended_nor_retried(
    study: Path, driver_process: subprocess.Popen[str], driven: dict[str, Any], words: list[str]
) -> None:
    message = errors_of(invoke(*words, "--root", study.parent))
    assert f"is being run by process {driver_process.pid}" in message and driven == {}


class TestStop:
    def test_a_running_study_is_asked_and_waited_for(self, study: Path, driver_process: subprocess.Popen[str]) -> None:
        result = invoke("stop", "first", "--root", study.parent, "--wait")
        assert result.exit_code == 0, result.output
        assert f"process {driver_process.pid} on" in result.stdout and f"run {study}" in result.stdout
        assert lock.held_by(study) is None and not (study / "stop").exists()

    def test_without_waiting(self, study: Path, driver_process: subprocess.Popen[str]) -> None:
        result = invoke("stop", study, "--json")
        assert lock.held_by(study) is not None
        record = json.loads(result.stdout)
        assert record == {"study": "first", "held_by": lock.held_by(study), "stopped": False}
        assert driver_process.wait(timeout=WAIT_S) == 0

    def test_a_study_that_nobody_runs(self, study: Path) -> None:
        assert "is not running, so there is nothing to stop" in errors_of(invoke("stop", study))
        assert not (study / "stop").exists()


STATUS: dict[str, Any] = {
    "study": "first",
    "limit": 9,
    "counts": {"COMPLETE": 3, "FAIL": 2, "PRUNED": 1, "RUNNING": 2, "WAITING": 2},
    "failures": 1,
    "objective": "rel_l2",
    "in_percent": True,
    "saved": [],
    "best": {"trial": 2, "value": 0.01234567, "params": {"width": 16, "adam_lr": 0.00123456}},
    "held_by": "pid 7 on here",
}


class TestStatus:
    def test_of_one_study(self, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sweeps.cli.studies.read_status", lambda folder: STATUS)
        assert invoke("status", study).stdout == (
            "first: 9 trials (3 complete, 1 pruned, 1 failed, 1 failed and retried, 2 running, 2 waiting)\n"
            "  best rel_l2 1.235 %: trial 2 (width 16, adam_lr 0.001235)\n"
            "  being run by pid 7 on here\n"
        )
        assert json.loads(invoke("status", study, "--json").stdout) == STATUS

    def test_a_damaged_study_does_not_hide_the_others(self, study: Path) -> None:
        (study.parent / "bad").mkdir()
        (study.parent / "bad" / "study.yaml").write_text("study: bad\n")
        result = invoke("status", "--root", study.parent)
        bad, *good = result.stdout.splitlines()
        assert bad.startswith("bad: ") and "study.db is missing" in bad
        assert good[0] == "first: 3 trials (1 complete, 1 pruned, 1 failed)"
        assert good[1].startswith("  best rel_l2 10 %: trial 0 (adam_lr 0.0")
        assert len(json.loads(invoke("status", "--root", study.parent, "--json").stdout)) == 2

    def test_of_an_empty_root(self, tmp_path: Path) -> None:
        assert invoke("status", "--root", tmp_path).stdout == f"no study in {tmp_path}\n"

    @pytest.mark.parametrize("words", [["status"], ["list"]])
    def test_no_training_library_is_imported(self, study: Path, words: list[str]) -> None:
        """The whole process has to be over in a second."""
        code = (
            "import sys\nfrom sweeps.cli.app import app\n"
            "try:\n    app(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
            "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'ray', 'optuna', 'pyarrow'})"
        )
        command = [sys.executable, "-c", code, *words, "--root", str(study.parent)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True)
        assert result.stdout.splitlines()[-1] == "set()" and "first" in result.stdout


class TestList:
    def test_a_table(self, study: Path) -> None:
        made_study(study.parent, "retried", ("COMPLETE", "FAIL", "COMPLETE", "WAITING"), repeats={2: 1}, trials=3)
        (study.parent / "bad").mkdir()
        (study.parent / "bad" / "study.yaml").write_text("study: bad\n")
        held = lock.StudyLock(study, driver_pid=os.getpid())
        heads, *lines = invoke("list", "--root", study.parent).stdout.splitlines()
        held.release()
        assert re.split(" {2,}", heads) == ["study", "trials", "failed", "best", "size", "last change", "run by"]
        day = time.strftime("%Y-%m-%d")
        assert [line.split()[0] for line in lines] == ["bad", "first", "retried"]
        assert "study.db is missing" in lines[0]
        assert re.fullmatch(
            rf"first +3/3 +1 +rel_l2 10 % +\d+ kB +{day} \d\d:\d\d  process {os.getpid()} on \S+", lines[1]
        )
        assert re.fullmatch(rf"retried +2/3 +rel_l2 10 % +\d+ kB +{day} \d\d:\d\d", lines[2])

    def test_as_json(self, study: Path) -> None:
        (overview,) = json.loads(invoke("list", "--root", study.parent, "--json").stdout)
        assert overview["path"] == str(study) and overview["bytes"] > 1000 and overview["best"]["trial"] == 0
        assert overview.keys() >= {"study", "changed_at", "limit", "counts", "failures", "objective", "held_by"}

    def test_nothing(self, tmp_path: Path) -> None:
        assert invoke("list", "--root", tmp_path).stdout == f"no study in {tmp_path}\n"


class TestDelete:
    def test_without_a_terminal_it_wants_yes(self, study: Path) -> None:
        assert "add --yes" in errors_of(invoke("delete", study))
        assert invoke("delete", study, "--yes").stdout == f"removed {study}\n"
        assert not study.exists()

    @pytest.mark.parametrize("answer", ["y", "n"])
    def test_on_a_terminal_it_asks(self, study: Path, answer: str) -> None:
        """Through a terminal of its own, since it asks nobody else."""
        code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'sweeps.cli', 'delete', sys.argv[1]]) >> 8)"
        command = [sys.executable, "-c", code, str(study)]
        result = subprocess.run(command, input=f"{answer}\n", capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stdout
        assert f"{study}: 3 trials, " in result.stdout and "Remove for good? [y/N]" in result.stdout
        assert study.exists() == (answer == "n")

    def test_one_that_must_stay_saves_all(self, study: Path) -> None:
        second = made_study(study.parent, "second")
        held = lock.StudyLock(second, driver_pid=os.getpid())
        assert "second is being run by" in errors_of(invoke("delete", study, second, "--yes"))
        held.release()
        assert study.exists()
        (second / "study.yaml").unlink()
        assert "is not a study" in errors_of(invoke("delete", study, second, "--yes"))
        assert study.exists() and second.exists()

    def test_as_json(self, study: Path) -> None:
        result = invoke("delete", "first", "--root", study.parent, "--yes", "--json")
        assert json.loads(result.stdout) == [{"study": "first", "path": str(study), "stays": None}]


class TestGc:
    @pytest.fixture
    def leftovers(self, study: Path) -> list[Path]:
        files = [study / ".study.yaml.new", study / "curves" / "x.parquet", study / "curves" / "y.parquet"]
        for file in files:
            file.write_bytes(bytes(1500))
        return files

    def test_says_what_goes_and_how_much(self, study: Path, leftovers: list[Path]) -> None:
        text = (
            "first: unfinished publications: 2, 3 kB\n"
            "first: files cut off while they were written: 1, 1.5 kB\n"
            "{} 4.5 kB\n"
        )
        assert invoke("gc", "--root", study.parent, "--dry-run").stdout == text.format("would remove")
        assert all(file.exists() for file in leftovers)
        assert invoke("gc", study).stdout == text.format("removed")
        assert not any(file.exists() for file in leftovers)
        assert invoke("gc", study).stdout == "nothing to remove\n"

    def test_a_running_study_is_skipped_or_refused(self, study: Path, leftovers: list[Path]) -> None:
        held = lock.StudyLock(study, driver_pid=os.getpid())
        result = invoke("gc", "--root", study.parent)
        assert result.exit_code == 0 and "warning: " in result.stderr and "is being run by" in result.stderr
        assert "is being run by" in errors_of(invoke("gc", study))
        assert "is being run" in json.loads(invoke("gc", "--root", study.parent, "--json").stdout)["skipped"][0]
        held.release()
        assert all(file.exists() for file in leftovers)

    def test_as_json(self, study: Path, leftovers: list[Path]) -> None:
        record = json.loads(invoke("gc", study, "--json").stdout)
        assert record["removed"] is True and record["skipped"] == []
        assert {(waste["path"], waste["bytes"]) for waste in record["waste"]} == {
            (str(file), 1500) for file in leftovers
        }


def test_a_bug_in_the_driver_is_not_hidden(study: Path, stand_in: StandIn) -> None:
    error = ValueError("a bug")
    stand_in("sweeps.runner.driver", run=raising(error))
    assert invoke("extend", study, "1").exception is error


def test_what_the_driver_refuses_is_one_message(study: Path, stand_in: StandIn) -> None:
    stand_in("sweeps.runner.driver", run=raising(StudyError("held by another")))
    assert errors_of(invoke("retry", study)) == "error: held by another\n"
