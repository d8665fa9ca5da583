"""How the command reports exceptions: only this module distinguishes mistakes of the user from bugs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

import typer
from typer.core import TyperCommand

from cluster import ClusterError
from pinncore.errors import PinnError

from ..errors import NOT_GIVEN, SpecError, StudyWarning, SweepError
from .help_text import HelpfulGroup
from .printing import print_text

USER_ERROR = 2
INTERRUPTED = 130
OUTPUT_CLOSED = 141  # the exit code that a shell reports for SIGPIPE
_READER_IS_GONE = select.POLLERR | select.POLLHUP
# Errors of the user's disk, not bugs: no permission, no space, a file where a folder should be.
DISK_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


class _Explaining:
    """Turns a mistake of the user into a message and an exit code; a bug keeps its traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["json"] = "--json" in args  # before parsing, which may raise
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            ctx.color = False  # typer asks for neither where it says that a completion is installed
        return super().parse_args(ctx, args)  # type: ignore[misc]

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _quiet_if_output_closed():  # --help and --version print here
            return super().make_context(*arguments, **options)  # type: ignore[misc]

    def invoke(self, ctx: Any) -> Any:
        with _quiet_if_output_closed(), _warnings_as_sentences():
            try:
                return super().invoke(ctx)  # type: ignore[misc]
            except KeyboardInterrupt:
                typer.echo("interrupted", err=True)
                raise typer.Exit(INTERRUPTED) from None
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except Exception as error:
                message = _user_message(error)
                # typer prints usage errors itself
                if message is None or (_is_usage(error) and not ctx.meta["json"]):
                    raise
                if ctx.meta["json"]:
                    typer.echo(json.dumps({"error": _error_record(error, message)}, default=str), err=True)
                else:
                    print_text("\n".join(f"error: {line}" for line in message.splitlines()), err=True)
                raise typer.Exit(getattr(error, "exit_code", USER_ERROR)) from None


class Commands(_Explaining, HelpfulGroup):
    """A program with several commands."""

    examples_heading = "To begin"


class Command(_Explaining, TyperCommand):
    """A program with one command."""


def exit_when_output_closes() -> None:
    """Exit as soon as the reader of stdout is gone, in a command that waits for something to print.

    A process learns only on writing that the reader of its pipe is gone: without this thread, `logs -f | head -1` would
    wait until the job writes again.
    """
    poll = _poll(sys.stdout)
    if poll is None:
        return

    def watch() -> None:
        while not any(events & _READER_IS_GONE for _, events in poll.poll()):
            pass
        os._exit(OUTPUT_CLOSED)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    """Print warnings about a study as sentences, each once."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", StudyWarning)
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, StudyWarning):
                print_text(f"warning: {message}", err=True)
            else:
                shown(message, category, *place, **more)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _quiet_if_output_closed() -> Iterator[None]:
    """Exit without a message if the reader of the output is gone: `pinnsweep list | head -1` is no mistake."""
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError as problem:
        closed = [stream for stream in (sys.stdout, sys.stderr) if _is_closed(stream)]
        if not closed:  # another pipe broke: a bug, which typer would hide
            raise RuntimeError("a process that this command wrote to has ended") from problem
        for stream in closed:
            _discard_output(stream)
        raise typer.Exit(OUTPUT_CLOSED) from None


def _flush() -> None:
    """Flush stdout now: if that fails when Python exits, Python prints a message of its own."""
    try:
        if sys.stdout is not None:  # None after `>&-`
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:  # a full disk, which was reported at the first write
        _discard_output(sys.stdout)


def _discard_output(stream: TextIO) -> None:
    """Redirect a stream to /dev/null."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_closed(stream: TextIO) -> bool:
    poll = _poll(stream)
    return poll is not None and any(events & _READER_IS_GONE for _, events in poll.poll(0))


def _poll(stream: TextIO) -> select.poll | None:
    """Return a poll that reports only that a stream's reader is gone, or None if the stream has no file descriptor."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # a closed stream may be None
        return None
    return poll


def _is_usage(error: Exception) -> bool:
    return hasattr(error, "format_message")  # no common class: typer has its own click or uses the installed one


def _user_message(error: Exception) -> str | None:
    """Return the message of a mistake of the user, None for a bug."""
    if _is_usage(error):
        return str(error.format_message())  # type: ignore[attr-defined]
    if isinstance(error, (SweepError, ClusterError)):
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    return str(error) if isinstance(error, PinnError) else None


def _error_record(error: Exception, message: str) -> dict[str, Any]:
    record: dict[str, Any] = {"type": type(error).__name__, "message": message}
    if isinstance(error, SpecError):
        record["mistakes"] = [
            {"path": m.path, "value": None if m.value is NOT_GIVEN else m.value, "rule": m.rule, "hint": m.hint}
            for m in error.mistakes
        ]
    return record
