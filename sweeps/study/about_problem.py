"""A problem for people: its equation, unknowns, settings, loss terms, points, and the engine that evaluates it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pinncore import Member, TrainSettings
from pinncore.member import engine_of
from pinncore.problems.source import ProblemSource

if TYPE_CHECKING:
    from pinncore.equations.channels import Group
    from pinncore.problems.columns import Column
    from pinncore.problems.record import ProblemRecord

_KINDS: Final = {"float": "number", "int": "whole number", "str": "text", "bool": "true or false", "null": "null"}
_BOUNDS: Final = {"ge": "at least {}", "gt": "greater than {}", "le": "at most {}", "lt": "less than {}"}


def about_problem(source: ProblemSource) -> dict[str, Any]:
    """Return everything about a problem with its settings at their defaults, as values that JSON can hold.

    The code of a user's problem is executed. Raises `ProblemError` for a problem that no engine can evaluate.
    """
    record, problem = source.record, source.problem_class()
    engine, why = engine_of(Member(TrainSettings(), problem), "cpu")
    terms = [
        {
            "term": term,
            "equation": record.equations[term][0] if term in record.equations else None,
            "latex": record.equations[term][1] if term in record.equations else None,
            "meaning": record.term_meanings.get(term),
            "weight": weight,
            "channels": channels_text(group, record),
            "points": len(points),
        }
        for group, points in zip(problem.groups, problem.point_sets, strict=True)
        for term, weight in zip(group.terms, _weights(problem, group), strict=True)
    ]
    return {
        "name": source.reference,
        "title": record.title,
        "coordinates": [_plain(column) for column in record.coordinates],
        "outputs": [_plain(column) for column in record.outputs],
        "known": [_plain(column) for column in record.known],
        "domain": None if problem.domain is None else repr(problem.domain),
        "loss": problem.loss_form,
        "terms": terms,
        "settings": [
            {
                "name": setting.name,
                "rule": rule_text(setting.rule),
                "default": setting.default,
                "meaning": setting.description,
                "is_own": setting.is_own,
            }
            for setting in record.settings
        ],
        "metrics": [metric.name for metric in record.metrics],
        "engine": engine,
        "why_engine": why,
    }


def text(about: Mapping[str, Any]) -> str:
    """Return the result of `about_problem` as text."""
    of_each = "; * stands for each output" if len(about["outputs"]) > 1 else ""
    return "\n\n".join(
        [
            f"{about['title']} ({about['name']})",
            "\n".join(_equation_lines(about["terms"])),
            "\n".join(_unknown_lines(about)),
            _titled(f"loss terms ({about['loss']}{of_each})", _term_rows(about)),
            _titled("settings of its own", _setting_rows(about, is_own=True)),
            _titled("settings of every problem", _setting_rows(about, is_own=False)),
            f"metrics: {', '.join(about['metrics'])}",
            _engine_text(about),
        ]
    )


def rule_text(rule: Any) -> str:
    """Return what a setting may be, from the rule in its record."""
    if isinstance(rule, str):
        return _KINDS.get(rule, rule)
    if "choices" in rule:
        return " | ".join(map(str, rule["choices"]))
    if "any_of" in rule:
        return " or ".join(map(rule_text, rule["any_of"]))
    if "list" in rule:
        return f"list of {rule_text(rule['list'])}"
    if "mapping" in rule:
        return "mapping"
    bounds = (words.format(rule[bound]) for bound, words in _BOUNDS.items() if bound in rule)
    return ", ".join([rule_text(rule["of"]), *bounds])


def channels_text(group: Group, record: ProblemRecord) -> str:
    """Return what the network carries at the points of a group: values, first derivatives, second-order forms."""
    names = [record.coordinates[index].symbol for index in group.channels.firsts]
    output = record.outputs[0].symbol if len(record.outputs) == 1 else "*"
    parts = [output, *(f"{output}_{name}" for name in names)]
    for form in group.channels.forms:
        terms = []
        for first, second, column in form:
            factor = "" if column is None else f"({group.columns[column]}) "
            terms.append(f"{factor}{output}_{names[first]}{names[second]}")
        parts.append(" + ".join(terms))
    return ", ".join(parts)


def _weights(problem: Any, group: Group) -> list[float]:
    weights = dict(zip(problem.terms, problem.weights, strict=True))
    return [weights[term] for term in group.terms]


def _plain(column: Column) -> dict[str, str]:
    return {"symbol": column.symbol, "column": column.name, "unit": column.unit}


def _equation_lines(terms: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    length = max((len(term["term"]) for term in terms), default=0)
    for term in terms:
        if term["equation"] is not None:
            yield f"  {term['term']:<{length}}  0 = {term['equation']}"


def _unknown_lines(about: Mapping[str, Any]) -> Iterator[str]:
    for title, group in (("coordinates", "coordinates"), ("outputs", "outputs"), ("data at points", "known")):
        if about[group]:
            yield f"{title:<16}{', '.join(map(_quantity, about[group]))}"
    if about["domain"] is not None:
        yield f"{'domain':<16}{about['domain']}"


def _quantity(column: Mapping[str, str]) -> str:
    name = column["symbol"] + (f" (column {column['column']})" if column["column"] != column["symbol"] else "")
    return f"{name} in {column['unit']}" if column["unit"] != "1" else name


def _term_rows(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            term["term"],
            f"{term['points']:,} points, weight {term['weight']:g}, channels {term['channels']}"
            + (f": {term['meaning']}" if term["meaning"] else ""),
        )
        for term in about["terms"]
    ]


def _setting_rows(about: Mapping[str, Any], *, is_own: bool) -> list[tuple[str, str]]:
    return [
        (setting["name"], f"{setting['rule']}; default {_word(setting['default'])}. {setting['meaning']}".strip())
        for setting in about["settings"]
        if setting["is_own"] is is_own
    ]


def _word(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_word, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _titled(title: str, rows: Sequence[tuple[str, str]]) -> str:
    length = max((len(name) for name, _ in rows), default=0)
    lines = [f"  {name:<{length}}  {words}" for name, words in rows]
    return "\n".join([title, *(lines or ["  none"])])


def _engine_text(about: Mapping[str, Any]) -> str:
    if about["why_engine"]:
        return about["why_engine"]
    return f"engine: {about['engine']} on a CPU, compiled for the channels above; torch on a GPU"
