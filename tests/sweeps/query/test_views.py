"""The predefined views: replicates, failed, pruned and repeated trials, several studies, columns that are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeps.query.confined import Limits
from sweeps.query.query import answer_of, query
from sweeps.query.views import NEEDS
from sweeps.storage.tables import StudyTables

from .. import synthetic
from ..bare_rows import Row, replicates, row, study
from ..problems import of_strain

INF, NAN = float("inf"), float("nan")


def rows_of(sql: str, *folders: Path) -> list[dict[str, Any]]:
    return query(folders, sql).to_pylist()


def configured(config: str, *rows: Row, first_seed: int = 0) -> list[Row]:
    """Return rows of one configuration with different seeds."""
    return [{"config_hash": config, "data_hash": "d", "seed": first_seed + n} | line for n, line in enumerate(rows)]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of five replicates with trials of every kind."""
    folder = tmp_path_factory.mktemp("root") / "pruned"
    synthetic.make_pruned_study(folder)
    return folder


class TestBest:
    def test_the_rows_of_the_best_trial_of_each_study(self, tmp_path: Path) -> None:
        one = study(tmp_path / "one", "replicates: 3", [*replicates(0, 0.1, 0.2, 0.9), *replicates(1, 0.01, 0.3, None)])
        two = study(tmp_path / "two", "trials: 3", [row(0, NAN), row(1, 0.5), row(2, None), row(3, INF)])
        lines = rows_of("SELECT study, trial, replicate, worth, rel_l2 FROM best", one, two)
        assert [(line["study"], line["trial"], line["replicate"]) for line in lines] == [
            ("one", 0, 0), ("one", 0, 1), ("one", 0, 2), ("two", 1, 0),
        ]  # fmt: skip
        assert [line["worth"] for line in lines] == [0.2] * 3 + [0.5]
        assert [line["rel_l2"] for line in lines] == [0.1, 0.2, 0.9, 0.5]

    def test_all_trials_of_equal_value_are_listed_but_no_repeated_ones(self, tmp_path: Path) -> None:
        rows = [row(0, 0.1), row(1, 0.1), row(2, 0.2), row(3, 0.1, duplicate_of=0)]
        assert [line["trial"] for line in rows_of("FROM best", study(tmp_path / "one", "", rows))] == [0, 1]

    def test_each_study_by_its_own_objective(self, tmp_path: Path) -> None:
        rows = [row(0, 0.1, loss=2.0), row(1, 0.2, loss=1.0)]
        one, two = study(tmp_path / "one", "", rows), study(tmp_path / "two", "objective: [loss, rel_l2]", rows)
        lines = rows_of("SELECT study, trial, worth FROM best", one, two)
        assert [tuple(line.values()) for line in lines] == [("one", 0, 0.1), ("two", 1, 1.0)]


class TestByConfig:
    def test_seeds_of_several_studies_are_taken_together(self, tmp_path: Path) -> None:
        one = study(tmp_path / "one", "replicates: 2", configured("a", row(0, 0.1), row(0, 0.3, 1)))
        two = study(tmp_path / "two", "", configured("a", row(5, 0.2), first_seed=7) + configured("b", row(6, 0.9)))
        first, second = rows_of("FROM by_config", one, two)
        assert first | {
            "studies": "one, two", "trials": 2, "n": 3, "failed": 0, "pruned": 0, "config_hash": "a",
            "rel_l2_median": 0.2, "rel_l2_min": 0.1, "rel_l2_max": 0.3,
        } == first  # fmt: skip
        assert first["rel_l2_q1"] == pytest.approx(0.15) and first["rel_l2_q3"] == pytest.approx(0.25)
        assert (second["studies"], second["n"], second["rel_l2_median"]) == ("two", 1, 0.9)

    def test_a_failed_seed_is_infinitely_bad_and_a_pruned_one_unknown(self, tmp_path: Path) -> None:
        rows = configured("a", row(0, 0.1), row(0, None, 1), row(0, 0.2, 2))
        rows += configured("b", row(1, 0.3), row(1, 0.01, 1, state="PRUNED"))
        rows += configured("c", row(2, None)) + configured("d", row(3, NAN))
        lines = {line["config_hash"]: line for line in rows_of("FROM by_config", study(tmp_path / "one", "", rows))}
        assert list(lines) == ["a", "b", "c", "d"]  # the best median first, those without a median last
        columns = ("n", "failed", "pruned", "rel_l2_median", "rel_l2_min", "rel_l2_q3", "rel_l2_max")
        assert [lines["a"][name] for name in columns] == [3, 1, 0, 0.2, 0.1, None, INF]
        assert [lines["b"][name] for name in columns] == [2, 0, 1, 0.3, 0.3, 0.3, 0.3]
        assert [lines["c"][name] for name in columns] == [1, 1, 0, None, None, None, INF]
        assert [lines["d"][name] for name in columns] == [1, 0, 0, None, None, None, INF]

    def test_each_training_counts_once(self, tmp_path: Path) -> None:
        """Not again where another trial repeats it, where it was retried, or in a study that took it over."""
        rows = configured("a", row(0, 0.1)) + configured("b", row(1, None), row(3, 0.4) | {"retry_of": 1, "seed": 0})
        one = study(tmp_path / "one", "", [*rows, row(2, 0.1, duplicate_of=0, config_hash="a", seed=0)])
        reused = configured("a", row(0, 0.1, taken_from=f"{one}/0", seconds=0.0))
        two = study(tmp_path / "two", "", reused + configured("c", row(1, 0.7, data_hash="other")))
        lines = {line["config_hash"]: line for line in rows_of("FROM by_config", one, two)}
        assert {name: (line["n"], line["failed"], line["trials"]) for name, line in lines.items()} == {
            "a": (1, 0, 1), "b": (1, 0, 1), "c": (1, 0, 1),
        }  # fmt: skip

    def test_equal_settings_on_different_data_are_separate_rows(self, tmp_path: Path) -> None:
        one = study(tmp_path / "one", "", configured("a", row(0, 0.1)))
        two = study(tmp_path / "two", "", configured("a", row(0, 0.2, data_hash="e"), row(1, None, data_hash=None)))
        assert [(line["studies"], line["n"]) for line in rows_of("FROM by_config", one, two)] == [
            ("one", 1),
            ("two", 2),
        ]

    def test_every_objective_has_a_spread(self, tmp_path: Path) -> None:
        one = study(tmp_path / "one", "objective: [rel_l2, seconds]", [row(0, 0.1, seconds=3.0)])
        two = study(tmp_path / "two", "objective: loss", [row(0, 0.1, loss=5.0)])
        lines = rows_of("SELECT studies, rel_l2_median, seconds_median, loss_median FROM by_config", one, two)
        assert [tuple(line.values()) for line in lines] == [("one", 0.1, 3.0, None), ("two", 0.1, None, 5.0)]


class TestCurvesLast:
    def test_the_last_row_of_each_replicate(self, pruned: Path) -> None:
        lines = {(line["trial"], line["replicate"]): line for line in rows_of("FROM curves_last", pruned)}
        assert len(lines) == query([pruned], "SELECT DISTINCT trial, replicate FROM curves").num_rows
        assert (lines[0, 0]["phase"], lines[0, 0]["step"]) == ("second", 500)
        assert (lines[20, 1]["phase"], lines[20, 1]["step"]) == ("first", 175)
        assert lines[0, 0]["loss"] == synthetic.curve(0)["loss"][-1]

    def test_the_second_stage_comes_after_the_first(self, tmp_path: Path) -> None:
        folder = study(tmp_path / "one", "", [])
        curve = {"trial": 0, "replicate": 0, "phase": ["first", "second"], "step": [9, 0], "evaluations": [10, 10]}
        first_stage_only = {
            "trial": 1,
            "replicate": 0,
            "phase": ["first", "first"],
            "step": [0, 5],
            "loss": [1.0, None],
        }
        StudyTables(folder).publish("curves", trials=[row(0, 1.0), row(1, 1.0)], curves=[curve, first_stage_only])
        lines = rows_of("SELECT trial, phase, step, loss FROM curves_last", folder)
        assert [tuple(line.values()) for line in lines] == [(0, "second", 0, None), (1, "first", 5, None)]


def test_failures_have_their_reason_and_retry(pruned: Path) -> None:
    lines = rows_of("SELECT DISTINCT ON (trial) * FROM failures ORDER BY trial, replicate", pruned)
    assert [(line["trial"], line["replicate"], line["retried_by"]) for line in lines] == [
        (3, 1, None), (32, 0, 34), (33, 0, None),
    ]  # fmt: skip
    assert lines[0]["failure"] == synthetic.FAILURE and lines[0]["stop_reason"] == "not_finite"
    assert lines[0]["width"] == synthetic.config(3)["train"]["width"] and "stop_advice" in lines[0]
    assert rows_of("SELECT count(*) AS n FROM failures", pruned) == [{"n": 1 + 2 * 5}]


class TestPareto:
    def test_error_against_time(self, tmp_path: Path) -> None:
        rows = [row(n, error, seconds=time) for n, (error, time) in enumerate([(3, 1), (2, 2), (2, 3), (1, 9), (9, 9)])]
        rows += [row(5, 0.5, seconds=0.0, taken_from="other/0"), row(6, 3, seconds=1.0, duplicate_of=0)]
        rows += [row(7, NAN, seconds=0.1), row(8, None), row(9, 0.1, state="PRUNED", seconds=0.1)]
        lines = rows_of("FROM pareto", study(tmp_path / "one", "", rows))
        assert [(line["trial"], line["rel_l2"], line["seconds"]) for line in lines] == [(3, 1, 9), (1, 2, 2), (0, 3, 1)]

    def test_several_objectives_are_compared_within_each_study(self, tmp_path: Path) -> None:
        rows = [row(0, 1, loss=5.0, seconds=9.0), row(1, 2, loss=1.0, seconds=1.0), row(2, 3, loss=1.0, seconds=1.0)]
        one, two = (
            study(tmp_path / name, f"objective: {of}", rows) for name, of in (("a", "[rel_l2, loss]"), ("b", "loss"))
        )
        lines = rows_of("SELECT study, trial, rel_l2, loss, seconds FROM pareto", one, two)
        assert [tuple(line.values()) for line in lines] == [
            ("a", 0, 1.0, 5.0, None), ("a", 1, 2.0, 1.0, None), ("b", 1, None, 1.0, 1.0), ("b", 2, None, 1.0, 1.0),
        ]  # fmt: skip

    def test_the_quantile_over_replicates(self, tmp_path: Path) -> None:
        rows = replicates(0, 0.1, 0.2, None) + replicates(1, 0.3, 0.3, 0.3)
        rows = [line | {"seconds": 1.0 + line["trial"]} for line in rows]
        assert [line["rel_l2"] for line in rows_of("FROM pareto", study(tmp_path / "one", "replicates: 3", rows))] == [
            0.2
        ]


@pytest.mark.parametrize("view", NEEDS)
class TestEveryView:
    def test_a_study_without_results(self, tmp_path: Path, view: str) -> None:
        (of_strain(tmp_path) / "study.yaml").write_text("study: new\nspace: {width: {choice: [8, 16]}}\n")
        lines = query([tmp_path], f"FROM {view}")
        assert lines.num_rows == 0 and lines.column_names[0] in ("study", "studies")

    def test_studies_with_other_fields_and_missing_columns(self, tmp_path: Path, pruned: Path, view: str) -> None:
        other, incomplete = tmp_path / "other", tmp_path / "incomplete"
        synthetic.make_study(other, trials=2, failed=1, text=synthetic.STUDY_FILE.replace("width:", "momentum:"))
        synthetic.make_study(incomplete, trials=2, failed=0)
        file = next((incomplete / "trials").iterdir())
        missing = ("config_hash", "data_hash", "seed", "retry_of", "taken_from", "seconds", "scale_factor")
        pq.write_table(pq.read_table(file).drop_columns(missing), file)
        assert query([incomplete], f"FROM {view}").num_rows == {"failures": 0, "best": 1, "pareto": 0}.get(view, 2)
        lines = query([other, incomplete, pruned], f"FROM {view}")
        key = "studies" if view == "by_config" else "study"
        assert "other" in " ".join(lines[key].to_pylist())

    def test_it_can_be_described_and_joined(self, pruned: Path, view: str) -> None:
        columns = query([pruned], f"DESCRIBE {view}")["column_name"].to_pylist()
        assert columns == query([pruned], f"SELECT * FROM {view.upper()} LIMIT 0").column_names
        assert columns == query([pruned], f".schema {view}")["column"].to_pylist()
        key = "config_hash" if view == "by_config" else "trial"
        assert query([pruned], f"SELECT count(*) FROM trials JOIN {view} USING ({key})")[0][0].as_py() > 0


def test_a_statement_reads_only_the_tables_it_uses(pruned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = StudyTables.dataset

    def recorded(self: StudyTables, table: str, *arguments: Any, **options: Any) -> pa.dataset.Dataset:
        read.append(table)
        return real(self, table, *arguments, **options)

    monkeypatch.setattr(StudyTables, "dataset", recorded)
    for sql, tables in (("FROM best", ["trials"]), ("FROM curves_last", ["curves"]), ("SELECT 1", [])):
        answer_of([pruned], sql, Limits())
        assert read == tables
        read.clear()
