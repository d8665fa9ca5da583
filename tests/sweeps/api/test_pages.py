"""A study, its report and its picture in a notebook: complete, escaped, and never an exception."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

import sweeps
from sweeps.api import overview

from ..invoking import made_study, raising
from ..synthetic import make_study
from ..trained_studies import every_end


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> sweeps.Study:
    """A finished study in the database, with the tables of a synthetic one."""
    folder = tmp_path_factory.mktemp("root") / "demo"
    make_study(folder, trials=8, failed=1)
    return sweeps.Study(folder)


class TestReport:
    def test_a_notebook_shows_the_page_itself(self, study: sweeps.Study, tmp_path: Path) -> None:
        report = study.report(tmp_path / "page.html", figures=tmp_path / "figures")
        assert report.path == tmp_path / "page.html" and Path(report) == report.path
        assert report.figures and all(figure.is_file() for figure in report.figures)
        frame = report._repr_html_()
        (source,) = re.findall('srcdoc="([^"]*)"', frame)
        assert html.unescape(source) == report.path.read_text() and 'sandbox=""' in frame and "height: 720px" in frame
        with pytest.raises(sweeps.StudyError, match="exists already: write force=True to replace it"):
            study.report(tmp_path / "page.html")
        report.path.unlink()
        assert "cannot be read" in report._repr_html_()

    def test_its_figures_are_replaced_with_force_only(
        self, study: sweeps.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweeps.report.gallery.picture_bytes", lambda *figure: b"<svg/>")
        assert study.report(figures=tmp_path).path == study.path / "report.html"
        with pytest.raises(sweeps.StudyError, match=re.escape("in Python: force=True")):
            study.report(figures=tmp_path)
        assert study.report(figures=tmp_path, force=True).figures


class TestPicture:
    def test_it_is_a_png(self, study: sweeps.Study, tmp_path: Path) -> None:
        picture = study.picture()
        content, metadata = picture._repr_png_()
        assert content.startswith(b"\x89PNG") and metadata == {"width": 1000}
        assert picture.save(tmp_path / "a.png").read_bytes() == content == picture.content
        with pytest.raises(sweeps.StudyError, match="exists already"):
            picture.save(tmp_path / "a.png")
        with pytest.raises(sweeps.StudyError, match="cannot be written"):
            picture.save(tmp_path / "none" / "a.png")

    def test_a_study_without_results_has_none(self, tmp_path: Path) -> None:
        with pytest.raises(sweeps.StudyError, match="no trial is complete"):
            sweeps.Study(made_study(tmp_path, states=["FAIL"])).picture()


class TestOverview:
    def test_it_says_how_the_study_stands(self, tmp_path: Path) -> None:
        study = sweeps.Study(made_study(tmp_path))
        assert repr(study).splitlines()[0] == "Study first: 3 trials (1 complete, 1 pruned, 1 failed)"
        assert repr(study).splitlines()[1].startswith("  best rel_l2 10 %: trial 0 (adam_lr ")
        assert repr(study).splitlines()[-1] == f"  in {tmp_path / 'first'}"
        page = study._repr_html_()
        assert "Study first: 3 trials" in page and page.count("<table>") == 1 and ">10 %</td>" in page
        assert "No picture: first: neither fields nor curves were kept" in page

    def test_its_picture_is_shown(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        page = sweeps.Study(every_end(tmp_path_factory))._repr_html_()
        assert page.count("<img ") == 1 and 'src="data:image/png;base64,' in page

    def test_a_study_that_has_just_begun(self, tmp_path: Path) -> None:
        study = sweeps.Study(made_study(tmp_path, "begun", ["WAITING", "RUNNING"]))
        assert "begun: 2 trials (2 waiting)" in repr(study) and "<table>" not in study._repr_html_()

    @pytest.mark.parametrize("damaged", ["study.db", "study.yaml", "trials", "curves"])
    def test_damage_is_said_and_raises_nothing(self, tmp_path: Path, damaged: str) -> None:
        study = sweeps.Study(made_study(tmp_path))
        place = study.path / damaged
        for file in place.glob("*.parquet") if place.is_dir() else [place]:
            file.write_bytes(b"<torn>")
        assert repr(study).startswith("Study first") and str(study.path) in repr(study)
        page = study._repr_html_()
        assert "<torn>" not in page and "Study first" in page
        assert ("not a whole Parquet file" in page) == (damaged in ("trials", "curves"))

    def test_a_folder_that_is_gone(self, tmp_path: Path) -> None:
        study = sweeps.Study(made_study(tmp_path))
        study.path.rename(tmp_path / "elsewhere")
        assert "Study first: " in repr(study) and "Study first: " in study._repr_html_()

    def test_whatever_happens_is_text(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        study = sweeps.Study(made_study(tmp_path))
        monkeypatch.setattr(overview, "read_status", raising(ValueError("<b>")))
        assert "ValueError: <b>" in repr(study) and "ValueError: &lt;b&gt;" in study._repr_html_()

    def test_a_large_study_is_not_drawn_unasked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        study = sweeps.Study(made_study(tmp_path))
        monkeypatch.setattr(overview, "_MOST_DRAWN", 2)
        assert "<img" not in study._repr_html_() and "<table>" in study._repr_html_()


def test_a_mistake_is_shown_without_a_traceback() -> None:
    assert sweeps.StudyError("no study").__class__ is sweeps.StudyError
    assert sweeps.StudyError("no study")._render_traceback_() == ["StudyError: no study"]
