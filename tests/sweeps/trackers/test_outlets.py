"""A run with everything that it tells others: real trials, a real child process, a webhook of this machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps.errors import RunLostError, SpecError
from sweeps.owner.snapshot import StudySnapshot
from sweeps.spec.study_spec import StudySpec
from sweeps.study.folder import open_folder
from sweeps.study.loading import load_spec, load_text
from sweeps.trackers import outlets
from sweeps.trackers.outlets import Outlets, refuse_unready

from ..invoking import made_study
from ..small import train_all, write_study
from ..spec.study_files import ELSEWHERE, MINIMAL
from .reading import of_tensorboard, webhook

A_SNAPSHOT = StudySnapshot("first", "rel_l2", True, 1, {"COMPLETE": 1}, finished_count=1)


def train_with_outlets(spec: StudySpec, root: Path, **options: Any) -> tuple[Path, list[str]]:
    """Train a study as the driver does, but without Ray; return its folder and the lines that were shown."""
    lines: list[str] = []
    study_dir, _ = open_folder(root, spec)
    with Outlets(spec, study_dir, None, lines.append) as told:
        owner = train_all(study_dir, spec=spec, **options)
        lines += told.update(owner.snapshot())
        owner.close()
        told.end("finished")
    return study_dir, lines


def test_a_run_is_sent_and_told_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "END_S", 120.0)  # on a loaded machine a library is imported slowly
    file = write_study(tmp_path / "data", trials=3, epochs=8, iterations=4)
    with webhook() as served:
        spec = load_spec(file, ["track.tensorboard={}", f"notify.webhook={served.address}", "budget.max_failures=9"])
        study_dir, lines = train_with_outlets(spec, tmp_path)
    (body,) = served.bodies
    assert (body["event"], body["reason"], body["place"]) == ("end", "finished", str(study_dir))
    assert body["text"].startswith("small has finished; 3/3 trials; best rel_l2 ") and body["best"]["trial"] in range(3)
    assert lines[-1:] == [f"tensorboard: 3 runs sent to {study_dir}/tensorboard"]

    _, lines = train_with_outlets(load_spec(file, ["track.tensorboard={}", "search.trials=5"]), tmp_path)
    assert lines[-1:] == [f"tensorboard: 2 runs sent to {study_dir}/tensorboard"]
    assert sorted(of_tensorboard(study_dir / "tensorboard")) == [f"small/{trial}" for trial in range(5)]


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes requests and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_tracker_that_hangs_delays_the_end_by_a_bounded_time(
    tmp_path: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlets, "END_S", 1.0)
    monkeypatch.setattr(outlets, "QUIET_S", 0.2)
    study_dir = made_study(tmp_path, states=["COMPLETE"], lines=f"track: {{mlflow: {{uri: '{silent_server}'}}}}\n")
    spec = load_spec(study_dir / "study.yaml")
    lines: list[str] = []
    with Outlets(spec, study_dir, None, lines.append) as told:
        assert told.update(A_SNAPSHOT) == []
        told.end("finished")
        begun = time.monotonic()
    assert time.monotonic() - begun < 1.0 + 30.0  # far less than it would hang; a loaded machine kills slowly
    assert lines[0] == "sending the last results to mlflow, for at most 1 s"
    assert "not every trial was sent" in lines[1] and lines[1].endswith(f" track {study_dir}")
    assert len(lines) == 2
    assert [
        child for child in psutil.Process().children(recursive=True) if "trackers.child" in str(child.cmdline())
    ] == []


def test_a_tracker_that_fails_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study_dir = made_study(tmp_path, states=["COMPLETE"], lines="track: {tensorboard: {folder: /proc/none}}\n")
    spec = load_spec(study_dir / "study.yaml")
    monkeypatch.setattr(outlets, "END_S", 120.0)
    lines: list[str] = []
    with Outlets(spec, study_dir, None, lines.append) as told:
        told.update(A_SNAPSHOT)
        told.end("finished")
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert len(warnings) == 1 and warnings[0].startswith("warning: tensorboard: FileNotFoundError: "), lines
    assert "not every trial was sent" in lines[-1]


def test_a_lost_run_is_told(tmp_path: Path) -> None:
    study_dir = made_study(tmp_path)
    with webhook() as served:
        spec = load_spec(study_dir / "study.yaml", [f"notify.webhook={served.address}"])
        with pytest.raises(RunLostError), Outlets(spec, study_dir, None, lambda line: None):
            raise RunLostError("the owner is gone")
    assert [(body["event"], body["reason"]) for body in served.bodies] == [("end", "lost")]
    assert served.bodies[0]["text"] == "first was lost: the owner is gone."


def test_a_run_that_never_began_sends_nothing(tmp_path: Path) -> None:
    study_dir = made_study(tmp_path, lines="track: {tensorboard: {}}\n")
    spec = load_spec(study_dir / "study.yaml")
    with pytest.raises(KeyboardInterrupt), Outlets(spec, study_dir, None, lambda line: None):
        raise KeyboardInterrupt
    assert not (study_dir / "tracked").exists() and not (study_dir / "tensorboard").exists()


@pytest.mark.parametrize(
    ("notify", "message"),
    [
        ("{webhook: env:CHAT}", "notify.webhook: the variable CHAT is not set. export CHAT=https://..., or leave it"),
        ("{webhook: env:WORDS}", "notify.webhook: the variable WORDS holds no address. "),
        ("{command: [no-such-mail]}", 'notify.command: there is no such program, got "no-such-mail". '),
    ],
)
def test_what_a_notification_lacks_is_said_before_anything_trains(
    notify: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDS", "s3cret words")
    spec = load_text(f"{MINIMAL}notify: {notify}\n", base=ELSEWHERE)  # another machine may run it
    with pytest.raises(SpecError) as refused:
        refuse_unready(spec)
    assert str(refused.value).startswith(message) and "s3cret" not in str(refused.value)
    refuse_unready(load_text(f"{MINIMAL}notify: {{command: [sh]}}\n", base=ELSEWHERE))
