"""Tables of points: columns by symbol, from arrays, `.npz`, and what is handed in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pinncore.errors import DataError, SettingError
from pinncore.geometry import Box, Table

COLUMNS = {"x": [0.0, 1.0, 2.0], "t": [0, 1, 1], "velocity": [5.0, 6.0, 7.0]}


def test_all_points_whatever_the_count() -> None:
    table = Table(COLUMNS, columns={"u": "velocity"})
    points = table.draw(2, "sobol", 0)
    assert {name: values.tolist() for name, values in points.items()} == {
        "x": [0.0, 1.0, 2.0],
        "t": [0.0, 1.0, 1.0],
        "u": [5.0, 6.0, 7.0],
    }
    assert table.names == ("x", "t", "u") and table.limits["u"] == (5.0, 7.0)
    assert table.within(Box(x=(0, 1))) is table
    assert list(table.read(["t"], optional=["u", "p"])) == ["t", "u"]
    there = {"x": np.array([1.0, 1.0]), "t": np.array([1.0, 0.0])}
    assert table.contains(there).tolist() == [True, False]


def test_where_keeps_rows() -> None:
    table = Table(COLUMNS).where(lambda t: t > 0)
    assert table.draw(1, "grid", 0)["x"].tolist() == [1.0, 2.0]
    assert table.read(["velocity"])["velocity"].tolist() == [6.0, 7.0]
    with pytest.raises(SettingError, match="must leave points"):
        table.where(lambda x: x > 3).draw(1, "grid", 0)


def test_npz_is_read_here(tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", **COLUMNS)
    assert Table("points.npz").beside(tmp_path).read(["velocity"])["velocity"].tolist() == [5.0, 6.0, 7.0]
    with pytest.raises(DataError, match="does not exist"):
        Table(tmp_path / "missing.npz").read(["x"])
    (tmp_path / "damaged.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"damaged\.npz is not an \.npz of columns"):
        Table(tmp_path / "damaged.npz").read(["x"])
    with pytest.raises(DataError, match=r"reads \.npz alone"):
        Table(tmp_path / "points.csv").read(["x"])


def test_other_formats_are_opened_by_what_is_handed_in(tmp_path: Path) -> None:
    from sweeps.inputs.opening import open_table

    (tmp_path / "points.csv").write_text("x,who,speed\n0,a,3\n1,b,4\n")
    table = Table(str(tmp_path / "points.csv"), columns={"u": "speed"}).reading(open_table)
    assert {name: values.tolist() for name, values in table.draw(9, "sobol", 0).items()} == {"x": [0, 1], "u": [3, 4]}
    with pytest.raises(DataError, match=r"line 2.*who"):
        table.read(["who"])
    (tmp_path / "points.csv").write_text("x,speed\n0,3\n1,fast\n")
    with pytest.raises(DataError, match="line 3"):
        Table(str(tmp_path / "points.csv"), columns={"u": "speed"}).reading(open_table).draw(1, "sobol", 0)


@pytest.mark.parametrize(
    ("source", "columns", "message"),
    [
        (COLUMNS, {"u": "speed"}, "lacks the column speed. Columns there: x, t, velocity"),
        (COLUMNS, {}, r'lacks the column u.*columns={"u": "NAME"}'),
        ({"u": [1.0], "x": [1.0, 2.0]}, {}, "one number for each point"),
        ({"u": []}, {}, "one number for each point"),
        ({"u": ["fast"]}, {}, "holds no numbers"),
        ({"u": [1.0, np.inf]}, {}, "row 2, column u, is not a finite number"),
    ],
)
def test_wrong_tables(source: dict[str, list[object]], columns: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Table(source, columns=columns).read(["u"])
