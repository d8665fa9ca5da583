"""The trials that a branch takes over from another study: entered once, at its first start, before its own trials."""

from __future__ import annotations

from ..search import search_of
from ..study.branching import branch
from ..study.trials import ATTRIBUTES, BRANCH, RUNGS, Trial, Window
from .attempt import Attempt
from .recorder import Recorder

_PACK = 0  # nothing of it is trained


def inherit(attempt: Attempt, recorder: Recorder) -> str | None:
    """Enter the trials that come along and publish their results; return in a sentence which came, None later.

    Raises `StudyError` where the other study cannot be read.
    """
    text = None
    if attempt.spec.search.branch_of is not None and BRANCH not in attempt.ledger.attributes():
        text = _entered(attempt)
    recorder.reuse(attempt.trials)
    return text


def _entered(attempt: Attempt) -> str:
    found, search, ledger = branch(attempt.spec), search_of(attempt.spec), attempt.ledger
    with ledger.transaction():
        for number, trial in enumerate(found.trials):
            window = Window(0, 0, 0, _PACK)
            entered = Trial(number, None, trial.params, trial.config_hash, _PACK, window, taken_from=trial.source)
            entered.rungs = dict(trial.rungs)
            attributes = {name: value for name in ATTRIBUTES if (value := getattr(entered, name)) is not None}
            if trial.rungs:
                attributes[RUNGS] = {str(rung): list(values) for rung, values in trial.rungs.items()}
            ledger.enter(number, search.stored(trial.params), search.distributions(trial.params), attributes)
            for rung, values in trial.rungs.items():
                ledger.log_rung(number, rung, values[0])
            attempt.trials.add(entered)
        ledger.set_attribute(BRANCH, {"trials": len(found.trials), "left": found.left})
    attempt.trials.inherited = len(found.trials)
    attempt.events.add("branched", found.text)
    return found.text
