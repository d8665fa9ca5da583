"""Pages of HTML from parts that escape every text: what is not made here is text, whatever stands in it.

A page is one file. It loads nothing and runs no script, and says so to the browser.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import re
from collections.abc import Sequence

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_VOID = ("img", "meta")


class Html(str):
    """Text that is HTML already."""


def document(title: str, *children: str) -> str:
    """A whole page with its style."""
    style = importlib.resources.files("sweeps").joinpath("report.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(style)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *children)), lang="en") + "\n"


def tag(element: str, /, *children: str, **attributes: str) -> Html:
    """One element. Children and attributes are escaped; `class_` is class, `http_equiv` http-equiv."""
    inside = "".join(child if isinstance(child, Html) else html.escape(child, quote=False) for child in children)
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{element}{written}>" if element in _VOID else f"<{element}{written}>{inside}</{element}>")


def section(title: str, *children: Html) -> Html:
    """A card under a heading."""
    return tag("section", tag("h2", title), *children)


def tile(value: str, what: str, *, main: bool = False) -> Html:
    """A number in large type with what it is below."""
    return tag("div", tag("b", value), tag("span", what), class_="tile main" if main else "tile")


def picture(svg: bytes, description: str, *, wide: bool = False, caption: bool = True) -> Html:
    """A picture inside the page; as an image of its own, its names cannot clash with another's."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
    image = tag("div", tag("img", src=source, alt=description), class_="picture scroll wide" if wide else "picture")
    return tag("figure", image, *([tag("figcaption", description)] if caption else []))


def table(
    heads: Sequence[tuple[str, bool]],
    rows: Sequence[Sequence[tuple[str, bool]]],
    *,
    best: int = -1,
    narrow: bool = False,
) -> Html:
    """A table of (text, is it a number) cells, as wide as the page unless `narrow`; the row `best` stands out."""

    def cell(kind: str, text: str, number: bool) -> Html:
        words = re.split("(_)", text) if kind == "th" else [text]  # long names may break after an underscore
        parts = [Html("_<wbr>") if word == "_" else word for word in words]
        return tag(kind, *parts, class_="number" if number else "text" if len(text) > 40 else "short")

    head = tag("thead", tag("tr", *(cell("th", *item) for item in heads)))
    body = [
        tag("tr", *(cell("td", *item) for item in row), class_="best" if at == best else "row")
        for at, row in enumerate(rows)
    ]
    return tag("div", tag("table", head, tag("tbody", *body)), class_="scroll narrow" if narrow else "scroll")
