"""The pruning of trials by the values that they and others have logged at rungs.

Decisions are not stored. A restart makes them again from the same values.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..search.pruners import is_hopeless, pruning_metrics, rungs_of
from ..states import PRUNED
from ..study.replicates import quantile
from ..study.trials import RUNGS, Trial
from ..words import rounded
from .attempt import Attempt
from .messages import RungReached
from .queue import PendingMember


class RungPruner:
    """Log of the rungs of a study's trials; `hopeless` are the numbers of the trials to prune."""

    def __init__(self, attempt: Attempt) -> None:
        self._pruner, self._quantile = attempt.spec.search.pruner, attempt.spec.search.quantile
        self._trials, self._ledger, self._events = attempt.trials, attempt.ledger, attempt.events
        self.metrics = pruning_metrics(attempt.spec)
        self._is_percent = self.metrics[0] in attempt.spec.record.in_per_cent
        self._partial: dict[tuple[int, int], dict[int, tuple[float, ...]]] = {}
        self._at_rung: dict[int, dict[int, tuple[float, ...]]] = {}
        for trial in attempt.trials:
            for rung, value in trial.rungs.items():
                self._at_rung.setdefault(rung, {})[trial.number] = value
        self.hopeless = {trial.number for trial in attempt.trials if not trial.finished and self._was_hopeless(trial)}

    def rungs(self, members: Sequence[PendingMember]) -> dict[int, tuple[int, ...]]:
        """Return the rungs that members have still to report, by label, in thousandths of their planned steps."""
        if not self._pruner.traits.compares_at_rungs:
            return {}
        return {
            member.label: tuple(
                rung for rung in rungs_of(self._pruner, member.trial) if rung not in self._trials[member.trial].rungs
            )
            for member in members
        }

    def judge(self, reached: Sequence[RungReached]) -> list[Trial]:
        """Log the rungs that all replicates of a trial have reached, and return the trials among them to prune."""
        hopeless, trials = [], self._trials
        for label, rung, values in reached:
            trial = trials[label // trials.replicates]
            if trial.finished or rung in trial.rungs:
                continue
            partial = self._partial.setdefault((trial.number, rung), {})
            partial[label % trials.replicates] = tuple(values[metric] for metric in self.metrics)
            if len(partial) < trials.replicates:
                continue
            del self._partial[trial.number, rung]
            value = tuple(quantile(column, self._quantile) for column in zip(*partial.values(), strict=True))
            others = self._at_rung.setdefault(rung, {})
            if trial.number not in self.hopeless and is_hopeless(self._pruner, trial.number, rung, value, others):
                self.hopeless.add(trial.number)
                detail = f"at {rung / 10:g} % of its steps, {rounded(value[0], is_percent=self._is_percent)}"
                self._events.add("pruned", detail, trial=trial.number)
            trial.rungs[rung] = others[trial.number] = value
            self._ledger.log_rung(trial.number, rung, value[0])
            if len(value) > 1:
                self._ledger.annotate(
                    trial.number, RUNGS, {str(at): list(logged) for at, logged in trial.rungs.items()}
                )
            if trial.number in self.hopeless:
                hopeless.append(trial)
        return hopeless

    def _was_hopeless(self, trial: Trial) -> bool:
        """Return whether an unfinished trial was hopeless by the values logged before its own at its last rung."""
        if not trial.rungs:
            return False
        if any(state == PRUNED for state, _ in trial.done.values()):
            return True
        rung = max(trial.rungs)
        others = {
            number: value
            for number, value in self._at_rung[rung].items()
            if self._trials[number].logged[rung] < trial.logged[rung]
        }
        return is_hopeless(self._pruner, trial.number, rung, trial.rungs[rung], others)
