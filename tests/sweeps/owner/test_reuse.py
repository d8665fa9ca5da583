"""A study that reuses the results of another one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sweeps.owner.owner import StudyOwner
from sweeps.study.loading import load_spec

from ..small import MACHINES, events, prepare, table, train_all, trained_study


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study file, and the folder of the finished study."""
    return trained_study(tmp_path_factory.mktemp("first"), 4)


def branch(first: tuple[Path, Path], root: Path, *overrides: str) -> Path:
    file, study_dir = first
    spec = load_spec(file, ["study=second", f"search.reuse=[{study_dir}]", *overrides])
    return prepare(root, spec)[0]


def test_finished_configurations_are_reused_and_the_others_trained(first: tuple[Path, Path], tmp_path: Path) -> None:
    study_dir = branch(first, tmp_path, "search.trials=6")
    train_all(study_dir).close()
    before, after = (table(folder, "trials").to_pylist() for folder in (first[1], study_dir))
    assert [row["taken_from"] for row in after] == [*(f"{first[1]}/{n}" for n in range(4)), None, None]
    for old, new in zip(before, after, strict=False):
        assert new["rel_l2"] == old["rel_l2"] and new["config_hash"] == old["config_hash"]
        assert new["evaluations"] == 0
    for name in ("curves", "fields", "weights"):
        rows = [row for row in table(study_dir, name).to_pylist() if row["trial"] < 4]
        assert len(rows) == table(first[1], name).num_rows


def test_a_crash_before_results_are_copied_changes_nothing(
    first: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.owner.recorder import Recorder

    study_dir = branch(first, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "take_over", lambda self, trials: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_all(study_dir)
    assert train_all(study_dir).close()["COMPLETE"] == 4
    assert None not in table(study_dir, "trials")["taken_from"].to_pylist()


def test_other_data_and_other_settings_share_nothing(first: tuple[Path, Path], tmp_path: Path) -> None:
    study_dir = branch(first, tmp_path, "train.epochs=21")
    train_all(study_dir).close()
    assert set(table(study_dir, "trials")["taken_from"].to_pylist()) == {None}


def test_results_that_are_gone_are_named(first: tuple[Path, Path], tmp_path: Path) -> None:
    source = tmp_path / "copy" / "small"
    shutil.copytree(first[1], source)
    study_dir = branch((first[0], source), tmp_path)
    for file in (source / "trials").iterdir():
        file.unlink()
    owner = StudyOwner(study_dir, MACHINES)
    try:
        assert owner.offer() is None
        assert "is gone" in str(owner.snapshot().broken)
    finally:
        owner.close()


def test_a_reused_study_that_is_gone_is_ignored(first: tuple[Path, Path], tmp_path: Path) -> None:
    source = tmp_path / "copy" / "small"
    shutil.copytree(first[1], source)
    study_dir = branch((first[0], source), tmp_path)
    shutil.rmtree(source)
    assert train_all(study_dir).close()["COMPLETE"] == 4
    assert set(table(study_dir, "trials")["taken_from"].to_pylist()) == {None}
    assert ("reconciled", f"{source} is not a study any more; its trials are trained here") in events(study_dir)
