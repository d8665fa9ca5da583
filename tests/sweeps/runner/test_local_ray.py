"""Ray on a machine whose surroundings are unusual: long paths, no home, a current folder full of modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.errors import StudyError
from sweeps.runner import local_ray
from sweeps.runner.local_ray import TOKEN, job_config, own_token, session_folder
from tests import ROOT

from ..clusters import command
from ..small import table

CASE = ROOT / "tests" / "cases" / "cwd-shadows-modules"
# of libraries, of this project, and of Python itself
MODULES = ("numpy", "ray", "torch", "pyarrow", "pydantic", "cluster", "sweeps", "pinncore", "random", "types", "signal")


def as_long_as(parent: Path, length: int) -> Path:
    """Make a folder whose path has `length` bytes."""
    folder = parent / ("x" * (length - len(str(parent)) - 1))
    folder.mkdir()
    return folder


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for temporary files with a short path."""
    folder = tempfile.mkdtemp(dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder)


class TestFolder:
    @pytest.fixture(autouse=True)
    def without_ray_tmpdir(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RAY_TMPDIR", raising=False)

    @pytest.mark.parametrize(("length", "fits"), [(39, True), (40, False), (90, False), (200, False)])
    def test_paths_of_sockets_have_at_most_107_bytes(
        self, short: Path, monkeypatch: pytest.MonkeyPatch, length: int, fits: bool
    ) -> None:
        folder = as_long_as(short, length)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        assert (session_folder() == f"{folder}/ray") is fits
        assert len(f"{session_folder()}/session_2026-11-28_14-18-03_598308_4194304/sockets/plasma_store") <= 107

    def test_letters_of_several_bytes_count_as_such(self, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = short / ("é" * 12)
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        assert len(str(folder)) < 39 and session_folder() == "/tmp/ray"

    @pytest.mark.parametrize("chosen", ["/proc/missing", "/dev/null", f"/tmp/{'x' * 90}"])
    def test_a_folder_of_the_user_that_cannot_be_used_is_one_sentence(
        self, monkeypatch: pytest.MonkeyPatch, chosen: str
    ) -> None:
        monkeypatch.setenv("RAY_TMPDIR", chosen)
        with pytest.raises(StudyError, match=r"^RAY_TMPDIR: must be .* at most 39 bytes .*, got '/"):
            session_folder()

    def test_no_folder_at_all_is_one_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local_ray, "_OTHERS", ("/proc/missing",))
        monkeypatch.setattr(tempfile, "tempdir", f"/tmp/{'x' * 90}")
        monkeypatch.setenv("TMPDIR", f"/tmp/{'x' * 90}")
        with pytest.raises(StudyError, match=r"^TMPDIR: must be a folder that can be written to"):
            session_folder()


class TestToken:
    @pytest.mark.parametrize("given", [None, "", " "])
    def test_a_cluster_has_one_of_its_own(self, monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
        if given is None:
            monkeypatch.delenv(TOKEN, raising=False)
        else:
            monkeypatch.setenv(TOKEN, given)
        tokens = set()
        for _ in range(2):
            with own_token():
                tokens.add(os.environ[TOKEN])
            assert TOKEN not in os.environ
        assert len(tokens) == 2 and all(len(token) == 64 for token in tokens)

    def test_a_token_of_the_user_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(TOKEN, "mine")
        with own_token():
            assert os.environ[TOKEN] == "mine"
        assert os.environ[TOKEN] == "mine"


class TestImports:
    def test_workers_do_not_look_into_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        config = job_config()
        assert config._py_driver_sys_path == []
        assert config._runtime_env_has_working_dir()  # so that Ray adds none

    def test_workers_find_this_code_where_it_lies_in_the_current_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        assert job_config()._py_driver_sys_path == [str(ROOT)]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_study_runs_in_unusual_surroundings(tmp_path: Path, short: Path) -> None:
    """A long TMPDIR, a home that nobody can write to, and modules in the current folder, all at once."""
    case = shutil.copytree(CASE.parent, tmp_path / "cases") / CASE.name
    for name in MODULES:
        (case / f"{name}.py").write_text(f"raise SystemExit('{name} of the current folder was imported')\n")
    words = command("run", "small.yaml", "--root", tmp_path, "--cpus", "1", "--plain")
    environment = {**os.environ, "TMPDIR": str(as_long_as(short, 200)), "HOME": "/proc/missing"}
    for name in (TOKEN, "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_TMPDIR", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    started = [words[0], "-P", *words[1:]]  # as the script `pinnsweep`, which does not look into the current folder
    ended = subprocess.run(started, cwd=case, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert table(tmp_path / "small", "trials")["state"].to_pylist() == ["COMPLETE", "COMPLETE"]


def test_the_command_as_a_module_does_not_import_from_the_current_folder(tmp_path: Path) -> None:
    for name in ("numpy", "pydantic", "yaml", "typer", "cluster", "pinncore", "random"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the current folder was imported')\n")
    (tmp_path / "a.yaml").write_text("study: a\nsearch: {trials: 1}\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command("validate", "a.yaml"), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "a.yaml: valid" in ended.stdout
