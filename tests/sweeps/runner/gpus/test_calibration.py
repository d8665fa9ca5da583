"""The size of packs on a GPU from timings, with a GPU and with timings that are made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import pinncore
from pinncore import TrainSettings
from pinncore.cost import pack_bytes
from pinncore.cuda.devices import Gpu
from pinncore.problems.nonlocal_strain import NonlocalStrain
from sweeps.runner import calibration
from sweeps.runner.calibration import MEMORY_SHARE, largest_pack

GPU = Gpu(0, "NVIDIA H200", (9, 0), 150_000_000_000, "570.124.06")
MEMBER = pinncore.Member(TrainSettings(width=4, depth=1, epochs=20, iterations=5), NonlocalStrain())
WIDE = pinncore.Member(TrainSettings(width=24, depth=4, epochs=20, iterations=5), NonlocalStrain())
MANY = 10**6


class Machine:
    """A GPU with so much free memory, on which one member takes `seconds_of(size)` in a pack of a size."""

    def __init__(self, seconds_of: Callable[[int], float], free: float) -> None:
        self.seconds_of, self.free = seconds_of, free
        self.timed: list[int] = []

    def size(self, *members: pinncore.Member, wanted: int = MANY, measure: bool = True) -> int | None:
        return largest_pack(
            members or (MEMBER,), "cuda", wanted=wanted, measure=measure, time_member=self.time, tell=lambda text: None
        )

    def time(self, member: pinncore.Member, device: str, size: int) -> float:
        self.timed.append(size)
        return self.seconds_of(size)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Machine]:
    """Return machines that share a folder for what was timed."""
    made: list[Machine] = []

    def of(seconds_of: Callable[[int], float], free: float = 1e12) -> Machine:
        made.append(Machine(seconds_of, free))
        return made[-1]

    monkeypatch.setattr(calibration, "_folder", lambda: tmp_path / "packs")
    monkeypatch.setattr(calibration, "gpu_of", lambda device: GPU)
    monkeypatch.setattr(calibration, "free_bytes", lambda gpu: made[-1].free)
    return of


def saturating(at: int) -> Callable[[int], float]:
    """Return the seconds of one member where a GPU is full with `at` members."""
    return lambda size: max(1 / size, 1 / at)


@pytest.mark.parametrize(("full", "size", "timed"), [(1, 16, [16, 64]), (200, 256, [16, 64, 256, 1024])])
def test_packs_grow_while_members_get_faster(
    machine: Callable[..., Machine], full: int, size: int, timed: list[int]
) -> None:
    gpu = machine(saturating(full))
    assert gpu.size() == size and gpu.timed == timed


def test_a_gain_of_less_than_a_tenth_is_none(machine: Callable[..., Machine]) -> None:
    assert machine(lambda size: {16: 1.0, 64: 0.92}[size]).size() == 16


def test_what_was_timed_is_kept(machine: Callable[..., Machine], tmp_path: Path) -> None:
    assert machine(saturating(64)).size() == 64
    again = machine(saturating(64))
    assert again.size() == 64 and again.size(measure=False) == 64 and again.timed == []
    (file,) = (tmp_path / "packs").glob("*.json")
    content = json.loads(file.read_text())
    assert content["gpu"] == "NVIDIA H200" and list(content["seconds_per_member"]) == ["16", "64", "256"]
    file.write_text("torn {")
    assert again.size(measure=False) is None, "a torn file is none"


def test_another_gpu_or_driver_is_timed_anew(machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    machine(saturating(64)).size()
    other = Gpu(0, GPU.name, GPU.capability, GPU.memory_bytes, "580.1")
    monkeypatch.setattr(calibration, "gpu_of", lambda device: other)
    assert machine(saturating(64)).size(measure=False) is None


def test_a_small_study_times_no_larger_packs_and_a_large_one_goes_on(machine: Callable[..., Machine]) -> None:
    gpu = machine(saturating(1000))
    assert gpu.size(wanted=40) == 64 and gpu.timed == [16, 64]
    assert gpu.size() == 1024 and gpu.timed == [16, 64, 256, 1024, 4096]


def test_packs_fit_into_the_free_memory(machine: Callable[..., Machine]) -> None:
    room_for_100 = pack_bytes([MEMBER] * 100, "cuda") / MEMORY_SHARE
    gpu = machine(saturating(10_000), room_for_100)
    assert gpu.size() == 64 and gpu.timed == [16, 64], "larger ones are not even tried"


def test_the_widest_member_must_fit_too(machine: Callable[..., Machine]) -> None:
    room_for_3 = pack_bytes([WIDE] * 3, "cuda") / MEMORY_SHARE
    assert machine(saturating(16), room_for_3).size(MEMBER, MEMBER, WIDE) == 2


def test_where_not_even_the_smallest_pack_fits_nothing_is_timed(machine: Callable[..., Machine]) -> None:
    gpu = machine(saturating(16), pack_bytes([MEMBER] * 5, "cuda") / MEMORY_SHARE)
    assert gpu.size() == 4 and gpu.timed == []


def test_memory_that_runs_out_while_timing_ends_it(machine: Callable[..., Machine]) -> None:
    def seconds(size: int) -> float:
        if size > 64:
            raise pinncore.PinnError("CUDA reports CUDA_ERROR_OUT_OF_MEMORY")
        return 1 / size

    assert machine(seconds).size() == 64


def test_other_errors_are_not_hidden(machine: Callable[..., Machine]) -> None:
    def seconds(size: int) -> float:
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        machine(seconds).size()


def test_without_a_place_for_the_file_it_is_timed_again(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(calibration, "_folder", lambda: tmp_path / "file" / "packs")
    gpu = machine(saturating(16))
    assert [gpu.size(), gpu.size()] == [16, 16] and gpu.timed == [16, 64, 16, 64]


def test_without_a_gpu_nothing_is_known() -> None:
    assert largest_pack([MEMBER], "cpu", wanted=4) is None
