"""Data sets as `.npz`, points never trained on, and what StrB100 is; tables of users are in tests/sweeps/inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinncore import DataError, FieldData, load_data, save_data
from pinncore.data.points import Points

from .helpers import assert_close, difference


def refused(tables: dict[str, Any], *fragments: str) -> None:
    """Refused with a `DataError` that says each of these."""
    with pytest.raises(DataError) as caught:
        load_data(tables)
    for fragment in fragments:
        assert fragment in str(caught.value), f"{fragment!r} is not in: {caught.value}"


def test_a_wrong_source_is_refused(tmp_path: Path) -> None:
    refused({"npz": "a.npz", "length": "m"}, "npz must be the only key")
    refused(dict.fromkeys(("gauss_points", "lrb", "btb"), "a.csv"), "a.csv", "pinncore reads .npz alone")
    with pytest.raises(DataError, match=r"no bundled data set is called 'strb'.*Bundled: strb100"):
        load_data("strb")


def test_numbers_that_cannot_be_right_are_refused_in_an_npz_too(tmp_path: Path, coarse: FieldData) -> None:
    def written(**changed: Any) -> dict[str, str]:
        path = tmp_path / "changed.npz"
        save_data(replace(coarse, gauss=replace(coarse.gauss, **changed)), path)
        return {"npz": str(path)}

    gauss = coarse.gauss
    refused(written(elocal=gauss.elocal[1:]), "gauss_points/elocal must hold a number for each point")
    refused(written(elocal=np.where(gauss.x_mm > 50, np.nan, 1.0)), "gauss_points/elocal is not finite in row 3")
    refused(written(elocal=0 * gauss.elocal), "elocal 0 in all 157 rows")
    refused(written(g_mm2=0 * gauss.g_mm2), "table gauss_points, row 1, has g <= 0")
    refused(
        written(x_mm=gauss.x_mm / 1000, y_mm=gauss.y_mm / 1000),
        "the Gauss points span 0.0989 mm, and the boundary nodes 100 mm",
    )


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
