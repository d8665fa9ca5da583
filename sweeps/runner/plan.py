"""Plan of a study before any of it runs: trials, packs, evaluations, memory, and a time with its uncertainty.

The configurations are those that the study will train; for a sampler that learns from results they are random ones.
The time comes from a few evaluations of the smallest and the largest network on this machine, interpolated by the
number of parameters.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch

import pinncore
from pinncore.cost import Clock, Timing, expected_evaluations, pack_bytes, pack_seconds, timed_extremes
from pinncore.cuda.devices import gpu_of

from ..machine import index_of, kind_of
from ..owner.packing import LARGEST_PACK, grouped, pack_size, traits_of, trials_of_pack, window_size
from ..search import search_of
from ..spec.study_spec import StudySpec
from ..study.input_checks import warnings_of
from .cluster_view import device_of, packs_on_gpus
from .precompile import first_members, measured_size, missing_kernels, other_engines

START_SECONDS: Final = 8.0  # from Enter to the first network that trains: Ray and the first worker, on two cores
COMPILE_SECONDS: Final = 15.0  # in addition, where kernels are not compiled yet
MOST_LOOKED_AT: Final = 1000  # configurations; the others are assumed to be like them
# a Ray worker with torch, Numba and compiled kernels, before the first member; builds of torch for GPUs take more
PROCESS_MB: Final = 600 if torch.version.cuda is None else 900  # measured

_CASES: Final[tuple[dict[str, float], ...]] = (  # expected, least, most
    {"iterations": 1.0, "searches": 1.0, "contention": 1.0},
    {"iterations": 0.0, "searches": 1.0, "contention": 1.0},
    {"iterations": 1.0, "searches": 1.6, "contention": 1.3},
)


@dataclass(frozen=True)
class Plan:
    """Plan of a study; all times except `start_seconds` are None without a calibration."""

    study: str
    sampler: str
    trials: int
    packs: int
    members_per_pack: int
    packs_at_once: int
    device: str
    evaluations: int
    memory_mb_per_pack: float
    seconds: float | None
    start_seconds: float
    seconds_least: float | None
    seconds_most: float | None
    device_hours: float | None
    timings: tuple[Timing, ...]
    how_sure: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def plan(spec: StudySpec, cpus: int, calibrate: bool = True, *, clock: Clock = time.perf_counter) -> Plan:
    """Return what a study will take on `cpus` cores.

    With `calibrate`, the smallest and the largest network are timed on this machine, which takes some seconds.
    """
    search = search_of(spec)
    limit, replicates = search.limit, spec.search.replicates
    device = device_of(spec, has_gpu=torch.cuda.is_available())
    at_once = _packs_at_once(spec, cpus, device)
    measured = measured_size(spec, device, measure=calibrate)
    size = pack_size(spec, limit, at_once=at_once, device=device, measured=measured)
    members = first_members(spec, min(limit, MOST_LOOKED_AT))
    packs = _packs(members, trials_of_pack(size, replicates), window_size(search, 0, size, replicates), replicates)
    scale = limit / len(members)  # from the configurations looked at to the whole study
    timings: tuple[Timing, ...] = ()
    if calibrate and _is_here(device):
        threads, copies = spec.resources.cpus_per_pack, size if device != "cpu" else min(size, LARGEST_PACK["cpu"])
        timings = timed_extremes(members, device=device, threads=threads, copies=copies, clock=clock)
    start = START_SECONDS + (0.0 if device != "cpu" or not missing_kernels(spec) else COMPILE_SECONDS)
    seconds: list[float | None] = [None] * 3
    if timings:
        seconds = [start + _study_seconds(packs, timings, at_once, scale, device, **case) for case in _CASES]
    memory_mb = PROCESS_MB + max(pack_bytes(pack, device) for pack in packs) / 1e6
    evaluations = round(scale * replicates * sum(expected_evaluations(member.train) for member in members))
    device_hours = _device_hours(packs, timings, scale, device) if timings else None
    costs = {"device_hours": device_hours, "evaluations": evaluations}
    return Plan(
        study=spec.study,
        sampler=spec.search.sampler,
        trials=limit,
        packs=round(len(packs) * scale),
        members_per_pack=max(map(len, packs)),
        packs_at_once=min(at_once, len(packs)),
        device=device,
        evaluations=evaluations,
        memory_mb_per_pack=memory_mb,
        seconds=seconds[0],
        start_seconds=start,
        seconds_least=seconds[1],
        seconds_most=seconds[2],
        device_hours=device_hours,
        timings=timings,
        how_sure=_how_sure(spec, limit, len(members), bool(timings)),
        notes=(*_notes(spec, device, seconds, memory_mb, costs), *other_engines(members, device)),
        warnings=warnings_of(spec),
    )


def render(estimate: Plan) -> str:
    """Return a plan as text."""
    at_once_mb = estimate.memory_mb_per_pack * estimate.packs_at_once
    members = f"up to {estimate.members_per_pack} members" if estimate.members_per_pack > 1 else "one member each"
    lines = {
        "Trials": f"{estimate.trials} by {estimate.sampler}",
        "Packs": f"{estimate.packs} of {members}, {estimate.packs_at_once} at once on {estimate.device}",
        "Evaluations": f"about {estimate.evaluations:,} of loss and gradient",
        "Memory": f"about {estimate.memory_mb_per_pack:,.0f} MB a pack, {at_once_mb:,.0f} MB at once",
        "Time": "not estimated (no calibration)",
        "Start-up": _start_up(estimate.start_seconds),
        "How sure": estimate.how_sure,
    }
    if estimate.seconds is not None and estimate.seconds_least is not None and estimate.seconds_most is not None:
        least, most = _duration(estimate.seconds_least), _duration(estimate.seconds_most)
        lines["Time"] = (
            f"about {_duration(estimate.seconds)}; {least} if L-BFGS stops at once, {most} if its line "
            "searches are long"
        )
    if estimate.device_hours is not None:
        lines["Device-hours"] = f"about {estimate.device_hours:.2g} of {estimate.device}"
    for timing in estimate.timings:
        lines[f"Network {timing.layers}"] = (
            f"{timing.parameters} parameters, {1000 * timing.adam_s:.3g} ms an evaluation in Adam, "
            f"{1000 * timing.lbfgs_s:.3g} ms in L-BFGS"
        )
    width = max(map(len, lines))
    rows = [f"{name:<{width}}  {text}" for name, text in lines.items()]
    return "\n".join([f"Study {estimate.study}", *rows, *(f"Note: {note}" for note in estimate.notes)])


def _start_up(seconds: float) -> str:
    steps = "Ray and a worker start" + (", kernels are compiled" if seconds > START_SECONDS else "")
    return f"about {_duration(seconds)} of the time, until the first network trains: {steps}"


def _is_here(device: str) -> bool:
    return device == "cpu" or gpu_of(device) is not None


def _packs_at_once(spec: StudySpec, cpus: int, device: str) -> int:
    count = cpus // spec.resources.cpus_per_pack
    share = 1.0 if spec.resources.gpus_per_pack is None else spec.resources.gpus_per_pack
    if device == "cuda":
        count = int(min(count, packs_on_gpus(max(torch.cuda.device_count(), 1), share)))
    elif index_of(device) is not None:
        count = int(min(count, packs_on_gpus(1, min(share, 1.0))))
    return max(min(count, spec.resources.max_packs or count), 1)


def _packs(members: Sequence[pinncore.Member], size: int, window: int, replicates: int) -> list[list[pinncore.Member]]:
    """Return the members in packs of `size` trials with their replicates, as the study forms them window by window."""
    packs = []
    for start in range(0, len(members), window):
        numbers = range(start, min(start + window, len(members)))
        packs += grouped({number: traits_of(members[number]) for number in numbers}, size)
    return [[members[number] for number in pack for _ in range(replicates)] for pack in packs]


def _study_seconds(
    packs: Sequence[Sequence[pinncore.Member]],
    timings: Sequence[Timing],
    at_once: int,
    scale: float,
    device: str,
    *,
    iterations: float,
    searches: float,
    contention: float,
) -> float:
    """Return the seconds of all packs on `at_once` workers, each of which takes the next pack when it is free."""
    workers = [0.0] * at_once
    for pack in packs:
        seconds = pack_seconds(pack, timings, device, iterations=iterations, searches=searches)
        heapq.heapreplace(workers, workers[0] + seconds)
    return contention * scale * max(workers)


def _device_hours(
    packs: Sequence[Sequence[pinncore.Member]], timings: Sequence[Timing], scale: float, device: str
) -> float:
    """Return the hours in which packs hold a device, summed over devices."""
    return scale * sum(pack_seconds(pack, timings, device, iterations=1.0, searches=1.0) for pack in packs) / 3600


def _how_sure(spec: StudySpec, limit: int, looked_at: int, is_timed: bool) -> str:
    reasons = ["L-BFGS may stop early, and its line searches vary"]
    if spec.search.traits.learns:
        reasons.append(f"{spec.search.sampler} will choose other configurations than the random ones looked at")
    if looked_at < limit:
        reasons.append(f"only the first {looked_at} of {limit} trials were looked at")
    if is_timed:
        reasons.append("the machine was timed as it is now, with one pack at a time")
    return f"{'within a factor of two' if is_timed else 'counts only'}: {'; '.join(reasons)}"


def _notes(
    spec: StudySpec,
    device: str,
    seconds: Sequence[float | None],
    memory_mb: float,
    costs: Mapping[str, float | None],
) -> Iterable[str]:
    for problem in spec.problems_on_data():
        yield from problem.data_notes
    if kind_of(device) == "cuda" and not _is_here(device):
        missing = "GPU" if index_of(device) is None or not torch.cuda.is_available() else device
        yield f"this machine has no {missing}, so nothing can be timed here"
    machine_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
    if device == "cpu" and memory_mb > machine_mb:
        yield (
            f"a pack does not fit into the {machine_mb:,.0f} MB of this machine: lower lbfgs_history or resources.pack"
        )
    load = os.getloadavg()[0]
    if seconds[0] is not None and load > 0.5:
        yield f"other programs keep about {load:.1f} cores of this machine busy; an idle one is faster"
    for name, planned in {"hours": seconds[0] and seconds[0] / 3600, **costs}.items():
        limit = getattr(spec.budget, name)
        if limit is not None and planned is not None and planned > limit:
            yield f"budget.{name} {limit:g} will end the study before its last trial"


def _duration(seconds: float) -> str:
    """Return a time as text in its usual unit: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
