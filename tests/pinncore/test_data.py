"""Reading tables: units said, the factor of ten found, what cannot be right refused; and what StrB100 is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinncore import DataError, FieldData, load_data, read_csv_tables, save_data
from pinncore.data import Points

from .helpers import assert_close, difference

COLUMNS = {"x_mm": "xcoord", "y_mm": "ycoord", "g_mm2": "g", "elocal": "elocal", "enonlocal_true": "enonlocal_true"}


def write_csv(path: Path, points: Points, *, factor: int = 1, without: tuple[str, ...] = ()) -> Path:
    """One table in the published layout, elocal times `factor`, with a column nobody asked for in between."""
    columns = {COLUMNS[name]: values for name, values in points.columns.items() if COLUMNS[name] not in without}
    if "elocal" in columns:
        columns["elocal"] = factor * columns["elocal"]
    names = list(columns)
    names.insert(2, "damage")
    columns["damage"] = np.zeros(len(points))
    rows = zip(*(columns[name] for name in names), strict=True)
    path.write_text("\n".join([",".join(names), *(",".join(f"{value:.17g}" for value in row) for row in rows)]) + "\n")
    return path


@pytest.fixture
def tables(tmp_path: Path, coarse: FieldData) -> dict[str, Path]:
    """The three tables of `coarse` as physical CSV files."""
    return {
        name: write_csv(tmp_path / f"{name}.csv", points)
        for name, points in (("gauss_points", coarse.gauss), ("lrb", coarse.lrb), ("btb", coarse.btb))
    }


def refused(tables: dict[str, Any], *fragments: str) -> None:
    """Refused with a `DataError` that says each of these."""
    with pytest.raises(DataError) as caught:
        load_data(tables)
    for fragment in fragments:
        assert fragment in str(caught.value), f"{fragment!r} is not in: {caught.value}"


def test_csv_tables_number_for_number(tables: dict[str, Path], coarse: FieldData) -> None:
    found = load_data({name: str(path) for name, path in tables.items()})
    assert found.sha256 == coarse.sha256
    assert found.elocal_factor == 1
    assert found.name == "gauss_points"
    for table in ("gauss", "lrb", "btb"):
        for name, values in getattr(coarse, table).columns.items():
            assert_close(getattr(found, table).columns[name], values, 0.0, f"{table}.{name}")


def test_the_factor_of_ten_is_found_and_named(tmp_path: Path, coarse: FieldData) -> None:
    paths = [
        write_csv(tmp_path / f"{name}.csv", points, factor=10)
        for name, points in (("points", coarse.gauss), ("lrb", coarse.lrb), ("btb", coarse.btb))
    ]
    found = read_csv_tables(*paths)
    assert found.elocal_factor == 10
    ratio = 10 * coarse.gauss.elocal.mean() / coarse.gauss.enonlocal_true.mean()
    assert (
        "elocal in the file: ten times the physical strains (factor 10), divided by 10 here; "
        f"found from mean elocal / mean enonlocal_true = {ratio:.3g}"
    ) in found.notes
    assert_close(found.gauss.elocal, coarse.gauss.elocal, 1e-15)  # times ten and back: a last bit here and there
    assert_close(found.lrb.elocal, coarse.lrb.elocal, 1e-15)
    assert_close(found.gauss.enonlocal_true, coarse.gauss.enonlocal_true, 0.0)  # never scaled
    assert read_csv_tables(*paths, elocal_factor=10).sha256 == found.sha256, "found or stated, the same numbers"


def test_notes_state_the_units(tables: dict[str, Path]) -> None:
    notes = "\n".join(load_data(tables).notes)
    for fragment in (
        "coordinates in mm: x 0.5283 to",
        "g in mm^2: 8 to 8 (l_c = sqrt(2 g), at most 4 mm)",
        "physical strains (factor 1)",
        "elocal, dimensionless",
        "157 Gauss points, 17 left/right and 17",
    ):
        assert fragment in notes


def test_without_the_truth_the_factor_must_be_stated(
    tmp_path: Path, tables: dict[str, Path], coarse: FieldData
) -> None:
    blind = dict(tables, gauss_points=write_csv(tmp_path / "blind.csv", coarse.gauss, without=("enonlocal_true",)))
    refused(blind, "enonlocal_true", "elocal_factor: 1 or elocal_factor: 10")
    found = load_data({**blind, "elocal_factor": 1})
    assert found.gauss.enonlocal_true is None
    assert "no enonlocal_true: errors to the reference cannot be computed" in found.notes


def test_tables_in_different_units_are_refused(tmp_path: Path, tables: dict[str, Path], coarse: FieldData) -> None:
    refused(dict(tables, btb=write_csv(tmp_path / "ten.csv", coarse.btb, factor=10)), "table btb", "factor of ten")
    thousand = write_csv(tmp_path / "thousand.csv", coarse.gauss, factor=1000)
    refused(dict(tables, gauss_points=thousand), "neither about 1 nor about 10")


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ("lacks the column xcoord, ycoord, g, elocal",)),
        ("\n", ("lacks the column",)),
        ("xcoord,ycoord,elocal\n0,0,1e-5\n", ("lacks the column g", "its header is xcoord,ycoord,elocal")),
        ("xcoord,ycoord,g,elocal\n", ("a header but no rows",)),
        ("xcoord,ycoord,g,elocal\n0,0,8,nan\n", ("not finite in the column elocal",)),
        ("xcoord,ycoord,g,elocal\n0,inf,8,1e-5\n", ("not finite in the column ycoord",)),
        ("xcoord,ycoord,g,elocal\n0,0,8,\n", ("not a table of numbers",)),
        ("xcoord,ycoord,g,elocal\n0,0,8,abc\n", ("not a table of numbers",)),
        ("xcoord,ycoord,g,elocal\n0,0,8,1e-5\n0,0,8\n", ("not a table of numbers",)),
        ("xcoord,ycoord,g,elocal\n0,0,8,1e-5,7\n", ("1 rows of 5 values under 4 names",)),
        ("xcoord,ycoord,g,elocal\n0,0,0,1e-5\n", ("g <= 0", "mm^2")),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", ("not a table of numbers",)),
    ],
)
def test_a_table_that_is_none_is_refused(
    tmp_path: Path, tables: dict[str, Path], text: str | bytes, fragments: tuple[str, ...]
) -> None:
    path = tmp_path / "wrong.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(dict(tables, lrb=path), f"data: {path}", *fragments)
    refused(dict(tables, gauss_points=path), f"data: {path}", *fragments)


def test_blank_lines_spaces_and_a_byte_order_mark_are_taken(tables: dict[str, Path], coarse: FieldData) -> None:
    text = tables["lrb"].read_text()
    header, _, body = text.partition("\n")
    tables["lrb"].write_text("\ufeff" + header.replace(",", " , ") + "\n\n" + body + "\n\n")
    assert load_data(tables).sha256 == coarse.sha256


def test_a_wrong_source_is_refused(tmp_path: Path, tables: dict[str, Path]) -> None:
    refused(dict(tables, btb=tmp_path / "no.csv"), "no.csv does not exist")
    refused(dict(tables, btb=tmp_path), "cannot be read")
    refused({"gauss_points": tables["gauss_points"]}, "lrb and btb is missing")
    refused({**tables, "mat": "d.mat"}, "unknown key 'mat'", "gauss_points, lrb, btb, npz, elocal_factor")
    refused({**tables, "npz": "a.npz"}, "npz must be the only key")
    for factor in (5, True, "ten"):
        refused({**tables, "elocal_factor": factor}, "must be auto, 1 or 10")
    with pytest.raises(DataError, match=r"no bundled data set is called 'strb'.*Bundled: strb100"):
        load_data("strb")


def test_npz_round_trip(tmp_path: Path, coarse: FieldData) -> None:
    blind = replace(coarse, gauss=replace(coarse.gauss, enonlocal_true=None))
    for data in (coarse, blind):
        path = tmp_path / "data.npz"
        save_data(data, path)
        found = load_data({"npz": str(path)})
        assert (found.sha256, found.name, found.notes, found.elocal_factor) == (
            data.sha256,
            data.name,
            data.notes,
            data.elocal_factor,
        )
        assert (found.gauss.enonlocal_true is None) == (data.gauss.enonlocal_true is None)


def test_a_file_that_is_no_data_npz_is_refused(tmp_path: Path, coarse_npz: Path) -> None:
    whole = coarse_npz.read_bytes()
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    for name, content in (
        ("torn.npz", whole[: len(whole) // 2]),
        ("text.npz", b"xcoord,ycoord\n"),
        ("empty.npz", b""),
        ("zip.npz", b"PK\x03\x04 and no more"),
        ("other.npz", None),
        ("array.npy", None),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        refused({"npz": str(tmp_path / name)}, name, "not a data file written by pinncore")
    refused({"npz": str(tmp_path / "missing.npz")}, "does not exist")


def test_the_hash_tells_any_two_tables_apart(coarse: FieldData) -> None:
    moved = coarse.gauss.elocal.copy()
    moved[3] = np.nextafter(moved[3], 1)
    others = [
        replace(coarse, gauss=replace(coarse.gauss, elocal=moved)),
        replace(coarse, lrb=coarse.btb),
        replace(coarse, gauss=replace(coarse.gauss, enonlocal_true=None)),
    ]
    assert len({coarse.sha256, *(other.sha256 for other in others)}) == 4
    assert replace(coarse, name="another", notes=()).sha256 == coarse.sha256, "of the numbers alone"


def test_held_out_points_lie_between_the_gauss_points(strb100: FieldData) -> None:
    points = strb100.held_out
    assert points is not None
    assert len(points) == 2048
    gauss = np.stack([strb100.gauss.x_mm, strb100.gauss.y_mm], axis=1)
    places = np.stack([points.x_mm, points.y_mm], axis=1)[:200]
    assert min(np.abs(gauss - place).max(axis=1).min() for place in places) > 0
    assert points.x_mm.min() > gauss.min()
    assert points.x_mm.max() < gauss.max()
    assert_close(points.g_mm2, np.full(2048, 8.0), 1e-15)
    assert strb100.gauss.elocal.min() <= points.elocal.min() < points.elocal.max() <= strb100.gauss.elocal.max()
    assert points.elocal.mean() == pytest.approx(strb100.gauss.elocal.mean(), rel=0.03)  # a quadrature of 2048 points


@pytest.mark.parametrize("places", [[(1.0, 1.0)], [(0.0, 0.0), (1.0, 1.0)], [(0.0, 0.0), (1.0, 1.0), (3.0, 3.0)]])
def test_there_is_nothing_between_points_on_a_line(coarse: FieldData, places: list[tuple[float, float]]) -> None:
    x, y = np.array(places).T
    line = Points(x, y, np.full(len(x), 8.0), np.full(len(x), 1e-5))
    assert replace(coarse, gauss=line).held_out is None


class TestStrB100:
    """The bundled tables are the ones they are said to be; figures as published, to the digits given."""

    def test_points(self, strb100: FieldData) -> None:
        assert (len(strb100.gauss), len(strb100.lrb), len(strb100.btb)) == (6400, 82, 82)
        places = np.unique(strb100.gauss.x_mm)
        assert len(places) == 80
        half = 1.25 / np.sqrt(3)  # two Gauss points an element of 2.5 mm
        assert_close(places[:4], [1.25 - half, 1.25 + half, 3.75 - half, 3.75 + half], 1e-11)
        assert set(np.unique(strb100.lrb.x_mm)) == set(np.unique(strb100.btb.y_mm)) == {0.0, 100.0}
        assert_close(np.unique(strb100.lrb.y_mm), np.arange(0, 100.1, 2.5), 0.0)
        assert np.unique(strb100.gauss.g_mm2).tolist() == [8.0], "l_c = 4 mm"

    def test_ranges(self, strb100: FieldData) -> None:
        e, u = strb100.gauss.elocal, strb100.gauss.enonlocal_true
        assert u is not None
        assert [f"{value:.3g}" for value in (e.min(), e.max())] == ["1.78e-08", "0.00081"]
        assert [f"{value:.3g}" for value in (u.min(), u.max())] == ["1.09e-06", "0.00039"]
        assert f"{np.median(u):.2g}" == "7.3e-05"
        assert strb100.elocal_factor == 1

    def test_balance(self, strb100: FieldData) -> None:
        """No flux through the boundary, so the means of u and e are equal: to the solver's rounding."""
        u = strb100.gauss.enonlocal_true
        assert u is not None
        assert difference(u.mean(), strb100.gauss.elocal.mean()) < 1e-12

    def test_what_a_network_has_to_beat(self, strb100: FieldData) -> None:
        e, u = strb100.gauss.elocal, strb100.gauss.enonlocal_true
        assert u is not None
        figures = {}
        for name, guess in (("local", e), ("mean", np.full_like(u, e.mean())), ("zero", np.zeros_like(u))):
            error = np.linalg.norm(guess - u) / np.linalg.norm(u)
            figures[name] = (f"{100 * error:.3g}", f"{np.sqrt((((u - guess) / u) ** 2).sum()) / 80:.3g}")
        assert figures == {"local": ("17.3", "0.112"), "mean": ("45.2", "3.89"), "zero": ("100", "1")}
