"""What a document tells a reader to type, as steps that a test executes in an empty folder.

A document shows commands, study files and Python in indented or fenced blocks. `tour` reads those of some of its
sections, with fewer epochs and trials. `executed_here` trains all packs in this process, `executed_really` calls the
real command on a real Ray.
"""

from __future__ import annotations

import functools
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import pytest
from typer.main import get_command

from sweeps.cli.app import app
from sweeps.study.study_file import open_reader
from tests import ROOT

from .cluster.waiting import WAIT_S
from .processes import line_of, started
from .sweeps.clusters import wait_for
from .sweeps.invoking import StandIn, invoke, run_here

INDENTED = r"(?:^    .*\n(?:^\n(?=    ))?)+"
FENCED = r"^```\w*\n(?:.*\n)*?```\n"
BLOCK = re.compile(f"{FENCED}|{INDENTED}", flags=re.MULTILINE)
SHORTER = {  # what is too long for a test, and what stands for it
    r"((?:epochs|iterations)[:=] ?)(\d+)": lambda n: max(2, n // 250),
    r"(trials[:= ] ?)(\d+)": lambda n: 12 + n // 16,
    r"(extend[ (](?:\S+ )?)(\d+)": lambda n: max(2, n // 16),
}
ONCE = ("plan", "report", "error-budget")  # take many seconds: `executed_here` executes the first of each
AT_REST = {  # commands about what a study at rest, without failures, does not have
    "stop": "is not running",
    "retry": "there is no failed trial",
}


@dataclass(frozen=True)
class Step:
    """A part of a tour: a command's words, a study file, or Python."""

    kind: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)[1:]


def tour(text: str, sections: Sequence[str]) -> list[Step]:
    """Return the steps of these sections of a document, in their order."""
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    steps = [step for name in sections for block in blocks_of(parts[name]) for step in _steps_of_block(block)]
    return [Step(step.kind, shorter(step.text)) for step in steps]


def blocks_of(text: str) -> Iterator[str]:
    """Yield the blocks of a document without their indents and fences."""
    for block in BLOCK.findall(text):
        lines = block.splitlines()
        yield "\n".join(lines[1:-1] if block.startswith("```") else [line[4:] for line in lines])


def commands_of(text: str) -> list[str]:
    """Return the commands in the blocks of a document."""
    lines = (line.strip() for block in blocks_of(text) for line in block.splitlines())
    return [line for line in lines if re.match(r"(\S*/)?pinnsweep ", line)]


def _steps_of_block(block: str) -> list[Step]:
    paragraphs = [block] if block.startswith("import ") else block.split("\n\n")
    return [step for paragraph in paragraphs for step in steps_of(paragraph)]


def steps_of(paragraph: str) -> list[Step]:
    """Return the steps of a paragraph; what is neither command, study file, Python nor a listing fails the test."""
    if paragraph.startswith("import "):
        return [Step("python", paragraph)]
    if paragraph.startswith("study:"):
        return [Step("file", paragraph)]
    if paragraph.startswith("runs/"):
        return []
    if paragraph.strip() == "make demo":
        recipe = (ROOT / "Makefile").read_text().partition("\ndemo:")[2].partition("\n\n")[0]
        return [Step("command", line.strip()) for line in recipe.splitlines() if line.startswith("\t$(BIN)/pinnsweep")]
    steps = [Step("command", line) for line in paragraph.splitlines() if not line.startswith("pip install")]
    assert all(Path(step.text.split()[0]).name == "pinnsweep" for step in steps), paragraph
    return steps


def shorter(text: str) -> str:
    """Return a text with fewer epochs, iterations and trials."""
    for pattern, less in SHORTER.items():
        text = re.sub(pattern, lambda found, less=less: f"{found[1]}{less(int(found[2]))}", text)  # type: ignore[misc]
    return text


@functools.cache
def program() -> Any:
    """Return the program `pinnsweep` with its commands, which take a tenth of a second to be made."""
    return get_command(app)


def check_command(line: str) -> None:
    """Check that the command takes the words of a line; nothing is run."""
    words = shlex.split(line, comments=True)
    assert Path(words[0]).name == "pinnsweep"
    group = program()
    context = group.make_context("pinnsweep", words[1:])
    while True:  # `data check` is a command of a group within the group
        name, command, rest = group.resolve_command(context, context._protected_args + context.args)
        assert command is not None and name is not None
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        group = command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reader, with the examples beside it, a table of points to ask about and a trace."""
    monkeypatch.chdir(tmp_path)
    for file in (ROOT / "examples").glob("*.yaml"):
        (tmp_path / "examples").mkdir(exist_ok=True)
        (tmp_path / "examples" / file.name).write_text(shorter(file.read_text()))
    shutil.copy(ROOT / "examples" / "traces" / "tensorflow1_4-4-1.npz", tmp_path / "trace.npz")
    (tmp_path / "points.csv").write_text("x_mm,y_mm\n31.0,2.0\n40.0,1.0\n70.0,60.0\n")
    return tmp_path


def executed_here(steps: Sequence[Step], folder: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute steps in this process, without Ray."""

    def ended(server: WSGIServer) -> None:
        raise KeyboardInterrupt

    stand_in("sweeps.runner.driver", run=run_here)
    monkeypatch.setattr(WSGIServer, "serve_forever", ended)
    seen: set[str] = set()
    for step in steps:
        if step.kind == "file":
            _write_study(folder, step.text)
        elif step.kind == "python":
            exec(compile(step.text, "the document", "exec"), {"print": lambda *words: None})
        elif step.words[0] == "delete":
            code, output = with_answer([sys.executable, "-m", "sweeps.cli", *step.words], "y\n")
            assert code == 0, output
        elif not (step.words[0] in ONCE and step.words[0] in seen):
            seen.add(step.words[0])
            port = ["--port", "0"] if step.words[0] == "dashboard" else []
            result = invoke(*step.words, *port)
            expected = AT_REST.get(step.words[0])
            assert result.exit_code == (2 if expected else 0), f"{step.text}\n{result.output}"
            assert (expected or "") in result.output


def executed_really(steps: Sequence[Step], folder: Path) -> None:
    """Execute steps by the real command, each in a process of its own, on a real Ray."""
    command = [sys.executable, "-m", "sweeps.cli"]
    both: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    for step in steps:
        if step.kind == "file":
            _write_study(folder, step.text)
        elif step.kind == "python":
            _run(sys.executable, "-c", step.text)
        elif step.words[0] == "delete":
            code, output = with_answer([*command, *step.words], "y\n")
            assert code == 0, output
        elif step.words[0] == "dashboard":
            with started([*command, *step.words, "--port", "0", "--json"], **both) as process:
                address = json.loads(line_of(process))["url"]
                assert urllib.request.urlopen(address, timeout=60).status == 200
                process.send_signal(signal.SIGINT)
                assert process.wait(timeout=WAIT_S) == 0
        elif step.words[0] == "stop":
            study = Path(step.words[1])
            before = _starts(study)
            with started([*command, "extend", str(study), "64", "--plain"], **both) as process:
                wait_for(functools.partial(_has_begun, study, before), process)
                _run(*command, *step.words)
                assert process.wait(timeout=120) == 130
        else:
            expected = AT_REST.get(step.words[0])
            assert (expected or "") in _run(*command, *step.words, code=2 if expected else 0)


def with_answer(argv: Sequence[str], answer: str) -> tuple[int, str]:
    """Return exit code and output of a command that asks something on a terminal."""
    ours, theirs = pty.openpty()
    with started(argv, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        os.write(ours, answer.encode())
        output, _ = process.communicate(timeout=240)
    os.close(ours)
    os.close(theirs)
    return process.returncode, output


def _run(*argv: str, code: int = 0) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == code, f"{shlex.join(argv)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def _write_study(folder: Path, text: str) -> None:
    (folder / f"{text.splitlines()[0].partition(': ')[2]}.yaml").write_text(text + "\n")


def _starts(study_dir: Path) -> int:
    """Return how often a study was started; counted some seconds before its first worker trains."""
    with open_reader(study_dir) as reader:
        return int(reader.attributes()["attempts"])


def _has_begun(study_dir: Path, before: int) -> bool:
    return _starts(study_dir) > before
