"""Truncated files of a study: the study resumes to the same tables, or its error names the file."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from sweeps.errors import StudyError
from sweeps.owner.owner import StudyOwner
from sweeps.runner.worker import SlotWorker
from sweeps.storage.schema import TABLES
from sweeps.storage.tables import StudyTables
from sweeps.study.loading import load_spec
from sweeps.study.status import read_status

from ..small import MACHINES, assert_same_tables, next_slot, prepare, train_all, write_study

WHOLE = {"trials": 6, "pack": 2}


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study killed halfway, with finished trials, a checkpoint and waiting trials; and the same study finished."""
    folder = tmp_path_factory.mktemp("torn")
    spec = load_spec(write_study(folder / "data", epochs=120, iterations=40, **WHOLE))
    study_dir, _ = prepare(folder / "killed", spec)
    owner = StudyOwner(study_dir, MACHINES)
    worker = SlotWorker(owner, study_dir, next_slot(owner))
    while not (list((study_dir / "trials").glob("*")) and list((study_dir / "checkpoints").rglob("*.safetensors"))):
        worker.segment(0.02)
    owner._attempt.lock.release()  # as the kernel does when a process dies
    finished = folder / "finished" / "small"
    shutil.copytree(study_dir, finished)
    train_all(finished).close()
    return study_dir, finished


def kinds(study_dir: Path) -> list[str]:
    """Return one file of each kind: the first of each table and of the checkpoints, and all files of the top folder."""
    files = sorted(path.relative_to(study_dir).as_posix() for path in study_dir.rglob("*") if path.is_file())
    assert any(name.startswith("checkpoints/") for name in files)
    first: dict[str, str] = {}
    for name in files:
        kind = f"{name.partition('/')[0]}{Path(name).suffix}" if "/" in name else name
        first.setdefault(kind, name)
    return list(first.values())


def cuts(size: int, text: bytes) -> list[int]:
    """Return the bytes to cut a file at: its ends, the middle, some line ends, and random ones."""
    draw = random.Random(size)
    lines = [at + 1 for at, byte in enumerate(text) if byte == 10][:-1]
    places = {0, 1, size // 2, size - 1, *draw.sample(lines, min(3, len(lines)))}
    return sorted({*places, *(draw.randrange(size) for _ in range(3))} & set(range(size)))


def some(places: list[int]) -> list[int]:
    """Return the cuts that leave half, and all but the end."""
    return sorted({places[len(places) // 2], places[-1]})


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
def test_a_torn_file_is_repaired_or_named(halfway: tuple[Path, Path], tmp_path: Path, every: bool) -> None:
    killed, finished = halfway
    tried = 0
    for name in kinds(killed):
        content = (killed / name).read_bytes()
        places = cuts(len(content), content if name == "study.yaml" else b"")
        for at in places if every else some(places):
            study_dir = tmp_path / f"{tried}" / "small"
            shutil.copytree(killed, study_dir)
            (study_dir / name).write_bytes(content[:at])
            tried += 1
            message = outcome(study_dir, finished)
            assert message is None or Path(name).name in message, f"{name} cut at {at} of {len(content)}: {message}"
            shutil.rmtree(study_dir)
    assert tried > (40 if every else 15)


def outcome(study_dir: Path, finished: Path) -> str | None:
    """Return None where the study resumes to the same tables, else its error message."""
    try:
        read_status(study_dir)
        train_all(study_dir, segment_s=5.0).close()
        for table in TABLES:
            StudyTables(study_dir).read(table)
        assert_same_tables(finished, study_dir)
    except StudyError as problem:
        return str(problem)
    return None


@pytest.mark.parametrize("name", ["study.db", "study.yaml"])
def test_a_missing_file_is_named(halfway: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    study_dir = tmp_path / "small"
    shutil.copytree(halfway[0], study_dir)
    (study_dir / name).unlink()
    with pytest.raises(StudyError, match=name):
        train_all(study_dir)
