"""`compare`: the comparison of two configurations or studies, and what must not be compared."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.analysis.compare_configurations import compare_configurations, configuration
from sweeps.analysis.compare_studies import compare_studies, ratio_of
from sweeps.analysis.compare_text import plain, text
from sweeps.errors import QueryError
from sweeps.query.query import ranked_trials

from ..bare_rows import SPACE, Row, drawn, replicates, row, study
from ..invoking import errors_of, invoke

KNOWN: Row = {"problem": "nonlocal_strain", "data_hash": "d", "boundary_weight": 0.05, "torch_version": "2.13.0"}
LINES = "space:\n  width: {choice: [8, 16]}\n  adam_lr: {loguniform: [0.0001, 0.01]}\n"


def ten_errors(middle: float, seed: int, number: int = 10) -> list[float]:
    return [float(value) for value in middle * np.exp(np.random.default_rng(seed).normal(0, 0.15, number))]


def compared(folder: Path, *trials: list[Row]) -> Any:
    """Return the comparison of the first two trials of a study with ten replicates."""
    place = study(folder, "replicates: 10", [line for rows in trials for line in rows], LINES)
    return compare_configurations(configuration(place, 0), configuration(place, 1))


def paired(
    root: Path, *, factor: float, number: int = 30, second: Row | None = None, **first: Any
) -> tuple[Path, Path]:
    """Make two studies of the same points; errors of the second are `factor` times those of the first, with noise."""
    draw, points = np.random.default_rng(1), drawn(SPACE, number)
    errors = 0.01 * np.exp(draw.normal(0, 0.5, number))
    others = errors * factor * np.exp(draw.normal(0, 0.1, number))
    spaces = "space:\n" + "".join(f"  {name}: {kind}\n" for name, kind in SPACE.items()).replace("'", "")
    studies = []
    for name, own, more in (("one", errors, first), ("two", others, second or {})):
        rows = [row(n, float(own[n]), seed=n, **(KNOWN | point | more)) for n, point in enumerate(points)]
        studies.append(study(root / name, "sampler: random", rows, spaces + f"train: {{dtype: {name}}}\n"))
    return studies[0], studies[1]


# ---- configurations ------------------------------------------------------------------------------------------------


def test_the_better_of_two_configurations_is_named_with_its_ratio(tmp_path: Path) -> None:
    first = replicates(0, *ten_errors(0.02, 0), width=8, adam_lr=1e-3, **KNOWN)
    comparison = compared(
        tmp_path / "demo", first, replicates(1, *ten_errors(0.04, 1), width=16, adam_lr=1e-3, **KNOWN)
    )
    assert comparison.verdict.startswith("demo/0 is better with 10 seeds each: rel_l2 0.")
    assert [(setting.setting, setting.first, setting.second) for setting in comparison.settings] == [("width", 8, 16)]
    (error, *_) = comparison.metrics
    assert (
        error.contrast is not None and error.contrast.told_apart and error.contrast.ratio == pytest.approx(0.5, rel=0.2)
    )
    assert error.contrast.low < error.contrast.ratio < error.contrast.high < 1
    printed = text(comparison)
    assert "width    8       16" in printed and "in brackets 95 % bootstrap intervals" in printed


def test_the_second_may_be_the_better_one(tmp_path: Path) -> None:
    comparison = compared(tmp_path / "demo", replicates(0, *ten_errors(0.04, 0)), replicates(1, *ten_errors(0.02, 1)))
    assert comparison.verdict.startswith("demo/1 is better with 10 seeds each: rel_l2 ")


def test_equal_ones_cannot_be_told_apart(tmp_path: Path) -> None:
    comparison = compared(
        tmp_path / "demo", replicates(0, *ten_errors(0.02, 0), **KNOWN), replicates(1, *ten_errors(0.02, 1), **KNOWN)
    )
    assert comparison.verdict.startswith("demo/0 and demo/1 cannot be told apart with 10 seeds each: rel_l2 ")
    assert comparison.settings == () and "The configurations are equal" in comparison.notes[-1]


@pytest.mark.parametrize(("number", "seeds"), [(1, "one seed each"), (3, "3 seeds each")])
def test_few_seeds_tell_nothing_apart(tmp_path: Path, number: int, seeds: str) -> None:
    rows = [*replicates(0, *ten_errors(0.02, 0, number)), *replicates(1, *ten_errors(0.2, 1, number))]
    place = study(tmp_path / "demo", f"replicates: {number}", rows)
    verdict = compare_configurations(configuration(place, 0), configuration(place, 1)).verdict
    assert verdict.startswith(f"Not decided: {seeds}. demo/0 over demo/1: rel_l2 0.")
    assert "cannot be told apart" not in verdict and "needs at least 5 seeds each, better 10" in verdict
    assert verdict.endswith("by up to 1.5x, less than this difference.")


def test_a_configuration_without_a_result_is_not_compared(tmp_path: Path) -> None:
    comparison = compared(tmp_path / "demo", replicates(0, *[None] * 10), replicates(1, *ten_errors(0.02, 1)))
    assert comparison.verdict == "demo/0 has no rel_l2 to compare: too many of its seeds failed or were pruned."
    assert "demo/0: 10 of 10 seeds have no result (FAIL)" in comparison.notes[0]
    json.dumps(plain(comparison), allow_nan=False)


def test_a_few_failed_seeds_are_infinitely_bad(tmp_path: Path) -> None:
    comparison = compared(
        tmp_path / "demo", replicates(0, *ten_errors(0.02, 0)[:7], None, None, None), replicates(1, *ten_errors(0.1, 1))
    )
    assert comparison.metrics[0].first.largest is None and comparison.metrics[0].contrast.ratio < 0.5
    assert "– ∞" in text(comparison)
    json.dumps(plain(comparison), allow_nan=False)


def test_errors_on_other_data_and_losses_of_another_form_are_refused(tmp_path: Path) -> None:
    first = replicates(0, *ten_errors(0.02, 0), loss=1.0, **KNOWN)
    other = replicates(1, *ten_errors(0.04, 1), loss=1.0, **KNOWN | {"data_hash": "e"})
    comparison = compared(tmp_path / "data", first, other)
    assert comparison.verdict.startswith("rel_l2 cannot be compared: the data differ (data_hash)")
    assert comparison.metrics[0].contrast is None and comparison.metrics[0].first.value is not None
    other = replicates(1, *ten_errors(0.04, 1), loss=1.0, **KNOWN | {"boundary_weight": 0.1})
    comparison = compared(tmp_path / "loss", first, other)
    assert comparison.verdict.startswith("loss/0 is better")
    assert "loss cannot be compared: the losses are defined differently: boundary_weight 0.05 and 0.1." in text(
        comparison
    )
    other = replicates(1, *ten_errors(0.04, 1), loss=1.0, **KNOWN | {"torch_version": "2.4.0", "scale_scope": "all"})
    comparison = compared(tmp_path / "versions", [line | {"scale_scope": "consistent"} for line in first], other)
    assert comparison.notes == (
        "Trained with different software or on different machines: torch_version 2.13.0 and 2.4.0.",
    )
    assert "they solve different equations: scale_scope all and consistent" in comparison.verdict


def test_a_repeated_trial_has_the_results_of_the_one_it_repeats(tmp_path: Path) -> None:
    place = study(tmp_path / "demo", "", [row(0, 0.1), row(1, 0.1, duplicate_of=0)])
    assert configuration(place, 1).name == "demo/0"


def test_a_missing_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="demo has no finished trial 7; it has trials 0 to 1"):
        configuration(study(tmp_path / "demo", "", [row(0, 0.1), row(1, 0.1)]), 7)
    with pytest.raises(QueryError, match="empty has no finished trial 0; none has finished yet"):
        configuration(study(tmp_path / "empty", "", []), 0)


# ---- studies -------------------------------------------------------------------------------------------------------


def test_equal_points_are_paired_and_the_better_study_named(tmp_path: Path) -> None:
    comparison = compare_studies(*paired(tmp_path, factor=1.5))
    assert [(setting.setting, setting.first, setting.second) for setting in comparison.settings] == [
        ("train.dtype", "one", "two")
    ]
    pairs = comparison.pairs
    assert pairs is not None and pairs.matched_by == tuple(SPACE)
    assert (pairs.number, pairs.equal, pairs.ambiguous) == (30, 0, 0) and pairs.better > 28 > pairs.worse
    assert pairs.low is not None and pairs.low < 1 / 1.5 < (pairs.high or 0) and (pairs.p_value or 1) < 1e-5
    assert "one is better." in text(comparison)


@pytest.mark.parametrize(("factor", "low", "high"), [(1.0, 2, 20), (2.0, 195, 200)])
def test_pairs_that_are_alike_are_told_apart_in_about_one_of_twenty_cases(factor: float, low: int, high: int) -> None:
    noise = np.exp(np.random.default_rng(0).normal(0, 0.3, (200, 12, 2)))
    p_values = [ratio_of(own * [1.0, factor])[3] for own in noise]
    assert low <= sum(p_value is not None and p_value < 0.05 for p_value in p_values) <= high


def test_studies_that_are_alike_cannot_be_told_apart(tmp_path: Path) -> None:
    assert "They cannot be told apart." in text(compare_studies(*paired(tmp_path, factor=1.0)))


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_few_pairs_tell_nothing(number: int) -> None:
    assert ratio_of(np.full((number, 2), [1.0, 2.0])) == ((0.5 if number else None), None, None, None)


def test_equal_configurations_pair_by_their_hash(tmp_path: Path) -> None:
    rows = [row(n, 0.1 + n / 100, config_hash=f"c{n}", **KNOWN) for n in range(8)]
    one = study(tmp_path / "one", "", rows)
    other = study(tmp_path / "two", "", [{**line, "trial": 9 - line["trial"]} for line in rows[:7]])
    pairs = compare_studies(one, other).pairs
    assert pairs is not None and pairs.matched_by == ("configuration",) and (pairs.number, pairs.equal) == (7, 7)
    assert "identical in every digit" in text(compare_studies(one, other))


def test_configurations_that_several_share_are_left_out_of_the_pairs(tmp_path: Path) -> None:
    one = study(tmp_path / "one", "", [row(n, 0.1 + n, width=8, **KNOWN) for n in range(2)], LINES)
    rows = [row(0, 0.2, width=8, **KNOWN), row(1, 0.3, width=16, **KNOWN)]
    comparison = compare_studies(one, study(tmp_path / "two", "", rows, "space: {width: {choice: [8, 16]}}"))
    assert comparison.pairs is None and "there are no pairs" in text(comparison)


def test_studies_on_other_data_are_not_judged(tmp_path: Path) -> None:
    comparison = compare_studies(*paired(tmp_path, factor=1.5, second={"data_hash": "e"}))
    assert comparison.pairs is not None and comparison.pairs.ratio is None and comparison.best is not None
    assert "rel_l2 cannot be compared: the data differ" in comparison.best.verdict
    assert "but rel_l2 cannot be compared: the data differ" in text(comparison) and "is better." not in text(comparison)


def test_a_study_without_a_complete_trial_is_named(tmp_path: Path) -> None:
    one = study(tmp_path / "one", "", [row(0, None), row(1, 0.1) | {"rel_l2": math.nan}])
    for other in (study(tmp_path / "two", "", []), study(tmp_path / "three", "", [row(0, 0.1)])):
        comparison = compare_studies(one, other)
        assert comparison.best is None and comparison.pairs is None
        assert "no complete trial" in text(comparison)
        json.dumps(plain(comparison), allow_nan=False)


def test_studies_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    one = study(tmp_path / "one", "", [row(0, 0.1)])
    loss = study(tmp_path / "two", "objective: loss", [row(0, 0.1, loss=1.0)])
    with pytest.raises(QueryError, match="different objectives"):
        compare_studies(one, loss)
    with pytest.raises(QueryError, match="two different studies are needed"):
        compare_studies(one, one)


# ---- the command ---------------------------------------------------------------------------------------------------


def test_the_command_takes_studies_and_trials(tmp_path: Path) -> None:
    one, other = paired(tmp_path, factor=1.5)
    assert "30 pairs of equal adam_lr" in invoke("compare", "one", "two", "--root", tmp_path).stdout
    printed = invoke("compare", "one/0", f"{other}/0", "--root", tmp_path).stdout
    best = ranked_trials([one], limit=1)["trial"][0].as_py()
    assert invoke("compare", "one/best", f"{other}/0", "--root", tmp_path).stdout == (
        invoke("compare", f"one/{best}", f"{other}/0", "--root", tmp_path).stdout
    )
    assert "Not decided: one seed each. one/0 over two/0: rel_l2 " in printed
    assert json.loads(invoke("compare", one, other, "--json").stdout)["pairs"]["number"] == 30


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("one/999", "one has no finished trial 999; it has trials 0 to 29"),
        ("one", "compare takes two studies or two trials"),
        ("one/x", "no study at one/x"),
        ("elsewhere/3", "no study at elsewhere or"),
    ],
)
def test_a_wrong_target_is_one_message(tmp_path: Path, second: str, message: str) -> None:
    paired(tmp_path, factor=1.5)
    assert message in errors_of(invoke("compare", "one/0", second, "--root", tmp_path))
