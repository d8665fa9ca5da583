"""What becomes of an exception in the command: the user's mistakes are told from bugs here, and nowhere else."""

from __future__ import annotations

import errno
import json
from typing import Any

import typer
from typer.core import TyperGroup

from cluster import ClusterError

from .errors import NOT_GIVEN, SpecError, SweepError

WRONG = 2
INTERRUPTED = 130
# What the user's disk says, not our code: no rights, no space, a file where a folder should be.
DISK_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}


class Commands(TyperGroup):
    """The one place where a mistake of the user becomes a message and an exit code; a bug keeps its traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["json"] = "--json" in args  # before any parsing, since the mistake may stand in the arguments
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            message = _explained(error)
            if message is None or (_is_usage(error) and not ctx.meta["json"]):  # typer prints usage errors itself
                raise
            if ctx.meta["json"]:
                typer.echo(json.dumps({"error": _error_record(error, message)}, default=str), err=True)
            else:
                typer.echo("\n".join(f"error: {line}" for line in message.splitlines()), err=True)  # one a mistake
            raise typer.Exit(getattr(error, "exit_code", WRONG)) from None


def _is_usage(error: Exception) -> bool:
    return hasattr(error, "format_message")  # no common class: typer brings its own click, or takes the installed one


def _explained(error: Exception) -> str | None:
    """The message of an error that is no bug, None for a bug."""
    if _is_usage(error):
        return str(error.format_message())  # type: ignore[attr-defined]
    if isinstance(error, (SweepError, ClusterError)):
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    from pinncore.errors import PinnError  # only now: pinncore brings torch

    return str(error) if isinstance(error, PinnError) else None


def _error_record(error: Exception, message: str) -> dict[str, Any]:
    record: dict[str, Any] = {"type": type(error).__name__, "message": message}
    if isinstance(error, SpecError):
        record["mistakes"] = [
            {"path": m.path, "value": None if m.value is NOT_GIVEN else m.value, "rule": m.rule, "hint": m.hint}
            for m in error.mistakes
        ]
    return record
