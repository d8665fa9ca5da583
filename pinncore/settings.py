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
from typing_extensions import Doc

from .errors import SettingError

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]


PHASES: Final = ("first", "second")  # the stages of a training, whatever their optimisers


@dataclass(frozen=True)
class EngineTraits:
    """What others need to know of an engine without importing it.

    `pads` tells that every member of a pack is computed at the shape of the widest, so that its last digits depend on
    the pack; `has_kernels` that Numba compiles it for a CPU, once on each machine.
    """

    pads: bool = False
    has_kernels: bool = False


ENGINE_TRAITS: Final = {
    "fused": EngineTraits(has_kernels=True),
    "torch": EngineTraits(pads=True),
    "torch_compiled": EngineTraits(pads=True),
    "reference": EngineTraits(),
}
EngineName = Literal["auto", "fused", "torch", "torch_compiled", "reference"]
OPTIMISERS: Final = {  # the names of optimisers for people
    "adam": "Adam",
    "adamw": "AdamW",
    "sgd": "SGD",
    "momentum": "SGD, momentum",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
    "lbfgs": "L-BFGS",
    "bfgs": "BFGS",
    "ssbfgs": "SSBFGS",
    "ssbroyden": "SSBroyden",
    "scipy": "L-BFGS-B",
}


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
    together: ClassVar[tuple[tuple[str, ...], ...]] = (("second_stage", "lbfgs_memory", "lbfgs_history", "iterations"),)

    width: Annotated[PositiveInt, Doc("Units in each hidden layer.")] = 16
    depth: Annotated[PositiveInt, Doc("Number of hidden layers.")] = 2
    activation: Annotated[
        Literal["tanh", "sin", "silu", "gelu"],
        Doc("Activation of the hidden layers: tanh, sin, silu or gelu (the exact one, with the error function)."),
    ] = "tanh"
    init: Annotated[
        str,
        Doc(
            "Initial weights: torch, keras (Glorot uniform), tf1 (Xavier truncated normal), glorot_normal, he (normal, "
            "variance 2/inputs), he_uniform, lecun_normal (variance 1/inputs), file:PATH (an npz file with arrays W1, "
            "b1, W2, ...) or trial:STUDY/N (the final weights of trial N of the study in that folder); the shapes must "
            "be those of the network."
        ),
    ] = "torch"
    dtype: Annotated[
        Literal["float32", "float64"],
        Doc("Floating-point type of the whole training; float32 makes L-BFGS stop early."),
    ] = "float64"
    engine: Annotated[
        EngineName,
        Doc("How loss and gradient are computed: auto takes the fastest engine that supports the problem."),
    ] = "auto"
    allow_tf32: Annotated[
        bool,
        Doc("Whether matrix products in float32 may round to TF32 on a GPU: faster, with three digits less."),
    ] = False

    first_stage: Annotated[
        Literal["adam", "adamw", "sgd", "momentum", "adagrad", "rmsprop"],
        Doc(
            "Optimiser of the first stage: adam, adamw (weight decay, see weight_decay_form), sgd, momentum (heavy "
            "ball), adagrad or rmsprop, each as in torch.optim."
        ),
    ] = "adam"
    epochs: Annotated[
        NonNegativeInt,
        Doc("Number of epochs of the first stage, each one full-batch evaluation; 0 skips the first stage."),
    ] = 5000
    adam_lr: Annotated[PositiveFloat, Doc("Learning rate of the first stage, with every optimiser.")] = 1e-3
    lr_schedule: Annotated[
        Literal["constant", "cosine"],
        Doc("Learning rate over the epochs: constant or cosine (falls to zero)."),
    ] = "constant"
    adam_beta1: Annotated[Fraction, Doc("Decay of the mean of gradients, in adam and adamw.")] = 0.9
    adam_beta2: Annotated[Fraction, Doc("Decay of the mean of squared gradients, in adam and adamw.")] = 0.999
    adam_eps: Annotated[
        NonNegativeFloat,
        Doc("Epsilon of adam, adamw, adagrad and rmsprop; for the first two, adam_convention says where it enters."),
    ] = 1e-8
    adam_convention: Annotated[
        Literal["torch", "tf1", "keras", "inside"],
        Doc(
            "Where epsilon enters in adam and adamw: torch (sqrt(v^) + eps), tf1 (TensorFlow 1, epsilon hat, rounded "
            "to float32), keras (epsilon hat; its own adam_eps is 1e-7) or inside (sqrt(v^ + eps))."
        ),
    ] = "torch"
    momentum: Annotated[
        Fraction,
        Doc("Share of the previous step that the optimiser momentum adds to the next one."),
    ] = 0.9
    rmsprop_decay: Annotated[Fraction, Doc("Decay of the mean of squared gradients in rmsprop.")] = 0.99
    weight_decay: Annotated[
        NonNegativeFloat,
        Doc("Weight decay of adamw in every epoch; if decoupled, multiplied by the learning rate."),
    ] = 0.01
    weight_decay_form: Annotated[
        Literal["decoupled", "l2"],
        Doc(
            "How weight_decay enters in adamw: decoupled (the weights shrink, apart from Adam) or l2 (it is added to "
            "the gradient times the weights, as in torch.optim.Adam)."
        ),
    ] = "decoupled"

    second_stage: Annotated[
        Literal["lbfgs", "bfgs", "ssbfgs", "ssbroyden", "scipy"],
        Doc(
            "Quasi-Newton method of the second stage: lbfgs, bfgs (keeps every curvature pair), ssbfgs and ssbroyden "
            "(self-scaled), or scipy (SciPy's L-BFGS-B, which the published TensorFlow code used)."
        ),
    ] = "lbfgs"
    iterations: Annotated[
        NonNegativeInt,
        Doc("Largest number of iterations of the second stage; 0 skips the second stage."),
    ] = 2000
    lbfgs_history: Annotated[PositiveInt, Doc("Number of curvature pairs kept by lbfgs and scipy.")] = 50
    lbfgs_memory: Annotated[
        Literal["auto", "two_loop", "compact", "dense"],
        Doc(
            "How lbfgs applies its pairs, with results that differ by rounding only: two_loop, compact, dense (needs "
            "an lbfgs_history of at least iterations) or auto (the fastest that is possible)."
        ),
    ] = "auto"
    lbfgs_curvature: Annotated[
        Literal["auto", "torch", "relative"],
        Doc(
            "Which curvature pairs are kept, except in scipy: torch (y's > 1e-10), relative (y's > eps y'y, "
            "independent of the scale of the loss) or auto (relative for a loss that is an energy, else torch)."
        ),
    ] = "auto"
    first_step: Annotated[
        PositiveFloat,
        Doc("First step of every line search, except in scipy; below 1, iterations need more evaluations."),
    ] = 1.0
    tolerance_grad: Annotated[
        NonNegativeFloat,
        Doc("The second stage stops when the largest gradient entry is at most this."),
    ] = 1e-7
    tolerance_change: Annotated[
        NonNegativeFloat,
        Doc(
            "The second stage stops when the step or the change of the loss is at most this; in scipy (ftol), when "
            "the loss changes by at most this, relative to the loss or to 1."
        ),
    ] = 1e-6 * 2.220446049250313e-16
    max_evaluations: Annotated[
        PositiveInt | None,
        Doc("Largest number of evaluations in the second stage; null sets no limit."),
    ] = None

    final_weights: Annotated[
        Literal["last", "best_heldout"],
        Doc(
            "Weights that are the result: last, or best_heldout (the smallest heldout_residual of looks every 10 "
            "iterations of the second stage, which ends when 5 looks gain less than 1 %)."
        ),
    ] = "last"
    divergence_factor: Annotated[
        Annotated[float, Gt(1)],
        Doc("A member fails when its loss exceeds this times its first value."),
    ] = 1e6
    record_every: Annotated[
        PositiveInt,
        Doc("Number of epochs or iterations between two rows of the table curves."),
    ] = 25
    keep_epochs: Annotated[
        tuple[NonNegativeInt, ...],
        Doc(
            "Epochs of the first stage after which weights are kept in the table weights; the final weights always are."
        ),
    ] = (0, 50, 1000)

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
    for name, hint in hints(settings.__class__).items():
        rule = broken_rule(getattr(settings, name), hint)
        if rule:
            raise SettingError(name, getattr(settings, name), rule)


@functools.cache
def hints(kind: Any) -> dict[str, Any]:
    """Return the annotations of the fields of a settings record, in order: types with their rules and descriptions."""
    annotations = typing.get_type_hints(kind, include_extras=True)
    return {field.name: annotations[field.name] for field in fields(kind)}


def description(hint: Any) -> str:
    """Return the description in the annotation of a field, with its unit; empty where there is none."""
    return next((extra.documentation for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Doc)), "")


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
