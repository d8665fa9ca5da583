"""`top`: the seeds of one configuration in one row, intervals from enough seeds on, and what may be the best."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.analysis import bootstrap
from sweeps.analysis.leaderboard import top
from sweeps.errors import QueryError, StudyError
from sweeps.query.query import read_study_file
from sweeps.query.ranking import swept_columns
from sweeps.study.replicates import quantile, quantiles

from .. import synthetic
from ..bare_rows import Row, replicates, row, study
from ..invoking import errors_of, invoke
from ..problems import STRAIN

HASHES = {"config_hash": "c", "data_hash": "d"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic study of 12 trials, 10 of them complete."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    synthetic.make_study(folder, trials=10, failed=2)
    return folder


def seeds(trial: int, *errors: float | None, config: str, first_seed: int = 0, **columns: Any) -> list[Row]:
    """Return the members of a trial with given configuration, data and seeds."""
    rows = replicates(trial, *errors, config_hash=config, data_hash="d", **columns)
    return [{**line, "seed": first_seed + number} for number, line in enumerate(rows)]


def ten_errors(middle: float, seed: int) -> list[float]:
    """Return ten errors around a middle value that scatter like those of ten seeds."""
    return [float(value) for value in middle * np.exp(np.random.default_rng(seed).normal(0, 0.15, 10))]


# ---- intervals -----------------------------------------------------------------------------------------------------


def test_ten_seeds_have_an_interval_and_tell_what_may_be_the_best(tmp_path: Path) -> None:
    rows = [
        *replicates(0, *ten_errors(0.02, 0)),
        *replicates(1, *ten_errors(0.0202, 1)),
        *replicates(2, *ten_errors(0.05, 2)),
    ]
    best = top([study(tmp_path / "demo", "replicates: 10", rows)])
    lines = {line["trial"]: line for line in best.table.to_pylist()}
    assert {trial: line["may_be_best"] for trial, line in lines.items()} == {0: True, 1: True, 2: False}
    for line in lines.values():
        assert line["rel_l2_min"] <= line["rel_l2_low"] < line["rel_l2"] < line["rel_l2_high"] <= line["rel_l2_max"]
    assert best.shown().column_names[:6] == [
        *("trial", "rel_l2", "rel_l2_low", "rel_l2_high", "replicates", "may_be_best")
    ]
    assert "1 of the other 2 cannot be told apart from the first" in best.notes[1]
    assert "not corrected" in best.notes[1]


def test_intervals_are_the_same_however_many_lines_are_asked_for(tmp_path: Path) -> None:
    rows = [line for trial in range(4) for line in replicates(trial, *ten_errors(0.02 + trial / 1000, trial))]
    folder = study(tmp_path / "demo", "replicates: 10", rows)
    assert top([folder], 2).table.equals(top([folder]).table.slice(0, 2))


def test_a_failed_seed_is_infinitely_bad(tmp_path: Path) -> None:
    few = replicates(0, 0.01, 0.011, 0.012, 0.012, 0.013, 0.0125, None, None)
    rows = [*few, *replicates(1, *ten_errors(0.05, 0)[:8]), *replicates(2, 0.001, 0.001, *[None] * 6)]
    lines = top([study(tmp_path / "demo", "replicates: 8", rows)]).table.to_pylist()
    assert [line["trial"] for line in lines] == [0, 1]
    assert lines[0]["rel_l2_max"] == lines[0]["rel_l2_high"] == math.inf and lines[0]["rel_l2"] == 0.01225


@pytest.mark.parametrize(("number", "note"), [(3, "At most 3 seeds each"), (4, "At most 4 seeds each")])
def test_few_seeds_have_no_interval(tmp_path: Path, number: int, note: str) -> None:
    rows = [*replicates(0, *ten_errors(0.02, 0)[:number]), *replicates(1, *ten_errors(0.9, 1)[:number])]
    best = top([study(tmp_path / "demo", f"replicates: {number}", rows)])
    assert best.table["may_be_best"].to_pylist() == best.table["rel_l2_low"].to_pylist() == [None, None]
    assert best.shown().column_names[:5] == ["trial", "rel_l2", "rel_l2_min", "rel_l2_max", "replicates"]
    assert len(best.notes) == 1 and note in best.notes[0] and "replicates: 10" in best.notes[0]


def test_the_order_of_single_seeds_is_not_trusted(tmp_path: Path) -> None:
    folder = study(tmp_path / "demo", "", [row(0, 0.02), row(1, 0.029), row(2, 0.031), row(3, None)])
    (note,) = top([folder]).notes
    assert "1 of the other 2 is within that factor of the first, so it is not decided which of these is" in note
    (note,) = top([study(tmp_path / "ahead", "", [row(0, 0.02), row(1, 0.04), row(2, 0.041)])]).notes
    assert "The first is ahead of every other by more than that" in note
    assert "the order of others that are closer together is not decided" in note
    timed = study(tmp_path / "timed", "objective: seconds", [row(0, 0.1, seconds=2.0), row(1, 0.1, seconds=3.0)])
    assert top([timed]).notes == ()
    assert top([study(tmp_path / "one", "", [row(0, 0.02)])]).notes == ()


def test_bootstrap_quantiles_are_those_of_the_owner() -> None:
    draw = np.random.default_rng(0)
    values = np.where(draw.random((50, 7)) < 0.3, np.inf, draw.random((50, 7)))
    for share in (0.0, 0.1, 0.5, 1.0):
        expected = [quantile([float(value) for value in own], share) for own in values]
        assert quantiles(values, share).tolist() == expected


@pytest.mark.parametrize("number", [5, 10])
def test_equal_configurations_are_told_apart_in_about_one_of_twenty_cases(number: int) -> None:
    draw, generator = np.random.default_rng(0), np.random.default_rng(1)
    errors = np.exp(draw.normal(0, 0.2, (200, 2, number)))
    told_apart = [bootstrap.contrast(one, other, 0.5, generator).told_apart for one, other in errors]
    assert 1 <= sum(map(bool, told_apart)) <= 16  # the percentile bootstrap of medians is slightly conservative
    told_apart = [bootstrap.contrast(one, 3 * other, 0.5, generator).told_apart for one, other in errors]
    assert all(told_apart)


def test_intervals_hold_the_true_median_in_about_nineteen_of_twenty_cases() -> None:
    draw, generator = np.random.default_rng(0), np.random.default_rng(1)
    ends = [bootstrap.interval(own, 0.5, generator) for own in draw.normal(0, 1, (200, 10))]
    assert 178 <= sum(end is not None and end[0] <= 0 <= end[1] for end in ends) <= 199


def test_too_few_or_failed_seeds_are_not_told_apart() -> None:
    generator, failed = np.random.default_rng(0), [math.inf] * 6
    assert bootstrap.contrast([1.0] * 4, [9.0] * 10, 0.5, generator).told_apart is None
    assert bootstrap.interval([1.0] * 4, 0.5, generator) is None
    both = bootstrap.contrast(failed, failed, 0.5, generator)
    assert (both.ratio, both.low, both.high, both.told_apart) == (1.0, 1.0, 1.0, False)
    one = bootstrap.contrast([1.0] * 6, failed, 0.5, generator)
    assert (one.ratio, one.high, one.told_apart) == (0.0, 0.0, True)
    zero = bootstrap.contrast([0.0] * 6, [1.0] * 6, 0.5, generator)
    assert zero.ratio is None and zero.told_apart is True


# ---- configurations of several trials ------------------------------------------------------------------------------


def test_seeds_of_one_configuration_in_several_studies_stand_in_one_line(tmp_path: Path) -> None:
    one = study(
        tmp_path / "one", "", [*seeds(0, 0.02, config="a"), *seeds(1, 0.03, config="b"), *seeds(2, 0.01, config="c")]
    )
    errors = [0.024, 0.022, 0.02]  # the last has the seed of the first study, so it is the same training
    again = [{**line, "seed": 9 - number if number < 2 else 0} for number, line in enumerate(replicates(5, *errors))]
    other = study(tmp_path / "two", "replicates: 3", [{**line, "config_hash": "a", "data_hash": "d"} for line in again])
    lines = top([one, other]).table.to_pylist()
    assert [(line["study"], line["trial"], line["also"], line["replicates"]) for line in lines] == [
        ("one", 2, None, 1),
        ("one", 0, "two/5", 3),
        ("one", 1, None, 1),
    ]
    assert lines[1]["rel_l2"] == 0.022


@pytest.mark.parametrize(
    ("search", "columns"), [("quantile: 0.2", {}), ("", {"data_hash": "e"}), ("", {"config_hash": None})]
)
def test_seeds_do_not_belong_together_on_other_data_or_under_another_rule(
    tmp_path: Path, search: str, columns: Row
) -> None:
    one = study(tmp_path / "one", "", [row(0, 0.02, seed=1, **HASHES)])
    other = study(tmp_path / "two", search, [row(0, 0.03, seed=2, **HASHES) | columns])
    best = top([one, other])
    assert best.table["replicates"].to_pylist() == [1, 1]
    assert any("the data differ" in note for note in best.notes) == ("data_hash" in columns)


def test_a_trial_trained_again_takes_the_place_of_the_failed_one(tmp_path: Path) -> None:
    rows = [*seeds(0, None, config="a"), *seeds(1, 0.02, config="b")]
    rows += [line | {"retry_of": 0} for line in seeds(2, 0.01, config="a")]
    lines = top([study(tmp_path / "demo", "", rows)]).table.to_pylist()
    assert [(line["trial"], line["rel_l2"], line["replicates"]) for line in lines] == [(2, 0.01, 1), (1, 0.02, 1)]


def test_a_note_says_that_losses_of_another_form_cannot_be_compared(tmp_path: Path) -> None:
    rows = [row(0, 0.1, loss=1.0, boundary_weight=0.05), row(1, 0.2, loss=2.0, boundary_weight=0.1)]
    folder = study(tmp_path / "demo", "objective: loss", rows)
    assert (
        "loss cannot be compared between these: the losses are defined differently: boundary_weight 0.05 and 0.1."
        in (top([folder]).notes)
    )
    assert len(top([folder], by="rel_l2").notes) == 1  # only the note on seeds


def test_may_be_best_is_unknown_across_different_data(tmp_path: Path) -> None:
    rows = [*replicates(0, *ten_errors(0.02, 0), data_hash="d"), *replicates(1, *ten_errors(0.05, 1), data_hash="e")]
    assert top([study(tmp_path / "demo", "replicates: 10", rows)]).table["may_be_best"].to_pylist() == [True, None]


# ---- the list ------------------------------------------------------------------------------------------------------


def test_complete_trials_rank_by_the_objective_and_show_what_was_swept(demo: Path) -> None:
    table = top([demo], 5).shown()
    assert table.column_names == [
        *("trial", "rel_l2", "width", "depth", "adam_lr", "lbfgs_history", "init", "scale_factor"),
        *("loss", "rel_l2_nodal", "heldout_residual", "seconds", "stop_reason"),
    ]
    assert table["rel_l2"].to_pylist() == sorted(map(synthetic.error_of, range(10)))[:5]
    assert top([demo], 5000).table.num_rows == 10
    assert top([demo], by="seconds").shown().column_names[:2] == ["trial", "seconds"]
    assert top([demo], by="seconds").table["trial"].to_pylist() == list(range(10))  # ties in the order of trials


def test_another_objective_and_swept_settings_named_like_metrics(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    text = synthetic.STUDY_FILE.replace("space:", "space:\n  loss: {{choice: [norm, mean_square]}}")
    synthetic.make_study(folder, trials=3, failed=1, objective="process_zone_error", text=text)
    assert swept_columns(read_study_file(folder), STRAIN.record)[0] == "problem_loss"
    assert top([folder]).shown().column_names[:3] == ["trial", "process_zone_error", "problem_loss"]


def test_a_ranking_that_is_not_possible_is_refused(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(
        QueryError,
        match=r"ranked by a numeric column of the table trials other than its keys, got 'rel_l3'\. Did you mean rel_l2",
    ):
        top([demo], by="rel_l3")
    for name in ("init", "trial"):
        with pytest.raises(QueryError, match=f"other than its keys, got '{name}'"):
            top([demo], by=name)
    with pytest.raises(QueryError, match="at least 1, got 0"):
        top([demo], 0)
    with pytest.raises(StudyError, match=r"which has no study\.yaml"):
        top([tmp_path])
    other = study(tmp_path / "other", "objective: loss", [row(0, 0.1, loss=1.0)])
    with pytest.raises(QueryError, match=re.escape("different objectives (loss, rel_l2)")):
        top([demo, other])
    assert top([demo, other], 99, by="rel_l2").table.num_rows == 11


def test_trials_without_a_finite_objective_do_not_rank(tmp_path: Path) -> None:
    rows = [row(0, 0.1), row(1, 0.1) | {"rel_l2": math.nan}, row(2, 0.1) | {"rel_l2": None}, row(3, math.inf)]
    assert top([study(tmp_path / "demo", "", rows)]).table["trial"].to_pylist() == [0]


@pytest.mark.parametrize("rows", [[], [row(0, None)], [row(0, 0.1, state="PRUNED")]])
def test_a_study_without_complete_trials_has_an_empty_list(tmp_path: Path, rows: list[Row]) -> None:
    best = top([study(tmp_path / "demo", "", rows)])
    assert best.table.num_rows == 0
    assert invoke("top", tmp_path / "demo").stdout == "No configuration has a finite rel_l2 yet.\n"


def test_the_command_prints_a_table_and_how_to_read_it(tmp_path: Path) -> None:
    rows = [*replicates(0, *ten_errors(0.02, 0)), *replicates(1, *ten_errors(0.05, 2))]
    folder = study(tmp_path / "demo", "replicates: 10", rows)
    printed = invoke("top", folder, "-n", "1").stdout
    assert printed.splitlines()[0].split()[:5] == ["trial", "rel_l2", "rel_l2_low", "rel_l2_high", "replicates"]
    printed = invoke("top", folder).stdout
    assert "95 % bootstrap interval" in printed and "All others are told apart from the first" in printed
    lines = json.loads(invoke("top", folder, "--json").stdout)
    assert [line["may_be_best"] for line in lines] == [True, False] and lines[0]["rel_l2_min"] > 0
    assert "other than its keys, got 'x'" in errors_of(invoke("top", folder, "--by", "x"))
