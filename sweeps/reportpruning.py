"""The section of a report on pruning: how well the order of the trials at each rung foretold their order at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.dataset as ds

from .errors import SpecError
from .fairness import RungFairness, rung_correlations
from .page import Html, section, table, tag
from .reportdata import ReportStudy
from .spec import parse_spec
from .specmodel import PrunerSettings
from .starting import pruning_metrics
from .studyfile import whole_text

MOST_JUDGED: Final = 10_000  # trials; of more so many are drawn, which says the same
FEW: Final = 20  # trials of which a rank correlation is little more than chance


def pruning(study: ReportStudy) -> Html:
    """A table of the rungs: what pruning there went by, or would have gone by."""
    try:
        spec = parse_spec(whole_text(study.folder), base=Path(str(study.folder)), look=False)
    except SpecError:
        told = "The rungs are not known: the study file can no longer be used as it is."
        return section("Pruning", tag("p", told, class_="quiet")) if study.pruned.num_rows else Html()
    settings = spec.search.pruner.model_copy(update={"metric": pruning_metrics(spec)[0]})
    found, drawn = _rungs(study, settings)
    if settings.kind == "none" and all(rung.correlation is None for rung in found):
        return Html()
    heads = ["share of steps", "trials", "rank correlation"]
    cells = [[f"{100 * rung.rung:.3g} %", f"{rung.trials:,}", _correlation(rung)] for rung in found]
    if settings.kind not in ("none", "patience"):
        heads.append("pruned there")
        for row, rung in zip(cells, found, strict=True):
            row.append(f"{rung.pruned:,}")
    title = "Would early stopping have been fair?" if settings.kind == "none" else "Pruning"
    return section(
        title,
        tag("p", _what_was_done(study, settings), class_="quiet"),
        table([(head, True) for head in heads], [[(cell, True) for cell in row] for row in cells], narrow=True),
        tag("p", _meaning(study, settings, found, drawn), class_="quiet"),
    )


def _rungs(study: ReportStudy, settings: PrunerSettings) -> tuple[list[RungFairness], int | None]:
    """The fairness of each rung, and how many trials were drawn to find it, None for all."""
    columns = ["trial", "replicate", "state", "adam_epochs", "lbfgs_iterations", study.objective]
    where, drawn = ds.field("duplicate_of").is_null(), None
    numbers = np.concatenate([lines["trial"].to_numpy() for lines in (study.ranked, study.pruned)])
    if len(numbers) > MOST_JUDGED:
        drawn = MOST_JUDGED
        chosen = np.random.default_rng(0).choice(numbers, drawn, replace=False)
        where &= ds.field("trial").isin(chosen.tolist())
    trials = study.tables.read("trials", columns=columns, where=where)
    members = ds.field("trial").isin(trials["trial"].unique().to_pylist()) if drawn else None
    names = ("trial", "replicate", "phase", "step", settings.metric or "loss")
    curves = study.tables.read("curves", columns=names, where=members)
    return rung_correlations(curves, trials, settings, study.objective), drawn


def _correlation(rung: RungFairness) -> str:
    return "not known" if rung.correlation is None else f"{rung.correlation:.2f}"


def _what_was_done(study: ReportStudy, settings: PrunerSettings) -> str:
    number, metric = study.pruned.num_rows, settings.metric
    trials = f"{number:,} trial was" if number == 1 else f"{number:,} trials were"
    match settings.kind:
        case "none":
            return f"No trial was pruned. The table says what {metric} early in training tells of its end."
        case "patience":
            return f"{trials} ended because {metric} no longer improved, at whatever step that was."
        case _:
            return f"{trials} ended early by {settings.kind}, which compares trials by {metric} at these rungs."


def _meaning(study: ReportStudy, settings: PrunerSettings, found: Sequence[RungFairness], drawn: int | None) -> str:
    """What the correlation means, and when to distrust it."""
    told = (
        f"The rank correlation is Spearman's, of {settings.metric} at the rung and {study.objective} at the end, over "
        "complete trials: near 1 the worst at the rung were the worst at the end, and near 0 chance decides who stops "
        f"there. Distrust it below about {FEW} trials"
    )
    if settings.kind != "none":
        told += ", and where many were pruned: it knows only those that went on"
    few = min((rung.trials for rung in found), default=0)
    told += f"; here it is of {few:,} trials at one rung." if few < FEW else "."
    return told + (f" {drawn:,} trials were drawn for it." if drawn else "")
