"""What came of training a trial again, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ..query.text import printable, shown
from ..storage.object_store import Remote
from .compare import Difference
from .retrain import Retrained

SHOWN: Final = 8  # differences of the end


def text(place: Path | Remote, trial: int, found: Retrained) -> str:
    """The verdict first, then where the two part, by how much at the end, and why."""
    row = found.row
    which = f"{place.name}, trial {trial}, replicate {row['replicate']}"
    lines = [] if row["trial"] == trial else [f"trial {trial} repeats trial {row['trial']}, which is trained here"]
    if found.same:
        return _printable([*lines, f"{which}: the same, bit for bit ({_compared(found)})", *_ended(found)])
    lines.append(f"{which}: different")
    if row["state"] != found.state:
        lines.append(f"  it was {row['state']} in the study and is {found.state} here")
    if found.first:
        lines.append(f"  they part at {found.first.where}: {_told(found.first)}")
    lines += [f"  at the end: {_told(each)}" for each in found.ends[:SHOWN]]
    if len(found.ends) > SHOWN:
        lines.append(f"  and {len(found.ends) - SHOWN} more (--json has them)")
    lines += [f"  {'why' if i == 0 else 'and'}: {reason}" for i, reason in enumerate(found.reasons)]
    return _printable(lines)


def _compared(found: Retrained) -> str:
    names = {"curve_rows": "rows of curves", "kept_epochs": "sets of weights", "field_points": "points of the field"}
    parts = [f"{found.compared[key]} {name}" for key, name in names.items() if found.compared.get(key)]
    parts += [f"{found.compared['numbers']} numbers of the end"] if found.compared.get("numbers") else []
    return ", ".join(parts) or "the reason why it cannot be trained"


def _ended(found: Retrained) -> list[str]:
    if found.failure is not None:
        return [f"  it fails here too: {found.failure}"]
    assert found.result is not None
    error = found.result.metrics.get("rel_l2")
    told = f"  loss {found.result.loss:.6g}" + ("" if error is None else f", rel_l2 {shown('rel_l2', error)}")
    return [f"{told}, {found.result.stop_reason.value}, engine {found.result.engine} on {found.result.device}"]


def _told(difference: Difference) -> str:
    size = "" if difference.relative is None else f" (by {difference.relative:.1e} of it)"
    return f"{difference.quantity} {_number(difference.stored)} in the study, {_number(difference.here)} here{size}"


def _number(value: Any) -> str:
    return "none" if value is None else repr(value) if isinstance(value, float) else str(value)


def _printable(lines: list[str]) -> str:
    return "\n".join(map(printable, lines))
