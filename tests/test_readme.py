"""What the README tells a reader to type, works; what it says is there, is there.

The tour, from `make demo` to the last Python, is executed in an empty folder: its commands and files as they stand in
the README, but with fewer epochs and trials. In the fast tests all packs train in this process, in the slow one the
real command runs on a real Ray.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import pytest
from typer.main import get_command

from pinncore import Member, Pack
from sweeps.cli.app import app
from sweeps.spec.study_spec import build_settings
from sweeps.study.input_checks import warnings_of
from sweeps.study.loading import load_spec, load_text
from sweeps.study.study_file import open_reader
from tests import ROOT

from .cluster.waiting import WAIT_S
from .processes import line_of, started
from .sweeps.clusters import wait_for
from .sweeps.invoking import StandIn, invoke, run_here
from .sweeps.invoking import stand_in as stand_in
from .sweeps.spec.study_files import EXAMPLES

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"(?:^    .*\n(?:^\n(?=    ))?)+", flags=re.MULTILINE)
COMMANDS = [
    line.strip()
    for block in BLOCK.findall(README)
    for line in block.splitlines()
    if "pinnsweep " in line and "import" not in line
]
TOUR = ("See it work", "Your own study", "What is on disk", "From Python")  # sections that are executed
SHORTER = {  # what is too long for a test, and what stands for it
    r"((?:epochs|iterations)[:=] ?)(\d+)": lambda n: max(2, n // 250),
    r"(trials[:= ] ?)(\d+)": lambda n: 12 + n // 16,
    r"(extend[ (](?:\S+ )?)(\d+)": lambda n: max(2, n // 16),
}
ONCE = ("plan", "report")  # take seconds: the fast test executes the first of them
AT_REST = {  # commands about what a study at rest, without failures, does not have
    "stop": "is not running",
    "retry": "there is no failed trial",
}


@dataclass(frozen=True)
class Step:
    """A part of the tour: a command's words, a study file, or Python."""

    kind: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)[1:]


def tour() -> list[Step]:
    """The steps of the tour, in order."""
    sections = dict(part.split("\n", 1) for part in README.split("\n## ")[1:])
    steps = []
    for name in TOUR:
        for block in BLOCK.findall(sections[name]):
            lines = "\n".join(line[4:] for line in block.splitlines())
            paragraphs = [lines] if lines.startswith("import ") else lines.split("\n\n")
            steps += [step for paragraph in paragraphs for step in steps_of(paragraph)]
    return [Step(step.kind, shorter(step.text)) for step in steps]


def steps_of(paragraph: str) -> list[Step]:
    """The steps of one paragraph; what is neither command, study file, Python nor a listing fails the test."""
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
    for pattern, less in SHORTER.items():
        text = re.sub(pattern, lambda found, less=less: f"{found[1]}{less(int(found[2]))}", text)  # type: ignore[misc]
    return text


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


def write_study(folder: Path, text: str) -> None:
    (folder / f"{text.splitlines()[0].partition(': ')[2]}.yaml").write_text(text)


def with_answer(argv: list[str], answer: str) -> tuple[int, str]:
    """Exit code and output of a command that asks something on a terminal."""
    ours, theirs = pty.openpty()
    with started(argv, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        os.write(ours, answer.encode())
        output, _ = process.communicate(timeout=240)
    os.close(ours)
    os.close(theirs)
    return process.returncode, output


@pytest.mark.timeout(300)
def test_the_tour_is_executed(folder: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(server: WSGIServer) -> None:
        raise KeyboardInterrupt

    stand_in("sweeps.runner.driver", run=run_here)
    monkeypatch.setattr(WSGIServer, "serve_forever", ended)
    seen: set[str] = set()
    for step in tour():
        if step.kind == "file":
            write_study(folder, step.text)
        elif step.kind == "python":
            exec(compile(step.text, "README.md", "exec"), {"print": lambda *words: None})
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


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(1800)
def test_the_tour_is_executed_by_the_real_command(folder: Path) -> None:
    command = [sys.executable, "-m", "sweeps.cli"]
    both: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}

    def run(*argv: str, code: int = 0) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == code, f"{shlex.join(argv)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    for step in tour():
        if step.kind == "file":
            write_study(folder, step.text)
        elif step.kind == "python":
            run(sys.executable, "-c", step.text)
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
            before = starts(study)
            with started([*command, "extend", str(study), "64", "--plain"], **both) as process:
                wait_for(functools.partial(has_begun, study, before), process)
                run(*command, *step.words)
                assert process.wait(timeout=120) == 130
        else:
            expected = AT_REST.get(step.words[0])
            assert (expected or "") in run(*command, *step.words, code=2 if expected else 0)


def starts(study_dir: Path) -> int:
    """How often a study was started; counted some seconds before its first worker trains."""
    with open_reader(study_dir) as reader:
        return int(reader.attributes()["attempts"])


def has_begun(study_dir: Path, before: int) -> bool:
    return starts(study_dir) > before


def test_the_readme_has_commands_to_test() -> None:
    steps = tour()
    assert len(COMMANDS) >= 10 and len({step.words[0] for step in steps if step.kind == "command"}) >= 10
    assert sum(step.kind == "python" for step in steps) >= 3 and sum(step.kind == "file" for step in steps) == 1


def check_command(line: str) -> None:
    """Whether the command takes these words; nothing is run."""
    words = shlex.split(line, comments=True)
    assert Path(words[0]).name == "pinnsweep"
    group = get_command(app)
    context = group.make_context("pinnsweep", words[1:])
    name, command, rest = group.resolve_command(context, context._protected_args + context.args)  # type: ignore[attr-defined]
    assert command is not None and name is not None
    command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_understood(line: str) -> None:
    check_command(line)


def test_the_study_file_of_the_readme_is_valid(tmp_path: Path) -> None:
    (step,) = [step for step in tour() if step.kind == "file"]
    assert len(step.text.splitlines()) == 12, "twelve lines are enough"
    spec = load_text(step.text, base=tmp_path)
    assert spec.study == "widths" and warnings_of(spec) == ()


def test_the_equation_of_the_readme_trains(tmp_path: Path) -> None:
    """Its class, in a file of its own, in the study that the text beside it describes."""
    (text,) = re.findall(r"```python\n(.*?)```", README[README.index("## Your own equation") :], flags=re.DOTALL)
    (problem,) = re.findall(r"`(problem: \{name: reaction.*?\})`", README)
    (tmp_path / "reaction.py").write_text(text)
    objective = "objective: heldout_residual"
    assert objective in README
    study = f"study: own\n{problem}\nsearch: {{sampler: random, trials: 2, {objective}}}\n"
    rest = "space: {rate: {uniform: [1, 4]}}\ntrain: {width: 4, epochs: 3, iterations: 2}\n"
    spec = load_text(study + rest, base=tmp_path)
    train, reaction = build_settings(spec.config({"rate": 2.0}), spec.source)
    result = Pack([Member(train, reaction)], device="cpu")
    result.step(100)
    assert result.results[0].terms.keys() == {"heat", "walls", "start"}
    assert result.results[0].metrics["heldout_residual"] is not None


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_each_linked_file_exists(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_each_example_is_valid(file: Path) -> None:
    spec = load_spec(file)
    assert spec.space or spec.listed


def test_the_quickstart_sweeps_the_five_dimensions_with_sixteen_trials() -> None:
    spec = load_spec(ROOT / "examples" / "quickstart.yaml")
    assert {"width", "adam_lr", "lbfgs_history", "init", "scale_factor"} <= set(spec.space)
    assert (spec.search.trials or 0) >= 16 and spec.problem["data"] == "strb100"
