"""The part of a report that says what every column of its tables means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ..query.text import SPREAD
from ..storage.meanings import meaning_of
from .data import ReportStudy
from .page import Html, breakable, column_anchor, columns_in, section, tag

_ENDINGS: Final = {
    "min": "Smallest {} over the replicates",
    "max": "Largest {} over the replicates; infinite where one failed",
    "low": "Lower end of the 95 % interval of {} (bootstrap over the seeds)",
    "high": "Upper end of the 95 % interval of {} (bootstrap over the seeds)",
}
_HEADS: Final = {  # of columns that are computed for the page
    "of": "What has this relative L2 error on the data of the best trial",
    "also": "Further trials with the same configuration",
    "pareto": "Whether no other trial is at least as good in all objectives and better in one",
    "replicates": "Number of trainings of the configuration, which differ in their seed",
    "may_be_best": "Whether the configuration cannot be told apart from the first; empty where there are too few seeds",
    "moment": "Start of the training or end of one of its stages",
    "share of steps": "Rung: the part of all epochs and iterations after which trials are compared",
    "rank correlation": "Spearman's correlation of the order of trials at the rung with their order at the end",
    "trials": "Number of trials",
    "trainings": "Number of trainings: each replicate of a trial is one",
    "pruned there": "Number of trials that were ended at the rung",
    "members": "Number of trainings in the pack",
    "time": "Training time of all members of the pack together",
    "ms per evaluation": "Training time per evaluation of loss and gradient, in milliseconds",
    "what went wrong": "Reason of the failure",
    "which trials": "Numbers of the trials",
}


def glossary(study: ReportStudy, parts: Iterable[Html]) -> Html:
    """Return the section that explains every column in the tables of the other `parts`."""
    entries = [
        part
        for name in columns_in(parts)
        for part in (tag("dt", *breakable(name), id=column_anchor(name)), tag("dd", f"{meaning(study, name)}."))
    ]
    return section("What the columns mean", tag("dl", *entries, class_="glossary")) if entries else Html()


def meaning(study: ReportStudy, name: str) -> str:
    """Return what a column of the page's tables means."""
    if name in _HEADS:
        return _HEADS[name]
    if found := meaning_of(name, study.problem):
        return found.replace("`", "").rstrip(".")
    ending = re.search(SPREAD, name)
    return _ENDINGS[ending[1]].format(SPREAD.sub("", name)) if ending else f"Column {name} of the results"
