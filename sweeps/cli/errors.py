"""What becomes of an exception in the command: the user's mistakes are told from bugs here, and nowhere else."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from cluster import ClusterError

from ..errors import NOT_GIVEN, SpecError, SweepError

WRONG = 2
INTERRUPTED = 130
UNREAD = 141  # as the shell has it of what SIGPIPE ended
_READER_IS_GONE = select.POLLERR | select.POLLHUP
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


class _Explaining:
    """The one place where a mistake of the user becomes a message and an exit code; a bug keeps its traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["json"] = "--json" in args  # before any parsing, since the mistake may stand in the arguments
        return super().parse_args(ctx, args)  # type: ignore[misc]

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _quiet_where_unread():  # --help and --version print here
            return super().make_context(*arguments, **options)  # type: ignore[misc]

    def invoke(self, ctx: Any) -> Any:
        with _quiet_where_unread():
            return self._invoke(ctx)

    def _invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort, BrokenPipeError):
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


class Commands(_Explaining, TyperGroup):
    """A program of several commands."""


class Command(_Explaining, TyperCommand):
    """A program that is one command."""


def end_with_the_reader() -> None:
    """Have this process end as soon as nobody reads its output any more, for a command that waits for more to print.

    Only who writes is told that the reader of a pipe is gone; `logs -f | head -1` would stay until the job writes.
    """
    watched = _poll(sys.stdout)
    if watched is None:
        return

    def look() -> None:
        while not any(found & _READER_IS_GONE for _, found in watched.poll()):
            pass
        os._exit(UNREAD)

    threading.Thread(target=look, daemon=True).start()


@contextlib.contextmanager
def _quiet_where_unread() -> Iterator[None]:
    """End without a word where nobody reads the output any more: `pinnsweep list | head -1` is no mistake."""
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError as problem:
        unread = [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
        if not unread:  # another pipe, and so a bug, which typer would hide
            raise RuntimeError("a process that this one wrote to is gone") from problem
        for stream in unread:
            _drop(stream)
        raise typer.Exit(UNREAD) from None


def _flush() -> None:
    """Write what is still in a buffer now: where that fails when Python ends, Python says so in its own words."""
    try:
        if sys.stdout is not None:  # closed: `>&-`
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:  # a full disk, which was told when it was first written to
        _drop(sys.stdout)


def _drop(stream: TextIO) -> None:
    """Let all that is written to a stream go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_unread(stream: TextIO) -> bool:
    watched = _poll(stream)
    return watched is not None and any(found & _READER_IS_GONE for _, found in watched.poll(0))


def _poll(stream: TextIO) -> select.poll | None:
    """What tells the end of a stream's reader, and nothing else; None of a stream that is no file of the system."""
    found = select.poll()
    try:
        found.register(stream.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # None, of a closed one, among them
        return None
    return found


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
