"""Calibration: the time of one evaluation on this machine, for the smallest and the largest network of a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

import pinncore
from pinncore.compilation import memory_form
from pinncore.networks import parameter_count
from pinncore.optim.memory import MemorySpec, make_memory

from ..search import search_of
from ..spec.study_spec import StudySpec, build_settings

Clock = Callable[[], float]

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
    members: Sequence[pinncore.Member], *, device: str, threads: int, copies: int, clock: Clock
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


def first_members(spec: StudySpec, count: int) -> list[pinncore.Member]:
    """Return the first `count` configurations of a study as members of `pinncore`.

    For a sampler that learns from results they are random configurations instead.
    """
    if spec.search.traits.learns:
        random = spec.search.model_copy(update={"sampler": "random", "deterministic": False, "warm_start": []})
        spec = dataclasses.replace(spec, search=random)
    search = search_of(spec)
    configs = (spec.config(search.propose(index).params) for index in range(count))
    return [pinncore.Member(*build_settings(config)) for config in configs]


def average_pairs(train: pinncore.TrainSettings) -> float:
    """Return the number of pairs in the memory, averaged over the iterations."""
    iterations, history = train.iterations, train.lbfgs_history
    return history * (1 - history / (2 * iterations)) if history < iterations else iterations / 2


def _time_member(member: pinncore.Member, device: str, copies: int, clock: Clock) -> Timing:
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


def _pack_of(member: pinncore.Member, train: pinncore.TrainSettings, device: str, copies: int) -> pinncore.Pack:
    members = [dataclasses.replace(member, train=train, label=label) for label in range(copies)]
    return pinncore.Pack(members, device=device)


def _seconds_per_tick(pack: pinncore.Pack, clock: Clock, *, enough_s: float = 0.5, ticks: int = 3) -> float:
    """Return the average over a short while, which includes whatever else the machine is doing."""
    pack.step(2)  # the first evaluations include the setup
    started, done = clock(), 0
    while pack.active and clock() - started < enough_s:
        pack.step(ticks)
        done += ticks
    return (clock() - started) / done if done else 0.0


def _memory_seconds(member: pinncore.Member, device: str, clock: Clock) -> float:
    """Return the seconds that the memory of pairs adds to an iteration, with the average number of pairs."""
    form, train, size = memory_form(member, device), member.train, parameter_count(member.layers)
    if form is None or train.second_stage == "scipy" or not train.iterations:
        return 0.0
    average = average_pairs(train)
    pairs = 4 if form == "dense" else max(1, round(min(average, _MOST_PAIRS)))
    like = torch.ones(1, size, dtype=getattr(torch, train.dtype), device=device)
    spec = MemorySpec(train.second_stage, form, pairs, train.lbfgs_curvature)
    memory, out = make_memory([spec], [np.arange(size)], like, batched=device != "cpu"), torch.empty_like(like)
    for _ in range(pairs):
        memory.advance([0], like, like, like, [1.0], out)
    started = clock()
    memory.advance([0], like, like, like, [1.0], out)
    return (clock() - started) * (1 if form == "dense" else average / pairs)
