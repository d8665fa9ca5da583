"""What `--help` says: usage, arguments, options and examples of a command, the same for every version of typer.

The words come from the command itself: metavars, help and defaults of its parameters. docs/commands.md is made of the
same parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

PANEL_OF_OTHERS: Final = "Other commands"  # of a group whose commands have no panel


class _Helpful:
    """Replaces the parts of a help page that typer words for programmers, such as `<list[Path]>` and `[[NAME]]`."""

    examples_heading = "Examples"

    def get_short_help_str(self, limit: int = 0) -> str:
        return summary(self)  # whole, for shells that show it beside what they complete

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return usage(self)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for heading, rows in (("Arguments", arguments(self)), ("Options", options(self, ctx))):
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
        if isinstance(self, TyperGroup):
            purposes = panels(self, ctx)
            length = max((len(name) for rows in purposes.values() for name, _ in rows), default=0)
            for heading, rows in purposes.items():
                with formatter.section(heading):
                    formatter.write_dl([(name.ljust(length), text) for name, text in rows])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples as they are: a command that is broken into two lines cannot be copied."""
        if lines := examples(self):
            with formatter.section(self.examples_heading):
                formatter.write("".join(f"  {line}\n" for line in lines))


class HelpfulCommand(_Helpful, TyperCommand):
    """A command of a group."""


class HelpfulGroup(_Helpful, TyperGroup):
    """A group of commands, listed below the purposes that they serve."""


def summary(command: Any) -> str:
    """Return the first sentence of a command's help."""
    return str(command.help or "").partition("\n\n")[0].replace("\n", " ")


def usage(command: Any) -> list[str]:
    """Return what may follow the name of a command: options, arguments, and the options that it cannot do without."""
    last = ["COMMAND [ARGUMENTS]..."] if isinstance(command, TyperGroup) else []
    required = [each for each in command.params if each.param_type_name == "option" and each.required]
    return ["[OPTIONS]", *map(_usage_of, _arguments(command)), *map(_required_option, required), *last]


def arguments(command: Any) -> list[tuple[str, str]]:
    """Return the arguments of a command and their meanings."""
    return [(argument.metavar or argument.name.upper(), _meaning(argument)) for argument in _arguments(command)]


def options(command: Any, ctx: Any) -> list[tuple[str, str]]:
    """Return the options of a command with their values, `-o, --output FILE`, and their meanings; --help is last."""
    shown = [each for each in command.get_params(ctx) if each.param_type_name == "option" and not each.hidden]
    return [(_option(each), _meaning(each)) for each in shown]


def examples(command: Any) -> list[str]:
    """Return the lines of a command's examples."""
    return str(command.epilog or "").splitlines()


def panels(group: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """Return the commands of a group and their summaries by the purpose that they serve."""
    by_purpose: dict[str, list[tuple[str, str]]] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if not command.hidden:
            by_purpose.setdefault(command.rich_help_panel or PANEL_OF_OTHERS, []).append((name, summary(command)))
    return by_purpose


def every_command(group: Any, ctx: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the commands of a group, also of groups within it, by the words that call them: `data check`."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        words = f"{path} {name}".strip()
        if isinstance(command, TyperGroup):
            yield from every_command(command, ctx, words)
        elif not command.hidden:
            yield words, command


def _arguments(command: Any) -> list[Any]:
    return [each for each in command.params if each.param_type_name == "argument" and not each.hidden]


def _usage_of(argument: Any) -> str:
    """Return an argument as the usage shows it: in brackets if it can be left out, with dots if it can be repeated."""
    name = argument.metavar or argument.name.upper()
    if "..." in name:  # says itself what may be repeated
        return str(name)
    return f"{name if argument.required else f'[{name}]'}{'' if argument.nargs == 1 else '...'}"


def _option(option: Any) -> str:
    names = [*sorted(option.opts, key=len), *option.secondary_opts]
    return ("/" if option.secondary_opts else ", ").join(names) + _value(option)


def _required_option(option: Any) -> str:
    return min(option.opts, key=len) + _value(option) + ("..." if option.multiple else "")


def _value(option: Any) -> str:
    """Return the name of an option's value, or its choices."""
    if option.is_flag:
        return ""
    kind = getattr(option, "type_descriptor", None) or option.type  # typer has types of its own, or those of click
    choices = [str(getattr(choice, "value", choice)) for choice in getattr(kind, "choices", None) or ()]
    return f" {option.metavar or '|'.join(choices) or option.name.upper()}"


def _meaning(parameter: Any) -> str:
    """Return the help of a parameter with its default, unless the help names it."""
    text = str(parameter.help or "")
    if parameter.param_type_name == "option" and parameter.required:
        return f"{text} [required]"
    default = _default(parameter)
    return text if not default or "(default:" in text else f"{text} [default: {default}]"


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or value is False or callable(value) or not parameter.show_default:
        return ""
    if value is True:
        return str(parameter.opts[0]).lstrip("-")
    return f"{value:g}" if isinstance(value, float) else str(value.value if isinstance(value, Enum) else value)
