"""Asking the sampler ahead of need: a window of trials at a time, entered in the database whole, planned into packs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pinncore
from pinncore.member import is_padded

from ..search import Search, stable_hash
from ..spec.study_spec import StudySpec, build_settings, config_sha256
from ..states import FAIL
from ..storage.events import EventLog
from ..storage.optuna_writer import Ledger
from ..study.trials import DUPLICATE_OF, HASH, INDEX, PACK, RETRY_OF, TAKEN_FROM, WINDOW, Book, Trial
from .capacity import ClusterCapacity
from .packing import Asked, grouped, pack_size, trials_of_pack, window_size
from .queue import PendingMember, PendingPack
from .recorder import Recorder


class TrialProposer:
    """Turns places of the sampler's sequence into trials, and trials into groups of members that wait.

    `reusable` are trials of other studies, FOLDER/N by the hash of their configuration, that need not be trained again.
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
        """Members of the packs that are planned now."""
        return pack_size(self._spec, self._search.limit, at_once=self._at_once, device=self.capacity.device)

    @property
    def may_ask(self) -> bool:
        """Whether there is a trial to ask for that does not wait for others to finish."""
        return self._book.asked < self._search.limit and self._search.ready(self._book.asked)

    @property
    def has_more(self) -> bool:
        """Whether trials are left to ask for, now or later."""
        return self._book.asked < self._search.limit

    @property
    def ahead(self) -> int:
        """Members that should wait for a place: a window, or where the sampler learns as few as keep a pack busy."""
        return self.size if self._search.learns else self.size * self._at_once

    @property
    def packs_to_ask(self) -> int:
        """Packs of the trials that can be asked for before any other trial ends."""
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
        """Ask for the next window and plan its packs, the costliest first."""
        first = self._book.asked
        trials = window_size(self._search, first, self.size, self._book.replicates)
        return self._fill(first, min(first + trials, self._search.limit), self.size)

    def finish_window(self) -> None:
        """Enter what a crash cut a window short of: the same trials, planned into the same packs."""
        last = next((trial for trial in reversed(self._book.trials) if trial.index is not None), None)
        if last is None or last.index is None:
            return
        start, end, size, *first_pack = last.window
        if last.index + 1 < min(end, self._search.limit):
            self._fill(start, min(end, self._search.limit), size, *first_pack)

    def ask_again(self, original: Trial) -> list[PendingPack]:
        """Enter a failed trial once more, under a number of its own; without a group where it fails at once."""
        pack = self.new_packs(1)
        config = self._spec.config(original.params)
        window = (0, 0, self.size, pack)
        trial = self._enter(None, dict(original.params), {}, config, pack, window, retry_of=original.number)
        seats = self.seats(trial)
        return [PendingPack(pack, seats, is_planned=True)] if seats else []

    def seats(self, trial: Trial, *, finished: bool = False) -> list[PendingMember]:
        """The members of a trial that are not finished, or all of them; one that cannot be set up fails here."""
        config = self._spec.config(trial.params)
        try:
            key = pinncore.pack_key(pinncore.Member(*build_settings(config)))
        except pinncore.PinnError as problem:
            self._recorder.end_untrained(trial, FAIL, str(problem), config)
            return []
        r = self._book.replicates
        return [
            PendingMember(trial.number * r + replicate, trial.number, replicate, key)
            for replicate in range(r)
            if finished or replicate not in trial.done
        ]

    @staticmethod
    def is_padded(config: Mapping[str, Mapping[str, Any]], device: str) -> bool:
        """Whether the last digits of a member depend on its company there, so that its pack must stay as it is."""
        return is_padded(config["train"]["engine"], device)

    def seed_of(self, trial: Trial, replicate: int) -> int:
        """The seed of a member's initial weights; a trial trained again has those of the trial it repeats."""
        while trial.retry_of is not None:
            trial = self._book[trial.retry_of]
        number = trial.number if trial.index is None else trial.index
        words = (number, 1) if replicate == 0 else (number, 1, replicate)
        return stable_hash(self._spec.search.seed, *words) >> 1

    def new_packs(self, number: int) -> int:
        """The first of so many numbers that no pack has had."""
        first = self.next_pack
        self.next_pack += number
        return first

    def _fill(self, start: int, end: int, size: int, first_pack: int | None = None) -> list[PendingPack]:
        """Enter the trials of places start..end that are not there yet; returns the packs with members to train."""
        known = {trial.index: trial for trial in self._book if trial.index is not None and start <= trial.index}
        params: dict[int, dict[str, Any]] = {index: dict(trial.params) for index, trial in known.items()}
        attrs: dict[int, dict[str, Any]] = {}
        configs: dict[int, Any] = {}
        asked = []
        for index in range(start, end):
            if index not in known:
                proposal = self._search.propose(index)
                params[index], attrs[index] = dict(proposal.params), dict(proposal.attrs)
            config = configs[index] = self._spec.config(params[index])
            try:
                train, problem = build_settings(config)
            except pinncore.PinnError:
                continue  # it fails when it is entered
            steps = train.epochs + train.iterations
            asked.append(Asked(index, pinncore.pack_key(pinncore.Member(train, problem)), train.width, steps))
        planned = grouped(asked, trials_of_pack(size, self._book.replicates))
        first_pack = self.next_pack if first_pack is None else first_pack
        self.next_pack = max(self.next_pack, first_pack + len(planned) + 1)
        place = {each.number: first_pack + i for i, pack in enumerate(planned) for each in pack}
        with self._ledger.transaction():
            for index in range(start + len(known), end):
                pack = place.get(index, first_pack + len(planned))
                window = (start, end, size, first_pack)
                known[index] = self._enter(index, params[index], attrs[index], configs[index], pack, window)
        for index, trial in known.items():  # nothing is published before the database has it
            if trial.finished:
                continue
            if trial.duplicate_of is not None and self._book[trial.duplicate_of].finished:
                self._recorder.copy_of(self._book[trial.duplicate_of])
            elif trial.taken_from is not None:
                self._recorder.take_over(trial)
            elif index not in place:
                self.seats(trial)
        groups = []
        for i, members in enumerate(planned):
            trials = [known[each.number] for each in members]
            open_trials = [trial for trial in trials if not trial.finished and trial.duplicate_of is None]
            seats = [seat for trial in open_trials for seat in self.seats(trial)]
            if seats:
                groups.append(PendingPack(first_pack + i, seats, is_planned=True))
        return groups

    def _enter(
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
        detail = f"the configuration of trial {duplicate}" if duplicate is not None else ""
        self._events.add("asked", detail, trial=number, pack=pack)
        return trial
