"""A study's folder: its start, refusal of another study, repair of a torn study file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sweeps.errors import StudyError
from sweeps.spec import identity
from sweeps.spec.study_spec import StudySpec
from sweeps.storage import lock
from sweeps.storage.database import database
from sweeps.storage.optuna_sql import Ledger
from sweeps.study import folder
from sweeps.study.folder import open_folder, open_study, record_version
from sweeps.study.loading import load_text, read_spec
from sweeps.study.study_file import END, LIMIT, STUDY_YAML

SMALL = """\
study: small
search: {sampler: qmc, trials: 8, seed: 3}
space: {width: {choice: [3, 5, 6]}, adam_lr: {loguniform: [1.0e-3, 2.0e-2]}}
"""
OTHER = """\
study: other
problem: {name: nonlocal_strain, inputs: [x, y, g, elocal], scale_factor: 10}
search: {sampler: tpe, trials: 20, seed: 1, objective: loss}
space: {init: {choice: [torch, keras]}, depth: {int: [2, 6]}}
train: {second_stage: scipy, iterations: 30}
budget: {hours: 2}
"""


def spec_of(text: str = SMALL, *overrides: str) -> StudySpec:
    return load_text(text, base=Path("/"), overrides=overrides)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was begun and has a trial."""
    study_dir, is_new = open_folder(tmp_path_factory.mktemp("begun"), spec_of())
    assert is_new
    open_study(study_dir, spec_of()).ledger.close()
    ledger = Ledger(database(study_dir), "small")
    ledger.enter(0, {}, {}, {"pack": 0})
    ledger.close()
    return study_dir


@pytest.fixture
def study_dir(begun: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(begun, tmp_path / "root" / "small"))


def attributes(study_dir: Path) -> dict[str, object]:
    ledger = Ledger(database(study_dir), "small")
    try:
        return ledger.attributes()
    finally:
        ledger.close()


def test_a_begun_study_has_its_file_whole_in_two_places(study_dir: Path) -> None:
    text = (study_dir / "study.yaml").read_text()
    stored = attributes(study_dir)
    assert text == spec_of().to_yaml() + END + "\n" == stored[STUDY_YAML]
    assert stored["identity"] == identity.identity_sha256(spec_of()) and stored["schema"] == folder.SCHEMA
    assert read_spec(study_dir) == spec_of()
    assert open_folder(study_dir.parent, spec_of()) == (study_dir, False)
    assert sorted(path.name for path in study_dir.iterdir()) == ["problem.json", "study.db", "study.yaml"]


@pytest.mark.parametrize("place", ["make", "take", "settle", "write"])
def test_a_start_cut_short_anywhere_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    study_dir, _ = open_folder(tmp_path, spec_of())

    class Crash(BaseException):
        pass

    def crash(*anything: object, **more: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        match place:
            case "make":
                patch.setattr("optuna.create_study", crash)
            case "take":
                patch.setattr(Ledger, "take", crash)
            case "settle":
                patch.setattr(folder, "data_hash", crash)
            case "write":
                patch.setattr(os, "replace", crash)
        with pytest.raises(Crash):
            open_study(study_dir, spec_of()).ledger.close()
    assert not (study_dir / "study.yaml").exists(), "the study is not there yet"
    more = spec_of(SMALL, "search.trials=9", "train.epochs=7")
    assert open_folder(tmp_path, more) == (study_dir, True)
    open_study(study_dir, more).ledger.close()
    assert read_spec(study_dir) == more and attributes(study_dir)["identity"] == identity.identity_sha256(more)


def test_a_cut_study_file_is_written_again_from_the_database(study_dir: Path) -> None:
    file = study_dir / "study.yaml"
    content = file.read_bytes()
    for size in [*range(0, len(content) - 1, 97), len(content) - 2, len(content) - len(END) - 1]:
        file.write_bytes(content[:size])
        assert read_spec(study_dir) == spec_of(), f"cut at {size}"
        assert file.read_bytes() == content[:size], "a reader changes nothing"
        spec, ledger, notes = open_study(study_dir)
        ledger.close()
        assert spec == spec_of() and file.read_bytes() == content
        assert notes == ["study.yaml was torn; it was written again from the copy in the database"]
    assert open_study(study_dir).notes == []


def test_a_cut_study_file_of_a_study_kept_elsewhere(tmp_path: Path) -> None:
    """The database cannot be found without the line `state`, which may be what was cut."""
    spec = spec_of(SMALL, f"state={tmp_path / 'kept elsewhere'}")
    study_dir, _ = open_folder(tmp_path / "root", spec)
    open_study(study_dir, spec).ledger.close()
    assert not (study_dir / "study.db").exists() and (tmp_path / "kept elsewhere" / "small.db").is_file()
    file = study_dir / "study.yaml"
    content = file.read_bytes()
    for size in range(0, len(content) - 1, 41):
        file.write_bytes(content[:size])
        refusal = refused(study_dir)
        if refusal is None:
            assert read_spec(study_dir) == spec and file.read_bytes() == content
        else:
            assert "study.yaml" in refusal or "is missing" in refusal
    file.write_bytes(content[: -len(END) - 1])
    assert read_spec(study_dir) == spec


def refused(study_dir: Path) -> str | None:
    """Return why a study cannot be opened, None where it can."""
    try:
        open_study(study_dir).ledger.close()
    except StudyError as refusal:
        return str(refusal)
    return None


def test_a_study_file_changed_by_hand_is_no_torn_one(study_dir: Path) -> None:
    file = study_dir / "study.yaml"
    content = file.read_text()
    file.write_text(content.replace("trials: 8", "trials: 9"))
    spec, ledger, _ = open_study(study_dir)
    ledger.close()
    assert spec.search.trials == 9 and "trials: 9" in str(attributes(study_dir)[STUDY_YAML])
    file.write_text(content.replace("trials: 8", "trials: 7").replace(END + "\n", ""))
    with pytest.raises(StudyError, match=r"study\.yaml lacks its last line.*add that line if it is whole"):
        read_spec(study_dir)
    file.write_text(content.replace("epochs: 5000", "epochs: 21"))
    with pytest.raises(StudyError, match="changed by hand"):
        open_study(study_dir)


@pytest.mark.parametrize("damage", ["empty", "gone", "garbage"])
def test_a_lost_database_is_never_replaced(study_dir: Path, damage: str) -> None:
    file = study_dir / "study.db"
    before = (study_dir / "study.yaml").read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "empty" else b"garbage" * 999)
    for wanted in (None, spec_of()):
        with pytest.raises(StudyError, match=r"study\.db .*(?i:restore)"):
            open_study(study_dir, wanted)
    assert file.exists() == (damage != "gone") and not (file.exists() and file.read_bytes()[:6] == b"SQLite")
    assert (study_dir / "study.yaml").read_bytes() == before


def test_a_lost_study_file_is_never_replaced(study_dir: Path) -> None:
    (study_dir / "study.yaml").unlink()
    with pytest.raises(StudyError, match=r"it has no study\.yaml"):
        open_study(study_dir)
    with pytest.raises(StudyError, match=r"study\.db holds 1 trials.*study\.yaml is not there.*Restore"):
        open_study(study_dir, spec_of())
    (study_dir / "trials").mkdir()
    with pytest.raises(StudyError, match="is not a study"):
        open_folder(study_dir.parent, spec_of())


def test_a_name_that_a_shared_database_has_already_is_refused(tmp_path: Path) -> None:
    spec = spec_of(SMALL, f"state={tmp_path / 'kept'}")
    first, _ = open_folder(tmp_path / "one", spec)
    open_study(first, spec).ledger.close()
    second, _ = open_folder(tmp_path / "two", spec)
    with pytest.raises(StudyError, match=rf"already holds a study 'small', that of {first}.*--set study=small-2"):
        open_study(second, spec).ledger.close()
    assert not (second / "study.yaml").exists()
    open_study(first, spec).ledger.close()
    moved = tmp_path / "three" / "small"
    shutil.copytree(first, moved)
    shutil.rmtree(first)
    open_study(moved, spec).ledger.close()


def test_state_changes_once_the_database_was_moved(study_dir: Path, tmp_path: Path) -> None:
    moved = spec_of(SMALL, f"state={tmp_path / 'kept'}")
    with pytest.raises(StudyError, match=r"small\.db is missing.*So far .*study\.db: move it"):
        open_study(study_dir, moved)
    (tmp_path / "kept").mkdir()
    shutil.move(study_dir / "study.db", tmp_path / "kept" / "small.db")
    spec, ledger, _ = open_study(study_dir, moved)
    assert len(ledger) == 1 and spec.state == str(tmp_path / "kept")
    ledger.close()
    assert read_spec(study_dir).state == str(tmp_path / "kept")


@pytest.mark.parametrize(
    "change",
    [
        "train.epochs=21",
        "search.seed=4",
        "problem.loss=mean_square",
        "space.width={choice: [3, 5]}",
        "search.replicates=2",
        "search.pruner=median",
        "search.constraints=['width <= 5']",
        "search.quantile=0.9",
    ],
)
def test_another_study_is_refused_with_a_diff_and_ways_out(study_dir: Path, change: str) -> None:
    before = (study_dir / "study.yaml").read_bytes(), (study_dir / "study.db").read_bytes()
    for use in (
        lambda spec: open_folder(study_dir.parent, spec),
        lambda spec: open_study(study_dir, spec),
    ):
        with pytest.raises(StudyError, match="holds another study") as refusal:
            use(spec_of(SMALL, change))
        lines = str(refusal.value).splitlines()
        assert any(line.startswith("+") for line in lines) and "--new-study small-2" in lines[-1]
        assert "--branch small-2" in lines[-1]
    assert ((study_dir / "study.yaml").read_bytes(), (study_dir / "study.db").read_bytes()) == before


@pytest.mark.parametrize(
    "change",
    [
        "search.trials=99",
        "budget.hours=1",
        "budget.max_failures=3",
        "resources.pack=4",
        "resources.priority=7",
        "results.fields=none",
        "track.tensorboard={}",
        "notify.webhook=env:CHAT",
    ],
)
def test_what_may_change_is_changed(study_dir: Path, change: str) -> None:
    spec = spec_of(SMALL, change)
    assert open_folder(study_dir.parent, spec) == (study_dir, False)
    ledger = Ledger(database(study_dir), "small")
    ledger.set_attribute(LIMIT, 8)
    ledger.close()
    opened = open_study(study_dir, spec)
    opened.ledger.close()
    assert opened.spec == spec == read_spec(study_dir)
    assert attributes(study_dir)[LIMIT] is None, "the number of trials is only known once the owner counts them"


def test_a_study_is_what_cannot_change_of_it() -> None:
    same = identity.identity_sha256(spec_of())
    for change in (
        "resources.priority=5",
        "state=/elsewhere",
        "budget.hours=9",
        "results.weights=none",
        "track.wandb.project=p",
        "notify.command=[mail, me]",
        "search.trials=99",
    ):
        assert identity.identity_sha256(spec_of(SMALL, change)) == same, change
    for change in ("train.divergence_factor=1e7", "train.momentum=0.5", "search.quantile=0.9", "search.pruner=asha"):
        assert identity.identity_sha256(spec_of(SMALL, change)) != same, change


def test_changed_data_are_refused(study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "data_hash", lambda spec: "f" * 64)
    before = (study_dir / "study.yaml").read_bytes()
    with pytest.raises(StudyError, match=r"data of .* have changed .* now ffffffffffff"):
        open_study(study_dir, spec_of(SMALL, "search.trials=99"))
    assert (study_dir / "study.yaml").read_bytes() == before


def test_a_study_of_a_newer_version_is_refused_by_name(study_dir: Path) -> None:
    ledger = Ledger(database(study_dir), "small")
    ledger.set_attributes({"schema": folder.SCHEMA + 1, "code_versions": [{"attempt": 1, "version": "7.0.0"}]})
    ledger.close()
    before = (study_dir / "study.db").read_bytes()
    with pytest.raises(StudyError, match=r"was written by a newer pinnsweep \(7\.0\.0.*pip install --upgrade"):
        open_study(study_dir)
    assert (study_dir / "study.db").read_bytes() == before


def test_code_versions_are_noted_where_they_change(study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_study(study_dir).ledger
    record_version(ledger, 1)
    record_version(ledger, 2)
    monkeypatch.setattr(folder, "code_version", lambda: "0.1.0+" + "0" * 12)
    record_version(ledger, 3)
    versions = ledger.attributes()["code_versions"]
    ledger.close()
    assert [entry["attempt"] for entry in versions] == [1, 3]
    assert versions[0]["version"].startswith("0.1.0+") and versions[1]["version"] == "0.1.0+" + "0" * 12


def test_a_folder_that_is_no_study_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.tex").write_text("years of work")
    with pytest.raises(StudyError, match="is not a study"):
        open_folder(tmp_path, spec_of())
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["thesis.tex"]


def test_a_held_study_is_refused_at_once(study_dir: Path) -> None:
    held = lock.StudyLock(study_dir, driver_pid=os.getpid())
    with pytest.raises(StudyError, match="is being run"):
        open_folder(study_dir.parent, spec_of())
    held.release()


def test_an_address_is_no_folder() -> None:
    with pytest.raises(StudyError, match="--root"):
        open_folder(Path("s3://bucket/studies"), spec_of())
