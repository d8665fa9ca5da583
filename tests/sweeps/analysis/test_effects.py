"""Marginal effects: the groups of every dimension, their statistics and failures; and `pinnsweep effects`."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from sweeps.analysis.effects import marginal_effects
from sweeps.analysis.study_axes import judged
from sweeps.analysis.summary import judge, text

from .. import synthetic
from ..bare_rows import SPACE, Row, planted, row, study
from ..invoking import errors_of, invoke


def by_rate(point: Row) -> float:
    return 0.01 * (1 + abs(math.log10(point["adam_lr"]) + 3))


def test_groups_are_values_of_categories_and_stretches_of_ranges(tmp_path: Path) -> None:
    read = judged(planted(tmp_path / "demo", 60, by_rate))
    effects = {effect.name: effect for effect in marginal_effects(read)}
    assert [group.label for group in effects["width"].groups] == ["8", "16", "32"]
    assert [group.label for group in effects["depth"].groups] == ["1", "2", "3", "4", "5"]
    rates = effects["adam_lr"].groups
    assert effects["adam_lr"].is_log and len(rates) == 5 and all(group.trials == 12 for group in rates)
    assert all(one.high < other.low for one, other in itertools.pairwise(rates) if one.high and other.low)
    medians = [group.median or 0 for group in rates]
    assert np.argmin(medians) == 2 and medians[0] > 1.3 * medians[2] and medians[4] > 1.3 * medians[2]
    assert all(sum(group.trials for group in effect.groups) == 60 for effect in effects.values())


def test_a_group_holds_the_quartiles_of_its_complete_trials(tmp_path: Path) -> None:
    rows = [row(n, error, width=8) for n, error in enumerate([0.1, 0.2, 0.3, 0.4, 0.5, None])]
    rows += [row(6, None, width=16), row(7, 0.1, width=16, state="PRUNED"), row(8, math.inf, width=16)]
    (effect,) = marginal_effects(judged(study(tmp_path / "demo", "", rows, "space: {width: {choice: [4, 8, 16]}}")))
    one, other = effect.groups
    assert (one.label, one.trials, one.complete, one.failed, one.pruned) == ("8", 6, 5, 1, 0)
    assert (one.best, one.lower, one.median, one.upper) == (0.1, 0.2, 0.3, 0.4)
    assert (other.trials, other.complete, other.failed, other.pruned, other.median) == (3, 0, 2, 1, None)


def test_a_value_with_significantly_more_failures_is_named(tmp_path: Path) -> None:
    def failing(point: Row) -> float | None:
        return None if point["adam_lr"] > 3e-3 and point["depth"] > 1 else 0.01

    failing_groups = {
        effect.name: effect.failing for effect in marginal_effects(judged(planted(tmp_path / "a", 80, failing)))
    }
    assert failing_groups["adam_lr"] == "0.0044 – 0.0092"
    assert failing_groups["init"] is failing_groups["width"] is failing_groups["scale_factor"] is None
    assert "Trials with adam_lr" in invoke("effects", tmp_path / "a").stdout


def test_a_dimension_that_does_not_exist_in_a_trial_is_left_out(tmp_path: Path) -> None:
    stages = ["sgd", "momentum"] * 10
    rows = [row(n, 0.1 + n, first_stage=stage, momentum=0.5 + n / 100) for n, stage in enumerate(stages)]
    lines = "space: {first_stage: {choice: [sgd, momentum]}, momentum: {uniform: [0.1, 0.9], "
    place = study(tmp_path / "demo", "", rows, lines + "when: {first_stage: [momentum]}}}")
    effects = {effect.name: effect for effect in marginal_effects(judged(place))}
    assert sum(group.trials for group in effects["momentum"].groups) == 10


@pytest.mark.parametrize(
    ("number", "value"), [(0, None), (1, 0.1), (1, None), (2, math.inf), (2, 0.1), (3, math.nan), (3, 0.1)]
)
def test_few_trials_of_any_kind_make_a_short_answer(tmp_path: Path, number: int, value: float | None) -> None:
    place = planted(tmp_path / "demo", number, lambda point: value)
    judgement = judge(place)
    assert judgement.effects == () and judgement.suggestions == () and judgement.importance.why_not is not None
    assert f"demo: {number} trials" in text(judgement) and "nothing stands out" in text(judgement)


@pytest.mark.parametrize("value", [None, math.nan])
def test_thirty_trials_without_a_result_have_no_effects(tmp_path: Path, value: float | None) -> None:
    judgement = judge(planted(tmp_path / "demo", 30, lambda point: value))
    assert (judgement.complete, judgement.failed) == (0, 30) and judgement.suggestions == ()
    assert all(group.median is None for effect in judgement.effects for group in effect.groups)
    json.dumps(judgement.to_plain(), allow_nan=False)
    assert "30 failed" in text(judgement)


def test_grids_of_one_value_and_adaptive_samplers_are_noted(tmp_path: Path) -> None:
    space = {"adam_lr": SPACE["adam_lr"], "width": {"choice": [8]}}
    judgement = judge(planted(tmp_path / "demo", 12, by_rate, space=space, search="sampler: tpe"))
    assert [effect.name for effect in judgement.effects] == ["adam_lr"]
    assert any("The sampler tpe prefers regions with good results" in note for note in judgement.notes)
    assert any("width has a single value" in note for note in judgement.notes)


def test_rungs_are_those_of_the_report(tmp_path: Path) -> None:
    place = synthetic.make_pruned_study(tmp_path / "demo", replicates=3).study_dir
    rungs = judge(place).rungs
    assert rungs is not None and (rungs.metric, rungs.objective, rungs.drawn) == ("rel_l2", "rel_l2", None)
    assert [(round(rung.rung, 3), rung.trials, rung.pruned) for rung in rungs.rungs] == [
        *((0.037, 21, 0), (0.111, 21, 8), (0.333, 21, 4))
    ]
    printed = invoke("effects", place).stdout
    assert (
        "Rank correlation of rel_l2 at a rung with rel_l2 at the end: " in printed
        and "12 pruned trials count as worse" in printed
    )


def test_the_command_answers_as_text_and_json(tmp_path: Path) -> None:
    place = planted(tmp_path / "demo", 40, by_rate, space={name: SPACE[name] for name in ("adam_lr", "init")})
    lines = invoke("effects", place).stdout.splitlines()
    assert lines[0] == "demo: 40 trials, 40 complete; by rel_l2."
    (rate,) = [line.split() for line in lines if line.startswith("adam_lr") and "0.0" not in line[:20]][:1]
    assert float(rate[1]) > 50
    judgement = json.loads(invoke("effects", place, "--by", "rel_l2", "--json").stdout)
    assert judgement["importance"]["dimensions"][0]["name"] == "adam_lr"
    assert not judgement["importance"]["dimensions"][0]["is_noise"]
    assert [effect["name"] for effect in judgement["effects"]] == ["adam_lr", "init"]
    assert "other than its keys, got 'init'" in errors_of(invoke("effects", place, "--by", "init"))
