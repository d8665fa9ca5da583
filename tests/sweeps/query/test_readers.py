"""Reading while a sweep publishes, compacts and is killed: plain readers never miscount, ours are exact."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas
import pyarrow as pa
import pyarrow.dataset
import pytest

import sweeps
from sweeps.query.query import query
from sweeps.storage.tables import StudyTables
from tests.cluster.waiting import WAIT_S

from .. import synthetic
from ..publishing import ROWS, TRIALS

Rows = list[int]  # the trial of each row


def with_arrow(folder: Path) -> Rows:
    return pyarrow.dataset.dataset(folder, format="parquet").to_table(columns=["trial"])["trial"].to_pylist()


def with_pandas(folder: Path) -> Rows:
    return [int(trial) for trial in pandas.read_parquet(folder, columns=["trial"])["trial"]]


def with_duckdb(folder: Path) -> Rows:
    with duckdb.connect() as connection:
        result = connection.execute(f"SELECT trial FROM read_parquet('{folder}/*.parquet')").fetchall()
    return [trial for (trial,) in result]


PLAIN: dict[str, Callable[[Path], Rows]] = {"arrow": with_arrow, "pandas": with_pandas, "duckdb": with_duckdb}
FAILURES = (OSError, pa.ArrowException, duckdb.Error)


class Sweep:
    """The process that publishes, and its progress."""

    def __init__(self, study: Path) -> None:
        self.study, self.starts = study, 0
        self.process: subprocess.Popen[bytes] | None = None
        self.until = 0.0

    def keep_alive(self, draw: random.Random) -> None:
        """Start the process, or kill and start it again once its time is over."""
        if self.process is not None and self.process.poll() is None:
            if time.monotonic() < self.until:
                return
            self.kill()
        assert self.process is None or self.process.returncode == -9, "it ends by being killed only"
        before = self.count("published")
        command = [sys.executable, "-m", "tests.sweeps.publishing", str(self.study)]
        self.process = subprocess.Popen(command)
        self.starts += 1
        while self.count("published") == before:  # its life is counted from when it works
            assert self.process.poll() is None
            time.sleep(0.01)
        self.until = time.monotonic() + draw.uniform(0.05, 1.2)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(WAIT_S)

    def count(self, what: str) -> int:
        file = self.study.with_name(what)
        return int(file.read_text()) if file.exists() else 0


def look_on(study: Path, starts: int) -> tuple[Sweep, Counter[str]]:
    """Read repeatedly while the study is written, compacted and killed, and check the rows.

    Stop once there was enough of everything; how much is read during the life of a sweep depends on the machine.
    """
    seen: Counter[str] = Counter()
    draw = random.Random(7)
    sweep = Sweep(study)
    tables = StudyTables(study)

    def enough() -> bool:
        was_compacted = sweep.count("published") >= 7
        return was_compacted and all(seen[name] for name in (*PLAIN, "ours"))

    try:
        while not enough() or sweep.starts < starts or time.monotonic() < sweep.until:
            sweep.keep_alive(draw)
            for name, read in PLAIN.items():
                for table, times in (("trials", 1), ("curves", ROWS)):
                    least = sweep.count("published")
                    try:
                        rows = Counter(read(study / table))
                    except FAILURES:
                        seen[f"{name} said so"] += 1
                        continue
                    assert set(rows.values()) <= {times}, f"{name} counted a row of {table} twice, or a part"
                    assert set(range(least * TRIALS)) <= set(rows), f"{name} missed rows of {table}"
                    assert len(rows) <= sweep.count("begun") * TRIALS
                    seen[name] += 1
            least = sweep.count("published")
            sql = (
                "SELECT (SELECT count(*) FROM trials) AS trials, (SELECT max(trial) + 1 FROM trials) AS last,"
                " (SELECT count(*) FROM curves) AS curves"
            )
            result = query([study], sql).to_pylist()[0]
            assert result["trials"] == result["last"] and result["trials"] * ROWS == result["curves"]
            assert least <= result["trials"] / TRIALS <= sweep.count("begun")
            least = sweep.count("published")
            assert least * TRIALS <= len(tables.read("curves")) / ROWS <= sweep.count("begun") * TRIALS
            assert len(sweeps.open(study).trials()) % TRIALS == 0
            seen["ours"] += 1
    finally:
        sweep.kill()
    return sweep, seen


@pytest.mark.parametrize("starts", [3, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_nobody_miscounts_while_a_sweep_writes_compacts_and_is_killed(tmp_path: Path, starts: int) -> None:
    synthetic.make_study(tmp_path / "demo", trials=0, failed=0)
    sweep, seen = look_on(tmp_path / "demo", starts)
    print(sweep.starts, sweep.count("published"), dict(seen))
