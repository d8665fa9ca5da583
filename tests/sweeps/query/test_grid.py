"""Tables of words: side by side where that fits, folded where it is tight, each row a column where it is narrow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.query.grid import grid

NAMES = ("dimension", "three quarters %", "what it says")
ROWS = [
    ("width", "5.3", "no more than chance would give"),
    ("width", "8.2", "more than chance"),
    ("init", "12", "no more than chance would give"),
]
NUMBERS = (False, True, False)


def lines(width: int | None, *, grouped: bool = False) -> list[str]:
    return grid(NAMES, ROWS, NUMBERS, width=width, grouped=grouped).splitlines()


def test_without_a_width_rows_are_lines() -> None:
    assert (
        lines(None)
        == lines(59)
        == [
            "dimension  three quarters %  what it says",
            "───────────────────────────────────────────────────────────",
            "width                   5.3  no more than chance would give",
            "width                   8.2  more than chance",
            "init                     12  no more than chance would give",
        ]
    )


def test_names_are_folded_before_texts() -> None:
    assert lines(51) == [
        "              three  what",
        "           quarters  it",
        "dimension         %  says",
        "───────────────────────────────────────────────────",
        "width           5.3  no more than chance would give",
        "width           8.2  more than chance",
        "init             12  no more than chance would give",
    ]
    assert lines(40)[4:] == [
        "width           5.3  no more than chance",
        "                     would give",
        "width           8.2  more than chance",
        "init             12  no more than chance",
        "                     would give",
    ]


def test_each_row_becomes_a_column_or_a_list_of_values() -> None:
    names = ("trial", "epochs", "iterations", "seconds")
    rows = [("1", "10", "20", "3.5"), ("2", "10", "30", "4"), ("13", "10", "40", "5")]
    assert grid(names, rows, [True] * 4, width=20).splitlines() == [
        "trial         1   2",
        "───────────────────",
        "epochs       10  10",
        "iterations   20  30",
        "seconds     3.5   4",
        "",
        "trial       13",
        "──────────────",
        "epochs      10",
        "iterations  40",
        "seconds      5",
    ]
    narrow = grid(NAMES, ROWS, NUMBERS, width=30)
    assert narrow.count("three quarters %") == len(ROWS), "each row is a list of its own"
    assert "what it says      no more than\n                  chance would\n                  give" in narrow


def test_what_rows_have_in_common_is_said_once_as_long_as_they_are_lines() -> None:
    assert [line.partition(" ")[0] for line in lines(None, grouped=True)[2:]] == ["width", "", "init"]
    assert [line.partition(" ")[0] for line in lines(51, grouped=True)[4:]] == ["width", "", "init"]
    assert grid(NAMES, ROWS, NUMBERS, width=30, grouped=True).count("width") == 2, "beside its own values"


words = st.text("ab ", min_size=1, max_size=30).map(lambda text: " ".join(text.split()) or "a")


@given(st.lists(st.tuples(words, words, words), max_size=4), st.integers(36, 120))
def test_nothing_is_wider_than_asked_and_every_word_is_there(rows: list[tuple[str, ...]], width: int) -> None:
    drawn = grid(NAMES, rows, NUMBERS, width=width)
    assert all(len(line) <= width for line in drawn.splitlines())
    assert sum(map(drawn.count, "ab")) >= sum(cell.count(letter) for row in rows for cell in row for letter in "ab")


@pytest.mark.parametrize("width", [1, 5, 19])
def test_a_terminal_too_narrow_for_names_is_no_error(width: int) -> None:
    assert grid(NAMES, ROWS, NUMBERS, width=width)
