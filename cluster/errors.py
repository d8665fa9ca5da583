"""Exceptions of `cluster`: each says the rule, the value and the way out."""

from __future__ import annotations


class ClusterError(Exception):
    """A mistake the caller can mend; the message says how."""

    exit_code = 2


class JobError(ClusterError, ValueError):
    """A job that no back-end can run as it is described, or that this one cannot."""


class JobNotFound(ClusterError, LookupError):
    """No job of that name is known here."""


class LogsNotKept(ClusterError):
    """The job wrote to the terminal it was started from, so there is nothing to read again."""
