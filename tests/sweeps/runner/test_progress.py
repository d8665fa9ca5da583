"""Progress on a terminal and in a log, drawn from snapshots."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from sweeps.owner.messages import DeviceLoad, PackProgress
from sweeps.owner.snapshot import BestTrial, FinishedTrial, StudySnapshot
from sweeps.query.text import duration
from sweeps.runner.progress import Progress, finished_line, status_line, times, view
from sweeps.states import STATES


def trial(number: int, *, value: float | None = 0.0131, state: str = "COMPLETE", **changes: Any) -> FinishedTrial:
    reason = "iterations_done" if value is not None else "not_finite"
    params = {"width": 16, "adam_lr": 0.00123456, "init": "keras"}
    return replace(FinishedTrial(number, state, value, params, reason, seconds=22.4), **changes)


PACKS = {3: PackProgress(4, "lbfgs", 2.0, 25914), 4: PackProgress(1, "mixed", 0.25, 12)}
SNAPSHOT = StudySnapshot(
    study="quickstart",
    objective="rel_l2",
    is_percent=True,
    limit=16,
    counts={"COMPLETE": 2, "FAIL": 1, "PRUNED": 0, "RUNNING": 8, "WAITING": 5},
    failures=1,
    best=BestTrial(1, 0.0131, {"width": 16, "init": "keras"}),
    packs=PACKS,
    under_way=2.25,
    places=2,
    requested=2,
    finished=[trial(0), trial(1), trial(2, value=None, state="FAIL")],
    finished_count=3,
)


def snapshot(**changes: Any) -> StudySnapshot:
    return replace(SNAPSHOT, **changes)


EMPTY = snapshot(counts=dict.fromkeys(STATES, 0), failures=0, best=None, packs={}, under_way=0.0, finished=[])


def drawn(
    content: StudySnapshot, width: int = 100, *, elapsed_s: float = 136.0, left_s: float | None = 72.0
) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(view(content, times(content, elapsed_s, left_s), content.finished, width=width))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


class Log:
    """Progress on a console that is no terminal, with a clock set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.console = Console(file=io.StringIO(), width=40)
        self.progress = Progress(self.console, plain=False, clock=lambda: self.now)

    @property
    def lines(self) -> list[str]:
        return self.console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_view_shows_counts_time_best_packs_and_finished_trials() -> None:
    lines = drawn(snapshot())
    assert lines[0].startswith("quickstart ──")
    assert lines[1].startswith("trials  ━━━━━━────") and lines[1].endswith(
        "3/16 trials, 1 failed, 8 running, 5 waiting"
    )
    assert lines[2] == "time    2 min 16 s, about 1 min 12 s left"
    assert lines[3] == "best    rel_l2 1.31 %, trial 1  width=16 init=keras"
    assert lines[4] == "devices 2 packs in training, room for 2"
    assert lines[6] == "pack 3  ━━━━━━━━━─────────  4 members   L-BFGS          25,914 evaluations"
    assert lines[7] == "pack 4  ━━━━──────────────  1 member    both stages     12 evaluations"
    assert lines[9] == "trial 0: rel_l2 1.31 % (iterations_done) in 22 s  width=16 adam_lr=0.001235 init=keras"
    assert lines[11] == "trial 2: failed (not_finite) in 22 s  width=16 adam_lr=0.001235 init=keras"


def test_the_view_shows_what_was_pruned_retried_and_what_ends_the_study() -> None:
    counts = {"COMPLETE": 2, "FAIL": 1, "PRUNED": 3, "RUNNING": 1, "WAITING": 0}
    ending = snapshot(counts=counts, failures=0, over_budget="budget.hours: 2 h are used up (2.01 h)")
    lines = drawn(ending)
    assert lines[1].endswith("6/16 trials, 3 pruned, 1 running")  # the failed one was trained once more
    assert lines[5] == "ending  budget.hours: 2 h are used up (2.01 h)"
    assert status_line(ending).startswith("quickstart: 6/16 trials, 1 running, 3 pruned, best")
    pruned = trial(7, value=None, state="PRUNED", stop_reason="pruned")
    assert finished_line(pruned, "rel_l2", is_percent=True).startswith("trial 7: pruned in 22 s  width=16")


def test_the_view_shows_what_the_workers_measured() -> None:
    packs = {n: replace(PACKS[n], load=DeviceLoad(busy)) for n, busy in ((3, 1.96), (4, 1.0))}
    assert (
        drawn(snapshot(packs=packs, cores_per_pack=2))[4] == "devices 2 packs in training, room for 2, cores 74 % busy"
    )
    packs[3] = replace(PACKS[3], load=DeviceLoad(cores_busy=0.5, gpu_busy=0.9, gpu_bytes=3e9))
    lines = drawn(snapshot(packs=packs, places=4))
    assert lines[4] == "devices 2 packs in training, room for 4, cores 75 % busy, GPUs 90 % busy, 3 GB of GPU memory"
    assert "devices" not in "".join(drawn(snapshot(packs={})))


@pytest.mark.parametrize(
    ("left_s", "budget_left_s", "text"),
    [
        (72.0, 600.0, ", about 1 min 12 s left"),
        (7200.0, 600.0, ", 10 min 00 s of the budget left"),
        (None, 600.0, ", 10 min 00 s of the budget left"),
        (None, None, ""),
    ],
)
def test_the_time_left_ends_with_the_budget(left_s: float | None, budget_left_s: float | None, text: str) -> None:
    assert drawn(snapshot(budget_left_s=budget_left_s), left_s=left_s)[2] == f"time    2 min 16 s{text}"


def test_the_view_stays_small_and_inside_the_terminal() -> None:
    many = snapshot(packs=dict.fromkeys(range(40), PACKS[3]), finished=[trial(n) for n in range(895, 900)])
    lines = drawn(many)
    assert len(lines) <= 20 and "and 34 more packs" in lines[12] and lines[-1].startswith("trial 899")
    for width in (40, 60, 80):
        assert all(len(line) <= width for line in drawn(snapshot(), width))
        assert drawn(snapshot(), width)[2].startswith("time    2 min 16 s")
    assert drawn(snapshot(), 60)[1] == "trials  ━───  3/16 trials, 1 failed, 8 running, 5 waiting"
    assert drawn(snapshot(), 60)[6].endswith("25,914 evaluations")


def test_a_study_that_has_just_begun_is_drawn() -> None:
    assert drawn(EMPTY, elapsed_s=0.2, left_s=None)[2] == "time    0 s"
    assert status_line(EMPTY) == "quickstart: 0/16 trials, 0 running"
    assert drawn(snapshot(limit=0, packs={}))


def test_text_from_outside_is_shown_as_text() -> None:
    hostile = snapshot(study="a[bold]b", finished=[trial(0, params={"init": "[red]x\x1b[31m\n"})])
    assert "a[bold]b" in drawn(hostile)[0]
    assert drawn(hostile)[-1].endswith("init=[red]x [31m")


def test_a_log_gets_each_finished_trial_once_and_the_state_at_most_every_five_seconds() -> None:
    log = Log()
    with log.progress as progress:
        for log.now in range(12):
            new = [trial(log.now // 3)] if log.now % 3 == 2 else []  # a trial finishes every three seconds
            progress.update(snapshot(finished=new))
        progress.message("a word [in] between")
    finished = [line for line in log.lines if line.startswith("trial ")]
    states = [line for line in log.lines if line.startswith("quickstart: ")]
    assert [line.split(":")[0] for line in finished] == [f"trial {n}" for n in range(4)]
    assert [line.rsplit("; ", 1)[1] for line in states] == ["0 s", "5 s", "10 s", "11 s"]  # the last state at the end
    assert states[0] == "quickstart: 3/16 trials, 8 running, 1 failed, best 1.31 % (trial 1); 0 s"
    assert "a word [in] between" in log.lines
    assert "\x1b" not in log.console.file.getvalue()  # type: ignore[attr-defined]


def test_a_state_that_does_not_change_is_printed_once() -> None:
    log = Log()
    with log.progress as progress:
        for log.now in range(0, 60, 6):
            progress.update(EMPTY)
    assert log.lines == ["quickstart: 0/16 trials, 0 running; 0 s"]


def test_a_terminal_gets_a_live_view_unless_plain_lines_are_requested() -> None:
    for plain in (False, True):
        console = Console(
            file=io.StringIO(), width=100, force_terminal=True, color_system=None, _environ={"TERM": "xterm"}
        )
        with Progress(console, plain=plain) as progress:
            progress.update(snapshot())
            progress.message("a word between")
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "a word between" in text
        assert ("\x1b[?25l" in text, "\x1b[?25h" in text, "4 members" in text) == (not plain,) * 3


def test_the_live_view_keeps_the_trials_that_finished_last() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, _environ={"TERM": "xterm"})
    with Progress(console, plain=False) as progress:
        for number in range(7):  # a snapshot has only the trials since the previous one
            progress.update(snapshot(finished=[trial(number)]))
    last = console.file.getvalue().rpartition("quickstart ──")[2]  # type: ignore[attr-defined]
    assert [line.split(":")[0] for line in last.splitlines() if line.startswith("trial ")] == [
        f"trial {n}" for n in range(2, 7)
    ]


def test_the_live_view_keeps_the_last_failures_in_sight() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, _environ={"TERM": "xterm"})
    with Progress(console, plain=False) as progress:
        for number in range(5):
            failed = trial(number, value=None, state="FAIL", failure=f"reason {number}")
            progress.update(snapshot(finished=[failed]))
        progress.update(snapshot(finished=[trial(number) for number in range(5, 9)]))
    last = console.file.getvalue().rpartition("quickstart ──")[2]  # type: ignore[attr-defined]
    trials = [line.partition("  width")[0].rstrip() for line in last.splitlines() if "trial" in line][2:]
    assert trials[:4] == [
        *(f"failed  trial {n}: reason {n}" for n in (1, 2, 3)),
        "trial 4: failed, reason 4 (not_finite) in 22 s",
    ]
    assert [line.split(":")[0] for line in trials[4:]] == [f"trial {n}" for n in (5, 6, 7, 8)]


def test_the_view_is_left_standing_when_the_study_is_interrupted() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, _environ={"TERM": "xterm"})
    progress = Progress(console, plain=False).__enter__()
    progress.update(snapshot())
    progress.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert console.file.getvalue().rstrip().endswith("\x1b[?25h")  # type: ignore[attr-defined]  the cursor is back


def test_a_finished_trial_without_times_or_reasons_is_one_line() -> None:
    bare = FinishedTrial(3, "COMPLETE", 0.5, {})
    assert finished_line(bare, "loss", is_percent=False) == "trial 3: loss 0.5"
    failed = replace(bare, state="FAIL", value=None, failure="worker\nlost")
    assert finished_line(failed, "loss", is_percent=False) == "trial 3: failed, worker lost"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (273_600, "3 d 04 h"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
