"""The result of training a trial again, as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ..query.text import printable, shown
from ..storage.object_store import Remote
from .compare import Difference
from .retrain import Retrained

SHOWN: Final = 8  # final differences


def text(place: Path | Remote, trial: int, retrained: Retrained) -> str:
    """Return the verdict, then the first difference, the final differences, and the reasons."""
    row = retrained.row
    which = f"{place.name}, trial {trial}, replicate {row['replicate']}"
    lines = [] if row["trial"] == trial else [f"trial {trial} repeats trial {row['trial']}, which is trained here"]
    if retrained.same:
        return _printable([*lines, f"{which}: the same, bit for bit ({_compared(retrained)})", *_ended(retrained)])
    lines.append(f"{which}: different")
    if row["state"] != retrained.state:
        lines.append(f"  it was {row['state']} in the study and is {retrained.state} here")
    if retrained.first:
        lines.append(f"  first difference at {retrained.first.where}: {_difference(retrained.first)}")
    lines += [f"  at the end: {_difference(difference)}" for difference in retrained.ends[:SHOWN]]
    if len(retrained.ends) > SHOWN:
        lines.append(f"  and {len(retrained.ends) - SHOWN} more (--json lists all)")
    lines += [f"  {'why' if i == 0 else 'and'}: {reason}" for i, reason in enumerate(retrained.reasons)]
    return _printable(lines)


def _compared(retrained: Retrained) -> str:
    names = {"curve_rows": "rows of curves", "kept_epochs": "sets of weights", "field_points": "points of the field"}
    parts = [f"{retrained.compared[key]} {name}" for key, name in names.items() if retrained.compared.get(key)]
    parts += [f"{retrained.compared['numbers']} final numbers"] if retrained.compared.get("numbers") else []
    return ", ".join(parts) or "the reason why it cannot be trained"


def _ended(retrained: Retrained) -> list[str]:
    if retrained.failure is not None:
        return [f"  it fails here too: {retrained.failure}"]
    assert retrained.result is not None
    error = retrained.result.metrics.get("rel_l2")
    text = f"  loss {retrained.result.loss:.6g}" + ("" if error is None else f", rel_l2 {shown('rel_l2', error)}")
    return [
        f"{text}, {retrained.result.stop_reason.value}, engine {retrained.result.engine} on {retrained.result.device}"
    ]


def _difference(difference: Difference) -> str:
    size = "" if difference.relative is None else f" (relative difference {difference.relative:.1e})"
    return f"{difference.quantity} {_number(difference.stored)} in the study, {_number(difference.here)} here{size}"


def _number(value: Any) -> str:
    return "none" if value is None else repr(value) if isinstance(value, float) else str(value)


def _printable(lines: list[str]) -> str:
    return "\n".join(map(printable, lines))
