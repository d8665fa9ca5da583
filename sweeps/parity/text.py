"""A comparison of traces as text for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from pinncore.parity.inject import Injection
from pinncore.parity.results import BEYOND, QUANTITIES, Comparison, Difference, Explanation

from ..words import rounded

_MOST_STEPS: Final = 8  # columns of the table
_MOST_EXPLANATIONS: Final = 8
_UNITS: Final = "x rounding"


def text_of(comparison: Comparison, width: int = 80) -> str:
    """Return the comparison as lines of at most `width` characters, the verdict first."""
    parts = [
        [verdict(comparison)],
        [advice(comparison)],
        list(_configuration(comparison)),
        _growth(comparison, width),
        _layers(comparison),
        _explanations(comparison),
        _errors(comparison),
        [_invisible(comparison)],
        [*comparison.coverage, *sentences(comparison.notes)],
    ]
    blocks = ("\n".join(_wrapped(part, width)) for part in ([line for line in each if line] for each in parts) if part)
    return "\n\n".join(blocks)


def verdict(comparison: Comparison) -> str:
    """Return whether two trainings agree, else where they part, in a sentence."""
    sides = f"{comparison.source} and {comparison.other}"
    first = comparison.first
    if first is None:
        return f"{sides} agree within rounding in all {len(comparison.differences)} arrays."
    size = first.note if first.note and not math.isfinite(first.units) else f"{amount(first)} apart"
    return f"{sides} part at {first.place}: {size}."


def amount(difference: Difference) -> str:
    """Return how far two arrays are apart, in units of rounding."""
    return f"{_short(difference.units)} {_UNITS}" if math.isfinite(difference.units) else "beyond any rounding"


def advice(comparison: Comparison) -> str:
    """Return what explains the difference, and what to write to train so."""
    found = comparison.found
    if comparison.first is None:
        return ""
    if not found:
        return (
            "Nothing that was tried explains it. The list below says what comes closest; a trace with more arrays "
            "(derivatives, gradients, moments) narrows it down."
        )
    names = "; or ".join(explanation.sentence.rstrip(".") for explanation in found[:3])
    more = f" {len(found) - 3} more cannot be told from it." if len(found) > 3 else ""
    settings = next((explanation.settings for explanation in found if explanation.settings), None)
    is_pair = found[0] in comparison.pairs
    changes, mistake = ("two changes", "one of them is") if is_pair else ("one change", "it is")
    write = (
        f"To train so here, write {_settings(settings)}." if settings else f"No setting trains so: {mistake} a mistake."
    )
    return f"The difference vanishes with {changes} of our side. {names}.{more} {write}"


def _settings(settings: Any) -> str:
    return ", ".join(f"{name}: {value}" for name, value in settings.items())


def _configuration(comparison: Comparison) -> Iterator[str]:
    if comparison.configuration:
        yield "Configuration, where it differs (first, second):"
    for line in comparison.configuration:
        yield f"  {line.name}: {line.ours}, {line.theirs}"


def _growth(comparison: Comparison, width: int) -> list[str]:
    """Return the largest difference of each quantity at each step, in units of rounding."""
    if comparison.first is None:
        return []
    largest: dict[tuple[str, int], float] = {}
    stage = comparison.first.place.stage
    for difference in comparison.differences:
        place = difference.place
        if place.stage == stage:
            key = (place.quantity.removeprefix("initial "), place.step)
            largest[key] = max(largest.get(key, 0.0), difference.units)
    full = {step for quantity, step in largest if quantity != "loss term"} or {step for _, step in largest}
    steps = _few(sorted(full | {comparison.first.place.step}), comparison.first.place.step, (width - 12) // 9)
    rows = [["step" if stage == "first" else "iteration", *map(str, steps)]]
    rows += [
        [quantity, *(_short(largest[quantity, step]) if (quantity, step) in largest else "" for step in steps)]
        for quantity in QUANTITIES
        if any((quantity, step) in largest for step in steps)
    ]
    return [f"Largest difference, in units of rounding (beyond rounding from {BEYOND:g} on):", *_table(rows)]


def _few(steps: Sequence[int], kept: int, room: int) -> list[int]:
    """Return the first steps, the one where they part, and the last, as many as there is room for."""
    most = min(_MOST_STEPS, max(room, 3))
    if len(steps) <= most:
        return list(steps)
    return sorted({*[step for step in steps if step not in (kept, steps[-1])][: most - 2], kept, steps[-1]})


def _layers(comparison: Comparison) -> list[str]:
    """Return the differences layer by layer where they part."""
    first = comparison.first
    if first is None or first.place.layer is None:
        return []
    here = [
        difference
        for difference in comparison.differences
        if (difference.place.stage, difference.place.step, difference.place.quantity)
        == (first.place.stage, first.place.step, first.place.quantity)
    ]
    rows = [["array", "difference", "relative", _UNITS]]
    rows += [[each.place.name, f"{each.size:.2e}", f"{each.relative:.2e}", _short(each.units)] for each in here]
    unit = "step" if first.place.stage == "first" else "iteration"
    return [f"Layer by layer, {first.place.quantity} at {unit} {first.place.step}:", *_table(rows)]


def _explanations(comparison: Comparison) -> list[str]:
    if not comparison.explanations:
        return []
    lines = ["Explanations, one change of our side each (what is left of the difference):"]
    lines += _ranked(comparison.explanations)
    if comparison.pairs:
        lines += ["", "Two changes together:", *_ranked(comparison.pairs)]
    return lines


def _ranked(explanations: Sequence[Explanation]) -> list[str]:
    """Return lines by rank; those that leave nothing share the first."""
    vanishing = sum(explanation.vanishes for explanation in explanations)
    shown = explanations[: max(_MOST_EXPLANATIONS, vanishing)]
    lines = []
    for number, explanation in enumerate(shown, 1):
        rank = 1 if explanation.vanishes else number
        left = "nothing left" if explanation.parts_at is None else _left(explanation.parts_at)
        lines.append(f"  {rank:2}. {explanation.name}: {left}")
    if len(explanations) > len(shown):
        lines.append(f"      and {len(explanations) - len(shown)} more, which leave no less")
    return lines


def _left(difference: Difference) -> str:
    return f"{amount(difference)} at {difference.place}"


def _errors(comparison: Comparison) -> list[str]:
    """Return what the difference does to the error."""
    if comparison.error is None:
        return []
    lines = [f"rel_l2 at the last step: {rounded(comparison.error)} of our replay"]
    if comparison.their_error is not None:
        lines[0] += f", {rounded(comparison.their_error)} of the trace"
    explained = next((each.error for each in comparison.found if each.error is not None), None)
    return [f"{lines[0]}{'' if explained is None else f', {rounded(explained)} of our replay with that change'}."]


def sentences(notes: Iterable[str]) -> Iterator[str]:
    """Yield notes as sentences; names of settings keep their letters."""
    for note in notes:
        first = note if "_" in note.split(" ")[0] else note[:1].upper() + note[1:]
        yield first.rstrip(".") + "."


def injection_text(injection: Injection, width: int = 80) -> str:
    """Return how far a training with injected arrays is from the trace, by step and array."""
    shown = [str(step) for step in injection.steps]
    few = shown if len(shown) <= _MOST_STEPS else [*shown[:3], "...", shown[-1]]
    rows = [["step", "array", "without", "with", "rows of W1 with"]]
    last = max(each.step for each in injection.arrays) if injection.arrays else 0
    steps = sorted({each.step for each in injection.arrays})[: _MOST_STEPS - 1]
    rows += [
        [
            str(each.step),
            each.name,
            f"{each.without:.1e}",
            f"{each.with_it:.1e}",
            " ".join(f"{r:.0e}" for r in each.rows),
        ]
        for each in injection.arrays
        if each.step in (*steps, last)
    ]
    first = f"With the trace's {injection.what} of steps {', '.join(few)} in place of ours, relative differences:"
    return "\n".join([*_wrapped([first], width), *_table(rows)])


def _invisible(comparison: Comparison) -> str:
    if not comparison.invisible:
        return ""
    return f"Not visible in this trace: {'; '.join(comparison.invisible)}."


def _short(number: float) -> str:
    if not math.isfinite(number):
        return "inf"
    return f"{number:.2g}" if number < 1000 else f"{number:.1e}".replace("e+0", "e").replace("e+", "e")


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in (list(zip(row, widths, strict=True)) for row in rows):
        cells = [first[0].ljust(first[1]), *(cell.rjust(size) for cell, size in others)]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _wrapped(lines: Iterable[str], width: int) -> Iterator[str]:
    for line in lines:
        if len(line) <= width or (line.startswith("  ") and ":" not in line):
            yield line.rstrip()
        else:
            indent = " " * (len(line) - len(line.lstrip()))
            yield from textwrap.wrap(line, width, subsequent_indent=indent + ("    " if indent else ""))
