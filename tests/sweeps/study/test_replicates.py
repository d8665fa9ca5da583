"""The value over replicates is the same number in Python, for arrays and in SQL."""

from __future__ import annotations

import math

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from sweeps.study.replicates import finite, quantile, quantile_name, quantile_sql, quantiles, value_of, values_sql

FAILURES = [("COMPLETE", value) for value in (None, math.inf, -math.inf, math.nan)] + [("FAIL", 0.5), ("PRUNED", 0.1)]


def trials(replicates: int) -> list[list[tuple[str, float | None]]]:
    """Return states and numbers of the replicates of random trials, many with failures of all kinds."""
    draw = np.random.default_rng(replicates)
    return [
        [
            FAILURES[draw.integers(6)] if draw.random() < risk else ("COMPLETE", draw.lognormal())
            for _ in range(replicates)
        ]
        for risk in draw.choice([0.0, 0.2, 0.6], 500)
    ]


@pytest.mark.parametrize("replicates", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.5, 2 / 3, 0.9, 1])
def test_python_arrays_and_sql_agree_in_every_digit(replicates: int, share: float) -> None:
    rows = trials(replicates)
    values = [[value_of(number, has_result=state == "COMPLETE") for state, number in own] for own in rows]
    expected = [quantile(own, share) for own in values]
    assert quantiles(np.array(values), share).tolist() == expected
    table = pa.table(
        {
            "trial": np.repeat(np.arange(len(rows)), replicates),
            "state": [state for own in rows for state, _ in own],
            "a number": pa.array([number for own in rows for _, number in own], pa.float64()),
        }
    )
    values_of_trial = values_sql('"a number"')
    sql = f"SELECT {quantile_sql(values_of_trial, repr(share))} AS value FROM trials GROUP BY trial ORDER BY trial"
    with duckdb.connect() as connection:
        connection.register("trials", table)
        result = connection.sql(sql).to_arrow_table()["value"].to_pylist()
    assert result == [finite(value) for value in expected]
    assert None in result and any(value is not None for value in result)


def test_the_value_is_linear_between_neighbours_and_infinite_where_the_upper_one_is() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.25) == 1.5 and quantile([7.0], 0.9) == 7.0
    assert quantile([math.inf, 1.0], 0) == 1.0
    assert quantile([math.inf, 1.0], 0.01) == quantile([math.inf] * 2, 0.5) == math.inf
    assert quantile([0.3] * 4, 0.1) == 0.3  # equal numbers give this number, without rounding


def test_rows_that_are_not_chosen_do_not_count() -> None:
    chosen = values_sql("error", "state <> 'PRUNED'")
    rows = "FROM (VALUES ('COMPLETE', 2), ('PRUNED', 1), ('FAIL', 0)) AS trials(state, error)"
    assert duckdb.sql(f"SELECT {chosen} {rows}").fetchall() == [([2.0, math.inf],)]


def test_a_quantile_has_a_name() -> None:
    assert [quantile_name(share) for share in (0, 0.5, 0.9, 1)] == ["minimum", "median", "90 % quantile", "maximum"]
