"""Homes of studies in an object store, on a machine that has no place for them."""

from __future__ import annotations

import pytest

from sweeps.errors import StudyError
from sweeps.study.home import worker_home


def test_a_cache_that_cannot_be_made_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/missing")
    with pytest.raises(StudyError, match=r"cannot be made .* Set XDG_CACHE_HOME to a folder that can be written to$"):
        worker_home("s3://bucket/runs/a")
