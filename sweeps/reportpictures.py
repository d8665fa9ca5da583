"""The sections of a report that are pictures."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from . import figures, trialfigures
from .page import Html, picture, section, tag
from .ranking import dimensions
from .reportdata import ReportStudy, in_per_cent, is_row
from .trials import COMPLETE

CURVES_SHOWN: Final = 100
SPREADS_SHOWN: Final = 10


def fields(study: ReportStudy, best: dict[str, Any]) -> Html:
    """The predicted strain field of the best trial, beside the reference and their difference."""
    found = study.tables.read("fields", where=is_row(best)).to_pydict()
    field = {name: np.array(found[name], dtype=float) for name in ("x_mm", "y_mm", "predicted", "reference")}
    if len(field["x_mm"]) < 3:
        return section(
            "Field of the best trial", tag("p", "It was not kept (results: fields in the study file).", class_="quiet")
        )
    x_mm, y_mm, predicted, reference = field.values()
    known = bool(np.isfinite(reference).all())
    scale = reference if known else predicted
    limits = (min(0.0, float(scale.min())), float(scale.max()))
    number = best["trial"]
    pictures = [
        picture(
            figures.strain_field(x_mm, y_mm, predicted, title="Predicted", limits=limits),
            f"Non-local strain predicted by trial {number}",
        )
    ]
    if known:
        error = predicted - reference
        worst = int(np.abs(error).argmax())
        largest = f"largest {error[worst]:.3g} at x = {x_mm[worst]:.1f} mm, y = {y_mm[worst]:.1f} mm"
        pictures += [
            picture(
                figures.strain_field(x_mm, y_mm, reference, title="Reference", limits=limits),
                "Finite-element reference, on the same colour scale",
            ),
            picture(
                figures.strain_error(x_mm, y_mm, error, title="Error"),
                f"Prediction minus reference at each Gauss point, {largest}",
            ),
        ]
    told = f"Non-local equivalent strain (dimensionless) at {len(x_mm):,} Gauss points, lengths in mm. " + (
        "Predicted and reference share one colour scale; the error's ends at its 99.5th percentile."
        if known
        else "The data have no reference field."
    )
    return section(
        "Field of the best trial", tag("p", told, class_="quiet"), tag("div", *pictures, class_="figures three")
    )


def training(study: ReportStudy, best: dict[str, Any]) -> Html:
    """The course of the best trial, and of many beside it."""
    own = study.tables.read("curves", where=is_row(best)).to_pydict()
    if not own["step"]:
        return section("Training", tag("p", "No curves were kept.", class_="quiet"))
    several = study.rules.replicates > 1
    title = f"Trial {best['trial']}" + (f", replicate {best['replicate']}" if several else "")
    pictures = [
        picture(
            figures.training_curves(own, title=title),
            "Loss, its terms and the error of the best trial over its evaluations, by phase",
            wide=True,
        )
    ]
    shown = max(1, CURVES_SHOWN // study.rules.replicates)
    curves = _curves(study, study.ranked["trial"].to_pylist()[:shown])
    if len(curves) > 1:
        whose = f"The {shown} best trials" if study.ranked.num_rows > shown else "All complete trials"
        pictures.append(
            picture(
                figures.error_curves(
                    curves,
                    best=(best["trial"], best["replicate"]),
                    title=whose + (", every replicate" if several else ""),
                ),
                "Error of the trials over their evaluations, the best one standing out",
                wide=True,
            )
        )
    told = "The loss does not rank trials, the error does. Boundary terms are drawn before their weight in the loss."
    return section("Training", tag("p", told, class_="quiet"), tag("div", *pictures, class_="figures"))


def _curves(study: ReportStudy, trials: list[int]) -> dict[Any, tuple[Any, Any]]:
    """Evaluations and error of every replicate of some trials that was trained to the end, by (trial, replicate)."""
    rows = study.rows
    finished = rows.filter(pc.and_(pc.is_in(rows["trial"], pa.array(trials)), pc.equal(rows["state"], COMPLETE)))
    columns = ("trial", "replicate", "evaluations", "rel_l2")
    found = study.tables.read("curves", columns=columns, where=ds.field("trial").isin(trials)).drop_null()
    curves = {}
    for trial, replicate in sorted(zip(finished["trial"].to_pylist(), finished["replicate"].to_pylist(), strict=True)):
        part = found.filter(pc.and_(pc.equal(found["trial"], trial), pc.equal(found["replicate"], replicate)))
        if part.num_rows:
            curves[trial, replicate] = (part["evaluations"].to_numpy(), part["rel_l2"].to_numpy())
    return curves


def seed_spread(study: ReportStudy) -> Html:
    """How far the replicates of the best trials lie apart."""
    if study.rules.replicates == 1:
        return Html()
    label, factor = in_per_cent(study.objective)
    best = study.ranked.slice(0, SPREADS_SHOWN)
    values = {
        trial: [factor * v for v in study.values_of(trial, study.objective)] for trial in best["trial"].to_pylist()
    }
    middles = [factor * value for value in best[study.objective].to_pylist()]
    drawn = trialfigures.replicate_spread(values, middles, label=label, middle=study.middle)
    told = (
        f"A point is one of {study.rules.replicates} replicates, which differ in their seed alone; the bar is their "
        f"{study.middle}, by which trials rank. Where the points of two trials overlap, chance may have ordered them."
    )
    shown = f"{study.objective} of every replicate of the {len(values)} best trials"
    return section(
        "Spread over the seeds",
        tag("p", told, class_="quiet"),
        tag("div", picture(drawn, shown, wide=True, caption=False), class_="figures"),
    )


def compromises(study: ReportStudy) -> Html:
    """Trials by the first two of several objectives."""
    if len(study.rules.objectives) == 1:
        return Html()
    first, second = study.rules.objectives[:2]
    labels, factors = zip(*(in_per_cent(name) for name in (first, second)), strict=True)
    known = study.ranked.filter(pc.is_valid(study.ranked["pareto"]))
    values = np.stack(
        [factor * known[name].to_numpy() for name, factor in zip((first, second), factors, strict=True)], 1
    )
    on_front = known["pareto"].to_numpy(zero_copy_only=False).astype(bool)
    drawn = trialfigures.compromises(values, on_front, labels=labels)
    told = (
        f"Best compromises: {int(on_front.sum()):,} of {len(on_front):,} complete trials. No other is as good in all "
        f"of {', '.join(study.rules.objectives)} and better in one. The best of them in {first} ranks first."
    )
    return section(
        f"{first} against {second}",
        tag("p", told, class_="quiet"),
        tag("div", picture(drawn, f"{first} and {second} of every trial", wide=True, caption=False), class_="figures"),
    )


def against_settings(study: ReportStudy) -> Html:
    """The objective of every trial against each swept setting."""
    label, factor = in_per_cent(study.objective)
    errors = factor * study.ranked[study.objective].to_numpy()
    groups = {"": study.ranked, "failed": study.failed, "pruned": study.pruned}
    settings = {end: study.settings(lines) for end, lines in groups.items()}
    pictures = []
    for name, kind in dimensions(study.file).items():
        if name not in settings[""]:
            continue  # a setting of another problem than this version knows
        kept = {
            end: [line for line in range(len(each[name])) if study.exists(name, each, line)]
            for end, each in settings.items()
        }
        values, failed, pruned = (
            ["none" if each[name][line] is None else each[name][line] for line in kept[end]]
            for end, each in settings.items()
        )
        if not values:
            continue
        drawn = trialfigures.error_against(
            name,
            values,
            errors[kept[""]],
            scale=trialfigures.guessed_scale([*values, *failed, *pruned], kind=kind),
            best=0 if kept[""][0] == 0 else None,
            unfinished={"failed": failed, "pruned": pruned},
            label=label,
        )
        pictures.append(picture(drawn, f"{study.objective} of every trial against {name}", caption=False))
    if not pictures:
        return Html()
    told = f"One point a complete trial, the best one circled; bars are medians. {_caveats(study)}"
    return section(
        f"{study.objective} against each swept setting",
        tag("p", told, class_="quiet"),
        tag("div", *pictures, class_="figures three"),
    )


def _caveats(study: ReportStudy) -> str:
    """What such pictures cannot show, where the search was not even over the space."""
    told = []
    if (study.file.get("search") or {}).get("sampler") in ("tpe", "gp", "cmaes", "nsga2"):
        told.append("The sampler drew more trials where it expected small values, so bars are no fair comparison.")
    if study.pruned.num_rows:
        told.append("Pruned trials have no value: the bars are of those that were good enough to go on.")
    if any("when" in (dimension or {}) for dimension in (study.file.get("space") or {}).values()):
        told.append("A setting with a condition shows the trials in which it exists.")
    return " ".join(told)


def weights(study: ReportStudy, best: dict[str, Any]) -> Html:
    """The weights of the best trial at the epochs that were kept."""
    found = study.tables.read("weights", where=is_row(best)).to_pydict()
    if not found["epoch"]:
        return Html()
    epoch, layer, row, column, value = (np.array(found[n]) for n in ("epoch", "layer", "row", "column", "value"))
    pictures = []
    for number in np.unique(layer):
        maps = {}
        for at in np.unique(epoch):
            own = (layer == number) & (epoch == at)
            weights = np.full((row[own].max() + 2, column[own].max() + 1), np.nan)
            weights[np.where(row[own] < 0, -1, row[own]), column[own]] = value[own]
            maps[int(at)] = weights
        title = f"Layer {number}" + (", the output" if number == layer.max() else "")
        pictures.append(
            picture(
                figures.weight_maps(maps, title=title), f"Weights of layer {number} by epoch", wide=True, caption=False
            )
        )
    told = "Rows are input units with the bias below, columns output units. After Adam an epoch is an L-BFGS iteration."
    return section(
        "Weights of the best trial by epoch",
        tag("p", told, class_="quiet"),
        tag("details", tag("summary", f"Show {len(pictures)} layers"), tag("div", *pictures, class_="figures")),
    )
