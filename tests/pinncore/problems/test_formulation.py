"""The formulation fe of the non-local strain: what it solves, how it is read, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pinncore import DataError, FieldData, NonlocalStrain, SettingError, TrainedNetwork, TrainSettings, train
from pinncore.member import Member

from ..fem.meshes import plate
from ..helpers import every


@pytest.fixture(scope="module")
def data() -> FieldData:
    return plate(8)


GOOD = TrainSettings(
    width=8, epochs=200, iterations=300, adam_lr=0.01, lr_schedule="cosine", second_stage="ssbroyden", engine="fused"
)


def test_training_reproduces_the_finite_element_solution(data: FieldData) -> None:
    problem = NonlocalStrain(formulation="fe").with_tables(data)
    result = train(problem, GOOD, device="cpu")
    assert list(result.terms) == ["energy"]
    assert result.metrics["rel_l2_nodal"] is not None and result.metrics["rel_l2"] is not None
    assert result.metrics["rel_l2_nodal"] < 1e-3 < result.metrics["rel_l2"], "nodes are not what points are"
    assert result.metrics["heldout_residual"] is None
    network = TrainedNetwork(problem, GOOD, result.parameters)
    assert network.metrics() == result.metrics
    strong = TrainedNetwork(NonlocalStrain().with_tables(data), GOOD, result.parameters)
    at = np.array([20.0, 61.0]), np.array([33.0, 7.0])
    np.testing.assert_array_equal(network.residual(*at), strong.residual(*at))
    np.testing.assert_array_equal(network.covers(*at), strong.covers(*at))


def test_both_readings_are_recorded_for_both_formulations(strb100: FieldData) -> None:
    few = replace(GOOD, epochs=20, iterations=0)
    metrics = train(NonlocalStrain(boundary_weight=0.05), few, device="cpu").metrics
    for name in ("rel_l2_nodal", "process_zone_error_nodal"):
        assert metrics[name] is not None and metrics[name] > 0
    scattered = NonlocalStrain().with_tables(every(strb100, gauss=3, nodes=5))
    assert "rows for each element" in str(scattered.why_not("rel_l2_nodal"))
    assert train(scattered, few, device="cpu").metrics["rel_l2_nodal"] is None


def test_the_nodal_reading_of_the_solution_is_exact(strb100: FieldData) -> None:
    problem = NonlocalStrain(formulation="fe")
    truth = strb100.gauss.enonlocal_true
    assert truth is not None
    read = problem.nodal_reading(problem.nodes.values["u_h"][None])
    assert np.abs(read - truth).max() <= 1e-11 * truth.max()


def test_scaling_all_inputs_changes_the_discrete_equation_too(strb100: FieldData) -> None:
    """Exact solutions at s = 10 and 100 are 11.6 % and 15.5 % off."""
    truth = strb100.gauss.enonlocal_true
    assert truth is not None
    for s, expected in ((1.0, 0.0), (10.0, 0.116), (100.0, 0.155)):
        problem = NonlocalStrain(formulation="fe", scale_scope="all", scale_factor=s)
        read = problem.finite_elements.read(problem.finite_elements.solution)
        assert np.linalg.norm(read - truth) / np.linalg.norm(truth) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"boundary_weight": 0.05}, "boundary_weight: has no meaning where formulation is fe"),
        ({"loss": "mean_square"}, "when: {formulation: strong}"),
        ({"batch": 64}, "batch: has no meaning"),
        ({"inputs": ("x", "y", "g", "elocal")}, "must be [x, y] where formulation is fe"),
    ],
)
def test_what_has_no_meaning_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError) as problem:
        NonlocalStrain(formulation="fe", **settings)
    assert words in str(problem.value)


def test_scattered_points_are_refused_with_the_reason(strb100: FieldData) -> None:
    order = np.random.default_rng(0).permutation(len(strb100.gauss))
    gauss = replace(strb100.gauss, **{name: values[order] for name, values in strb100.gauss.columns.items()})
    problem = NonlocalStrain(formulation="fe").with_tables(replace(strb100, gauss=gauss))
    with pytest.raises(DataError, match="four rows for each element"):
        _ = problem.point_sets


def test_the_curvature_test_suits_the_loss() -> None:
    def curvature(formulation: str, given: str = "auto") -> str:
        settings: Any = {"formulation": formulation}
        train_settings: Any = {"lbfgs_curvature": given}
        return Member(TrainSettings(**train_settings), NonlocalStrain(**settings)).curvature

    assert curvature("fe") == "relative"
    assert curvature("strong") == curvature("fe", "torch") == "torch"
