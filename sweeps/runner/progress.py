"""Progress of a running study, drawn from its snapshots: a live view on a terminal or in a notebook, else lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from pinncore.settings import OPTIMISERS

from ..owner.messages import PackProgress
from ..owner.snapshot import BestTrial, FinishedTrial, StudySnapshot
from ..query.text import duration, printable, shown
from ..states import FAIL, FINISHED, PRUNED, RUNNING, WAITING
from ..words import rounded
from .notebook import NotebookView, in_notebook
from .pace import Pace

PLAIN_INTERVAL_S = 5.0
STILL_INTERVAL_S = 60.0  # between two lines while a study waits
REFRESHES = 4  # per second
PACKS_SHOWN = 6
FINISHED_SHOWN = 5
FAILED_SHOWN = 3  # in addition to those among the finished
BAR_WIDTH, LEAST_BAR_WIDTH = 18, 4


class Progress:
    """Display of snapshots: `with Progress(console, plain=False) as progress: progress.update(snapshot)`.

    On a terminal the view stays below everything else that is printed, and remains at the end; in a notebook it is one
    output of the cell. Elsewhere, or with `plain`, every finished trial has a line, and the state has one at most every
    five seconds, or every minute while the study waits. Only one thread at a time may call it. Time counts from `began`
    (on `clock`; default: now).
    """

    def __init__(
        self,
        console: Console,
        plain: bool,
        *,
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._clock = clock
        self._began = clock() if began is None else began
        self._is_mute = False
        self._phase, self._drawn = "", None  # type: str, RenderableType | None
        self._live: Live | NotebookView | None = None
        if not plain and in_notebook():
            self._live = NotebookView(self._draw)
        elif not plain and console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(
                console=console, get_renderable=self._draw, refresh_per_second=REFRESHES, vertical_overflow="ellipsis"
            )
        self._pace = Pace(clock)
        self._recent: deque[FinishedTrial] = deque(maxlen=FINISHED_SHOWN)
        self._failed: deque[FinishedTrial] = deque(maxlen=FINISHED_SHOWN + FAILED_SHOWN)
        self._printed_state = self._newest_line = ""
        self._has_news = False
        self._printed_at = float("-inf")
        self._left_s: float | None = None
        self._notes: list[str] = []  # those printed

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._write(self._live.stop)
        elif self._has_news:  # the last state was held back
            self.message(self._newest_line)

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the run was started."""
        return self._clock() - self._began

    def phase(self, text: str) -> None:
        """Show what is being done before the first snapshot."""
        if text == self._phase:
            return
        self._phase = text
        if isinstance(self._live, NotebookView):
            self._write(self._live.refresh)
        elif not self._live:
            self.message(f"{text} ({duration(self.elapsed_s)})")

    def _draw(self) -> RenderableType:
        """Return the live view: the study's state, or what is being done and for how long."""
        if self._drawn is not None:
            return self._drawn
        return Text.assemble((duration(self.elapsed_s), "dim"), f"  {self._phase} ...") if self._phase else Text("")

    def update(self, snapshot: StudySnapshot) -> None:
        """Show the state of the study in a snapshot."""
        for note in [note for note in snapshot.notes if note not in self._notes]:
            self._notes.append(note)
            self.message(note)
        if snapshot.packs or self._left_s is not None:
            done = _done(snapshot) + snapshot.under_way
            self._left_s = self._pace.left_s(done, snapshot.limit - done)
        time_text = times(snapshot, self.elapsed_s, self._left_s)
        if not self._live:
            self._print_lines(snapshot, time_text)
            return
        self._recent.extend(snapshot.finished)
        self._failed.extend(trial for trial in snapshot.finished if trial.state == FAIL)
        failed = [trial for trial in self._failed if trial not in self._recent][-FAILED_SHOWN:]
        self._drawn = view(snapshot, time_text, self._recent, failed, width=self._console.width)
        self._write(self._live.refresh)

    def message(self, text: str) -> None:
        """Print a line, above the live view where there is one."""
        live = self._live
        if isinstance(live, NotebookView):
            self._write(lambda: live.message(text))
        else:
            self._write(lambda: self._console.print(Text(text), soft_wrap=True))

    def _write(self, write: Callable[[], object]) -> None:
        """Call `write`; after the output is closed (a broken pipe) the run goes on silently."""
        if self._is_mute:
            return
        try:
            write()
        except (OSError, SystemExit):  # rich raises SystemExit on a closed pipe
            self._is_mute = True

    def _print_lines(self, snapshot: StudySnapshot, time_text: str) -> None:
        for trial in snapshot.finished:
            self.message(finished_line(trial, snapshot.objective, is_percent=snapshot.is_percent))
        state = status_line(snapshot)
        self._newest_line = f"{state}; {time_text}"
        self._has_news = bool(snapshot.packs) or state != self._printed_state
        if self._clock() >= self._printed_at + (PLAIN_INTERVAL_S if self._has_news else STILL_INTERVAL_S):
            self._printed_at, self._printed_state, self._has_news = self._clock(), state, False
            self.message(self._newest_line)


def status_line(snapshot: StudySnapshot) -> str:
    """Return a study in one line: counts, best value, what it waits for."""
    counts = snapshot.counts
    parts = [f"{_done(snapshot)}/{snapshot.limit} trials", f"{counts[RUNNING]} running"]
    parts += [f"{counts[PRUNED]} pruned"] if counts[PRUNED] else []
    parts += [f"{snapshot.failures} failed"] if snapshot.failures else []
    if snapshot.best:
        parts.append(f"best {_value(snapshot, snapshot.best)} (trial {snapshot.best.trial})")
    return f"{snapshot.study}: {', '.join([*parts, *_waits(snapshot)])}"


def finished_line(trial: FinishedTrial, objective: str, *, is_percent: bool) -> str:
    """Return a finished trial in one line: value or failure, stop reason, duration, configuration."""
    result = "no value" if trial.value is None else f"{objective} {rounded(trial.value, is_percent=is_percent)}"
    if trial.state == PRUNED:
        result = "pruned"
    if trial.state == FAIL:
        result = f"failed, {trial.failure}" if trial.failure else "failed"
    stop = f" ({trial.stop_reason})" if trial.stop_reason and trial.stop_reason != result else ""
    time_taken = "" if trial.seconds is None else f" in {duration(trial.seconds)}"
    return printable(f"trial {trial.trial}: {result}{stop}{time_taken}  {_settings(trial.params)}").rstrip()


def times(snapshot: StudySnapshot, elapsed_s: float, left_s: float | None) -> str:
    """Return the time since the start and, where it is known, the time left; the budget may end before."""
    remaining = "" if left_s is None else f", about {duration(left_s)} left"
    budget_s = snapshot.budget_left_s
    if budget_s is not None and (left_s is None or budget_s < left_s):
        remaining = f", {duration(budget_s)} of the budget left"
    return duration(elapsed_s) + remaining


def view(
    snapshot: StudySnapshot,
    time_text: str,
    finished: Iterable[FinishedTrial],
    failed: Iterable[FinishedTrial] = (),
    *,
    width: int = 80,
) -> RenderableType:
    """Return the live view: state of the study, its best trial, its packs, the last finished and failed trials.

    `time_text` is that of `times`; `failed` are trials that are not among the finished. On a terminal whose `width` is
    below 80 the bars are shorter, so that the numbers beside them are not cut.
    """
    title = Rule(Text(printable(snapshot.study), style="bold"), align="left", style="dim")
    trials = [*map(_failed_line, failed), *(_finished_line(trial, snapshot) for trial in finished)]
    bar = max(BAR_WIDTH - max(80 - width, 0), LEAST_BAR_WIDTH)
    blocks = (_overall(snapshot, time_text, bar), _packs(snapshot.packs, bar), trials)
    lines = [line for block in blocks if block for line in (Text(), *block)][1:]
    for line in lines:  # one line each, even on a narrow terminal
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(title, *lines)


def _overall(snapshot: StudySnapshot, time_text: str, bar: int) -> list[Text]:
    done, counts = _done(snapshot), snapshot.counts
    trials = _bar((done + snapshot.under_way) / max(snapshot.limit, 1), bar)
    trials.append(f"  {done}/{snapshot.limit} trials", style="bold")
    trials.append(f", {snapshot.failures} failed" if snapshot.failures else "", style="red")
    trials.append(
        "".join(f", {counts[state]} {state.lower()}" for state in (PRUNED, RUNNING, WAITING) if counts[state])
    )
    lines = [Text.assemble(("trials  ", "dim"), trials), Text.assemble(("time    ", "dim"), time_text)]
    if best := snapshot.best:
        value = (f"{snapshot.objective} {_value(snapshot, best)}", "bold green")
        settings = (_settings(best.params), "dim")
        lines.append(Text.assemble(("best    ", "dim"), value, f", trial {best.trial}  ", settings))
    if snapshot.packs:
        lines.append(Text.assemble(("devices ", "dim"), _devices(snapshot)))
    lines += [Text.assemble(("waiting ", "dim"), printable(reason)) for reason in _waits(snapshot)]
    if snapshot.over_budget:
        lines.append(Text.assemble(("ending  ", "dim"), printable(snapshot.over_budget)))
    return lines


def _waits(snapshot: StudySnapshot) -> list[str]:
    """Return what workers wait for: nodes, kernels."""
    waits = list(snapshot.preparing)
    if snapshot.requested > snapshot.places:
        slots = f"{snapshot.places} of {snapshot.requested} worker slots"
        waits.insert(0, f"waiting for the cluster to grow ({slots})")
    is_starting = snapshot.requested and not snapshot.packs and not snapshot.finished_count
    return waits or (["workers are starting"] if is_starting else [])


def _devices(snapshot: StudySnapshot) -> str:
    """Return the number of packs that train, and what their workers measured."""
    loads = [pack.load for pack in snapshot.packs.values()]
    parts = [f"{len(loads)} pack{'s' if len(loads) != 1 else ''} in training, room for {snapshot.places}"]
    if cores := [load.cores_busy for load in loads if load.cores_busy is not None]:
        parts.append(f"cores {100 * sum(cores) / len(cores) / snapshot.cores_per_pack:.0f} % busy")
    if gpus := [load.gpu_busy for load in loads if load.gpu_busy is not None]:
        parts.append(f"GPUs {100 * sum(gpus) / len(gpus):.0f} % busy")
    if gpu_bytes := sum(load.gpu_bytes or 0.0 for load in loads):
        parts.append(f"{gpu_bytes / 1e9:.3g} GB of GPU memory")
    return ", ".join(parts)


def _packs(packs: Mapping[int, PackProgress], width: int) -> list[Text]:
    first = {f"pack {number}": pack for number, pack in islice(packs.items(), PACKS_SHOWN)}
    lines = []
    for name, pack in first.items():
        members = f"{pack.members} member{'s' if pack.members != 1 else ''}"
        label = (f"{name:{max(6, *map(len, first))}}  ", "dim")
        evaluations = (f"{pack.evaluations:,} evaluations", "dim")
        phase = "both stages" if pack.phase == "mixed" else OPTIMISERS.get(pack.phase, pack.phase)
        bar = _bar(pack.under_way / max(pack.members, 1), width)
        lines.append(Text.assemble(label, bar, f"  {members:11} {phase:14}  ", evaluations))
    more = len(packs) - PACKS_SHOWN
    return [*lines, Text(f"and {more} more packs", style="dim")] if more > 0 else lines


def _failed_line(trial: FinishedTrial) -> Text:
    reason = trial.failure or trial.stop_reason or "no reason was recorded"
    return Text.assemble(("failed  ", "dim"), (printable(f"trial {trial.trial}: {reason}"), "red"))


def _value(snapshot: StudySnapshot, best: BestTrial) -> str:
    return "" if best.value is None else rounded(best.value, is_percent=snapshot.is_percent)


def _finished_line(trial: FinishedTrial, snapshot: StudySnapshot) -> Text:
    line = finished_line(trial, snapshot.objective, is_percent=snapshot.is_percent)
    return Text(line, style="red" if trial.state == FAIL else "")


def _bar(fraction: float, width: int) -> Text:
    done = round(width * min(max(fraction, 0.0), 1.0))
    return Text.assemble(("━" * done, "green"), ("─" * (width - done), "dim"))


def _done(snapshot: StudySnapshot) -> int:
    return sum(snapshot.counts[state] for state in FINISHED)


def _settings(params: Mapping[str, Any]) -> str:
    return printable(" ".join(f"{name}={shown('', value)}" for name, value in params.items()))
