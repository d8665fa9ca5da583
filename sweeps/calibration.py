"""How long one evaluation takes on this machine, for the smallest and the largest network of a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

import pinncore
from pinncore.networks import parameter_count
from pinncore.optim.memory import PairMemory

Clock = Callable[[], float]

_MANY = 10**6  # epochs or iterations that no calibration reaches


@dataclass(frozen=True)
class Timing:
    """Seconds of one evaluation of one member in a pack of equals, in Adam and early in L-BFGS."""

    layers: str
    parameters: int
    adam_s: float
    lbfgs_s: float
    pair_s: float  # added by each stored pair of L-BFGS, for a whole pack


def timed_extremes(
    members: Sequence[pinncore.Member], *, device: str, threads: int, copies: int, clock: Clock
) -> tuple[Timing, ...]:
    """Time the smallest and the largest network of `members` in packs of `copies` equals, on `threads` cores."""
    ordered = sorted(members, key=lambda member: parameter_count(member.layers))
    extremes = {member.layers: member for member in (ordered[0], ordered[-1])}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return tuple(_timed(member, device, copies, clock) for member in extremes.values())
    finally:
        torch.set_num_threads(before)


def _timed(member: pinncore.Member, device: str, copies: int, clock: Clock) -> Timing:
    brief = dataclasses.replace(member.train, adam_epochs=_MANY, lbfgs_iterations=_MANY, keep_epochs=())
    adam = _seconds_per_tick(_pack_of(member, brief, device, copies), clock)
    brief = dataclasses.replace(brief, adam_epochs=0, lbfgs_tolerance_grad=0.0, lbfgs_max_evaluations=None)
    lbfgs = _seconds_per_tick(_pack_of(member, brief, device, copies), clock)
    count = parameter_count(member.layers)
    return Timing(
        "-".join(map(str, member.layers)),
        count,
        adam / copies,
        max(lbfgs, adam) / copies,
        _seconds_per_pair(copies, count, brief.dtype, device, clock),
    )


def _pack_of(member: pinncore.Member, train: pinncore.TrainSettings, device: str, copies: int) -> pinncore.Pack:
    equals = [dataclasses.replace(member, train=train, label=label) for label in range(copies)]
    return pinncore.Pack(equals, device=device)


def _seconds_per_tick(pack: pinncore.Pack, clock: Clock, *, enough_s: float = 0.5, ticks: int = 3) -> float:
    """The average over a short while, so that it holds for the machine with whatever else it is doing."""
    pack.step(2)  # the first evaluations also set things up
    started, done = clock(), 0
    while pack.active and clock() - started < enough_s:
        pack.step(ticks)
        done += ticks
    return (clock() - started) / done if done else 0.0


def _seconds_per_pair(members: int, size: int, dtype: str, device: str, clock: Clock, *, pairs: int = 100) -> float:
    """Time the two-loop recursion, whose cost grows with every stored pair."""
    like = torch.ones(members, size, dtype=getattr(torch, dtype), device=device)
    memory, rows = PairMemory([pairs] * members, like), list(range(members))
    for _ in range(pairs):
        memory.push(rows, like, like, smallest=0.0)
    started = clock()
    memory.direction(rows, like)
    return (clock() - started) / pairs
