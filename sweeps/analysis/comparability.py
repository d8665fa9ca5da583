"""Which numbers of two trainings may be compared at all: errors on equal data, losses of equal form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from .effects import label

_DATA: Final = ("problem", "data_hash")
# what the loss is made of; scaling the inputs changes the boundary terms
_LOSS: Final = (
    *("problem_loss", "boundary_weight", "strain_reference", "inputs"),
    *("scale_factor", "scale_scope", "strain_multiplier"),
)
_MACHINE: Final = ("host", "device", "engine_used")
_NOT_RESULTS: Final = ("parameters", "epochs_done", "iterations_done")
_VERSIONS: Final = (
    *("pinnsweep_version", "code_version", "torch_version", "numpy_version", "scipy_version", "numba_version"),
    *("python_version", "engine_used", "device", "cpu"),
)
DECIDING: Final = tuple(dict.fromkeys((*_DATA, *_LOSS, *_MACHINE, *_VERSIONS)))  # columns of trials


def obstacles(metric: str, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return why `metric` may not be compared between trials rows, a sentence each; nothing where it may."""
    known = list(rows)
    if metric in _NOT_RESULTS:
        return []
    if metric.endswith("seconds"):
        names = different(known, _MACHINE)
        return [f"they were trained on {_told(names, known)}, and times differ with that"] if names else []
    if metric.endswith("evaluations"):
        return []
    found = []
    if "problem" in different(known, _DATA):
        found.append("the problems differ")
    if "data_hash" in different(known, _DATA):
        found.append("the data differ (data_hash), and an error is to the reference of its own data")
    if (metric.startswith("loss") or metric == "grad_norm") and (names := different(known, _LOSS)):
        found.append(f"the losses are not made alike: {_told(names, known)}")
    if names := different(known, ("scale_scope",)) if not metric.startswith("loss") else []:
        found.append(f"they solve different equations: {_told(names, known)}")
    return found


def versions_differ(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Return what of software and machine differs between trials rows, or None."""
    known = list(rows)
    names = different(known, _VERSIONS)
    return _told(names, known) if names else None


def different(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """Return the columns of which rows hold more than one value; a null, of an older version, is none."""
    known = list(rows)
    return [name for name in names if len({row[name] for row in known if row.get(name) is not None}) > 1]


def _told(names: Iterable[str], rows: list[Mapping[str, Any]]) -> str:
    """`boundary_weight 0.05 and 0.1, loss norm and mean_square`."""
    values = {name: sorted({label(row[name]) for row in rows if row.get(name) is not None})[:3] for name in names}
    return ", ".join(f"{name} {' and '.join(own)}" for name, own in values.items())
