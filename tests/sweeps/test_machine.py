"""What a process knows of its machine."""

from __future__ import annotations

import os
import pwd
from typing import Any

import pytest

from sweeps.machine import ensure_home


def no_entry(uid: int) -> Any:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


@pytest.mark.parametrize("home", ["/home/me", "", "/", "/nowhere"])
def test_a_home_that_is_named_is_kept(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    ensure_home()
    assert os.environ["HOME"] == home


def test_the_home_of_the_list_of_users_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    ensure_home()
    assert "HOME" not in os.environ


def test_a_user_without_a_home_has_that_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    ensure_home()
    assert os.environ["HOME"] == "/"
