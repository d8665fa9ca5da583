"""The picture of a study: drawn by the command, for light and dark pages; what cannot be drawn is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeps.errors import StudyError
from sweeps.figures.drawing import for_dark_pages
from sweeps.report import overview, write_picture

from .. import synthetic
from ..invoking import invoke, made_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "demo"
    synthetic.make_study(folder, trials=6, failed=1, at=synthetic.small_points())
    return folder


def test_light_and_dark_are_the_same_picture_in_other_colours(study: Path, tmp_path: Path) -> None:
    light = write_picture(study, tmp_path / "light.svg").read_bytes()
    dark = write_picture(study, tmp_path / "dark.svg", dark=True).read_bytes()
    assert light.startswith(b"<?xml") and light != dark == for_dark_pages(light)
    assert write_picture(study, tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_it_beside_the_report(study: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    words = ("report", study, "-o", tmp_path / "report.html", "--picture", picture)
    assert json.loads(invoke(*words, "--json").stdout)["picture"] == str(picture)
    assert picture.is_file() and (tmp_path / "report.html").is_file()
    again = invoke(*words)
    assert again.exit_code == 2 and "--force" in again.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--picture", "study.pdf"), "neither a .svg nor a .png"),
        (("--picture", "study.png", "--dark"), "Write study.svg"),
        (("--dark",), "add --picture FILE"),
        (("--picture", "nowhere/study.svg"), "there is no folder"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("report", study, "-o", "report.html", *words)
    assert result.exit_code == 2 and message in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_study_without_a_complete_trial_has_no_picture(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no trial is complete"):
        write_picture(made_study(tmp_path, states=("FAIL",)), tmp_path / "study.svg")


def test_without_errors_the_curves_of_the_loss_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, labels = synthetic.curve, []
    monkeypatch.setattr(
        synthetic, "curve", lambda *member: (curve := whole(*member)) | {"rel_l2": [None] * len(curve["step"])}
    )
    drawn = overview.overview
    monkeypatch.setattr(
        overview, "overview", lambda *field, **words: labels.append(words["label"]) or drawn(*field, **words)
    )
    synthetic.make_study(tmp_path / "demo", trials=2, failed=0)
    write_picture(tmp_path / "demo", tmp_path / "study.svg")
    assert labels == ["loss"]


def test_what_was_not_kept_is_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="neither fields nor curves were kept"):
        write_picture(made_study(tmp_path, states=("COMPLETE",) * 2), tmp_path / "study.svg")
