"""What a branch takes over: the trials of another study that are trials of this one too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinncore.problems.source import same_code

from ..errors import listed
from ..search.points import Points
from ..spec.study_spec import StudySpec, config_sha256
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.optuna_sql import TrialRecord
from .other_studies import read_other
from .provenance import data_hash
from .trials import DUPLICATE_OF, RETRY_OF, Values, rungs_of


@dataclass(frozen=True)
class BranchedTrial:
    """A trial that comes along: where it is, as FOLDER/N, its parameters in this study, its metrics at rungs."""

    source: str
    params: dict[str, Any]
    config_hash: str
    rungs: Mapping[int, Values]


@dataclass(frozen=True)
class Branch:
    """The trials that come along, and the number of those that do not, by the reason."""

    folder: str
    trials: tuple[BranchedTrial, ...]
    left: Mapping[str, int]

    @property
    def text(self) -> str:
        """Return in a sentence how many trials came along, and why the others did not."""
        number, left = len(self.trials), sum(self.left.values())
        text = f"{number} of the {number + left} trials of {self.folder} came along and count as trials of this study"
        reasons = "; ".join(f"{count} {reason}" for reason, count in self.left.items())
        return f"{text}. Left behind: {reasons}" if reasons else text


def branch(spec: StudySpec) -> Branch:
    """Return what comes along from the study that this one branches off.

    A trial comes along where it is complete, and each of its settings is what a trial of this study can have; one that
    was pruned, where this study prunes by the same rules. Trials that repeat others are left out.
    """
    folder = str(spec.search.branch_of)
    other, attributes, records = read_other(Path(folder))
    retried = {record.attributes.get(RETRY_OF) for record, _ in records}
    points, trials, left = Points(spec), [], Counter[str]()
    rows = {config_sha256(spec.config(row)) for row in spec.listed}
    of_all = _difference(spec, other, attributes)
    for record, params in records:
        if record.attributes.get(DUPLICATE_OF) is not None or record.number in retried:
            continue
        config, reason = other.config(params), of_all or _unfit(spec, other, record)
        own: dict[str, Any] = {}
        if reason is None:
            own, reason = _placed(points, config)
        digest = "" if reason else config_sha256(spec.config(own))
        if reason is None and rows and digest not in rows:
            reason = "are not in search.list"
        if reason is None:
            rungs = rungs_of(record) if _prunes_alike(spec, other) else {}
            trials.append(BranchedTrial(f"{folder}/{record.number}", own, digest, rungs))
        else:
            left[reason] += 1
    return Branch(folder, tuple(trials), dict(left.most_common()))


def _difference(spec: StudySpec, other: StudySpec, attributes: Mapping[str, Any]) -> str | None:
    """Return in what all trials of two studies differ, None where they do not."""
    names = other.record.class_name, spec.record.class_name
    if names[0] != names[1] or not same_code(other.source.text, spec.source.text):
        return f"solve the problem {other.source.name}"
    if other.search.replicates != spec.search.replicates:
        return f"have replicates {other.search.replicates} instead of {spec.search.replicates}"
    return "have other data" if attributes.get("data_hash") != data_hash(spec) else None


def _unfit(spec: StudySpec, other: StudySpec, record: TrialRecord) -> str | None:
    """Return why a trial has no result that this study can use, None where it has one."""
    if record.state == PRUNED:
        return None if _prunes_alike(spec, other) else "were pruned by other rules"
    if record.state == COMPLETE:
        return None
    return "failed" if record.state == FAIL else "are not finished"


def _prunes_alike(spec: StudySpec, other: StudySpec) -> bool:
    return (spec.search.pruner, spec.objectives) == (other.search.pruner, other.objectives)


def _placed(points: Points, config: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """Return the point of the space with this configuration, and why there is none."""
    values = _flat(config)
    kinds = points.space
    params = points.choose(lambda name: kinds[name].decode(kinds[name].encode(values[name])))  # 10 instead of 10.0
    if outside := [name for name, value in params.items() if not kinds[name].has(value)]:
        return {}, f"lie outside the space ({', '.join(outside)})"
    own = _flat(points.spec.config(params))
    if changed := [name for name in own if own[name] != values[name]]:
        words = [f"{name} {_word(values[name])} instead of {_word(own[name])}" for name in changed]
        return {}, f"have {listed(words, most=3)}"
    return params, None if points.allows(params) else "break search.constraints"


def _flat(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for section in config.values() for name, value in section.items() if name != "name"}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
