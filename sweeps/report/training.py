"""The part of a report on training: the course of the best trial, the parts of its loss, and many other trials."""

from __future__ import annotations

import math
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pinncore.settings import OPTIMISERS

from ..figures import courses
from ..figures.studies import loss_shares
from ..query.text import shown
from ..states import COMPLETE
from ..trial.tables import Row, stage_ends
from .data import ReportStudy, is_finite
from .gallery import Gallery
from .page import Html, figures, paragraph, section, table, tag

_CURVES_SHOWN: Final = 100


def training(study: ReportStudy, best: Row, gallery: Gallery) -> Html:
    """Return the section on the course of the best trial, and of many others."""
    if not study.curve["step"]:
        return section("Training", "No curves were kept.")
    curve = study.curve | {"phase": [best[f"{phase}_stage"] for phase in study.curve["phase"]]}
    title = f"Trial {best['trial']}" + (f", replicate {best['replicate']}" if study.several else "")
    first = gallery.hang(
        "training-best",
        courses.training_curves(curve, title=title),
        "Loss, its terms and the error of the best trial over its evaluations, by stage",
        wide=True,
        caption=True,
    )
    by_stage, pictures = _by_stage(study, curve, gallery), []
    number = curves_shown(study)
    curves = curves_of(study, study.ranked["trial"].to_pylist()[:number])
    if len(curves) > 1:
        title = f"The {number} best trials" if study.ranked.num_rows > number else "All complete trials"
        title += ", every replicate" if study.several else ""
        drawing = courses.error_curves(curves, best=(best["trial"], best["replicate"]), title=title)
        description = "Error of the trials over their evaluations, with the best one highlighted"
        pictures.append(gallery.hang("training-many", drawing, description, wide=True, caption=True))
    text = f"Trials rank by {study.objective}. Terms of the loss are drawn without their weights."
    return section("Training", text, figures(first), by_stage, figures(*pictures))


def _by_stage(study: ReportStudy, curve: dict[str, list[Any]], gallery: Gallery) -> Html:
    """Return the loss terms at the start and at the end of each stage, with their shares of the loss."""
    moments = _moments(curve)
    terms = [name.removeprefix("loss_") for name in curve if name.startswith("loss_")]
    shares = {name: _shares(study, row, terms) for name, row in moments.items()}
    rows = []
    for name, row in moments.items():
        cells = [name, f"{row['evaluations']:,}", shown("loss", row["loss"])]
        for term in terms:
            share = shares[name].get(term)
            cells.append(shown("loss", row[f"loss_{term}"]) + ("" if share is None else f" ({100 * share:.0f} %)"))
        error = shown("rel_l2", row["rel_l2"]) if is_finite(row["rel_l2"]) else ""
        rows.append([*cells, error, shown("grad_norm", row["grad_norm"])])
    heads = ["moment", "evaluations", "loss", *(f"loss_{term}" for term in terms), "rel_l2", "grad_norm"]
    parts = [tag("h3", "Loss terms by stage"), table(heads, rows, words=("moment",))]
    if all(shares.values()):
        text = "Brackets and picture show the share of each term in the loss, its weight included."
        description = "Share of each term in the loss at the start and at the end of each stage"
        figure = gallery.hang("loss-terms", loss_shares(shares), description, wide=True)
        parts = [parts[0], paragraph(text), parts[1], figures(figure)]
    return tag("div", *parts)


def _moments(curve: dict[str, list[Any]]) -> dict[str, Row]:
    """Return the rows of a curve at its start and at the end of each stage, by name."""
    first = {name: values[0] for name, values in curve.items()}
    ends = {f"after {OPTIMISERS.get(phase, phase)}": row for phase, row in stage_ends(curve).items()}
    return ({"start": first} if first["step"] == 0 else {}) | ends


def _shares(study: ReportStudy, row: Row, terms: list[str]) -> dict[str, float]:
    """Return the share of each term in the loss; empty where the weighted terms do not add up to the loss."""
    problem = study.solved  # without the weights of a user's problem, terms that have none still add up to the loss
    weights = {} if problem is None else dict(zip(problem.terms, problem.weights, strict=True))
    parts = {term: (row[f"loss_{term}"] or 0.0) * weights.get(term, 1.0) for term in terms}
    total = sum(parts.values())
    if not math.isclose(total, row["loss"] or 0.0, rel_tol=1e-3) or total <= 0:
        return {}
    return {term: part / total for term, part in parts.items()}


def curves_shown(study: ReportStudy) -> int:
    """Return how many trials a picture shows the curves of, at most."""
    return max(1, _CURVES_SHOWN // study.ranking.replicates)


def curves_of(study: ReportStudy, trials: list[int], metric: str = "rel_l2") -> dict[Any, tuple[Any, Any]]:
    """Return evaluations and a metric of every complete replicate of some trials, by (trial, replicate)."""
    rows = study.rows
    finished = rows.filter(pc.and_(pc.is_in(rows["trial"], pa.array(trials)), pc.equal(rows["state"], COMPLETE)))
    columns = ("trial", "replicate", "evaluations", metric)
    points = study.read("curves", columns=columns, where=ds.field("trial").isin(trials)).drop_null()
    curves = {}
    for trial, replicate in sorted(zip(finished["trial"].to_pylist(), finished["replicate"].to_pylist(), strict=True)):
        own_points = points.filter(pc.and_(pc.equal(points["trial"], trial), pc.equal(points["replicate"], replicate)))
        if own_points.num_rows:
            curves[trial, replicate] = (own_points["evaluations"].to_numpy(), own_points[metric].to_numpy())
    return curves
