"""Exceptions of `cluster`; their messages give the rule, the value and the way out."""

from __future__ import annotations

from .hiding import visible_text


class ClusterError(Exception):
    """A mistake that the caller can correct; the message says how, and shows no secrets."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(visible_text(message))


class JobError(ClusterError, ValueError):
    """A job whose description is invalid, or that this back-end cannot run."""


class JobNotFound(ClusterError, LookupError):
    """An id that belongs to no job of this place."""


class LogsNotKept(ClusterError):
    """A job without a log, for instance because it wrote to the terminal it was started from."""
