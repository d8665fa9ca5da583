"""A study file after its check: the problem, the space, the search, the training, the resources.

The rules of `train` and `problem` are read from the annotations of pinncore's settings and not repeated here.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from pinncore.problems import Problem
from pinncore.problems.record import ProblemRecord
from pinncore.problems.source import ProblemSource
from pinncore.settings import TrainSettings

from ..inputs.opening import open_table
from . import conditions, yaml_text
from .constraints import Constraint
from .dimensions import Dimension, contains
from .sections import BudgetSettings, NotifySettings, ResourceSettings, ResultSettings, SearchSettings, TrackSettings


@dataclass(frozen=True)
class StudySpec:
    """A study file without mistakes.

    `source` is the problem by its record and, where it is a user's, by its text: a study is the same wherever it is
    sent. `problem` (with its `name` as study files write it) and `train` hold every field whose value some trials take
    from there, as plain JSON values with absolute paths; `space` holds the swept fields. `state` is where study.db is
    stored; None is the study's folder.
    """

    study: str
    source: ProblemSource
    problem: dict[str, Any]
    train: dict[str, Any]
    search: SearchSettings
    space: dict[str, Dimension]
    resources: ResourceSettings
    budget: BudgetSettings
    results: ResultSettings
    track: TrackSettings
    notify: NotifySettings
    state: str | None = None

    @property
    def problem_class(self) -> type[Problem]:
        """Return the class of the problem, executing a user's code. Raises `ProblemError`."""
        return self.source.problem_class

    @property
    def record(self) -> ProblemRecord:
        """Return what is known of the problem without its class."""
        return self.source.record

    def needs_reference(self, metric: str | None) -> bool:
        """Return whether a metric can be computed only where the solution is known."""
        return any(record.name == metric and record.needs_reference for record in self.record.metrics)

    @property
    def is_in_percent(self) -> bool:
        """Return whether people see the first objective in per cent."""
        return any(record.name == self.objectives[0] and record.is_percent for record in self.record.metrics)

    def problems_on_data(self) -> list[Problem]:
        """Return the problem on each of the data that its trials use, other settings at their defaults."""
        names = self.record.data_settings
        choices = itertools.product(*(self.values(name) for name in names))
        kind = self.problem_class
        return [kind(**dict(zip(names, choice, strict=True))).reading(open_table) for choice in choices]

    @property
    def objectives(self) -> tuple[str, ...]:
        """Return the metrics to minimise, one or several."""
        objective = self.search.objective
        return (objective,) if isinstance(objective, str) else tuple(objective)

    @property
    def listed(self) -> tuple[dict[str, Any], ...]:
        """Return the configurations of the sampler list, each with the fields it gives; empty for other samplers."""
        rows = self.search.list_ if self.search.traits.reads_list else None
        return tuple(rows) if isinstance(rows, list) else ()

    def config(self, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the complete configuration of one trial, `{"train": {...}, "problem": {"name": ..., ...}}`.

        Fields of the space that `params` does not name have their values under train or problem, or the defaults.
        Raises `ValueError` where `params` names a field that is not swept.
        """
        if unknown := sorted(set(params) - set(self.space)):
            raise ValueError(f"params must name fields among {sorted(self.space)}, got {unknown}")
        return {
            "train": _complete(_TRAIN, {**self.train, **params}),
            "problem": {"name": self.source.name, **_complete(_defaults(self.record), {**self.problem, **params})},
        }

    def flat(self, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the value of every field of train and problem by name, as constraints use them."""
        config = self.config(params or {})
        return {name: value for section in config.values() for name, value in section.items() if name != "name"}

    @functools.cached_property
    def constraints(self) -> tuple[Constraint, ...]:
        """Return the constraints that can be read and name only fields; the check of the file reports the others."""
        readable, fields = [], self.flat().keys()
        for text in self.search.constraints:
            with contextlib.suppress(ValueError):
                readable.append(Constraint.parse(text))
        return tuple(constraint for constraint in readable if constraint.names <= fields)

    def is_active(self, field: str, params: Mapping[str, Any]) -> bool:
        """Return whether `field` is swept and exists for the values `params` of the other dimensions."""
        return field in self.space and conditions.is_active(self.space, field, params)

    def allowed(self, params: Mapping[str, Any]) -> bool:
        """Return whether a configuration obeys every constraint. Raises `SweepError` where one cannot be evaluated."""
        if not self.search.constraints:
            return True
        values = self.flat(params)
        return all(constraint.holds(values) for constraint in self.constraints)

    def to_plain(self) -> dict[str, Any]:
        """Return the study as the plain values of a study file, including every default."""
        dimensions = {} if self.search.traits.reads_list else self.space
        models = {"search": self.search, "resources": self.resources, "budget": self.budget, "results": self.results}
        sections = {name: section.model_dump(mode="json", by_alias=True) for name, section in models.items()}
        sections["track"] = {name: tracker.model_dump(mode="json") for name, tracker in self.track.chosen.items()}
        sections["notify"] = self.notify.model_dump(mode="json")
        return copy.deepcopy(
            {
                "study": self.study,
                "problem": self.problem,
                "search": sections.pop("search"),
                "space": {name: _plain(kind) for name, kind in dimensions.items()},
                "train": self.train,
                **sections,
                "state": self.state,
            }
        )

    def to_yaml(self) -> str:
        """Return the canonical study file, from which the same study is read in any folder."""
        return yaml_text.write(self.to_plain())

    def sha256(self) -> str:
        """Return a hash of the whole study file, independent of order, layout and defaults that are left out."""
        return _sha256(self.to_plain())

    def values(self, field: str) -> tuple[Any, ...]:
        """Return the values of a field: its one value, every choice or both ends of its range; empty if unknown."""
        swept = self.space[field].arguments() if field in self.space else []
        fixed = {**self.problem, **self.train}
        if field in fixed and not contains(swept, fixed[field]):
            swept.append(fixed[field])
        return tuple(swept)


def build_settings(config: Mapping[str, Mapping[str, Any]], source: ProblemSource) -> tuple[TrainSettings, Problem]:
    """Return training settings and problem of a configuration of `source`.

    The code of a user's problem is executed. Raises `SettingError` for an impossible configuration, `ProblemError`
    for a problem that cannot be used.
    """
    settings = {name: value for name, value in config["problem"].items() if name != "name"}
    problem = source.problem_class(**_with_tuples(settings))
    return TrainSettings(**_with_tuples(config["train"])), problem.reading(open_table)


def config_sha256(config: Mapping[str, Any]) -> str:
    """Return the hash of a configuration, independent of the order of keys."""
    return _sha256(config)


def _plain(kind: Dimension) -> dict[str, Any]:
    """Return a dimension as a study file writes it."""
    when = {parent: list(values) for parent, values in kind.when.items()}
    return {kind.kind: kind.arguments(), **({"when": when} if when else {})}


def _complete(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of every setting that has a default, those with a float for a default as floats."""
    complete = {}
    for name, default in defaults.items():
        value = values.get(name, default)
        complete[name] = float(value) if isinstance(default, float) else _without_tuple(value)
    return complete


def _defaults(problem: ProblemRecord) -> dict[str, Any]:
    return {setting.name: setting.default for setting in problem.settings}


_TRAIN: Final = {field.name: field.default for field in fields(TrainSettings)}


def _without_tuple(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: as_setting(value) for name, value in values.items()}


def as_setting(value: Any) -> Any:
    """Return a JSON value as settings have it: a list as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()
