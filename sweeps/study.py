"""A study's owner, the only process that writes to the study.

The owner asks the sampler, forms packs, hands them out, publishes results and tells them to Optuna, in an order from
which a start after any crash can go on: trials enter Optuna whole before they are trained, and their rows are published
before they are told.
"""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

import pinncore
from pinncore.data import load_data

from . import ledger, lock
from .errors import StudyError
from .folder import SPEC_FILE, identity_sha256, read_spec, settle
from .grouping import Asked, grouped, pack_size, window_size
from .ledger import Ledger
from .packs import MemberTask, PackReport, PackTask, checkpoint_folder, failed_rows
from .search import Search, stable_hash
from .spec import StudySpec, build_settings
from .store import StudyTables


@dataclass(frozen=True)
class Cluster:
    """What the owner knows of the machines: how many packs run at once, on what device."""

    slots: int
    device: str


class StudyOwner:
    """Owns one study for one attempt, from the lock to the last event.

    `spec` is what the study file asks for, if that may have changed since the last attempt; `driver_pid` is the process
    the user started. Raises `StudyError` where the study is held, damaged or another one.
    """

    def __init__(
        self,
        study_dir: Path,
        cluster: Cluster,
        spec: StudySpec | None = None,
        *,
        driver_pid: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study_dir, self._cluster, self._clock = Path(study_dir), cluster, clock
        self._lock = lock.StudyLock(self.study_dir, driver_pid=driver_pid or os.getpid())
        try:
            self._begin(spec, driver_pid or os.getpid())
        except BaseException:
            self._lock.release()
            raise

    def _begin(self, spec: StudySpec | None, driver_pid: int) -> None:
        """Everything that wants the lock held."""
        is_new = not (self.study_dir / SPEC_FILE).is_file()
        if spec is not None and is_new:
            settle(self.study_dir, spec)
        self.spec = read_spec(self.study_dir)
        self._ledger = Ledger(self.study_dir, self.spec.study, create=True)
        self._tables = StudyTables(self.study_dir)
        self._refuse_changes()
        if spec is not None and not is_new:  # what is refused is left as it is, to the last byte
            settle(self.study_dir, spec)
            self.spec = read_spec(self.study_dir)
        self.attempt = 1 + max(int(self._ledger.attributes().get("attempts", 0)), self._tables.newest_attempt())
        self._ledger.set_attribute("attempts", self.attempt)
        self._events: list[dict[str, Any]] = []
        self._event_files = 0
        self._started, self._closed = self._clock(), False
        self._broken: str | None = None
        self._finished: list[dict[str, Any]] = []
        self._progress: dict[int, dict[str, Any]] = {}
        self._leased: dict[int, PackTask] = {}
        self._event(
            "started" if self.attempt == 1 else "resumed",
            f"attempt {self.attempt}, process {driver_pid}",
        )
        self._reconcile()
        self._search = Search(self.spec, list(self._trials.values()))
        self._complete_window()
        self._queue = self._unfinished_packs()
        self._flush_events()

    # ---- handing out work -----------------------------------------------------------------------------------------

    def next_pack(self) -> int | None:
        """The next pack to train, or None where nothing is left to hand out or the budget is spent."""
        if self._broken or self.over_budget():
            return None
        if not self._queue:
            try:
                self._ask()
            except Exception as problem:  # an error in Tune's loop would end the run without a word
                self._broken = f"{type(problem).__name__}: {problem}"
        return self._queue.pop(0) if self._queue else None

    def lease(self, pack: int) -> PackTask:
        """Hand a pack to a worker: its members are RUNNING from now on."""
        trials = [trial for trial in self._trials.values() if trial.user_attrs[ledger.PACK] == pack]
        for trial in trials:
            if not trial.state.is_finished():
                self._mark(trial.number, TrialState.RUNNING)
        members = tuple(
            MemberTask(
                trial.number,
                trial.user_attrs[ledger.MEMBER],
                trial.user_attrs[ledger.SEED],
                self.spec.config(self._search.decoded(trial.params)),
            )
            for trial in trials
        )
        resources, results = self.spec.resources, self.spec.results
        task = PackTask(
            pack,
            self.attempt,
            members,
            self._cluster.device,
            resources.cpus_per_pack,
            self.spec.search.objective,
            self.spec.sha256(),
            results.fields == "all",
            results.weights == "all",
        )
        self._leased[pack] = task
        self._event("leased", f"{len(members)} members", pack=pack)
        return task

    def report(self, report: PackReport) -> bool:
        """Take a segment's report: publish what finished, then tell it.

        Returns whether it was taken; only then may the worker replace its checkpoint. Late reports of older attempts
        are refused, and so is everything once the study's disk or database has failed: what is then half done, the
        next start brings in order.
        """
        if self._closed or self._broken or report.attempt != self.attempt or report.pack not in self._leased:
            return False
        try:
            self._record(report)
        except Exception as problem:
            self._broken = f"{type(problem).__name__}: {problem}"
            return False
        return True

    def broken(self) -> str | None:
        """Why nothing more can be recorded, or None."""
        return self._broken

    def _record(self, report: PackReport) -> None:
        for note in report.notes:
            self._event("reconciled", note, pack=report.pack)
        new = {row["trial"] for row in report.trials if not self._trials[row["trial"]].state.is_finished()}
        if new:

            def own(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
                return [row for row in rows if row["trial"] in new]

            self._tables.publish(
                f"trials-{min(new):06d}",
                trials=own(report.trials),
                curves=own(report.curves),
                fields=own(report.fields),
                weights=own(report.weights),
            )
            for row in own(report.trials):
                self._tell(row)
            self._flush_events()
        self._progress[report.pack] = report.progress
        if report.done:
            self._progress.pop(report.pack, None)
            self._leased.pop(report.pack, None)

    def lost(self, pack: int, reason: str, detail: str = "") -> None:
        """A worker is gone for good: its unfinished members are FAIL, with the reason; `detail` goes to the events."""
        task = self._leased.get(pack)
        if task is None:
            return
        self._event("failed", detail or reason, pack=pack)
        now = datetime.datetime.now(datetime.UTC)
        left = replace(task, members=tuple(m for m in task.members if not self._trials[m.trial].state.is_finished()))
        self.report(PackReport(pack, self.attempt, True, {}, trials=failed_rows(left, reason, now, now)))

    def close(self) -> dict[str, int]:
        """End the attempt; returns the trials in each state. Nothing is written after that."""
        self._closed = True
        for trial in self._trials.values():
            if trial.state == TrialState.RUNNING:
                self._mark(trial.number, TrialState.WAITING)
        counts = ledger.counts(list(self._trials.values()))
        self._event("ended", ", ".join(f"{number} {state}" for state, number in counts.items() if number))
        self._flush_events()
        self._ledger.close()
        self._lock.release()
        return counts

    def snapshot(self) -> dict[str, Any]:
        """How the study stands, for progress views."""
        trials = list(self._trials.values())
        elapsed_s = self._clock() - self._started
        running = sum(
            progress["fraction"] * progress["members"] - progress["finished"] for progress in self._progress.values()
        )
        done = len(self._finished) + running
        left = self._search.limit - sum(trial.state.is_finished() for trial in trials) - running
        return {
            **describe(self.spec, trials, self._search),
            "packs": list(self._progress.values()),
            "elapsed_s": elapsed_s,
            "remaining_s": elapsed_s * left / done if done > 0 else None,
            "finished": list(self._finished),
        }

    # ---- what a start finds ---------------------------------------------------------------------------------------

    def _refuse_changes(self) -> None:
        """The study file and the data must be those the study began with, whatever happened to the files."""
        known, found = self._ledger.attributes(), {"identity": identity_sha256(self.spec)}
        if "data" not in self.spec.space:  # else every trial's row carries its own data hash
            found["data_hash"] = load_data(self.spec.problem.get("data", "strb100")).sha256
        if known.get("identity", found["identity"]) != found["identity"]:
            raise StudyError(
                f"{self.study_dir}/study.yaml is not what the study began with: it was changed by hand, or by a "
                "version with other defaults. problem, space, train and search (but trials) cannot change. Restore "
                "it, or start a study of another name"
            )
        if known.get("data_hash", found.get("data_hash")) != found.get("data_hash", known.get("data_hash")):
            raise StudyError(
                f"the data of {self.study_dir} have changed since it began (hash {known['data_hash'][:12]}, now "
                f"{found['data_hash'][:12]}). Restore them, or start a study of another name"
            )
        for name, digest in found.items():
            self._ledger.set_attribute(name, digest)

    def _reconcile(self) -> None:
        """Bring folder and database together after a crash: published rows are told, half publications removed."""
        self._trials: dict[int, FrozenTrial] = {trial.number: trial for trial in self._ledger.trials()}
        foreign = [number for number, trial in self._trials.items() if ledger.PACK not in trial.user_attrs]
        if foreign:
            raise StudyError(
                f"{self.study_dir}: trial {foreign[0]} was entered into {ledger.FILE} by another tool; a study asks "
                "its own trials. Restore the database from before that, or start a study of another name"
            )
        rows = self._tables.read("trials", columns=["trial", "state", self.spec.search.objective]).to_pylist()
        for row in rows:
            trial = self._trials.get(row["trial"])
            if trial is None:
                raise StudyError(
                    f"{self.study_dir}: the tables hold trial {row['trial']}, the database does not; "
                    f"restore {ledger.FILE}"
                )
            if not trial.state.is_finished():
                self._finish(row["trial"], row["state"], row[self.spec.search.objective])
                self._event("reconciled", "published but not told; told now", trial=row["trial"])
        published = {row["trial"] for row in rows}
        if len(published) < len(rows):
            raise StudyError(f"{self.study_dir}: a trial stands twice in trials/; remove the file that was added to it")
        lost = [
            number for number, trial in self._trials.items() if trial.state.is_finished() and number not in published
        ]
        if lost:
            raise StudyError(
                f"{self.study_dir}: the database holds finished trials whose rows are gone from trials/: "
                f"{', '.join(map(str, lost[:10]))}. Restore the files, or start a study of another name"
            )
        for orphan in self._tables.remove_orphans():  # only now, when no row of a finished trial is missing
            self._event("reconciled", f"removed the unfinished publication {orphan}")
        for trial in list(self._trials.values()):
            if trial.state == TrialState.RUNNING:
                self._mark(trial.number, TrialState.WAITING)
        self._sweep_checkpoints()

    def _sweep_checkpoints(self) -> None:
        """Checkpoints of packs that are finished have no reader."""
        unfinished = set(self._unfinished_packs())
        for folder in (self.study_dir / "checkpoints").glob("pack-*"):
            number = folder.name.removeprefix("pack-")
            if number.isdigit() and int(number) not in unfinished:
                shutil.rmtree(folder, ignore_errors=True)

    def _unfinished_packs(self) -> list[int]:
        """Packs with members left to train: those with a checkpoint first, then by number."""
        packs = {trial.user_attrs[ledger.PACK] for trial in self._trials.values() if not trial.state.is_finished()}
        return sorted(packs, key=lambda pack: (not checkpoint_folder(self.study_dir, pack).is_dir(), pack))

    # ---- asking ---------------------------------------------------------------------------------------------------

    def over_budget(self) -> bool:
        """Whether the hours of this attempt are over."""
        hours = self.spec.budget.hours
        return hours is not None and self._clock() - self._started > hours * 3600

    def _ask(self) -> None:
        """Ask for a window of trials, put members of one shape together and queue the packs, the costliest first."""
        size = pack_size(self.spec, self._search.limit, at_once=self._cluster.slots, device=self._cluster.device)
        first = len(self._trials)
        window = window_size(self.spec, size)
        self._queue += self._fill(first, min(first + window, self._search.limit), size)

    def _complete_window(self) -> None:
        """Go on where a crash cut a window short: the same trials into the same packs."""
        if self._trials:
            start, end, size = self._trials[max(self._trials)].user_attrs[ledger.WINDOW]
            if len(self._trials) < end:
                self._fill(start, end, size)

    def _fill(self, start: int, end: int, size: int) -> list[int]:
        """Enter the trials of a window that are not there yet; returns the window's packs, the costliest first."""
        asked = [self._asked(number) for number in range(start, end)]
        first_pack = 1 + max((t.user_attrs[ledger.PACK] for t in self._trials.values() if t.number < start), default=-1)
        packs = grouped(asked, size)
        place = {
            trial.number: (first_pack + index, member)
            for index, pack in enumerate(packs)
            for member, trial in enumerate(pack)
        }
        for trial in asked[len(self._trials) - start :]:
            pack, member = place[trial.number]
            attributes = {
                ledger.PACK: pack,
                ledger.MEMBER: member,
                ledger.WINDOW: [start, end, size],
                ledger.SEED: stable_hash(self.spec.search.seed, trial.number, 1) >> 1,
            }
            self._ledger.create(trial.number, self._search.stored(trial.params), self._search.distributions, attributes)
            self._event("asked", "", trial=trial.number, pack=pack)
        self._trials = {trial.number: trial for trial in self._ledger.trials()}
        return list(range(first_pack, first_pack + len(packs)))

    def _asked(self, number: int) -> Asked:
        known = self._trials.get(number)
        params = self._search.decoded(known.params) if known else self._search.propose(number)
        train, problem = build_settings(self.spec.config(params))
        member = pinncore.Member(train, problem)
        return Asked(number, params, pinncore.pack_key(member), train.width, train.adam_epochs + train.lbfgs_iterations)

    # ---- recording ------------------------------------------------------------------------------------------------

    def _tell(self, row: dict[str, Any]) -> None:
        number, objective = row["trial"], self.spec.search.objective
        value = row.get(objective)
        self._finish(number, row["state"], value)
        self._event(
            "finished" if row["state"] == "COMPLETE" else "failed",
            row.get("failure") or row.get("stop_reason") or "",
            trial=number,
            pack=row["pack"],
        )
        params = self._search.decoded(self._trials[number].params)
        self._search.tell(number, params, row["state"], value)
        self._finished.append(
            {
                "trial": number,
                "state": row["state"],
                "value": value,
                "stop_reason": row.get("stop_reason"),
                "failure": row.get("failure"),
                "params": params,
                "seconds": row.get("seconds"),
            }
        )

    def _finish(self, number: int, state: str, value: float | None) -> None:
        if self._trials[number].state == TrialState.WAITING:
            self._mark(number, TrialState.RUNNING)
        self._mark(number, TrialState[state], value if state == "COMPLETE" else None)

    def _mark(self, number: int, state: TrialState, value: float | None = None) -> None:
        self._ledger.mark(number, state, value)
        trial = self._trials[number]
        trial.state = state
        if value is not None:
            trial.values = [value]

    def _event(self, event: str, detail: str, *, trial: int | None = None, pack: int | None = None) -> None:
        self._events.append(
            {
                "time": datetime.datetime.now(datetime.UTC),
                "attempt": self.attempt,
                "trial": trial,
                "pack": pack,
                "event": event,
                "detail": detail,
            }
        )

    def _flush_events(self) -> None:
        if self._events:
            self._tables.publish_events(f"attempt-{self.attempt:04d}-{self._event_files:06d}", self._events)
            self._event_files += 1
            self._events = []


def describe(spec: StudySpec, trials: Sequence[FrozenTrial], search: Search) -> dict[str, Any]:
    """Counts and the best trial."""
    leader = ledger.best(trials)
    return {
        "study": spec.study,
        "limit": search.limit,
        "counts": ledger.counts(trials),
        "objective": spec.search.objective,
        "best": None
        if leader is None
        else {"trial": leader.number, "value": leader.value, "params": search.decoded(leader.params)},
    }


def read_status(study_dir: Path) -> dict[str, Any]:
    """How a study stands, read without taking it from its driver. Raises `StudyError`."""
    spec, holder = read_spec(study_dir), lock.held_by(study_dir)
    trials: list[FrozenTrial] = []
    if holder is None or (study_dir / ledger.FILE).is_file():
        found = Ledger(study_dir, spec.study, create=False)
        try:
            trials = found.trials()
        finally:
            found.close()
    status = describe(spec, trials, Search(spec))
    if holder is None:  # what a killed driver left RUNNING is trained by nobody
        status["counts"]["WAITING"] += status["counts"]["RUNNING"]
        status["counts"]["RUNNING"] = 0
    return {**status, "held_by": holder}
