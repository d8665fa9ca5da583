"""A study that branches off another one: the trials that fit come along and count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.owner.owner import StudyOwner
from sweeps.owner.recorder import Recorder
from sweeps.study.branching import branch
from sweeps.study.loading import load_spec
from sweeps.study.requests import more_trials
from sweeps.study.status import read_status

from ..small import MACHINES, events, prepare, run_all, table, train_all, trained_study, write_study

NARROW = "space.width.choice=[3, 5]"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study file, and the folder of the finished study."""
    return trained_study(tmp_path_factory.mktemp("first"), 6)


def branched(first: tuple[Path, Path], root: Path, *overrides: str) -> Path:
    file, study_dir = first
    spec = load_spec(file, ["study=second", f"search.branch_of={study_dir}", *overrides])
    return prepare(root, spec)[0]


def rows_of(study_dir: Path) -> list[dict[str, Any]]:
    return table(study_dir, "trials").to_pylist()


def test_trials_inside_the_new_space_come_along_and_count(first: tuple[Path, Path], tmp_path: Path) -> None:
    """The sampler's seed is another one, so that it would not ask for any of them."""
    inside = [row for row in rows_of(first[1]) if row["width"] in (3, 5)]
    assert 0 < len(inside) < 6
    study_dir = branched(first, tmp_path, NARROW, "search.seed=4", "search.trials=6")
    owner = train_all(study_dir)
    snapshot = owner.snapshot()
    owner.close()
    rows = rows_of(study_dir)
    assert [row["taken_from"] for row in rows[: len(inside)]] == [f"{first[1]}/{row['trial']}" for row in inside]
    assert [row["rel_l2"] for row in rows[: len(inside)]] == [row["rel_l2"] for row in inside]
    assert [row["evaluations"] for row in rows[: len(inside)]] == [0] * len(inside)
    assert len(rows) == 6 and all(row["taken_from"] is None for row in rows[len(inside) :])
    assert snapshot.limit == 6 and snapshot.finished_count == 6 - len(inside), "only what was trained is news"
    (note,) = snapshot.notes
    assert note.startswith(f"{len(inside)} of the 6 trials of {first[1]} came along")
    assert note.endswith(f"Left behind: {6 - len(inside)} lie outside the space (width)")
    assert ("branched", note) in events(study_dir)
    for name in ("curves", "fields", "weights"):
        assert {row["trial"] for row in table(study_dir, name).to_pylist()} == set(range(6))


@pytest.mark.parametrize("sampler", ["qmc", "random", "tpe"])
def test_a_trial_that_the_sampler_asks_for_is_not_entered_twice(
    first: tuple[Path, Path], tmp_path: Path, sampler: str
) -> None:
    study_dir = branched(first, tmp_path, "search.trials=8", f"search.sampler={sampler}")
    train_all(study_dir, least=7)  # killed after the first new trial
    counts = run_all(study_dir)
    rows = rows_of(study_dir)
    assert counts["COMPLETE"] == len(rows) == 8
    assert [row["taken_from"] for row in rows] == [*(f"{first[1]}/{n}" for n in range(6)), None, None]
    assert len({row["config_hash"] for row in rows}) == 8 and {row["duplicate_of"] for row in rows} == {None}


def test_a_grid_is_filled_up(first: tuple[Path, Path], tmp_path: Path) -> None:
    """Fields that the old study sweeps have one value here; what it has of the grid is not trained again."""
    known = rows_of(first[1])[0]
    grid = ["space={width: {choice: [3, 5, 6]}, lbfgs_history: {choice: [3, 20]}}", "search.sampler=grid"]
    fixed = [f"train.{name}={known[name]}" for name in ("adam_lr", "init")]
    study_dir = branched(first, tmp_path, *grid, *fixed, f"problem.scale_factor={known['scale_factor']}")
    run_all(study_dir, least=None)
    rows = rows_of(study_dir)
    assert len(rows) == 6 and sum(row["taken_from"] is not None for row in rows) == 1
    assert len({(row["width"], row["lbfgs_history"]) for row in rows}) == 6


def test_a_learner_knows_them(first: tuple[Path, Path], tmp_path: Path) -> None:
    study_dir = branched(first, tmp_path, "search.sampler=tpe", "search.objective=loss", "search.seed=9")
    owner = StudyOwner(study_dir, MACHINES)
    known = {trial.values for trial in owner._attempt.search._warm}  # type: ignore[attr-defined]
    owner.close()
    assert known == {(row["loss"],) for row in rows_of(first[1])}


def test_more_come_along_than_the_study_asks_for(first: tuple[Path, Path], tmp_path: Path) -> None:
    study_dir = branched(first, tmp_path, "search.trials=2", "search.seed=4")
    assert run_all(study_dir)["COMPLETE"] == 6
    assert read_status(study_dir)["limit"] == 6
    assert more_trials(study_dir, 3) == 9


def test_a_crash_before_results_are_copied_changes_nothing(
    first: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_dir = branched(first, tmp_path, "search.seed=4")
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "take_over", lambda self, trials: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_all(study_dir)
    assert run_all(study_dir)["COMPLETE"] == 6
    assert [row["taken_from"] for row in rows_of(study_dir)] == [f"{first[1]}/{n}" for n in range(6)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["train.epochs=21"], "6 have epochs 20 instead of 21"),
        (["search.replicates=2"], "6 have replicates 1 instead of 2"),
        (["problem.data=strb100"], "6 have other data"),
        (["search.constraints=['adam_lr <= 0.00100001']"], "6 break search.constraints"),
        (["space=", "search.sampler=list", "search.list=[{width: 3}]"], "instead of"),
    ],
)
def test_trials_that_do_not_fit_are_counted_with_the_reason(
    first: tuple[Path, Path], change: list[str], reason: str
) -> None:
    spec = load_spec(first[0], ["study=second", f"search.branch_of={first[1]}", *change])
    found = branch(spec)
    assert found.trials == () and reason in found.text
    assert found.text.startswith("0 of the 6 trials")


def test_failed_and_unfinished_trials_stay(tmp_path: Path) -> None:
    file = write_study(tmp_path / "data", trials=16)
    failing = [*NOT_FINITE, "train.epochs=5", "train.iterations=3"]
    study_dir, _ = prepare(tmp_path / "root", load_spec(file, failing))
    train_all(study_dir, least=4).close()
    states = [row["state"] for row in rows_of(study_dir)]
    assert {"COMPLETE", "FAIL"} <= set(states)
    found = branch(load_spec(file, [*failing, "study=second", f"search.branch_of={study_dir}"]))
    assert 0 < len(found.trials) <= states.count("COMPLETE")
    assert set(found.left) == {"failed", "are not finished"}, "a row may be published before the database knows it"
    assert all(f"{count} {reason}" in found.text for reason, count in found.left.items())


NOT_FINITE = ["space.adam_lr=", "space.adam_lr.choice=[1.0e-3, 1.0e+300]"]
