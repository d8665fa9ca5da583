"""The tables of a report; in Markdown where the width is not limited."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from rich.box import MARKDOWN, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .bars import FASTEST_RIVAL
from .evaluators.base import EVALUATORS, GPU_RIVALS, OWN
from .machine import EXTRA
from .machine_code import MachineCode
from .options import FLOOR, PARTS
from .records import Comparison, Place, Status, Timing
from .run import Report
from .spread import Spread

Row = Sequence[str]
Drawing = tuple[Row, list[Row]]


def render(report: Report, *, width: int | None = None) -> str:
    """Return the tables of every part that ran, at most `width` characters wide."""
    blocks = [_machine(report)]
    for part in report.options.parts:
        timings = [timing for timing in report.timings if timing.place.part == part]
        comparisons = [comparison for comparison in report.comparisons if comparison.place.part == part]
        if part == "kernels":
            blocks += [f"{part}: {PARTS[part]}", *_machine_code(report, width)]
            continue
        tables = TABLES[part](timings, comparisons)
        blocks += [f"{part}: {PARTS[part]}", *(_drawn(*table, width) for table in tables), *_notes(timings)]
    return "\n\n".join(blocks)


def _machine(report: Report) -> str:
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    quick = (
        "\nQuick run: fewer comparisons, shorter samples; the figures are not to be quoted."
        if report.options.quick
        else ""
    )
    return (
        f"{machine['processor']}, {machine['cores_granted']} of {machine['cores']} cores granted, "
        f"{machine['memory_gb']} GB, {machine['system']}, Python {machine['python']}\n{versions}\n"
        f"Medians, ranges in brackets. Ratios: how many times longer the other takes, on as many threads.{quick}"
    )


def _evaluation(timings: Sequence[Timing], comparisons: Sequence[Comparison]) -> Iterable[Drawing]:
    rivals = list(dict.fromkeys(t.contender for t in timings if t.contender != OWN))
    labels = [EVALUATORS[name].label for name in rivals]
    head = (
        "shape",
        "dtype",
        "threads",
        "pack",
        "pinnsweep, ms",
        *labels,
        "slides, best threads",
        "bar",
        "fastest library",
    )
    rows: list[Row] = []
    for own in (t for t in timings if t.contender == OWN):
        by_rival = {c.rival: c for c in comparisons if _belongs(c, own)}
        slides, library = by_rival.get("slides"), by_rival.get(FASTEST_RIVAL)
        ratios = [
            _times(by_rival[name].same) if name in by_rival else _why_not(timings, own.place, name) for name in rivals
        ]
        best = f"{_times(slides.best)} on {slides.best_threads}" if slides else ""
        rows.append((*_where(own), _scaled(own, 1e3), *ratios, best, _verdict(slides), _verdict(library)))
    yield head, rows
    yield _warm_up(timings)


def _lbfgs(timings: Sequence[Timing], comparisons: Sequence[Comparison]) -> Iterable[Drawing]:
    head = (
        "shape",
        "dtype",
        "threads",
        "pack",
        "pairs",
        "contender",
        "us per member",
        "warm-up, s",
        "times",
        "best threads",
        "bar",
    )
    rows: list[Row] = []
    for timing in timings:
        comparison = next((c for c in comparisons if _belongs(c, timing)), None)
        best = f"{_times(comparison.best)} on {comparison.best_threads}" if comparison else ""
        times = _times(comparison.same) if comparison else ""
        pairs = str(timing.place.pairs)
        where = (*_where(timing), pairs, timing.label)
        rows.append((*where, _scaled(timing, 1e6), _warm_up_of(timing), times, best, _verdict(comparison)))
    yield head, rows


def _trial(timings: Sequence[Timing], comparisons: Sequence[Comparison]) -> Iterable[Drawing]:
    head = (
        "shape", "dtype", "threads", "pack", "contender", "s per member", "evaluations", "iterations", "loss",
        "rel. L2", "warm-up, s", "times", "best threads", "bar",
    )  # fmt: skip
    rows: list[Row] = []
    for timing in timings:
        comparison = next((c for c in comparisons if _belongs(c, timing)), None)
        facts = timing.facts
        evaluations = f"{facts['first_evaluations']} + {facts['second_evaluations']}" if "loss" in facts else ""
        ended = (
            (str(facts["iterations"]), f"{facts['loss']:.3e}", f"{facts['rel_l2']:.2%}")
            if "loss" in facts
            else ("",) * 3
        )
        best = f"{_times(comparison.best)} on {comparison.best_threads}" if comparison else ""
        times = _times(comparison.same) if comparison else ""
        where = (*_where(timing), timing.label, _scaled(timing, 1.0))
        rows.append((*where, evaluations, *ended, _warm_up_of(timing), times, best, _verdict(comparison)))
    yield head, rows


def _sweep(timings: Sequence[Timing], comparisons: Sequence[Comparison]) -> Iterable[Drawing]:
    head = (
        "dtype", "cores", "clock", "contender", "trials", "trials per hour", "evaluations", "median rel. L2",
        "best rel. L2", "warm-up, s", "times", "bar",
    )  # fmt: skip
    rows: list[Row] = []
    for timing in timings:
        comparison = next((c for c in comparisons if _belongs(c, timing)), None)
        facts = timing.facts
        spread = timing.spread
        hourly = _spread(Spread(*(3600 / s for s in (spread.median, spread.high, spread.low)))) if spread else ""
        ended = (
            (str(facts["evaluations"]), f"{facts['median_rel_l2']:.2%}", f"{facts['best_rel_l2']:.2%}")
            if "trials" in facts
            else ("",) * 3
        )
        where = (
            timing.place.dtype,
            str(timing.threads),
            timing.place.clock,
            timing.label,
            str(facts.get("trials", "")),
        )
        rows.append(
            (
                *where,
                hourly,
                *ended,
                _warm_up_of(timing),
                _times(comparison.same) if comparison else "",
                _verdict(comparison),
            )
        )
    yield head, rows


def _equations(timings: Sequence[Timing], comparisons: Sequence[Comparison]) -> Iterable[Drawing]:
    rivals = {timing.contender: timing.label for timing in timings if timing.contender != OWN}
    head = ("equation", "shape", "dtype", "threads", "pack", "pinnsweep, ms")
    rows: list[Row] = []
    for own in (t for t in timings if t.contender == OWN):
        by_rival = {c.rival: c for c in comparisons if _belongs(c, own)}
        cells = []
        for name in rivals:
            found = by_rival.get(name)
            cells += [_times(found.same) if found else _why_not(timings, own.place, name), _verdict(found)]
        rows.append((own.place.equation, *_where(own), _scaled(own, 1e3), *cells))
    yield (*head, *(cell for label in rivals.values() for cell in (label, "bar"))), rows


def _formulations(timings: Sequence[Timing], comparisons: Sequence[Comparison]) -> Iterable[Drawing]:
    head = ("shape", "dtype", "threads", "clock", "contender", "ms", "evaluations", "reached", "times", "bar")
    rows: list[Row] = []
    for timing in timings:
        comparison = next((c for c in comparisons if _belongs(c, timing)), None)
        facts = timing.facts
        count = f"{facts['evaluations']:.0f}" if "evaluations" in facts else ""
        where = (*_where(timing)[:3], timing.place.clock, timing.label, _scaled(timing, 1e3))
        times = _times(comparison.same) if comparison else ""
        rows.append((*where, count, facts.get("reached", ""), times, _verdict(comparison)))
    yield head, rows


def _floor(timings: Sequence[Timing], comparisons: Sequence[Comparison]) -> Iterable[Drawing]:
    head = ("shape", "dtype", "threads", "pack", "pinnsweep, ms", "multiply-adds", "floor, ms", "share of the floor")
    rows: list[Row] = []
    for own in (t for t in timings if t.contender == OWN):
        floor = next((t for t in timings if (t.place, t.contender) == (own.place, FLOOR)), None)
        comparison = next((c for c in comparisons if _belongs(c, own)), None)
        count = f"{floor.facts['multiply_adds'] / 1e6:.1f} million" if floor and floor.facts else ""
        share = _share(comparison.same) if comparison else ""
        rows.append((*_where(own), _scaled(own, 1e3), count, _scaled(floor, 1e3) if floor else "", share))
    yield head, rows


def _gpu(timings: Sequence[Timing], comparisons: Sequence[Comparison]) -> Iterable[Drawing]:
    head = ("shape", "dtype", "pack", "time of", "pinnsweep, ms")
    rows: list[Row] = []
    for own in (t for t in timings if t.contender == OWN):
        by_rival = {c.rival: c for c in comparisons if _belongs(c, own)}
        ratios = [
            _times(by_rival[name].same) if name in by_rival else _why_not(timings, own.place, name)
            for name in GPU_RIVALS
        ]
        floor = by_rival.get(FLOOR)
        where = (own.place.shape, own.place.dtype, str(own.pack), own.place.clock, _scaled(own, 1e3))
        bars = [_verdict(by_rival.get("slides")), _share(floor.same) if floor else "", _verdict(floor)]
        rows.append((*where, *ratios, *bars))
    yield (
        (*head, *(EVALUATORS[name].label for name in GPU_RIVALS), "bar, slides", "share of the floor", "bar, floor"),
        rows,
    )


def _machine_code(report: Report, width: int | None) -> list[str]:
    """Return the table, and the version of the compiler or why there is none."""
    if report.machine_code is None:
        return []
    if report.machine_code.obstacle:
        return [f"not compiled: {report.machine_code.obstacle}"]
    rows: list[Row] = [row.cells for row in report.machine_code.rows]
    return [f"Compiled by NVRTC {report.machine_code.version}.", _drawn(MachineCode.HEAD, rows, width)]


TABLES: Final[Mapping[str, Callable[[Sequence[Timing], Sequence[Comparison]], Iterable[Drawing]]]] = {
    "a": _evaluation,
    "b": _lbfgs,
    "c": _trial,
    "d": _sweep,
    "e": _equations,
    "f": _formulations,
    "floor": _floor,
    "gpu": _gpu,
}


def _warm_up(timings: Sequence[Timing]) -> Drawing:
    """Return the table of the seconds for preparation, compilation and choice, which no other figure includes."""
    columns = list(dict.fromkeys((t.contender, t.pack) for t in timings))
    names = [EVALUATORS[name].label + (f", {pack}" if EVALUATORS[name].packs else "") for name, pack in columns]
    rows: list[Row] = []
    for place, threads in dict.fromkeys((t.place, t.threads) for t in timings):
        by_column = {(t.contender, t.pack): t for t in timings if (t.place, t.threads) == (place, threads)}
        cells = [_warm_up_of(by_column[column]) if column in by_column else "" for column in columns]
        rows.append((place.shape, place.dtype, str(threads), *cells))
    return ("warm-up, s", "dtype", "threads", *names), rows


def _warm_up_of(timing: Timing) -> str:
    return "" if timing.warmup_s is None else f"{timing.warmup_s:.1f}"


def _notes(timings: Sequence[Timing]) -> list[str]:
    """Return one line for every contender that was not timed."""
    lines = []
    for timing in timings:
        if timing.status is Status.TIMED:
            continue
        is_all = timing.status is Status.NOT_INSTALLED or not timing.place.shape
        where = "" if is_all else f" ({timing.place.shape} {timing.place.dtype})"
        lines.append(f"{timing.label}{where}: {timing.note}")
    return list(dict.fromkeys(lines))


def _belongs(comparison: Comparison, own: Timing) -> bool:
    key = (comparison.place, comparison.own, comparison.threads, comparison.pack)
    return key == (own.place, own.contender, own.threads, own.pack)


def _why_not(timings: Sequence[Timing], place: Place, name: str) -> str:
    statuses = [t.status for t in timings if (t.place, t.contender) == (place, name) and t.status is not Status.TIMED]
    if Status.NOT_INSTALLED in statuses:
        return f"not installed ({EXTRA})"
    return statuses[0].value if statuses else ""


def _where(timing: Timing) -> tuple[str, str, str, str]:
    return timing.place.shape, timing.place.dtype, str(timing.threads), str(timing.pack)


def _scaled(timing: Timing, factor: float) -> str:
    spread = timing.spread
    if spread is None:
        return timing.status.value
    return _spread(Spread(*(factor * value for value in (spread.median, spread.low, spread.high))))


def _spread(spread: Spread) -> str:
    return f"{_short(spread.median)} ({_short(spread.low)}..{_short(spread.high)})"


def _times(spread: Spread) -> str:
    return f"{_short(spread.median)}x ({_short(spread.low)}..{_short(spread.high)})"


def _share(spread: Spread) -> str:
    return f"{spread.median:.0%} ({spread.low:.0%}..{spread.high:.0%})"


def _verdict(comparison: Comparison | None) -> str:
    if comparison is None or comparison.bar is None:
        return ""
    same, best = ("reached" if reached else "not reached" for reached in (comparison.reached, comparison.best_reached))
    verdict = same if same == best else f"{same}, {best} by its best threads"
    bar = f"{comparison.bar:.0%}" if comparison.rival == FLOOR else f"{comparison.bar:g}x"
    return f">= {bar}: {verdict}"


def _short(value: float) -> str:
    """Return three significant digits without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _drawn(head: Row, rows: list[Row], width: int | None) -> str:
    grid = Table(box=SIMPLE_HEAD if width else MARKDOWN, pad_edge=width is None, show_edge=width is None)
    for name in head:
        grid.add_column(Text(name), no_wrap=width is None)
    for row in rows:
        grid.add_row(*map(Text, row))
    stream = io.StringIO()
    Console(file=stream, width=width or 10_000, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()).strip("\n")
