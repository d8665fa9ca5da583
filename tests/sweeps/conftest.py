"""One browser per test process for all tests of pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .chromium import Browser, chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; skips where this machine has none. Give such tests the mark `xdist_group("chromium")`."""
    with chromium() as running:
        yield running
