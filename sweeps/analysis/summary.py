"""All that a study tells of its hyperparameters: importance, marginal effects, rungs, what to try next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import SpecError
from ..query.text import PERCENT_COLUMNS, printable, render
from ..query.values import json_value
from ..states import PRUNED
from .effects import MarginalEffect, marginal_effects
from .importance import Importance, importance
from .rungs import StudyRungs, rungs_of_study
from .study_axes import Judged, judged
from .suggestions import FEWEST_TRIALS, Suggestion, suggestions


@dataclass(frozen=True)
class Judgement:
    """What a study tells, and as `notes` what it cannot; `rungs` is None where its study file is no longer valid."""

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

    def to_plain(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        found = asdict(self)
        for plain, each in zip(found["importance"]["dimensions"], self.importance.dimensions, strict=True):
            plain["is_noise"] = each.is_noise
        if self.rungs is not None:
            found["rungs"]["settings"] = self.rungs.settings.model_dump()
        return dict(json_value(found))


def judge(study_dir: Path, by: str | None = None) -> Judgement:
    """Judge a study by its first objective, or by the number `by`. Raises as `ranked_trials` does."""
    study = judged(study_dir, by)
    found, effects = importance(study), marginal_effects(study)
    try:
        rungs = rungs_of_study(study.folder)
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
        importance=found,
        effects=effects,
        rungs=rungs,
        suggestions=suggestions(study, found),
        notes=tuple(notes(study)),
    )


def notes(study: Judged) -> Iterator[str]:
    """Yield what to keep in mind with the effects of a study, a sentence each."""
    if study.is_adaptive:
        yield (
            f"The sampler {study.sampler} went where results were good: values it left early have few trials, and "
            "dimensions that moved together cannot be told apart. Effects are surest with random or qmc."
        )
    if study.sampler == "list":
        yield "The configurations were listed by hand: dimensions that change together cannot be told apart."
    if pruned := int(np.sum(study.states == PRUNED)):
        yield f"{pruned:,} trials were pruned: they count as worse than every complete one, and medians leave them out."
    for axis in study.axes:
        if axis.is_constant and len(study.trials) > 1:
            yield f"{axis.name} has a single value in these trials, so nothing can be said of it."


# ---- text ----------------------------------------------------------------------------------------------------------


def text(found: Judgement) -> str:
    """Return a judgement as people read it on a terminal."""
    counted = [f"{found.complete:,} complete"]
    counted += [f"{number:,} {word}" for number, word in ((found.failed, "failed"), (found.pruned, "pruned")) if number]
    parts = [f"{printable(found.study)}: {found.trials:,} trials, {', '.join(counted)}; by {found.metric}."]
    parts += [_importance(found.importance), *_effects(found), *_rungs(found), _next(found)]
    return "\n\n".join([*parts, *found.notes])


def _importance(found: Importance) -> str:
    if found.why_not:
        return f"Importance: nothing to say, {found.why_not}."
    rows = {
        "dimension": [each.name for each in found.dimensions],
        "share %": [round(100 * each.share, 1) for each in found.dimensions],
        "low %": [round(100 * each.low, 1) for each in found.dimensions],
        "high %": [round(100 * each.high, 1) for each in found.dimensions],
        "chance %": [round(100 * each.noise, 1) for each in found.dimensions],
        "p": [round(each.p_value, 3) for each in found.dimensions],
        "": ["no more than chance" if each.is_noise else "" for each in found.dimensions],
    }
    told = f"Importance: what decided which {found.top:,} of {found.trials:,} trials are the best (PED-ANOVA). Low to "
    told += "high is 90 % over halves of the trials; a dimension without effect stays below chance in 95 %."
    return f"{told}\n\n{render(pa.table(rows))}"


def _effects(found: Judgement) -> Iterator[str]:
    if not found.effects:
        return
    factor, unit = (100, " %") if found.metric in PERCENT_COLUMNS else (1, "")
    rows: dict[str, list[Any]] = {"dimension": [], "value": [], "trials": []}
    rows |= {name: [] for name in ("failed", "pruned") if getattr(found, name)}
    statistics = {"best": "best", "lower": "quarter", "median": "median", "upper": "three quarters"}
    rows |= {f"{head}{unit}": [] for head in statistics.values()}
    for effect in found.effects:
        for index, group in enumerate(effect.groups):
            rows["dimension"].append("" if index else effect.name)
            rows["value"].append(group.label)
            for name in ("trials", "failed", "pruned"):
                if name in rows:
                    rows[name].append(getattr(group, name))
            for name, head in statistics.items():
                value = getattr(group, name)
                rows[f"{head}{unit}"].append(None if value is None else factor * value)
    told = f"Marginal effects: {found.metric} of complete trials by value, whatever the other dimensions."
    yield f"{told}\n\n{render(pa.table(rows))}"
    for effect in found.effects:
        if effect.failing is not None:
            yield f"Trials with {effect.name} {effect.failing} fail more often than chance would have it."


def _rungs(found: Judgement) -> Iterator[str]:
    known = [rung for rung in found.rungs.rungs if rung.correlation is not None] if found.rungs else []
    if found.rungs and known:
        told = ", ".join(f"{rung.correlation:.2f} at {100 * rung.rung:.3g} %" for rung in known)
        fewest = min(rung.trials for rung in known)
        yield (
            f"Rank correlation of {found.rungs.metric} at a rung with {found.rungs.objective} at the end: {told} of "
            f"the steps, over {fewest:,} trials or more."
        )


def _next(found: Judgement) -> str:
    if not found.suggestions:
        return f"What to try next: nothing stands out (a dimension needs {FEWEST_TRIALS} complete trials to be judged)."
    told = (f"  {each.text}\n      {each.section}:\n        {each.study_file}" for each in found.suggestions)
    return "\n".join(["What to try next:", *told])
