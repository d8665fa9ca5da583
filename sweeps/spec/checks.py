"""Checks across keys of a study file: keys that contradict each other, and combinations that cannot train."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Final

from cluster.hiding import holds_login, visible_text
from pinncore.errors import SettingError
from pinncore.settings import TrainSettings, hints

from ..errors import NOT_GIVEN, Mistake
from .assembly import URL
from .combinations import possible, related
from .dimensions import KINDS
from .mistakes import Sections, nearest
from .samplers import SAMPLERS
from .search_checks import search_mistakes

if TYPE_CHECKING:
    from .study_spec import StudySpec

_MOST_COMBINATIONS: Final = 500  # beyond this number, only fields that a rule connects are combined


def structure_mistakes(raw: Mapping[str, Any], sections: Sections) -> list[Mistake]:
    """Return the fields that are both fixed and swept, and the dimensions that are not exactly one kind."""
    mistakes = []
    space = raw.get("space")
    for name, content in (space if isinstance(space, dict) else {}).items():
        home = sections.home(name)
        fixed = raw.get(home) if home else None
        if isinstance(fixed, dict) and name in fixed and not (isinstance(content, dict) and "when" in content):
            hint = f"Remove {home}.{name} to sweep it, or space.{name} to fix it."
            mistakes.append(Mistake(f"space.{name}", NOT_GIVEN, f"{name} is also set under {home}", hint))
        named = content if isinstance(content, dict) and name in sections.kinds else {"": None}
        kinds = {key: value for key, value in named.items() if key != "when"}
        if len(kinds) != 1 and kinds.keys() <= KINDS.keys():
            hint = f"Keep one of {', '.join(sections.kinds[name])}."
            mistakes.append(Mistake(f"space.{name}", content, "must be exactly one kind of dimension", hint))
    search = raw.get("search")
    sampler = search.get("sampler") if isinstance(search, dict) else None
    if space and isinstance(sampler, str) and sampler in SAMPLERS and SAMPLERS[sampler].reads_list:
        hint = "Give the fields in search.list, or use another sampler."
        mistakes.append(Mistake("space", NOT_GIVEN, f"must be empty with the sampler {sampler}", hint))
    return mistakes


def content_mistakes(spec: StudySpec, *, unsure: Set[str]) -> list[Mistake]:
    """Return the mistakes between parts of a study whose single values are right.

    `unsure` names the fields that have a mistake already; nothing is concluded from their values.
    """
    checks = [
        _dimensions(spec, unsure),
        search_mistakes(spec, unsure=unsure),
        impossible_combinations(spec, TrainSettings, spec.train, unsure),
        _state(spec),
        _track(spec),
        _notify(spec, unsure),
    ]
    return [mistake for check in checks for mistake in check]


def unsure_fields(mistakes: Iterable[Mistake], sections: Sections) -> frozenset[str]:
    """Return the names that mistakes are about, including the names that a misspelt one may stand for."""
    names: set[str] = set()
    for mistake in mistakes:
        written = [part for part in re.split(r"[.\[\]]+", mistake.path) if part]
        names.update(sections.keys.get(written[-1], ()) if written else ())
        inner = written[3:] if written[2:3] == ["when"] or written[:2] == ["search", "list"] else []
        for name in (*written[:2], *inner):
            names.update([name], *(nearest(name, keys) for keys in sections.keys.values()))
    return frozenset(names)


def _dimensions(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield the ranges without numbers in them, and the values that a choice has twice."""
    for name, kind in spec.space.items():
        path, values = f"space.{name}.{kind.kind}", kind.arguments()
        if kind.kind != "choice" and not values[0] < values[1]:
            hint = "Swap them." if values[0] > values[1] else "A single value belongs under train or problem."
            yield Mistake(path, values, "must be [low, high] with low below high", hint)
        if kind.kind == "choice" and not spec.listed:
            for index, value in enumerate(values):
                if value in values[:index]:
                    place = path if name in unsure else f"{path}[{index}]"
                    yield Mistake(place, value, "appears twice in this choice", "Remove one of the two.")


def impossible_combinations(
    spec: StudySpec, settings: Any, fixed: Mapping[str, Any], unsure: Set[str]
) -> Iterator[Mistake]:
    """Yield each rule between fields of a settings record that some combination of the space breaks, once.

    `fixed` holds the values of those that are not swept.
    """
    names = hints(settings)
    base = {name: value for name, value in fixed.items() if name in names}
    broken: dict[tuple[str, str], tuple[SettingError, dict[str, Any], int]] = {}
    seen: set[str] = set()
    few = len(spec.listed) <= _MOST_COMBINATIONS
    for index, combination in enumerate(_some_combinations(spec, settings.together)):
        chosen = {name: value for name, value in combination.items() if name in names}
        if seen.issuperset(parts := _judged_parts(chosen, settings.together, numbers=few)):
            continue
        seen |= parts
        for error in _broken_rules(settings, {**base, **chosen}):
            broken.setdefault((error.field, error.rule), (error, chosen, index))
    for error, chosen, index in broken.values():
        if not any(name in error.rule.split() for name in unsure):
            yield impossible(spec, error, chosen, index, involved=error.rule.split())


def _judged_parts(chosen: Mapping[str, Any], together: Sequence[Sequence[str]], *, numbers: bool) -> set[str]:
    """Return the values that rules look at, alone and together, as text; without `numbers` no number alone."""
    groups = [{name: chosen[name] for name in group if name in chosen} for group in together]
    single = [{name: value} for name, value in chosen.items() if numbers or not isinstance(value, (int, float))]
    return {"", *(repr(part) for part in (*groups, *single))}


def _state(spec: StudySpec) -> Iterator[Mistake]:
    """Yield a mistake where the URL of study.db is not of PostgreSQL, or contains a password."""
    if spec.state is None or not URL.match(spec.state):
        return
    scheme, _, rest = spec.state.partition("://")
    secret = re.match(r"[^@/?]*?:([^/?]*)@", rest) or re.search(r"[?&]password=([^&]*)", rest)
    shown = spec.state.replace(secret[1], "***") if secret and secret[1] else spec.state
    if scheme != "postgresql":
        hint = (
            "Write postgresql://HOST/DATABASE." if "postgres" in scheme else "Leave it out to use the study's folder."
        )
        yield Mistake("state", shown, "must be a folder or postgresql://...", hint)
    if secret:
        hint = "Set it in PGPASSWORD or ~/.pgpass, where libpq finds it."
        yield Mistake("state", shown, "must not contain a password", hint)


def _track(spec: StudySpec) -> Iterator[Mistake]:
    """Yield a mistake where a tracking URI holds a password or a token."""
    mlflow = spec.track.mlflow
    if mlflow is not None and mlflow.uri is not None and holds_login(mlflow.uri):
        hint = "MLflow takes it from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        yield Mistake("track.mlflow.uri", visible_text(mlflow.uri), "must not contain a password", hint)


def _notify(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield a mistake where the command of a notification has no words, or an open quote."""
    if "command" in unsure or spec.notify.command is None:
        return
    hint = "Write it as a list of words: [PROGRAM, ARGUMENT]."
    try:
        if not "".join(spec.notify.words[:1]):
            yield Mistake("notify.command", spec.notify.command, "must name a program", hint)
    except ValueError as problem:
        rule = f"cannot be split into words ({str(problem).lower()})"
        yield Mistake("notify.command", spec.notify.command, rule, hint)


def impossible(
    spec: StudySpec, error: SettingError, chosen: Mapping[str, Any], index: int, *, involved: Collection[str]
) -> Mistake:
    """Return the mistake that `chosen`, combination or row `index`, makes by its values of the fields `involved`."""
    others = {name: value for name, value in chosen.items() if name in involved and name != error.field}
    combined = ", ".join(f"{name} {value}" for name, value in others.items())
    subject = "This row" if spec.listed else "The space"
    hint = f"{subject} combines it with {combined}. " if combined else ""
    section = "space" if error.field in chosen else "train" if error.field in spec.train else "problem"
    path = f"search.list[{index}]" if spec.listed and section == "space" else section
    return Mistake(f"{path}.{error.field}", error.value, error.rule, (hint + error.way_out).strip())


def _some_combinations(spec: StudySpec, together: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
    """Yield the listed configurations, or combinations of corners of the space.

    All combinations of corners where they are few. Otherwise those of connected fields, while the other dimensions
    keep their first values; every value of each dimension occurs.
    """
    if spec.listed:
        yield from spec.listed
        return
    few = math.prod(len(kind.arguments()) for kind in spec.space.values()) <= _MOST_COMBINATIONS
    groups = related(spec, [tuple(spec.space)] if few else together)
    by_group = [list(possible(spec, group, _MOST_COMBINATIONS, whole=False)) for group in groups]
    first = [combinations[0] if combinations else {} for combinations in by_group]
    yield {name: value for chosen in first for name, value in chosen.items()}
    for place, combinations in enumerate(by_group):
        others = {name: value for chosen in first[:place] + first[place + 1 :] for name, value in chosen.items()}
        for chosen in combinations:
            yield {**others, **chosen}


def _broken_rules(settings: type[Any], chosen: dict[str, Any]) -> Iterator[SettingError]:
    """Yield each rule of a settings record that `chosen` breaks, resetting one field after another to its default."""
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    chosen = {name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}
    for _ in defaults:
        try:
            settings(**chosen)
            return
        except SettingError as error:
            yield error
            chosen = {**chosen, error.field: defaults[error.field]}
