"""The status of a study, read quickly and beside its driver, and as text: no training library is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import listed
from ..states import FAIL, RUNNING, WAITING
from ..storage import lock
from ..storage.optuna_sql import StudyReader
from ..words import rounded
from .checkpoints import checkpoints_of
from .study_file import IN_PERCENT, LIMIT, OBJECTIVES, STUDY_YAML, identified, whole_text
from .trials import RETRY_OF


def read_status(study_dir: Path) -> dict[str, Any]:
    """Return the status of a study as JSON values; `sweeps.Study.status` names the keys.

    Raises `StudyError` for a damaged study.
    """
    text, holder = whole_text(study_dir), lock.held_by(study_dir)
    study, where = identified(text, study_dir)
    with StudyReader(where, study, check=True) as reader:
        attributes, counts, leader = reader.attributes(), reader.counts(), reader.best()
        failures = unrepeated(failed_trials(reader))
        unfinished = {*reader.numbers(WAITING), *reader.numbers(RUNNING)}
    limit, objectives = attributes.get(LIMIT), attributes.get(OBJECTIVES, [])
    in_percent = attributes.get(IN_PERCENT)
    if attributes.get(STUDY_YAML) != text or None in (limit, in_percent):  # changed by hand, or not counted yet
        from ..search import search_of  # to read the whole study file takes seconds
        from .loading import read_spec

        spec = read_spec(study_dir)
        limit, objectives, in_percent = search_of(spec).limit, list(spec.objectives), spec.is_in_percent
    if holder is None:  # trials that a killed driver left RUNNING wait to be trained
        counts[WAITING] += counts[RUNNING]
        counts[RUNNING] = 0
    return {
        "study": study,
        "limit": limit,
        "counts": counts,
        "objective": ", ".join(objectives),
        "in_percent": in_percent,
        "best": leader
        and {"trial": leader.number, "value": leader.values and leader.values[0], "params": leader.plain_params},
        "held_by": holder,
        "failures": len(failures),
        "saved": [] if holder else list(_saved(study_dir, unfinished)),
    }


def _saved(study_dir: Path, unfinished: set[int]) -> Iterator[dict[str, Any]]:
    """Yield the packs that a study that is not run left half-trained, each with the mean share of its steps."""
    for pack, members in checkpoints_of(study_dir).trained().items() if unfinished else ():
        shares = [share for trial, share in members if trial in unfinished]
        if shares:
            trials = sorted({trial for trial, _ in members} & unfinished)
            yield {"pack": pack, "trials": trials, "share": sum(shares) / len(shares)}


def failed_trials(reader: StudyReader) -> dict[int, int | None]:
    """Return the failed trials by number, each with the trial that repeats it, or None."""
    repeated_by = {original: number for number, original in reader.attribute_by_trial(RETRY_OF).items()}
    return {number: repeated_by.get(number) for number in reader.numbers(FAIL)}


def unrepeated(failed: dict[int, int | None]) -> list[int]:
    """Return the failed trials that no other trial repeats."""
    return [number for number, repeated_by in failed.items() if repeated_by is None]


# ---- text ----------------------------------------------------------------------------------------------------------


def status_text(status: Mapping[str, Any]) -> str:
    """Return a status, or a study's name with its `error`, as lines of text."""
    if "error" in status:
        return f"{status['study']}: {status['error']}"
    trials = f"{status['limit']} trial{'s' if status['limit'] != 1 else ''}"
    lines = [f"{status['study']}: {trials} ({_counts(status) or 'none started'})"]
    if best := status["best"]:
        params = ", ".join(f"{name} {_short(value)}" for name, value in best["params"].items())
        lines.append(f"  best {status['objective']} {best_value(status)}: trial {best['trial']} ({params})")
    if status["saved"]:
        lines.append(f"  {_saved_text(status['saved'])}")
    if status["held_by"]:
        lines.append(f"  being run by {status['held_by']}")
    return "\n".join(lines)


def best_value(status: Mapping[str, Any]) -> str:
    """Return the first objective of the best trial, which must exist, as text."""
    return rounded(status["best"]["value"], is_percent=status["in_percent"])


def _saved_text(packs: Sequence[Mapping[str, Any]]) -> str:
    """Return how far the packs are that wait half-trained."""
    trials = len({trial for pack in packs for trial in pack["trials"]})
    words = [f"pack {pack['pack']} at {100 * pack['share']:.0f} %" for pack in packs]
    return f"{trials} of those that wait are half-trained and saved: {listed(words, most=6)} of their steps"


def _counts(status: Mapping[str, Any]) -> str:
    """Return the number of trials by state as text; failed trials that were retried are counted apart."""
    counts, failures = status["counts"], status["failures"]
    numbers = {
        "complete": counts["COMPLETE"],
        "pruned": counts["PRUNED"],
        "failed": failures,
        "failed and retried": counts["FAIL"] - failures,
        "running": counts["RUNNING"],
        "waiting": counts["WAITING"],
    }
    return ", ".join(f"{number} {name}" for name, number in numbers.items() if number)


def _short(value: object) -> str:
    return rounded(value) if isinstance(value, float) else str(value)
