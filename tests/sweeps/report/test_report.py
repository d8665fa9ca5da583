"""The report is one file that loads nothing, holds what it promises, and shows any text as text."""

from __future__ import annotations

import base64
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sweeps.errors import StudyError
from sweeps.figures import drawing
from sweeps.query.query import read_study_file
from sweeps.report import gallery, write_report
from sweeps.report.data import ReportStudy, at_one_moment
from sweeps.report.snippet import snippet
from sweeps.search import search_of
from sweeps.spec.parse import parse_spec
from sweeps.storage.schema import config_of
from sweeps.storage.tables import StudyTables
from sweeps.study.loading import load_text
from tests.pinncore.test_mesh import on_elements

from .. import synthetic
from ..invoking import invoke
from ..problems import STRAIN

VOID = {"meta", "img", "wbr"}
SETTINGS = ("width", "depth", "adam_lr", "lbfgs_history", "init", "scale_factor")


class Page(HTMLParser):
    """A page as tags with attributes, texts, and a check that every tag is closed where it should be."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attributes}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.texts.append(text)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def pictures(self, ground: str = "on-light") -> Iterator[tuple[str, bytes]]:
        for tag, attributes in self.tags:
            if tag == "img" and attributes["class"] == ground:
                kind, data = attributes["src"].split(",", 1)
                assert kind == "data:image/svg+xml;base64"
                yield attributes["alt"], base64.b64decode(data, validate=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "demo"
    synthetic.make_study(folder, trials=8, failed=2, at=on_elements())
    return folder


@pytest.fixture(scope="module")
def figures(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_report(study, figures=tmp_path_factory.mktemp("pictures") / "new").figures


@pytest.fixture(scope="module")
def page(study: Path, figures: tuple[Path, ...]) -> Page:
    return Page((study / "report.html").read_text(encoding="utf-8"))


def leave_undrawn(patched: pytest.MonkeyPatch) -> None:
    """Replace drawing by an empty picture: figures take most of the time, and some tests check only the words."""
    patched.setattr(gallery, "picture_bytes", lambda *figure: b"<svg/>")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_undrawn(monkeypatch)


def read(study_dir: Path) -> ReportStudy:
    return at_one_moment(study_dir, lambda study: study)


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).page.read_text(encoding="utf-8"))


def test_the_report_is_beside_the_study_unless_told_otherwise(
    study: Path, page: Page, figures: tuple[Path, ...], tmp_path: Path
) -> None:
    written = write_report(study, tmp_path / "other.html", figures=tmp_path / "svg")
    assert written.page == tmp_path / "other.html"
    assert (study / "report.html").read_bytes() == (tmp_path / "other.html").read_bytes()  # nothing of the clock in it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.html", "svg"]
    drawn = [picture for _, picture in page.pictures()]
    for paths in (written.figures, figures):
        assert [path.read_bytes() for path in paths] == drawn
    with pytest.raises(StudyError, match="cannot be written"):
        write_report(study, tmp_path / "no-folder" / "report.html")


@pytest.mark.usefixtures("undrawn")
def test_a_report_reads_the_study_once(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One study file parsed, one database opened, all tables as published at one moment."""
    calls: Counter[str] = Counter()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[function.__name__] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(duckdb, "connect", counted(duckdb.connect))
    monkeypatch.setattr(StudyTables, "snapshot", counted(StudyTables.snapshot))
    for function in (parse_spec, read_study_file):
        for module in [module for name, module in sys.modules.items() if name.startswith("sweeps")]:
            if vars(module).get(function.__name__) is function:
                monkeypatch.setattr(module, function.__name__, counted(function))
    assert invoke("report", study, "-o", tmp_path / "page.html").exit_code == 0
    assert calls == {"connect": 1, "snapshot": 1, "parse_spec": 1, "read_study_file": 1}


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    synthetic.make_study(tmp_path / "demo", trials=2, failed=0)
    file = next((tmp_path / "demo" / "curves").glob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[100:200] = bytes(100)
    file.write_bytes(content)
    with pytest.raises(StudyError, match=f"{file}: not a whole Parquet file"):
        write_report(tmp_path / "demo")


@pytest.mark.usefixtures("undrawn")
def test_figures_that_cannot_be_written_are_told(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="figures cannot be written to"):
        write_report(study, tmp_path / "report.html", figures=tmp_path / "file")


def test_every_picture_is_a_file_of_its_own_where_asked(page: Page, figures: tuple[Path, ...]) -> None:
    names = [path.name for path in figures]
    assert names == [
        *("field-predicted.svg", "field-reference.svg", "field-error.svg"),
        *("field-predicted-log.svg", "field-reference-log.svg", "field-relative-error.svg"),
        *("training-best.svg", "training-many.svg", "parallel.svg"),
        *(f"against-{name}.svg" for name in SETTINGS),
        "importance.svg",
        *("weights-layer-1.svg", "weights-layer-2.svg", "weights-layer-3.svg", "cost-times.svg", "cost-error.svg"),
    ]
    assert len(list(page.pictures())) == len(names)


def test_dark_pages_have_pictures_of_their_own(page: Page) -> None:
    light, dark = dict(page.pictures()), dict(page.pictures("on-dark"))
    assert list(light) == list(dict.fromkeys(light)) == list(dark)
    assert all(drawing.INK.encode() in light[name] and drawing.INK.encode() not in dark[name] for name in light)


def test_the_report_loads_nothing_and_runs_nothing(study: Path, page: Page) -> None:
    source = (study / "report.html").read_text(encoding="utf-8")
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "video", "audio"}
    assert all(
        value.startswith("data:image/")
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key == "src"
    )
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {attributes["href"].removeprefix("#") for _, attributes in page.tags if "href" in attributes} == anchors
    assert "@import" not in source and "url(" not in source
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": policy}) in page.tags
    for _, picture in page.pictures():
        links = {
            value
            for node in ElementTree.fromstring(picture).iter()
            for key, value in node.attrib.items()
            if "href" in key
        }
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_the_report_has_its_sections_figures_and_numbers(page: Page) -> None:
    best = min(range(8), key=synthetic.error_of)
    for expected in (
        "demo",
        f"Best configuration: trial {best}",
        f"{100 * synthetic.error_of(best):.4g} %",
        f"Is {100 * synthetic.error_of(best):.4g} % good?",
        "Training",
        "rel_l2 against each swept setting",
        "The 8 best configurations",
        "7 known ways to get a wrong result without noticing, as questions to this study. Marked 'look out': 1.",
        "the reference is 28.57 % away. Predictions within 17 %: 8 of 8",  # its distance in the rows is that of StrB100
        "Gauss points of 36 elements",
        "The residual at points never trained on cannot be shown: the weights of",
        "Loss terms by stage",
        "All settings together",
        "how much the values of a setting in the 5 best of 10 trials differ",
        "90 % of the trials took 21.8 to 21.8 s",
        "Weights of the best trial by epoch",
        "Failures",
        "loss became NaN in L-BFGS iteration 12",
        "8, 9",
        "Notes on the data and the study",
        "6400 Gauss points",
        "their hashes differ",
        "iterations_done 8",
        "of 10 trials complete",
    ):
        assert expected in page.text, expected
    described = [alt for alt, _ in page.pictures()]
    assert described[:3] == [
        f"Non-local equivalent strain predicted by trial {best}",
        "Reference, on the same colour scale",
        next(alt for alt in described if alt.startswith("Prediction minus reference; largest ")),
    ]
    assert [alt.rsplit(" ", 1)[1] for alt in described if "against" in alt][:6] == list(SETTINGS)


def test_every_column_is_explained_once_behind_a_link(page: Page) -> None:
    heads = [at for at, (tag, _) in enumerate(page.tags) if tag == "th"]
    assert heads and all(page.tags[at + 1][1].get("class") == "column" for at in heads)
    terms = [attributes["id"] for tag, attributes in page.tags if tag == "dt" and "id" in attributes]
    assert len(terms) == len(set(terms)) > 20 and {"column-rel_l2", "column-width", "column-host"} <= set(terms)
    explained = page.text.partition("What the columns mean")[2]
    assert "Loss term of the equation inside the plate." in explained and "Units in each hidden layer." in explained
    assert "of the results." not in explained and "`" not in explained


def test_a_page_that_travels_alone_points_to_no_other_file(page: Page) -> None:
    assert "docs/" not in page.text and ".md" not in page.text and "README" not in page.text


def test_both_themes_a_phone_and_paper_are_thought_of(study: Path, page: Page) -> None:
    source = (study / "report.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in source and "@media print" in source and "max-width: 40rem" in source
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


@pytest.mark.parametrize("number", [0, 3])
def test_the_snippet_is_a_study_file_of_that_configuration(study: Path, number: int) -> None:
    row = StudyTables(study).read("trials").sort_by("trial").to_pylist()[number]
    spec = load_text(snippet("demo", {"space": {"width": {}}}, STRAIN, row), base=Path("/"))
    assert spec.config({}) == config_of(row, STRAIN.record)
    assert spec.study == "demo-best" and spec.search.replicates == 10 and search_of(spec).limit == 1


def test_the_snippet_keeps_the_objectives_and_leaves_out_defaults(study: Path) -> None:
    row = StudyTables(study).read("trials").to_pylist()[0]
    text = snippet("demo", {"search": {"objective": ["rel_l2", "loss"]}}, STRAIN, row)
    spec = load_text(text, base=Path("/"))
    assert "divergence_factor" not in text and spec.objectives == ("rel_l2", "loss")


def test_texts_that_yaml_would_misread_are_quoted_in_the_snippet(study: Path) -> None:
    row = StudyTables(study).read("trials").sort_by("trial").to_pylist()[0] | {"init": "file:/a b/x: #1.npz"}
    assert '  init: "file:/a b/x: #1.npz"' in snippet("12", {}, STRAIN, row)
    assert "study: 12-best" in snippet("12", {}, STRAIN, row)


@pytest.mark.usefixtures("undrawn")
def test_every_text_is_escaped(tmp_path: Path) -> None:
    evil = "</style><script>alert(1)</script><img src=x onerror=alert(2)>&\"'"
    folder = tmp_path / "demo"
    tables = synthetic.make_study(
        folder, trials=2, failed=0, text=synthetic.STUDY_FILE.replace("study: {name}", f"study: {json.dumps(evil)}")
    )
    tables.publish(
        "odd",
        trials=[
            synthetic.trial_row(5, failure=evil) | {"stop_reason": evil},
            synthetic.trial_row(6)
            | {
                "init": evil,
                "stop_reason": evil,
                "stop_advice": evil,
                "torch_version": evil,
                "rel_l2": 1e-3,
                "data_hash": evil,
            },
        ],
    )
    page = page_of(folder)
    assert not any(tag == "script" or "onerror" in attributes for tag, attributes in page.tags)
    assert page.text.count(evil) >= 6


@pytest.mark.usefixtures("undrawn")
def test_a_study_without_complete_trials_says_why(tmp_path: Path) -> None:
    synthetic.make_study(tmp_path / "new", trials=0, failed=0)
    assert "No finished trial yet" in page_of(tmp_path / "new").text
    synthetic.make_study(tmp_path / "failed", trials=0, failed=3)
    text = page_of(tmp_path / "failed").text
    assert "All 3 trials so far failed" in text and "No finished trial yet" not in text
    assert f"Failures trials stop_ reason what went wrong which trials 3 not_finite {synthetic.FAILURE} 0, 1, 2" in text
    asha = synthetic.with_search(synthetic.STUDY_FILE, "pruner: asha")
    tables = synthetic.make_study(tmp_path / "pruned", trials=0, failed=1, text=asha)
    synthetic.publish_pruned(tables, "pruned", range(4, 6), at_step=175)
    text = page_of(tmp_path / "pruned").text
    assert "No trial is complete" in text and "1 failed and 2 were pruned" in text and "11.1 % 0 not known 2" in text


@pytest.mark.usefixtures("undrawn")
def test_results_that_were_not_kept_or_have_no_reference_are_left_out(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "bare", trials=0, failed=0, objective="loss")
    tables.publish("a", trials=[synthetic.trial_row(0) | {"rel_l2": None, "seconds": None}])
    text = page_of(tmp_path / "bare").text
    assert (
        "The field was not kept" in text
        and "No curves were kept" in text
        and "The weights were not kept" in text
        and "not known" in text
    )

    tables = synthetic.make_study(tmp_path / "unknown", trials=0, failed=0, objective="loss")
    field = synthetic.field(0, synthetic.small_points()) | {"reference": None}
    tables.publish(
        "a",
        trials=[synthetic.trial_row(0) | {"rel_l2": None}],
        curves=[synthetic.curve(0) | {"rel_l2": None}],
        fields=[field],
    )
    page = page_of(tmp_path / "unknown")
    assert "The data have no reference field" in page.text and "on the same colour scale" not in str(page.tags)


@pytest.mark.usefixtures("undrawn")
def test_settings_without_a_value_are_a_category_and_swept_data_are_told(tmp_path: Path) -> None:
    swept = "space:\n  max_evaluations: {{choice: [null, 500]}}\n  data: {{choice: [strb100]}}"
    text = synthetic.STUDY_FILE.replace(", data: strb100", "").replace("space:", swept)
    tables = synthetic.make_study(tmp_path / "demo", trials=2, failed=0, text=text)
    tables.publish("more", trials=[synthetic.trial_row(7) | {"max_evaluations": 500}])
    page = page_of(tmp_path / "demo")
    assert "rel_l2 of every trial against max_evaluations" in [alt for alt, _ in page.pictures()]
    assert "The data were swept" in page.text and "no longer valid" not in page.text


@pytest.mark.usefixtures("undrawn")
def test_a_study_file_that_can_no_longer_be_used_is_a_note(tmp_path: Path) -> None:
    text = synthetic.STUDY_FILE.replace(
        "data: strb100", "data: {{gauss_points: /gone/a.csv, lrb: /gone/b.csv, btb: /gone/c.csv}}"
    )
    synthetic.make_study(tmp_path / "demo", trials=2, failed=0, text=text)
    page_text = page_of(tmp_path / "demo").text
    assert "The data cannot be read here" in page_text and "/gone/a.csv" in page_text
