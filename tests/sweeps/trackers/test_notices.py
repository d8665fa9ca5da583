"""What is told of a run, from its snapshots: each event once, in a sentence and in numbers."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from sweeps.owner.snapshot import BestTrial, FinishedTrial, StudySnapshot
from sweeps.spec.study_spec import StudySpec
from sweeps.study.loading import load_text
from sweeps.trackers.notices import Notices

from ..spec.study_files import ELSEWHERE, MINIMAL

PARAMS = {"width": 8, "adam_lr": 0.0123456}
COUNTS = {"COMPLETE": 2, "FAIL": 1, "PRUNED": 1, "RUNNING": 0, "WAITING": 4}


def spec(text: str = "budget: {target: 0.02}\n") -> StudySpec:
    return load_text(MINIMAL + text, base=ELSEWHERE)


def finished(trial: int, state: str = "COMPLETE", **more: Any) -> FinishedTrial:
    return FinishedTrial(trial, state, 0.5, PARAMS, **more)


def snapshot(*trials: FinishedTrial, best: BestTrial | None = None) -> StudySnapshot:
    return StudySnapshot("s", "rel_l2", True, 8, COUNTS, failures=1, best=best, finished=trials)


def test_the_first_failure_is_told_and_no_other() -> None:
    notices = Notices(spec(), "/runs/s")
    assert list(notices.of(snapshot(finished(0)))) == []
    failed = [finished(n, "FAIL", failure="loss became NaN") for n in (1, 2)]
    (told,) = notices.of(snapshot(*failed))
    assert told["text"] == "s: trial 1 failed: loss became NaN. The run goes on."
    assert (told["event"], told["trial"]["trial"], told["trial"]["failure"]) == ("failure", 1, "loss became NaN")
    assert list(notices.of(snapshot(*failed))) == []


def test_the_target_is_told_where_this_run_reaches_it() -> None:
    best, notices = BestTrial(3, 0.0123, PARAMS), Notices(spec(), "/runs/s")
    assert list(notices.of(snapshot(finished(5), best=best))) == [], "an earlier run reached it"
    assert list(notices.of(snapshot(finished(6), best=BestTrial(6, 0.021, PARAMS)))) == []
    (told,) = notices.of(snapshot(finished(7), best=dataclasses.replace(best, trial=7)))
    assert told["event"] == "target"
    assert told["text"] == "s: rel_l2 1.23 % of trial 7 (width 8, adam_lr 0.01235) reaches the target 2 %."
    assert told["best"] == {"trial": 7, "value": 0.0123, "params": PARAMS}
    assert list(notices.of(snapshot(finished(8), best=dataclasses.replace(best, trial=8)))) == []
    assert list(Notices(spec(""), "/runs/s").of(snapshot(finished(7), best=dataclasses.replace(best, trial=7)))) == []


@pytest.mark.parametrize(
    ("reason", "detail", "words"),
    [
        ("finished", "", "s has finished; 4/8 trials, 1 pruned, 1 failed; best rel_l2 1.23 % of trial 3 (width 8, "),
        ("stopped", "", "s was stopped; 4/8 trials"),
        ("over budget", "budget.hours: 1 h are used up", "s has ended: budget.hours: 1 h are used up; 4/8 trials"),
        ("unfinished", "", "s has ended with unfinished trials; 4/8"),
        ("lost", "its owner is gone", "s was lost: its owner is gone; 4/8"),
    ],
)
def test_the_end_is_told_with_its_reason(reason: str, detail: str, words: str) -> None:
    notices = Notices(spec(), "/runs/s")
    list(notices.of(snapshot(best=BestTrial(3, 0.0123, PARAMS))))
    told = json.loads(json.dumps(notices.end(reason, detail)))
    assert told["text"].startswith(words) and told["text"].endswith(".")
    assert (told["event"], told["reason"], told["study"], told["place"]) == ("end", reason, "s", "/runs/s")
    assert (told["counts"], told["trials"], told["failures"]) == (COUNTS, 8, 1)
    assert (told["objective"], told["best"]["value"]) == ("rel_l2", 0.0123)
    assert told["host"] and told["time"].endswith("+00:00")
    assert told.get("detail", "") == detail


def test_an_end_before_the_first_snapshot() -> None:
    told = Notices(spec(), "/runs/s").end("lost", "no node")
    assert told["text"] == "s was lost: no node." and (told["best"], told["counts"]) == (None, {})
