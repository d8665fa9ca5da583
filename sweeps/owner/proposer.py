"""The proposal of trials ahead of need: the sampler proposes a window of them, the database gets it as a whole."""

from __future__ import annotations

from typing import Any

from ..search import stable_hash
from ..spec.study_spec import config_sha256
from ..states import FAIL
from ..study import other_studies
from ..study.trials import ATTRIBUTES, PLACED, Trial, TrialSetup, Window
from .attempt import Attempt
from .packing import grouped, pack_size, set_up, setup_of, trials_of_pack, window_size
from .queue import PendingMember, PendingPack
from .recorder import Recorder
from .slots import SlotTable


class TrialProposer:
    """Source of trials and of the packs to train them in; `slots` tell how many packs train at once."""

    def __init__(self, attempt: Attempt, recorder: Recorder, slots: SlotTable) -> None:
        self._spec, self._ledger, self._trials = attempt.spec, attempt.ledger, attempt.trials
        self._search, self._events, self._recorder, self._slots = attempt.search, attempt.events, recorder, slots
        self._reusable, gone = other_studies.reusable(attempt.spec)  # FOLDER/N by the hash of the configuration
        for other in gone:
            self._events.add("reconciled", f"{other} is not a study any more; its trials are trained here")
        packs = [*attempt.checkpoints.packs(), *(trial.pack for trial in self._trials)]
        self._next_pack = 1 + max(packs, default=-1)
        self.measured_size: int | None = None  # the largest pack that is worth it on the GPU of a worker
        self.reduced_sizes: dict[tuple[str, ...], int] = {}  # of packs, by key, where memory ran out

    @property
    def size(self) -> int:
        """Return the number of members of the packs planned now."""
        slots = self._slots
        device, measured = slots.capacity.device, self.measured_size
        return pack_size(self._spec, self._places, at_once=slots.at_once, device=device, measured=measured)

    def size_of(self, key: tuple[str, ...]) -> int:
        """Return the number of members of a pack of `key`."""
        return min(self.size, self.reduced_sizes.get(key, self.size))

    @property
    def _places(self) -> int:
        """Return the length of the sampler's sequence, as far as is known."""
        return self._trials.places(self._search.limit)

    @property
    def may_ask(self) -> bool:
        """Return whether the sampler can propose a trial before others finish."""
        return self.has_more and self._search.ready(self._trials.proposed)

    @property
    def has_more(self) -> bool:
        """Return whether the sampler has trials left to propose, now or later."""
        return self._trials.proposed < self._places

    @property
    def ahead(self) -> int:
        """Return the number of members that should wait for a place.

        They fill all packs that train at once, or a single pack where the sampler learns from results.
        """
        return self.size if self._search.traits.learns else self.size * self._slots.at_once

    @property
    def packs_to_ask(self) -> int:
        """Return the number of packs of the trials that the sampler can propose before another trial ends."""
        if not self.may_ask:
            return 0
        generation = self._search.generation_of(self._trials.proposed)
        end = generation.stop if len(generation) > 1 else self._places
        members = (min(end, self._places) - self._trials.proposed) * self._trials.replicates
        return -(-members // max(self.size, self._trials.replicates))

    def ask(self) -> list[PendingPack]:
        """Enter the next window of trials and return its packs, the costliest first."""
        first = self._trials.proposed
        end = first + window_size(self._search, first, self.size, self._trials.replicates)
        return self._enter_window(Window(first, min(end, self._places), self.size, self._next_pack))

    def finish_window(self) -> None:
        """Enter the trials of the last window that are missing after a crash, planned into the same packs."""
        placed = (trial for trial in self._trials if trial.index is not None)
        last = max(placed, key=lambda trial: trial.index or 0, default=None)
        if last is not None:
            window = last.window._replace(end=min(last.window.end, self._places))
            if self._trials.proposed < window.end:
                self._enter_window(window)

    def retry(self, original: Trial) -> list[PendingPack]:
        """Enter a failed trial again under a new number, and return its pack, none where it cannot be set up."""
        pack, params = self.new_pack(), dict(original.params)
        window = Window(0, 0, self.size, pack)
        trial = self._enter_trial(None, params, {}, set_up(self._spec, params), pack, window, retry_of=original.number)
        members = self.pending_members(trial)
        return [PendingPack(pack, members, is_planned=True)] if members else []

    def pending_members(self, trial: Trial, *, finished: bool = False) -> list[PendingMember]:
        """Return the unfinished members of a trial, with `finished` all of them.

        A trial that cannot be set up is recorded as failed and has none.
        """
        setup, replicates = setup_of(self._spec, trial), self._trials.replicates
        if setup.traits is None:
            self._recorder.end_untrained(trial, FAIL, setup.failure)
            return []
        return [
            PendingMember(trial.number * replicates + replicate, trial.number, replicate, setup.traits.key)
            for replicate in range(replicates)
            if finished or replicate not in trial.done
        ]

    def seed_of(self, trial: Trial, replicate: int) -> int:
        """Return the seed of a member's initial weights; a retried trial has the seeds of the original one."""
        while trial.retry_of is not None:
            trial = self._trials[trial.retry_of]
        number = trial.number if trial.index is None else trial.index
        words = (number, 1) if replicate == 0 else (number, 1, replicate)
        return stable_hash(self._spec.search.seed, *words) >> 1

    def new_pack(self) -> int:
        """Return a pack number that was not used yet."""
        self._next_pack += 1
        return self._next_pack - 1

    def _enter_window(self, window: Window) -> list[PendingPack]:
        """Enter the missing trials of a window, and return the packs with members to train."""
        entered = {
            trial.index: trial for trial in self._trials if trial.index is not None and window.start <= trial.index
        }
        setups = {index: setup_of(self._spec, trial) for index, trial in entered.items()}
        proposals = {index: self._search.propose(index) for index in range(window.start + len(entered), window.end)}
        setups |= {index: set_up(self._spec, proposal.params) for index, proposal in proposals.items()}
        traits = {index: setup.traits for index, setup in setups.items() if setup.traits is not None}
        plan = grouped(traits, trials_of_pack(window.size, self._trials.replicates))
        pack_of = {index: pack for pack, indices in enumerate(plan, start=window.first_pack) for index in indices}
        untrained_pack = window.first_pack + len(plan)  # of trials that cannot be set up
        self._next_pack = max(self._next_pack, untrained_pack + 1)
        with self._ledger.transaction():
            for index, proposal in proposals.items():
                pack, params, attrs = pack_of.get(index, untrained_pack), dict(proposal.params), dict(proposal.attrs)
                unplaced = self._trials.unplaced
                taken_over = unplaced.get(config_sha256(setups[index].config)) if unplaced else None
                if taken_over is None:
                    entered[index] = self._enter_trial(index, params, attrs, setups[index], pack, window)
                else:
                    entered[index] = taken_over
                    self._trials.place(taken_over, index, window, attrs)
                    self._search.tell(index, taken_over.state, taken_over.values)
            if self._trials.inherited:
                self._ledger.set_attribute(PLACED, self._trials.placed)
        self._recorder.reuse(entered.values())  # rows are published after the database has their trial
        for index, trial in entered.items():
            if index not in pack_of and not trial.finished:
                self.pending_members(trial)  # which records its failure
        packs = []
        for pack, indices in enumerate(plan, start=window.first_pack):
            trials = [entered[index] for index in indices]
            open_trials = [trial for trial in trials if not trial.finished and trial.duplicate_of is None]
            members = [member for trial in open_trials for member in self.pending_members(trial)]
            if members:
                packs.append(PendingPack(pack, members, is_planned=True))
        return packs

    def _enter_trial(
        self,
        index: int | None,
        params: dict[str, Any],
        attrs: dict[str, Any],
        setup: TrialSetup,
        pack: int,
        window: Window,
        *,
        retry_of: int | None = None,
    ) -> Trial:
        number, digest = len(self._trials), config_sha256(setup.config)
        duplicate = self._trials.first_with.get(digest) if retry_of is None else None
        taken_from = self._reusable.get(digest) if retry_of is None and duplicate is None else None
        trial = Trial(
            number,
            index,
            params,
            digest,
            pack,
            window,
            duplicate_of=duplicate,
            retry_of=retry_of,
            taken_from=taken_from,
            attrs=attrs,
            setup=setup,
        )
        attributes = {name: value for name in ATTRIBUTES if (value := getattr(trial, name)) is not None}
        self._ledger.enter(number, self._search.stored(params), self._search.distributions(params), attributes, attrs)
        self._trials.add(trial)
        detail = f"same configuration as trial {duplicate}" if duplicate is not None else ""
        self._events.add("asked", detail, trial=number, pack=pack)
        return trial
