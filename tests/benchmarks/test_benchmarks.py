"""The benchmark: contenders that give one answer, figures that follow from the samples, a command that says so."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from benchmarks.__main__ import app
from benchmarks.bars import FASTEST_RIVAL, compare
from benchmarks.case import ALLOWED, Case, build_case, flatten
from benchmarks.equations import COEFFICIENTS, EquationCase, build_equation_case, load_case
from benchmarks.evaluators.base import EVALUATORS, OWN, fastest
from benchmarks.interleaved import Entry, prepare, time_in_turn
from benchmarks.jobs import formulations
from benchmarks.jobs.lbfgs import FORMS, ITERATIONS, LBFGSJob, OwnLBFGS, Quadratic, TorchLBFGS
from benchmarks.jobs.slides_trial import Schedule
from benchmarks.jobs.trial import OwnTrial, SlidesTrial
from benchmarks.machine import EXTRA, describe_machine, missing
from benchmarks.options import PARTS, BenchError, Options, Shape, read_counts, read_dtypes, read_parts, read_shapes
from benchmarks.parts import equations, sweep
from benchmarks.records import Place, Status, Timing
from benchmarks.run import Report, run_benchmark
from benchmarks.spread import Spread, ratio
from benchmarks.tables import render
from benchmarks.worker import JOBS
from benchmarks.workers import WorkerError, Workers
from pinncore import TrainSettings, load_data, save_data

from ..pinncore.helpers import every

SHAPE = Shape(2, 4)
PLACE = Place(part="a", shape="2x16", dtype="float32")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every 41st Gauss point of StrB100 and every fifth of its boundary nodes."""
    path = tmp_path_factory.mktemp("data") / "coarse.npz"
    save_data(every(load_data(), gauss=41, nodes=5), path)
    return {"npz": str(path)}


@pytest.fixture(scope="module")
def case(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case of three members on them, as a file."""
    path = tmp_path_factory.mktemp("case") / "case.npz"
    build_case(SHAPE, members=3, data=data).save(path)
    return path


@pytest.fixture
def workers() -> Iterator[Workers]:
    with Workers(timeout_s=120) as running:
        yield running


def silent(line: str) -> None:
    """Progress nobody asked for."""


def evaluation(case: Path, name: str = OWN, dtype: str = "float64", members: int = 2) -> Entry:
    arguments = {"case": str(case), "members": members, "dtype": dtype, "engine": "auto"}
    place = Place(part="a", shape=str(SHAPE), dtype=dtype)
    return Entry(place, name, name, f"evaluate:{name}", 1, members, arguments, EVALUATORS[name].needs)


class TestSpread:
    def test_of_samples(self) -> None:
        assert Spread.of([3.0, 1.0, 2.0, 9.0, 2.5]) == Spread(2.5, 1.0, 9.0)

    def test_a_ratio_is_of_medians_and_its_range_of_repeats(self) -> None:
        assert ratio([10.0, 12.0, 40.0], [1.0, 2.0, 4.0]) == Spread(6.0, 6.0, 10.0)

    def test_a_slow_repeat_of_both_changes_no_ratio(self) -> None:
        assert ratio([10.0, 100.0, 10.0], [2.0, 20.0, 2.0]) == Spread(5.0, 5.0, 5.0)


class TestCase:
    def test_survives_its_file(self, case: Path, data: dict[str, str]) -> None:
        built, read = build_case(SHAPE, members=3, data=data), Case.load(case)
        for field in dataclasses.fields(Case):
            np.testing.assert_array_equal(getattr(read, field.name), getattr(built, field.name))
        np.testing.assert_array_equal(flatten(read.weights(1)), read.starts[1])

    def test_a_small_difference_is_seen(self, case: Path) -> None:
        right = Case.load(case)
        gradients = right.gradients.copy()
        gradients[2, 5] += 1e-6 * np.abs(gradients[2]).max()
        assert right.difference(right.losses, right.gradients) == 0
        assert right.difference(right.losses, gradients) == pytest.approx(1e-6)
        assert right.difference(right.losses * (1 + 1e-5), gradients) == pytest.approx(1e-5)
        assert right.difference(right.losses[:2], right.gradients) == float("inf")
        assert right.difference(right.losses * np.nan, right.gradients) == float("inf")


class TestContenders:
    """Each in a process of its own, as in the benchmark: some of these libraries set global flags."""

    @pytest.mark.parametrize(
        ("name", "dtype"), [(name, "float64") for name in EVALUATORS] + [(OWN, "float32"), ("slides", "float32")]
    )
    def test_give_the_reference_answer(self, case: Path, workers: Workers, name: str, dtype: str) -> None:
        if absent := missing(EVALUATORS[name].needs):
            pytest.skip(f"not installed: {', '.join(absent)}")
        entry = evaluation(case, name, dtype)
        prepare([entry], workers, allowed=ALLOWED[dtype], say=silent)
        assert entry.status is Status.TIMED, entry.note
        assert 0 <= entry.facts["difference"] <= ALLOWED[dtype]
        assert entry.warmup_s is not None and entry.warmup_s > 0
        time_in_turn([entry], workers, repeats=2, say=silent)
        assert len(entry.samples) == 2 and min(entry.samples) > 0

    def test_another_answer_is_not_timed(self, case: Path, workers: Workers, tmp_path: Path) -> None:
        right = Case.load(case)
        wrong = tmp_path / "wrong.npz"
        dataclasses.replace(right, gradients=right.gradients * (1 + 1e-7)).save(wrong)
        entries = [evaluation(case), evaluation(wrong)]
        entries[1].contender = "wrong"  # another key in the same worker
        prepare(entries, workers, allowed=ALLOWED["float64"], say=silent)
        time_in_turn(entries, workers, repeats=1, say=silent)
        assert [entry.status for entry in entries] == [Status.TIMED, Status.DISAGREES]
        assert "differs from the reference by 1.0e-07" in entries[1].note
        assert entries[1].timing().samples_s == () and entries[0].timing().spread is not None

    def test_what_is_not_installed_is_named(self, case: Path, workers: Workers) -> None:
        entry = evaluation(case, "slides")
        entry.needs = ("a_module_nobody_has",)
        prepare([entry], workers, allowed=1.0, say=silent)
        assert entry.status is Status.NOT_INSTALLED
        assert entry.note == f"not installed: a_module_nobody_has ({EXTRA})"

    def test_the_fastest_way_is_taken(self) -> None:
        ways = {"slow": lambda: sum(range(200_000)), "quick": lambda: None}
        assert fastest(ways) == "quick"


@pytest.fixture(scope="module", params=COEFFICIENTS)
def equation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case of two members of an equation, as a file."""
    path = tmp_path_factory.mktemp("equation") / f"{request.param}.npz"
    build_equation_case(request.param, SHAPE, members=2).save(path)
    return path


class TestEquations:
    @pytest.mark.parametrize("name", [OWN, *equations.RIVALS])
    def test_contenders_give_the_reference_answer(self, equation: Path, workers: Workers, name: str) -> None:
        if absent := missing(EVALUATORS[name].needs):
            pytest.skip(f"not installed: {', '.join(absent)}")
        entry = evaluation(equation, name)
        entry.arguments["engine"] = "torch"  # compiles nothing
        prepare([entry], workers, allowed=ALLOWED["float64"], say=silent)
        assert entry.status is Status.TIMED, entry.note
        assert 0 <= entry.facts["difference"] <= ALLOWED["float64"]

    def test_members_differ_in_a_coefficient(self, equation: Path) -> None:
        found = load_case(equation)
        assert isinstance(found, EquationCase) and found.name == equation.stem
        assert found.coefficients[1] == pytest.approx(1.1 * found.coefficients[0])
        assert len(found.first(1).coefficients) == 1
        equal = build_equation_case(found.name, SHAPE, members=2, step=0.0)
        assert equal.coefficients[1] == equal.coefficients[0] == found.coefficients[0]
        assert equal.losses[0] == found.losses[0] and equal.losses[1] != found.losses[1]


class TestWorkers:
    def test_an_error_is_an_answer_and_the_next_request_succeeds(self, case: Path, workers: Workers) -> None:
        entry = evaluation(case)
        wrong = {**entry.arguments, "engine": "no such engine"}
        with pytest.raises(WorkerError, match="KeyError"):
            workers.open(entry.job, 1, "wrong", **wrong)
        assert workers.open(entry.job, 1, "right", **entry.arguments)["difference"] < 1e-10

    def test_a_dead_worker_is_one_line(self, case: Path, workers: Workers) -> None:
        entry = evaluation(case)
        workers.open(entry.job, 1, "it", **entry.arguments)
        next(iter(workers._running.values()))._process.kill()
        with pytest.raises(WorkerError, match="the worker ended with code -9"):
            workers.time(entry.job, 1, "it", 1)
        with pytest.raises(WorkerError, match="its worker has ended"):
            workers.time(entry.job, 1, "it", 1)

    def test_nothing_is_left(self, case: Path) -> None:
        with Workers() as workers:
            entry = evaluation(case)
            workers.open(entry.job, 1, "it", **entry.arguments)
            (process,) = [worker._process for worker in workers._running.values()]
            folder = workers.folder
        assert process.returncode == 0 and not folder.exists()

    def test_the_jobs_exist(self) -> None:
        assert [name for name in JOBS.values() if importlib.util.find_spec(f"benchmarks.{name}") is None] == []


class TestLBFGS:
    @pytest.mark.parametrize("form", ["auto", *FORMS])
    @pytest.mark.parametrize(("members", "padding"), [(1, 0), (3, 5)])
    def test_both_sides_go_the_same_way(self, form: Any, members: int, padding: int) -> None:
        import torch

        function = Quadratic.draw(members=members, size=12, pairs=30, dtype=torch.float64)
        own: LBFGSJob = OwnLBFGS(function.padded(12 + padding), form, size=12)
        theirs = TorchLBFGS(function)
        for job in (own, theirs):
            assert job.run(2)["seconds"] > 0
        for found, expected in ((own.direction, theirs.direction), (own.end, theirs.end)):
            torch.testing.assert_close(found[:12], expected, rtol=1e-9, atol=1e-12)
        before = own.end.clone()
        own.run(1)
        assert torch.equal(own.end, before), "a restart begins where the first run began"
        values = [float(function.evaluate(x[:1], [0])[0]) for x in (function.start, own.end[None, :12])]
        assert 0 < values[1] < values[0] and ITERATIONS > 1


def test_both_sides_of_a_whole_trial_do_the_same(case: Path, data: dict[str, str]) -> None:
    schedule = Schedule(epochs=20, iterations=8, adam_lr=1e-2)
    numbers = Case.load(case)
    own_job = OwnTrial(numbers, schedule, data=data, dtype="float64", engine="auto")  # type: ignore[arg-type]
    assert own_job.facts() == {"difference": 0.0}
    own = own_job.run(1)
    theirs = SlidesTrial(numbers, schedule, dtype="float64").run(1)
    for name in ("first_evaluations", "second_evaluations", "iterations"):
        assert own[name] == theirs[name], name
    assert own["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
    assert own["rel_l2"] == pytest.approx(theirs["rel_l2"], rel=1e-6)


def timing(contender: str, *samples: float, threads: int = 1, pack: int = 1, place: Place = PLACE) -> Timing:
    status = Status.TIMED if samples else Status.NOT_INSTALLED
    note = "" if samples else f"not installed: it ({EXTRA})"
    label = EVALUATORS[contender].label if contender in EVALUATORS else contender
    return Timing(
        place=place,
        contender=contender,
        label=label,
        threads=threads,
        pack=pack,
        status=status,
        note=note,
        samples_s=samples,
    )


class TestComparison:
    def test_a_bar_is_reached_or_not(self) -> None:
        timings = [
            timing(OWN, 1.0, 1.0, 1.0, pack=4),
            timing(OWN, 1.5, 1.5, 1.5, pack=1),
            timing("slides", 9.0, 10.0, 11.0),
            timing("slides", 7.0, 7.0, 7.0, threads=2),
            timing("jax", 1.2, 1.2, 1.2),
            timing("jax", 1.1, 0.9, 1.1, pack=4),
            timing("deepxde"),
        ]
        found = {(c.rival, c.pack): c for c in compare(timings)}
        slides = found["slides", 4]
        assert slides.same == Spread(10.0, 9.0, 11.0) and slides.best == Spread(7.0, 7.0, 7.0)
        assert (slides.bar, slides.reached, slides.best_reached, slides.best_threads) == (8.0, True, False, 2)
        assert found["slides", 1].bar is None and found["slides", 1].reached is None
        assert found[FASTEST_RIVAL, 4].same.median == pytest.approx(1.1) and found[FASTEST_RIVAL, 4].reached
        assert found[FASTEST_RIVAL, 1].same.median == pytest.approx(0.8), "its pack of 4 does not count for one member"
        assert found[FASTEST_RIVAL, 1].reached is False
        assert ("deepxde", 1) not in found

    def test_other_places_are_not_compared(self) -> None:
        other = dataclasses.replace(PLACE, dtype="float64")
        assert compare([timing(OWN, 1.0), timing("slides", 9.0, place=other)]) == []

    def test_a_form_nobody_chose_has_no_bar(self) -> None:
        place = Place(part="b", shape="2x16", dtype="float64", pairs=2000)
        timings = [timing(name, 1.0, place=place) for name in (OWN, f"{OWN}_two_loop", "torch")]
        assert [(c.own, c.bar, c.reached) for c in compare(timings)] == [
            (OWN, 50.0, False),
            (f"{OWN}_two_loop", None, None),
        ]


class TestTables:
    @pytest.fixture
    def report(self) -> Report:
        timings = [
            timing(OWN, 1e-3, 2e-3, 1e-3, pack=4),
            timing("slides", 9e-3, 1e-2, 8e-3),
            timing("jax"),
        ]
        return Report(Options(parts=("a",)), describe_machine(), tuple(timings), tuple(compare(timings)))

    def test_markdown(self, report: Report) -> None:
        text = render(report)
        (row,) = [line for line in text.splitlines() if line.startswith("| 2x16") and "1.00 (1.00..2.00)" in line]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:5] == ["2x16", "float32", "1", "4", "1.00 (1.00..2.00)"]
        assert cells[5] == "9.00x (5.00..9.00)"
        assert cells[6] == "not installed (pip install pinnsweep[bench])"
        assert cells[7:9] == ["9.00x (5.00..9.00) on 1", ">= 8x: reached"]
        assert "torch " in text and "cores granted" in text
        assert f"{EVALUATORS['jax'].label}: not installed: it ({EXTRA})" in text.splitlines()

    def test_of_other_equations(self) -> None:
        place = dataclasses.replace(PLACE, part="e", equation="kovasznay")
        timings = [
            timing(OWN, 1e-3, pack=4, place=place),
            timing(equations.EQUAL, 0.8e-3, pack=4, place=place),
            timing("deepxde", 16e-3, place=place),
            timing("jax", 1.9e-3, pack=4, place=place),
        ]
        report = Report(Options(parts=("e",)), describe_machine(), tuple(timings), tuple(compare(timings)))
        (row,) = [line for line in render(report).splitlines() if line.startswith("| kovasznay")]
        assert [cell.strip() for cell in row.strip("|").split("|")][-6:] == [
            *("0.80x (0.80..0.80)", ">= 0.91x: not reached"),
            *("16.0x (16.0..16.0)", ">= 15x: reached"),
            *("1.90x (1.90..1.90)", ">= 2x: not reached"),
        ]

    def test_fits_a_terminal(self, report: Report) -> None:
        assert max(map(len, render(report, width=100).split("a: loss")[1].splitlines()[:-1])) <= 100

    def test_json_has_no_number_that_json_lacks(self, report: Report) -> None:
        odd = dataclasses.replace(report.timings[0], facts={"rel_l2": float("nan")})
        record = dataclasses.replace(report, timings=(odd,)).as_json()
        assert json.loads(json.dumps(record, allow_nan=False))["timings"][0]["facts"] == {"rel_l2": None}


class TestOptions:
    def test_are_read(self) -> None:
        assert read_parts(["c", "a"]) == ("a", "c") and read_parts([]) == tuple(PARTS)
        assert read_shapes("8x8, 2x16") == (Shape(8, 8), Shape(2, 16)) and read_shapes(None) is None
        assert read_dtypes("float64") == ("float64",)
        assert read_counts("--packs", "1,4,4", most=16) == (1, 4)
        assert Shape(8, 8).parameters == 2 * 8 + 8 + 7 * 72 + 9

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["x"], "no part is called 'x'"),
            (["--shapes", "8"], "--shapes: must be hidden layers x units"),
            (["--shapes", "0x8"], "--shapes: must be"),
            (["--dtypes", "float16"], "--dtypes: must be some of float32, float64"),
            (["--threads", "0"], "--threads: must be whole numbers from 1"),
            (["--threads", "1024"], "the cores this process may use"),
            (["--packs", "1,,4"], "--packs: must be whole numbers"),
            (["--pairs", "many"], "--pairs: must be whole numbers"),
            (["--rivals", "numpy"], "--rivals: must be some of slides"),
            (["--engine", "steam"], "--engine: must be auto or one of"),
            (["--output", "no/such/folder/file.json"], "--output: the folder of"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_a_wrong_one_is_one_message(self, words: list[str], message: str) -> None:
        result = invoke(*words)
        assert result.exit_code == 2 and result.stdout == ""
        assert result.stderr.startswith("error: ") and message in result.stderr and len(result.stderr.splitlines()) == 1

    def test_repeats_must_be_positive(self) -> None:
        assert invoke("--repeats", "0").exit_code == 2


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


TIMING_KEYS = {
    "part", "shape", "dtype", "pairs", "clock", "equation", "contender", "label", "threads", "pack", "status", "note",
    "amount", "warmup_s", "samples_s", "facts", "seconds",
}  # fmt: skip
COMPARISON_KEYS = {
    "part", "shape", "dtype", "pairs", "clock", "equation", "own", "rival", "label", "threads", "pack", "same", "best",
    "best_threads", "bar", "reached", "best_reached",
}  # fmt: skip


class TestCommand:
    def test_loss_and_gradient_and_lbfgs(self, tmp_path: Path) -> None:
        """The real thing, small: two parts, two contenders each, on all 6400 points."""
        file = tmp_path / "found.json"
        words = ["--quick", "--shapes", "1x4", "--dtypes", "float64", "--packs", "1", "--pairs", "8", "--repeats", "2"]
        result = invoke("a", "b", *words, "--threads", "1", "--rivals", "slides", "--output", file, "--json")
        assert result.exit_code == 0, result.output
        record = json.loads(result.stdout)
        assert json.loads(file.read_text()) == record
        assert set(record) == {"schema", "options", "machine", "timings", "comparisons", "machine_code"}
        assert record["options"]["shapes"] == ["1x4"] and record["machine"]["versions"]["torch"]
        assert [set(timing) for timing in record["timings"]] == [TIMING_KEYS] * len(record["timings"])
        assert [set(each) for each in record["comparisons"]] == [COMPARISON_KEYS] * len(record["comparisons"])
        timed = {(timing["part"], timing["contender"]): timing for timing in record["timings"]}
        assert {("a", OWN), ("a", "slides"), ("b", OWN), ("b", "torch")} <= set(timed)
        for timing in timed.values():
            assert timing["status"] == "timed", timing["note"]
            assert len(timing["samples_s"]) == 2 and timing["seconds"]["median"] > 0 and timing["warmup_s"] > 0
        against = {(each["part"], each["rival"]) for each in record["comparisons"]}
        assert against == {("a", "slides"), ("b", "torch")}
        assert "repeat 2 of 2" in result.stderr

    def test_a_table_goes_to_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Options] = []

        def run(options: Options, *, say: Any, keep: Any) -> Report:
            seen.append(options)
            report = Report(options, describe_machine(), (timing(OWN, 1.0),), ())
            keep(report)
            return report

        monkeypatch.setattr("benchmarks.__main__.run_benchmark", run)
        result = invoke("a", "--output", tmp_path / "found.md")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "found.md").read_text() == result.stdout and "| 2x16" in result.stdout
        assert seen == [Options(parts=("a",))]


@pytest.mark.slow
def test_a_whole_trial_and_its_table(data: dict[str, str]) -> None:
    options = Options(parts=("c",), quick=True, shapes=(SHAPE,), packs=(1, 2), threads=(1,), data=data)
    report = run_benchmark(options, say=silent)
    assert [timing.status for timing in report.timings] == [Status.TIMED] * 3
    assert len(report.comparisons) == 2 and all(each.bar is None for each in report.comparisons)
    text = render(report)
    assert "200 + " in text and "rel. L2" in text


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(300)
def test_both_sweeps_train_the_same_trials(data: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "QUICK_TRIALS", 3)
    monkeypatch.setattr(sweep, "SCHEDULE", Schedule(epochs=10, iterations=5))
    report = run_benchmark(Options(parts=("d",), quick=True, threads=(1,), data=data), say=silent)
    assert [timing.status for timing in report.timings] == [Status.TIMED] * 4, [t.note for t in report.timings]
    own, theirs = (next(t.facts for t in report.timings if t.contender == name) for name in (OWN, "ray"))
    assert own["trials"] == theirs["trials"] == 3
    assert own["evaluations"] == theirs["evaluations"]
    for name in ("median_rel_l2", "best_rel_l2"):
        assert own[name] == pytest.approx(theirs[name], rel=1e-6), name
    assert {each.place.clock for each in report.comparisons} == {sweep.WITH_RAY, sweep.WITHOUT_RAY}
    assert "trials per hour" in render(report)


def test_threads_beyond_the_granted_cores_are_refused() -> None:
    with pytest.raises(BenchError, match="the cores this process may use"):
        run_benchmark(Options(threads=(10_000,)), say=silent)


class TestFormulations:
    """Part f."""

    def test_a_training_ends_at_its_error_and_its_looks_are_not_timed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = TrainSettings(width=8, epochs=30, iterations=60, adam_lr=0.01, second_stage="ssbroyden")
        monkeypatch.setattr(formulations, "ENOUGH", 0.4)
        easy = formulations.ToEnough(formulations.FE, settings).run(2)
        assert easy["reached"] == "2 of 2" and 30 <= easy["evaluations"] < 90
        monkeypatch.setattr(formulations, "ENOUGH", 0.0)
        hard = formulations.ToEnough(formulations.FE, settings).run(2)
        assert hard["reached"] == "0 of 2" and hard["evaluations"] >= 90
        assert 0 < easy["seconds"] < hard["seconds"]

    def test_both_formulations_are_evaluated(self) -> None:
        for name in (OWN, "strong"):
            options: Any = {"width": 4, "depth": 1, "dtype": "float64", "engine": "fused"}
            job = formulations.open_job(name, 1, clock="an evaluation", **options)
            assert job.run(2)["seconds"] > 0 and job.facts() == {}
