"""The report in a real browser: nothing complains, nothing is fetched, everything can be read, wherever it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from .. import synthetic
from ..chromium import LEGIBLE, Browser, Theme, ink_contrast
from ..invoking import invoke

pytestmark = pytest.mark.xdist_group("chromium")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a study in which everything happened that can: replicates, pruning, failures, repetitions."""
    folder = tmp_path_factory.mktemp("root") / "everything"
    synthetic.make_pruned_study(folder, replicates=2)
    result = invoke("report", folder, "-o", folder / "page.html")
    assert result.exit_code == 0, result.output
    return Path(folder / "page.html").as_uri()


@pytest.mark.parametrize("width", [1280, 390], ids=["desk", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_report_can_be_read(browser: Browser, address: str, theme: Theme, width: int) -> None:
    with browser.open(address, theme=theme, width=width) as page:
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        page.eventually("[...document.images].every(image => image.complete)")
        assert page.complaints == [] and page.outside == []
        assert page.illegible() == []
        assert page.overflow_px == 0
        pictures = page.pictures()
        assert len(pictures) >= 8 and all(picture["ok"] and picture["alt"] for picture in pictures)
        assert all(picture["width"] > 100 and picture["height"] > 50 for picture in pictures)
        pixels = page.shot("html")
        for picture in pictures if width > 1000 else pictures[:3]:
            x, y = round(picture["x"]), round(picture["y"])
            part = pixels[y : y + int(picture["height"]), x : x + int(picture["width"])]
            assert ink_contrast(part[::2, ::2]) >= LEGIBLE, picture["alt"]


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)], ids=["desk", "phone"])
def test_the_field_is_on_the_first_screen(browser: Browser, address: str, width: int, height: int) -> None:
    with browser.open(address, width=width, height=height) as page:
        page.eventually("[...document.images].every(image => image.complete)")
        first = [picture for picture in page.pictures() if picture["y"] + picture["height"] <= height]
        described = " ".join(picture["alt"] for picture in first)
        assert len(first) == 6 and described.count("logarithmic") == 3
        assert described.count("predicted by trial") == 2 and "Prediction minus reference" in described
        before = first[0]["width"]
        page.evaluate("document.querySelector('.maps figure').focus()")
        assert page.pictures()[0]["width"] > 1.9 * before and page.overflow_px == 0


def test_text_in_pictures_can_be_read_on_a_phone(browser: Browser, address: str) -> None:
    """Text of 9 pt in a picture of so many points in width is at least 8 pixels high on the screen."""
    with browser.open(address, width=390, height=844) as page:
        sizes = (
            "[...document.images].filter(i => i.checkVisibility()).map(i => [i.clientWidth, i.getAttribute('width')])"
        )
        pixels_of_text = [9 * shown / float(points) for shown, points in page.evaluate(sizes)]
        assert len(pixels_of_text) >= 8 and min(pixels_of_text) >= 8


@pytest.mark.parametrize("width", [700, 1000, 1600])
def test_maps_are_large_enough_on_a_screen_of_any_width(browser: Browser, address: str, width: int) -> None:
    with browser.open(address, width=width) as page:
        page.eventually("[...document.images].every(image => image.complete)")
        fields = page.pictures()[:6]
        assert min(picture["width"] for picture in fields) > 195
        assert page.overflow_px == 0


def test_the_first_printed_page_has_the_result(browser: Browser, address: str) -> None:
    """Chromium moves what may not be broken to the next page, so all of it must be able to stand below the title."""
    with browser.open(address, width=720, print_=True) as page:
        chained = "[...document.querySelectorAll('.result p.quiet')].map(p => getComputedStyle(p).breakAfter)"
        assert set(page.evaluate(chained)) == {"auto"}
        bottom = page.evaluate("document.querySelector('.result').getBoundingClientRect().bottom")
        assert bottom < 979, "CSS pixels of a Letter page within its margins; A4 has 1046"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_report_is_printed_dark_on_white(browser: Browser, address: str, theme: Theme) -> None:
    with browser.open(address, theme=theme, print_=True) as page:
        assert page.illegible() == []
        assert {tuple(each["behind"]) for each in page.pictures()} <= {(255, 255, 255), (254, 254, 254)}
        pdf = page.pdf()
        assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF") and pdf.count(b"/Type /Page\n") > 1
        assert page.complaints == [] and page.outside == []
