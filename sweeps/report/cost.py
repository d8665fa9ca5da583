"""The part of a report on cost: device hours, evaluations, time a trial, and what went into trials without a result."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pinncore.settings import PHASES

from ..figures import studies as studyfigures
from ..figures.drawing import Array
from ..query.ranking import front
from ..query.text import duration
from .data import ReportStudy, drawn_of, in_per_cent
from .gallery import Gallery
from .page import Html, section, table, tag
from .trials import POINTS_SHOWN

PACKS_SHOWN: Final = 8


def cost(study: ReportStudy, gallery: Gallery) -> Html:
    """What the study cost, and what an error costs."""
    rows = study.rows.filter(pc.and_(pc.is_null(study.rows["taken_from"]), pc.is_valid(study.rows["seconds"])))
    if not rows.num_rows:
        return Html()
    pictures = []
    if times := _seconds(study, rows):
        drawing = partial(studyfigures.cost_distribution, times, title="Time a trial")
        pictures.append(gallery.hang("cost-times", drawing, "How many trials took how long", caption=False))
    if study.ranked.num_rows > 2 and "seconds" in study.ranked.column_names:
        pictures.append(_against_error(study, gallery))
    return section(
        "Cost",
        tag("p", " ".join(_sentences(study, rows)), class_="quiet"),
        tag("div", *(picture for picture in pictures if picture), class_="figures two"),
        tag("h3", "By pack"),
        tag("p", _packs_told(rows), class_="quiet"),
        _by_pack(rows),
    )


def _sentences(study: ReportStudy, rows: pa.Table) -> Iterator[str]:
    total = pc.sum(rows["seconds"]).as_py()
    by_device = rows.group_by("device").aggregate([("seconds", "sum")]).sort_by("device").to_pylist()
    hours = ", ".join(f"{each['seconds_sum'] / 3600:.3g} {each['device'] or 'unknown'} hours" for each in by_device)
    evaluations = pc.sum(rows["evaluations"]).as_py() or 0
    yield f"{hours} of training: {duration(total)} for {evaluations:,} evaluations of loss and gradient"
    yield f"({1000 * total / evaluations:.3g} ms each)." if evaluations else "."
    first, second = (pc.sum(rows[f"{stage}_seconds"]).as_py() or 0.0 for stage in PHASES)
    if first + second > 0:
        yield f"{100 * first / (first + second):.0f} % of the time went into first stages, the rest into second ones."
    seconds = rows["seconds"].to_numpy()
    low, middle, high = np.quantile(seconds, [0.05, 0.5, 0.95])
    whose = "A replicate" if study.ranking.replicates > 1 else "A trial"
    yield f"{whose} took {middle:.3g} s (median), 90 % of them {low:.3g} to {high:.3g} s."
    for state, named in (("FAIL", "that failed"), ("PRUNED", "that were pruned")):
        lost = pc.sum(rows.filter(pc.equal(rows["state"], state))["seconds"]).as_py()
        if lost:
            yield f"{duration(lost)} ({100 * lost / total:.2g} %) went into trainings {named}."


def _seconds(study: ReportStudy, rows: pa.Table) -> dict[str, Array]:
    """Seconds of every trial, its replicates together, by what became of it."""
    trials = rows.group_by("trial").aggregate([("seconds", "sum")])
    found = {}
    for name, lines in (("complete", study.ranked), ("failed", study.failed), ("pruned", study.pruned)):
        own = trials.filter(pc.is_in(trials["trial"], lines["trial"]))["seconds_sum"].to_numpy()
        own = own[own > 0]
        if len(own):
            found[name] = own
    return found


def _against_error(study: ReportStudy, gallery: Gallery) -> Html:
    known = study.ranked.filter(pc.greater(pc.fill_null(study.ranked["seconds"], 0.0), 0.0))
    if known.num_rows < 3:
        return Html()
    label, factor = in_per_cent(study.objective)
    seconds, errors = known["seconds"].to_numpy(), factor * known[study.objective].to_numpy()
    on_front = front(np.stack([seconds, errors], axis=1))
    shown = on_front.copy()
    shown[drawn_of(len(shown), POINTS_SHOWN)] = True
    drawing = partial(
        studyfigures.cost_against_error,
        seconds[shown],
        errors[shown],
        on_front[shown],
        label=label,
        title=f"{study.objective} against time",
    )
    return gallery.hang(
        "cost-error", drawing, f"{study.objective} of every complete trial against its time", caption=False
    )


def _by_pack(rows: pa.Table) -> Html:
    """The packs that took longest."""
    sums = [("seconds", "sum"), ("evaluations", "sum"), ("trial", "count"), ("host", "min"), ("device", "min")]
    packs = rows.filter(pc.is_valid(rows["pack"])).group_by("pack").aggregate(sums)
    longest = packs.sort_by([("seconds_sum", "descending"), ("pack", "ascending")]).slice(0, PACKS_SHOWN)
    heads = ["pack", "members", "device", "host", "time", "evaluations", "ms each"]
    cells = []
    for each in longest.to_pylist():
        evaluations = each["evaluations_sum"] or 0
        cells.append(
            [
                (str(each["pack"]), True),
                (f"{each['trial_count']:,}", True),
                (each["device_min"] or "", False),
                (each["host_min"] or "", False),
                (duration(each["seconds_sum"]), True),
                (f"{evaluations:,}", True),
                (f"{1000 * each['seconds_sum'] / evaluations:.3g}" if evaluations else "", True),
            ]
        )
    return table([(head, head not in ("device", "host")) for head in heads], cells)


def _packs_told(rows: pa.Table) -> str:
    number = len(pc.unique(rows["pack"].drop_null()))
    told = "Members of a pack train together in one process; its time is the sum of theirs."
    return told + (f" The {PACKS_SHOWN} longest of {number:,}." if number > PACKS_SHOWN else "")
