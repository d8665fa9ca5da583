"""Units and the factor of ten are named; what cannot be right in tables is refused, what is doubtful is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pinncore import DataError
from tests.cluster.waiting import WAIT_S

from .tables import Columns, field, plate, read, written

Change = Callable[[dict[str, Columns]], object]


def changed(change: Change) -> dict[str, Columns]:
    tables = plate()
    change(tables)
    return tables


def times(factor: float, *names: str, column: str = "elocal") -> Change:
    def change(tables: dict[str, Columns]) -> None:
        for name in names or tables:
            tables[name][column] = tables[name][column] * factor

    return change


def appended(name: str, row: int, **values: float) -> Change:
    """Repeats a row of a table, with other values."""

    def change(tables: dict[str, Columns]) -> None:
        tables[name] = {
            column: np.append(array, values.get(column, array[row])) for column, array in tables[name].items()
        }

    return change


def swap(tables: dict[str, Columns]) -> None:
    tables["lrb"], tables["btb"] = tables["btb"], tables["lrb"]


def together(tables: dict[str, Columns]) -> None:
    for column in ("xcoord", "ycoord"):
        tables["gauss_points"][column] = np.full(144, 3.0)


def nowhere(tables: dict[str, Columns]) -> None:
    tables["lrb"]["xcoord"] = np.where(tables["lrb"]["xcoord"] == 0, 10.0, 30.0)


def all_of(*changes: Change) -> Change:
    return lambda tables: [change(tables) for change in changes]


def test_notes_state_the_units(tmp_path: Path) -> None:
    found = read(written(tmp_path, plate()))
    assert found.notes == (
        "coordinates in mm: x 1.667 to 38.33, y 1.667 to 38.33",
        "g in mm^2: 8 to 8 (l_c = sqrt(2 g), at most 4 mm)",
        "elocal in the file: physical strains (factor 1); found from mean elocal / mean enonlocal_true = 1",
        "elocal, dimensionless: 6.902e-05 to 0.0002992",
        "144 Gauss points, 18 left/right and 18 bottom/top nodes",
    )
    assert found.warnings == () and found.elocal_factor == 1 and found.name == "gauss_points"


def test_the_factor_of_ten_is_found_and_named(tmp_path: Path) -> None:
    plain = read(written(tmp_path, plate()))
    source = written(tmp_path, changed(times(10)))
    found = read(source)
    assert found.elocal_factor == 10
    note = (
        "ten times the physical strains (factor 10), divided by 10 here; found from mean elocal / mean enonlocal_true"
    )
    assert any(f"elocal in the file: {note} = 10" in each for each in found.notes)
    np.testing.assert_allclose(found.gauss.elocal, plain.gauss.elocal, rtol=1e-15)
    np.testing.assert_allclose(found.lrb.elocal, plain.lrb.elocal, rtol=1e-15)
    assert (found.gauss.enonlocal_true == plain.gauss.enonlocal_true).all(), "never scaled"
    assert read({**source, "elocal_factor": 10}).sha256 == found.sha256, "found or stated, the same numbers"


def test_without_the_truth_the_factor_must_be_stated(tmp_path: Path) -> None:
    source = written(tmp_path, changed(lambda tables: tables["gauss_points"].pop("enonlocal_true")))
    with pytest.raises(DataError, match=r"enonlocal_true.*elocal_factor: 1 or elocal_factor: 10"):
        read(source)
    found = read({**source, "elocal_factor": 1})
    assert found.gauss.enonlocal_true is None
    assert "no enonlocal_true: errors to the reference cannot be computed" in found.notes


@pytest.mark.parametrize(
    ("change", "options", "fragments"),
    [
        (times(0), {"elocal_factor": 1}, ("gauss_points.csv has elocal 0 in all 144 rows",)),
        (
            times(0, "gauss_points", column="enonlocal_true"), {"elocal_factor": 1},
            ("enonlocal_true 0 in all 144 rows", "Leave the column out"),
        ),
        (together, {}, ("the 144 points", "all lie at one place, x = 3 mm, y = 3 mm")),
        (times(0, "lrb", column="g"), {}, ("lrb.csv, line 2, has g <= 0 (0)",)),
        (times(1000), {}, ("mean elocal is 1e+03 times mean enonlocal_true, neither about 1 nor about 10",)),
        (times(10), {"elocal_factor": 1}, ("elocal_factor: 1 is stated", "State elocal_factor: 10 or auto")),
        (times(1), {"elocal_factor": 10}, ("elocal_factor: 10 is stated", "State elocal_factor: 1 or auto")),
        (times(10, "btb"), {}, ("elocal in the table btb is 9.", "that of the nearest Gauss points", "factor of ten")),
        (
            appended("gauss_points", 3, elocal=1e-4), {},
            ("has 1 places twice with other values", "line 5 and line 146", "two increments in one file"),
        ),
        (appended("btb", 0, elocal=2.5e-4), {}, ("btb.csv has 1 places twice with other values",)),
        (
            swap, {},
            (
                "14 of the 18 left/right nodes", "neither at x = 0 mm nor at x = 40 mm",
                "14 of them lie at the ends of y: are the tables lrb and btb exchanged?",
            ),
        ),
        (nowhere, {}, ("left/right nodes", "Are they in another unit than the Gauss points?")),
        (
            all_of(times(1e-3, column="xcoord"), times(1e-3, column="ycoord")), {},
            ("l_c = sqrt(2 g) = 4 mm is 100 times the plate (0.04 mm)", "length: {x: m, y: m, g: mm}"),
        ),
        (
            all_of(times(1e-3, "gauss_points", column="xcoord"), times(1e-3, "gauss_points", column="ycoord")), {},
            ("the Gauss points span 0.0367 mm, and the boundary nodes 40 mm",),
        ),
        (
            all_of(times(1e-3, "lrb", "btb", column="xcoord"), times(1e-3, "lrb", "btb", column="ycoord")), {},
            ("the Gauss points span 36.7 mm, and the boundary nodes 0.04 mm",),
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(
    tmp_path: Path, change: Change, options: dict[str, int], fragments: tuple[str, ...]
) -> None:
    with pytest.raises(DataError) as caught:
        read({**written(tmp_path, changed(change)), **options})
    for fragment in fragments:
        assert fragment in str(caught.value), f"{fragment!r} is not in: {caught.value}"


def inner_edge(tables: dict[str, Columns]) -> None:
    """An L-shape has vertical edges in the middle too."""
    y = np.linspace(20, 40, 5)
    more = {"xcoord": np.full(5, 20.0), "ycoord": y, "g": np.full(5, 8.0), "elocal": field(np.full(5, 20.0), y)}
    tables["lrb"] = {name: np.append(values, more[name]) for name, values in tables["lrb"].items()}


def flat(tables: dict[str, Columns]) -> None:
    gauss = tables["gauss_points"]
    tables["gauss_points"] = {name: values[:12] for name, values in gauss.items()}


@pytest.mark.parametrize(
    ("change", "options", "fragment"),
    [
        (
            appended("gauss_points", 3), {},
            "gauss_points.csv: 1 of 145 rows repeat another exactly, first line 146 that of line 5",
        ),
        (
            inner_edge, {},
            "lrb.csv: 5 of 23 left/right nodes lie neither at the smallest nor at the largest x of all points, first "
            "x = 20 mm, y = 20 mm in line 20: right for a plate that is no rectangle",
        ),
        (flat, {}, "all 12 Gauss points lie on one line"),
        (times(9, column="g"), {}, "l_c = 12 mm is 0.3 of the plate (40 mm)"),
        (times(0.25, column="g"), {}, "l_c = 2 mm is smaller than the spacing of the Gauss points (about 3.33 mm)"),
        (times(40), {"elocal_factor": 10}, "divided by the factor 10 as stated, is 4 times mean enonlocal_true"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_said(tmp_path: Path, change: Change, options: dict[str, int], fragment: str) -> None:
    found = read({**written(tmp_path, changed(change)), **options})
    assert any(fragment in warning for warning in found.warnings), found.warnings


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_a_large_table_takes_seconds_and_little_memory(tmp_path: Path) -> None:
    """160,000 points, with 2,000 nodes: fewer than the largest tables, so that slow machines pass too."""
    tables = plate(points=400, size_mm=100)
    along = np.linspace(0, 100, 500)
    ends, both = np.repeat([0.0, 100.0], 500), np.tile(along, 2)
    for name, (x, y) in {"lrb": (ends, both), "btb": (both, ends)}.items():
        tables[name] = {"xcoord": x, "ycoord": y, "g": np.full(1000, 8.0), "elocal": field(x, y)}
    for name, table in tables.items():
        np.savetxt(
            tmp_path / f"{name}.csv",
            np.stack([*table.values()], axis=1),
            delimiter=",",
            header=",".join(table),
            comments="",
        )
    files = [str(tmp_path / f"{name}.csv") for name in tables]
    measured = (
        "import pathlib, sys, time; from pinncore import load_data; from sweeps.inputs.opening import open_table\n"
        "data = load_data(dict(zip(('gauss_points', 'lrb', 'btb'), sys.argv[1:])), open_table)\n"
        "peak = pathlib.Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"
        "print(len(data.gauss), len(data.btb), time.process_time(), peak)"
    )
    result = subprocess.run(
        [sys.executable, "-c", measured, *files], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    points, nodes, seconds, kib = map(float, result.stdout.split())
    assert (points, nodes) == (160_000, 1000)
    assert seconds < 20 and kib < 900_000
