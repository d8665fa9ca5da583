"""A mesh in tables of nodes and elements: points in any order, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pinncore import DataError, FieldData, NonlocalStrain, load_data, save_data
from pinncore.data.points import MeshTables, Points
from pinncore.fem.quads import Quads

from .meshes import plate


def shuffled(data: FieldData) -> tuple[FieldData, np.ndarray]:
    """The same analysis with its Gauss points in no order, and with the mesh beside them."""
    order = np.random.default_rng(3).permutation(len(data.gauss))
    gauss = Points(*(values[order] for values in data.gauss.columns.values()))
    quads = data.quads
    return replace(data, gauss=gauss, mesh=MeshTables(quads.nodes, quads.corners)), order


def test_points_may_stand_in_any_order(tmp_path: Path) -> None:
    data = plate()
    with_mesh, order = shuffled(data)
    save_data(with_mesh, tmp_path / "plate.npz")
    again = load_data({"npz": str(tmp_path / "plate.npz")})
    assert again.sha256 == with_mesh.sha256 != replace(with_mesh, mesh=None).sha256
    problem, plain = (NonlocalStrain(formulation="fe").with_tables(each) for each in (again, data))
    read = (each.finite_elements.read(each.finite_elements.solution) for each in (problem, plain))
    found, expected = read
    np.testing.assert_allclose(found, expected[order], rtol=1e-12)
    np.testing.assert_allclose(found, again.gauss.enonlocal_true, rtol=1e-12)
    with pytest.raises(DataError, match="four rows for each element"):
        _ = replace(again, mesh=None).quads


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda nodes, corners: (nodes, np.where(corners == 5, 999, corners)), "names a node beyond"),
        (lambda nodes, corners: (nodes, corners[:, [0, 2, 1, 3]]), "in the order around it"),
        (lambda nodes, corners: (np.vstack([nodes, [[500.0, 0.0]]]), corners), "node 50 belongs to no element"),
        (lambda nodes, corners: (nodes * 1.01, corners), "Gauss point of element .* is missing"),
        (lambda nodes, corners: (nodes, corners[:-1]), "elements have 140 Gauss points, the table 144|belongs to no"),
    ],
)
def test_a_mesh_that_is_not_that_of_the_points_is_refused(spoil: object, words: str) -> None:
    data, _ = shuffled(plate())
    assert data.mesh is not None and callable(spoil)
    nodes, corners = spoil(data.mesh.nodes, data.mesh.corners)
    with pytest.raises(DataError, match=words):
        Quads.of_mesh(nodes, corners, data.gauss.x_mm, data.gauss.y_mm)
