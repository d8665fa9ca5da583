"""The database of a study: one contract for every database, and the faults that only a file can have."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.trial import FrozenTrial

from sweeps.errors import StudyError
from sweeps.states import FINISHED
from sweeps.storage.database import Connection, Database, connect, database
from sweeps.storage.optuna_sql import REVISIONS, Ledger, StudyReader, TrialRecord, find_attributes

SPACE: dict[str, BaseDistribution] = {
    "adam_lr": FloatDistribution(1e-4, 1e-2, log=True),
    "width": IntDistribution(3, 64),
    "init": CategoricalDistribution(["torch", "keras", 7, 0.5, True]),
    "data": CategoricalDistribution(['{"mat": "a.mat"}', "strb100"]),
    "depth": IntDistribution(1, 64, log=True),
}
PARAMS = {"adam_lr": 1.234567890123e-3, "width": 20, "init": "keras", "data": '{"mat": "a.mat"}', "depth": 7}


# every column of the tables that our SQL reads or writes: with an Optuna that has others, read `optuna_sql` again
COLUMNS = {
    "alembic_version": "version_num",
    "studies": "study_id study_name",
    "study_directions": "study_direction_id direction study_id objective",
    "study_user_attributes": "study_user_attribute_id study_id key value_json",
    "trials": "trial_id number study_id state datetime_start datetime_complete",
    "trial_params": "param_id trial_id param_name param_value distribution_json",
    "trial_values": "trial_value_id trial_id objective value value_type",
    "trial_user_attributes": "trial_user_attribute_id trial_id key value_json",
    "trial_system_attributes": "trial_system_attribute_id trial_id key value_json",
    "trial_intermediate_values": (
        "trial_intermediate_value_id trial_id step intermediate_value intermediate_value_type"
    ),
}


def enter(ledger: Ledger, number: int, **attributes: Any) -> None:
    params = {**PARAMS, "width": 3 + number % 60, "init": ("torch", "keras", 7, 0.5, True)[number % 5]}
    ledger.enter(number, params, SPACE, {"pack": number // 8, **attributes}, {"sampler": {"try": 1}})


def optuna_study(where: Database, name: str = "study") -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.load_study(study_name=name, storage=where.url)


class LedgerContract:
    """The contract of every database; a subclass gives the fixture `where`, a database without a study."""

    @pytest.fixture
    def ledger(self, where: Database) -> Iterator[Ledger]:
        ledger = Ledger(where, "study", create=True)
        ledger.take("the test")
        yield ledger
        ledger.close()

    def again(self, ledger: Ledger) -> list[TrialRecord]:
        """Return the records that another process reads."""
        other = Ledger(ledger.database, "study")
        try:
            assert len(other) == len(ledger)
            return other.records()
        finally:
            other.close()

    def test_a_trial_comes_back_whole_here_and_in_optuna(self, ledger: Ledger, where: Database) -> None:
        for number in range(5):
            enter(ledger, number, window=[0, 5, 2], seed=2**62 + number)
        records = self.again(ledger)
        trials = optuna_study(where).trials
        for number, (record, trial) in enumerate(zip(records, trials, strict=True)):
            expected = {**PARAMS, "width": 3 + number, "init": ("torch", "keras", 7, 0.5, True)[number]}
            assert record.params == expected == trial.params
            assert [type(value) for value in record.params.values()] == [type(v) for v in trial.params.values()]
            assert list(record.params) == list(PARAMS)
            assert trial.distributions == SPACE
            attributes = {"pack": 0, "window": [0, 5, 2], "seed": 2**62 + number}
            assert record.attributes == attributes == trial.user_attrs
            assert record.system_attributes == {"sampler": {"try": 1}} == trial.system_attrs
            assert (record.number, record.state, record.values) == (number, "WAITING", None)
            assert (trial.number, trial.state.name, trial.values) == (number, "WAITING", None)

    def test_the_life_of_trials(self, ledger: Ledger, where: Database) -> None:
        for number in range(6):
            enter(ledger, number)
        for number in range(5):
            ledger.mark(number, "RUNNING")
        ledger.mark(0, "COMPLETE", [0.25])
        ledger.mark(1, "FAIL")
        ledger.mark(2, "PRUNED")
        ledger.mark(3, "WAITING")
        ledger.mark(5, "COMPLETE", [0.125])  # told by a start that found it published
        states = ["COMPLETE", "FAIL", "PRUNED", "WAITING", "RUNNING", "COMPLETE"]
        assert [record.state for record in self.again(ledger)] == states
        assert [record.values for record in self.again(ledger)] == [(0.25,), None, None, None, None, (0.125,)]
        trials = optuna_study(where).trials
        assert [trial.state.name for trial in trials] == states
        for trial in trials:
            assert (trial.datetime_complete is not None) == (trial.state.name in FINISHED)
            assert trial.state.name == "WAITING" or trial.datetime_start is not None
            assert trial.duration is None or -1 < trial.duration.total_seconds() < 60
        assert optuna_study(where).best_trial.number == 5
        assert ledger.counts() == {"COMPLETE": 2, "FAIL": 1, "PRUNED": 1, "RUNNING": 1, "WAITING": 1}
        best = ledger.best()
        assert best and (best.number, best.values, best.params) == (5, (0.125,), trials[5].params)

    def test_the_best_of_equals_is_the_first_and_infinity_the_last(self, ledger: Ledger) -> None:
        assert ledger.best() is None
        for number, value in enumerate([math.inf, 0.5, 0.25, 0.25]):
            enter(ledger, number)
            ledger.mark(number, "COMPLETE", [value])
            best = ledger.best()
            assert best and best.number == min(number, 2)
        assert [record.values for record in self.again(ledger)] == [(math.inf,), (0.5,), (0.25,), (0.25,)]

    @pytest.mark.parametrize("state", FINISHED)
    def test_a_finished_trial_is_never_told_again(self, ledger: Ledger, where: Database, state: str) -> None:
        enter(ledger, 0)
        ledger.log_rung(0, 333, 0.5)
        ledger.mark(0, state, [1.0] if state == "COMPLETE" else None)
        before = self.again(ledger)
        for change in (
            lambda: ledger.mark(0, "COMPLETE", [2.0]),
            lambda: ledger.mark(0, "FAIL"),
            lambda: ledger.mark(0, "WAITING"),
            lambda: ledger.log_rung(0, 333, 0.1),
            lambda: ledger.annotate(0, "note", "late"),
        ):
            with pytest.raises(StudyError, match=f"trial 0 is {state}"):
                change()
        assert self.again(ledger) == before

    @pytest.mark.parametrize("number", [0, 1, 3, 7])
    def test_a_number_that_is_not_the_next_is_refused(self, ledger: Ledger, number: int) -> None:
        enter(ledger, 0)
        enter(ledger, 1)
        with pytest.raises(StudyError, match=f"trial {number} could not be entered"):
            enter(ledger, number)
        enter(ledger, 2)
        assert [record.number for record in self.again(ledger)] == [0, 1, 2]

    def test_a_trial_of_another_tool_is_noticed(self, ledger: Ledger, where: Database) -> None:
        enter(ledger, 0)
        optuna_study(where).enqueue_trial({"width": 3})
        with pytest.raises(StudyError, match="another program writes to it"):
            enter(ledger, 1)
        assert len(optuna_trials(where)) == 2

    def test_a_transaction_is_made_whole_or_not_at_all(self, ledger: Ledger) -> None:
        with ledger.transaction():
            enter(ledger, 0)
            enter(ledger, 1)

        def fail_half_way() -> None:
            with ledger.transaction():
                enter(ledger, 2)
                ledger.mark(0, "COMPLETE", [1.0])
                ledger.set_attribute("name", 1)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_half_way()
        assert [record.state for record in self.again(ledger)] == ["WAITING", "WAITING"]
        assert "name" not in ledger.attributes()
        enter(ledger, 2)
        assert len(self.again(ledger)) == 3

    def test_a_transaction_whose_part_failed_is_not_made(self, ledger: Ledger) -> None:
        def careless() -> None:
            with ledger.transaction():
                enter(ledger, 0)
                with pytest.raises(StudyError):
                    enter(ledger, 5)

        with pytest.raises(RuntimeError, match="a part of this transaction"):
            careless()
        assert self.again(ledger) == [] and len(ledger) == 0

    def test_a_commit_that_fails_leaves_nothing(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        enter(ledger, 0)
        run = Connection.run

        def failing(self: Connection, sql: str, *values: Any) -> None:
            if sql == "COMMIT":
                raise StudyError("the disk is full")
            run(self, sql, *values)

        with monkeypatch.context() as patch:
            patch.setattr(Connection, "run", failing)
            with pytest.raises(StudyError, match="the disk is full"):
                enter(ledger, 1)
        assert len(ledger) == len(self.again(ledger)) == 1
        enter(ledger, 1)

    def test_threads_take_turns(self, ledger: Ledger) -> None:
        """Each enters a trial and marks another in one transaction."""

        def work(count: int) -> None:
            for _ in range(count):
                with ledger.transaction():
                    enter(ledger, len(ledger))
                    ledger.mark(len(ledger) - 1, "FAIL")

        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(work, 5) for _ in range(4)]:
                done.result()
        assert [(record.number, record.state) for record in self.again(ledger)] == [(n, "FAIL") for n in range(20)]

    def test_several_objectives(self, where: Database) -> None:
        ledger = Ledger(where, "study", create=True, objectives=3)
        try:
            for number, values in enumerate([(0.5, 2.0, math.inf), (0.25, 3.0, 1.0)]):
                enter(ledger, number)
                ledger.mark(number, "COMPLETE", values)
            assert [record.values for record in ledger.records()] == [(0.5, 2.0, math.inf), (0.25, 3.0, 1.0)]
            assert ledger.best() == ledger.records()[1]
            enter(ledger, 2)
            for wrong in ([], [1.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, math.nan]):
                with pytest.raises(ValueError, match="values"):
                    ledger.mark(2, "COMPLETE", wrong)
            for state in ("FAIL", "PRUNED", "RUNNING"):
                with pytest.raises(ValueError, match="nothing else"):
                    ledger.mark(2, state, [1.0, 2.0, 3.0])
        finally:
            ledger.close()
        study = optuna_study(where)
        assert [direction.name for direction in study.directions] == ["MINIMIZE"] * 3
        assert {trial.number for trial in study.best_trials} == {0, 1}
        assert study.trials[2].state.name == "WAITING"
        again = Ledger(where, "study")
        assert again.objectives == 3
        again.close()

    def test_rungs_and_notes(self, ledger: Ledger, where: Database) -> None:
        enter(ledger, 0)
        for rung, value in ((37, 3.0), (111, math.nan), (333, math.inf), (37, 2.0)):
            ledger.log_rung(0, rung, value)
        ledger.annotate(0, "deaths", {"0": 1})
        ledger.annotate(0, "deaths", {"0": 2})
        (record,) = self.again(ledger)
        assert record.attributes == {"pack": 0, "deaths": {"0": 2}}
        assert repr(record.rungs) == "{37: 2.0, 111: nan, 333: inf}"
        assert repr(dict(sorted(optuna_study(where).trials[0].intermediate_values.items()))) == repr(record.rungs)

    def test_attributes_of_the_study(self, ledger: Ledger, where: Database) -> None:
        ledger.set_attributes({"attempts": 1, "identity": "a"})
        ledger.set_attribute("attempts", 2)
        ledger.set_attribute("data", {"a": [1, None, "é", 0.1]})
        attributes = ledger.attributes()
        assert attributes == {**attributes, "attempts": 2, "identity": "a", "data": {"a": [1, None, "é", 0.1]}}
        assert optuna_study(where).user_attrs == attributes

    def test_an_older_writer_is_refused_whatever_it_writes(self, ledger: Ledger) -> None:
        enter(ledger, 0)
        other = connect(ledger.database)
        other.run("UPDATE study_user_attributes SET value_json = '7' WHERE key = 'fence'")
        other.run("UPDATE study_user_attributes SET value_json = '\"process 9 on far\"' WHERE key = 'holder'")
        other.close()
        for write in (
            lambda: enter(ledger, 1),
            lambda: ledger.mark(0, "RUNNING"),
            lambda: ledger.set_attribute("attempts", 5),
            lambda: ledger.log_rung(0, 3, 1.0),
            lambda: ledger.annotate(0, "a", 1),
        ):
            with pytest.raises(StudyError, match="was taken over by process 9 on far"):
                write()
        (record,) = self.again(ledger)
        assert record.state == "WAITING" and "attempts" not in ledger.attributes()

    def test_every_taking_has_a_higher_number(self, where: Database) -> None:
        fences = []
        for _ in range(3):
            ledger = Ledger(where, "study", create=True)
            fences.append(ledger.take("me"))
            enter(ledger, len(ledger))
            ledger.close()
        assert fences == [1, 2, 3]

    def test_studies_of_one_database_do_not_meet(self, where: Database, ledger: Ledger) -> None:
        other = Ledger(where, "other", create=True)
        other.take("me")
        for number in range(3):
            enter(ledger, number)
            enter(other, number)
            other.mark(number, "COMPLETE", [1.0])
        assert ledger.counts()["WAITING"] == 3 and other.counts()["COMPLETE"] == 3 and ledger.best() is None
        assert [record.number for record in other.records()] == [0, 1, 2]
        other.close()

    def test_a_study_that_is_not_there_is_refused(self, where: Database, ledger: Ledger) -> None:
        with pytest.raises(StudyError, match="holds no study 'other'"):
            Ledger(where, "other")

    def test_trials_that_are_not_numbered_through_are_refused(self, where: Database, ledger: Ledger) -> None:
        enter(ledger, 0)
        enter(ledger, 1)
        other = connect(where)
        other.run("UPDATE trials SET number = 5 WHERE number = 1")
        other.close()
        with pytest.raises(StudyError, match="not numbered"):
            Ledger(where, "study")

    def test_an_impossible_call_is_a_bug(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="there is no trial 3: 0 are entered"):
            ledger.mark(3, "RUNNING")
        with pytest.raises(ValueError, match="must be one of"):
            ledger.mark(0, "DONE")

    def test_ten_thousand_trials_are_read_in_a_moment(self, where: Database, ledger: Ledger) -> None:
        enter(ledger, 0)
        ledger.mark(0, "COMPLETE", [1.0])
        multiply(where, 10_000)
        again = Ledger(where, "study")
        gc.freeze()  # objects of other tests are not collected meanwhile
        try:
            started = time.process_time()
            records = again.records()
            took_s = time.process_time() - started
        finally:
            gc.unfreeze()
        again.close()
        assert len(records) == 10_000 and records[9_999].params == records[0].params
        assert took_s < 1.5


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with Optuna's tables, which take a while to make."""
    where = database(tmp_path_factory.mktemp("tables"))
    Ledger(where, "another", create=True).close()
    assert where.file
    return where.file


class TestSqlite(LedgerContract):
    """SQLite in a file."""

    @pytest.fixture
    def where(self, tables: Path, tmp_path: Path) -> Database:
        shutil.copy(tables, tmp_path / "study.db")
        return database(tmp_path)

    def test_the_second_taking_ends_the_first(self, ledger: Ledger, where: Database) -> None:
        enter(ledger, 0)
        second = Ledger(where, "study")
        second.take("process 2 on there")
        with pytest.raises(StudyError, match="was taken over by process 2 on there"):
            enter(ledger, 1)
        enter(second, 1)
        second.close()


def test_optuna_makes_the_tables_that_our_sql_knows(tables: Path) -> None:
    connection = connect(database(tables.parent))
    assert connection.rows("SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]
    made = {table: [row[1] for row in connection.rows(f"PRAGMA table_info({table})")] for table in COLUMNS}
    connection.close()
    assert made == {table: columns.split() for table, columns in COLUMNS.items()}


def test_our_sql_uses_no_other_table_and_optuna_reads_all_that_it_wrote(tmp_path: Path) -> None:
    where, used = database(tmp_path), set[tuple[str, str]]()

    def note(action: int, table: str | None, column: str | None, *_: object) -> int:
        if action in (sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE):
            used.add((table or "", column or ""))
        return sqlite3.SQLITE_OK

    with Ledger(where, "study", create=True, objectives=2) as ledger:
        ledger._connection._opened.set_authorizer(note)
        ledger.take("me")
        ledger.set_attribute("limit", 3)
        for number in range(4):
            enter(ledger, number, retry_of=0)
            ledger.mark(number, "RUNNING")
            ledger.log_rung(number, 111, 0.5 + number)
        ledger.annotate(1, "deaths", {"0": 2})
        for number, state in enumerate(("COMPLETE", "FAIL", "PRUNED")):
            ledger.mark(number, state, (0.5, math.inf) if state == "COMPLETE" else None)
        ours, best = ledger.records(), ledger.best()
        assert best == ours[0] and ledger.records(number=2) == ours[2:3] and ledger.records(number=9) == []
        assert ledger.records(after=ours[1].trial_id) == ours[2:] and ledger.numbers("FAIL") == [1]
        assert ledger.counts() == {"COMPLETE": 1, "FAIL": 1, "PRUNED": 1, "RUNNING": 1, "WAITING": 0}
        assert ledger.attribute_by_trial("retry_of") == dict.fromkeys(range(4), 0)
        assert find_attributes(where, "study") == ledger.attributes() and find_attributes(where, "other") is None
    used = {(table, column) for table, column in used if table not in ("", "sqlite_master")}
    assert {table for table, _ in used} <= set(COLUMNS)
    assert all(column in ("", *COLUMNS[table].split()) for table, column in used)
    study = optuna_study(where)
    assert study.user_attrs == {"limit": 3, "fence": 1, "holder": "me"}
    for record, trial in zip(ours, study.trials, strict=True):
        assert (record.trial_id, record.number, record.state) == (trial._trial_id, trial.number, trial.state.name)
        assert (record.started, record.ended) == (trial.datetime_start, trial.datetime_complete)
        assert record.params == trial.params and record.rungs == trial.intermediate_values
        assert {name: json_to_distribution(text) for name, text in record.distributions.items()} == SPACE
        assert (record.attributes, record.system_attributes) == (trial.user_attrs, trial.system_attrs)
        assert list(record.values or ()) == (trial.values or [])


def test_a_reader_sees_what_the_writer_wrote_and_changes_nothing(written: Path) -> None:
    before = (written / "study.db").read_bytes()
    with StudyReader(database(written), "study", check=True) as reader:
        assert reader.counts()["COMPLETE"] == len(reader.records()) == 40
        best = reader.best()
        assert best and (best.number, best.values) == (39, (1 / 40,))
    assert (written / "study.db").read_bytes() == before


def multiply(where: Database, trials: int) -> None:
    """Copy the only trial of a database until there are `trials`."""
    connection = connect(where)
    with connection.transaction():
        ((first,),) = connection.rows("SELECT trial_id FROM trials")
        for table, columns in (
            ("trials", "number, study_id, state, datetime_start, datetime_complete"),
            ("trial_params", "trial_id, param_name, param_value, distribution_json"),
            ("trial_values", "trial_id, objective, value, value_type"),
            ("trial_user_attributes", "trial_id, key, value_json"),
            ("trial_system_attributes", "trial_id, key, value_json"),
        ):
            copied = columns.replace("number", "n").replace("trial_id", f"{first} + n")
            connection.run(
                f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {trials - 1}) "
                f"INSERT INTO {table} ({columns}) SELECT {copied} FROM numbers, (SELECT * FROM {table}) AS one "
                "ORDER BY n"
            )
    connection.close()


def optuna_trials(where: Database) -> list[FrozenTrial]:
    return optuna_study(where).trials


# ---- faults of a file --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of some trials."""
    study_dir = tmp_path_factory.mktemp("written")
    ledger = Ledger(database(study_dir), "study", create=True)
    for number in range(40):
        enter(ledger, number)
        ledger.mark(number, "COMPLETE", [1.0 / (number + 1)])
    ledger.close()
    return study_dir


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(share=st.floats(0, 1, exclude_max=True), on_page=st.booleans())
def test_a_database_cut_anywhere_is_refused(written: Path, tmp_path: Path, share: float, on_page: bool) -> None:
    content = (written / "study.db").read_bytes()
    size = int(share * len(content))
    size = size // 4096 * 4096 if on_page else size
    (tmp_path / "study.db").write_bytes(content[:size])
    with pytest.raises(StudyError, match=r"study\.db .*(?i:restore)"):
        Ledger(database(tmp_path), "study")
    assert (tmp_path / "study.db").read_bytes() == content[:size], "it is left as it is"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(page=st.integers(0, 1000))
def test_a_page_of_zeros_is_refused_or_harmless(written: Path, tmp_path: Path, page: int) -> None:
    content = bytearray((written / "study.db").read_bytes())
    start = page % (len(content) // 4096) * 4096
    content[start : start + 4096] = bytes(4096)
    (tmp_path / "study.db").write_bytes(content)
    with contextlib.suppress(StudyError):
        ledger = Ledger(database(tmp_path), "study")
        try:
            assert [record.values for record in ledger.records()] == [(1.0 / (n + 1),) for n in range(40)]
        finally:
            ledger.close()


@pytest.mark.parametrize("content", [None, b"", b"garbage " * 1000, b"SQLite format 3\0" + b"\0" * 5000])
def test_a_missing_or_damaged_file_is_named_and_never_replaced(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "study.db"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StudyError, match=r"study\.db .*(?i:restore)"):
        Ledger(database(tmp_path), "study")
    assert (file.read_bytes() if file.exists() else None) == content
    if content:
        with pytest.raises(StudyError, match=r"study\.db"):
            Ledger(database(tmp_path), "study", create=True)


def test_a_database_without_tables_is_refused(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "study.db").execute("CREATE TABLE mine (x)").connection.close()
    with pytest.raises(StudyError, match="holds no study 'study'"):
        Ledger(database(tmp_path), "study")


def test_the_journal_is_rolled_back_and_never_a_write_ahead_log(tmp_path: Path) -> None:
    where = database(tmp_path)
    Ledger(where, "study", create=True).close()
    sqlite3.connect(tmp_path / "study.db").execute("PRAGMA journal_mode = WAL").connection.close()
    ledger = Ledger(where, "study")
    ledger.take("me")
    assert ledger._connection.rows("PRAGMA journal_mode") == [("delete",)]
    assert ledger._connection.rows("PRAGMA synchronous") == [(2,)], "2 is FULL"
    ledger.close()
    other = sqlite3.connect(tmp_path / "study.db")
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("BEGIN")
    other.execute("SELECT * FROM trials").fetchall()
    ledger = Ledger(where, "study")
    ledger._connection.run("PRAGMA busy_timeout = 100")
    with pytest.raises(StudyError, match=r"study\.db .*Close"):
        ledger.take("me")
    ledger.close()
    other.close()


def test_a_killed_writer_leaves_the_last_whole_transaction(tmp_path: Path) -> None:
    """A hot journal, as kill -9 during a commit leaves it, is rolled back by the next reader."""
    where = database(tmp_path / "study")
    ledger = Ledger(where, "study", create=True)
    ledger._connection.run("PRAGMA cache_size = 1")  # pages go to the file before the commit
    for number in range(20):
        enter(ledger, number)
    with ledger._connection.transaction():
        for number in range(20, 60):
            enter(ledger, number)
        shutil.copytree(tmp_path / "study", tmp_path / "killed")
    ledger.close()
    killed = tmp_path / "killed" / "study.db"
    assert killed.with_name("study.db-journal").stat().st_size and killed.read_bytes() != where.file
    after = Ledger(database(tmp_path / "killed"), "study")
    assert [record.number for record in after.records()] == list(range(20))
    enter(after, 20)
    after.close()


def test_no_call_looks_through_the_trials(tmp_path: Path) -> None:
    """Every statement finds its rows by an index, so that a call costs the same at the ten thousandth trial."""
    ledger = Ledger(database(tmp_path), "study", create=True)
    ledger.take("me")
    statements: list[str] = []
    enter(ledger, 0)
    ledger._connection._opened.set_trace_callback(statements.append)
    enter(ledger, 1)
    entering = len(statements)
    ledger.mark(1, "RUNNING")
    ledger.log_rung(1, 111, 0.5)
    ledger.annotate(1, "deaths", 1)
    ledger.mark(1, "COMPLETE", [0.5])
    ledger.set_attribute("attempts", 1)
    ledger._connection._opened.set_trace_callback(None)
    plans = {
        statement: [row[3] for row in ledger._connection.rows(f"EXPLAIN QUERY PLAN {statement}")]
        for statement in statements
        if statement.split()[0] in ("SELECT", "INSERT", "UPDATE")
    }
    assert len(plans) > 10
    assert not [statement for statement, plan in plans.items() if any("SCAN" in step for step in plan)]
    for number in range(2, 50):
        enter(ledger, number)
    statements.clear()
    ledger._connection._opened.set_trace_callback(statements.append)
    enter(ledger, 50)
    assert len(statements) == entering
    ledger._connection._opened.set_trace_callback(None)
    ledger.close()


def test_ten_thousand_trials_are_checked_at_an_opening_in_a_moment(tmp_path: Path) -> None:
    ledger = Ledger(database(tmp_path), "study", create=True)
    enter(ledger, 0)
    ledger.mark(0, "COMPLETE", [1.0])
    ledger.close()
    multiply(database(tmp_path), 10_000)
    connection = connect(database(tmp_path))
    started = time.process_time()
    assert connection.rows("PRAGMA quick_check(1)") == [("ok",)]
    assert time.process_time() - started < 0.5
    connection.close()


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    ledger = Ledger(database(tmp_path), "study", create=True)
    ledger.take("me")
    enter(ledger, 0)
    pages = ledger._connection.rows("PRAGMA page_count")[0][0]
    ledger._connection.run(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(1, 500):
            enter(ledger, number)

    with pytest.raises(StudyError, match=r"study\.db .*full.*Make room.*continues where it stopped"):
        fill()
    entered = len(ledger)
    ledger._connection.run("PRAGMA max_page_count = 100000")
    enter(ledger, entered)
    assert [record.number for record in ledger.records()] == list(range(entered + 1))
    ledger.close()


def test_a_database_that_cannot_be_written_is_told_as_one(tmp_path: Path) -> None:
    ledger = Ledger(database(tmp_path), "study", create=True)
    ledger.take("me")
    ledger._connection.run("PRAGMA query_only = 1")
    with pytest.raises(StudyError, match=r"study\.db .*writable"):
        enter(ledger, 0)
    ledger.close()


def taken(tmp_path: Path) -> Ledger:
    """Return an open ledger with two trials."""
    ledger = Ledger(database(tmp_path), "study", create=True)
    ledger.take("me")
    enter(ledger, 0)
    enter(ledger, 1)
    return ledger


def test_a_file_that_is_deleted_while_it_is_in_use_is_written_anew(tmp_path: Path) -> None:
    ledger, file = taken(tmp_path), tmp_path / "study.db"
    with ledger.transaction():
        ledger.mark(0, "RUNNING")
        file.unlink()
    assert ledger.counts()["RUNNING"] == 1  # the open file can be read, and was written to once more
    for _ in range(2):
        with pytest.raises(StudyError, match=r"study\.db was deleted while .*Run the study again: it continues"):
            ledger.mark(1, "RUNNING")
    ledger.close()
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
    again = Ledger(database(tmp_path), "study")
    assert [record.state for record in again.records()] == ["RUNNING", "WAITING"]
    assert again.take("another") == 2
    again.close()


def test_a_file_that_is_deleted_with_its_folder_is_told(tmp_path: Path) -> None:
    ledger = taken(tmp_path / "folder")
    shutil.rmtree(tmp_path / "folder")
    with pytest.raises(StudyError, match=r"study\.db was deleted while it was in use\. Restore it .*--new-study"):
        ledger.mark(0, "RUNNING")
    ledger.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_replaced_while_it_is_in_use_is_told_and_left(tmp_path: Path) -> None:
    ledger, file = taken(tmp_path), tmp_path / "study.db"
    shutil.copy(file, tmp_path / "copy")
    (tmp_path / "copy").replace(file)
    before = file.read_bytes()
    with pytest.raises(StudyError, match=r"study\.db was replaced by another file"):
        ledger.mark(0, "RUNNING")
    ledger.close()
    assert file.read_bytes() == before and len(Ledger(database(tmp_path), "study")) == 2


def test_a_file_that_is_emptied_while_it_is_in_use_is_told(tmp_path: Path) -> None:
    ledger = taken(tmp_path)
    (tmp_path / "study.db").write_bytes(b"")
    with pytest.raises(StudyError, match=r"study\.db was emptied while it was in use\. Restore it"):
        ledger.mark(0, "RUNNING")
    ledger.close()


def test_another_program_that_holds_the_file_is_told(tmp_path: Path) -> None:
    ledger = Ledger(database(tmp_path), "study", create=True)
    ledger.take("me")
    ledger._connection.run("PRAGMA busy_timeout = 100")
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StudyError, match=r"study\.db .*locked.*Close the program"):
        enter(ledger, 0)
    other.close()
    enter(ledger, 0)
    ledger.close()


def test_tables_of_another_optuna_are_refused(tmp_path: Path) -> None:
    Ledger(database(tmp_path), "study", create=True).close()
    connection = connect(database(tmp_path))
    connection.run("UPDATE alembic_version SET version_num = 'v9.9.9'")
    connection.close()
    with pytest.raises(StudyError, match=r"study\.db has Optuna's tables in version v9\.9\.9.*knows v3.*Restore it"):
        Ledger(database(tmp_path), "study")


def test_where_the_database_lies(tmp_path: Path) -> None:
    assert database(tmp_path / "small").file == tmp_path / "small" / "study.db"
    assert database(tmp_path / "small", "/elsewhere").file == Path("/elsewhere/small.db")
    for state, label in (
        ("postgresql://me@db.example:5433/studies", "PostgreSQL database studies on db.example:5433"),
        ("postgresql:///studies?host=/run/pg", "PostgreSQL database studies on this machine"),
        ("postgresql://me:secret@db/studies", "PostgreSQL database studies on db"),
    ):
        where = database(tmp_path, state)
        assert where.file is None and where.label == label and where.url.startswith("postgresql+psycopg://")
        assert "secret" not in where.label


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a{b}c", "é b"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    where = database(tmp_path / name)
    ledger = Ledger(where, "study", create=True)
    enter(ledger, 0)
    ledger.close()
    assert where.file and where.file.is_file() and [path.name for path in tmp_path.iterdir()] == [name]
    assert len(optuna_study(where).trials) == 1


def test_what_is_stored_is_json(tmp_path: Path) -> None:
    ledger = Ledger(database(tmp_path), "study", create=True)
    enter(ledger, 0, window=[1, 2])
    assert json.loads(
        ledger._connection.rows("SELECT value_json FROM trial_user_attributes WHERE key = 'window'")[0][0]
    ) == [1, 2]
    ledger.close()
