"""Which numbers of two trainings can be compared: errors on the same data, losses of the same form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pinncore.problems.record import ProblemRecord

from ..storage.schema import all_settings, loss_columns
from .effects import label

_DATA: Final = ("problem", "data_hash")
_MACHINE: Final = ("host", "device", "device_name", "engine_used")
_NOT_RESULTS: Final = ("parameters", "epochs_done", "iterations_done", "kept_at")
_VERSIONS: Final = (
    *("pinnsweep_version", "code_version", "torch_version", "numpy_version", "scipy_version", "numba_version"),
    *("python_version", "engine_used", "device", "device_name", "driver", "cpu"),
)


def deciding(problems: Iterable[ProblemRecord]) -> list[str]:
    """Return the columns of trials of these problems that decide which numbers can be compared."""
    return list(dict.fromkeys((*_DATA, *_columns(problems, "loss_settings"), *_MACHINE, *_VERSIONS)))


def _columns(problems: Iterable[ProblemRecord], kind: str) -> list[str]:
    """Return the columns of settings that problems name in `loss_settings` or `equation_settings`."""
    return [
        setting.column
        for problem in problems
        for setting in all_settings(problem)
        if setting.section == "problem" and setting.name in getattr(problem, kind)
    ]


def obstacles(metric: str, rows: Iterable[Mapping[str, Any]], problems: Iterable[ProblemRecord]) -> list[str]:
    """Return the reasons why `metric` cannot be compared between rows of `trials` of problems; none where it can."""
    trials, kinds = list(rows), list(dict.fromkeys(problems))
    if metric in _NOT_RESULTS:
        return []
    if metric.endswith("seconds"):
        names = different(trials, _MACHINE)
        return [f"they were trained on {_values_text(names, trials)}, and times depend on that"] if names else []
    if metric.endswith("evaluations"):
        return []
    reasons, data = [], different(trials, _DATA)
    is_loss = any(metric in loss_columns(problem) for problem in kinds)
    losses, equations = (different(trials, _columns(kinds, kind)) for kind in ("loss_settings", "equation_settings"))
    if "problem" in data:
        reasons.append("the problems differ")
    if "data_hash" in data:
        reasons.append("the data differ (data_hash), and errors are relative to the reference in the data")
    if (is_loss or metric == "grad_norm") and losses:
        reasons.append(f"the losses are defined differently: {_values_text(losses, trials)}")
    if equations and not is_loss:
        reasons.append(f"they solve different equations: {_values_text(equations, trials)}")
    return reasons


def versions_differ(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the versions and machines that differ between rows of `trials` as text, None where none do."""
    trials = list(rows)
    names = different(trials, _VERSIONS)
    return _values_text(names, trials) if names else None


def different(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """Return the columns that have more than one value in some rows. Null does not count as a value."""
    trials = list(rows)
    return [name for name in names if len({row[name] for row in trials if row.get(name) is not None}) > 1]


def _values_text(names: Iterable[str], rows: list[Mapping[str, Any]]) -> str:
    """Return the values of columns as text: `boundary_weight 0.05 and 0.1, loss norm and mean_square`."""
    values = {name: sorted({label(row[name]) for row in rows if row.get(name) is not None})[:3] for name in names}
    return ", ".join(f"{name} {' and '.join(texts)}" for name, texts in values.items())
