"""The part of a report on training: the course of the best trial, the parts of its loss, and many other trials."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pinncore.settings import OPTIMISERS

from ..figures import courses
from ..figures import studies as studyfigures
from ..query.text import shown
from ..states import COMPLETE
from ..trial.tables import settings_of
from .data import ReportStudy, is_row
from .gallery import Gallery
from .page import Html, section, table, tag

CURVES_SHOWN: Final = 100

Row = dict[str, Any]


def training(study: ReportStudy, best: Row, gallery: Gallery) -> Html:
    """Return the section on the course of the best trial, and of many others."""
    curve = study.tables.read("curves", where=is_row(best)).sort_by("evaluations").to_pydict()
    if not curve["step"]:
        return section("Training", tag("p", "No curves were kept.", class_="quiet"))
    curve["phase"] = [best[f"{phase}_stage"] for phase in curve["phase"]]
    several = study.ranking.replicates > 1
    title = f"Trial {best['trial']}" + (f", replicate {best['replicate']}" if several else "")
    first = gallery.hang(
        "training-best",
        partial(courses.training_curves, curve, title=title),
        "Loss, its terms and the error of the best trial over its evaluations, by stage",
        wide=True,
    )
    by_stage, pictures = _by_stage(curve, best, gallery), []
    number = max(1, CURVES_SHOWN // study.ranking.replicates)
    curves = _curves(study, study.ranked["trial"].to_pylist()[:number])
    if len(curves) > 1:
        title_of_many = f"The {number} best trials" if study.ranked.num_rows > number else "All complete trials"
        best_key = (best["trial"], best["replicate"])
        title_of_many += ", every replicate" if several else ""
        pictures.append(
            gallery.hang(
                "training-many",
                partial(courses.error_curves, curves, best=best_key, title=title_of_many),
                "Error of the trials over their evaluations, with the best one highlighted",
                wide=True,
            )
        )
    text = "A lower loss does not mean a lower error. Boundary terms are drawn without their weight in the loss."
    return section(
        "Training",
        tag("p", text, class_="quiet"),
        tag("div", first, class_="figures"),
        by_stage,
        tag("div", *pictures, class_="figures"),
    )


def _by_stage(curve: dict[str, list[Any]], best: Row, gallery: Gallery) -> Html:
    """Return the loss terms at the start and at the end of each stage, with their shares of the loss."""
    moments = _moments(curve)
    terms = [name for name in curve if name.startswith("loss_")]
    shares = {name: _shares(row, terms, best) for name, row in moments.items()}
    heads = ["", "evaluations", "loss", *(term[len("loss_") :] for term in terms), "rel_l2", "grad_norm"]
    rows = []
    for name, row in moments.items():
        cells = [f"{row['evaluations']:,}", shown("loss", row["loss"])]
        for term in terms:
            share = shares[name].get(term)
            cells.append(shown(term, row[term]) + ("" if share is None else f" ({100 * share:.0f} %)"))
        has_error = row["rel_l2"] is not None and math.isfinite(row["rel_l2"])
        cells += [shown("rel_l2", row["rel_l2"]) if has_error else "", shown("grad_norm", row["grad_norm"])]
        rows.append([(name, False), *((cell, True) for cell in cells)])
    terms_table = table([(head, head != "") for head in heads], rows)
    if not all(shares.values()):
        return tag("div", tag("h3", "Loss terms by stage"), terms_table)
    shares_by_term = {
        name: {term[len("loss_") :]: part for term, part in parts.items()} for name, parts in shares.items()
    }
    figure = gallery.hang(
        "loss-terms",
        partial(studyfigures.loss_shares, shares_by_term),
        "Share of each term in the loss at the start and at the end of each stage",
        wide=True,
        caption=False,
    )
    text = "Brackets and picture show the share of each term in the loss, its weight included."
    return tag(
        "div",
        tag("h3", "Loss terms by stage"),
        tag("p", text, class_="quiet"),
        terms_table,
        tag("div", figure, class_="figures"),
    )


def _moments(curve: dict[str, list[Any]]) -> dict[str, Row]:
    """Return the rows of a curve at its start and at the end of each stage, by name.

    A stage ends where the next one begins.
    """
    rows = [dict(zip(curve, values, strict=True)) for values in zip(*curve.values(), strict=True)]
    moments = {"start": rows[0]} if rows[0]["step"] == 0 else {}
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        if after is None or after["phase"] != row["phase"]:
            next_begins = after is not None and after["step"] == 0
            moments[f"after {OPTIMISERS.get(row['phase'], row['phase'])}"] = after if after and next_begins else row
    return moments


def _shares(row: Row, terms: list[str], best: Row) -> dict[str, float]:
    """Return the share of each term in the loss; empty where the weighted terms do not add up to the loss."""
    weights = settings_of(best)[1].term_weights
    parts = {term: (row[term] or 0.0) * weights.get(term[len("loss_") :], 1.0) for term in terms}
    total = sum(parts.values())
    if not math.isclose(total, row["loss"] or 0.0, rel_tol=1e-3) or total <= 0:
        return {}
    return {term: part / total for term, part in parts.items()}


def _curves(study: ReportStudy, trials: list[int]) -> dict[Any, tuple[Any, Any]]:
    """Return evaluations and error of every complete replicate of some trials, by (trial, replicate)."""
    rows = study.rows
    finished = rows.filter(pc.and_(pc.is_in(rows["trial"], pa.array(trials)), pc.equal(rows["state"], COMPLETE)))
    columns = ("trial", "replicate", "evaluations", "rel_l2")
    points = study.tables.read("curves", columns=columns, where=ds.field("trial").isin(trials)).drop_null()
    curves = {}
    for trial, replicate in sorted(zip(finished["trial"].to_pylist(), finished["replicate"].to_pylist(), strict=True)):
        own_points = points.filter(pc.and_(pc.equal(points["trial"], trial), pc.equal(points["replicate"], replicate)))
        if own_points.num_rows:
            curves[trial, replicate] = (own_points["evaluations"].to_numpy(), own_points["rel_l2"].to_numpy())
    return curves
