"""A trained network in physical units: the numbers it was judged by, its derivatives, where it may be believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pinncore import (
    FieldData,
    MemberResult,
    NonlocalStrain,
    SettingError,
    TrainedNetwork,
    TrainSettings,
    WeightsError,
    load_data,
    save_data,
    train,
)

from .helpers import assert_close, every

FOUR = ("x", "y", "g", "elocal")


@pytest.fixture(scope="module")
def data() -> FieldData:
    return every(load_data(), gauss=16, nodes=4)


@pytest.fixture(scope="module")
def file(data: FieldData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "thin.npz"
    save_data(data, path)
    return path


def trained(
    file: Path, *, engine: str = "auto", dtype: str = "float64", inputs: tuple[str, ...] = ("x", "y"), scope: str = ""
) -> tuple[TrainedNetwork, MemberResult]:
    """A network after a few epochs, and what was said of it then."""
    scaled = {"scale_scope": scope, "strain_multiplier": 10.0} if scope else {"scale_factor": 2.0}
    problem = NonlocalStrain(data={"npz": str(file)}, inputs=inputs, **scaled)  # type: ignore[arg-type]
    settings = TrainSettings(width=5, depth=2, epochs=12, iterations=3, engine=engine, dtype=dtype)  # type: ignore[arg-type]
    result = train(problem, settings, seed=1, device="cpu")
    return TrainedNetwork(problem, settings, result.parameters), result


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("engine", ["fused", "torch", "reference"])
def test_field_and_metrics_are_those_of_the_end_of_training(file: Path, engine: str, dtype: str) -> None:
    network, result = trained(file, engine=engine, dtype=dtype)
    field = network.field()
    assert all(np.array_equal(field[name], result.field[name], equal_nan=True) for name in result.field)
    assert network.metrics() == result.metrics


@pytest.mark.parametrize("scope", ["", "all"])
def test_the_residual_at_the_held_out_points_is_the_metric(file: Path, scope: str) -> None:
    network, result = trained(file, scope=scope)
    ((_, points),) = network.problem.held_out
    columns = (*NonlocalStrain.coordinates, *NonlocalStrain.known)
    values = {column.name: points.values[column.symbol] for column in columns}
    given = network.residual(**values)
    found = np.sqrt(np.mean(given**2) / np.mean(values["elocal"] ** 2))
    assert found == pytest.approx(result.metrics["heldout_residual"], rel=1e-12)
    interpolated = network.residual(values["x_mm"], values["y_mm"])
    assert_close(interpolated, given, 1e-12, "interpolated between Gauss points")


def test_the_residual_is_unknown_where_nothing_can_be_interpolated(file: Path) -> None:
    network, _ = trained(file)
    assert np.isnan(network.residual(500.0, 500.0)).all()


@pytest.mark.parametrize("inputs", [("x", "y"), FOUR], ids=["two", "four"])
def test_the_gradient_is_that_of_the_prediction(file: Path, inputs: tuple[str, ...]) -> None:
    network, _ = trained(file, inputs=inputs)
    x, y = np.random.default_rng(0).uniform(5, 95, (2, 20))
    others = {"g_mm2": np.full(20, 8.0), "elocal": np.full(20, 1e-4)}
    step = 1e-4  # mm: truncation and rounding of the difference are both about 1e-9 of the largest slope
    slopes = [
        (network.predict(x + dx, y + dy, **others) - network.predict(x - dx, y - dy, **others)) / (2 * step)
        for dx, dy in ((step, 0.0), (0.0, step))
    ]
    assert_close(network.gradient(x, y, **others), np.stack(slopes, axis=1), 1e-6, "gradient")


def test_the_prediction_at_gauss_points_is_the_field(file: Path, data: FieldData) -> None:
    network, result = trained(file, inputs=FOUR)
    gauss = data.gauss
    predicted = network.predict(gauss.x_mm, gauss.y_mm, g_mm2=gauss.g_mm2, elocal=gauss.elocal)
    assert np.array_equal(predicted, result.field["predicted"])


def test_only_points_near_trained_ones_are_covered(file: Path) -> None:
    network, _ = trained(file)
    x, y = [50.0, 0.0, -0.1, 50.0, 100.2], [50.0, 0.0, 50.0, 101.0, 50.0]
    assert network.covers(x, y).tolist() == [True, True, False, False, False]


def test_a_hole_is_not_covered(tmp_path: Path) -> None:
    whole = load_data()
    far = np.hypot(whole.gauss.x_mm - 60, whole.gauss.y_mm - 60) > 20
    points = {name: column[far] for name, column in whole.gauss.columns.items()}
    holed = FieldData("holed", type(whole.gauss)(**points), whole.lrb, whole.btb, 1, ())
    settings = TrainSettings(width=2, depth=1)
    network = TrainedNetwork(NonlocalStrain().with_tables(holed), settings, np.zeros(9))
    assert network.covers([60.0, 20.0], [60.0, 20.0]).tolist() == [False, True]


def test_what_is_missing_or_does_not_fit_is_said(file: Path) -> None:
    network, _ = trained(file, inputs=FOUR)
    with pytest.raises(SettingError, match="g_mm2 and elocal"):
        network.predict(1.0, 2.0)
    with pytest.raises(SettingError, match="one length"):
        network.predict([1.0, 2.0], [1.0], g_mm2=[8.0, 8.0], elocal=[0.0, 0.0])
    with pytest.raises(SettingError, match="x_mm"):
        network.predict([[1.0]], [1.0])
    with pytest.raises(WeightsError, match=r"4-5-5-1 has a vector of shape \(61,\), got \(3,\)"):
        TrainedNetwork(network.problem, network.train, np.zeros(3))
