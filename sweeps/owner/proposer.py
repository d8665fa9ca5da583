"""The proposal of trials ahead of need: the sampler proposes a window of them, the database gets it as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pinncore
from pinncore.member import is_padded

from ..search import Search, stable_hash
from ..spec.study_spec import StudySpec, build_settings, config_sha256
from ..states import FAIL
from ..storage.events import EventLog
from ..storage.optuna_sql import Ledger
from ..study.trials import DUPLICATE_OF, HASH, INDEX, PACK, RETRY_OF, TAKEN_FROM, WINDOW, Book, Trial
from .capacity import ClusterCapacity
from .packing import Asked, grouped, pack_size, trials_of_pack, window_size
from .queue import PendingMember, PendingPack
from .recorder import Recorder


class TrialProposer:
    """Source of trials and of the packs to train them in.

    `reusable` are trials of other studies whose results this study reuses: FOLDER/N by the hash of the configuration.
    """

    def __init__(
        self,
        spec: StudySpec,
        capacity: ClusterCapacity,
        ledger: Ledger,
        book: Book,
        search: Search,
        events: EventLog,
        recorder: Recorder,
        reusable: Mapping[str, str],
    ) -> None:
        self._spec, self._ledger, self._book = spec, ledger, book
        self._search, self._events, self._recorder, self._reusable = search, events, recorder, reusable
        self.capacity = capacity
        self.next_pack = 0

    @property
    def size(self) -> int:
        """Return the number of members of the packs planned now."""
        return pack_size(self._spec, self._search.limit, at_once=self._at_once, device=self.capacity.device)

    @property
    def may_ask(self) -> bool:
        """Return whether the sampler can propose a trial before others finish."""
        return self._book.asked < self._search.limit and self._search.ready(self._book.asked)

    @property
    def has_more(self) -> bool:
        """Return whether the sampler has trials left to propose, now or later."""
        return self._book.asked < self._search.limit

    @property
    def ahead(self) -> int:
        """Return the number of members that should wait for a place.

        They fill all packs that train at once, or a single pack where the sampler learns from results.
        """
        return self.size if self._search.traits.learns else self.size * self._at_once

    @property
    def packs_to_ask(self) -> int:
        """Return the number of packs of the trials that the sampler can propose before another trial ends."""
        if not self.may_ask:
            return 0
        generation = self._search.generation_of(self._book.asked)
        end = generation.stop if len(generation) > 1 else self._search.limit
        members = (min(end, self._search.limit) - self._book.asked) * self._book.replicates
        return -(-members // max(self.size, self._book.replicates))

    @property
    def _at_once(self) -> int:
        return self.capacity.planned(self._spec.resources.max_packs)

    def ask(self) -> list[PendingPack]:
        """Enter the next window of trials and return its packs, the costliest first."""
        first = self._book.asked
        trials = window_size(self._search, first, self.size, self._book.replicates)
        return self._enter_window(first, min(first + trials, self._search.limit), self.size)

    def finish_window(self) -> None:
        """Enter the trials of the last window that are missing after a crash, planned into the same packs."""
        last = next((trial for trial in reversed(self._book.trials) if trial.index is not None), None)
        if last is None or last.index is None:
            return
        start, end, size, *first_pack = last.window
        if last.index + 1 < min(end, self._search.limit):
            self._enter_window(start, min(end, self._search.limit), size, *first_pack)

    def retry(self, original: Trial) -> list[PendingPack]:
        """Enter a failed trial again under a new number, and return its pack, none where it cannot be set up."""
        pack = self.new_packs(1)
        config = self._spec.config(original.params)
        window = (0, 0, self.size, pack)
        trial = self._enter_trial(None, dict(original.params), {}, config, pack, window, retry_of=original.number)
        members = self.pending_members(trial)
        return [PendingPack(pack, members, is_planned=True)] if members else []

    def pending_members(self, trial: Trial, *, finished: bool = False) -> list[PendingMember]:
        """Return the unfinished members of a trial, with `finished` all of them.

        A trial that cannot be set up is recorded as failed and has none.
        """
        config = self._spec.config(trial.params)
        try:
            key = pinncore.pack_key(pinncore.Member(*build_settings(config)))
        except pinncore.PinnError as problem:
            self._recorder.end_untrained(trial, FAIL, str(problem), config)
            return []
        replicates = self._book.replicates
        return [
            PendingMember(trial.number * replicates + replicate, trial.number, replicate, key)
            for replicate in range(replicates)
            if finished or replicate not in trial.done
        ]

    @staticmethod
    def is_padded(config: Mapping[str, Mapping[str, Any]], device: str) -> bool:
        """Return whether the last digits of a member on a device depend on its pack, which then must not change."""
        return is_padded(config["train"]["engine"], device)

    def seed_of(self, trial: Trial, replicate: int) -> int:
        """Return the seed of a member's initial weights; a retried trial has the seeds of the original one."""
        while trial.retry_of is not None:
            trial = self._book[trial.retry_of]
        number = trial.number if trial.index is None else trial.index
        words = (number, 1) if replicate == 0 else (number, 1, replicate)
        return stable_hash(self._spec.search.seed, *words) >> 1

    def new_packs(self, number: int) -> int:
        """Reserve `number` consecutive pack numbers and return the first."""
        first = self.next_pack
        self.next_pack += number
        return first

    def _enter_window(self, start: int, end: int, size: int, first_pack: int | None = None) -> list[PendingPack]:
        """Enter the missing trials of the indices `start` to `end - 1`, and return the packs with members to train."""
        entered = {trial.index: trial for trial in self._book if trial.index is not None and start <= trial.index}
        params: dict[int, dict[str, Any]] = {index: dict(trial.params) for index, trial in entered.items()}
        attrs: dict[int, dict[str, Any]] = {}
        configs: dict[int, Any] = {}
        asked = []
        for index in range(start, end):
            if index not in entered:
                proposal = self._search.propose(index)
                params[index], attrs[index] = dict(proposal.params), dict(proposal.attrs)
            config = configs[index] = self._spec.config(params[index])
            try:
                train, problem = build_settings(config)
            except pinncore.PinnError:
                continue  # it is recorded as failed once it is entered
            steps = train.epochs + train.iterations
            asked.append(Asked(index, pinncore.pack_key(pinncore.Member(train, problem)), train.width, steps))
        plan = grouped(asked, trials_of_pack(size, self._book.replicates))
        first_pack = self.next_pack if first_pack is None else first_pack
        self.next_pack = max(self.next_pack, first_pack + len(plan) + 1)
        pack_of = {trial.number: pack for pack, trials in enumerate(plan, start=first_pack) for trial in trials}
        with self._ledger.transaction():
            for index in range(start + len(entered), end):
                pack = pack_of.get(index, first_pack + len(plan))
                window = (start, end, size, first_pack)
                entered[index] = self._enter_trial(index, params[index], attrs[index], configs[index], pack, window)
        for index, trial in entered.items():  # rows are published after the database has their trial
            if trial.finished:
                continue
            if trial.duplicate_of is not None and self._book[trial.duplicate_of].finished:
                self._recorder.copy_results(self._book[trial.duplicate_of])
            elif trial.taken_from is not None:
                self._recorder.take_over(trial)
            elif index not in pack_of:
                self.pending_members(trial)  # which records its failure
        packs = []
        for pack, planned_trials in enumerate(plan, start=first_pack):
            trials = [entered[planned.number] for planned in planned_trials]
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
        config: Mapping[str, Any],
        pack: int,
        window: tuple[int, int, int, int],
        *,
        retry_of: int | None = None,
    ) -> Trial:
        digest = config_sha256(config)
        number = len(self._book)
        duplicate = self._book.first_with.get(digest) if retry_of is None else None
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
        )
        attributes: dict[str, Any] = {INDEX: index, PACK: pack, WINDOW: list(window), HASH: digest}
        attributes |= {DUPLICATE_OF: duplicate} if duplicate is not None else {}
        attributes |= {RETRY_OF: retry_of} if retry_of is not None else {}
        attributes |= {TAKEN_FROM: taken_from} if taken_from is not None else {}
        self._ledger.enter(number, self._search.stored(params), self._search.distributions(params), attributes, attrs)
        self._book.add(trial)
        detail = f"same configuration as trial {duplicate}" if duplicate is not None else ""
        self._events.add("asked", detail, trial=number, pack=pack)
        return trial
