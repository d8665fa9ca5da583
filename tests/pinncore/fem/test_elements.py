"""Elements: the patch test on distorted ones, rates of convergence, and truths that know nothing of elements."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import spsolve

from pinncore import DataError, FieldData, SettingError
from pinncore.fem.assembly import CoupledSystem
from pinncore.fem.quads import Array, Quads, load, screened_poisson
from pinncore.fem.specimens import specimen
from pinncore.fem.truths import CosineMode, cell_centres, solve_by_cosines
from pinncore.mesh import SIGNS

EXACT = 1e-12  # rounding of sums of some hundred terms


@pytest.fixture
def distorted() -> Quads:
    """Four by three elements, of which no two have the same shape."""
    mesh = Quads.rectangle(40.0, 30.0, 4, 3)
    inside = ~on_edges(mesh)
    moved = mesh.nodes + np.random.default_rng(0).uniform(-3, 3, mesh.nodes.shape) * inside[:, None]
    return Quads(moved, mesh.corners, mesh.gauss)


def on_edges(mesh: Quads) -> Array:
    x, y = mesh.nodes.T
    return np.asarray((x == x.min()) | (x == x.max()) | (y == y.min()) | (y == y.max()))


def solved(mesh: Quads, strength_mm2: float, forcing: Array) -> Array:
    """Nodal values of u - g laplace u = e, without flux."""
    return np.asarray(spsolve(screened_poisson(mesh, np.full(mesh.points, strength_mm2)).tocsc(), load(mesh, forcing)))


def test_patch_of_displacements(distorted: Quads) -> None:
    """Displacements that are linear on the edges are linear inside: every Gauss point has the same strain."""
    system = CoupledSystem(
        distorted,
        specimen("strb100").material,
        np.stack([on_edges(distorted)] * 2 + [np.zeros(len(distorted.nodes), bool)], axis=1),
    )
    slopes = np.array([[2e-6, 5e-6], [-3e-6, 4e-6]])
    unknowns, no_history = np.zeros((len(distorted.nodes), 3)), np.zeros(distorted.gauss.shape)
    unknowns[:, :2] = (distorted.nodes @ slopes.T) * on_edges(distorted)[:, None]
    for _ in range(2):  # displacements at once, then u of the strains
        state = system.state(unknowns, no_history)
        residual = system.residual(unknowns, state)[0].ravel()[system.free]
        unknowns.ravel()[system.free] -= spsolve(system.tangent(state), residual)
    state = system.state(unknowns, no_history)
    np.testing.assert_allclose(unknowns[:, :2], distorted.nodes @ slopes.T, rtol=0, atol=EXACT * 2e-4)
    np.testing.assert_allclose(state.strain, np.broadcast_to([2e-6, 4e-6, 2e-6], state.strain.shape), rtol=EXACT)
    np.testing.assert_allclose(state.nonlocal_strain, state.local, rtol=EXACT)
    assert state.damage.max() == 0


def test_patch_of_screened_poisson(distorted: Quads) -> None:
    """u = e where both are linear, if the edges hold it."""
    linear = distorted.nodes @ [2.0, -3.0] + 1
    matrix = screened_poisson(distorted, np.full(distorted.points, 8.0))
    vector, inside = load(distorted, distorted.values @ linear), ~on_edges(distorted)
    free = vector[inside] - matrix[inside][:, ~inside] @ linear[~inside]
    np.testing.assert_allclose(spsolve(matrix[inside][:, inside].tocsc(), free), linear[inside], rtol=EXACT)
    x, y = distorted.slopes
    np.testing.assert_allclose((x @ linear, y @ linear), np.array([[2.0], [-3.0]]) * np.ones(48), rtol=EXACT)
    np.testing.assert_allclose(distorted.weights.sum(), 1200, rtol=EXACT)


def everywhere(mesh: Quads, nodal: Array) -> Array:
    """Values [elements, 25] of nodal values at the centres of 5 x 5 parts of each element: between the Gauss points."""
    r, s = (grid.ravel()[:, None] for grid in np.meshgrid(*[np.linspace(-0.8, 0.8, 5)] * 2))
    return np.asarray(nodal[mesh.corners] @ ((1 + r * SIGNS[:, 0]) * (1 + s * SIGNS[:, 1]) / 4).T)


@pytest.mark.parametrize("mode", [CosineMode(1, 0), CosineMode(2, 3), CosineMode(1, 2, 100.0, 50.0, 32.0)])
def test_u_converges_with_order_two(mode: CosineMode) -> None:
    """In the L2 norm over the area; at the Gauss points alone it falls faster at first."""
    errors = []
    for cells in (8, 16, 32):
        mesh = Quads.rectangle(mode.width_mm, mode.height_mm, cells, cells)
        nodal = solved(mesh, mode.gradient_mm2, mode.forcing(*(mesh.values @ mesh.nodes).T))
        wrong = everywhere(mesh, nodal) - mode.solution(*(everywhere(mesh, axis) for axis in mesh.nodes.T))
        errors.append(np.sqrt(np.mean(wrong**2)))
    assert np.log2(np.divide(errors[:-1], errors[1:])) == pytest.approx(2, abs=0.2), errors


def test_a_mode_solves_the_equation() -> None:
    """By central differences, which are in error by h^2."""
    mode, h = CosineMode(2, 3, 100.0, 50.0, 8.0, 1e-4), 1e-3
    x, y = np.array([13.0, 71.0]), np.array([8.0, 33.0])
    around = sum(mode.solution(x + h * i, y + h * j) for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1)))
    laplacian = (around - 4 * mode.solution(x, y)) / h**2
    assert mode.solution(x, y) - 8 * laplacian == pytest.approx(mode.forcing(x, y), rel=1e-5)


def test_the_cosine_transform_solves_sums_of_modes_exactly() -> None:
    x, y = np.meshgrid(cell_centres(100.0, 12), cell_centres(60.0, 9))
    modes = [CosineMode(m, n, 100.0, 60.0, 8.0, amplitude=1 + m + n) for m, n in ((0, 0), (3, 1), (11, 8))]
    forcing, truth = (sum(getattr(mode, part)(x, y) for mode in modes) for part in ("forcing", "solution"))
    np.testing.assert_allclose(solve_by_cosines(forcing, 100.0, 60.0, 8.0), truth, rtol=0, atol=1e-13 * 20)
    with pytest.raises(SettingError, match="gradient_mm2: must be 0 or more, got -8"):
        solve_by_cosines(forcing, 100.0, 60.0, -8.0)


def test_elements_and_the_cosine_transform_agree_on_any_e() -> None:
    """The difference falls with the square of the element: a bump that is no cosine, on cells centred in elements."""
    differences = []
    for cells in (20, 40):
        centres = cell_centres(100.0, cells)
        mesh = Quads.rectangle(100.0, 100.0, cells, cells)
        x, y = (mesh.values @ mesh.nodes).T
        nodal = solved(mesh, 8.0, np.exp(-((x - 30) ** 2 + (y - 45) ** 2) / 300))
        grid_x, grid_y = np.meshgrid(centres, centres)
        exact = solve_by_cosines(np.exp(-((grid_x - 30) ** 2 + (grid_y - 45) ** 2) / 300), 100.0, 100.0, 8.0)
        differences.append(np.abs(nodal[mesh.corners].mean(axis=1) - exact.ravel()).max())
    assert differences[1] < 0.3 * differences[0] and differences[1] < 5e-3


def test_the_bundled_reference_solves_its_equation(strb100: FieldData) -> None:
    gauss = strb100.gauss
    mesh = Quads.of_gauss_points(gauss.x_mm, gauss.y_mm)
    found, truth = mesh.values @ solved(mesh, 8.0, gauss.elocal), gauss.enonlocal_true
    assert truth is not None
    assert np.abs(found - truth).max() <= 1e-11 * truth.max()  # its columns have twelve digits


def test_nodal_values_of_a_linear_field(distorted: Quads) -> None:
    """A field that is bilinear in each element is extrapolated without error."""
    linear = distorted.nodes @ [2.0, -3.0] + 1
    at_gauss = (distorted.values @ linear)[distorted.gauss]
    np.testing.assert_allclose(distorted.at_nodes(at_gauss), linear, rtol=EXACT)


def test_a_mesh_that_cannot_have_the_notch_is_refused() -> None:
    for elements in (0, 45, 210, -10):
        with pytest.raises(DataError, match=rf"mesh: must be a multiple of 10 from 10 to 200, got {elements}"):
            specimen("strb100").mesh(elements)
    with pytest.raises(DataError, match=r"none called 'strb10'. Known: strb100"):
        specimen("strb10")
