"""Deletion of a study whose PostgreSQL database holds other studies too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeps.errors import StudyError
from sweeps.storage.database import connect, database
from sweeps.storage.optuna_sql import Ledger
from sweeps.study import housekeeping
from sweeps.study.requests import to_retry
from sweeps.study.status import read_status

from ..invoking import made_study
from ..storage.test_postgres import pytestmark as pytestmark
from ..storage.test_postgres import server as server
from ..storage.test_postgres import url as url


@pytest.fixture
def studies(url: str, tmp_path: Path) -> tuple[Path, Path]:
    """Two studies in one database."""
    first, second = (made_study(tmp_path, name, lines=f"state: {url}\n") for name in ("first", "second"))
    return first, second


def left(study_dir: Path, url: str) -> list[str]:
    connection = connect(database(study_dir, url))
    try:
        return [name for (name,) in connection.rows("SELECT study_name FROM studies ORDER BY study_name")]
    finally:
        connection.close()


def test_its_study_goes_and_the_others_stay(studies: tuple[Path, Path], url: str) -> None:
    first, second = studies
    assert to_retry(first) == [1]
    assert housekeeping.delete(first) is None
    assert left(second, url) == ["second"] and not first.exists()
    assert read_status(second)["counts"]["COMPLETE"] == 1
    made_study(first.parent, "first", lines=f"state: {url}\n")  # its name is free again
    assert left(second, url) == ["first", "second"]


def test_a_copy_of_its_folder_goes_alone(studies: tuple[Path, Path], url: str, tmp_path: Path) -> None:
    first, _ = studies
    copy = tmp_path / "copies" / "first"
    copy.mkdir(parents=True)
    (copy / "study.yaml").write_bytes((first / "study.yaml").read_bytes())
    assert f"it is that of {first}" in (housekeeping.delete(copy) or "")
    assert left(first, url) == ["first", "second"] and not copy.exists()


def test_a_study_run_from_a_machine_whose_lock_is_not_seen_stays(
    studies: tuple[Path, Path], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = studies
    monkeypatch.setattr("sweeps.storage.optuna_sql.PATIENCE_S", 0.3)
    elsewhere = Ledger(database(first, url), "first")
    elsewhere.take("process 7 on a node")
    try:
        with pytest.raises(StudyError, match="is being run by process 7 on a node"):
            housekeeping.delete(first)
    finally:
        elsewhere.close()
    assert left(first, url) == ["first", "second"] and read_status(first)["counts"]["COMPLETE"] == 1


def test_where_the_server_does_not_answer_nothing_goes(studies: tuple[Path, Path], url: str, tmp_path: Path) -> None:
    first, _ = studies
    file = first / "study.yaml"
    file.write_text(file.read_text().replace(url, f"postgresql://me@/gone?host={tmp_path}"))
    before = sorted(os.listdir(first))
    with pytest.raises(StudyError, match="Start the server or correct the URL"):
        housekeeping.delete(first)
    assert sorted({*os.listdir(first)} - {"lock"}) == before and "trials" in before
