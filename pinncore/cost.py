"""The cost of packs on this machine: evaluations, memory, and the time of one evaluation, measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from .compilation import memory_form
from .engines import engine_for
from .member import Member, is_padded
from .networks import parameter_count
from .optim.memory import MemorySpec, make_memory, memory_bytes
from .settings import TrainSettings
from .training import DTYPES, Pack

Clock = Callable[[], float]

EVALUATIONS_PER_ITERATION: Final = 1.25  # of L-BFGS with a first step of 1
EVALUATIONS_AT_SMALL_STEPS: Final = 3.7  # measured with first_step = 0.001
SMALL_STEP: Final = 0.1
VECTORS: Final = 20  # that the optimisers of a member hold, as long as its parameters
POINT_ARRAYS: Final = 5  # over all points that a member holds besides its inputs
USUAL_CHANNELS: Final = 4  # for which engines state their memory: those of a Laplacian in two coordinates
_MANY = 10**6  # epochs or iterations that no calibration reaches
_MOST_PAIRS = 2000  # pushed to time a memory; beyond them its cost is proportional


@dataclass(frozen=True)
class Timing:
    """Seconds of one evaluation of one member in a pack of equals, in the first stage and early in the second."""

    layers: str
    parameters: int
    adam_s: float
    lbfgs_s: float
    memory_s: float  # of one member's memory of pairs in an iteration halfway through the second stage


def timed_extremes(
    members: Sequence[Member], *, device: str, threads: int, copies: int, clock: Clock
) -> tuple[Timing, ...]:
    """Time the smallest and the largest network of `members`, each in a pack of `copies` equals on `threads` cores.

    Return one timing where both are the same network.
    """
    ordered = sorted(members, key=lambda member: parameter_count(member.layers))
    extremes = {member.layers: member for member in (ordered[0], ordered[-1])}
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return tuple(_time_member(member, device, copies, clock) for member in extremes.values())
    finally:
        torch.set_num_threads(threads_before)


def member_seconds(member: Member, device: str, copies: int, clock: Clock = time.perf_counter) -> float:
    """Return the seconds that the training of one member takes in a pack of `copies` equals, from a short timing."""
    threads = torch.get_num_threads()
    timings = timed_extremes([member], device=device, threads=threads, copies=copies, clock=clock)
    return pack_seconds([member], timings, device, iterations=1.0, searches=1.0)


def expected_evaluations(train: TrainSettings) -> float:
    """Return the evaluations of loss and gradient that a training usually takes."""
    return train.epochs + _second_evaluations(train)


def _second_evaluations(train: TrainSettings) -> float:
    rate = EVALUATIONS_PER_ITERATION if train.first_step >= SMALL_STEP else EVALUATIONS_AT_SMALL_STEPS
    most = train.max_evaluations
    return min(rate * train.iterations, most if most is not None else float("inf"))


def pack_bytes(pack: Sequence[Member], device: str) -> float:
    """Return the memory of points, vectors and pairs of every member of a pack, and of one evaluation."""
    train, inputs = pack[0].train, pack[0].layers[0]
    item, count = DTYPES[train.dtype].itemsize, max(parameter_count(member.layers) for member in pack)
    sets = list(zip(pack[0].problem.groups, pack[0].problem.point_sets, strict=True))
    arrays = sum((POINT_ARRAYS + inputs + len(group.columns)) * len(points) for group, points in sets)
    point_data = len(pack) * arrays * (8 + item)
    vectors = len(pack) * count * item * VECTORS + sum(_pairs_bytes(member, device) for member in pack)
    engine = engine_for(pack[0], torch.device(device))
    # one group is evaluated at a time; its memory grows with its channels
    most = max(-(-len(points) * group.channels.count // USUAL_CHANNELS) for group, points in sets)
    evaluation = engine.evaluation_bytes([member.layers for member in pack], most, item, device)
    return point_data + vectors + evaluation


def _pairs_bytes(member: Member, device: str) -> int:
    train, form = member.train, memory_form(member, device)
    pairs, size = min(train.lbfgs_history, train.iterations), parameter_count(member.layers)
    if form is None:
        return 8 * (2 * pairs * size + 11 * pairs * pairs)  # those of SciPy, in float64
    method = "lbfgs" if train.second_stage == "scipy" else train.second_stage
    return memory_bytes(form, pairs, size, getattr(torch, train.dtype), method)


def pack_seconds(
    pack: Sequence[Member],
    timings: Sequence[Timing],
    device: str,
    *,
    iterations: float,
    searches: float,
) -> float:
    """Return the seconds of evaluations and memories of all members of a pack.

    Where the engine pads, each member costs as much as the widest.
    """
    counts = [parameter_count(member.layers) for member in pack]
    kind = torch.device(device).type
    if is_padded(pack[0], kind):
        counts = [max(counts)] * len(counts)
    seconds = 0.0
    for train, count in zip((member.train for member in pack), counts, strict=True):
        adam, lbfgs, memory = (_between(timings, count, name) for name in ("adam_s", "lbfgs_s", "memory_s"))
        seconds += train.epochs * adam + iterations * searches * _second_evaluations(train) * lbfgs
        seconds += iterations * train.iterations * memory
    return seconds


def _between(timings: Sequence[Timing], parameters: int, name: str) -> float:
    """Return a timing interpolated by the number of parameters, at least zero."""
    small, large = timings[0], timings[-1]
    if small.parameters == large.parameters:
        return getattr(small, name)
    weight = (parameters - small.parameters) / (large.parameters - small.parameters)
    return max(getattr(small, name) + weight * (getattr(large, name) - getattr(small, name)), 0.0)


def average_pairs(train: TrainSettings) -> float:
    """Return the number of pairs in the memory, averaged over the iterations."""
    iterations, history = train.iterations, train.lbfgs_history
    return history * (1 - history / (2 * iterations)) if history < iterations else iterations / 2


def _time_member(member: Member, device: str, copies: int, clock: Clock) -> Timing:
    first = dataclasses.replace(
        member.train,
        epochs=_MANY,
        iterations=_MANY,
        adam_lr=1e-3,  # the values timed must not end the training
        first_step=1.0,
        lbfgs_history=10,
        lbfgs_memory="auto",
        keep_epochs=(),
    )
    adam = _seconds_per_tick(_pack_of(member, first, device, copies), clock)
    second = dataclasses.replace(first, epochs=0, tolerance_grad=0.0, max_evaluations=None)
    lbfgs = _seconds_per_tick(_pack_of(member, second, device, copies), clock)
    return Timing(
        "-".join(map(str, member.layers)),
        parameter_count(member.layers),
        adam / copies,
        max(lbfgs, adam) / copies,
        _memory_seconds(member, device, clock),
    )


def _pack_of(member: Member, train: TrainSettings, device: str, copies: int) -> Pack:
    members = [dataclasses.replace(member, train=train, label=label) for label in range(copies)]
    return Pack(members, device=device)


def _seconds_per_tick(pack: Pack, clock: Clock, *, enough_s: float = 0.5, ticks: int = 3) -> float:
    """Return the average over a short while, which includes whatever else the machine is doing."""
    pack.step(2)  # the first evaluations include the setup
    started, done = clock(), 0
    while pack.active and clock() - started < enough_s:
        pack.step(ticks)
        done += ticks
    return (clock() - started) / done if done else 0.0


def _memory_seconds(member: Member, device: str, clock: Clock) -> float:
    """Return the seconds that the memory of pairs adds to an iteration, with the average number of pairs."""
    form, train, size = memory_form(member, device), member.train, parameter_count(member.layers)
    if form is None or train.second_stage == "scipy" or not train.iterations:
        return 0.0
    average = average_pairs(train)
    pairs = 4 if form == "dense" else max(1, round(min(average, _MOST_PAIRS)))
    like = torch.ones(1, size, dtype=getattr(torch, train.dtype), device=device)
    spec = MemorySpec(train.second_stage, form, pairs, member.curvature)
    memory, out = make_memory([spec], [np.arange(size)], like, batched=device != "cpu"), torch.empty_like(like)
    for _ in range(pairs):
        memory.advance([0], like, like, like, [1.0], out)
    started = clock()
    memory.advance([0], like, like, like, [1.0], out)
    return (clock() - started) * (1 if form == "dense" else average / pairs)
