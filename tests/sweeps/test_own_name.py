"""Hints name this command as it can be pasted, however this process was started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.own_name import own_name


def executable(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs of an environment, of which nothing is on PATH; this process was started by `python -m`."""
    programs = executable(tmp_path / "my env" / "bin" / "python").parent
    executable(programs / "pinnsweep")
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "sweeps" / "cli.py"), "run"])
    monkeypatch.setenv("PATH", os.defpath)
    return programs


def test_it_is_the_plain_name_where_that_is_on_path(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{environment}:{os.defpath}")
    assert own_name() == "pinnsweep"


def test_it_is_the_plain_name_where_path_has_a_link_to_it(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "pinnsweep").symlink_to(environment / "pinnsweep")
    monkeypatch.setenv("PATH", f"{tmp_path / 'links'}:{os.defpath}")
    assert own_name() == "pinnsweep"


def test_it_is_a_path_where_path_has_none_or_that_of_another_environment(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_name() == f"'{environment}/pinnsweep'"
    monkeypatch.setenv("PATH", str(executable(tmp_path / "other" / "pinnsweep").parent))
    assert own_name() == f"'{environment}/pinnsweep'"


def test_it_is_what_was_typed_where_the_script_lies_elsewhere(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (environment / "pinnsweep").unlink()
    typed = executable(tmp_path / "home" / "pinnsweep")
    monkeypatch.setattr(sys, "argv", [str(typed)])
    assert own_name() == str(typed)
    monkeypatch.setenv("PATH", str(typed.parent))
    assert own_name() == "pinnsweep"


def test_it_is_the_interpreter_where_there_is_no_script(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (environment / "pinnsweep").unlink()
    assert own_name() == f"'{environment}/python' -m sweeps.cli"
    monkeypatch.setenv("PATH", str(environment))
    assert own_name() == "python -m sweeps.cli"


def test_what_a_job_prints_can_be_called() -> None:
    """A job is started by the interpreter, as here."""
    code = "import subprocess, sys\nfrom sweeps.own_name import own_name\n"
    code += "sys.exit(subprocess.call(f'{own_name()} --version', shell=True))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.startswith("pinnsweep ")
