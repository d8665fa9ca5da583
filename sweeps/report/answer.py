"""The top of a report: the error of the best trial, and what it is worth beside other errors on the same data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pinncore.errors import PinnError
from pinncore.problems import Yardstick

from ..analysis.leaderboard import SEED_SPREAD
from ..query.text import shown, span
from ..trial.tables import Row
from .data import ReportStudy, is_finite
from .page import Html, paragraph, table, tag, tile

_FEWEST: Final = 3  # complete trials that have a median


def answer(study: ReportStudy, best: Row) -> Html:
    """Return the error of the best trial and sentences on whether it is good."""
    error = best_error(study, best)
    whose = "of the best trial"
    whose += f", {study.middle}" if study.several and study.objective == "rel_l2" else ""
    tiles = [tile(shown("rel_l2", error) or "not known", f"relative L2 error {whose}", main=True)]
    if study.objective != "rel_l2":
        objective = shown(study.objective, study.ranked[study.objective][0].as_py(), study.problem.in_per_cent)
        tiles.append(tile(objective, f"{study.objective} of the best trial (objective)"))
    if study.several:
        low, high = (study.ranked[f"{study.objective}_{end}"][0].as_py() for end in ("min", "max"))
        text = f"{study.objective} over its {study.ranking.replicates} replicates"
        tiles.append(tile(span(study.objective, low, high, study.problem.in_per_cent), text))
    question = "How good is it?" if error is None else f"Is {shown('rel_l2', error)} good?"
    worth = paragraph(" ".join([*_worth(study, error, yardsticks(study)), *_by_output(study, best)]))
    return tag("div", *tiles, tag("h2", question), worth, class_="answer")


def ladder(study: ReportStudy, best: Row) -> Html:
    """Return a table of errors on the data of the best trial, the largest first, with that of the best in its place."""
    error = best_error(study, best)
    if error is None:
        return Html()
    rows = [(yardstick.rel_l2, yardstick.what) for yardstick in yardsticks(study)]
    errors = [value for value in study.ranked["rel_l2"].to_pylist() if is_finite(value)]
    if len(errors) >= _FEWEST:
        rows.append((float(np.median(errors)), f"median of {len(errors):,} complete trials"))
    rows = sorted([*rows, (error, f"the best, trial {best['trial']}")], key=lambda row: -row[0])
    cells = [[f"{100 * value:.3g} %", what] for value, what in rows]
    place = next(place for place, (_, what) in enumerate(rows) if what.startswith("the best, "))
    return tag("div", table(("rel_l2", "of"), cells, words=("of",), best=place), class_="ladder")


def best_error(study: ReportStudy, best: Row) -> float | None:
    """Return the rel_l2 of the best trial, over its replicates where trials rank by it; None where it has none."""
    error = study.ranked["rel_l2"][0].as_py() if study.objective == "rel_l2" else best["rel_l2"]
    return error if is_finite(error) else None


def yardsticks(study: ReportStudy) -> tuple[Yardstick, ...]:
    """Return the errors on the data of the best trial that are known without training."""
    return study.problem.yardsticks(study.field or _field_of_data(study), study.problem_settings)


def _field_of_data(study: ReportStudy) -> Mapping[str, NDArray[np.float64]]:
    """Return columns of the field from the data of the best trial, where they are still there; empty where not."""
    problem = study.solved
    try:
        if problem is not None and study.best and problem.data_sha256 == study.best["data_hash"]:
            return problem.field(np.zeros((len(problem.outputs), len(problem.field_points))))
    except PinnError:
        pass
    return {}


def _worth(study: ReportStudy, error: float | None, found: tuple[Yardstick, ...]) -> Iterator[str]:
    """Yield sentences that compare an error with what needs no training, with the limit, and with other seeds."""
    if error is None:
        yield "The data have no reference field, so the distance of the prediction from the truth is not known."
        return
    guesses = [each for each in found if not each.is_limit]
    if guesses:
        least = min(guesses, key=lambda guess: guess.rel_l2)
        if error >= least.rel_l2:
            yield f"No. Without any training, {_named(least)} is as good or better."
        else:
            yield f"{_times(least.rel_l2, error)} times better than {_named(least)}, the best without training."
    for limit in (each for each in found if each.is_limit):
        if error > limit.rel_l2:
            yield f"{_times(error, limit.rel_l2)} times what an exact solution leaves: {_named(limit)}."
        else:
            yield f"No larger than what an exact solution leaves: {_named(limit)}."
    if not study.several:
        yield f"One seed each: another seed alone may change it by up to {SEED_SPREAD:g} times."


def _by_output(study: ReportStudy, best: Row) -> Iterator[str]:
    """Yield the sentence on the error of each of several outputs."""
    symbols = [column.symbol for column in study.problem.outputs]
    errors = {symbol: best.get(f"rel_l2_{symbol}") for symbol in symbols}
    known = [f"{symbol} {shown('rel_l2', error)}" for symbol, error in errors.items() if is_finite(error)]
    if len(symbols) > 1 and known:
        yield f"By output: {', '.join(known)}."


def _named(yardstick: Yardstick) -> str:
    return f"{yardstick.what} ({100 * yardstick.rel_l2:.3g} %)"


def _times(larger: float, smaller: float) -> str:
    """Return how many times larger, with two digits."""
    return f"{float(f'{larger / smaller:.2g}'):,g}" if smaller else "infinitely many"
