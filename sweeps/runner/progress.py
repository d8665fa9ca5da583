"""Progress of a running study: a live view on a terminal, plain lines elsewhere.

Both are drawn from snapshots, which are plain dicts with these keys:

- study, objective; limit: number of trials of the study, retried ones included
- counts: trials by state; failures: failed trials that were not retried
- best: trial, value and params, or None
- packs: for each pack, members, phase, under_way (in members), evaluations, seconds, and the values of `device_use`
- places: packs that the machines have room for; requested: workers that exist or are requested
- preparing: what workers do before they train; cores_per_pack
- under_way: trained parts of unfinished trials, in trials; budget_left_s: seconds, or None
- finished: trials that finished since the previous snapshot; finished_count: all that finished in this attempt
- over_budget: why no new trial starts, or None
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from pinncore.settings import OPTIMISERS

from ..query.text import duration, printable, shown
from ..states import FINISHED
from .pace import Pace

PLAIN_INTERVAL_S = 5.0
STILL_INTERVAL_S = 60.0  # between two lines while a study waits
REFRESHES = 4  # per second
PACKS_SHOWN = 6
FINISHED_SHOWN = 5
FAILED_SHOWN = 3  # in addition to those among the finished
BAR_WIDTH = 18

Snapshot = Mapping[str, Any]


class Progress:
    """Display of snapshots: `with Progress(console, plain=False) as progress: progress.update(snapshot)`.

    On a terminal the view stays below everything else that is printed, and remains at the end. Elsewhere, or with
    `plain`, every finished trial has a line, and the state has one at most every five seconds, or every minute while
    the study waits. Only one thread at a time may call it. Time counts from `began` (on `clock`; default: now).
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
        self._live: Live | None = None
        if not plain and console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(
                console=console, get_renderable=self._draw, refresh_per_second=REFRESHES, vertical_overflow="ellipsis"
            )
        self._pace = Pace(clock)
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=FINISHED_SHOWN)
        self._failed: deque[Mapping[str, Any]] = deque(maxlen=FINISHED_SHOWN + FAILED_SHOWN)
        self._printed_state = self._state = self._newest_line = ""
        self._has_news = False
        self._printed_at = float("-inf")
        self._left_s: float | None = None

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
        if not self._live:
            self.message(f"{text} ({duration(self.elapsed_s)})")

    def _draw(self) -> RenderableType:
        """Return the live view: the study's state, or what is being done and for how long."""
        if self._drawn is not None:
            return self._drawn
        return Text.assemble((duration(self.elapsed_s), "dim"), f"  {self._phase} ...") if self._phase else Text("")

    def update(self, snapshot: Snapshot) -> None:
        """Show the state of the study in a snapshot."""
        if snapshot["packs"] or self._left_s is not None:
            done = _done(snapshot) + snapshot["under_way"]
            self._left_s = self._pace.left_s(done, snapshot["limit"] - done)
        snapshot = {**snapshot, "left_s": self._left_s, "elapsed_s": self.elapsed_s}
        if not self._live:
            self._print_lines(snapshot)
            return
        self._recent.extend(snapshot["finished"])
        self._failed.extend(trial for trial in snapshot["finished"] if trial["state"] == "FAIL")
        failed = [trial for trial in self._failed if trial not in self._recent][-FAILED_SHOWN:]
        self._drawn = view({**snapshot, "finished": list(self._recent), "failed": failed})
        self._write(self._live.refresh)

    def message(self, text: str) -> None:
        """Print a line, above the live view where there is one."""
        self._write(lambda: self._console.print(Text(text), soft_wrap=True))

    def _write(self, write: Callable[[], object]) -> None:
        """Call `write`; after the output is closed (a broken pipe) the run goes on silently."""
        if self._is_mute:
            return
        try:
            write()
        except (OSError, SystemExit):  # rich raises SystemExit on a closed pipe
            self._is_mute = True

    def _print_lines(self, snapshot: Snapshot) -> None:
        for trial in snapshot["finished"]:
            self.message(finished_line(trial, snapshot["objective"]))
        self._state, self._newest_line = state(snapshot), status_line(snapshot)
        has_news = bool(snapshot["packs"]) or self._state != self._printed_state
        if self._clock() >= self._printed_at + (PLAIN_INTERVAL_S if has_news else STILL_INTERVAL_S):
            self._printed_at, self._printed_state = self._clock(), self._state
            self.message(self._newest_line)
            has_news = False
        self._has_news = has_news


def status_line(snapshot: Snapshot) -> str:
    """Return a study in one line: counts, best value, time."""
    return f"{state(snapshot)}; {_times(snapshot)}"


def state(snapshot: Snapshot) -> str:
    """Return a study in one line without the time."""
    pruned, failed = _count(snapshot, "PRUNED"), snapshot["failures"]
    parts = [f"{_done(snapshot)}/{snapshot['limit']} trials", f"{_count(snapshot, 'RUNNING')} running"]
    parts += [f"{pruned} pruned"] if pruned else []
    parts += [f"{failed} failed"] if failed else []
    if snapshot["best"]:
        parts.append(f"best {_value(snapshot)} (trial {snapshot['best']['trial']})")
    parts += _waits(snapshot)
    return f"{snapshot['study']}: " + ", ".join(parts)


def finished_line(trial: Mapping[str, Any], objective: str) -> str:
    """Return a finished trial in one line: value or failure, stop reason, duration, configuration."""
    value = trial["value"]
    result = f"{objective} {shown(objective, value)}" if value is not None else "no value"
    if trial["state"] == "PRUNED":
        result = "pruned"
    if trial["state"] == "FAIL":
        result = f"failed, {trial['failure']}" if trial.get("failure") else "failed"
    stop = f" ({reason})" if (reason := trial.get("stop_reason")) and reason != result else ""
    time_taken = f" in {duration(trial['seconds'])}" if trial.get("seconds") is not None else ""
    return printable(f"trial {trial['trial']}: {result}{stop}{time_taken}  {_settings(trial['params'])}").rstrip()


def view(snapshot: Snapshot) -> RenderableType:
    """Return the live view: state of the study, its best trial, its packs, the last finished and failed trials.

    Besides the keys of a snapshot it needs elapsed_s, left_s (seconds, or None), and failed (trials that are not among
    the finished).
    """
    title = Rule(Text(printable(snapshot["study"]), style="bold"), align="left", style="dim")
    trials = [*_failed(snapshot["failed"]), *_finished(snapshot["finished"], snapshot["objective"])]
    blocks = (_overall(snapshot), _packs(snapshot["packs"]), trials)
    lines = [line for block in blocks if block for line in (Text(), *block)][1:]
    for line in lines:  # one line each, even on a narrow terminal
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(title, *lines)


def _overall(snapshot: Snapshot) -> list[Text]:
    done, failed = _done(snapshot), snapshot["failures"]
    trials = _bar((done + snapshot["under_way"]) / max(int(snapshot["limit"]), 1))
    trials.append(f"  {done}/{snapshot['limit']} trials", style="bold")
    trials.append(f", {failed} failed" if failed else "", style="red")
    trials.append(f", {pruned} pruned" if (pruned := _count(snapshot, "PRUNED")) else "")
    states = [state for state in ("RUNNING", "WAITING") if _count(snapshot, state)]
    trials.append("".join(f", {_count(snapshot, state)} {state.lower()}" for state in states))
    lines = [Text.assemble(("trials  ", "dim"), trials), Text.assemble(("time    ", "dim"), _times(snapshot))]
    if best := snapshot["best"]:
        value = (f"{snapshot['objective']} {_value(snapshot)}", "bold green")
        settings = (_settings(best["params"]), "dim")
        lines.append(Text.assemble(("best    ", "dim"), value, f", trial {best['trial']}  ", settings))
    if snapshot["packs"]:
        lines.append(Text.assemble(("devices ", "dim"), _devices(snapshot)))
    lines += [Text.assemble(("waiting ", "dim"), printable(reason)) for reason in _waits(snapshot)]
    if reason := snapshot["over_budget"]:
        lines.append(Text.assemble(("ending  ", "dim"), printable(reason)))
    return lines


def _waits(snapshot: Snapshot) -> list[str]:
    """Return what workers wait for: nodes, kernels."""
    grows = snapshot["requested"] > snapshot["places"]
    growth = f"waiting for the cluster to grow ({snapshot['places']} of {snapshot['requested']} worker slots)"
    waits = [*([growth] if grows else ()), *snapshot["preparing"]]
    is_starting = not waits and snapshot["requested"] and not snapshot["packs"]
    return waits or (["workers are starting"] if is_starting and not snapshot["finished_count"] else [])


def _devices(snapshot: Snapshot) -> str:
    """Return the number of packs that train, and what their workers measured."""
    packs = snapshot["packs"]
    parts = [f"{len(packs)} pack{'s' if len(packs) != 1 else ''} in training, room for {snapshot['places']}"]
    if cores := [pack["cores_busy"] for pack in packs if "cores_busy" in pack]:
        parts.append(f"cores {100 * sum(cores) / len(cores) / snapshot['cores_per_pack']:.0f} % busy")
    if gpus := [pack["gpu_busy"] for pack in packs if "gpu_busy" in pack]:
        parts.append(f"GPUs {100 * sum(gpus) / len(gpus):.0f} % busy")
    if gpu_bytes := sum(pack.get("gpu_bytes", 0.0) for pack in packs):
        parts.append(f"{gpu_bytes / 1e9:.3g} GB of GPU memory")
    return ", ".join(parts)


def _packs(packs: Sequence[Mapping[str, Any]]) -> list[Text]:
    names = [f"pack {pack['pack']}" for pack in packs[:PACKS_SHOWN]]
    lines = []
    for name, pack in zip(names, packs, strict=False):
        members = f"{pack['members']} member{'s' if pack['members'] != 1 else ''}"
        share = pack["under_way"] / max(pack["members"], 1)
        phase = "both stages" if pack["phase"] == "mixed" else OPTIMISERS.get(pack["phase"], pack["phase"])
        label = (f"{name:{max(6, *map(len, names))}}  ", "dim")
        evaluations = (f"{pack['evaluations']:,} evaluations", "dim")
        lines.append(Text.assemble(label, _bar(share), f"  {members:11} {phase:14}  ", evaluations))
    more = len(packs) - PACKS_SHOWN
    return [*lines, Text(f"and {more} more packs", style="dim")] if more > 0 else lines


def _failed(failed: Sequence[Mapping[str, Any]]) -> list[Text]:
    lines = []
    for trial in failed:
        reason = trial.get("failure") or trial.get("stop_reason") or "no reason was recorded"
        lines.append(Text.assemble(("failed  ", "dim"), (printable(f"trial {trial['trial']}: {reason}"), "red")))
    return lines


def _finished(finished: Sequence[Mapping[str, Any]], objective: str) -> list[Text]:
    return [
        Text(finished_line(trial, objective), style="red" if trial["state"] == "FAIL" else "")
        for trial in finished[-FINISHED_SHOWN:]
    ]


def _bar(fraction: float) -> Text:
    done = round(BAR_WIDTH * min(max(fraction, 0.0), 1.0))
    return Text.assemble(("━" * done, "green"), ("─" * (BAR_WIDTH - done), "dim"))


def _count(snapshot: Snapshot, state: str) -> int:
    return int(snapshot["counts"].get(state, 0))


def _done(snapshot: Snapshot) -> int:
    return sum(_count(snapshot, state) for state in FINISHED)


def _value(snapshot: Snapshot) -> str:
    return shown(snapshot["objective"], snapshot["best"]["value"])


def _times(snapshot: Snapshot) -> str:
    left, budget = snapshot["left_s"], snapshot["budget_left_s"]
    remaining = f", about {duration(left)} left" if left is not None else ""
    if budget is not None and (left is None or budget < left):
        remaining = f", {duration(budget)} of the budget left"
    return duration(snapshot["elapsed_s"]) + remaining


def _settings(params: Mapping[str, Any]) -> str:
    return printable(" ".join(f"{name}={shown('', value)}" for name, value in params.items()))
