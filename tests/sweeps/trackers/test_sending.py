"""What is sent, and when it is sent again: the record, troubles, two senders at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import StudyError
from sweeps.storage import compaction
from sweeps.storage.tables import StudyTables
from sweeps.trackers import sending
from sweeps.trackers.child import Order, in_one_line, obey
from sweeps.trackers.member_runs import MemberRun
from sweeps.trackers.sending import Sending, follow
from sweeps.trackers.sent import SentRuns, only_sender

from ..invoking import made_study


class Memory:
    """A tracker that keeps names, and refuses those in `refused`."""

    place = "memory"

    def __init__(self, *refused: str) -> None:
        self.refused, self.names = set(refused), list[str]()

    def log(self, run: MemberRun) -> None:
        if run.name in self.refused:
            raise ConnectionError(f"no {run.name}")
        self.names.append(run.name)

    def close(self) -> None: ...


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    return made_study(tmp_path, states=["COMPLETE", "FAIL", "PRUNED", "RUNNING"])


def new(study_dir: Path, tracker: Memory, *, again: bool = False) -> Sending:
    return Sending(StudyTables(study_dir), study_dir, "first", "memory", tracker, numbered=False, again=again)


def test_finished_trials_are_sent_once(study_dir: Path) -> None:
    tracker = Memory()
    for sent in (3, 0):
        last = new(study_dir, tracker)
        last.send()
        assert (last.sent, last.before, last.left) == (sent, 3 - sent, 0)
    assert tracker.names == ["first/0", "first/1", "first/2"]
    new(study_dir, tracker, again=True).send()
    assert len(tracker.names) == 6
    assert json.loads((study_dir / "tracked" / "memory.json").read_text()) == {"memory": {"0": "0-2"}}


def test_what_was_sent_before_a_trouble_is_not_sent_again(study_dir: Path) -> None:
    tracker = Memory("first/1")
    broken = new(study_dir, tracker)
    with pytest.raises(ConnectionError):
        broken.send()
    assert (broken.sent, broken.left) == (1, 2)
    tracker.refused.clear()
    new(study_dir, tracker).send()
    assert tracker.names == ["first/0", "first/1", "first/2"]


def test_a_new_place_gets_everything_and_the_old_one_nothing_more(study_dir: Path) -> None:
    one, other = Memory(), Memory()
    other.place = "elsewhere"
    for tracker in (one, other, one):
        new(study_dir, tracker).send()
    assert one.names == other.names == ["first/0", "first/1", "first/2"]


def test_merged_files_are_nothing_new(study_dir: Path) -> None:
    tracker = Memory()
    following = new(study_dir, tracker)
    following.send()
    compaction.compact(StudyTables(study_dir))
    following.send()
    assert len(tracker.names) == 3


def test_a_damaged_record_counts_as_empty(study_dir: Path) -> None:
    new(study_dir, Memory()).send()
    for text in ("{", "[]", '{"memory": {"0": "x"}}', '{"memory": []}'):
        (study_dir / "tracked" / "memory.json").write_text(text)
        assert len(SentRuns(study_dir, "memory", "memory")) == 0


@given(st.sets(st.tuples(st.integers(0, 300), st.integers(0, 3)), max_size=60))
def test_the_record_reads_what_it_wrote(tmp_path_factory: pytest.TempPathFactory, keys: set[tuple[int, int]]) -> None:
    folder = tmp_path_factory.getbasetemp()
    record = SentRuns(folder, "any", "place", again=True)
    for key in keys:
        record.add(key)
    record.save()
    again = SentRuns(folder, "any", "place")
    assert len(again) == len(keys) and all(key in again for key in keys)


def test_only_one_process_sends(study_dir: Path) -> None:
    order = Order("first", str(study_dir), str(study_dir), "tensorboard", {}, numbered=False, again=False)
    with only_sender(study_dir, "tensorboard"), pytest.raises(StudyError, match="another process sends"):
        obey(order, lambda pause_s: True, lambda **answer: None, lambda error: None)


def waits(*answers: bool) -> tuple[list[float], object]:
    pauses: list[float] = []
    left = list(answers)

    def wait(pause_s: float) -> bool:
        pauses.append(pause_s)
        return left.pop(0)

    return pauses, wait


def test_a_study_is_followed_to_its_end_through_troubles(study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending.time, "monotonic", lambda: 0.0)
    tracker, troubles = Memory("first/0"), list[Exception]()
    pauses, wait = waits(False, False, False, True)

    def trouble(error: Exception) -> None:
        troubles.append(error)
        if len(troubles) == 2:
            tracker.refused.clear()

    follow(new(study_dir, tracker), wait, trouble)  # type: ignore[arg-type]
    assert tracker.names == ["first/0", "first/1", "first/2"] and len(troubles) == 2
    assert pauses == [0.0, 2 * sending.PASS_S, 4 * sending.PASS_S, sending.PASS_S]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConnectionError("no\n  route"), "ConnectionError: no route"),
        (ValueError(), "ValueError"),
        (StudyError("torn"), "torn"),
        (OSError("http://me:pw@host refused"), "OSError: http://me:***@host refused"),
    ],
)
def test_a_trouble_is_one_line_without_secrets(error: Exception, line: str) -> None:
    assert in_one_line(error) == line
