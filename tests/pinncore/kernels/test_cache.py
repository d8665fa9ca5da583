"""Compiled kernels have a place wherever something can be written, and are never those of other sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
import pytest
from numba.core import config

import pinncore
from pinncore.errors import PinnError
from pinncore.kernels import cache
from pinncore.kernels.cache import generated_module, kept, kernel_digest, kernel_folder
from tests.cluster.waiting import WAIT_S


def double(x: float) -> float:
    return 2.0 * x


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of a process that can write neither beside its code nor into its home."""
    closed = tmp_path / "closed"
    closed.touch()  # no folder can be made below a file
    monkeypatch.setattr(cache, "_places", lambda: [closed, closed / "user"])
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cache._folder.cache_clear()
    yield tmp_path
    cache._folder.cache_clear()


def test_kernels_are_kept_in_a_temporary_folder_of_the_user_alone(temporary: Path) -> None:
    folder = temporary / f"pinncore-kernels-{os.getuid()}"
    kernel = kept()(double)
    assert kernel(4.0) == 8.0
    assert folder in Path(kernel.stats.cache_path).parents and list(folder.rglob("*.nbi"))
    assert folder.stat().st_mode & 0o777 == 0o700
    again = kept()(double)
    assert again(4.0) == 8.0 and again.stats.cache_hits
    assert config.CACHE_DIR == ""


@pytest.mark.parametrize("taken", ["open to all", "a link", "a file"])
def test_what_others_can_write_to_is_refused_in_one_sentence(temporary: Path, taken: str) -> None:
    """Whoever can write there can run code as this user."""
    folder = temporary / f"pinncore-kernels-{os.getuid()}"
    if taken == "a link":
        (temporary / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(temporary / "elsewhere")
    elif taken == "a file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(PinnError, match=r"Set NUMBA_CACHE_DIR"):
        kept()(double)


def test_the_folder_that_the_user_names_is_used(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(temporary / "own"))
    assert str(temporary / "own") in kept()(double).stats.cache_path
    assert kernel_folder() == temporary / "own" / f"kernels-{kernel_digest()}"
    assert sorted(path.name for path in temporary.iterdir()) == ["closed", "own"]


def test_a_generated_module_is_never_an_old_file(temporary: Path) -> None:
    path = kernel_folder() / "residual_0.py"
    path.write_text("value = 1\n")  # half written, or changed by somebody
    try:
        assert generated_module("residual_0", "value = 2\n").value == 2
        assert path.read_text() == "value = 2\n" and generated_module("residual_0", "value = 2\n").value == 2
    finally:
        sys.modules.pop("residual_0")
    assert [each.suffix for each in kernel_folder().glob("residual_0*")] == [".py"]


@pytest.mark.parametrize("library", [numba, llvmlite])
def test_another_version_of_a_library_has_another_folder(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kernel_digest.__wrapped__()
    monkeypatch.setattr(library, "__version__", "99.0")
    assert kernel_digest.__wrapped__() != before


def test_another_processor_has_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kernel_digest.__wrapped__()
    monkeypatch.setattr(cache.llvmlite.binding, "get_host_cpu_name", lambda: "another")
    assert kernel_digest.__wrapped__() != before


KERNEL = """
import numpy as np
from pinncore.kernels import cache, simd

@cache.kept()
def rounded(x):
    simd.store(x, 0, simd.floor(simd.load(x, 0)))

x = np.full(64, 1.5)
rounded(x)
print(x[0], sum(rounded.stats.cache_hits.values()))
"""


def test_an_edit_of_what_a_kernel_calls_compiles_it_anew(tmp_path: Path) -> None:
    """Numba itself looks at the file of the kernel only, and would answer from its cache."""
    package = tmp_path / "pinncore"
    shutil.copytree(Path(pinncore.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "datasets"))
    script, simd = tmp_path / "kernel.py", package / "kernels" / "simd.py"
    script.write_text(KERNEL)

    def run() -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        environment.pop("NUMBA_CACHE_DIR", None)
        command = [sys.executable, "-B", str(script)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=WAIT_S
        ).stdout.split()

    assert [run(), run()] == [["1.0", "0"], ["1.0", "1"]]
    simd.write_text(simd.read_text().replace('_elementwise("floor")', '_elementwise("ceil")'))
    assert run() == ["2.0", "0"]
