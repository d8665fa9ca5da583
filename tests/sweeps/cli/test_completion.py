"""What the shell completes: commands, options, choices, studies of the root, and their trials."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeps.cli.app import app
from tests import ROOT

from ..invoking import made_study


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
        (["data", "b"], ["build"]),
        (["run", "--pl"], ["--plain"]),
        (["submit", "--follow", "--dr"], ["--dry-run"]),
        (["weights", "first", "best", "--format", "s"], ["safetensors", "state_dict"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_words(root: Path, words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_studies_of_a_store_are_not_asked_for(root: Path) -> None:
    assert completed("top", "--root", "s3://bucket/prefix", "") == []


def test_trials_of_a_study(root: Path) -> None:
    made_study(root, "trained", ("COMPLETE", "FAIL", "COMPLETE", "PRUNED", "FAIL"))
    assert completed("show", "trained", "") == ["best", "0", "2"]
    assert completed("retrain", "runs/trained", "2") == ["2"]
    assert completed("retry", "trained", "") == ["1", "4"]
    assert completed("show", "--root", "elsewhere", "trained", "") == ["best"]
    assert completed("retry", "first", "") == [], "it cannot be read"


def test_a_state_on_a_server_is_not_asked_for(root: Path) -> None:
    (root / "first" / "study.yaml").write_text(
        "study: first\nstate: postgresql://nowhere.invalid/db\n# end of the study file\n"
    )
    assert completed("show", "first", "") == ["best"]


def in_bash(home: Path, script: str) -> list[str]:
    """Return the words that a script prints in a bash whose home is this folder, and that knows our command."""
    command = home / "bin" / "pinnsweep"
    if not command.exists():
        command.parent.mkdir()
        command.write_text(f"#!{sys.executable}\nfrom sweeps.cli import main\n\nmain()\n")  # as pip writes it
        command.chmod(0o755)
    environment = {"HOME": str(home), "PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    argv = ["bash", "--norc", "-c", f"{script}\ntrue"]  # so that bash stays: typer asks which shell called it
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=True, cwd=home, env=environment
    ).stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [(["ret"], ["retry", "retrain"]), (["show", ""], ["first", "second"]), (["top", "--js"], ["--json"])],
    ids=lambda value: " ".join(value),
)
def test_bash_completes_once_it_is_installed(root: Path, words: list[str], offered: list[str]) -> None:
    assert "installed" in in_bash(root.parent, "pinnsweep --install-completion")
    line = shlex.join(["pinnsweep", *words])
    script = f"""
        source ~/.bashrc
        complete -p pinnsweep > /dev/null || exit 1
        COMP_WORDS=({line}) COMP_CWORD={len(words)}
        _pinnsweep_completion pinnsweep
        echo "${{COMPREPLY[@]}}"
    """
    assert in_bash(root.parent, script) == offered


@pytest.mark.parametrize(("variables", "is_green"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_installation_is_coloured_only_where_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_green: bool
) -> None:
    monkeypatch.setattr("typer._completion_shared._get_shell_name", lambda: "bash")
    environment = {"HOME": str(tmp_path), "TERM": "xterm", "NO_COLOR": "", **variables}
    result = CliRunner().invoke(app, ["--install-completion"], env=environment, color=True, prog_name="pinnsweep")
    assert "bash completion installed" in result.stdout and ("\x1b" in result.stdout) is is_green


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
