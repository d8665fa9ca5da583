"""docs/commands.md: its tour works as it is typed, and its reference is what the commands say of themselves.

`python -m tests.test_commands` brings the reference up to date.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from sweeps.cli.help_text import arguments, every_command, examples, options, panels, usage
from tests import ROOT

from .sweeps.invoking import StandIn
from .sweeps.invoking import stand_in as stand_in
from .tour import commands_of, executed_here, executed_really, program, tour
from .tour import folder as folder

PAGE = ROOT / "docs" / "commands.md"
TOUR, HEADING, REFERENCE = PAGE.read_text().partition("## Every command\n")
EXECUTED = ("A study", "Results", "One trial", "More of a study")  # the sections that need no cluster
LONG = "error-budget"  # trains for half a minute; the tour of the README executes it, too
UP_TO_DATE = "python -m tests.test_commands brings docs/commands.md up to date"


def documented_commands() -> str:
    """Return the reference of docs/commands.md, made from the commands."""
    group = program()
    context = group.make_context("pinnsweep", ["status"])
    every = dict(every_command(group, context))
    lines = [
        "",
        "Words in brackets can be left out, dots mean that a word can be repeated. `--help` prints the same.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {purpose} | {', '.join(_links(rows, every))} |" for purpose, rows in panels(group, context).items()),
    ]
    for words, command in every.items():
        lines += ["", *_section(words, command, context)]
    return "\n".join(lines) + "\n"


def _links(rows: list[tuple[str, str]], every: dict[str, Any]) -> list[str]:
    """Return links to the sections of commands; a group stands for its commands."""
    found = [words for name, _ in rows for words in every if words.split()[0] == name]
    return [f"[{words}](#pinnsweep-{words.replace(' ', '-')})" for words in found]


def _section(words: str, command: Any, context: Any) -> list[str]:
    paragraphs = [" ".join(each.split()) for each in inspect.cleandoc(command.help).split("\n\n")]
    rows = [*arguments(command), *options(command, context)]
    lines = [f"### `pinnsweep {words}`", "", f"`pinnsweep {' '.join([words, *usage(command)])}`", ""]
    lines += ["\n\n".join(paragraphs), ""]
    if table := [f"| `{_cell(name)}` | {_cell(meaning)} |" for name, meaning in rows if "--help" not in name]:
        lines += ["| | |", "|---|---|", *table, ""]
    return [*lines, "```sh", *examples(command), "```"]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def test_the_reference_is_what_the_commands_say() -> None:
    assert documented_commands() == REFERENCE, UP_TO_DATE


@pytest.mark.timeout(300)
def test_the_tour_is_executed(folder: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [step for step in tour(TOUR, EXECUTED) if not step.text.startswith(f"pinnsweep {LONG} ")]
    executed_here(steps, folder, stand_in, monkeypatch)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(1800)
def test_the_tour_is_executed_by_the_real_command(folder: Path) -> None:
    executed_really(tour(TOUR, EXECUTED), folder)


def test_the_tour_shows_every_command_that_needs_no_file_of_another_program() -> None:
    shown = {line.split()[1] for line in commands_of(TOUR)}
    context = program().make_context("pinnsweep", ["status"])
    every = {words.split()[0] for words, _ in every_command(program(), context)}
    assert every - shown <= {"init", "problem", "schema", "data", "parity", "track"}, "those have pages of their own"


if __name__ == "__main__":
    PAGE.write_text(TOUR + HEADING + documented_commands())
