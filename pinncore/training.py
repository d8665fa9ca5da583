"""Packs: members that train together, each at its own point of its first or second stage.

One tick is one batched evaluation, from which every member takes what its optimiser needs. Members that finish leave
the pack. `state` and `restore` are exact: a pack continued from its checkpoint repeats the uninterrupted run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .batches import Pick, picks, round_of
from .checkpoint import MemberState
from .cuda.first_stage import MOST_EPOCHS, MOST_RECORDS
from .engines import Engine, Evaluation, engine_for
from .errors import CheckpointError, SettingError
from .initialisation import initial_parameters
from .member import Member, check_held_out, pack_key
from .networks import Layers
from .optim import (
    LOOK_EVERY,
    BestHeldOut,
    FirstOrderSettings,
    LBFGSSettings,
    PackedFirstOrder,
    PackedLBFGS,
    PackedScipy,
    ScipySettings,
    SecondStage,
    StopReason,
)
from .problems import Problem
from .problems.nonlocal_strain import NonlocalStrain
from .results import MemberPredictor, MemberResult
from .settings import PHASES, TrainSettings

Array = NDArray[np.float64]
STRETCH_REASONS = (None, StopReason.NOT_FINITE, StopReason.DIVERGED)  # as step.cuh numbers them
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass
class _Progress:
    """The progress of a member and its records."""

    phase: str
    epoch: int = 0
    first_loss: float = math.nan
    evaluations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    curves: list[list[float]] = field(default_factory=list)
    kept: dict[int, Array] = field(default_factory=dict)
    held_out: BestHeldOut | None = None  # of members whose final weights are the best there


def choose_device(device: str) -> torch.device:
    """Return the device called `device`; `auto` is CUDA where available, else the CPU.

    Raises `SettingError` for a device that this machine does not have.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SettingError("device", device, "must be a device this machine has", "Use device: cpu, or auto.")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise SettingError("device", device, f"must be one of the {count} GPUs that PyTorch sees, counted from cuda:0")
    return chosen


class Pack:
    """Members in training on one device.

    `padded` fixes the layer sizes that members are padded to, where the engine pads (default: the widest member).
    Raises `SettingError` where members cannot share a pack, or one is to keep its best held-out weights but its problem
    has nothing to hold out; `DataError` and `WeightsError` where files are wrong.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        device: str = "auto",
        padded: Layers = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not members or len({pack_key(member) for member in members}) != 1:
            raise SettingError(
                "members",
                len(members),
                "must be at least one, and share problem, data, inputs, depth, activation, dtype and engine",
            )
        for member in members:
            check_held_out(member.train, member.problem)
        self.members = list(members)
        self.device, self._clock = choose_device(device), clock
        dtype = DTYPES[members[0].train.dtype]
        train = members[0].train
        kinds = {engine_for(member, self.device) for member in members}
        if len(kinds) > 1:
            raise SettingError("members", len(members), "must be taken by one engine on this device")
        kind = kinds.pop()
        layout = kind.arrange([member.layers for member in members], padded)
        self.engine: Engine = kind(
            [member.problem for member in members],
            layout,
            dtype=dtype,
            device=self.device,
            activation=train.activation,
            allow_tf32=train.allow_tf32,
        )
        starts = [initial_parameters(member.train.init, member.layers, seed=member.seed) for member in members]
        self.x = layout.pack(starts, dtype=dtype, device=self.device)
        self.first = PackedFirstOrder([first_order(member.train) for member in members], self.x)
        positions = [layout.positions(row) for row in range(len(members))]
        self.second: SecondStage
        if train.second_stage == "scipy":
            self.second = PackedScipy([_scipy(member.train) for member in members], self.x, positions)
        else:
            self.second = PackedLBFGS([lbfgs_settings(member) for member in members], self.x, positions)
        self.progress = [
            _Progress(
                PHASES[0] if member.train.epochs else PHASES[1],
                held_out=BestHeldOut() if member.train.final_weights == "best_heldout" else None,
            )
            for member in members
        ]
        self._rounds = [0] * len(members)  # how often the points of each were drawn anew
        self.results: list[MemberResult] = []  # of finished members, in the order in which they finished

    @property
    def active(self) -> int:
        """Return the number of members in training."""
        return len(self.members)

    def step(self, ticks: int) -> None:
        """Advance every member by `ticks` evaluations, or to its end."""
        while ticks > 0 and self.members:
            length = self._stretch(ticks)
            if length:
                self._run_stretch(length)
            else:
                self._tick()
            ticks -= max(length, 1)

    def fraction(self, row: int) -> float:
        """Return the share of its planned epochs and iterations that a member has completed."""
        return self._step(row) / max(self.planned(row), 1)

    def planned(self, row: int) -> int:
        """Return the number of epochs and iterations that a member takes if nothing ends it earlier."""
        train = self.members[row].train
        return train.epochs + train.iterations

    def recorded(self, row: int, step: int) -> dict[str, float] | None:
        """Return a member's last curve row up to a step of both stages together; None until the member is past it.

        The row depends on the member only, not on the time of the call. Keys: loss, rel_l2 (NaN without reference).
        """
        if self._step(row) <= step:
            return None  # the row of a member's current step is not written yet
        newest = max(index for index, at in enumerate(self.course(row, "step")) if at <= step)  # the first is at step 0
        return {name: self.course(row, name)[newest] for name in ("loss", "rel_l2")}

    def course(self, row: int, column: str) -> list[float]:
        """Return a column of a member's curve so far: step (of both stages together), loss or rel_l2."""
        epochs, curves = self.members[row].train.epochs, self.progress[row].curves
        if column == "step":
            return [step + (epochs if phase else 0) for phase, step, *_ in curves]
        return [values[{"loss": 3, "rel_l2": 5}[column]] for values in curves]

    def joined(self, members: Sequence[Member]) -> Pack:
        """Return a pack of these members in their current state and of new `members`. Raises as `Pack` does."""
        pack = Pack([*self.members, *members], device=str(self.device), clock=self._clock)
        pack.restore(self.state())
        pack.results = self.results
        return pack

    def stage(self, row: int) -> str:
        """Return the name of the optimiser that trains a member now."""
        train = self.members[row].train
        return train.first_stage if self.progress[row].phase == "first" else train.second_stage

    def _stretch(self, ticks: int) -> int:
        """Return how many of the next ticks the engine's device takes without the host, which has no part in them."""
        stage = self.engine.stage
        if stage is None or any(progress.phase != "first" for progress in self.progress):
            return 0
        if any(member.problem.batch is not None for member in self.members):
            return 0
        self._renew(range(self.active))
        length = min(ticks, MOST_EPOCHS, *(self._undisturbed(row) for row in range(self.active)))
        records = self._recorded_epochs(length)
        return length if len(records) <= MOST_RECORDS else records[MOST_RECORDS]

    def _undisturbed(self, row: int) -> int:
        """Return the epochs up to which a member needs no new points, keeps no weights and is in its first stage."""
        train, epoch = self.members[row].train, self.progress[row].epoch
        every = getattr(self.members[row].problem, "resample_every", None)
        renewed = [(epoch // every + 1) * every] if every else []
        return min([train.epochs, *renewed, *(kept for kept in train.keep_epochs if kept > epoch)]) - epoch

    def _recorded_epochs(self, length: int) -> list[int]:
        """Return after which of the next epochs, counted from 0, a member adds to its curve."""
        pairs = [(self.progress[row].epoch, member.train.record_every) for row, member in enumerate(self.members)]
        return [k for k in range(length) if any((epoch + k) % every == 0 for epoch, every in pairs)]

    def _run_stretch(self, length: int) -> None:
        """Advance every member by `length` epochs on the device, or to its end."""
        stage, started, active = self.engine.stage, self._clock(), self.active
        assert stage is not None
        epochs = [progress.epoch for progress in self.progress]
        every, records = [member.train.record_every for member in self.members], self._recorded_epochs(length)
        kept = [row for row in range(active) if epochs[row] in self.members[row].train.keep_epochs]
        before = {row: self._weights(row) for row in kept}
        found = stage.run(
            *(self.x, self.first, length, records),
            [progress.first_loss for progress in self.progress],
            [member.train.divergence_factor for member in self.members],
        )
        self.x = found.x
        share = (self._clock() - started) / active
        stopped = {}
        for row, progress in enumerate(self.progress):
            done, reason = found.epochs[row], STRETCH_REASONS[found.stopped[row]]
            evaluations, progress.first_loss = progress.evaluations["first"], found.first_losses[row]
            if row in before and done:
                progress.kept[epochs[row]] = before[row]
            for k, record in zip(records, found.records[:, row], strict=True):
                if k < done and (epochs[row] + k) % every[row] == 0:
                    seconds = sum(progress.seconds.values()) + share * (k + 1) / length
                    self._add_record(row, epochs[row] + k, evaluations + k + 1, seconds, record.tolist())
            progress.evaluations["first"] += done + (reason is not None)
            progress.seconds["first"] += share
            progress.epoch += done
            if reason is not None:
                stopped[row] = reason
            elif progress.epoch == self.members[row].train.epochs and (end := self._end_first(row)) is not None:
                stopped[row] = end
        self._finish(stopped)

    def _end_first(self, row: int) -> StopReason | None:
        """Go on to a member's second stage; return why it ends where it has none."""
        progress, train = self.progress[row], self.members[row].train
        if not train.iterations:
            return StopReason.EPOCHS_DONE
        progress.phase = "second"
        self.second.x[row] = self.x[row]
        if progress.epoch in train.keep_epochs:
            self._keep_weights(row)
        return None

    def _tick(self) -> None:
        started = self._clock()
        active = self.active
        first = [row for row, progress in enumerate(self.progress) if progress.phase == "first"]
        second = [row for row, progress in enumerate(self.progress) if progress.phase == "second"]
        points = self.x
        if second:
            points = points.clone()
            points[self._place(second)] = self.second.points(second)
        found = self._evaluate(points)
        gradient, sizes = found.gradient, self.engine.norms(found.gradient)
        rows = zip(found.loss.tolist(), sizes, found.terms.tolist(), strict=True)
        numbers = [[value, norm, *parts] for value, norm, parts in rows]
        stopped: dict[int, StopReason] = {}
        for row in first + second:
            progress = self.progress[row]
            progress.evaluations[progress.phase] += 1
            if math.isnan(progress.first_loss):
                progress.first_loss = numbers[row][0]
            if not (math.isfinite(numbers[row][0]) and math.isfinite(numbers[row][1])):
                stopped[row] = StopReason.NOT_FINITE
            elif progress.phase == "first" and self._diverges(row, numbers[row][0]):
                stopped[row] = StopReason.DIVERGED
        stopped |= self._first_tick([row for row in first if row not in stopped], numbers, gradient)
        stopped |= self._second_tick([row for row in second if row not in stopped], numbers, gradient)
        share = (self._clock() - started) / active
        for row in first:
            self.progress[row].seconds["first"] += share
        for row in second:
            self.progress[row].seconds["second"] += share
        self._finish(stopped)

    def _evaluate(self, points: Tensor) -> Evaluation:
        """Evaluate every member on the points of its epoch; members with as many points together."""
        self._renew(range(self.active))
        chosen = [self._picks(row) for row in range(self.active)]
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, each in enumerate(chosen):
            alike.setdefault(tuple(-1 if pick is None else len(pick) for pick in each), []).append(row)
        if list(alike) == [()]:
            return self.engine.evaluate(points)
        parts = [
            self.engine.evaluate(points[self._place(rows)], rows, [chosen[row] for row in rows] if counts else None)
            for counts, rows in alike.items()
        ]
        back = self._place(np.argsort([row for rows in alike.values() for row in rows]).tolist())
        return Evaluation(*(torch.cat(tensors)[back] for tensors in zip(*parts, strict=True)))

    def _picks(self, row: int) -> tuple[Pick, ...]:
        """Return the points of a member's epoch in each group; nothing where it takes all."""
        member, progress = self.members[row], self.progress[row]
        batch = member.problem.batch
        if batch is None or progress.phase != "first":
            return ()
        counts = [len(points) for points in self.engine.problems[row].point_sets]
        chosen = picks(counts, batch, seed=member.seed, epoch=progress.epoch)
        return () if all(pick is None for pick in chosen) else chosen

    def _renew(self, rows: Iterable[int]) -> None:
        """Give members the points of their epoch, where those are others than the last."""
        for row in rows:
            member = self.members[row]
            every = getattr(member.problem, "resample_every", None)  # of problems with a domain
            number = round_of(self.progress[row].epoch, epochs=member.train.epochs, every=every)
            if number != self._rounds[row]:
                self.engine.renew(row, member.problem.at_round(number))
                self._rounds[row] = number

    def stop(self, label: int, reason: StopReason) -> None:
        """End the member called `label` now, with metrics as at its regular end."""
        self._finish({row: reason for row, member in enumerate(self.members) if member.label == label})

    def _finish(self, stopped: dict[int, StopReason]) -> None:
        if stopped:
            self.results += [self._result(row, reason) for row, reason in sorted(stopped.items())]
            self._keep([row for row in range(self.active) if row not in stopped])

    def _first_tick(self, rows: list[int], numbers: list[list[float]], gradient: Tensor) -> dict[int, StopReason]:
        if not rows:
            return {}
        recorded = [row for row in rows if self.progress[row].epoch % self.members[row].train.record_every == 0]
        self._record(recorded, [numbers[row] for row in recorded])
        for row in rows:
            if self.progress[row].epoch in self.members[row].train.keep_epochs:
                self._keep_weights(row)
        if len(rows) == self.active:
            self.x = self.engine.first_step(self.first, self.x, gradient, rows)
        else:
            place = self._place(rows)
            self.x[place] = self.engine.first_step(self.first, self.x[place], gradient[place], rows)
        stopped = {}
        for row in rows:
            progress, train = self.progress[row], self.members[row].train
            progress.epoch += 1
            if progress.epoch == train.epochs and (end := self._end_first(row)) is not None:
                stopped[row] = end
        return stopped

    def _second_tick(self, rows: list[int], numbers: list[list[float]], gradient: Tensor) -> dict[int, StopReason]:
        if not rows:
            return {}
        fresh = [row for row in rows if self.second.searches[row] is None]
        accepted = self.second.tell(
            rows,
            [numbers[row][0] for row in rows],
            gradient[self._place(rows)],
            [tuple(numbers[row][2:]) for row in rows],
        )
        self.x[self._place(rows)] = self.second.x[self._place(rows)]
        recorded = [
            row for row in fresh + accepted if self.second.iterations[row] % self.members[row].train.record_every == 0
        ]
        sizes = self.engine.norms(self.second.gradient[self._place(recorded)])
        self._record(
            recorded,
            [
                [self.second.losses[row], size, *self.second.terms[row]]
                for row, size in zip(recorded, sizes, strict=True)
            ],
        )
        stopped = dict.fromkeys(self._stalled(fresh + accepted), StopReason.HELD_OUT_STALLED)
        stopped |= {row: reason for row in rows if (reason := self.second.stopped[row]) is not None}
        # only at the end of an iteration, because a line search may try larger losses
        return stopped | {row: StopReason.DIVERGED for row in accepted if self._diverges(row, self.second.losses[row])}

    def _stalled(self, rows: list[int]) -> list[int]:
        """Look at the held-out residuals that are due, and return the members that end because theirs has stalled."""
        stalled = []
        for row in rows:
            held_out = self.progress[row].held_out
            if held_out is not None and self.second.iterations[row] % LOOK_EVERY == 0:
                self._look(row, held_out)
                if held_out.has_stalled:
                    stalled.append(row)
        return stalled

    def _look(self, row: int, held_out: BestHeldOut) -> None:
        residual = self.members[row].problem.heldout_residual(MemberPredictor(self.engine, self.x[row], row))
        assert residual is not None, "Pack refuses members without points to hold out"
        held_out.look(residual, self._step(row), self._weights(row))

    def _step(self, row: int) -> int:
        """Return a member's step of both stages together."""
        return self.progress[row].epoch + self.second.iterations[row]

    def _diverges(self, row: int, loss: float) -> bool:
        return loss > self.members[row].train.divergence_factor * self.progress[row].first_loss > 0

    def _record(self, rows: list[int], numbers: list[list[float]]) -> None:
        """Add a curve row to each member: phase, step, evaluations, loss, gradient norm, error, seconds, terms.

        Loss, norm and terms are those of the points of the epoch.
        """
        if not rows:
            return
        errors = self.engine.errors(self.x[self._place(rows)], rows)
        for row, (loss, norm, *terms), error in zip(rows, numbers, errors, strict=True):
            progress = self.progress[row]
            step = progress.epoch if progress.phase == "first" else self.second.iterations[row]
            values = [loss, norm, math.nan if error is None else error, *terms]
            self._add_record(row, step, sum(progress.evaluations.values()), sum(progress.seconds.values()), values)

    def _add_record(self, row: int, step: int, evaluations: int, seconds: float, values: Sequence[float]) -> None:
        """Add a curve row; `values` are loss, gradient norm, error, terms."""
        progress, (loss, norm, error, *terms) = self.progress[row], values
        curves = [PHASES.index(progress.phase), step, evaluations, loss, norm, error, seconds, *terms]
        progress.curves.append(curves)

    def _keep_weights(self, row: int) -> None:
        self.progress[row].kept[self._step(row)] = self._weights(row)

    def _weights(self, row: int) -> Array:
        """Return a member's own weights [parameters] at its last completed step."""
        return self.engine.layout.unpack(self.x[row], row).copy()

    def _result(self, row: int, reason: StopReason) -> MemberResult:
        """Return the result of a member, evaluated alone, at its own shape, at its final weights, on all its points.

        Its curves end with its last weights, whichever are the final ones.
        """
        member, progress, problem = self.members[row], self.progress[row], self.members[row].problem
        self._renew([row])
        alone = self.engine.like([self.engine.problems[row]], self.engine.arrange([member.layers]))
        failure = reason.advice if reason.failed else None
        x = alone.layout.pack([self._weights(row)], dtype=self.x.dtype, device=self.device)
        found = alone.evaluate(x)
        if failure is None:
            self._record_last(row, [float(found.loss), *alone.norms(found.gradient), *found.terms[0].tolist()])
        kept_at, flat = self._final_weights(row, has_failed=reason.failed)
        if kept_at != self._step(row):
            x = alone.layout.pack([flat], dtype=self.x.dtype, device=self.device)
            found = alone.evaluate(x)
        (norm,) = alone.norms(found.gradient)
        progress.kept[kept_at] = flat
        metrics: dict[str, float | None] = {}
        if failure is None:
            metrics = problem.evaluate(MemberPredictor(alone, x[0]))
        counts = {
            "epochs_done": progress.epoch,
            "iterations_done": self.second.iterations[row],
            "kept_at": kept_at,
            **{f"{phase}_evaluations": progress.evaluations[phase] for phase in PHASES},
            "evaluations": sum(progress.evaluations.values()),
        }
        output = alone.outputs(x, [0])[0].double().cpu().numpy()
        seconds = {
            **{f"{phase}_seconds": progress.seconds[phase] for phase in PHASES},
            "seconds": sum(progress.seconds.values()),
        }
        return MemberResult(
            member.label,
            member.layers,
            reason,
            failure,
            flat,
            float(found.loss),
            dict(zip(problem.terms, found.terms[0].tolist(), strict=True)),
            norm,
            metrics,
            self._curves(row),
            progress.kept,
            {} if failure else problem.field(output),
            counts,
            seconds,
            self.engine.name,
            self.second.forms[row],
            self.device.type,
            problem.data_sha256,
        )

    def _final_weights(self, row: int, *, has_failed: bool) -> tuple[int, Array]:
        """Return the step of the weights that are a member's result, and these: the best held-out ones, or the last."""
        progress = self.progress[row]
        if progress.held_out is not None and progress.phase == "second" and not has_failed:
            self._look(row, progress.held_out)  # so that the last weights compete
            if progress.held_out.kept_at is not None and progress.held_out.weights is not None:
                return progress.held_out.kept_at, progress.held_out.weights
        return self._step(row), self._weights(row)

    def _record_last(self, row: int, numbers: list[float]) -> None:
        progress = self.progress[row]
        step = progress.epoch if progress.phase == "first" else self.second.iterations[row]
        if not progress.curves or progress.curves[-1][:2] != [PHASES.index(progress.phase), step]:
            self._record([row], [numbers])

    def _curves(self, row: int) -> dict[str, NDArray[Any]]:
        terms = self.members[row].problem.terms
        table = np.array(self.progress[row].curves, dtype=np.float64).reshape(-1, 7 + len(terms))
        columns: dict[str, NDArray[Any]] = {"phase": np.array(PHASES)[table[:, 0].astype(int)]}
        columns |= {"step": table[:, 1].astype(np.int64), "evaluations": table[:, 2].astype(np.int64)}
        columns["loss"] = table[:, 3]
        columns |= {f"loss_{term}": table[:, 7 + i] for i, term in enumerate(terms)}
        return columns | {"grad_norm": table[:, 4], "rel_l2": table[:, 5], "time_s": table[:, 6]}

    def _keep(self, rows: list[int]) -> None:
        """Drop all members except `rows`."""
        if rows:
            self.engine = self.engine.keep(rows)
            self.x = self.x[self._place(rows)]
            self.first.keep(rows)
            self.second.keep(rows)
        self.members = [self.members[row] for row in rows]
        self.progress = [self.progress[row] for row in rows]
        self._rounds = [self._rounds[row] for row in rows]

    def _place(self, rows: Sequence[int]) -> Tensor:
        return torch.as_tensor(rows, dtype=torch.int64, device=self.device)

    def state(self) -> list[MemberState]:
        """Return the states of all unfinished members, to be taken between two ticks."""
        return [self._member_state(row) for row in range(self.active)]

    def _member_state(self, row: int) -> MemberState:
        progress, member = self.progress[row], self.members[row]
        first_values, first_tensors = self.first.state(row)
        second_values, second_tensors = self.second.state(row)
        place = self._place(self.engine.layout.positions(row).tolist())
        vectors = {"x": self.x[row]}
        vectors |= {f"first/{name}": tensor for name, tensor in first_tensors.items()}
        vectors |= {f"second/{name}": tensor for name, tensor in second_tensors.items()}
        tensors = {name: _narrow(name, tensor, place) for name, tensor in vectors.items()}
        tensors["curves"] = torch.as_tensor(np.array(progress.curves, dtype=np.float64))
        tensors |= {f"kept/{epoch}": torch.as_tensor(flat) for epoch, flat in progress.kept.items()}
        held_out = progress.held_out
        if held_out is not None and held_out.weights is not None:
            tensors["best/weights"] = torch.as_tensor(held_out.weights)
        values = {
            "phase": progress.phase,
            "epoch": progress.epoch,
            "first_loss": progress.first_loss,
            "evaluations": dict(progress.evaluations),
            "seconds": dict(progress.seconds),
            "first": first_values,
            "second": second_values,
            "layers": list(member.layers),
            "best": held_out and {"residuals": list(held_out.residuals), "kept_at": held_out.kept_at},
        }
        return MemberState(member.label, values, tensors)

    def restore(self, states: Sequence[MemberState]) -> None:
        """Continue members from their states, matched by label; members without a state start from the beginning.

        Raises `CheckpointError` for a state of another network or of no member.
        """
        rows = {member.label: row for row, member in enumerate(self.members)}
        for state in states:
            if state.label not in rows or tuple(state.values["layers"]) != self.members[rows[state.label]].layers:
                raise CheckpointError(f"the checkpoint of member {state.label} belongs to another network or pack")
            self._restore_member(rows[state.label], state)

    def _restore_member(self, row: int, state: MemberState) -> None:
        place = self._place(self.engine.layout.positions(row).tolist())
        size = self.engine.layout.size
        tensors = {name: _widen(name, tensor.to(self.device), place, size) for name, tensor in state.tensors.items()}
        self.x[row] = tensors["x"]
        values = state.values
        self.first.load(row, values["first"], _with_prefix("first/", tensors))
        self.second.load(row, values["second"], _with_prefix("second/", tensors))
        stored = _with_prefix("kept/", state.tensors)
        kept = {epoch: stored[str(epoch)].numpy() for epoch in sorted(map(int, stored))}
        self.progress[row] = _Progress(
            values["phase"],
            values["epoch"],
            values["first_loss"],
            dict(values["evaluations"]),
            dict(values["seconds"]),
            state.tensors["curves"].tolist(),
            kept,
            _best_held_out(state),
        )


def train(
    problem: Problem | None = None,
    settings: TrainSettings | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
) -> MemberResult:
    """Train one network alone, from its initial weights to its stop reason.

    `problem` and `settings` default to the non-local strain problem on StrB100 with inputs (x, y) and to the published
    training schedule. Raises `SettingError`, `DataError`, `WeightsError`; a failed run is a result, not an exception.
    """
    pack = Pack([Member(settings or TrainSettings(), problem or NonlocalStrain(), seed)], device=device)
    while pack.active:
        pack.step(1000)
    return pack.results[0]


def first_order(train: TrainSettings) -> FirstOrderSettings:
    """Return the first-stage optimiser of a member."""
    return FirstOrderSettings(
        lr=train.adam_lr,
        beta1=train.adam_beta1,
        beta2=train.adam_beta2,
        eps=train.adam_eps,
        convention=train.adam_convention,
        schedule=train.lr_schedule,
        epochs=max(train.epochs, 1),
        optimiser=train.first_stage,
        momentum=train.momentum,
        decay=train.rmsprop_decay,
        weight_decay=train.weight_decay,
        weight_decay_form=train.weight_decay_form,
    )


def lbfgs_settings(member: Member) -> LBFGSSettings:
    """Return the second-stage optimiser of a member whose second stage is not scipy."""
    train = member.train
    assert train.second_stage != "scipy"
    return LBFGSSettings(
        train.iterations,
        train.lbfgs_history,
        train.first_step,
        train.tolerance_grad,
        train.tolerance_change,
        train.max_evaluations,
        method=train.second_stage,
        memory=train.lbfgs_memory,
        curvature=member.curvature,
    )


def _scipy(train: TrainSettings) -> ScipySettings:
    return ScipySettings(
        train.iterations,
        train.lbfgs_history,
        train.tolerance_grad,
        train.tolerance_change,
        train.max_evaluations,
    )


def _best_held_out(state: MemberState) -> BestHeldOut | None:
    best = state.values["best"]
    if best is None:
        return None
    weights = state.tensors.get("best/weights")
    return BestHeldOut(list(best["residuals"]), best["kept_at"], None if weights is None else weights.numpy())


def _narrow(name: str, tensor: Tensor, place: Tensor) -> Tensor:
    """Return a tensor of a member without the padding of its pack."""
    return tensor.clone() if _is_own(name) else tensor.index_select(-1, place)


def _widen(name: str, tensor: Tensor, place: Tensor, size: int) -> Tensor:
    if _is_own(name):
        return tensor
    return torch.zeros(*tensor.shape[:-1], size, dtype=tensor.dtype, device=tensor.device).index_copy(-1, place, tensor)


def _is_own(name: str) -> bool:
    """Return whether a tensor has the member's own size: curves, kept weights, memories of an optimiser."""
    return name == "curves" or name.startswith(("kept/", "best/")) or "/own/" in name


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
