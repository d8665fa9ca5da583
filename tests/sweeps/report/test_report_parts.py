"""Parts of the report that rest on numbers of their own: loss terms, weights, residual, cost, sampling, the command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sweeps.figures.drawing import Format, spread_indices
from sweeps.figures.studies import loss_shares
from sweeps.report import trials as reporttrials
from sweeps.report.field import maps, residual
from sweeps.report.gallery import Gallery
from sweeps.report.report import _ranking
from sweeps.report.training import training
from sweeps.report.weights import weights
from sweeps.storage.tables import StudyTables

from .. import synthetic
from ..invoking import errors_of, invoke
from ..trained_studies import sampled
from .test_report import Page, page_of, read, undrawn

__all__ = ["undrawn"]  # a fixture


def study_of(folder: Path, trials: int = 4, **rows: Any) -> StudyTables:
    tables = synthetic.make_study(folder, trials=0, failed=0)
    trial_rows = [synthetic.trial_row(trial) | rows for trial in range(trials)]
    numbers = range(trials)
    tables.publish(
        "a",
        trials=trial_rows,
        curves=[synthetic.curve(n) for n in numbers],
        weights=[synthetic.weights(n) for n in numbers],
    )
    return tables


@pytest.mark.usefixtures("undrawn")
def test_loss_terms_stand_with_their_share_at_the_end_of_each_phase(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=0, failed=0)
    curve = synthetic.curve(0)
    curve["loss"] = curve["loss_residual"] + 0.1 * (curve["loss_lrb"] + curve["loss_btb"])
    tables.publish("a", trials=[synthetic.trial_row(0)], curves=[curve])
    study = read(tables.study_dir)
    assert study.best is not None
    texts = Page(str(training(study, study.best, Gallery()))).texts
    for name, at in (("start", 0), ("after Adam", 41), ("after L-BFGS", -1)):
        row = texts[texts.index(name) :][:4]
        share = 100 * curve["loss_residual"][at] / curve["loss"][at]
        assert row[1] == f"{curve['evaluations'][at]:,}"
        assert row[3] == f"{curve['loss_residual'][at]:.4g} ({share:.0f} %)"


@pytest.mark.usefixtures("undrawn")
def test_terms_that_do_not_add_up_to_the_loss_have_no_share(tmp_path: Path) -> None:
    tables = study_of(tmp_path / "demo", boundary_weight=7.0)
    gallery = Gallery("svg")
    study = read(tables.study_dir)
    assert study.best is not None
    text = Page(str(training(study, study.best, gallery))).text
    assert (
        "Loss terms by stage" in text and "Brackets and picture" not in text and "loss-terms.svg" not in gallery.files
    )


@pytest.mark.usefixtures("undrawn")
def test_epochs_that_were_asked_for_and_not_kept_are_told(tmp_path: Path) -> None:
    tables = study_of(tmp_path / "demo", 1, keep_epochs=[0, 50, 700, 2000])
    study = read(tables.study_dir)
    assert study.best is not None
    text = Page(str(weights(study, study.best, Gallery()))).text
    assert "Not kept of keep_epochs: 700, 2000." in text
    text = Page(str(weights(study, study.best | {"keep_epochs": "[0, 2000]"}, Gallery()))).text
    assert "Not kept of keep_epochs: 2000 (the first stage ended after 1000 epochs)." in text


@pytest.mark.usefixtures("undrawn")
def test_the_residual_between_the_points_is_that_of_the_trained_network(tmp_path: Path) -> None:
    study = read(sampled(tmp_path, trials=2))
    assert study.best is not None
    gallery = Gallery("svg")
    text = Page(str(residual(study, gallery)) + str(maps(study, study.best, gallery))).text
    assert "heldout-residual.svg" in gallery.files
    assert f"never trained on. Its RMS is {study.best['heldout_residual']:.3g} times that of its forcing" in text
    assert "at 200 points" in text and "notch" not in text
    assert "at 200 points of a grid of 5 x 40, over x in mm and y in mm" in text


@pytest.mark.usefixtures("undrawn")
def test_a_page_names_no_place_of_the_machine_that_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.trial.tables.own_name", own_name := lambda: "/opt/venv/bin/pinnsweep")
    monkeypatch.setattr("sweeps.report.data.own_name", own_name)
    tables = synthetic.make_study(tmp_path / "bare", trials=0, failed=0)
    tables.publish("a", trials=[synthetic.trial_row(0)])
    text = page_of(tables.study_dir).text
    assert "This command makes them again: pinnsweep retrain bare 0 -o network.npz." in text
    assert "/opt/venv" not in text and str(tmp_path) not in text


@pytest.mark.usefixtures("undrawn")
def test_the_ranking_has_no_columns_without_a_value(tmp_path: Path) -> None:
    tables = study_of(tmp_path / "demo", 3, rel_l2_nodal=None, heldout_residual=0.5)
    heads = re.findall(r"#column-(\w+)", str(_ranking(read(tables.study_dir))))
    assert "heldout_residual" in heads and "rel_l2_nodal" not in heads


@pytest.mark.usefixtures("undrawn")
def test_software_is_named_once_something_ran(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "new", trials=0, failed=0)
    assert "unknown" not in page_of(tables.study_dir).text
    tables.publish("a", trials=[synthetic.trial_row(0)])
    assert "torch 2.13.0, Python 3.11.2; engine torch on cpu" in page_of(tables.study_dir).text


@pytest.mark.usefixtures("undrawn")
def test_cost_counts_what_led_nowhere(tmp_path: Path) -> None:
    tables = study_of(tmp_path / "demo", 3, seconds=60.0, first_seconds=45.0, second_seconds=15.0, evaluations=1000)
    lost = synthetic.trial_row(7, failure=synthetic.FAILURE) | {"seconds": 20.0, "evaluations": 1000, "device": "cuda"}
    tables.publish("b", trials=[lost])
    text = page_of(tables.study_dir).text
    assert "0.05 cpu hours, 0.00556 cuda hours of training: 3 min 20 s for 4,000 evaluations" in text
    assert "(50 ms each). First stages took 75 % of the time, second stages the rest." in text
    assert "20 s (10 %) went into trainings that failed." in text
    assert (
        "pack members device host time evaluations ms per evaluation 0 3 cpu node-1 3 min 00 s 3,000 60 1 1 cuda"
        in text
    )


@pytest.mark.usefixtures("undrawn")
def test_of_very_many_trials_some_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporttrials, "LINES_SHOWN", 5)
    monkeypatch.setattr(reporttrials, "POINTS_SHOWN", 9)
    tables = synthetic.make_study(tmp_path / "demo", trials=0, failed=0)
    tables.publish("a", trials=[synthetic.trial_row(trial) for trial in range(20)])
    text = page_of(tables.study_dir).text
    assert "The 3 best of 20 trials are drawn, and 5 of the others, spread evenly." in text
    assert "Of 20 trials, 9 are drawn, evenly over their ranks" in text


@pytest.mark.parametrize(("count", "most"), [(0, 5), (3, 5), (5, 5), (100, 7), (100, 1)])
def test_indices_drawn_of_many_are_spread_and_have_the_first(count: int, most: int) -> None:
    indices = spread_indices(count, most).tolist()
    assert len(indices) == min(count, most) and indices == sorted(set(indices))
    assert count == 0 or (indices[0] == 0 and (most == 1 or indices[-1] == count - 1))


@pytest.mark.parametrize(("format", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_pictures_are_files_in_the_format_asked(tmp_path: Path, format: Format, start: bytes) -> None:
    gallery = Gallery(format)
    shown = str(gallery.hang("loss-terms", loss_shares({"start": {"residual": 1.0}}), "Shares"))
    assert shown.count("data:image/svg+xml;base64,") == 2, "on the page it is the same for all"
    (path,) = gallery.save(tmp_path / "new" / "figures")
    assert path.name == f"loss-terms.{format}" and path.read_bytes().startswith(start)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.usefixtures("undrawn")
def test_the_command_lists_what_it_wrote(tmp_path: Path) -> None:
    study = study_of(tmp_path / "demo").study_dir
    out, folder = tmp_path / "page.html", tmp_path / "figures"
    answer = json.loads(invoke("report", study, "-o", out, "--figures", folder, "--json").stdout)
    assert answer["page"] == str(out) and out.is_file()
    assert sorted(answer["figures"]) == sorted(map(str, folder.iterdir()))
    plain = invoke("report", study, "--figures", folder, "--format", "png").stdout.split()
    assert plain[0] == str(study / "report.html") and plain[1] == str(folder / "training-best.png")
    assert "page.html exists already: add --force" in errors_of(invoke("report", study, "-o", out))
    message = errors_of(invoke("report", study, "--figures", folder))
    assert message.startswith(f"error: {folder} has these figures already: ") and "Add --force" in message
    assert invoke("report", study, "-o", out, "--figures", folder, "--force").exit_code == 0
    assert "'jpeg' is not one of 'svg', 'png'" in errors_of(invoke("report", study, "--format", "jpeg"))
