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
    style = importlib.resources.files("sweeps.report").joinpath("report.css").read_text(encoding="utf-8")
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


def picture(svg: bytes, dark: bytes, description: str, *, wide: bool = False, caption: bool = True) -> Html:
    """A picture inside the page, another one on dark screens; as images of their own, their names cannot clash."""
    found = re.search(rb'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    size = dict(zip(("width", "height"), found.groups(), strict=True)) if found else {}
    room = {name: f"{float(value):.0f}" for name, value in size.items()}  # kept free while the picture loads
    images = [
        tag(
            "img",
            class_=ground,
            src="data:image/svg+xml;base64," + base64.b64encode(each).decode("ascii"),
            alt=description,
            **room,
        )
        for ground, each in (("on-light", svg), ("on-dark", dark))
    ]
    card = tag("div", *images, class_="picture scroll wide" if wide else "picture")
    return tag("figure", card, *([tag("figcaption", description)] if caption else []))


def contents(parts: Sequence[tuple[str, Html]]) -> Html:
    """Links to the parts of a page, and these below, each under a name."""
    names = {name: re.sub("[^a-z0-9]+", "-", name.lower()) for name, _ in parts}
    links = [tag("a", name, href=f"#{anchor}") for name, anchor in names.items()]
    listed = tag("nav", *links, aria_label="Contents") if len(links) > 3 else Html()
    return Html(listed + "".join(tag("div", part, id=names[name]) for name, part in parts))


def table(
    heads: Sequence[tuple[str, bool]],
    rows: Sequence[Sequence[tuple[str, bool]]],
    *,
    best: int = -1,
    narrow: bool = False,
) -> Html:
    """A table of (text, is it a number) cells, as wide as the page unless `narrow`; the row `best` stands out."""

    def cell(kind: str, text: str, number: bool) -> Html:
        parts = breakable(text) if kind == "th" else [text]
        return tag(kind, *parts, class_="number" if number else "text" if len(text) > 40 else "short")

    head = tag("thead", tag("tr", *(cell("th", *item) for item in heads)))
    body = [
        tag("tr", *(cell("td", *item) for item in row), class_="best" if at == best else "row")
        for at, row in enumerate(rows)
    ]
    return tag("div", tag("table", head, tag("tbody", *body)), class_="scroll narrow" if narrow else "scroll")


def breakable(name: str) -> list[str]:
    """A name as children of an element that may break after an underscore."""
    return [Html("_<wbr>") if word == "_" else word for word in re.split("(_)", name)]
