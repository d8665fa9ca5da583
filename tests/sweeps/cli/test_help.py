"""What `--help` says of every command: its examples, its options, and that both hold at any width."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from sweeps.cli.app import COMMANDS
from sweeps.cli.examples import EXAMPLES, examples_of
from sweeps.cli.help_text import every_command, examples, options, summary
from tests.tour import check_command, program

GROUP: Any = program()
CONTEXT: Any = GROUP.make_context("pinnsweep", ["status"])
EVERY = dict(every_command(GROUP, CONTEXT))
SHARED = ("--json", "--force", "--cpus", "--address", "--plain", "--trials", "--state", "--time-limit")
ROOTS = {  # the other folders that --root may be
    "Folder or URI of the studies there (default: that of the profile).",
    "Folder with the jobs of this machine. [default: runs]",
}


def help_of(words: str = "", width: int = 80) -> str:
    """Return the help of a command, of the program where it is none, on a terminal of so many columns."""
    command, path, options = GROUP, "pinnsweep", {"terminal_width": width - 2, "resilient_parsing": True}
    context = command.make_context(path, [], **options)
    for word in words.split():
        command = command.get_command(context, word)
        context = command.make_context(word, [], parent=context, **options)
    return str(command.get_help(context))


@pytest.mark.parametrize("words", ["", *EVERY])
def test_every_command_has_one_to_four_examples(words: str) -> None:
    assert 1 <= len(examples_of(words).splitlines()) <= 4


def test_every_example_is_of_a_command() -> None:
    assert set(EXAMPLES) == {"", *EVERY}


@pytest.mark.parametrize("words", EXAMPLES)
def test_examples_are_understood_and_call_the_command_that_they_explain(words: str) -> None:
    for line in examples_of(words).splitlines():
        assert line.startswith(f"pinnsweep {words}".rstrip())
        check_command(line)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("words", EXAMPLES)
def test_examples_are_lines_that_can_be_copied_at_any_width(words: str, width: int) -> None:
    lines = [f"  {line}" for line in examples_of(words).splitlines()]
    assert help_of(words, width).splitlines()[-len(lines) - 1 :] == [
        "Examples:" if words else "To begin:",
        *lines,
    ]
    assert max(map(len, lines)) <= 88, "a comment that wraps is hard to read"


def test_the_program_lists_its_commands_by_purpose() -> None:
    lines = help_of().splitlines()
    assert [line.rstrip(":") for line in lines if line.rstrip(":") in COMMANDS] == list(COMMANDS)
    for words, command in EVERY.items():
        if " " not in words:
            assert f"  {words:<12}  {summary(command)}" in lines, "each sentence fits its line"


@pytest.mark.parametrize("words", EVERY)
def test_every_value_of_an_option_has_a_name_and_every_choice_is_told(words: str) -> None:
    command = EVERY[words]
    told = {name.split()[0].rstrip(","): f"{name} {meaning}" for name, meaning in options(command, CONTEXT)}
    for parameter in command.params:
        if parameter.hidden:
            continue
        assert parameter.help, f"{parameter.name} has no help"
        if parameter.param_type_name == "argument":
            assert parameter.metavar
        elif not parameter.is_flag:
            choices = [choice.value for choice in parameter.shell_complete(CONTEXT, "")]
            assert parameter.metavar or choices, f"{parameter.name} has no metavar"
            assert [choice for choice in choices if choice not in told[min(parameter.opts, key=len)]] == []


def test_what_commands_share_is_said_alike() -> None:
    said = defaultdict(set)
    for command in EVERY.values():
        for name, meaning in options(command, CONTEXT):
            said[name.split()[0].rstrip(",")].add(meaning.partition(" [default")[0])
    assert {name: len(said[name]) for name in SHARED} == dict.fromkeys(SHARED, 1)
    assert len(said["--root"] - {root.partition(" [default")[0] for root in ROOTS}) == 1


def test_a_required_option_is_in_the_usage() -> None:
    assert help_of("weights").startswith("Usage: pinnsweep weights [OPTIONS] STUDY TRIAL -o FILE\n")
    assert help_of("gc").startswith("Usage: pinnsweep gc [OPTIONS] [STUDY]...\n")
    assert help_of("data build").startswith("Usage: pinnsweep data build [OPTIONS] SPECIMEN --increment N...\n")


def test_defaults_are_told_once() -> None:
    for command in EVERY.values():
        for name, meaning in options(command, CONTEXT):
            assert meaning.lower().count("default:") <= 1, name
    assert ("--port N", "Port; 0 takes a free one. [default: 8080]") in options(EVERY["dashboard"], CONTEXT)
    assert examples(EVERY["compact"]) == ["pinnsweep compact runs/widths"]
