"""Progress of a running study: a live view on a terminal, plain lines elsewhere.

Both are drawn from snapshots, plain dicts; nothing here asks for anything. Their keys: study; limit (trials asked for,
repeated ones included); counts (trials by state); failures (failed trials that were not trained once more); objective;
best (trial, value, params, or None); packs (each pack, members, phase, under_way in members, evaluations, seconds, and
what `deviceuse` measured); places (packs that the machines have room for); requested (workers that are there or asked
for); preparing (what workers do before they train); cores_per_pack; under_way (trained parts of unfinished trials, in
trials); budget_left_s (or None); finished (the trials that finished since the snapshot
before); finished_count (all of them in this start); over_budget (why no new trial starts, or None).
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

from ..query.text import duration, printable, shown
from ..spec.descriptions import STAGES
from ..states import FINISHED
from .pace import Pace

PLAIN_INTERVAL_S = 5.0
STILL_INTERVAL_S = 60.0  # between two lines of a study that waits
REFRESHES = 4  # a second
PACKS_SHOWN = 6
FINISHED_SHOWN = 5
FAILED_SHOWN = 3  # beside those among the finished
BAR_WIDTH = 18

Snapshot = Mapping[str, Any]


class Progress:
    """Shows snapshots as they come: `with Progress(console, plain=False) as progress: progress.update(snapshot)`.

    On a terminal the view stays below whatever else is printed and is left standing at the end. Elsewhere, or with
    `plain`, a line comes with every finished trial, and otherwise at most one in five seconds, or in a minute while
    the study waits. One thread at a time may update it. Time counts from `began` (by `clock`; default: now).
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
        self._told_state = self._state = self._newest_line = ""
        self._has_news = False
        self._told_at = float("-inf")
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
        elif self._has_news:  # the five seconds kept the last state back
            self.message(self._newest_line)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the user asked for the run."""
        return self._clock() - self._began

    def phase(self, text: str) -> None:
        """Show what is being done before there is a state of the study."""
        if text == self._phase:
            return
        self._phase = text
        if not self._live:
            self.message(f"{text} ({duration(self.elapsed_s)})")

    def _draw(self) -> RenderableType:
        """What stands below the messages: the study's state, or what is being done and for how long."""
        if self._drawn is not None:
            return self._drawn
        return Text.assemble((duration(self.elapsed_s), "dim"), f"  {self._phase} ...") if self._phase else Text("")

    def update(self, snapshot: Snapshot) -> None:
        """Show the state of the study."""
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
        """Print a line that stays, above the live view where there is one."""
        self._write(lambda: self._console.print(Text(text), soft_wrap=True))

    def _write(self, write: Callable[[], object]) -> None:
        """Write; once nobody reads any more (a closed pipe) the run goes on without a word."""
        if self._is_mute:
            return
        try:
            write()
        except (OSError, SystemExit):  # the latter is what rich makes of a closed pipe
            self._is_mute = True

    def _print_lines(self, snapshot: Snapshot) -> None:
        for trial in snapshot["finished"]:
            self.message(finished_line(trial, snapshot["objective"]))
        self._state, self._newest_line = state(snapshot), status_line(snapshot)
        has_news = bool(snapshot["packs"]) or self._state != self._told_state
        if self._clock() >= self._told_at + (PLAIN_INTERVAL_S if has_news else STILL_INTERVAL_S):
            self._told_at, self._told_state = self._clock(), self._state
            self.message(self._newest_line)
            has_news = False
        self._has_news = has_news


def status_line(snapshot: Snapshot) -> str:
    """The study in one line: counts, best value, time."""
    return f"{state(snapshot)}; {_times(snapshot)}"


def state(snapshot: Snapshot) -> str:
    """The same without the time."""
    pruned, failed = _count(snapshot, "PRUNED"), snapshot["failures"]
    parts = [f"{_done(snapshot)}/{snapshot['limit']} trials", f"{_count(snapshot, 'RUNNING')} running"]
    parts += [f"{pruned} pruned"] if pruned else []
    parts += [f"{failed} failed"] if failed else []
    if snapshot["best"]:
        parts.append(f"best {_value(snapshot)} (trial {snapshot['best']['trial']})")
    parts += _waits(snapshot)
    return f"{snapshot['study']}: " + ", ".join(parts)


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
    """The live view: how far the study is, its best trial, the packs at work, the last finished and failed trials.

    Keys more than a snapshot's: elapsed_s, left_s (seconds, or None), and failed (trials not among the finished).
    """
    title = Rule(Text(printable(snapshot["study"]), style="bold"), align="left", style="dim")
    trials = [*_failed(snapshot["failed"]), *_finished(snapshot["finished"], snapshot["objective"])]
    blocks = (_overall(snapshot), _packs(snapshot["packs"]), trials)
    lines = [line for block in blocks if block for line in (Text(), *block)][1:]
    for line in lines:  # one line each, however narrow the terminal
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
    lines += [Text.assemble(("waiting ", "dim"), printable(each)) for each in _waits(snapshot)]
    if reason := snapshot["over_budget"]:
        lines.append(Text.assemble(("ending  ", "dim"), printable(reason)))
    return lines


def _waits(snapshot: Snapshot) -> list[str]:
    """What workers wait for: nodes, kernels."""
    grows = snapshot["requested"] > snapshot["places"]
    growth = f"waiting for the cluster to grow ({snapshot['places']} of {snapshot['requested']} places)"
    waits = [*([growth] if grows else ()), *snapshot["preparing"]]
    is_starting = not waits and snapshot["requested"] and not snapshot["packs"]
    return waits or (["workers are starting"] if is_starting and not snapshot["finished_count"] else [])


def _devices(snapshot: Snapshot) -> str:
    """How many packs train, and what their workers measured."""
    packs = snapshot["packs"]
    parts = [f"{len(packs)} pack{'s' if len(packs) != 1 else ''} in training, room for {snapshot['places']}"]
    if cores := [pack["cores_busy"] for pack in packs if "cores_busy" in pack]:
        parts.append(f"cores {100 * sum(cores) / len(cores) / snapshot['cores_per_pack']:.0f} % busy")
    if gpus := [pack["gpu_busy"] for pack in packs if "gpu_busy" in pack]:
        parts.append(f"GPUs {100 * sum(gpus) / len(gpus):.0f} % busy")
    if held := sum(pack.get("gpu_bytes", 0.0) for pack in packs):
        parts.append(f"{held / 1e9:.3g} GB of GPU memory")
    return ", ".join(parts)


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


def _failed(failed: Sequence[Mapping[str, Any]]) -> list[Text]:
    lines = []
    for trial in failed:
        why = trial.get("failure") or trial.get("stop_reason") or "no reason was recorded"
        lines.append(Text.assemble(("failed  ", "dim"), (printable(f"trial {trial['trial']}: {why}"), "red")))
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
    told = f", about {duration(left)} left" if left is not None else ""
    if budget is not None and (left is None or budget < left):
        told = f", {duration(budget)} of the budget left"
    return duration(snapshot["elapsed_s"]) + told


def _settings(params: Mapping[str, Any]) -> str:
    return printable(" ".join(f"{name}={shown('', value)}" for name, value in params.items()))
