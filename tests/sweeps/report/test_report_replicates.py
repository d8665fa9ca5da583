"""The report of a study with replicates, pruned, failed, repeated and retried trials, and of several objectives."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from sweeps.analysis import rungs
from sweeps.analysis.leaderboard import top
from sweeps.figures import studies as studyfigures
from sweeps.figures.drawing import picture_bytes
from sweeps.report.data import at_one_moment
from sweeps.report.judgement import pruning
from sweeps.storage.tables import StudyTables

from .. import synthetic
from .test_report import Page, leave_undrawn, page_of, read, undrawn

__all__ = ["undrawn"]  # a fixture

SEEDS = 5


def errors_of(trial: int) -> list[float]:
    return [synthetic.error_of(trial, replicate) for replicate in range(SEEDS)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "demo"
    synthetic.make_pruned_study(folder, replicates=SEEDS)
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    with pytest.MonkeyPatch.context() as patched:
        leave_undrawn(patched)
        return page_of(study)


def test_trials_are_counted_by_what_became_of_them(page: Page) -> None:
    assert "22 of 35 trials complete 1 failed 12 pruned" in page.text
    assert "Trained again: 32 as 34." in page.text
    assert f"11 not_finite {synthetic.FAILURE} 3, 32, 33" in page.text  # 5 + 5 of failed trials, 1 of a complete one
    assert "another trial has the same configuration: 35." in page.text


def test_the_ranking_is_that_of_top(study: Path, page: Page) -> None:
    medians = {trial: float(np.median(errors_of(trial))) for trial in (*range(3), *range(4, 20), 34)}
    best = min(medians, key=medians.__getitem__)
    low, high = min(errors_of(best)), max(errors_of(best))
    first = top([study], 1).table.to_pylist()[0]
    assert first["trial"] == best and (first["rel_l2_min"], first["rel_l2_max"]) == (low, high)
    assert f"{100 * medians[best]:.4g} % relative L2 error of the best trial, median" in page.text
    assert f"{100 * low:.3g} – {100 * high:.3g} % rel_l2 over its 5 replicates" in page.text
    assert f"Best configuration: trial {best}" in page.text and "the median of 5 replicates" in page.text


@pytest.mark.usefixtures("undrawn")
def test_pictures_are_of_the_replicate_nearest_the_median(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=0, failed=0, replicates=SEEDS)
    synthetic.publish(tables, "some", (1, 4), replicates=SEEDS)
    best = min((1, 4), key=lambda trial: float(np.median(errors_of(trial))))
    place = int(np.argsort(errors_of(best))[SEEDS // 2])
    assert place != 0  # or the first would do
    report = read(tables.study_dir)
    assert report.best is not None and (report.best["trial"], report.best["replicate"]) == (best, place)
    text = page_of(tables.study_dir).text
    assert (
        f"are those of replicate {place}, the nearest to the median" in text
        and f"with seed {report.best['seed']}" in text
    )
    assert f"rel_l2 {100 * errors_of(best)[place]:.4g} %" in text


@pytest.mark.usefixtures("undrawn")
def test_the_spread_over_the_seeds_is_drawn(study: Path, page: Page, tmp_path: Path) -> None:
    assert "Spread over the seeds" in page.text
    assert "rel_l2 of every replicate of the 10 best trials" in [alt for alt, _ in page.pictures()]
    synthetic.make_study(tmp_path / "single", trials=2, failed=0)
    assert "Spread over the seeds" not in page_of(tmp_path / "single").text
    assert read(study).values_of(3, "rel_l2") == [errors_of(3)[0], float("inf"), *errors_of(3)[2:]]


def test_every_replicate_that_finished_is_a_point_of_the_spread() -> None:
    values = {7: [1.0, 2.0, 4.0], 3: [2.0, float("inf"), 9.0, 3.0]}
    svg = picture_bytes(studyfigures.replicate_spread(values, [2.0, 6.0], label="rel_l2 in %", middle="median"))
    groups = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g")
    points = {group.get("id"): len(list(group.iter("{http://www.w3.org/2000/svg}use"))) for group in groups}
    assert [count for name, count in points.items() if str(name).startswith("PathCollection")] == [3, 3]


def test_the_rungs_stand_under_pruning(page: Page) -> None:
    assert "12 trials were ended early by asha, which compares trials by rel_l2 at these rungs" in page.text
    assert (
        page.texts.count("share of steps") == 2  # in one table, and explained below
        and "the worst trials at the rung were also the worst at the end" in page.text
    )
    for share, pruned in (("3.7 %", 0), ("11.1 %", 8), ("33.3 %", 4)):
        row = page.texts.index(share)
        trials, correlation, pruned_there = page.texts[row + 1 : row + 4]
        assert (trials, pruned_there) == ("21", str(pruned)) and 0.5 < float(correlation) <= 1
    assert "it covers only the trials that went on" in page.text


@pytest.mark.usefixtures("undrawn")
def test_without_a_pruner_the_same_table_says_what_one_would_have_gone_by(tmp_path: Path) -> None:
    synthetic.make_study(tmp_path / "demo", trials=8, failed=0)
    text = page_of(tmp_path / "demo").text
    assert "Would early stopping have been fair?" in text and "pruned there" not in text
    assert "Fewest trials at a rung here: 8." in text
    synthetic.make_study(tmp_path / "two", trials=2, failed=0)  # of which nothing can be said
    assert "Would early stopping" not in page_of(tmp_path / "two").text


@pytest.mark.usefixtures("undrawn")
def test_patience_has_no_rungs_of_its_own(tmp_path: Path) -> None:
    text = synthetic.with_search(synthetic.STUDY_FILE, "pruner: {{kind: patience, metric: loss}}")
    tables = synthetic.make_study(tmp_path / "demo", trials=4, failed=0, text=text)
    synthetic.publish_pruned(tables, "pruned", [9], at_step=500)
    page_text = page_of(tmp_path / "demo").text
    assert "1 trial was ended because loss no longer improved" in page_text and "pruned there" not in page_text


def test_of_very_many_trials_some_are_judged(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rungs, "MOST_JUDGED", 9)
    assert "9 trials were drawn for it" in at_one_moment(study, lambda shown: str(pruning(shown)))


@pytest.mark.usefixtures("undrawn")
def test_a_pruned_study_whose_file_can_no_longer_be_used_says_so(tmp_path: Path) -> None:
    tables = synthetic.make_pruned_study(tmp_path / "demo", replicates=1)
    file = tables.study_dir / "study.yaml"
    file.write_text(file.read_text().replace("keep_epochs", "keep_apochs"))
    assert "The rungs are not known" in page_of(tables.study_dir).text


@pytest.mark.usefixtures("undrawn")
def test_the_front_of_several_objectives_is_drawn(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=0, failed=0, objective="[rel_l2, loss]")
    rows = [synthetic.trial_row(trial) | {"loss": 1 - synthetic.error_of(trial)} for trial in range(6)]
    tables.publish("a", trials=[*rows, synthetic.trial_row(6) | {"rel_l2": 0.9, "loss": 2.0}])
    page = page_of(tmp_path / "demo")
    assert "rel_l2 against loss" in page.text and "Best compromises: 6 of 7 complete trials" in page.text
    assert "for the lowest rel_l2 and loss" in page.text and "true" in page.texts and "false" in page.texts
    assert "rel_l2 and loss of every trial" in [alt for alt, _ in page.pictures()]


@pytest.mark.usefixtures("undrawn")
def test_a_setting_with_a_condition_shows_the_trials_in_which_it_exists(tmp_path: Path) -> None:
    when = "lbfgs_history: {{choice: [10, 50, 200], when: {{init: [torch, keras]}}}}"
    text = synthetic.STUDY_FILE.replace("lbfgs_history: {{choice: [10, 50, 200]}}", when)
    synthetic.make_study(tmp_path / "demo", trials=8, failed=0, text=text)
    report = read(tmp_path / "demo")
    settings = report.settings(report.ranked)
    shown = report.exists("lbfgs_history", settings).tolist()
    assert shown == [init != "tf1" for init in settings["init"]] and len(set(shown)) == 2
    assert "only trials in which it exists are drawn" in page_of(tmp_path / "demo").text


@pytest.mark.usefixtures("undrawn")
def test_a_study_of_another_quantile_names_it(tmp_path: Path) -> None:
    text = synthetic.with_search(synthetic.STUDY_FILE, "quantile: 0.9")
    synthetic.make_study(tmp_path / "demo", trials=2, failed=0, replicates=3, text=text)
    assert "the 90 % quantile of 3 replicates" in page_of(tmp_path / "demo").text


@pytest.mark.usefixtures("undrawn")
def test_results_taken_over_are_told(tmp_path: Path) -> None:
    tables: StudyTables = synthetic.make_study(tmp_path / "demo", trials=2, failed=0)
    tables.publish("taken", trials=[synthetic.trial_row(7) | {"taken_from": "/elsewhere/3", "pack": None}])
    assert "Taken over and not trained here: /elsewhere/3." in page_of(tmp_path / "demo").text
