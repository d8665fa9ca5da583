"""Parts gpu and floor: what is counted, contenders that give one answer, a table that says why it is empty."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.bars import compare
from benchmarks.case import ALLOWED, Case, build_case
from benchmarks.evaluators.base import GPU_RIVALS, OWN
from benchmarks.evaluators.own import OwnEvaluator, OwnTrainer
from benchmarks.floor import gpu_rate, multiply_adds
from benchmarks.jobs.evaluation import EvaluationJob
from benchmarks.jobs.first_stage import LEARNING_RATE, FirstStageJob
from benchmarks.jobs.floor import CpuFloor
from benchmarks.machine import describe_machine, missing
from benchmarks.options import EVALUATION, FIRST_STAGE, FLOOR, BenchError, Options, Shape
from benchmarks.parts.floor import measure_floor
from benchmarks.parts.gpu import measure_gpu
from benchmarks.records import Place, Status, Timing
from benchmarks.run import Report
from benchmarks.tables import render
from pinncore import load_data, save_data, training

from ..pinncore.cuda.host import NEEDS_COMPILER, HostEngine
from ..pinncore.helpers import every

SHAPE = Shape(2, 4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """49 Gauss points of StrB100 and seven nodes of each boundary."""
    path = tmp_path_factory.mktemp("data") / "coarse.npz"
    save_data(every(load_data(), gauss=131, nodes=12), path)
    return {"npz": str(path)}


@pytest.fixture(scope="module")
def case(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Case:
    path = tmp_path_factory.mktemp("case") / "case.npz"
    build_case(SHAPE, members=2, data=data).save(path)
    return Case.load(path)


def silent(line: str) -> None:
    """Progress nobody asked for."""


def rendered(part: str, timings: list[Timing]) -> list[str]:
    report = Report(Options(parts=(part,)), describe_machine(), tuple(timings), tuple(compare(timings)))
    return render(report).splitlines()


class TestFloor:
    def test_of_a_small_network_by_hand(self) -> None:
        # 2-3-3-1, two channels. Forward: 2 x 3 for the value, then 2 x (3 x 3 + 3 x 1) = 24. Reverse: the same 24,
        # none into the inputs. Weight gradients: 6 + 24.
        assert multiply_adds((2, 3, 3, 1), [(1, 2)]) == (6 + 24) + 24 + (6 + 24)
        assert multiply_adds((2, 3, 3, 1), [(10, 2), (5, 1)]) == 10 * 84 + 5 * (6 + 12 + 12 + 6 + 12)

    def test_of_the_strain_problem(self) -> None:
        points = [(6400, 4), (82, 2), (82, 2)]
        assert multiply_adds(Shape(2, 16).layers, points) == 6400 * (64 + 12 * 272) + 164 * (64 + 6 * 272)

    def test_the_rate_of_a_gpu(self) -> None:
        assert gpu_rate(132, (9, 0), 1.98e9) == pytest.approx(66.9e12, rel=1e-3)  # H100 SXM, as published
        assert gpu_rate(108, (8, 0), 1.41e9) == pytest.approx(19.5e12, rel=1e-3)  # A100, as published
        with pytest.raises(BenchError, match=r"7\.5 has no entry"):
            gpu_rate(40, (7, 5), 1e9)

    def test_a_loop_of_the_cpu_does_every_multiply_add(self) -> None:
        few, many = CpuFloor(10**5, "float32"), CpuFloor(10**5, "float64")
        assert few.facts() == {"multiply_adds": 10**5}
        for job in (few, many):
            job.run(1)  # compiles
            short, long = (min(job.run(amount)["seconds"] for _ in range(5)) for amount in (10, 1000))
            assert 20 < long / short < 500

    def test_the_table(self, data: dict[str, str]) -> None:
        options = Options(parts=("floor",), quick=True, shapes=(SHAPE,), packs=(2,), repeats=2, data=data)
        timings = measure_floor(options, threads=(1,), say=silent)
        assert [(t.contender, t.status) for t in timings] == [(FLOOR, Status.TIMED), (OWN, Status.TIMED)]
        (row,) = [line for line in rendered("floor", timings) if line.startswith("| 2x4")]
        assert row.count("%") == 3, "a share and its range"


class TestKernelOnTheHost:
    pytestmark = NEEDS_COMPILER

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_loss_and_gradient(self, case: Case, dtype: str) -> None:
        job = EvaluationJob(OwnEvaluator(case, dtype=dtype, kind=HostEngine, device="cpu"), case)
        assert job.facts() == {"difference": pytest.approx(0, abs=ALLOWED[dtype]), "note": "engine fused"}
        assert job.run(1)["seconds"] > 0

    def test_first_stage(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(training, "engine_for", lambda member, device: HostEngine)
        options: dict[str, Any] = {"dtype": "float64", "engine": "auto", "device": "cpu"}
        trainer = OwnTrainer(case, learning_rate=LEARNING_RATE, **options)
        job = FirstStageJob(trainer, case, epochs=8)
        assert job.facts()["difference"] < ALLOWED["float64"]
        before = trainer.losses()
        found = job.run(1)
        assert found["seconds"] > 0 and found["loss"] < before[0], "eight epochs, not five"


class TestPart:
    @pytest.mark.slow
    def test_all_contenders_agree(self, data: dict[str, str]) -> None:
        """On the CPU: the same code, another device."""
        options = Options(parts=("gpu",), quick=True, shapes=(SHAPE,), packs=(2,), repeats=1, data=data)
        timings = measure_gpu(options, threads=(1,), say=silent, device="cpu")
        expected = {OWN, *GPU_RIVALS} - ({"jax"} if missing(("jax",)) else set())
        for clock, contenders in ((EVALUATION, {*expected, FLOOR}), (FIRST_STAGE, expected)):
            found = {t.contender: t for t in timings if t.place.clock == clock}
            assert {name for name, t in found.items() if t.status is Status.TIMED} == contenders, found
        rows = [line for line in rendered("gpu", timings) if line.startswith("| 2x4")]
        assert len(rows) == 2 and "%" in rows[0]

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_without_a_gpu_the_table_is_empty_and_says_so(self, data: dict[str, str]) -> None:
        options = Options(parts=("gpu",), quick=True, shapes=(SHAPE,), packs=(2,), data=data)
        (timing,) = measure_gpu(options, threads=(1,), say=silent)
        assert timing.status is Status.SKIPPED and timing.samples_s == ()
        lines = rendered("gpu", [timing])
        assert [line for line in lines if line.startswith("no GPU: not measured (")] == lines[-1:]
        assert len([line for line in lines if line.startswith("|")]) == 2, "head and rule"

    def test_its_bars(self) -> None:
        def timing(name: str, seconds: float, pack: int = 1) -> Timing:
            place = Place(part="gpu", shape="8x8", dtype="float32", clock=EVALUATION)
            status = Status.TIMED
            return Timing(
                place=place, contender=name, label=name, threads=1, pack=pack, status=status, samples_s=(seconds,)
            )

        timings = [timing(OWN, 1.0, pack=256), timing("slides", 190.0), timing(FLOOR, 0.3)]
        assert {c.rival: (c.bar, c.reached) for c in compare(timings)} == {
            "slides": (200.0, False),
            FLOOR: (0.25, True),
        }
        (row,) = [line for line in rendered("gpu", timings) if line.startswith("| 8x8")]
        assert ">= 200x: not reached" in row and "30% (30%..30%)" in row and ">= 25%: reached" in row
