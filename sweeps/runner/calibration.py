"""The largest pack that is worth it on a GPU: timed once for each model of GPU and kind of network, then kept.

What was timed lies in the user's cache, one file each, so that the next study and `plan` take the same size at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from numba.misc.appdirs import AppDirs

import pinncore
from pinncore.cost import member_seconds, pack_bytes
from pinncore.cuda.devices import Gpu, free_bytes, gpu_of
from pinncore.member import engine_of
from pinncore.networks import parameter_count
from pinncore.sources import source_digest

from .pack_run import is_out_of_memory

SIZES: Final = (16, 64, 256, 1024, 4096)
LEAST_GAIN: Final = 0.1  # of the speed per member, for which the next size is taken
MEMORY_SHARE: Final = 0.8  # of what is free, for a pack

TimeMember = Callable[[pinncore.Member, str, int], float]  # member, device and size of its pack, to seconds


def largest_pack(
    members: Sequence[pinncore.Member],
    device: str,
    *,
    wanted: int,
    measure: bool = True,
    time_member: TimeMember = member_seconds,
    tell: Callable[[str], object] = lambda text: None,
) -> int | None:
    """Return the number of members of a pack beyond which a GPU trains each less than 10 % faster, and that fits it.

    The member of `members` with the median number of parameters is timed, in growing packs up to `wanted`; the widest
    must fit. Without `measure` only what was kept counts. Return None where there is no such GPU or nothing is known.
    """
    gpu = gpu_of(device)
    if gpu is None:
        return None
    ordered = sorted(members, key=lambda member: parameter_count(member.layers))
    typical, free = ordered[len(ordered) // 2], MEMORY_SHARE * free_bytes(gpu)
    file = _folder() / f"{_digest(gpu, typical)}.json"
    best = None
    with _alone(file) if measure else contextlib.nullcontext():
        seconds = _kept(file)
        for size in SIZES:
            if size not in seconds:
                if not measure or pack_bytes([typical] * size, device) > free:
                    break
                tell("measuring the best size of packs on this GPU, once")
                timed = _timed(time_member, typical, device, size)
                if timed is None:
                    break
                seconds[size] = timed
                _keep(file, gpu, typical, seconds)
            if best is not None and seconds[best] < (1 + LEAST_GAIN) * seconds[size]:
                break
            best = size
            if size >= wanted:
                break
    if best is None and not measure:
        return None
    return _fitting(best or SIZES[0], ordered[-1], device, free)


def _fitting(size: int, member: pinncore.Member, device: str, free: float) -> int:
    """Return `size`, halved until a pack of that many members needs at most `free` bytes, at least 1."""
    while size > 1 and pack_bytes([member] * size, device) > free:
        size //= 2
    return size


def _timed(time_member: TimeMember, member: pinncore.Member, device: str, size: int) -> float | None:
    """Return the seconds of one member of a pack, None where memory runs out."""
    try:
        return time_member(member, device, size)
    except (MemoryError, RuntimeError, pinncore.PinnError) as problem:
        if not is_out_of_memory(problem):
            raise
        return None
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


# ---- what is kept ---------------------------------------------------------------------------------------------------


def _folder() -> Path:
    dirs: Any = AppDirs
    return Path(dirs("pinncore", False).user_cache_dir) / "packs"


def _digest(gpu: Gpu, member: pinncore.Member) -> str:
    """Return a hash of what the time of a member on a GPU depends on, the sources included."""
    identity = (gpu.name, gpu.memory_bytes, gpu.driver, torch.__version__, source_digest("pinncore"), _network(member))
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:32]


def _network(member: pinncore.Member) -> dict[str, Any]:
    """Return what the time of a member depends on: its network, its points and how it trains."""
    train, problem = member.train, member.problem
    names = ("activation", "dtype", "first_stage", "epochs", "second_stage", "iterations", "lbfgs_history")
    return {
        "engine": engine_of(member, "cuda")[0],
        "layers": list(member.layers),
        "points": [len(points) for points in problem.point_sets],
        "channels": [group.channels.count for group in problem.groups],
        **{name: getattr(train, name) for name in names},
    }


def _kept(file: Path) -> dict[int, float]:
    """Return the seconds of one member by the size of its pack, as far as they are kept."""
    try:
        content = json.loads(file.read_text())
        return {int(size): float(seconds) for size, seconds in content["seconds_per_member"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _keep(file: Path, gpu: Gpu, member: pinncore.Member, seconds: dict[int, float]) -> None:
    content = {"gpu": gpu.name, "memory_bytes": gpu.memory_bytes, "driver": gpu.driver, "network": _network(member)}
    beside = file.with_suffix(".tmp")
    with contextlib.suppress(OSError):  # then it is timed again
        beside.write_text(json.dumps(content | {"seconds_per_member": seconds}, indent=1))
        beside.replace(file)


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let one process of this user at a time measure, where there is a place for its file; the others read it then."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(open(file.with_suffix(".lock"), "w")), fcntl.LOCK_EX)
        yield
