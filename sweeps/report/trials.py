"""The parts of a report on many trials: their spread over seeds, their compromises, and results against settings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..analysis.effects import MarginalEffect, marginal_effects
from ..figures import studies as studyfigures
from ..figures import trials as trialfigures
from ..figures.drawing import spans_decades
from ..figures.studies import Scaled
from ..figures.trials import Band, guessed_scale
from ..query.ranking import dimensions
from .data import ReportStudy, drawn_of, in_per_cent
from .gallery import Gallery
from .page import Html, section, tag

SPREADS_SHOWN: Final = 10
LINES_SHOWN: Final = 600  # of parallel coordinates
POINTS_SHOWN: Final = 3_000  # of one scatter
POINTS_OF_ALL: Final = 12_000  # of the scatters of all settings together


def seed_spread(study: ReportStudy, gallery: Gallery) -> Html:
    """How far the replicates of the best trials lie apart."""
    if study.ranking.replicates == 1:
        return Html()
    label, factor = in_per_cent(study.objective)
    best = study.ranked.slice(0, SPREADS_SHOWN)
    values = {
        trial: [factor * v for v in study.values_of(trial, study.objective)] for trial in best["trial"].to_pylist()
    }
    middles = [factor * value for value in best[study.objective].to_pylist()]
    told = (
        f"A point is one of {study.ranking.replicates} replicates, which differ in their seed alone; the bar is their "
        f"{study.middle}, by which trials rank. Where the points of two trials overlap, chance may have ordered them."
    )
    drawn = gallery.hang(
        "seeds",
        partial(trialfigures.replicate_spread, values, middles, label=label, middle=study.middle),
        f"{study.objective} of every replicate of the {len(values)} best trials",
        wide=True,
        caption=False,
    )
    return section("Spread over the seeds", tag("p", told, class_="quiet"), tag("div", drawn, class_="figures"))


def compromises(study: ReportStudy, gallery: Gallery) -> Html:
    """Trials by the first two of several objectives."""
    if len(study.ranking.objectives) == 1:
        return Html()
    first, second = study.ranking.objectives[:2]
    labels, factors = zip(*(in_per_cent(name) for name in (first, second)), strict=True)
    known = study.ranked.filter(pc.is_valid(study.ranked["pareto"]))
    values = np.stack(
        [factor * known[name].to_numpy() for name, factor in zip((first, second), factors, strict=True)], 1
    )
    on_front = known["pareto"].to_numpy(zero_copy_only=False).astype(bool)
    told = (
        f"Best compromises: {int(on_front.sum()):,} of {len(on_front):,} complete trials. No other is as good in all "
        f"of {', '.join(study.ranking.objectives)} and better in one. The best of them in {first} ranks first."
    )
    shown = on_front.copy()
    shown[drawn_of(len(values), POINTS_SHOWN)] = True
    drawn = gallery.hang(
        "compromises",
        partial(trialfigures.compromises, values[shown], on_front[shown], labels=labels),
        f"{first} and {second} of every trial",
        wide=True,
        caption=False,
    )
    return section(f"{first} against {second}", tag("p", told, class_="quiet"), tag("div", drawn, class_="figures"))


def parallel(study: ReportStudy, gallery: Gallery) -> Html:
    """Every complete trial as a line over its settings and its objective."""
    number = study.ranked.num_rows
    good = min(20, max(3, number // 10), number)
    lines = study.ranked.take(_places([*range(good), *(good + at for at in drawn_of(number - good, LINES_SHOWN))]))
    settings = study.settings(lines)
    columns = []
    for name, kind in dimensions(study.file).items():
        if name in settings:
            there = study.exists(name, settings)
            values = [value if exists else None for value, exists in zip(settings[name], there, strict=True)]
            scale = guessed_scale([value for value in values if value is not None], kind=kind)
            columns.append(Scaled(name, values, scale))
    if not columns or number < 3:
        return Html()
    label, factor = in_per_cent(study.objective)
    errors = [factor * value for value in lines[study.objective].to_pylist()]
    columns.append(Scaled(label, errors, "log" if spans_decades(np.array(errors)) else "linear"))
    drawn = gallery.hang(
        "parallel",
        partial(studyfigures.parallel_coordinates, columns, good=good, others=number - good),
        f"Every setting and {study.objective} of the trials as a line each",
        wide=True,
        caption=False,
    )
    told = f"A line is a complete trial, from its first setting to its {study.objective}; low is at the bottom."
    if len(errors) < number:
        told += f" Of the {number:,} trials the {good} best are drawn, and {len(errors) - good:,} spread over the rest."
    return section("All settings together", tag("p", told, class_="quiet"), tag("div", drawn, class_="figures"))


def against_settings(study: ReportStudy, gallery: Gallery) -> Html:
    """The objective of every trial against each swept setting."""
    label, factor = in_per_cent(study.objective)
    groups = {"": study.ranked, "failed": study.failed, "pruned": study.pruned}
    most = min(POINTS_SHOWN, max(500, POINTS_OF_ALL // max(len(dimensions(study.file)), 1)))
    room = {"": most, "failed": most // 10, "pruned": most // 10}
    lines = {end: each.take(_places(drawn_of(each.num_rows, room[end]))) for end, each in groups.items()}
    settings = {end: study.settings(each) for end, each in lines.items()}
    errors = factor * lines[""][study.objective].to_numpy()
    effects = {effect.name: effect for effect in marginal_effects(study.judged)}
    pictures = []
    for name, kind in dimensions(study.file).items():
        if name not in settings[""]:
            continue  # a setting of another problem than this version knows
        kept = {end: np.flatnonzero(study.exists(name, each)).tolist() for end, each in settings.items()}
        values, failed, pruned = (
            ["none" if each[name][line] is None else each[name][line] for line in kept[end]]
            for end, each in settings.items()
        )
        if not values:
            continue
        drawing = partial(
            trialfigures.error_against,
            name,
            values,
            errors[kept[""]],
            scale=guessed_scale([*values, *failed, *pruned], kind=kind),
            best=0 if kept[""][0] == 0 else None,
            bands=list(_bands(effects.get(name), factor)),
            unfinished={"failed": failed, "pruned": pruned},
            label=label,
        )
        pictures.append(
            gallery.hang(f"against-{name}", drawing, f"{study.objective} of every trial against {name}", caption=False)
        )
    if not pictures:
        return Html()
    first = "One point a complete trial, the best one circled; bars are medians, on a ground from quartile to quartile."
    told = [f"{first} {_caveats(study, lines)}"]
    told += [
        f"With {name} = {effect.failing} more trials fail than chance would have it."
        for name, effect in effects.items()
        if effect.failing
    ]
    return section(
        f"{study.objective} against each swept setting",
        *(tag("p", text, class_="quiet") for text in told),
        tag("div", *pictures, class_="figures three"),
    )


def _places(numbers: list[int]) -> pa.Array:
    return pa.array(numbers, pa.int64())


def _bands(effect: MarginalEffect | None, factor: float) -> Iterator[Band]:
    """The quartiles of the trials between two values of a range."""
    for group in effect.groups if effect else ():
        ends = [end for end in (group.low, group.high) if end is not None]
        quartiles = [factor * each for each in (group.lower, group.median, group.upper) if each is not None]
        if len(ends) == 2 and len(quartiles) == 3:  # a range, with complete trials in it
            yield Band(*ends, *quartiles)


def _caveats(study: ReportStudy, lines: dict[str, pa.Table]) -> str:
    """What such pictures cannot show, where the search was not even over the space."""
    told = []
    if (number := study.ranked.num_rows) > (shown := lines[""].num_rows):
        told.append(
            f"Of {number:,} trials {shown:,} are drawn, evenly over their ranks, and fewer of those that failed."
        )
    if study.judged.is_adaptive:
        told.append("The sampler drew more trials where it expected small values, so bars are no fair comparison.")
    if study.pruned.num_rows:
        told.append("Pruned trials have no value: the bars are of those that were good enough to go on.")
    if any("when" in (dimension or {}) for dimension in (study.file.get("space") or {}).values()):
        told.append("A setting with a condition shows the trials in which it exists.")
    return " ".join(told)
