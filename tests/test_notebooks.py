"""The notebooks of `examples/` are stored without outputs and run from top to bottom, with smaller numbers.

Each is executed in a kernel of its own, in an empty folder, as Jupyter and VS Code do it.
"""

from __future__ import annotations

import asyncio
import html
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

import sweeps
from tests import ROOT

FOLDER = ROOT / "examples"
NAMES = ("first_sweep", "own_equation", "parity_hunt")
SHORTER = {  # what is too long for a test, and what stands for it
    r'("trials": )10': r"\g<1>4",
    r'("epochs": )300': r"\g<1>40",
    r'("iterations": )\d+': r"\g<1>60",
    r"(epochs=)\d+": r"\g<1>40",
}
CELL_S = 200  # for one cell, on a busy machine
VIEW = "pinnsweep-"  # begins the display ids of our progress

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _pictures_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a kernel choose how it draws, as Jupyter does."""
    monkeypatch.delenv("MPLBACKEND")


class Kernel(NotebookClient):
    """A client that keeps which displays were made and which were updated; `heard` is told each message."""

    def __init__(self, notebook: NotebookNode, folder: Path, **options: Any) -> None:
        resources = {"metadata": {"path": str(folder)}}
        super().__init__(notebook, timeout=CELL_S, kernel_name="python3", resources=resources, **options)
        self.made: list[str] = []
        self.updated: list[str] = []
        self.heard: Callable[[dict[str, Any]], None] = lambda message: None

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        display_id = str(msg["content"].get("transient", {}).get("display_id", ""))
        if display_id.startswith(VIEW):
            (self.updated if msg["msg_type"] == "update_display_data" else self.made).append(display_id)
        self.heard(msg)
        return super().process_message(msg, cell, cell_index)


def read(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def shortened(name: str) -> NotebookNode:
    notebook = read(name)
    for cell in notebook.cells:
        for pattern, less in SHORTER.items():
            cell.source = re.sub(pattern, less, cell.source)
    return notebook


def outputs(notebook: NotebookNode, kind: str = "text/plain") -> list[str]:
    """The outputs of all cells in one format, in order; what is printed counts as text."""
    every = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = [output.get("text") if kind == "text/plain" else None for output in every]
    return [text or output.get("data", {}).get(kind) for text, output in zip(printed, every, strict=True)]


def text_of(notebook: NotebookNode) -> str:
    return "\n".join(text for text in outputs(notebook) if text)


def executed(name: str, folder: Path) -> tuple[NotebookNode, Kernel]:
    """Execute a notebook; a cell that raises fails the test. The kernel ends in any case."""
    shutil.copytree(FOLDER / "traces", folder / "traces")
    notebook = shortened(name)
    kernel = Kernel(notebook, folder)
    kernel.execute()
    return notebook, kernel


def check_progress(notebook: NotebookNode, kernel: Kernel) -> None:
    """Progress was displayed once, updated in place, and its last state is what the cell with the run shows."""
    assert len(kernel.made) == 1 and len(kernel.updated) >= 2 and set(kernel.updated) == set(kernel.made)
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and "sweeps.run(" in cell.source]
    view = cell.outputs[0]
    assert view.output_type == "display_data" and "4/4 trials" in view.data["text/plain"]
    assert all(output.output_type == "execute_result" for output in cell.outputs[1:]), "nothing else is printed"


@pytest.mark.parametrize("name", NAMES)
def test_each_is_stored_without_outputs(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 5 and notebook.cells[0].source.startswith("# ")
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_these_are_all() -> None:
    assert {file.stem for file in FOLDER.rglob("*.ipynb")} == set(NAMES)


def test_the_first_sweep(tmp_path: Path) -> None:
    notebook, kernel = executed("first_sweep", tmp_path)
    check_progress(notebook, kernel)
    study = sweeps.open(tmp_path / "runs" / "first")
    by_hand, stored = re.findall(r"(\S+)% by hand, (\S+)% in the study", text_of(notebook))[0]
    assert by_hand == stored == f"{100 * study.best()['value']:.4f}"
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")
    assert any(outputs(notebook, "image/png"))
    pages = [page for page in outputs(notebook, "text/html") if page and "<iframe" in page]
    (source,) = [re.search('srcdoc="([^"]*)"', page) for page in pages]
    assert source and html.unescape(source[1]) == (study.path / "report.html").read_text()
    assert "seed alone changes results" in text_of(notebook)


def test_an_own_equation(tmp_path: Path) -> None:
    notebook, kernel = executed("own_equation", tmp_path)
    check_progress(notebook, kernel)
    rows = re.findall(r"x = +(\S+): predicted (\S+), exact (\S+)", text_of(notebook))
    assert len(rows) == 5
    study = sweeps.open(tmp_path / "runs" / "fisher")
    exact = [float(row[2]) for row in rows]
    assert exact == sorted(exact, reverse=True) and 0 < exact[-1] < exact[0] < 1  # a front that falls to the right
    assert study.best()["value"] < 0.05 and all(abs(float(row[1]) - float(row[2])) < 0.05 for row in rows)


def test_a_parity_hunt(tmp_path: Path) -> None:
    notebook, kernel = executed("parity_hunt", tmp_path)
    assert kernel.made == []  # nothing is swept
    text = text_of(notebook)
    assert "part at weights W1 at step 1" in text and "adam_convention: tf1: nothing left" in text
    assert "agrees: True" in text and any(outputs(notebook, "image/png"))
    torch, tf1 = re.findall(r"(?:torch|tf1) +loss (\S+)", text)
    assert torch != tf1 and float(torch) == pytest.approx(float(tf1), rel=1e-3)  # they differ, and hardly


LONG_RUN = """\
import sweeps

spec = {
    "study": "long",
    "problem": {"name": "regression", "points": 256},
    "search": {"trials": 4},
    "space": {"adam_lr": {"loguniform": [1e-3, 1e-2]}},
    "train": {"epochs": 1_500_000, "iterations": 2},
}
sweeps.run(spec, root="runs")
"""


@pytest.mark.slow
def test_an_interrupted_kernel_saves(tmp_path: Path) -> None:
    """Interrupting the kernel stops the run with `StoppedError`, which is shown without a traceback."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LONG_RUN)])
    kernel = Kernel(notebook, tmp_path, allow_errors=True)
    interruptions: list[asyncio.Task[None]] = []

    def interrupt(message: dict[str, Any]) -> None:
        is_training = "in training" in message["content"].get("data", {}).get("text/plain", "")
        if is_training and not interruptions:
            assert kernel.km is not None
            interruptions.append(asyncio.ensure_future(kernel.km.interrupt_kernel()))

    kernel.heard = interrupt
    kernel.execute()
    assert interruptions
    view, error = notebook.cells[0].outputs
    assert error.output_type == "error" and error.ename == "StoppedError"
    assert len(error.traceback) == 1 and "run it again to resume" in error.traceback[0]
    assert "Stopping: finishing and saving" in view.data["text/plain"] and len(kernel.made) == 1
    status = sweeps.open(tmp_path / "runs" / "long").status()
    assert status["held_by"] is None and status["saved"] and status["saved"][0]["share"] > 0
