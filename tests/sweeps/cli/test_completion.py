"""What the shell completes: commands, studies of the root, tables, and the word for the best trial."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeps.cli.app import app
from tests import ROOT


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder runs/ of the current one, with folders that look like studies."""
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "study.yaml").touch()
    (tmp_path / "runs" / "third").mkdir()
    return tmp_path / "runs"


def completed(*words: str) -> list[str]:
    """Return what bash offers for the last word."""
    line = " ".join(["pinnsweep", *words])
    variables = {"COMP_WORDS": line, "COMP_CWORD": str(len(words)), "_PINNSWEEP_COMPLETE": "complete_bash"}
    return CliRunner().invoke(app, [], env=variables, prog_name="pinnsweep").stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["val"], ["validate"]),
        (["show", ""], ["first", "second"]),
        (["show", "se"], ["second"]),
        (["show", "first", "b"], ["best"]),
        (["show", "runs/"], []),  # paths are the shell's
        (["status", "f"], ["first"]),
        (["compare", "first", "s"], ["second"]),
        (["top", "first", "s"], ["second"]),
        (["top", "--root", "elsewhere", ""], []),
        (["list", "--root", "s3://bucket/", ""], []),
        (["query", "f"], ["first"]),
        (["query", "first", "."], [".tables", ".schema"]),
        (["export", "first", "--table", "cu"], ["curves", "curves_last"]),
        (["validate", "st"], []),
    ],
    ids=lambda value: " ".join(value),
)
def test_words(root: Path, words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_studies_of_a_store_are_not_asked_for(root: Path) -> None:
    assert completed("top", "--root", "s3://bucket/prefix", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)  # as typer finds it among its ancestors
    assert "_PINNSWEEP_COMPLETE" in CliRunner().invoke(app, ["--show-completion"], prog_name="pinnsweep").stdout


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["--help"], {}),
        (["status"], {}),
        ([], {"COMP_WORDS": "pinnsweep show ", "COMP_CWORD": "2", "_PINNSWEEP_COMPLETE": "complete_bash"}),
    ],
    ids=["help", "status", "completion"],
)
def test_what_must_answer_at_once_loads_nothing_heavy(
    tmp_path: Path, words: list[str], variables: dict[str, str]
) -> None:
    code = (
        f"import atexit, sys; sys.argv = ['pinnsweep', *{words}]; from sweeps.cli import main; "
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    argv, environment = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path, env=environment)
    heavy = {"numpy", "pyarrow", "duckdb", "torch", "ray", "optuna", "matplotlib", "scipy"}
    assert {name.partition(".")[0] for name in ended.stderr.split()} & heavy == set()
