"""What is known of a problem without its class: a record that is stored with results and read without running code.

Tables, rankings, reports and checks of study files need names, units, rules and descriptions, never the equation.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

from ..errors import SettingError
from ..settings import description, hints
from .base import Problem
from .columns import Array, Column, Line, Metric, Yardstick, relative, rms
from .declaring import base_settings, output_columns

_PLAIN: Final[dict[str, Any]] = {"float": float, "int": int, "str": str, "bool": bool, "null": None, "any": Any}
_BOUNDS: Final[dict[str, Any]] = {"ge": Ge, "gt": Gt, "le": Le, "lt": Lt}


@dataclass(frozen=True)
class SettingRecord:
    """A setting: its name, default and description, and as `rule` the values that it may have.

    A rule is a plain value: the name of a type, {"choices": [...]}, {"any_of": [rules]}, {"list": rule}, {"mapping":
    true}, or {"of": rule} with bounds `ge`, `gt`, `le`, `lt`. `is_own` tells it from those that every problem has.
    """

    name: str
    rule: Any
    default: Any
    description: str = ""
    is_own: bool = True

    @functools.cached_property
    def hint(self) -> Any:
        """Return the annotation that the rule was made from, with the description."""
        kind = _hint(self.rule)
        return Annotated[kind, Doc(self.description)] if self.description else kind


@dataclass(frozen=True)
class Guess:
    """A field that needs no training, to compare errors with: what it is, and its column in the table fields."""

    what: str
    column: str


@dataclass(frozen=True)
class ProblemRecord:
    """A problem as everything but its training sees it; its parts are those of its class.

    `name` is what tables call it, `fields` are the columns of the table fields. By the name of the data, `limits` are
    errors that an exact solution of the equation leaves, and `marks` are lines to draw. `equations` are plain text,
    LaTeX and MathML by loss term.
    """

    name: str
    class_name: str
    title: str
    quantity: str
    coordinates: tuple[Column, ...]
    outputs: tuple[Column, ...]
    known: tuple[Column, ...]
    shown: tuple[Column, ...]
    fields: tuple[Column, ...]
    terms: tuple[str, ...]
    term_meanings: Mapping[str, str]
    metrics: tuple[Metric, ...]
    settings: tuple[SettingRecord, ...]
    together: tuple[tuple[str, ...], ...] = ()
    data_settings: tuple[str, ...] = ()
    input_settings: tuple[str, ...] = ()
    loss_settings: tuple[str, ...] = ()
    equation_settings: tuple[str, ...] = ()
    mark: str = "mark"
    reference_advice: str = ""
    guesses: tuple[Guess, ...] = ()
    limits: Mapping[str, Yardstick] = field(default_factory=dict)
    marks: Mapping[str, tuple[Line, ...]] = field(default_factory=dict)
    equations: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """Return the unit of the first output."""
        return self.outputs[0].unit

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """Return the annotations of the settings by name, as `pinncore.settings.hints` does for a class."""
        return {setting.name: setting.hint for setting in self.settings}

    @functools.cached_property
    def in_per_cent(self) -> frozenset[str]:
        """Return the metrics that people see in per cent."""
        return frozenset(metric.name for metric in self.metrics if metric.is_percent)

    def metric(self, name: str) -> Metric | None:
        """Return a metric by name, None where the problem has no such metric."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def marks_on(self, settings: Mapping[str, Any]) -> tuple[Line, ...]:
        """Return the lines to draw on the fields of a training with these settings of the problem."""
        return self.marks.get(self._data_of(settings), ())

    def yardsticks(self, field: Mapping[str, Array], settings: Mapping[str, Any]) -> tuple[Yardstick, ...]:
        """Return errors to compare a result with, from columns of the table fields and the settings of the problem.

        There are none where there is no reference.
        """
        references = [field.get(column.name) for column in output_columns(self.outputs)[1::2]]
        known = [values for values in references if values is not None and np.isfinite(values).all() and values.any()]
        if len(known) < len(references):
            return ()
        constant = rms(np.array([relative(np.full(len(values), values.mean()), values) for values in known]))
        found = [Yardstick("the best constant field" + ("s" if len(known) > 1 else ""), constant)]
        found += [Yardstick(guess.what, relative(field[guess.column], known[0])) for guess in self.guesses]
        limit = self.limits.get(self._data_of(settings))
        return (*found, limit) if limit else tuple(found)

    def _data_of(self, settings: Mapping[str, Any]) -> str:
        values = [settings.get(name) for name in self.data_settings]
        return values[0] if len(values) == 1 and isinstance(values[0], str) else ""

    @functools.cached_property
    def _text(self) -> str:
        return json.dumps(self.to_plain(), sort_keys=True)

    def __hash__(self) -> int:
        return hash(self._text)

    def to_plain(self) -> dict[str, Any]:
        """Return the record as values that JSON can hold."""
        return {part.name: _plain(getattr(self, part.name)) for part in dataclasses.fields(self)}

    @staticmethod
    def from_plain(values: Mapping[str, Any]) -> ProblemRecord:
        """Return the record of `to_plain`. Raises `TypeError`, `KeyError` or `ValueError` for other values."""
        columns = {
            name: tuple(_column(column) for column in values[name])
            for name in ("coordinates", "outputs", "known", "shown", "fields")
        }
        names = ("terms", "data_settings", "input_settings", "loss_settings", "equation_settings")
        return ProblemRecord(
            **{
                **values,
                **columns,
                **{name: tuple(values[name]) for name in names},
                "metrics": tuple(Metric(**metric) for metric in values["metrics"]),
                "settings": tuple(_setting(setting) for setting in values["settings"]),
                "together": tuple(map(tuple, values["together"])),
                "guesses": tuple(Guess(**guess) for guess in values["guesses"]),
                "limits": {name: Yardstick(*limit) for name, limit in values["limits"].items()},
                "marks": {
                    name: tuple((tuple(start), tuple(end)) for start, end in lines)
                    for name, lines in values["marks"].items()
                },
                "equations": {term: tuple(texts) for term, texts in values["equations"].items()},
            }
        )


def record_of(problem: type[Problem], name: str | None = None) -> ProblemRecord:
    """Return the record of a problem; `name` is what tables call it where that is not its own.

    Raises `SettingError` for a setting whose annotation or default cannot be stored, `ProblemError` for a wrong
    class.
    """
    return ProblemRecord(
        name=name or problem.name,
        class_name=problem.__name__,
        title=problem.title().rstrip("."),
        quantity=problem.quantity,
        coordinates=problem.coordinates,
        outputs=problem.outputs,
        known=problem.known,
        shown=problem.shown,
        fields=problem.field_columns(),
        terms=problem.term_names(),
        term_meanings=dict(problem.term_meanings),
        metrics=problem.metrics,
        settings=tuple(_setting_of(problem, name, hint) for name, hint in hints(problem).items()),
        together=problem.together,
        data_settings=problem.data_settings,
        input_settings=problem.input_settings,
        loss_settings=problem.loss_settings,
        equation_settings=problem.equation_settings,
        mark=problem.mark,
        reference_advice=problem.reference_advice,
        guesses=tuple(Guess(what, column) for what, column in problem.guesses.items()),
        limits=dict(problem.limits),
        marks=dict(problem.marks_of),
        equations={term: (text.plain, text.latex, text.mathml) for term, text in problem.equation_texts().items()},
    )


def _setting_of(problem: type[Problem], name: str, hint: Any) -> SettingRecord:
    default = next(each.default for each in dataclasses.fields(problem) if each.name == name)
    rule = _rule(name, hint)
    try:
        json.dumps(default, allow_nan=False)
    except (TypeError, ValueError):
        raise SettingError(name, default, "must have a default that is a number, text, True, False or None") from None
    return SettingRecord(name, rule, default, description(hint), name not in base_settings(problem))


def _rule(name: str, hint: Any) -> Any:
    """Return the rule of an annotation. Raises `SettingError` where it cannot be written as one."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = {
            word: getattr(bound, word)
            for bound in arguments[1:]
            for word, kind in _BOUNDS.items()
            if type(bound) is kind
        }
        inner = _rule(name, arguments[0])
        return {"of": inner, **bounds} if bounds else inner
    if origin is Literal:
        return {"choices": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"any_of": [_rule(name, argument) for argument in arguments]}
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"list": _rule(name, arguments[0])}
    if origin is dict or hint is dict:
        return {"mapping": True}
    if hint is type(None):
        return "null"
    for word, kind in _PLAIN.items():
        if hint is kind:
            return word
    rule = "must be annotated as float, int, str, bool, Literal, or a tuple of these"
    raise SettingError(name, getattr(hint, "__name__", hint), rule)


def _hint(rule: Any) -> Any:
    if isinstance(rule, str):
        return _PLAIN[rule]
    if "choices" in rule:
        return Literal[tuple(rule["choices"])]
    if "any_of" in rule:
        return typing.Union[tuple(map(_hint, rule["any_of"]))]  # noqa: UP007 - of a number that is known here only
    if "list" in rule:
        return tuple[_hint(rule["list"]), ...]  # type: ignore[misc]
    if "mapping" in rule:
        return dict[str, Any]
    bounds = [_BOUNDS[word](rule[word]) for word in _BOUNDS if word in rule]
    return Annotated[(_hint(rule["of"]), *bounds)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {part.name: _plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    return value


def _column(values: Mapping[str, Any]) -> Column:
    return Column(**{**values, "aliases": tuple(values["aliases"])})


def _setting(values: Mapping[str, Any]) -> SettingRecord:
    default = values["default"]
    return SettingRecord(**{**values, "default": tuple(default) if isinstance(default, list) else default})
