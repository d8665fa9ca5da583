"""The parts of a report on many trials: their spread over seeds, their compromises, and results against settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..analysis.effects import MarginalEffect, marginal_effects
from ..figures import studies as studyfigures
from ..figures.drawing import spans_decades, spread_indices
from ..figures.studies import Band, Scaled, guessed_scale
from ..query.ranking import dimensions
from .data import ReportStudy, in_per_cent
from .gallery import Gallery
from .page import Html, figures, section

SPREADS_SHOWN: Final = 10
LINES_SHOWN: Final = 600  # of parallel coordinates
POINTS_SHOWN: Final = 3_000  # of one scatter
POINTS_OF_ALL: Final = 12_000  # of the scatters of all settings together


def seed_spread(study: ReportStudy, gallery: Gallery) -> Html:
    """Return the section on the spread of the best trials over their replicates."""
    if not study.several:
        return Html()
    label, factor = in_per_cent(study.objective, study.problem)
    best = study.ranked.slice(0, SPREADS_SHOWN)
    values = {
        trial: [factor * v for v in study.values_of(trial, study.objective)] for trial in best["trial"].to_pylist()
    }
    middles = [factor * value for value in best[study.objective].to_pylist()]
    text = (
        f"Each point is one of {study.ranking.replicates} replicates, which differ only in their seed. The bar is "
        f"their {study.middle}, by which trials rank. Where the points of two trials overlap, chance may decide their "
        "order."
    )
    drawing = studyfigures.replicate_spread(values, middles, label=label, middle=study.middle)
    description = f"{study.objective} of every replicate of the {len(values)} best trials"
    return section("Spread over the seeds", text, figures(gallery.hang("seeds", drawing, description, wide=True)))


def compromises(study: ReportStudy, gallery: Gallery) -> Html:
    """Return the section on trials by the first two of several objectives; empty where there is only one."""
    if len(study.ranking.objectives) == 1:
        return Html()
    first, second = study.ranking.objectives[:2]
    labels, factors = zip(*(in_per_cent(name, study.problem) for name in (first, second)), strict=True)
    lines = study.ranked.filter(pc.is_valid(study.ranked["pareto"]))
    values = np.stack([lines[first].to_numpy(), lines[second].to_numpy()], axis=1) * factors
    on_front = lines["pareto"].to_numpy(zero_copy_only=False).astype(bool)
    text = (
        f"Best compromises: {int(on_front.sum()):,} of {len(on_front):,} complete trials. For each of them, no other "
        f"trial is at least as good in all of {', '.join(study.ranking.objectives)} and better in one. Among them, the "
        f"trial with the lowest {first} ranks first."
    )
    shown = on_front.copy()
    shown[spread_indices(len(values), POINTS_SHOWN)] = True
    drawing = studyfigures.compromises(values[shown], on_front[shown], labels=labels)
    figure = gallery.hang("compromises", drawing, f"{first} and {second} of every trial", wide=True)
    return section(f"{first} against {second}", text, figures(figure))


def parallel(study: ReportStudy, gallery: Gallery) -> Html:
    """Return the section that draws every complete trial as a line over its settings and its objective."""
    number = study.ranked.num_rows
    good = min(20, max(3, number // 10), number)
    lines = study.ranked.take(np.concatenate([np.arange(good), good + spread_indices(number - good, LINES_SHOWN)]))
    settings = study.settings(lines)
    columns = []
    for name, kind in dimensions(study.file).items():
        if name in settings:
            existing = study.exists(name, settings)
            values = [value if exists else None for value, exists in zip(settings[name], existing, strict=True)]
            scale = guessed_scale([value for value in values if value is not None], kind=kind)
            columns.append(Scaled(name, values, scale))
    if not columns or number < 3:
        return Html()
    label, factor = in_per_cent(study.objective, study.problem)
    errors = [factor * value for value in lines[study.objective].to_pylist()]
    columns.append(Scaled(label, errors, "log" if spans_decades(np.array(errors)) else "linear"))
    drawing = studyfigures.parallel_coordinates(columns, good=good, others=number - good)
    description = f"Every setting and {study.objective} of the trials, one line per trial"
    text = (
        f"Each line is a complete trial, from its first setting to its {study.objective}. Low values are at the bottom."
    )
    if len(errors) < number:
        text += (
            f" The {good} best of {number:,} trials are drawn, and {len(errors) - good:,} of the others, spread evenly."
        )
    return section("All settings together", text, figures(gallery.hang("parallel", drawing, description, wide=True)))


def against_settings(study: ReportStudy, gallery: Gallery) -> Html:
    """Return the section on the objective of every trial against each swept setting."""
    label, factor = in_per_cent(study.objective, study.problem)
    groups = {"": study.ranked, "failed": study.failed, "pruned": study.pruned}
    most = min(POINTS_SHOWN, max(500, POINTS_OF_ALL // max(len(dimensions(study.file)), 1)))
    room = {"": most, "failed": most // 10, "pruned": most // 10}
    lines = {end: table.take(spread_indices(table.num_rows, room[end])) for end, table in groups.items()}
    settings = {end: study.settings(table) for end, table in lines.items()}
    errors = factor * lines[""][study.objective].to_numpy()
    effects = {effect.name: effect for effect in marginal_effects(study.judged)}
    pictures = []
    for name, kind in dimensions(study.file).items():
        if name not in settings[""]:
            continue  # a setting of a problem that this version does not know
        indices = {end: np.flatnonzero(study.exists(name, table)).tolist() for end, table in settings.items()}
        values, failed, pruned = (
            ["none" if table[name][line] is None else table[name][line] for line in indices[end]]
            for end, table in settings.items()
        )
        if not values:
            continue
        drawing = studyfigures.error_against(
            name,
            values,
            errors[indices[""]],
            scale=guessed_scale([*values, *failed, *pruned], kind=kind),
            best=0 if indices[""][0] == 0 else None,
            bands=list(_bands(effects.get(name), factor)),
            unfinished={"failed": failed, "pruned": pruned},
            label=label,
        )
        description = f"{study.objective} of every trial against {name}"
        pictures.append(gallery.hang(f"against-{name}", drawing, description))
    if not pictures:
        return Html()
    first = "Each point is a complete trial; the best is circled. Bars are medians, shaded from quartile to quartile."
    failing = (
        f"With {name} = {effect.failing}, more trials fail than expected by chance."
        for name, effect in effects.items()
        if effect.failing
    )
    return section(
        f"{study.objective} against each swept setting",
        f"{first} {_caveats(study, lines)}",
        *failing,
        figures(*pictures, columns="three"),
    )


def _bands(effect: MarginalEffect | None, factor: float) -> Iterator[Band]:
    """Yield the quartiles of the trials between two values of a range."""
    for group in effect.groups if effect else ():
        ends = [end for end in (group.low, group.high) if end is not None]
        quartiles = [factor * value for value in (group.lower, group.median, group.upper) if value is not None]
        if len(ends) == 2 and len(quartiles) == 3:  # a range, with complete trials in it
            yield Band(*ends, *quartiles)


def _caveats(study: ReportStudy, lines: dict[str, pa.Table]) -> str:
    """Return the sentences on what the pictures do not show."""
    sentences = []
    if (number := study.ranked.num_rows) > (shown := lines[""].num_rows):
        sentences.append(
            f"Of {number:,} trials, {shown:,} are drawn, evenly over their ranks, and fewer of those that failed."
        )
    if study.judged.traits.learns:
        sentences.append(
            "The sampler drew more trials where it expected small values, so the bars are not a fair comparison."
        )
    if study.pruned.num_rows:
        sentences.append("Pruned trials have no value, so the bars cover only trials that were good enough to go on.")
    if any("when" in (dimension or {}) for dimension in (study.file.get("space") or {}).values()):
        sentences.append("For a setting with a condition, only trials in which it exists are drawn.")
    return " ".join(sentences)
