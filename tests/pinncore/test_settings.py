"""Settings: every rule refuses the first value beyond it and takes the last one within."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinncore import NonlocalStrain, PinnError, SettingError, TrainSettings
from pinncore.settings import broken_rule

WRONG: list[tuple[type[Any], str, Any, str]] = [
    (TrainSettings, "width", 0, "must be at least 1"),
    (TrainSettings, "width", -8, "must be at least 1"),
    (TrainSettings, "width", 8.0, "must be a whole number"),
    (TrainSettings, "depth", True, "must be a whole number"),
    (TrainSettings, "activation", "relu", "must be one of tanh, sin, silu, gelu"),
    (TrainSettings, "init", 3, "must be a str"),
    (TrainSettings, "dtype", "float16", "must be one of float32, float64"),
    (TrainSettings, "engine", "jax", "must be one of auto, fused, torch, torch_compiled, reference"),
    (TrainSettings, "allow_tf32", 1, "must be a bool"),
    (TrainSettings, "first_stage", "soap", "must be one of adam, adamw, sgd, momentum, adagrad, rmsprop"),
    (TrainSettings, "epochs", -1, "must be at least 0"),
    (TrainSettings, "adam_lr", 0.0, "must be greater than 0"),
    (TrainSettings, "adam_lr", float("nan"), "must be finite"),
    (TrainSettings, "adam_lr", float("inf"), "must be finite"),
    (TrainSettings, "adam_lr", "1e-3", "must be a number"),
    (TrainSettings, "adam_lr", True, "must be a number"),
    (TrainSettings, "adam_beta1", 1.0, "must be less than 1"),
    (TrainSettings, "adam_beta2", -0.1, "must be at least 0"),
    (TrainSettings, "adam_eps", -1e-9, "must be at least 0"),
    (TrainSettings, "adam_convention", "tf2", "must be one of torch, tf1, keras, inside"),
    (TrainSettings, "lr_schedule", "step", "must be one of constant, cosine"),
    (TrainSettings, "momentum", 1.0, "must be less than 1"),
    (TrainSettings, "rmsprop_decay", 1.0, "must be less than 1"),
    (TrainSettings, "weight_decay", -0.01, "must be at least 0"),
    (TrainSettings, "second_stage", "newton", "must be one of lbfgs, bfgs, ssbfgs, ssbroyden, scipy"),
    (TrainSettings, "iterations", 1.5, "must be a whole number"),
    (TrainSettings, "lbfgs_memory", "sparse", "must be one of auto, two_loop, compact, dense"),
    (TrainSettings, "lbfgs_curvature", "absolute", "must be one of auto, torch, relative"),
    (TrainSettings, "lbfgs_history", 0, "must be at least 1"),
    (TrainSettings, "first_step", 0, "must be greater than 0"),
    (TrainSettings, "max_evaluations", 0, "must be at least 1 or must be None"),
    (TrainSettings, "record_every", 0, "must be at least 1"),
    (TrainSettings, "keep_epochs", [0, 50], "must be a tuple"),
    (TrainSettings, "keep_epochs", (0, -1), "must be at least 0"),
    (NonlocalStrain, "data", 3, "must be a str or must be a dict"),
    (NonlocalStrain, "inputs", ("x",), "must be [x, y] or [x, y, g, elocal]"),
    (NonlocalStrain, "inputs", ("y", "x"), "must be [x, y] or [x, y, g, elocal]"),
    (NonlocalStrain, "loss", "sum", "must be one of mean_square, norm"),
    (NonlocalStrain, "scale_factor", 0.0, "must be greater than 0"),
    (NonlocalStrain, "scale_scope", "none", "must be one of consistent, all, elocal"),
    (NonlocalStrain, "boundary_weight", -1.0, "must be at least 0"),
    (NonlocalStrain, "strain_reference", "mean", "must be one of rms, max"),
    (NonlocalStrain, "strain_multiplier", 10.0, "must be 1 where scale_scope is consistent"),
]


@pytest.mark.parametrize(("kind", "field", "value", "rule"), WRONG)
def test_a_broken_rule_is_named(kind: type[Any], field: str, value: Any, rule: str) -> None:
    with pytest.raises(SettingError) as caught:
        kind(**{field: value})
    assert caught.value.field == field
    assert caught.value.rule == rule
    assert str(caught.value).startswith(f"{field}: {rule}, got ")
    assert isinstance(caught.value, PinnError)


@pytest.mark.parametrize("stage", ["bfgs", "ssbfgs", "ssbroyden", "scipy"])
def test_a_form_of_memory_belongs_to_lbfgs(stage: Any) -> None:
    with pytest.raises(SettingError, match="must be auto where second_stage is not lbfgs, got 'compact'") as caught:
        TrainSettings(second_stage=stage, lbfgs_memory="compact")
    assert (caught.value.field, caught.value.value) == ("lbfgs_memory", "compact")
    assert caught.value.way_out == f"Leave lbfgs_memory out: {stage} has one form only."
    TrainSettings(second_stage=stage)


def test_the_dense_memory_never_forgets() -> None:
    with pytest.raises(SettingError, match=r"at least iterations \(it never drops a pair\)") as caught:
        TrainSettings(lbfgs_memory="dense", lbfgs_history=99, iterations=100)
    assert caught.value.way_out == "Use lbfgs_memory: compact, or lbfgs_history: 100."
    TrainSettings(lbfgs_memory="dense", lbfgs_history=100, iterations=100)


def test_limits_themselves_are_taken() -> None:
    TrainSettings(
        width=1,
        depth=1,
        epochs=0,
        iterations=0,
        adam_beta1=0.0,
        adam_eps=0.0,
        momentum=0.0,
        rmsprop_decay=0.0,
        weight_decay=0.0,
        lbfgs_history=1,
        tolerance_grad=0.0,
        max_evaluations=1,
        record_every=1,
        keep_epochs=(),
    )
    TrainSettings(adam_lr=1, first_step=1)  # a whole number is a number
    NonlocalStrain(boundary_weight=0, scale_scope="all", strain_multiplier=10)
    NonlocalStrain(inputs=("x", "y", "g", "elocal"), data={"npz": "a.npz"})


def test_defaults_are_the_published_schedule() -> None:
    settings = TrainSettings()
    assert (settings.epochs, settings.adam_lr) == (5000, 1e-3)
    assert (settings.adam_beta1, settings.adam_beta2, settings.adam_eps) == (0.9, 0.999, 1e-8)
    assert (settings.tolerance_grad, settings.tolerance_change) == (1e-7, 1e-6 * 2.0**-52)


def test_field_names_say_where_a_field_belongs() -> None:
    train, problem = ({field.name for field in dataclasses.fields(kind)} for kind in (TrainSettings, NonlocalStrain))
    assert not train & problem


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainSettings().width = 3  # type: ignore[misc]


@given(st.integers())
def test_whole_numbers_are_numbers_and_booleans_are_not(value: int) -> None:
    assert broken_rule(value, int) is None
    assert broken_rule(value, float) is None
    assert broken_rule(bool(value % 2), int) == "must be a whole number"
