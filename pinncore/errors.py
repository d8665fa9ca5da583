"""Exceptions of `pinncore`; their messages give the rule, the value and the way out."""

from __future__ import annotations


class PinnError(Exception):
    """A mistake that the caller can correct; the message says how."""


class SettingError(PinnError, ValueError):
    """A setting that breaks its rule.

    Attributes: `field`, `value`, `rule` (what must hold) and `way_out` (what to write instead).
    """

    def __init__(self, field: str, value: object, rule: str, way_out: str = "") -> None:
        self.field, self.value, self.rule, self.way_out = field, value, rule, way_out
        super().__init__(f"{field}: {rule}, got {value!r}" + (f". {way_out}" if way_out else ""))


class ProblemError(PinnError, ValueError):
    """A mistake in the class of a problem: in its equations, conditions, reference or settings."""


class DataError(PinnError, ValueError):
    """A data table that cannot be read or is not valid."""


class WeightsError(PinnError, ValueError):
    """A weights file that is missing, unreadable, or of another shape than the network."""


class CheckpointError(PinnError):
    """A checkpoint that is missing, damaged, or of another version."""


class TraceError(PinnError, ValueError):
    """A trace of a training that cannot be read, or that says what is not possible."""
