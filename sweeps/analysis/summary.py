"""The analysis of the hyperparameters of a study: importance, marginal effects, rungs, suggestions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import SpecError
from ..query.blocks import Block, Listing, text_of_blocks
from ..query.confined import Limits, database
from ..query.text import printable, scale
from ..query.values import json_value
from ..spec.samplers import SAMPLERS, names
from ..states import PRUNED
from ..storage.stored_tables import tables_of
from ..study.loading import parse_stored
from ..study.study_file import whole_text
from .effects import MarginalEffect, marginal_effects
from .importance import Importance, importance
from .rungs import StudyRungs, rungs_of_study
from .study_axes import Judged, judged
from .suggestions import FEWEST_TRIALS, Suggestion, suggestions


@dataclass(frozen=True)
class Judgement:
    """The analysis of a study, its limits in `notes`; `rungs` is None where the study file is no longer valid."""

    study: str
    metric: str
    trials: int
    complete: int
    failed: int
    pruned: int
    importance: Importance
    effects: tuple[MarginalEffect, ...]
    rungs: StudyRungs | None
    suggestions: tuple[Suggestion, ...]
    notes: tuple[str, ...]
    is_percent: bool = False  # whether people see the metric so

    def to_plain(self) -> dict[str, Any]:
        """Return the judgement as values that JSON can hold."""
        values = asdict(self)
        for plain, dimension in zip(values["importance"]["dimensions"], self.importance.dimensions, strict=True):
            plain["is_noise"] = dimension.is_noise
        if self.rungs is not None:
            values["rungs"]["settings"] = self.rungs.settings.model_dump()
        return dict(json_value(values))


def judge(study_dir: Path, by: str | None = None) -> Judgement:
    """Judge a study by its first objective, or by the column `by`. Raises what `ranked_trials` raises."""
    study = judged(study_dir, by)
    result, effects = importance(study), marginal_effects(study)
    try:
        spec = parse_stored(whole_text(study.folder), study.folder, study.source)
        with database(Limits()) as connection:
            rungs = rungs_of_study(spec, tables_of(study.folder).read, connection)
    except SpecError:
        rungs = None
    complete, pruned = int(study.complete.sum()), int(np.sum(study.states == PRUNED))
    return Judgement(
        study=str(study.file.get("study", study.folder.name)),
        metric=study.metric,
        trials=len(study.trials),
        complete=complete,
        failed=len(study.trials) - complete - pruned,
        pruned=pruned,
        importance=result,
        effects=effects,
        rungs=rungs,
        suggestions=suggestions(study, result),
        notes=tuple(notes(study)),
        is_percent=study.metric in study.source.record.in_per_cent,
    )


def notes(study: Judged) -> Iterator[str]:
    """Yield the limits of the effects of a study, a sentence each."""
    if study.traits.learns:
        yield (
            f"The sampler {study.sampler} prefers regions with good results: values that it left early have few "
            "trials, and dimensions that changed together cannot be told apart. Effects are most reliable with "
            f"{names(SAMPLERS, lambda sampler: not (sampler.learns or sampler.is_finite), 'or')}."
        )
    if study.traits.reads_list:
        yield "The configurations were listed by hand: dimensions that change together cannot be told apart."
    if pruned := int(np.sum(study.states == PRUNED)):
        yield f"{pruned:,} pruned trials count as worse than every complete one, and are left out of medians."
    for axis in study.axes:
        if axis.is_constant and len(study.trials) > 1:
            yield f"{axis.name} has a single value in these trials, so nothing can be said about it."


# ---- text ----------------------------------------------------------------------------------------------------------


def text(judgement: Judgement) -> str:
    """Return a judgement as text for a terminal."""
    return text_of_blocks(blocks(judgement))


def blocks(judgement: Judgement) -> Iterator[Block]:
    """Yield a judgement as sentences and tables."""
    states = ((judgement.complete, "complete"), (judgement.failed, "failed"), (judgement.pruned, "pruned"))
    counted = [f"{number:,} {state}" for number, state in states if number or state == "complete"]
    yield f"{printable(judgement.study)}: {judgement.trials:,} trials, {', '.join(counted)}; by {judgement.metric}."
    yield from _importance(judgement.importance)
    yield from _effects(judgement)
    yield from _rungs(judgement)
    yield _next(judgement)
    yield from judgement.notes


def _importance(result: Importance) -> Iterator[Block]:
    if result.why_not:
        yield f"Importance is not known: {result.why_not}."
        return
    rows = [
        {
            "dimension": dimension.name,
            **{f"{name} %": round(100 * getattr(dimension, name), 1) for name in ("share", "low", "high")},
            "chance %": round(100 * dimension.noise, 1),
            "p": round(dimension.p_value, 3),
            "verdict": "no more than chance" if dimension.is_noise else "",
        }
        for dimension in result.dimensions
    ]
    heading = f"Importance for being among the {result.top:,} best of {result.trials:,} trials (PED-ANOVA). "
    heading += "Low to high is the 90 % range over random halves of the trials. A dimension without effect stays below "
    heading += "chance in 95 % of cases."
    yield heading
    yield Listing(pa.Table.from_pylist(rows))


def _effects(judgement: Judgement) -> Iterator[Block]:
    if not judgement.effects:
        return
    factor, unit = scale(judgement.metric, [judgement.metric] if judgement.is_percent else [])
    counts = ["trials", *(name for name in ("failed", "pruned") if getattr(judgement, name))]
    statistics = {"best": "best", "lower": "quarter", "median": "median", "upper": "three quarters"}
    rows = []
    for effect in judgement.effects:
        for group in effect.groups:
            row = {"dimension": effect.name, "value": group.label}
            row |= {name: getattr(group, name) for name in counts}
            numbers = {f"{head}{unit}": getattr(group, name) for name, head in statistics.items()}
            rows.append(row | {head: None if value is None else factor * value for head, value in numbers.items()})
    heading = (
        f"Marginal effects: {judgement.metric} of complete trials by value, over all values of the other dimensions."
    )
    yield heading
    yield Listing(pa.Table.from_pylist(rows), grouped=True)
    for effect in judgement.effects:
        if effect.failing is not None:
            yield f"Trials with {effect.name} {effect.failing} fail significantly more often than others."


def _rungs(judgement: Judgement) -> Iterator[Block]:
    rungs = [rung for rung in judgement.rungs.rungs if rung.correlation is not None] if judgement.rungs else []
    if judgement.rungs and rungs:
        correlations = ", ".join(f"{rung.correlation:.2f} at {100 * rung.rung:.3g} %" for rung in rungs)
        fewest = min(rung.trials for rung in rungs)
        yield (
            f"Rank correlation of {judgement.rungs.metric} at a rung with {judgement.rungs.objective} at the end: "
            f"{correlations} of the steps, over at least {fewest:,} trials."
        )


def _next(judgement: Judgement) -> str:
    if not judgement.suggestions:
        return f"What to try next: nothing stands out (a dimension needs {FEWEST_TRIALS} complete trials to be judged)."
    entries = (f"  {entry.text}\n      {entry.section}:\n        {entry.study_file}" for entry in judgement.suggestions)
    return "\n".join(["What to try next:", *entries])
