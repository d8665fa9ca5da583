"""Initial weights from a trial of another study: their values, and every way in which they may not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sweeps.errors import StudyError
from sweeps.spec.parse import parse_spec
from sweeps.spec.sources import absolute_source, split_source
from sweeps.storage.tables import StudyTables
from sweeps.study.initial_weights import layers_of, trial_weights
from sweeps.study.loading import load_spec, load_text
from sweeps.study.problems import load_problem
from tests.sweeps.spec.study_files import ELSEWHERE, MINIMAL, mistakes
from tests.sweeps.synthetic import make_study, trial_row, weights


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Five complete trials, networks 2-6-6-1, and a failed one, number 5."""
    make_study(tmp_path / "runs" / "earlier", trials=5, failed=1)
    return tmp_path / "runs" / "earlier"


def test_the_last_weights_of_a_trial_are_read_whole(study: Path) -> None:
    arrays = trial_weights(study, 3)
    assert list(arrays) == ["W1", "b1", "W2", "b2", "W3", "b3"]
    assert [array.shape for array in arrays.values()] == [(2, 6), (6,), (6, 6), (6,), (6, 1), (1,)]
    assert layers_of(arrays) == (2, 6, 6, 1)
    written = weights(3)
    last = written["epoch"] == 1500
    biases = last & (written["layer"] == 2) & (written["row"] == -1)
    np.testing.assert_array_equal(arrays["b2"], written["value"][biases])
    inputs = last & (written["layer"] == 2) & (written["row"] >= 0)
    np.testing.assert_array_equal(arrays["W2"].ravel(), written["value"][inputs])


def test_rows_may_come_in_any_order(study: Path) -> None:
    before = trial_weights(study, 3)
    (file,) = (path for path in (study / "weights").glob("*.parquet") if "000000" in path.name)
    table = pq.read_table(file)
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    pq.write_table(shuffled, file)
    after = trial_weights(study, 3)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_trial_that_repeats_another_has_its_weights(study: Path) -> None:
    copy = {**trial_row(6), "duplicate_of": 3}
    StudyTables(study).publish("trials-000006", trials=[copy])
    first, again = trial_weights(study, 3), trial_weights(study, 6)
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_what_has_no_weights_says_so(study: Path, tmp_path: Path) -> None:
    for trial, folder, words in (
        (3, tmp_path, "there is no study in "),
        (3, tmp_path / "nowhere", "there is no study in "),
        (99, study, "has no finished trial 99"),
        (5, study, "is FAIL, and only weights of a COMPLETE one"),
    ):
        with pytest.raises(StudyError, match=words):
            trial_weights(folder, trial)
    for file in (study / "weights").glob("*.parquet"):
        file.unlink()
    with pytest.raises(StudyError, match=r"trial 3 of .* kept no weights"):
        trial_weights(study, 3)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("value", np.nan, "has a weight that is not finite"), ("epoch", 1501, "incomplete"), ("layer", 9, "incomplete")],
)
def test_weights_that_are_damaged(study: Path, column: str, value: float, words: str) -> None:
    (file,) = (path for path in (study / "weights").glob("*.parquet") if "000000" in path.name)
    table = pq.read_table(file)
    frame = {name: table[name].to_numpy().copy() for name in table.column_names}
    last = np.flatnonzero((frame["trial"] == 3) & (frame["epoch"] == 1500))[0]
    frame[column][last] = value
    pq.write_table(type(table).from_pydict(frame, schema=table.schema), file)
    with pytest.raises(StudyError, match=words):
        trial_weights(study, 3)


@pytest.mark.parametrize(
    ("init", "source"),
    [
        ("trial:/runs/a/3", (Path("/runs/a"), 3)),
        ("trial:a/0", (Path("a"), 0)),
        ("trial:a", None),
        ("trial:/3", None),
        ("trial:a/-3", None),
        ("trial:a/3.0", None),
        ("trial:a/\N{SUPERSCRIPT TWO}", None),
        ("trial:a/99999999999", None),
        ("file:a/3", None),
        ("keras", None),
    ],
)
def test_a_source_is_a_folder_and_a_number(init: str, source: tuple[Path, int] | None) -> None:
    assert split_source(init) == source
    absolute = absolute_source(init, Path("/base"))
    assert absolute == (init if source is None else f"trial:{Path('/base') / source[0]}/{source[1]}")


# ---- in a study file ----


def test_a_study_file_takes_a_trial_from_its_own_folder_on(study: Path, tmp_path: Path) -> None:
    (tmp_path / "next.yaml").write_text(MINIMAL + "train: {init: trial:runs/earlier/3, width: 6, depth: 2}")
    spec = load_spec(tmp_path / "next.yaml")
    assert spec.train["init"] == f"trial:{study}/3"
    assert load_text(spec.to_yaml(), base=ELSEWHERE) == spec


def test_a_trial_is_checked_against_every_network_that_may_begin_with_it(study: Path) -> None:
    def complaints(text: str) -> list[str]:
        return [line.replace(str(study), "STUDY") for line in mistakes(MINIMAL + text, study.parent)]

    assert complaints("train: {init: trial:earlier/3}") == [
        "train.init: the weights of trial 3 of STUDY belong to a network 2-6-6-1, not to 2-16-16-1."
    ]
    assert complaints("space: {init: {choice: [torch, trial:earlier/3]}, width: {choice: [6, 8]}}") == [
        "space.init.choice[1]: the weights of trial 3 of STUDY belong to a network 2-6-6-1, not to 2-8-8-1. It "
        "fits 2-6-6-1: keep only widths, depths and inputs that it fits, or leave the file out."
    ]
    assert complaints("train: {init: trial:earlier/5, width: 6}") == [
        'train.init: trial 5 of STUDY is FAIL, and only weights of a COMPLETE one can be used, got "trial:STUDY/5".'
    ]
    head = "study: s\nsearch: {trials: 4, constraints: [init == 'torch' or width == 6]}\n"
    assert load_text(
        head + "space: {init: {choice: [torch, trial:earlier/3]}, width: {choice: [6, 8]}}", base=study.parent
    )
    space = "space: {init: {choice: [torch, trial:earlier/3], when: {width: 6}}, width: {choice: [6, 8]}}"
    assert load_text(MINIMAL + space, base=study.parent)
    listed = "[{init: trial:earlier/3, width: 6}, {init: torch, width: 8}]"
    assert load_text(f"study: s\nsearch: {{sampler: list, list: {listed}}}", base=study.parent)
    listed = listed.replace("torch", "trial:earlier/4")
    (line,) = mistakes(f"study: s\nsearch: {{sampler: list, list: {listed}}}", study.parent)
    assert line.startswith("search.list[1].init: the weights of trial 4 of")


def test_a_study_that_took_its_weights_is_read_without_their_source(study: Path) -> None:
    text = MINIMAL + f"train: {{init: trial:{study}/3, width: 6}}"
    spec = load_text(text, base=ELSEWHERE)
    (study / "study.yaml").unlink()
    assert mistakes(text) == [
        f'train.init: there is no study in {study}, got "trial:{study}/3". Relative paths start at the folder of the '
        "study file."
    ]
    assert parse_spec(text, base=ELSEWHERE, load_problem=load_problem) == spec
