"""The part of a report on cost: device hours, evaluations, time a trial, and what went into trials without a result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pinncore.settings import PHASES

from ..figures.drawing import Array, spread_indices
from ..figures.studies import cost_against_error, cost_distribution
from ..query.ranking import front
from ..query.text import duration
from .data import ReportStudy, in_per_cent
from .gallery import Gallery
from .page import Html, figures, section, table, tag
from .trials import POINTS_SHOWN

PACKS_SHOWN: Final = 8


def cost(study: ReportStudy, gallery: Gallery) -> Html:
    """Return the section on what the study cost, and what an error costs."""
    rows = study.rows.filter(pc.and_(pc.is_null(study.rows["taken_from"]), pc.is_valid(study.rows["seconds"])))
    if not rows.num_rows:
        return Html()
    pictures = []
    if times := _seconds(study, rows):
        drawing = cost_distribution(times, title="Time per trial")
        pictures.append(gallery.hang("cost-times", drawing, "Number of trials by training time"))
    if study.ranked.num_rows > 2 and "seconds" in study.ranked.column_names:
        pictures.append(_against_error(study, gallery))
    return section(
        "Cost",
        " ".join(_sentences(study, rows)),
        figures(*pictures, columns="two"),
        tag("h3", "By pack"),
        _about_packs(rows),
        _by_pack(rows),
    )


def _sentences(study: ReportStudy, rows: pa.Table) -> Iterator[str]:
    total = pc.sum(rows["seconds"]).as_py()
    by_device = rows.group_by("device").aggregate([("seconds", "sum")]).sort_by("device").to_pylist()
    hours = ", ".join(f"{row['seconds_sum'] / 3600:.3g} {row['device'] or 'unknown'} hours" for row in by_device)
    evaluations = pc.sum(rows["evaluations"]).as_py() or 0
    yield f"{hours} of training: {duration(total)} for {evaluations:,} evaluations of loss and gradient"
    yield f"({1000 * total / evaluations:.3g} ms each)." if evaluations else "."
    first, second = (pc.sum(rows[f"{stage}_seconds"]).as_py() or 0.0 for stage in PHASES)
    if first + second > 0:
        yield f"First stages took {100 * first / (first + second):.0f} % of the time, second stages the rest."
    seconds = rows["seconds"].to_numpy()
    low, middle, high = np.quantile(seconds, [0.05, 0.5, 0.95])
    unit = "replicate" if study.several else "trial"
    yield f"The median {unit} took {middle:.3g} s; 90 % of the {unit}s took {low:.3g} to {high:.3g} s."
    for state, ending in (("FAIL", "that failed"), ("PRUNED", "that were pruned")):
        lost_seconds = pc.sum(rows.filter(pc.equal(rows["state"], state))["seconds"]).as_py()
        if lost_seconds:
            yield f"{duration(lost_seconds)} ({100 * lost_seconds / total:.2g} %) went into trainings {ending}."


def _seconds(study: ReportStudy, rows: pa.Table) -> dict[str, Array]:
    """Return the seconds of every trial (the sum of its replicates) by how it ended."""
    trials = rows.group_by("trial").aggregate([("seconds", "sum")])
    seconds = {}
    for name, ended in (("complete", study.ranked), ("failed", study.failed), ("pruned", study.pruned)):
        values = trials.filter(pc.is_in(trials["trial"], ended["trial"]))["seconds_sum"].to_numpy()
        values = values[values > 0]
        if len(values):
            seconds[name] = values
    return seconds


def _against_error(study: ReportStudy, gallery: Gallery) -> Html:
    timed = study.ranked.filter(pc.greater(pc.fill_null(study.ranked["seconds"], 0.0), 0.0))
    if timed.num_rows < 3:
        return Html()
    label, factor = in_per_cent(study.objective, study.problem)
    seconds, errors = timed["seconds"].to_numpy(), factor * timed[study.objective].to_numpy()
    on_front = front(np.stack([seconds, errors], axis=1))
    shown = on_front.copy()
    shown[spread_indices(len(shown), POINTS_SHOWN)] = True
    drawing = cost_against_error(
        seconds[shown], errors[shown], on_front[shown], label=label, title=f"{study.objective} against time"
    )
    return gallery.hang("cost-error", drawing, f"{study.objective} of every complete trial against its training time")


def _by_pack(rows: pa.Table) -> Html:
    """Return a table of the packs that took longest."""
    sums = [("seconds", "sum"), ("evaluations", "sum"), ("trial", "count"), ("host", "min"), ("device", "min")]
    packs = rows.filter(pc.is_valid(rows["pack"])).group_by("pack").aggregate(sums)
    longest = packs.sort_by([("seconds_sum", "descending"), ("pack", "ascending")]).slice(0, PACKS_SHOWN)
    cells = []
    for pack in longest.to_pylist():
        evaluations, seconds = pack["evaluations_sum"] or 0, pack["seconds_sum"]
        each = f"{1000 * seconds / evaluations:.3g}" if evaluations else ""
        where = (pack["device_min"] or "", pack["host_min"] or "")
        cells.append(
            [str(pack["pack"]), f"{pack['trial_count']:,}", *where, duration(seconds), f"{evaluations:,}", each]
        )
    heads = ("pack", "members", "device", "host", "time", "evaluations", "ms per evaluation")
    return table(heads, cells, words=("device", "host"))


def _about_packs(rows: pa.Table) -> str:
    number = len(pc.unique(rows["pack"].drop_null()))
    text = "The members of a pack train together in one process. The time of a pack is the sum over its members."
    return text + (f" The table has the {PACKS_SHOWN} longest of {number:,} packs." if number > PACKS_SHOWN else "")
