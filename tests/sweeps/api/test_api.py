"""Studies from Python: names, light import, what reaches the driver, tables, errors, and docs/python.md for real."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
import yaml

import sweeps
from cluster import Job, JobHandle, JobState
from sweeps.jobs import places
from sweeps.study.loading import load_spec
from tests import ROOT
from tests.cluster.waiting import WAIT_S

from ..invoking import StandIn, made_study, run_here
from ..invoking import stand_in as stand_in
from ..small import write_study

PUBLIC = {
    "Assessment", "Mistake", "Picture", "QueryError", "Report", "RunLostError", "SpecError", "StoppedError", "Studies",
    "Study", "StudyError", "SweepError", "compare_traces", "open", "run", "submit",
}  # fmt: skip
DOCUMENT = ROOT / "docs" / "python.md"
SPEC = {"study": "first", "search": {"trials": 3}, "space": {"width": {"choice": [4, 8]}}}


class TestNames:
    def test_public_names_are_these_and_documented(self) -> None:
        assert set(sweeps.__all__) == PUBLIC and set(dir(sweeps)) >= PUBLIC
        assert [name for name in PUBLIC if not getattr(sweeps, name).__doc__] == []
        methods = {name for name in dir(sweeps.Study) if not name.startswith("_")}
        assert methods == {
            "name", "path", "spec", "status", "best", "trials", "curves", "fields", "weights", "events", "sql", "stop",
            "extend", "retry", "network", "top", "effects", "compare", "compare_trials", "error_budget", "report",
            "picture",
        }  # fmt: skip
        assert [name for name in methods if not getattr(sweeps.Study, name).__doc__] == []

    def test_import_brings_nothing_heavy(self) -> None:
        code = (
            "import sys, sweeps\nbefore = set(sys.modules)\n"
            "sweeps.open, sweeps.run, sweeps.SpecError\nprint('sweeps.api' in before, *sys.modules)"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True
        )
        loaded = set(result.stdout.split())
        assert "False" in loaded and "sweeps.api" in loaded
        assert {name.partition(".")[0] for name in loaded} & {
            "torch",
            "ray",
            "optuna",
            "pyarrow",
            "typer",
            "rich",
        } == set()

    def test_no_other_name(self) -> None:
        with pytest.raises(AttributeError, match="nonsense"):
            _ = sweeps.nonsense  # type: ignore[attr-defined]

    def test_errors_are_of_one_family(self) -> None:
        family = {name for name in PUBLIC if name.endswith("Error")}
        assert all(issubclass(getattr(sweeps, name), sweeps.SweepError) for name in family) and len(family) == 6


@pytest.fixture
def driven(stand_in: StandIn, tmp_path: Path) -> dict[str, Any]:
    """What the driver is asked for, the study file included, instead of training."""
    seen: dict[str, Any] = {"exit_code": 0}

    def run(target: Path, *, root: Path, **options: Any) -> Any:
        seen.update(options, target=target, root=root)
        if target.is_file():
            seen["file"] = yaml.safe_load(target.read_text())
        study = (
            made_study(tmp_path / "made", "made") if not (tmp_path / "made").exists() else tmp_path / "made" / "made"
        )
        return SimpleNamespace(exit_code=seen["exit_code"], study_dir=study)

    stand_in("sweeps.runner.driver", run=run)
    return seen


class TestRun:
    def test_a_path_goes_to_the_driver_as_it_is(self, driven: dict[str, Any]) -> None:
        study = sweeps.run("a.yaml", "elsewhere", trials=5, address="h:1", cpus=2, plain=False)
        assert driven["target"] == Path("a.yaml") and driven["root"] == Path("elsewhere")
        assert [driven[name] for name in ("trials", "address", "cpus", "plain")] == [5, "h:1", 2, False]
        assert isinstance(study, sweeps.Study) and study.name == "made"

    @pytest.mark.parametrize(
        "spec",
        [
            "study: first\nsearch: {trials: 3}\nspace: {width: {choice: [4, 8]}}\n",
            "{study: first, search: {trials: 3}, space: {width: {choice: [4, 8]}}}",
            SPEC,
            {**SPEC, "space": {"width": {"choice": (np.int64(4), 8)}}},
            {**SPEC, "space": {"width": {"choice": np.array([4, 8])}}},
            {**SPEC, "space": {"width": {"choice": range(4, 9, 4)}}},
            {**SPEC, "space": {"width": {"choice": pd.Series([4, 8])}}},
            {**SPEC, "space": {"width": {"choice": torch.tensor([4, 8])}}},
        ],
        ids=["text", "one line", "mapping", "tuples and numpy", "array", "range", "column", "tensor"],
    )
    def test_the_study_file_itself(self, driven: dict[str, Any], spec: str | Mapping[str, Any]) -> None:
        sweeps.run(spec)
        assert driven["file"]["study"] == "first" and driven["file"]["search"]["trials"] == 3
        assert driven["file"]["space"] == {"width": {"choice": [4, 8]}}
        assert not driven["target"].exists()  # it was for the driver alone

    def test_paths_start_where_one_is(
        self, driven: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        sweeps.run({**SPEC, "state": PurePosixPath("memory")})
        assert driven["file"]["state"] == str(tmp_path / "memory")

    def test_every_mistake_at_once_before_anything_starts(self, driven: dict[str, Any]) -> None:
        with pytest.raises(sweeps.SpecError) as refusal:
            sweeps.run({**SPEC, "search": {"trials": 0}, "train": {"adam_lr": -1}})
        assert [mistake.path for mistake in refusal.value.mistakes] == ["search.trials", "train.adam_lr"]
        with pytest.raises(sweeps.SpecError, match=re.escape("space.width: must be a number, text")):
            sweeps.run({**SPEC, "space": {"width": {4, 8}}})
        with pytest.raises(sweeps.SpecError, match=re.escape('Write frame.to_dict("records").')):
            sweeps.run({**SPEC, "search": {"sampler": "list", "list": pd.DataFrame({"width": [4, 8]})}})
        with pytest.raises(sweeps.SpecError, match="trials: must be a whole number of at least 1, got 0"):
            sweeps.run(SPEC, trials=0)
        assert "target" not in driven

    @pytest.mark.parametrize("exit_code", [0, 1])
    def test_failed_trials_are_no_exception(self, driven: dict[str, Any], exit_code: int) -> None:
        driven["exit_code"] = exit_code
        assert sweeps.run(SPEC).status()["failures"] == 1

    def test_a_stopped_run_is_one(self, driven: dict[str, Any]) -> None:
        driven["exit_code"] = 130
        with pytest.raises(sweeps.StoppedError, match="run it again to resume"):
            sweeps.run(SPEC)


@pytest.fixture
def study(tmp_path: Path) -> sweeps.Study:
    return sweeps.open(made_study(tmp_path))


class TestOpen:
    def test_how_it_stands(self, study: sweeps.Study, tmp_path: Path) -> None:
        assert (study.name, study.path) == ("first", tmp_path / "first")
        assert study.spec.search.trials == 3
        assert study.status()["counts"]["COMPLETE"] == 1 and study.status()["failures"] == 1
        assert study.best()["trial"] == 0 and study.best()["value"] == 0.1
        assert study.best()["params"].keys() == {"width", "adam_lr"}

    def test_relative_and_home_paths(
        self, study: sweeps.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert sweeps.open("first").path == study.path
        monkeypatch.setenv("HOME", str(tmp_path))
        assert sweeps.open("~/first").path == study.path

    def test_tables(self, study: sweeps.Study) -> None:
        assert study.trials()["trial"].to_pylist() == [0, 1, 2]
        assert study.trials()["state"].to_pylist() == ["COMPLETE", "FAIL", "PRUNED"]
        assert study.curves()["trial"].to_pylist() == [0] * 3 + [1] * 3 + [2] * 3
        assert study.curves(1)["trial"].to_pylist() == [1] * 3
        assert study.curves(1)["step"].to_pylist() == [0, 5, 10]  # as it was recorded
        assert study.curves("best").to_pylist() == study.curves(study.best()["trial"]).to_pylist()
        assert len(study.fields(0)) == len(study.weights(0)) == len(study.events()) == len(study.fields()) == 0
        assert study.sql("SELECT count(*) AS n FROM curves").to_pydict() == {"n": [9]}

    def test_nothing_is_read_before_it_is_asked_for(self, study: sweeps.Study) -> None:
        trials = study.trials()
        for file in (study.path / "trials").glob("*.parquet"):
            file.write_bytes(b"torn")
        assert "not a whole Parquet file" in repr(trials) and "not a whole Parquet file" in trials._repr_html_()
        with pytest.raises(sweeps.StudyError, match="not a whole Parquet file"):
            trials.to_arrow()

    def test_a_lazy_table_is_narrowed_and_read(self, study: sweeps.Study) -> None:
        trials = study.trials()
        assert trials.schema.field("rel_l2").metadata == {b"unit": b"1"} and "width" in trials.columns
        chosen = trials.filter(pc.field("trial") < 2, state=["COMPLETE", "PRUNED"]).select("rel_l2", "state")
        assert chosen.columns == ["rel_l2", "state"] and len(chosen) == 1
        assert chosen.to_pylist() == [{"rel_l2": 0.1, "state": "COMPLETE"}]
        head, names, _, row = repr(chosen).splitlines()
        assert head == "trials of first, filtered: 1 rows, 2 columns"
        assert names.split() == ["rel_l2", "state"] and row.split() == ["10", "%", "COMPLETE"]
        assert [batch.num_rows for batch in chosen.batches() if batch.num_rows] == [1]
        assert pa.table(chosen).to_pylist() == chosen.to_pandas().to_dict("records") == chosen.to_pylist()
        page = chosen._repr_html_()
        assert ">10 %</td>" in page and ">COMPLETE</td>" in page and "1 rows" in page
        assert ">s</td>" in trials.select("seconds")._repr_html_()  # its unit, below its name
        assert "... and" in repr(trials) and "seconds [s]" in repr(trials.select("seconds"))
        for wrong in (lambda: trials.select("rel_l"), lambda: trials.filter(rel_l=1), lambda: trials["rel_l"]):
            with pytest.raises(sweeps.QueryError, match=r"there is no column 'rel_l'\. Did you mean rel_l2"):
                wrong()

    def test_polars(self, study: sweeps.Study, monkeypatch: pytest.MonkeyPatch) -> None:
        polars = pytest.importorskip("polars")
        rows = study.trials().filter(state="COMPLETE").select("trial", "rel_l2")
        assert rows.to_polars().rows() == rows.lazy().collect().rows() == [(0, 0.1)]
        assert rows.lazy().filter(polars.col("rel_l2") > 1).collect().height == 0
        monkeypatch.setitem(sys.modules, "polars", None)
        with pytest.raises(sweeps.QueryError, match="this needs polars, which is not installed: pip install polars"):
            rows.to_polars()

    def test_several_studies_are_read_as_one(self, study: sweeps.Study, tmp_path: Path) -> None:
        second = made_study(tmp_path, "second", ["COMPLETE"])
        for both in (sweeps.open(tmp_path), sweeps.open(study.path, second)):
            assert isinstance(both, sweeps.Studies) and list(both) == ["first", "second"] and len(both) == 2
            assert both["second"].path == second and repr(both).count("\nStudy second: 1 trial") == 1
            assert both.trials().columns[:2] == ["study", "trial"]
            assert both.trials()["study"].to_pylist() == ["first"] * 3 + ["second"]
            assert both.curves().filter(study="second")["step"].to_pylist() == [0, 5, 10]
            assert len(both.fields()) == len(both.weights()) == len(both.events()) == 0
            assert both.sql("SELECT count(DISTINCT study) AS n FROM trials").to_pydict() == {"n": [2]}
            with pytest.raises(sweeps.StudyError, match="best is a trial of one study, and these are 2"):
                both.curves("best")
        assert len(sweeps.open(study.path, study.path)) == 1

    def test_what_is_not_there(self, study: sweeps.Study, tmp_path: Path) -> None:
        for read in (study.curves, study.fields, study.weights):
            with pytest.raises(sweeps.StudyError, match="no finished trial 9"):
                read(9)
        with pytest.raises(sweeps.StudyError, match=r"neither it nor a folder in it has a study\.yaml"):
            sweeps.open(tmp_path / "first" / "trials")
        with pytest.raises(sweeps.QueryError):
            study.sql("SELECT nonsense FROM trials")
        with pytest.raises(sweeps.StudyError, match="is not running"):
            study.stop()
        with pytest.raises(sweeps.StudyError, match="no trial is complete"):
            sweeps.open(made_study(tmp_path, "begun", ["WAITING", "RUNNING"])).best()

    def test_going_on(self, study: sweeps.Study, driven: dict[str, Any]) -> None:
        assert study.extend(2, cpus=1).name == "made"
        assert (driven["target"], driven["root"]) == (study.path, study.path.parent)
        assert (driven["trials"], driven["cpus"], driven["plain"]) == (5, 1, True)
        study.retry([1])
        assert driven["retry"] == [1]
        for wrong in (study.extend, lambda n: study.retry([n])):
            with pytest.raises(sweeps.StudyError):
                wrong(0)


def test_a_study_run_extended_and_retried(tmp_path: Path, stand_in: StandIn) -> None:
    """Through the real owner: the learning rate 1e30 fails, again and again."""
    stand_in("sweeps.runner.driver", run=run_here)
    plain = load_spec(write_study(tmp_path / "data", trials=6, sampler="random")).to_plain()
    plain["space"] = {"width": {"choice": [3, 5]}, "adam_lr": {"choice": [0.01, 1e30]}}
    plain["train"] |= {"init": "torch", "lbfgs_history": 5}
    study = sweeps.run(plain, tmp_path / "runs")
    states = study.trials()["state"].to_pylist()
    assert set(states) == {"COMPLETE", "FAIL"}, "the seed has to bring both"
    assert study.status()["failures"] == states.count("FAIL")

    before = study.trials().to_arrow()
    study.extend(2)
    assert study.status()["limit"] == 8 and len(study.trials()) == 8
    assert study.trials().to_arrow().slice(0, 6).equals(before), "finished rows never change"

    failed = [row["trial"] for row in study.trials().to_pylist() if row["state"] == "FAIL"]
    study.retry()
    rows = study.trials().to_pylist()
    assert [row["retry_of"] for row in rows[8:]] == failed
    assert study.status()["failures"] == len(failed) and study.status()["counts"]["FAIL"] == 2 * len(failed)
    with pytest.raises(sweeps.StudyError, match=f"trial {failed[0]} is already repeated by trial 8"):
        study.retry([failed[0]])
    assert len(study.fields(study.best()["trial"])) > 0 and len(study.weights(study.best()["trial"])) > 0
    times = study.events()["time"].to_pylist()
    assert times == sorted(times) and study.spec.search.trials == 8


class TestSubmit:
    @pytest.fixture(autouse=True)
    def instead_of_training(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Jobs print their command line."""

        class Printing(places.LocalExecutor):
            def submit(self, job: Job) -> Any:
                return super().submit(replace(job, argv=("/bin/echo", *job.argv[1:])))

        monkeypatch.setattr(places, "LocalExecutor", Printing)

    def command_of(self, job: JobHandle) -> list[str]:
        assert job.wait(WAIT_S) is JobState.DONE
        return "".join(job.logs()).split()

    def test_a_mapping_is_kept_until_the_job_reads_it(self, tmp_path: Path) -> None:
        job = sweeps.submit(SPEC, root=tmp_path, trials=7, cpus=1)
        assert job.job.name == "first"
        assert self.command_of(job) == [
            *("-P", "-m", "sweeps.cli", "run", "study.yaml", "--root", str(tmp_path)),
            *("--plain", "--trials", "7", "--cpus", "1"),
        ]
        assert load_spec(tmp_path / ".jobs" / "1" / "files" / "study.yaml").search.trials == 3

    def test_a_study_goes_on_in_its_root(self, study: sweeps.Study) -> None:
        words = self.command_of(sweeps.submit(study.path, "local"))
        assert words[4:7] == ["study.yaml", "--root", str(study.path.parent)]

    def test_a_file_is_read_first(self, tmp_path: Path) -> None:
        file = tmp_path / "a.yaml"
        file.write_text("study: a\nsearch: {trials: 0}\n")
        with pytest.raises(sweeps.SpecError, match=r"search\.trials"):
            sweeps.submit(file, root=tmp_path / "runs")
        assert not (tmp_path / "runs").exists()

    def test_no_other_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(sweeps.SpecError, match="there is no profile of this name"):
            sweeps.submit(SPEC, "moon", tmp_path)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(600)
def test_the_documentation_runs(tmp_path: Path) -> None:
    """Every block of docs/python.md, one after the other, with trainings of a few epochs."""
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL))
    short = code.replace('"epochs": 500, "iterations": 300', '"epochs": 3, "iterations": 2')
    assert short != code and code.count("sweeps.") >= 5
    script = tmp_path / "page.py"
    script.write_text(short)
    command = [sys.executable, str(script)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=540, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "{'COMPLETE': 8, 'FAIL': 0, 'PRUNED': 0, 'RUNNING': 0, 'WAITING': 0}" in result.stdout
    assert "search.trials: must be at least 1, got 0" in result.stdout and "space.widht" in result.stdout
    study = sweeps.open(tmp_path / "runs" / "widths")
    assert study.status()["limit"] == 14 and study.trials()["state"].to_pylist() == ["COMPLETE"] * 14
