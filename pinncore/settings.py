"""The training settings of one network: a frozen record with its rules as annotations.

The rules (`Annotated[int, Ge(1)]`, `Literal[...]`) are data, so a front end such as `sweeps` reads the same rules.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Final, Literal

from annotated_types import Ge, Gt, Le, Lt

from .errors import SettingError

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]


PHASES: Final = ("first", "second")  # the stages of a training, whatever their optimisers


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The settings of one member's network and training, without its problem.

    Defaults follow the published runs (5000 Adam epochs at 1e-3, then L-BFGS with strong Wolfe), except that the first
    step of each line search is 1, not 0.001: the latter triples the evaluations.

    Training has two stages: `epochs` steps of `first_stage`, then `iterations` of `second_stage`. `adam_lr` is the
    learning rate of every first stage, `lbfgs_history` the number of pairs of every second stage with a history. An
    optimiser ignores the settings that it does not have.
    """

    # fields with rules that involve several of them
    TOGETHER: ClassVar[tuple[tuple[str, ...], ...]] = (("second_stage", "lbfgs_memory", "lbfgs_history", "iterations"),)

    width: PositiveInt = 16  # units in each hidden layer
    depth: PositiveInt = 2  # hidden layers
    activation: Literal["tanh", "sin", "silu", "gelu"] = "tanh"
    init: str = "torch"  # torch | keras | tf1 | file:PATH
    dtype: Literal["float32", "float64"] = "float64"
    engine: Literal["auto", "fused", "torch", "torch_compiled", "reference"] = "auto"
    allow_tf32: bool = False  # float32 matrix products may round to TF32, on GPUs that have it

    first_stage: Literal["adam", "adamw", "sgd", "momentum", "adagrad", "rmsprop"] = "adam"
    epochs: NonNegativeInt = 5000
    adam_lr: PositiveFloat = 1e-3
    lr_schedule: Literal["constant", "cosine"] = "constant"
    adam_beta1: Fraction = 0.9
    adam_beta2: Fraction = 0.999
    adam_eps: NonNegativeFloat = 1e-8
    adam_convention: Literal["torch", "tf1", "inside"] = "torch"
    momentum: Fraction = 0.9  # heavy ball, as in torch.optim.SGD
    rmsprop_decay: Fraction = 0.99
    weight_decay: NonNegativeFloat = 0.01  # of adamw, decoupled; torch's default

    second_stage: Literal["lbfgs", "bfgs", "ssbfgs", "ssbroyden", "scipy"] = "lbfgs"
    iterations: NonNegativeInt = 2000
    lbfgs_history: PositiveInt = 50
    lbfgs_memory: Literal["auto", "two_loop", "compact", "dense"] = "auto"
    lbfgs_curvature: Literal["torch", "relative"] = "torch"  # keep a pair: y's > 1e-10, or y's > eps y'y
    first_step: PositiveFloat = 1.0  # first step of every line search
    tolerance_grad: NonNegativeFloat = 1e-7
    tolerance_change: NonNegativeFloat = 1e-6 * 2.220446049250313e-16
    max_evaluations: PositiveInt | None = None  # None: no limit

    divergence_factor: Annotated[float, Gt(1)] = 1e6  # a member fails when its loss exceeds this times its first value
    record_every: PositiveInt = 25  # epochs or iterations between two curve rows
    keep_epochs: tuple[NonNegativeInt, ...] = (0, 50, 1000)  # epochs whose weights are kept; the last always

    def __post_init__(self) -> None:
        check_rules(self)
        if self.lbfgs_memory != "auto" and self.second_stage != "lbfgs":
            raise SettingError(
                "lbfgs_memory",
                self.lbfgs_memory,
                "must be auto where second_stage is not lbfgs",
                f"Leave lbfgs_memory out: {self.second_stage} has one form only.",
            )
        if self.lbfgs_memory == "dense" and self.lbfgs_history < self.iterations:
            raise SettingError(
                "lbfgs_memory",
                self.lbfgs_memory,
                "dense needs an lbfgs_history of at least iterations (it never drops a pair)",
                f"Use lbfgs_memory: compact, or lbfgs_history: {self.iterations}.",
            )


def check_rules(settings: Any) -> None:
    """Raise `SettingError` for the first field of a settings record that breaks its annotation."""
    kind: Any = type(settings)
    hints = _hints(kind)
    for field in fields(settings):
        rule = broken_rule(getattr(settings, field.name), hints[field.name])
        if rule:
            raise SettingError(field.name, getattr(settings, field.name), rule)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def broken_rule(value: Any, hint: Any) -> str | None:
    """Return the rule of `hint` that `value` breaks, or None.

    Knows plain types, Literal, Annotated bounds, unions and tuples.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = (_broken_bound(value, bound) for bound in arguments[1:])
        return broken_rule(value, arguments[0]) or next(filter(None, bounds), None)
    if origin is Literal:
        return None if value in arguments else f"must be one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        rules = [broken_rule(value, argument) for argument in arguments]
        return None if None in rules else " or ".join(map(str, rules))
    if origin is tuple:
        if not isinstance(value, tuple):
            return "must be a tuple"
        return next(filter(None, (broken_rule(item, arguments[0]) for item in value)), None)
    if hint is None or hint is type(None):
        return None if value is None else "must be None"
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return "must be a number"
        return None if math.isfinite(value) else "must be finite"
    if hint is int:
        return None if isinstance(value, int) and not isinstance(value, bool) else "must be a whole number"
    if hint is Any:
        return None
    kind = origin or hint
    return None if isinstance(value, kind) else f"must be a {kind.__name__}"


def _broken_bound(value: Any, bound: Any) -> str | None:
    match bound:
        case Ge(ge=limit):
            return None if value >= limit else f"must be at least {limit}"
        case Gt(gt=limit):
            return None if value > limit else f"must be greater than {limit}"
        case Le(le=limit):
            return None if value <= limit else f"must be at most {limit}"
        case Lt(lt=limit):
            return None if value < limit else f"must be less than {limit}"
    return None
