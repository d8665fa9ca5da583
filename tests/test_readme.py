"""What the README tells a reader to type, is understood; what it says is there, is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from sweeps.cli import app
from sweeps.spec import load_spec, parse_spec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"(?:^    .*\n(?:^\n(?=    ))?)+", README, flags=re.MULTILINE)
COMMANDS = [
    line.strip() for block in BLOCKS for line in block.splitlines() if "pinnsweep " in line and "import" not in line
]


def test_the_readme_has_commands_to_test() -> None:
    assert len(COMMANDS) >= 10


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
    (text,) = [block for block in BLOCKS if block.startswith("    study:")]
    yaml = "\n".join(line[4:] for line in text.splitlines() if "pinnsweep" not in line)
    assert len(yaml.strip().splitlines()) == 12, "twelve lines are enough"
    spec = parse_spec(yaml, base=tmp_path)
    assert spec.study == "widths" and spec.warnings == ()


def test_the_python_of_the_readme_runs() -> None:
    (text,) = [block for block in BLOCKS if "pinncore.train" in block]
    code = "\n".join(line[4:] for line in text.splitlines())
    short = code.replace("adam_epochs=500", "adam_epochs=2").replace("lbfgs_iterations=300", "lbfgs_iterations=1")
    assert short != code
    exec(compile(short, "README.md", "exec"), {"print": lambda *words: None})


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_each_linked_file_exists(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda file: file.name)
def test_each_example_is_valid(file: Path) -> None:
    assert load_spec(file).space


def test_the_quickstart_sweeps_the_five_dimensions_with_sixteen_trials() -> None:
    spec = load_spec(ROOT / "examples" / "quickstart.yaml")
    assert {"width", "adam_lr", "lbfgs_history", "init", "scale_factor"} <= set(spec.space)
    assert (spec.search.trials or 0) >= 16 and spec.problem["data"] == "strb100"
