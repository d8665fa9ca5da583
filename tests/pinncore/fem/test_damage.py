"""Damage analyses: the tangent, the balance of a coarse plate, steps that are halved, and the bundled data set."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest

from pinncore import DataError, FieldData
from pinncore.data.increments import COLUMNS, IncrementTables
from pinncore.fem.assembly import CoupledSystem
from pinncore.fem.damage import DamageAnalysis, Increment
from pinncore.fem.material import equivalent_strain
from pinncore.fem.quads import Quads
from pinncore.fem.specimens import Specimen, specimen

STRB100 = specimen("strb100")


def reached(plate: Specimen, increment: int, **options: int) -> tuple[DamageAnalysis, list[Increment]]:
    analysis = DamageAnalysis(plate, 10, **options)
    return analysis, list(itertools.islice(analysis.increments(), increment))


@pytest.fixture(scope="module")
def coarse_plate() -> tuple[DamageAnalysis, list[Increment]]:
    """Ten by ten elements, loaded in ten times larger steps until the damage at the notch is large."""
    return reached(replace(STRB100, load_step=0.05), 24)


def test_damage_law() -> None:
    material, k = STRB100.material, np.array([0.0, 1e-4, 1.5e-4, 4e-4, 1.0])
    damage = material.damage(k)
    assert (damage[:2] == 0).all() and damage[-1] == pytest.approx(0.95, rel=1e-4)
    assert damage[2] == pytest.approx(0.95 * (1 - 1e-4 * 0.3 / 1.5e-4 - 0.7 * np.exp(-0.5)), rel=1e-14)
    step = 1e-9
    differences = (material.damage(k[2:4] + step) - material.damage(k[2:4] - step)) / (2 * step)
    assert material.damage_slope(k[2:4]) == pytest.approx(differences, rel=1e-6)
    assert (material.damage_slope(k[:2]) == 0).all()


@pytest.mark.parametrize(
    ("strain", "expected"),
    [
        ((3e-4, 4e-4, 0.0), 5e-4),  # both pulled
        ((3e-4, -4e-4, 0.0), 3e-4),  # one pressed
        ((0.0, 0.0, 2e-4), 1e-4),  # shear: plus and minus half the angle
        ((-1e-4, -2e-4, 0.0), 0.0),
        ((1e-4, 1e-4, 0.0), np.sqrt(2) * 1e-4),  # the principal directions are anything
        ((0.0, 0.0, 0.0), 0.0),
    ],
)
def test_equivalent_strain(strain: tuple[float, ...], expected: float) -> None:
    equivalent, slopes = equivalent_strain(np.array(strain))
    assert equivalent == pytest.approx(expected, rel=1e-14, abs=0)
    assert slopes @ strain == pytest.approx(expected, rel=1e-14, abs=0)  # it is homogeneous of degree one


def test_the_tangent_is_the_derivative_of_the_residual(
    coarse_plate: tuple[DamageAnalysis, list[Increment]],
) -> None:
    """In a damaged state in which a third of the points unload, on distorted elements; central differences."""
    analysis, increments = coarse_plate
    draw = np.random.default_rng(1)
    nodes = analysis.quads.nodes + draw.uniform(-1, 1, analysis.quads.nodes.shape)
    mesh = Quads(nodes, analysis.quads.corners, analysis.quads.gauss)
    system = CoupledSystem(mesh, STRB100.material, analysis.system.fixed)
    last = increments[-1]
    unknowns = last.unknowns * draw.uniform(0.999, 1.001, last.unknowns.shape)
    u = system.state(unknowns, np.zeros(mesh.gauss.shape)).nonlocal_strain
    history = u * draw.choice([0.9, 0.95, 1.05], u.shape)
    state = system.state(unknowns, history)
    assert 0.2 < np.mean(state.damage_slope > 0) < 0.8 and state.damage.max() > 0.5
    tangent = system.tangent(state)

    def residual(changed: np.ndarray) -> np.ndarray:
        return system.residual(changed, system.state(changed, history))[0].ravel()[system.free]

    for kind, size in ((slice(0, 2), 1e-9), (slice(2, 3), 1e-9)):  # displacements in mm, strains
        direction = np.zeros_like(unknowns)
        direction[:, kind] = draw.uniform(-1, 1, unknowns[:, kind].shape)
        direction[system.fixed] = 0
        expected = (residual(unknowns + size * direction) - residual(unknowns - size * direction)) / (2 * size)
        found = tangent @ direction.ravel()[system.free]
        for rows in (system.free % 3 < 2, system.free % 3 == 2):
            assert found[rows] == pytest.approx(expected[rows], abs=2e-6 * np.abs(expected[rows]).max())


def test_a_coarse_plate_is_in_balance(coarse_plate: tuple[DamageAnalysis, list[Increment]]) -> None:
    analysis, increments = coarse_plate
    last = increments[-1]
    residual, _ = analysis.system.residual(last.unknowns, last.state)
    upper, lower = (analysis.quads.nodes[:, 1] == edge for edge in (100, 0))
    pulled = residual[upper, 1].sum()
    assert pulled == pytest.approx(-residual[lower, 1].sum(), rel=1e-9)
    assert pulled > 0 and abs(residual[:, 0].sum()) < 1e-9 * pulled
    gauss = IncrementTables(analysis, last).tables["gauss_points"]
    assert gauss["elocal"].mean() == pytest.approx(gauss["enonlocal_true"].mean(), rel=1e-11)  # without flux
    assert last.load_factor == pytest.approx(1.2) and last.state.damage.max() > 0.8
    damage = [increment.state.damage for increment in increments]
    assert all((later >= earlier).all() for earlier, later in itertools.pairwise(damage))
    assert damage[0].max() == 0
    forces = [analysis.system.residual(each.unknowns, each.state)[0][upper, 1].sum() for each in increments]
    assert forces[-1] < max(forces)  # the plate softens
    assert IncrementTables(analysis, last).equation_error < 1e-11


def test_a_step_is_halved_where_newton_fails_and_is_reported() -> None:
    plate = replace(STRB100, load_step=1.2)
    analysis, increments = reached(plate, 1, most_iterations=4)
    (increment,) = increments
    assert len(increment.steps) > 1
    factors = [step.load_factor for step in increment.steps]
    assert factors == sorted(factors) and factors[-1] == 1.2
    assert increment.note is not None and "increment 1: Newton's method did not converge" in increment.note
    assert f"{factors[0]:g}, " in increment.note
    assert increment.note in IncrementTables(analysis, increment).data.notes
    assert increment.iterations == sum(step.iterations for step in increment.steps)


def test_a_whole_step_has_no_note(coarse_plate: tuple[DamageAnalysis, list[Increment]]) -> None:
    assert {increment.note for increment in coarse_plate[1]} == {None}


def test_an_increment_that_is_not_reached_is_refused() -> None:
    """One iteration is too few once there is damage, whatever the step."""
    with pytest.raises(DataError, match=r"with 10 x 10 elements does not reach \d+: from load factor .* even with"):
        reached(replace(STRB100, load_step=0.05), 24, most_iterations=1)


@pytest.mark.slow
def test_the_bundled_data_set_is_reproduced(strb100: FieldData) -> None:
    """Its columns have twelve digits; the bar is 1e-6, and 30 s of one core."""
    started = time.process_time()
    analysis = DamageAnalysis(STRB100, 40)
    last = next(increment for increment in analysis.increments() if increment.number == 164)
    assert time.process_time() - started < 30
    tables = IncrementTables(analysis, last)
    assert last.load_factor == pytest.approx(0.82) and last.state.damage.max() == pytest.approx(0.840, abs=5e-4)
    for table, points in zip(
        ("gauss_points", "nodes_lrb", "nodes_btb"), (strb100.gauss, strb100.lrb, strb100.btb), strict=True
    ):
        found = tables.tables[table]
        assert tuple(found) == COLUMNS
        for ours, theirs in (("xcoord", "x_mm"), ("ycoord", "y_mm"), ("elocal",) * 2, ("enonlocal_true",) * 2):
            expected = points.columns[theirs]
            assert np.abs(found[ours] - expected).max() <= 2e-11 * expected.max(), (table, ours)
    assert tables.equation_error < 1e-11
