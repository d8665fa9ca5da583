"""Rules between fields that every trial must obey, such as `width * depth <= 128`, evaluated without `eval`.

A rule is one expression of Python's grammar. Only the parts named here are allowed: numbers, text, true, false and
null, fields, arithmetic, comparisons, and, or, not, and a few functions. Everything else is refused when it is read.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import SweepError

_LONGEST: Final = 1000  # characters of a rule
_DEEPEST: Final = 50  # expressions inside one another
_MOST_BITS: Final = 1024  # of a whole number; a larger float would be infinite

_BINARY: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: Final[dict[type[ast.unaryop], Callable[[Any], Any]]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "abs": abs,
    "min": min,
    "max": max,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "sqrt": math.sqrt,
    "len": len,
}
_OF_SEVERAL: Final = ("min", "max")
_WORDS: Final = {"true": True, "false": False, "null": None}  # as YAML writes them
ALLOWED: Final = (
    "Allowed: fields, numbers, text in quotes, + - * / // % **, comparisons, and, or, not, parentheses, "
    f"{', '.join(_FUNCTIONS)}."
)


@dataclass(frozen=True)
class Constraint:
    """A rule between fields; `names` are the fields it uses."""

    text: str
    names: frozenset[str]
    _tree: ast.expr = field(repr=False, compare=False)

    @staticmethod
    def parse(text: str) -> Constraint:
        """Read a rule. Raises `ValueError` whose text says what is wrong and where."""
        if len(text) > _LONGEST:
            raise ValueError(f"must be at most {_LONGEST} characters long")
        line = re.sub(r"\s", " ", text).strip()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about expressions that are refused below
                tree = ast.parse(line, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise ValueError(_syntax(error, line)) from None
        names: set[str] = set()
        _check(tree, names, line, depth=0)
        _check_truth(tree)
        return Constraint(text, frozenset(names), tree)

    @property
    def subject(self) -> str:
        """Return the words with which a message about the rule begins."""
        return f"the constraint {self.text!r}"

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether the rule holds for plain values of its fields.

        Raises `SweepError` where it cannot be evaluated: text compared with a number, a division by zero.
        """
        try:
            return _truth(self._tree, values)
        except (ArithmeticError, TypeError, ValueError) as error:
            fields = ", ".join(f"{name} {values[name]!r}" for name in sorted(self.names))
            where = f" for {fields}" if fields else ""
            raise SweepError(f"{self.subject} cannot be evaluated{where}: {error}.") from None


def _syntax(error: Exception, line: str) -> str:
    """Return a message on what is wrong with the grammar of a rule, and where."""
    if not isinstance(error, SyntaxError):
        return "is not a valid expression"  # older releases of Python raise another exception for a NUL
    is_inside = error.offset and error.offset <= len(line)
    return f"is not a valid expression ({error.msg}, {f'in column {error.offset}' if is_inside else 'at the end'})"


def _check(node: ast.expr, names: set[str], line: str, *, depth: int) -> None:
    """Raise `ValueError` for anything that is not listed in this file, and add the names of fields to `names`."""
    if depth > _DEEPEST:
        raise ValueError(f"must not be nested more than {_DEEPEST} deep")
    inside: list[ast.expr]
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            inside = []
        case ast.Name(id=name):
            inside = []
            if name not in _WORDS:
                names.add(name)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            inside = [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY or isinstance(op, ast.Not):
            inside = [operand]
        case ast.BoolOp(values=operands):
            inside = operands
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARISONS for op in ops):
            inside = [left, *others]
        case ast.Call(func=ast.Name(id=name), args=inside, keywords=[]) if name in _FUNCTIONS:
            if len(inside) < 2 if name in _OF_SEVERAL else len(inside) != 1:
                count = "at least two values" if name in _OF_SEVERAL else "one value"
                raise ValueError(f"{name} takes {count}, in column {node.col_offset + 1}")
        case _:
            raise ValueError(f"{ast.get_source_segment(line, node)} is not allowed, in column {node.col_offset + 1}")
    for expression in inside:
        _check(expression, names, line, depth=depth + 1)


def _check_truth(node: ast.expr) -> None:
    """Raise `ValueError` where a number or text is used as true or false."""
    match node:
        case ast.BoolOp(values=operands):
            for operand in operands:
                _check_truth(operand)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check_truth(operand)
        case ast.Compare() | ast.Name() | ast.Constant(value=bool()):
            return
        case _:
            raise ValueError(
                f"must be true or false, like width <= 64; the part in column {node.col_offset + 1} is a value"
            )


def _truth(node: ast.expr, values: Mapping[str, Any]) -> bool:
    value = _value(node, values)
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _WORDS[name] if name in _WORDS else values[name]
        case ast.BoolOp(op=ast.And(), values=operands):
            return all(_truth(operand, values) for operand in operands)
        case ast.BoolOp(values=operands):
            return any(_truth(operand, values) for operand in operands)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _truth(operand, values)
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_number(_value(operand, values)))
        case ast.BinOp(left=left, op=op, right=right):
            return _computed(op, _number(_value(left, values)), _number(_value(right, values)))
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [_value(side, values) for side in (left, *others)]
            pairs = zip(ops, sides[:-1], sides[1:], strict=True)
            return all(_compared(op, first, second) for op, first, second in pairs)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            results = [_value(argument, values) for argument in arguments]
            return _length(results[0]) if name == "len" else _FUNCTIONS[name](*map(_number, results))
    raise TypeError(f"{type(node).__name__} is not allowed")  # cannot happen for a tree that was checked


def _computed(op: ast.operator, left: float, right: float) -> Any:
    """Return the result of an operator on numbers. Raises `OverflowError` for whole numbers of 2^1024 and more."""
    is_whole = isinstance(left, int) and isinstance(right, int)
    if is_whole and isinstance(op, ast.Pow) and abs(left) > 1 and (int(left).bit_length() - 1) * right > _MOST_BITS:
        raise OverflowError(f"{left} ** {right} is too large")
    result = _number(_BINARY[type(op)](left, right))
    if isinstance(result, int) and result.bit_length() > _MOST_BITS:
        raise OverflowError("a number became too large")
    return result


def _compared(op: ast.cmpop, left: Any, right: Any) -> bool:
    """Return the result of a comparison. Any values may be equal; only two numbers or two texts have an order."""
    alike = any(isinstance(left, kind) and isinstance(right, kind) for kind in ((int, float), str))
    if not alike and not isinstance(op, (ast.Eq, ast.NotEq)):
        raise TypeError(f"{left!r} and {right!r} have no order")
    return _COMPARISONS[type(op)](left, right)


def _number(value: Any) -> Any:
    if not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is not a number")
    return value


def _length(value: Any) -> int:
    if not isinstance(value, (str, list, tuple)):
        raise TypeError(f"{value!r} has no length")
    return len(value)
