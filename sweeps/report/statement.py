"""The top of a report: the equations and conditions of the problem, with the numbers in them."""

from __future__ import annotations

import html.entities
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pinncore.problems import Column

from .page import Html, breakable, paragraph, tag

_ELEMENTS: Final = frozenset(
    (
        *("math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "msub", "msup", "msubsup", "munder", "mover"),
        *("munderover", "mfrac", "msqrt", "mroot", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom"),
    )
)
_ALWAYS: Final = ("lt", "gt", "amp", "quot", "apos")  # entities of XML itself
_TALL: Final = ("mfrac", "mtable", "munderover")  # what parentheses grow around
_LOW: Final = "low"  # attribute of elements in rows without any of these
_TIMES: Final = "\N{INVISIBLE TIMES}"


def statement(
    title: str,
    equations: Mapping[str, Sequence[str]],
    coordinates: Sequence[Column],
    outputs: Sequence[Column],
    values: Mapping[str, Any],
    *,
    structure: Mapping[str, Any],
) -> Html:
    """Return the part that states a problem.

    `equations` are the plain text, LaTeX and MathML of each residual by its name, as `Problem.equation_texts` has them.
    `values` are the settings of the training that the page is about, if any; those that occur in an equation are
    shown. `structure` are the values, in the written equations, of settings that decide what these look like.
    """
    numbers = [f"{name} = {_number(value)}" for name, value in values.items() if _occurs(name, equations)]
    words = f"{_listed(outputs)} over {_listed(coordinates)}"
    words += f", with {', '.join(numbers)}" if numbers else ""
    other = [
        f"{name} = {_number(values[name])} in place of {_number(written)}"
        for name, written in structure.items()
        if name in values and values[name] != written
    ]
    words += f". The best trial has {', '.join(other)}, so its equations may differ" if other else ""
    listed = tag("dl", *(_line(name, texts) for name, texts in equations.items()), class_="equations")
    return tag("div", tag("h2", title.strip().rstrip(".")), listed, paragraph(f"{words}."), class_="statement")


def mathml(text: str) -> Html | None:
    """Return the inner part of a `math` element with elements of MathML alone, None where it is something else.

    Names of several letters stand apart from their factors.
    """
    try:
        root = ElementTree.fromstring(f"<math>{re.sub('&([A-Za-z0-9]+);', _character, text)}</math>")
    except ElementTree.ParseError:
        return None
    if any(element.tag not in _ELEMENTS for element in root.iter()):
        return None
    for row in root.iter():
        parts = list(row)
        is_low = not any(part.tag in _TALL for part in row.iter())
        for part in parts if is_low else ():
            part.set(_LOW, "true")
        for before, times, after in zip(parts, parts[1:], parts[2:], strict=False):
            if times.tag == "mo" and times.text == _TIMES and (_is_word(before) or _is_word(after)):
                times.tag, times.text = "mspace", None
    return Html("".join(_written(element) for element in root))


def _line(name: str, texts: Sequence[str]) -> Html:
    """Return name and formula of a residual; its plain text where the formula cannot be shown."""
    plain, _, marked_up = texts
    formula = mathml(marked_up)
    zero = Html("<mo>=</mo><mn>0</mn>")
    shown = tag("code", f"{plain} = 0") if formula is None else tag("math", formula, zero, display="block", title=plain)
    return tag("div", tag("dt", *breakable(name)), tag("dd", shown))


def _written(element: ElementTree.Element) -> Html:
    """Return an element of MathML without its attributes, which nothing here needs."""
    text = "\N{MINUS SIGN}" if element.tag == "mo" and element.text == "-" else element.text or ""
    attributes = {"width": "0.2em"} if element.tag == "mspace" else {}
    if text in ("(", ")") and element.get(_LOW):
        attributes["stretchy"] = "false"
    return tag(element.tag, text, *(_written(child) for child in element), **attributes)


def _is_word(element: ElementTree.Element) -> bool:
    """Return whether a factor is, or begins or ends with, a name of several letters."""
    if element.tag == "mi":
        return len(element.text or "") > 1
    parts = list(element)
    return element.tag in ("msub", "msup", "mrow") and bool(parts) and any(map(_is_word, (parts[0], parts[-1])))


def _character(entity: re.Match[str]) -> str:
    known = html.entities.html5.get(f"{entity[1]};")
    return entity[0] if known is None or entity[1] in _ALWAYS else known


def _occurs(name: str, equations: Mapping[str, Sequence[str]]) -> bool:
    return any(re.search(rf"\b{re.escape(name)}\b", texts[0]) for texts in equations.values())


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _listed(columns: Sequence[Column]) -> str:
    words = list(_quantities(columns))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _quantities(columns: Sequence[Column]) -> Iterator[str]:
    for column in columns:
        yield column.symbol if column.unit == "1" else f"{column.symbol} in {column.unit}"
