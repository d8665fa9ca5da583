"""The report of any problem: its equations at the top, pictures of its field, and nothing of other problems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinncore.problems import Column
from sweeps.report import write_report
from sweeps.report.page import tag
from sweeps.report.statement import mathml, statement

from .. import any_problem
from ..chromium import Browser
from .test_report import Page, page_of, undrawn

__all__ = ["undrawn"]  # a fixture

OF_STRAIN = ("copy their forcing", "local strain", "notch", " mm", "Gauss", "scale_scope", "divide it by 10")
SLAB = "slab.py:Slab"


def study(folder: Path, name: str, **options: Any) -> Path:
    folder.mkdir()
    (folder / "slab.py").write_text(any_problem.VOLUME)
    any_problem.make_study(folder, name, **options)
    return folder


def pictures(page: Page) -> list[str]:
    return [attributes["alt"] for tag, attributes in page.tags if tag == "img" and attributes["class"] == "on-light"]


@pytest.mark.usefixtures("undrawn")
def test_a_field_over_space_and_time_is_explained_in_its_own_words(tmp_path: Path) -> None:
    page = page_of(study(tmp_path / "demo", "burgers"))
    assert "u (dimensionless) at 10,000 points of a grid of 100 x 100, over x and t." in page.text
    assert pictures(page)[:2] == ["u predicted by trial 0", "Reference, on the same colour scale"]
    assert "Prediction minus reference; largest at x = " in pictures(page)[2]
    assert not [word for word in OF_STRAIN if word in page.text.partition("Notes on the data")[0]]
    assert "5 known ways to get a wrong result" in page.text
    assert "viscosity = 0.0031831" in page.text and "Viscous Burgers equation" in page.text


@pytest.mark.usefixtures("undrawn")
def test_several_outputs_have_a_row_of_pictures_and_a_column_each(tmp_path: Path) -> None:
    page = page_of(study(tmp_path / "demo", "kovasznay"))
    shown = pictures(page)
    assert [alt.partition(" predicted")[0] for alt in shown[0:9:3]] == ["u", "v", "p"]
    assert [alt.partition(", ")[0] for alt in shown[1:9:3]] == [f"Reference of {name}" for name in "uvp"]
    assert "u, v and p (dimensionless) at 10,000 points" in page.text and "By output: u " in page.text
    heads = page.text.partition("best configurations")[2]
    assert all(f"column-rel_l2_{name}" in str(page.tags) and f" l2_ {name} " in heads for name in "uvp")
    assert "With several outputs" not in page.text and "momentum_ x" in page.text


@pytest.mark.usefixtures("undrawn")
def test_one_coordinate_and_three(tmp_path: Path) -> None:
    page = page_of(study(tmp_path / "line", "regression"))
    assert pictures(page)[0] == "u predicted by trial 0, with the reference, and the error below"
    assert "u (dimensionless) at 1,000 points, over x. Prediction minus reference; largest at x = " in page.text
    page = page_of(study(tmp_path / "volume", SLAB, diffusivity=0.5, is_open=True))
    assert len([alt for alt in pictures(page) if ", at " in alt]) == 9
    assert "warmth (K) at 10,648 points, over x in m, y in m and t in s." in page.text
    assert "Slices at the points nearest to the middle: t = 4.77 s; y = 0.955 m; x = 0.477 m." in page.text
    assert "never runs the code of a user's problem" in page.text, "so it has no network"
    statement_of = page.text.partition("relative L2 error")[0]
    assert "warmth in K over x in m, y in m and t in s, with diffusivity = 0.5." in statement_of
    assert "The best trial has is_open = True in place of False" in statement_of
    assert "<b>over time</b>" in statement_of, "as text"


@pytest.mark.usefixtures("undrawn")
def test_without_a_reference_the_prediction_is_shown(tmp_path: Path) -> None:
    page = page_of(study(tmp_path / "demo", "wave", has_reference=False))
    assert pictures(page)[0] == "u predicted by trial 0" and "Reference" not in " ".join(pictures(page))
    assert "The data have no reference field." in page.text


def test_the_equation_is_at_the_top_as_mathematics(tmp_path: Path) -> None:
    source = write_report(study(tmp_path / "demo", "burgers", trials=1)).page.read_text(encoding="utf-8")
    top = source.partition('class="answer"')[0]
    assert top.count('<math display="block"') == 3 and top.count("<mo>=</mo><mn>0</mn></math>") == 3
    assert "<msub><mi>u</mi><mrow><mi>x</mi><mi>x</mi></mrow></msub>" in top
    assert 'title="u*u_x - viscosity*u_xx + u_t"' in top and "\N{MINUS SIGN}" in top


@pytest.mark.parametrize(
    "text",
    [
        "<mi>u</mi><script>alert(1)</script>",
        "<mi>u",
        "<mrow><img src='x'/></mrow>",
        "<annotation-xml encoding='text/html'><mi>u</mi></annotation-xml>",
        "<mi>&unknown;</mi>",
        "</math><p>",
    ],
)
def test_what_is_no_mathml_is_shown_as_text(text: str) -> None:
    assert mathml(text) is None
    page = str(statement("T", {"a<b": ("u - <b>", "", text)}, [Column("x", "x")], [Column("u", "u")], {}, structure={}))
    assert "<code>u - &lt;b&gt; = 0</code>" in page and "<dt>a&lt;b</dt>" in page and "<script" not in page


def test_mathml_has_no_attributes_and_names_stand_apart() -> None:
    found = mathml("<mi onclick='x' style='y'>nu</mi><mo>&InvisibleTimes;</mo><msub><mi>u</mi><mi>x</mi></msub>")
    assert found == '<mi>nu</mi><mspace width="0.2em"></mspace><msub><mi>u</mi><mi>x</mi></msub>'
    assert mathml("<mn>2</mn><mo>&InvisibleTimes;</mo><mi>&pi;</mi><mtext>&lt;</mtext>") == (
        "<mn>2</mn><mo>\N{INVISIBLE TIMES}</mo><mi>\N{GREEK SMALL LETTER PI}</mi><mtext>&lt;</mtext>"
    )
    low, tall = "<mo>(</mo><mi>x</mi><mo>)</mo>", "<mo>(</mo><mfrac><mi>x</mi><mn>2</mn></mfrac><mo>)</mo>"
    assert 'stretchy="false"' in str(mathml(low)) and "stretchy" not in str(mathml(tall))


def test_only_settings_in_the_equation_are_shown() -> None:
    texts = {"heat": ("u_t - nu*u_xx", "", "<mi>u</mi>")}
    values = {"nu": 1 / 3, "n": 7, "points": 4096, "kind": "a"}
    page = statement(
        "Heat.", texts, [Column("x", "x", "m")], [Column("u", "u", "K")], values, structure={"kind": "a", "gone": 1}
    )
    assert tag("p", "u in K over x in m, with nu = 0.333333.", class_="quiet") in page
    assert tag("h2", "Heat") in page


@pytest.mark.xdist_group("chromium")
@pytest.mark.parametrize("name", ["kovasznay", "regression", SLAB])
def test_pages_of_any_problem_can_be_read(browser: Browser, tmp_path: Path, name: str) -> None:
    address = write_report(study(tmp_path / "demo", name, trials=2)).page.as_uri()
    for width in (1280, 390):
        for theme in ("light", "dark"):
            with browser.open(address, theme=theme, width=width) as page:
                page.eventually("[...document.images].every(image => image.complete)")
                assert page.complaints == [] and page.outside == [] and page.illegible() == []
                assert page.overflow_px == 0
                ends = page.evaluate(
                    "[...document.querySelectorAll('.equations dd, .maps figure, .lines figure')]"
                    ".map(e => e.getBoundingClientRect().right)"
                )
                assert ends and max(ends) <= width
                sizes = page.evaluate(
                    "[...document.images].filter(i => i.checkVisibility())"
                    ".map(i => 9 * i.clientWidth / i.getAttribute('width'))"
                )
                assert min(sizes) >= 8, "text can be read on a phone"
                is_math = "[...document.querySelectorAll('math')].every(e => e.getBoundingClientRect().height > 5)"
                assert page.evaluate(is_math)
