"""The status of a study: while it runs, after it was killed, where it is damaged, and its time."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.errors import StudyError
from sweeps.owner.owner import StudyOwner
from sweeps.runner.worker import SlotWorker
from sweeps.search import Search, search_of
from sweeps.spec.study_spec import StudySpec
from sweeps.storage.database import connect, database
from sweeps.storage.lock import StudyLock
from sweeps.storage.optuna_sql import Ledger
from sweeps.study.folder import open_study
from sweeps.study.loading import load_spec, load_text
from sweeps.study.status import read_status
from sweeps.study.study_file import LIMIT
from tests.cluster.waiting import WAIT_S

from ..invoking import invoke
from ..small import MACHINES, kill, next_slot, prepare, train_all, write_study
from ..storage.test_optuna_sql import multiply

TEXT = """\
study: small
search: {sampler: random, trials: 12, seed: 3}
space:
  width: {choice: [3, 5, 6]}
  adam_lr: {loguniform: [1.0e-3, 2.0e-2]}
  keep_epochs: {choice: [[0, 50], [0]]}
"""


def begun(study_dir: Path, text: str = TEXT) -> tuple[StudySpec, Search]:
    spec = load_text(text, base=Path("/"))
    study_dir.mkdir(parents=True, exist_ok=True)
    open_study(study_dir, spec).ledger.close()
    return spec, search_of(spec)


def enter(ledger: Ledger, search: Search, number: int) -> dict[str, object]:
    params = search.propose(number).params
    ledger.enter(number, search.stored(params), search.distributions(params), {"pack": 0})
    return params


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    """Five trials: two complete, one failed, one pruned, one running."""
    study_dir = tmp_path / "small"
    _, search = begun(study_dir)
    ledger = Ledger(database(study_dir), "small")
    for number in range(5):
        enter(ledger, search, number)
    ledger.mark(0, "COMPLETE", [0.5])
    ledger.mark(1, "COMPLETE", [0.25])
    ledger.mark(2, "FAIL")
    ledger.mark(3, "PRUNED")
    ledger.mark(4, "RUNNING")
    ledger.close()
    return study_dir


def test_a_study_that_runs_and_the_same_one_killed(study_dir: Path) -> None:
    spec = load_text(TEXT, base=Path("/"))
    held = StudyLock(study_dir, driver_pid=os.getpid())
    running = read_status(study_dir)
    assert running == {
        "study": "small",
        "limit": 12,
        "counts": {"COMPLETE": 2, "FAIL": 1, "PRUNED": 1, "RUNNING": 1, "WAITING": 0},
        "objective": "rel_l2",
        "in_percent": True,
        "best": {"trial": 1, "value": 0.25, "params": search_of(spec).propose(1).params},
        "held_by": running["held_by"],
        "failures": 1,
        "saved": [],
    }
    assert str(os.getpid()) in running["held_by"]
    held.release()
    before = (study_dir / "study.db").read_bytes()
    killed = read_status(study_dir)
    assert killed == {**running, "held_by": None, "counts": {**running["counts"], "RUNNING": 0, "WAITING": 1}}
    assert (study_dir / "study.db").read_bytes() == before


def test_packs_that_wait_half_trained_say_how_far_they_are(tmp_path: Path) -> None:
    study_dir, _ = prepare(tmp_path, load_spec(write_study(tmp_path / "data", trials=6, epochs=3000, iterations=0)))
    owner = StudyOwner(study_dir, MACHINES)
    first, second = (SlotWorker(owner, study_dir, next_slot(owner)) for _ in range(2))
    first.segment(0.0)
    second.segment(0.05)
    assert read_status(study_dir)["saved"] == [], "while it runs, the live view says it"
    kill(owner)
    status = read_status(study_dir)
    assert status["counts"]["WAITING"] == 6
    near, far = status["saved"]
    assert 0 < near["share"] < far["share"] < 1
    trials = [*near["trials"], *far["trials"]]
    assert len(set(trials)) == 4 and set(trials) <= set(range(6))
    result = invoke("status", study_dir)
    shares = ", ".join(f"pack {pack['pack']} at {100 * pack['share']:.0f} %" for pack in status["saved"])
    assert f"\n  4 of those that wait are half-trained and saved: {shares} of their steps\n" in result.stdout
    assert train_all(study_dir, segment_s=5.0).close()["COMPLETE"] == 6
    assert read_status(study_dir)["saved"] == []


def test_a_study_that_has_only_begun(tmp_path: Path) -> None:
    begun(tmp_path / "small")
    status = read_status(tmp_path / "small")
    assert status["limit"] == 12 and status["best"] is None and set(status["counts"].values()) == {0}


def test_several_objectives_are_named(tmp_path: Path) -> None:
    text = TEXT.replace("seed: 3", "seed: 3, objective: [rel_l2, loss]")
    _, search = begun(tmp_path / "small", text)
    ledger = Ledger(database(tmp_path / "small"), "small")
    for number, values in enumerate([(0.5, 0.1), (0.25, 0.2)]):
        enter(ledger, search, number)
        ledger.mark(number, "COMPLETE", values)
    ledger.close()
    status = read_status(tmp_path / "small")
    assert status["objective"] == "rel_l2, loss" and (status["best"]["trial"], status["best"]["value"]) == (1, 0.25)


def test_trials_are_counted_by_the_file_where_the_owner_has_not_yet(study_dir: Path) -> None:
    ledger = Ledger(database(study_dir), "small")
    ledger.set_attribute(LIMIT, 12)
    assert read_status(study_dir)["limit"] == 12
    file = study_dir / "study.yaml"
    file.write_text(file.read_text().replace("trials: 12", "trials: 20"))
    assert read_status(study_dir)["limit"] == 20, "the file was changed by hand"
    opened = open_study(study_dir)
    opened.ledger.close()
    assert read_status(study_dir)["limit"] == 20
    ledger.close()


def test_a_torn_study_file_is_read_from_the_database(study_dir: Path) -> None:
    expected = read_status(study_dir)
    file = study_dir / "study.yaml"
    content = file.read_bytes()
    for size in (0, 3, 9, 300, len(content) - 30, len(content) - 3):
        file.write_bytes(content[:size])
        assert read_status(study_dir) == expected
        assert file.read_bytes() == content[:size]


def test_a_study_kept_in_another_folder(tmp_path: Path) -> None:
    begun(tmp_path / "small", f"{TEXT}state: {tmp_path / 'a kept one'}\n")
    assert read_status(tmp_path / "small")["limit"] == 12
    (tmp_path / "a kept one" / "small.db").unlink()
    with pytest.raises(StudyError, match=r"small\.db is missing or empty"):
        read_status(tmp_path / "small")


@pytest.mark.parametrize("content", [None, b"", b"garbage " * 1000, b"SQLite format 3\0" + b"\0" * 5000])
def test_a_damaged_database_is_named(study_dir: Path, content: bytes | None) -> None:
    file = study_dir / "study.db"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StudyError, match=r"study\.db"):
        read_status(study_dir)
    assert (file.read_bytes() if file.exists() else None) == content


def test_a_database_of_another_study_is_refused(study_dir: Path) -> None:
    connection = connect(database(study_dir))
    connection.run("UPDATE studies SET study_name = 'other'")
    connection.close()
    with pytest.raises(StudyError, match=r"study\.db holds no study 'small'"):
        read_status(study_dir)


PROGRAM = """
import json, sys
from pathlib import Path
from sweeps import cli
from sweeps.study.status import read_status
status = read_status(Path(sys.argv[1]))
heavy = [name for name in ("torch", "ray", "pyarrow", "optuna", "sqlalchemy", "numpy") if name in sys.modules]
print(json.dumps([status, heavy]))
"""


def test_ten_thousand_trials_are_told_in_a_second(tmp_path: Path) -> None:
    """The whole process, start of Python and of the command included, by the time it has on a core."""
    study_dir = tmp_path / "small"
    _, search = begun(study_dir, TEXT.replace("trials: 12", "trials: 10000"))
    ledger = Ledger(database(study_dir), "small")
    enter(ledger, search, 0)
    ledger.mark(0, "COMPLETE", [0.5])
    ledger.set_attribute(LIMIT, 10_000)
    ledger.close()
    multiply(database(study_dir), 10_000)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-c", PROGRAM, str(study_dir)]
    answer = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    status, heavy = json.loads(answer.stdout)
    assert status["counts"]["COMPLETE"] == 10_000 and status["best"]["trial"] == 0
    assert heavy == [], "slow imports are not needed"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
