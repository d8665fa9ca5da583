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
        assert len(pictures) >= 8 and all(each["ok"] and each["alt"] for each in pictures)
        assert all(each["width"] > 100 and each["height"] > 50 for each in pictures)
        seen = page.shot("html")
        for each in pictures if width > 1000 else pictures[:3]:
            x, y = round(each["x"]), round(each["y"])
            part = seen[y : y + int(each["height"]), x : x + int(each["width"])]
            assert ink_contrast(part[::2, ::2]) >= LEGIBLE, each["alt"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_report_is_printed_dark_on_white(browser: Browser, address: str, theme: Theme) -> None:
    with browser.open(address, theme=theme, print_=True) as page:
        assert page.illegible() == []
        assert {tuple(each["behind"]) for each in page.pictures()} <= {(255, 255, 255), (254, 254, 254)}
        pdf = page.pdf()
        assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF") and pdf.count(b"/Type /Page\n") > 1
        assert page.complaints == [] and page.outside == []
