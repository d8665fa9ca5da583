"""Pages of HTML made of parts that escape every text that was not made here.

A page is one file. It loads nothing, runs no script, and has a policy that makes the browser enforce this.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_VOID = ("img", "meta")


class Html(str):
    """Text that is HTML already."""


def document(title: str, *children: str) -> str:
    """Return a complete page with its style."""
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
    """Return one element. Children and attributes are escaped; `class_` is class, `http_equiv` is http-equiv."""
    inside = "".join(child if isinstance(child, Html) else html.escape(child, quote=False) for child in children)
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    return Html(f"<{element}{pairs}>" if element in _VOID else f"<{element}{pairs}>{inside}</{element}>")


def section(title: str, *children: str) -> Html:
    """Return a card under a heading; texts that are no HTML are its paragraphs, empty ones are left out."""
    parts = (child if isinstance(child, Html) else paragraph(child) for child in children if child)
    return tag("section", tag("h2", title), *parts)


def paragraph(text: str) -> Html:
    """Return a paragraph that explains a figure or a table."""
    return tag("p", text, class_="quiet")


def figures(*pictures: Html, columns: str = "") -> Html:
    """Return figures below each other, or side by side in "two" or "three" `columns`."""
    return tag("div", *pictures, class_=f"figures {columns}".strip())


def tile(value: str, what: str, *, main: bool = False) -> Html:
    """Return a number in large type with its meaning below."""
    return tag("div", tag("b", value), tag("span", what), class_="tile main" if main else "tile")


def picture(
    svg: bytes, dark: bytes, description: str, *, wide: bool = False, caption: bool = False, zoom: bool = False
) -> Html:
    """Return a figure that shows one picture on light and another on dark screens.

    The pictures are embedded as separate images, so that names inside them cannot clash. A figure that is `wide` is
    scrolled on a small screen; one with `zoom` can have the focus, and is large while it has it.
    """
    box = re.search(rb'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    size = dict(zip(("width", "height"), box.groups(), strict=True)) if box else {}
    reserved = {name: f"{float(value):.0f}" for name, value in size.items()}  # for the layout while the picture loads
    images = [
        tag(
            "img",
            class_=ground,
            src="data:image/svg+xml;base64," + base64.b64encode(picture_bytes).decode("ascii"),
            alt=description,
            **reserved,
        )
        for ground, picture_bytes in (("on-light", svg), ("on-dark", dark))
    ]
    card = tag("div", *images, class_="picture scroll wide" if wide else "picture")
    focus = {"tabindex": "0"} if zoom else {}
    return tag("figure", card, *([tag("figcaption", description)] if caption else []), **focus)


def contents(parts: Mapping[str, Html]) -> Html:
    """Return links to the parts of a page by their names, followed by the parts; empty ones are left out."""
    anchors = {name: re.sub("[^a-z0-9]+", "-", name.lower()) for name, part in parts.items() if part}
    links = [tag("a", name, href=f"#{anchor}") for name, anchor in anchors.items()]
    listed = tag("nav", *links, aria_label="Contents") if len(links) > 3 else Html()
    return Html(listed + "".join(tag("div", parts[name], id=anchor) for name, anchor in anchors.items()))


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: Collection[str] = (),
    best: int = -1,
    narrow: bool = False,
) -> Html:
    """Return a table of numbers, and of texts in the columns `words`, as wide as the page unless `narrow`.

    Its heads are links to the meanings of the columns.
    The row with the index `best` is highlighted.
    """

    def cells(kind: str, texts: Sequence[str]) -> Iterator[Html]:
        for head, text in zip(heads, texts, strict=True):
            style = "number" if head not in words else "text" if len(text) > 40 else "short"
            yield tag(kind, column_link(text) if kind == "th" else text, class_=style)

    head = tag("thead", tag("tr", *cells("th", heads)))
    body = [tag("tr", *cells("td", row), class_="best" if at == best else "row") for at, row in enumerate(rows)]
    return tag("div", tag("table", head, tag("tbody", *body)), class_="scroll narrow" if narrow else "scroll")


def column_link(name: str) -> Html:
    """Return the name of a column as a link to its meaning."""
    return tag("a", *breakable(name), class_="column", href=f"#{column_anchor(name)}")


def column_anchor(name: str) -> str:
    """Return the anchor of the meaning of a column."""
    return "column-" + "-".join(name.split())


def columns_in(parts: Iterable[str]) -> list[str]:
    """Return the names of the columns that have links in some parts of a page, in the order of their first links."""
    links = re.findall('<a class="column" href="#[^"]*">(.*?)</a>', "".join(parts))
    return [html.unescape(name.replace("<wbr>", "")) for name in dict.fromkeys(links)]


def breakable(name: str) -> list[str]:
    """Return a name as the children of an element, where it may break after an underscore."""
    return [Html("_<wbr>") if word == "_" else word for word in re.split("(_)", name)]
