"""The traps of a report that are about the loss: whether it orders trials, and whether a low one is worth anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from scipy.stats import spearmanr

from pinncore.budget.parts import OVERFITTED

from ..errors import listed
from ..query.text import shown
from ..trial.tables import Row
from .data import ReportStudy, distinct, is_finite
from .marks import Mark, counted

WELL_RANKED: Final = 0.9  # rank correlation from which the loss orders trials much like the error
RISEN: Final = 1.1  # final over minimum error above which the error has risen
_FEWEST: Final = 5  # trials needed for a rank correlation
_FORMS: Final = 4  # of the loss whose rank correlations are shown
_BLOCK: Final = 2000  # trials whose curves are read at once


def loss_order(study: ReportStudy, rows: pa.Table, best: Row) -> Mark | None:
    """Return whether the loss orders trials much like the error, in each of its forms."""
    if "rel_l2" not in best:
        return None
    as_objective = "loss" in study.ranking.objectives
    text = "The loss is an objective of this study. " if as_objective else ""
    metric = next((name for name in study.ranking.objectives if name.startswith("rel_l2")), "rel_l2")
    with_both = rows.filter(pc.and_(pc.is_finite(rows["loss"]), pc.is_finite(rows[metric])))
    forms = _by_form(study, with_both)
    judged = {form: part for form, part in forms.items() if part.num_rows >= _FEWEST}
    if not judged:
        most = max((part.num_rows for part in forms.values()), default=0)
        text += f"A rank correlation with the error needs {_FEWEST} trainings with both and the same form of the loss; "
        return ("look out" if as_objective else "not checked", f"{text}there are {most}.")
    ranks = sorted((_rank_correlation(part, metric), form) for form, part in judged.items())
    sentences = [_order(study, judged[form], metric, rank, form) for rank, form in ranks[:_FORMS]]
    text += f"Rank correlation of loss and {metric}: {'; '.join(sentences)}. "
    text += f"{len(ranks) - _FORMS} more forms of the loss have a higher one. " if len(ranks) > _FORMS else ""
    text += "Losses of different forms cannot be compared. " if len(forms) > 1 else ""
    if numbers := [name for name in _loss_settings(study, is_number=True) if _differs(with_both, name)]:
        text += f"{listed(numbers)} differ{'s' * (len(numbers) == 1)} between trials, which changes what the loss is."
    is_fine = ranks[0][0] >= WELL_RANKED and not as_objective
    return ("fine" if is_fine else "look out", text.strip())


def _rank_correlation(rows: pa.Table, metric: str) -> float:
    """Return Spearman's rank correlation of loss and error, 0 where one of them is the same everywhere."""
    loss, error = rows["loss"].to_numpy(), rows[metric].to_numpy()
    return float(spearmanr(loss, error).statistic) if np.ptp(loss) and np.ptp(error) else 0.0


def _order(study: ReportStudy, rows: pa.Table, metric: str, correlation: float, form: str) -> str:
    """Return the rank correlation as text, with the rank by error of the training with the lowest loss."""
    error = rows[metric].to_numpy()
    lowest = error[int(rows["loss"].to_numpy().argmin())]
    rank = int((error < lowest).sum()) + 1
    place = "also has the lowest error" if rank == 1 else f"has rank {rank:,} by error"
    text = (
        f"{correlation:.2f}{f' with {form}' if form else ''} ({rows.num_rows:,} trainings; that with the lowest loss "
    )
    return f"{text}{place}, {shown(metric, float(lowest), study.problem.in_per_cent)})"


def _by_form(study: ReportStudy, rows: pa.Table) -> dict[str, pa.Table]:
    """Return the rows by the form of their loss: by the choices, not the numbers, that decide what it measures."""
    names = [name for name in _loss_settings(study, is_number=False) if _differs(rows, name)]
    if not names:
        return {"": rows}
    forms: dict[str, list[int]] = {}
    for at, row in enumerate(rows.select(names).to_pylist()):
        form = ", ".join(f"{name} {value}" for name, value in row.items() if value is not None)
        forms.setdefault(form, []).append(at)
    return {form: rows.take(forms[form]) for form in sorted(forms)}


def _loss_settings(study: ReportStudy, *, is_number: bool) -> list[str]:
    """Return the columns of the settings that decide what the loss measures, of the numbers or the others."""
    return [
        setting.column
        for setting in study.loss_settings
        if isinstance(setting.default, float) == is_number and setting.column in study.rows.column_names
    ]


def _differs(rows: pa.Table, name: str) -> bool:
    return len(pc.unique(rows[name])) > 1


def overfitting(study: ReportStudy, rows: pa.Table, best: Row) -> Mark | None:
    """Return whether errors rose while losses fell, or residuals are much larger between the points than at them."""
    forms = distinct(rows, "problem_loss")
    sentences = [f"Loss: {listed(forms)}."] if forms else []
    findings = [*_by_curve(study, rows, best), *_by_residual(rows, best)]
    sentences += [sentence for sentence, _ in findings]
    if not findings:
        sentences.append("This cannot be judged: there are neither curves with errors nor points between.")
        return ("not checked", " ".join(sentences))
    return ("look out" if any(is_raised for _, is_raised in findings) else "fine", " ".join(sentences))


def _by_curve(study: ReportStudy, rows: pa.Table, best: Row) -> Iterator[tuple[str, bool]]:
    """Yield a sentence on the error of the results beside the lowest on their way, and whether it rose."""
    lowest = _lowest(study, rows)
    own = lowest.get((best["trial"], best["replicate"]))
    if own is None or not is_finite(best.get("rel_l2")):
        return
    times, fallen = (best[name] / value if value else 1.0 for name, value in zip(("rel_l2", "loss"), own, strict=True))
    text = f"The error of the best trial ended {f'at {times:.3g} times' if times >= 1.005 else 'near'} its minimum"
    text += f", while the loss fell to {fallen:.2g} times its value there" if times > RISEN and fallen < 1 else ""
    ends = zip(*(rows[name].to_pylist() for name in ("trial", "replicate", "rel_l2", "loss")), strict=True)
    risen = pa.array([_has_risen(error, loss, lowest.get((trial, seed))) for trial, seed, error, loss in ends])
    text += f". Errors above {RISEN:g} times their minimum with a lower loss: {counted(rows, risen)}."
    yield text, bool(pc.any(risen).as_py())


def _has_risen(error: float | None, loss: float | None, lowest: tuple[float, float] | None) -> bool:
    """Return whether an error is above the lowest on its way, and the loss below the one there."""
    if lowest is None or error is None or loss is None:
        return False
    return error > RISEN * lowest[0] and loss < lowest[1]


def _lowest(study: ReportStudy, rows: pa.Table) -> dict[tuple[int, int], tuple[float, float]]:
    """Return the lowest recorded error of each training, and the loss there, by trial and replicate."""
    lowest: dict[tuple[int, int], tuple[float, float]] = {}
    trials = np.unique(rows["trial"].to_numpy())
    for start in range(0, len(trials), _BLOCK):
        first, last = (int(end) for end in trials[start : start + _BLOCK][[0, -1]])
        block = study.read(
            "curves",
            columns=("trial", "replicate", "rel_l2", "loss"),
            where=(ds.field("trial") >= first) & (ds.field("trial") <= last),
        )
        finite = block.filter(pc.is_finite(block["rel_l2"]))
        trial, seed, error, loss = (finite[name].to_numpy() for name in finite.column_names)
        order = np.lexsort((error, seed, trial))  # of each training, the lowest comes first
        is_first = np.append(True, (np.diff(trial[order]) != 0) | (np.diff(seed[order]) != 0))[: len(order)]
        columns = (values[order][is_first].tolist() for values in (trial, seed, error, loss))
        lowest |= {
            (number, replicate): (least, there) for number, replicate, least, there in zip(*columns, strict=True)
        }
    return lowest


def _by_residual(rows: pa.Table, best: Row) -> Iterator[tuple[str, bool]]:
    """Yield a sentence on the residual between the training points, and whether it is much larger than at them."""
    between, at = best.get("heldout_residual"), best.get("trained_residual")
    if not (is_finite(between) and is_finite(at) and at):
        return
    larger = pc.greater(pc.divide(rows["heldout_residual"], rows["trained_residual"]), OVERFITTED)
    text = f"The residual of the best trial is {between:.3g} between the training points, "
    text += f"{between / at:.2g} times the residual at them. Above {OVERFITTED:g} times: {counted(rows, larger)}."
    yield text, bool(pc.any(larger).as_py())
