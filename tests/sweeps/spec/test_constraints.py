"""Constraints: the meaning that Python gives the listed grammar, and a refusal of everything else."""

from __future__ import annotations

import ast
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import SweepError
from sweeps.spec import constraints
from sweeps.spec.constraints import Constraint

NUMBERS = {"width": 8, "depth": 3, "adam_lr": 0.5}
VALUES = {**NUMBERS, "init": "keras", "allow_tf32": True, "inputs": ["x", "y"], "none": None}


@pytest.mark.parametrize(
    ("text", "names", "holds"),
    [
        ("width * depth <= 24", {"width", "depth"}, True),
        ("width * depth < 24", {"width", "depth"}, False),
        ("8 <= width < 9 < depth", {"width", "depth"}, False),
        ("width // 3 == 2 and width % 3 == 2 and width / 16 == adam_lr", {"width", "adam_lr"}, True),
        ("not (width > 4 or depth > 4)", {"width", "depth"}, False),
        ("init == 'keras' or width < 'text'", {"init", "width"}, True),
        ("init != 'torch' and init < 'l'", {"init"}, True),
        ("allow_tf32", {"allow_tf32"}, True),
        ("not allow_tf32 or false", {"allow_tf32"}, False),
        ("none == null and allow_tf32 == true and none != 0", {"none", "allow_tf32"}, True),
        ("none == None and True", {"none"}, True),
        ("-width ** 2 == -64 and +depth == 3", {"width", "depth"}, True),
        ("2 ** -depth == 0.125", {"depth"}, True),
        ("abs(depth - width) == 5 == max(1, 5, 2) and min(width, depth) == 3", {"width", "depth"}, True),
        ("log2(width) == 3 and log10(100) == 2 and log(1) == 0 and sqrt(4 * depth + 4) == 4", {"width", "depth"}, True),
        ("len(inputs) == 2 and len(init) == 5", {"inputs", "init"}, True),
        ("  width < 9\n  and depth < 9", {"width", "depth"}, True),
        ("1e3 > width", {"width"}, True),
    ],
)
def test_a_constraint_is_read_and_evaluated(text: str, names: set[str], holds: bool) -> None:
    constraint = Constraint.parse(text)
    assert (constraint.text, constraint.names, constraint.holds(VALUES)) == (text, names, holds)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("width <", r"is not a valid expression \(invalid syntax, at the end\)"),
        ("(width < 3", r"'\(' was never closed, in column 1"),
        ("width < 3; depth", "in column 10"),
        ("width = 3", "in column 7"),
        ("", "not a valid expression"),
        ("width.real < 3", "width.real is not allowed, in column 1"),
        ("3 > ().__class__", r"\(\).__class__ is not allowed, in column 5"),
        ("open('f') == 3", r"open\('f'\) is not allowed, in column 1"),
        ("3 < width(2)", r"width\(2\) is not allowed, in column 5"),
        ("inputs[0] == 'x'", r"inputs\[0\] is not allowed"),
        ("(lambda: true)()", "lambda"),
        ("[x for x in inputs] == 3", "for x in inputs"),
        ("{1, 2} == 3", "is not allowed"),
        ("[1] == inputs", r"\[1\] is not allowed"),
        ("init in 'keras'", "init in 'keras' is not allowed"),
        ("init is none", "is not allowed"),
        ("f'{init}' == 'keras'", "is not allowed"),
        ("b'k' == init", "is not allowed"),
        ("1j == width", "is not allowed"),
        ("(width := 3) < 4", "width := 3 is not allowed"),
        ("width if allow_tf32 else depth", "is not allowed"),
        ("width @ depth < 3", "is not allowed"),
        ("width << 3 < 3", "is not allowed"),
        ("~width < 3", "is not allowed"),
        ("max(*inputs, 3) < 3", r"\*inputs is not allowed"),
        ("log(width, base=2) < 3", "is not allowed"),
        ("sqrt(width, 2) < 3", "sqrt takes one value, in column 1"),
        ("3 > min(width)", "min takes at least two values, in column 5"),
        ("width * depth", "must be true or false"),
        ("width < 3 and depth", None),
        ("width < 3 and depth + 1", "the part in column 15 is a value"),
        ("not len(inputs)", "must be true or false"),
        ("'text'", "must be true or false"),
        ("-" * 60 + "1 < 2", "must not be nested more than 50 deep"),
        ("(" * 300 + "1" + ")" * 300 + " < 2", "not a valid expression"),
        ("1 < " + "9" * 1000, "must be at most 1000 characters long"),
        ("width < \0", "not a valid expression"),
    ],
)
def test_anything_not_listed_is_refused_with_its_place(text: str, words: str | None) -> None:
    if words is None:  # a field may be true or false; only its value shows whether it is
        with pytest.raises(SweepError, match="3 is neither true nor false"):
            Constraint.parse(text).holds({**VALUES, "width": 1})
        return
    with pytest.raises(ValueError, match=words):
        Constraint.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / (width - 8) < 3", "cannot be evaluated for width 8: division by zero"),
        ("width % (depth - 3) == 0", "depth 3, width 8: integer .*by zero"),
        ("sqrt(-width) < 3", "math domain error"),
        ("log(0) < 3", "math domain error"),
        ("init < width", "'keras' and 8 have no order"),
        ("none < 3", "None and 3 have no order"),
        ("inputs < inputs", "have no order"),
        ("init + init == 'kk'", "'keras' is not a number"),
        ("init * 1000000000 == init", "'keras' is not a number"),
        ("'%1000000000d' % width == init", "is not a number"),
        ("(-width) ** adam_lr < 3", "is not a number"),
        ("len(width) < 3", "8 has no length"),
        ("width", "8 is neither true nor false"),
        ("9 ** 9 ** 9 < width", "9 \\*\\* 387420489 is too large"),
        ("2.0 ** 5000 > 1", "cannot be evaluated"),
        ("(2 ** 1000) * (2 ** 1000) > 1", "a number became too large"),
    ],
)
def test_a_constraint_that_cannot_be_evaluated_says_why_and_for_which_values(text: str, words: str) -> None:
    with pytest.raises(SweepError, match=words) as caught:
        Constraint.parse(text).holds(VALUES)
    assert str(caught.value).startswith(f"the constraint {text!r} cannot be evaluated")


NUMBER = st.one_of(st.integers(0, 9).map(str), st.sampled_from(["0.5", "1e3", "a", "b"]))
ARITHMETIC = st.recursive(
    NUMBER,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
        st.tuples(st.sampled_from(["abs", "sqrt", "log2"]), inner).map("{0[0]}({0[1]})".format),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map("{0[0]}({0[1]}, {0[2]})".format),
    ),
    max_leaves=6,
)
COMPARISON = st.tuples(ARITHMETIC, st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]), ARITHMETIC).map(" ".join)
RULES = st.recursive(
    COMPARISON,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map("({0[0]}) {0[1]} ({0[2]})".format),
        inner.map("not ({})".format),
    ),
    max_leaves=4,
)


@given(text=RULES, a=st.integers(-5, 5), b=st.floats(-2, 2))
def test_a_constraint_means_what_python_means(text: str, a: int, b: float) -> None:
    functions = {"abs": abs, "sqrt": math.sqrt, "log2": math.log2, "min": min, "max": max}
    constraint = Constraint.parse(text)
    try:
        expected = eval(text, {"__builtins__": {}, **functions, "a": a, "b": b})  # noqa: S307 (the text is made above)
    except (ArithmeticError, ValueError):
        with pytest.raises(SweepError):
            constraint.holds({"a": a, "b": b})
    else:
        assert constraint.holds({"a": a, "b": b}) is expected


WORDS = """
    width depth 1 2.5 'a' b'c' ( ) [ ] { } , . : = == < > <= + - * ** / // % @ & | ^ ~ << and or not in is if else
    lambda for await yield := ; # \\ __class__ __import__ open eval abs len min print True None ... 1j f'{x}'
"""
FRAGMENTS = st.sampled_from([*WORDS.split(), "\n", "\0"])
ALLOWED = (
    *(ast.Constant, ast.Name, ast.Load, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.And, ast.Or),
    *(ast.Not, ast.UAdd, ast.USub, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow),
    *(ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
)


@given(text=st.lists(FRAGMENTS, max_size=12).map(" ".join))
def test_nothing_but_the_listed_grammar_passes(text: str) -> None:
    try:
        constraint = Constraint.parse(text)
    except ValueError:
        return
    for node in ast.walk(constraint._tree):
        assert isinstance(node, ALLOWED), text
        if isinstance(node, ast.Constant):
            assert node.value is None or type(node.value) in (bool, int, float, str)
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name) and node.func.id in constraints._FUNCTIONS and not node.keywords
    functions = {"__class__", "__import__", "open", "eval", "print", "abs", "len", "min"}  # as fields, not called
    assert constraint.names <= {"width", "depth"} | functions


@given(text=st.text(max_size=40))
def test_any_text_is_a_constraint_or_an_error(text: str) -> None:
    try:
        constraint = Constraint.parse(text)
    except ValueError:
        return
    assert constraint.text == text


@given(base=st.integers(-(10**6), 10**6), exponent=st.integers(-(10**9), 10**9))
def test_powers_are_bounded(base: int, exponent: int) -> None:
    """A result that a float could not hold is refused before it is computed, so no power takes long."""
    values: dict[str, Any] = {"a": base, "b": exponent}
    try:
        assert isinstance(Constraint.parse("a ** b < 1").holds(values), bool)
    except SweepError:
        assert exponent < 0 or base.bit_length() * exponent > 1000


def test_equal_texts_are_equal_constraints() -> None:
    first, again = Constraint.parse("width < 3"), Constraint.parse("width < 3")
    assert first == again and hash(first) == hash(again) and first != Constraint.parse("width < 4")
    assert pickle.loads(pickle.dumps(first)).holds({"width": 2})  # noqa: S301 (its own bytes)
