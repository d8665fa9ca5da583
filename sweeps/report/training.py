"""The part of a report on training: the course of the best trial, what its loss was made of, and many trials beside."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ..figures import courses
from ..figures import studies as studyfigures
from ..query.text import shown
from ..spec.descriptions import STAGES
from ..states import COMPLETE
from .data import ReportStudy, is_row
from .gallery import Gallery
from .page import Html, section, table, tag

CURVES_SHOWN: Final = 100
_WEIGHTED: Final = ("lrb", "btb")  # terms with boundary_weight before them

Row = dict[str, Any]


def training(study: ReportStudy, best: Row, gallery: Gallery) -> Html:
    """The course of the best trial, and of many beside it."""
    own = study.tables.read("curves", where=is_row(best)).sort_by("evaluations").to_pydict()
    if not own["step"]:
        return section("Training", tag("p", "No curves were kept.", class_="quiet"))
    own["phase"] = [best[f"{phase}_stage"] for phase in own["phase"]]
    several = study.ranking.replicates > 1
    title = f"Trial {best['trial']}" + (f", replicate {best['replicate']}" if several else "")
    first = gallery.hang(
        "training-best",
        partial(courses.training_curves, own, title=title),
        "Loss, its terms and the error of the best trial over its evaluations, by phase",
        wide=True,
    )
    by_phase, pictures = _by_phase(own, best, gallery), []
    number = max(1, CURVES_SHOWN // study.ranking.replicates)
    curves = _curves(study, study.ranked["trial"].to_pylist()[:number])
    if len(curves) > 1:
        whose = f"The {number} best trials" if study.ranked.num_rows > number else "All complete trials"
        chosen = (best["trial"], best["replicate"])
        whose += ", every replicate" if several else ""
        pictures.append(
            gallery.hang(
                "training-many",
                partial(courses.error_curves, curves, best=chosen, title=whose),
                "Error of the trials over their evaluations, the best one standing out",
                wide=True,
            )
        )
    told = "The loss does not rank trials, the error does. Boundary terms are drawn before their weight in the loss."
    return section(
        "Training",
        tag("p", told, class_="quiet"),
        tag("div", first, class_="figures"),
        by_phase,
        tag("div", *pictures, class_="figures"),
    )


def _by_phase(curve: dict[str, list[Any]], best: Row, gallery: Gallery) -> Html:
    """The loss terms at the start and at the end of each phase, and what share of the loss each was."""
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
        known = row["rel_l2"] is not None and math.isfinite(row["rel_l2"])
        cells += [shown("rel_l2", row["rel_l2"]) if known else "", shown("grad_norm", row["grad_norm"])]
        rows.append([(name, False), *((cell, True) for cell in cells)])
    listed = table([(head, head != "") for head in heads], rows)
    if not all(shares.values()):
        return tag("div", tag("h3", "Loss terms by phase"), listed)
    named = {name: {term[len("loss_") :]: part for term, part in each.items()} for name, each in shares.items()}
    drawn = gallery.hang(
        "loss-terms",
        partial(studyfigures.loss_shares, named),
        "Share of each term in the loss at the start and at the end of each phase",
        wide=True,
        caption=False,
    )
    told = "In brackets, and in the picture: the share of the loss, the term's weight included."
    return tag(
        "div",
        tag("h3", "Loss terms by phase"),
        tag("p", told, class_="quiet"),
        listed,
        tag("div", drawn, class_="figures"),
    )


def _moments(curve: dict[str, list[Any]]) -> dict[str, Row]:
    """The rows of a curve at its start and at the end of each phase, by name; a phase ends where the next begins."""
    rows = [dict(zip(curve, values, strict=True)) for values in zip(*curve.values(), strict=True)]
    found = {"start": rows[0]} if rows[0]["step"] == 0 else {}
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        if after is None or after["phase"] != row["phase"]:
            begun = after is not None and after["step"] == 0
            found[f"after {STAGES.get(row['phase'], row['phase'])}"] = after if after and begun else row
    return found


def _shares(row: Row, terms: list[str], best: Row) -> dict[str, float]:
    """The share of each term in the loss, empty where the weighted terms do not add up to it."""
    weights = {f"loss_{name}": best["boundary_weight"] for name in _WEIGHTED}
    parts = {term: (row[term] or 0.0) * (weights.get(term, 1.0) or 0.0) for term in terms}
    total = sum(parts.values())
    if not math.isclose(total, row["loss"] or 0.0, rel_tol=1e-3) or total <= 0:
        return {}
    return {term: part / total for term, part in parts.items()}


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
