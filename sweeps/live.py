"""Progress of a running study: a live view on a terminal, plain lines elsewhere.

Both are drawn from snapshots, plain dicts; nothing here asks for anything. Their keys: study; limit (trials asked for,
repeated ones included); counts (trials by state); failures (failed trials that were not trained once more); objective;
best (trial, value, params, or None); packs (each pack, members, phase, under_way in members, evaluations, seconds);
under_way (trained parts of unfinished trials, in trials); elapsed_s; remaining_s; finished (the trials that finished
since the snapshot before); finished_count (all of them in this start); over_budget (why no new trial starts, or None).
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

from .descriptions import STAGES
from .rendering import duration, printable, shown

PLAIN_INTERVAL_S = 5.0
PACKS_SHOWN = 6
FINISHED_SHOWN = 5
BAR_WIDTH = 18

Snapshot = Mapping[str, Any]


class Progress:
    """Shows snapshots as they come: `with Progress(console, plain=False) as progress: progress.update(snapshot)`.

    On a terminal the view stays below whatever else is printed and is left standing at the end. Elsewhere, or with
    `plain`, a line comes with every finished trial, and otherwise at most one in five seconds. One thread at a time
    may update it.
    """

    def __init__(self, console: Console, plain: bool, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        if not plain and console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False, vertical_overflow="ellipsis")
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=FINISHED_SHOWN)
        self._last_line = self._newest_line = ""
        self._next_line_at = float("-inf")

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        elif self._newest_line != self._last_line:  # the five seconds kept the last state back
            self.message(self._newest_line)

    def update(self, snapshot: Snapshot) -> None:
        """Show the state of the study."""
        self._recent.extend(snapshot["finished"])
        if self._live:
            self._live.update(view({**snapshot, "finished": list(self._recent)}), refresh=True)
        else:
            self._print_lines(snapshot)

    def message(self, text: str) -> None:
        """Print a line that stays, above the live view where there is one."""
        self._console.print(Text(text), soft_wrap=True)

    def _print_lines(self, snapshot: Snapshot) -> None:
        for trial in snapshot["finished"]:
            self.message(finished_line(trial, snapshot["objective"]))
        self._newest_line = status_line(snapshot)
        if self._clock() >= self._next_line_at and self._newest_line != self._last_line:
            self._next_line_at = self._clock() + PLAIN_INTERVAL_S
            self._last_line = self._newest_line
            self.message(self._newest_line)


def status_line(snapshot: Snapshot) -> str:
    """The study in one line: counts, best value, time."""
    pruned, failed = _count(snapshot, "PRUNED"), snapshot["failures"]
    parts = [f"{_done(snapshot)}/{snapshot['limit']} trials", f"{_count(snapshot, 'RUNNING')} running"]
    parts += [f"{pruned} pruned"] if pruned else []
    parts += [f"{failed} failed"] if failed else []
    if snapshot["best"]:
        parts.append(f"best {_value(snapshot)} (trial {snapshot['best']['trial']})")
    return f"{snapshot['study']}: " + ", ".join(parts) + f"; {_times(snapshot)}"


def finished_line(trial: Mapping[str, Any], objective: str) -> str:
    """A finished trial in one line: value or failure, why it stopped, how long it took, its configuration."""
    value = trial["value"]
    result = f"{objective} {shown(objective, value)}" if value is not None else "no value"
    if trial["state"] == "PRUNED":
        result = "pruned"
    if trial["state"] == "FAIL":
        result = f"failed, {trial['failure']}" if trial.get("failure") else "failed"
    stop = f" ({reason})" if (reason := trial.get("stop_reason")) and reason != result else ""
    took = f" in {duration(trial['seconds'])}" if trial.get("seconds") is not None else ""
    return printable(f"trial {trial['trial']}: {result}{stop}{took}  {_settings(trial['params'])}").rstrip()


def view(snapshot: Snapshot) -> RenderableType:
    """The live view: how far the study is, its best trial, the packs at work, the last finished trials."""
    title = Rule(Text(printable(snapshot["study"]), style="bold"), align="left", style="dim")
    blocks = (_overall(snapshot), _packs(snapshot["packs"]), _finished(snapshot["finished"], snapshot["objective"]))
    lines = [line for block in blocks if block for line in (Text(), *block)][1:]
    for line in lines:  # one line each, however narrow the terminal
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(title, *lines)


def _overall(snapshot: Snapshot) -> list[Text]:
    done, failed = _done(snapshot), snapshot["failures"]
    trials = _bar((done + snapshot["under_way"]) / max(int(snapshot["limit"]), 1))
    trials.append(f"  {done}/{snapshot['limit']} trials", style="bold")
    states = [state for state in ("RUNNING", "WAITING") if _count(snapshot, state)]
    trials.append("".join(f", {_count(snapshot, state)} {state.lower()}" for state in states))
    pruned = _count(snapshot, "PRUNED")
    trials.append(f", {pruned} pruned" if pruned else "")
    trials.append(f", {failed} failed" if failed else "", style="red")
    lines = [Text.assemble(("trials  ", "dim"), trials), Text.assemble(("time    ", "dim"), _times(snapshot))]
    if best := snapshot["best"]:
        value = (f"{snapshot['objective']} {_value(snapshot)}", "bold green")
        settings = (_settings(best["params"]), "dim")
        lines.append(Text.assemble(("best    ", "dim"), value, f", trial {best['trial']}  ", settings))
    if reason := snapshot["over_budget"]:
        lines.append(Text.assemble(("ending  ", "dim"), printable(reason)))
    return lines


def _packs(packs: Sequence[Mapping[str, Any]]) -> list[Text]:
    names = [f"pack {pack['pack']}" for pack in packs[:PACKS_SHOWN]]
    lines = []
    for name, pack in zip(names, packs, strict=False):
        members = f"{pack['members']} member{'s' if pack['members'] != 1 else ''}"
        share = pack["under_way"] / max(pack["members"], 1)
        phase = STAGES.get(pack["phase"], pack["phase"])
        label = (f"{name:{max(6, *map(len, names))}}  ", "dim")
        evaluations = (f"{pack['evaluations']:,} evaluations", "dim")
        lines.append(Text.assemble(label, _bar(share), f"  {members:11} {phase:14}  ", evaluations))
    more = len(packs) - PACKS_SHOWN
    return [*lines, Text(f"and {more} more packs", style="dim")] if more > 0 else lines


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
    return sum(_count(snapshot, state) for state in ("COMPLETE", "FAIL", "PRUNED"))


def _value(snapshot: Snapshot) -> str:
    return shown(snapshot["objective"], snapshot["best"]["value"])


def _times(snapshot: Snapshot) -> str:
    remaining = snapshot["remaining_s"]
    left = f", about {duration(remaining)} left" if remaining is not None else ""
    return duration(snapshot["elapsed_s"]) + left


def _settings(params: Mapping[str, Any]) -> str:
    return printable(" ".join(f"{name}={shown('', value)}" for name, value in params.items()))
