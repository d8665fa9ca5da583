"""PED-ANOVA finds the planted dimension, and reports the others as no more than chance."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.analysis.importance import importance
from sweeps.analysis.study_axes import judged

from ..bare_rows import SPACE, Row, planted, replicates, row, study


def noisy(error: float, point: Row) -> float:
    """Return an error that scatters like that of different seeds, but depends only on the settings."""
    return error * math.exp(np.random.default_rng(int(1e9 * point["scale_factor"])).normal(0, 0.1))


def by_rate(point: Row) -> float:
    """Return an error that depends on the learning rate alone, which is best at 1e-3."""
    return noisy(0.01 * (1 + abs(math.log10(point["adam_lr"]) + 3)), point)


def by_init(point: Row) -> float:
    """Return an error that depends on the initial weights alone."""
    return noisy({"torch": 0.03, "keras": 0.01, "tf1": 0.02}[point["init"]], point)


@pytest.mark.parametrize(("error", "name"), [(by_rate, "adam_lr"), (by_init, "init")], ids=["range", "category"])
def test_only_the_planted_dimension_is_more_than_chance(tmp_path: Path, error: Any, name: str) -> None:
    result = importance(judged(planted(tmp_path / "demo", 100, error)))
    first = result.dimensions[0]
    assert first.name == name and not first.is_noise and first.share > 0.5 and first.share > 1.5 * first.noise
    assert first.low < first.share < 1 and first.p_value < 0.02
    assert sum(dimension.is_noise for dimension in result.dimensions[1:]) >= len(SPACE) - 2  # each by itself, at 5 %
    assert sum(dimension.share for dimension in result.dimensions) == pytest.approx(1)
    assert (result.trials, result.top) == (100, 10)


def test_of_pure_noise_about_one_dimension_in_twenty_stands_out(tmp_path: Path) -> None:
    def by_chance(point: Row) -> float:
        return noisy(1.0, point)

    studies = [planted(tmp_path / f"{seed}", 20, by_chance, seed=seed) for seed in range(2)]
    noise = [dimension.is_noise for place in studies for dimension in importance(judged(place)).dimensions]
    assert len(noise) == 2 * len(SPACE) and sum(noise) >= 8


def test_failed_and_pruned_trials_count_as_the_worst(tmp_path: Path) -> None:
    def failing(point: Row) -> float | None:
        return None if point["width"] != 16 else noisy(0.01, point)

    place = planted(tmp_path / "demo", 80, failing)
    result = importance(judged(place))
    assert result.trials == 80 and result.dimensions[0].name == "width" and not result.dimensions[0].is_noise


def test_a_dimension_that_exists_only_beside_another_is_judged_where_it_exists(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = []
    for trial in range(120):
        stage, rate = str(draw.choice(["sgd", "momentum", "adagrad"])), float(draw.uniform(0.1, 0.9))
        error = 0.01 * (1 + rate) if stage == "momentum" else 0.015
        rows.append(row(trial, error + draw.normal(0, 1e-4), first_stage=stage, momentum=rate))
    lines = "space: {first_stage: {choice: [sgd, momentum, adagrad]}, momentum: {uniform: [0.1, 0.9], "
    place = study(tmp_path / "demo", "", rows, lines + "when: {first_stage: momentum}}}")
    read = judged(place)
    assert int(read.axes[1].exists.sum()) == sum(line["first_stage"] == "momentum" for line in rows)
    result = {dimension.name: dimension for dimension in importance(read).dimensions}
    assert not result["momentum"].is_noise and not result["first_stage"].is_noise


@pytest.mark.parametrize("number", [0, 1, 3, 9])
def test_few_trials_say_nothing(tmp_path: Path, number: int) -> None:
    result = importance(judged(planted(tmp_path / "demo", number, by_rate)))
    assert result.dimensions == () and result.why_not is not None


def test_the_reason_is_given_where_there_is_no_importance(tmp_path: Path) -> None:
    def why_not(name: str, error: Any, space: dict[str, Any] | None = None) -> str | None:
        return importance(judged(planted(tmp_path / name, 30, error, space=space))).why_not

    assert why_not("failed", lambda point: None) == "importance needs at least 5 complete trials, and there are 0"
    assert why_not("infinite", lambda point: math.inf) == "importance needs at least 5 complete trials, and there are 0"
    assert why_not("nan", lambda point: math.nan) == "importance needs at least 5 complete trials, and there are 0"
    assert why_not("equal", lambda point: 0.5) == "all trials have the same value"
    assert why_not("constant", by_init, {"init": {"choice": ["keras"]}, "scale_factor": {"choice": [1]}}) == (
        "no dimension has more than one value"
    )


def test_the_value_of_a_trial_is_the_quantile_over_its_replicates(tmp_path: Path) -> None:
    rows = [
        *replicates(0, 0.1, None, 0.3, width=8),
        *replicates(1, None, None, 0.1, width=16),
        *replicates(2, 0.2, 0.2, 0.5, width=32),
    ]
    read = judged(study(tmp_path / "demo", "replicates: 3", rows, "space: {width: {choice: [8, 16, 32]}}"))
    assert read.values.tolist() == [0.3, math.inf, 0.2] and read.states.tolist() == ["COMPLETE", "FAIL", "COMPLETE"]
    assert read.axes[0].places.tolist() == [0, 1, 2]


def test_a_trial_trained_again_and_repeated_ones_are_judged_once(tmp_path: Path) -> None:
    rows = [row(0, None, width=8), row(1, 0.1, width=16), row(2, 0.2, width=8, retry_of=0)]
    rows += [row(3, 0.1, width=16, duplicate_of=1), row(4, None, width=16)]
    read = judged(study(tmp_path / "demo", "", rows, "space: {width: {choice: [8, 16]}}"))
    assert read.trials.tolist() == [1, 2, 4] and read.complete.tolist() == [True, True, False]


def test_listed_numbers_are_a_range_and_other_lists_categories(tmp_path: Path) -> None:
    rates = [10 ** (-4 + trial / 10) for trial in range(20)]
    listed = ", ".join(f"{{adam_lr: {rate}, init: keras, inputs: [x, y]}}" for rate in rates)
    rows = [row(n, rate, adam_lr=rate, init="keras", inputs='["x", "y"]') for n, rate in enumerate(rates)]
    read = judged(study(tmp_path / "demo", f"sampler: list, list: [{listed}]", rows))
    rate, init, inputs = read.axes
    assert rate.categories is None and rate.is_log and (rate.low, rate.high) == (rates[0], rates[-1])
    assert init.categories == ("keras",) and inputs.categories == (["x", "y"],) and init.is_constant
    assert [dimension.name for dimension in importance(read).dimensions] == ["adam_lr"]


def test_importance_is_the_same_each_time(tmp_path: Path) -> None:
    read = judged(planted(tmp_path / "demo", 12, by_rate))
    result = importance(read)
    assert result == importance(read) and result.top == 5
