"""Compiled kernels have a place also where neither the installation nor the home can be written to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from numba.core import caching, config

from pinncore.errors import PinnError
from pinncore.kernels.cache import kept


def double(x: float) -> float:
    return 2.0 * x


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of a process that can write neither beside its code nor into its home."""

    def refuse(self: Any) -> None:
        raise PermissionError(13, "Permission denied")

    for locator in (caching.InTreeCacheLocator, caching.UserWideCacheLocator):
        monkeypatch.setattr(locator, "ensure_cache_path", refuse)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_kernels_are_kept_in_a_temporary_folder_of_the_user_alone(temporary: Path) -> None:
    folder = temporary / f"pinncore-kernels-{os.getuid()}"
    kernel = kept()(double)
    assert kernel(4.0) == 8.0
    assert folder in Path(kernel.stats.cache_path).parents and list(folder.rglob("*.nbi"))
    assert folder.stat().st_mode & 0o777 == 0o700
    again = kept()(double)
    assert again(4.0) == 8.0 and again.stats.cache_hits


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


def test_a_writable_place_beside_the_code_is_used(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(temporary / "own"))
    assert str(temporary / "own") in kept()(double).stats.cache_path
    assert [path.name for path in temporary.iterdir()] == ["own"]
