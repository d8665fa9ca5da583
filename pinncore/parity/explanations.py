"""The explanations that are tried: one convention, setting or mistake each, as a change of our side.

What is a setting of a study says so in `settings`; a mistake has none.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from ..activations import ACTIVATIONS
from ..errors import PinnError
from ..problems import Problem
from .evaluation import Changes, channel_names
from .replay import Replay, Variant

_EPSILONS: Final = (0.0, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
_CONVENTIONS: Final = {
    "torch": "is added to the root of the corrected second moment, sqrt(v^) + eps",
    "tf1": "is added to the root of the raw second moment (epsilon hat), with hyper-parameters in float32",
    "keras": "is added to the root of the raw second moment (epsilon hat)",
    "inside": "stands inside the root, sqrt(v^ + eps)",
}
_FACTORS: Final = (10.0, 0.1, 100.0, 0.01, 1000.0, 0.001)
_DECAYS: Final = (0.1, 0.01, 1e-3, 1e-4, 1e-5)
_SHARES: Final = (0.0, 0.1, 0.5, 2.0, 10.0, 100.0)


def explanations(replay: Replay) -> tuple[Variant, ...]:
    """Return everything that is tried for a trace, without what our side does anyway."""
    found = (
        *_optimiser(replay),
        *_parameters(replay),
        *_columns(replay.problem),
        *_derivatives(replay.problem),
        *_loss(replay.problem),
        *_network(replay),
        *_start(replay),
    )
    ours = Variant()
    unlike = [variant for variant in found if _what(variant) != _what(ours)]
    return tuple({repr(_what(variant)): variant for variant in reversed(unlike)}.values())[::-1]


def _what(variant: Variant) -> tuple[Any, ...]:
    return (
        *(variant.changes, tuple(sorted(variant.optimiser.items())), variant.frozen, variant.lost),
        *(variant.uncleared, variant.transposed, variant.is_theirs),
    )


def _optimiser(replay: Replay) -> Iterator[Variant]:
    ours = replay.optimiser(Variant())
    if ours.optimiser in ("adam", "adamw"):
        yield from _epsilons(replay)
        for which, sentence in (
            ("none", "The moments are not corrected for their bias."),
            ("first", "Only the first moment is corrected for its bias."),
            ("second", "Only the second moment is corrected for its bias."),
        ):
            yield Variant(f"bias correction: {which}", sentence, optimiser={"bias_correction": which})
        yield Variant(
            "learning rate in float32",
            "The learning rate is rounded to float32, as by Keras with floatx float32.",
            optimiser={"lr": float(np.float32(ours.lr))},
        )
        yield Variant(
            "hyper-parameters in float32",
            "Learning rate, betas and epsilon are rounded to float32.",
            optimiser={"rounds_to_float32": True},
        )
        yield Variant(
            "hyper-parameters and powers in float32",
            "Learning rate, betas and epsilon are rounded to float32, as are the powers of the betas at each step.",
            optimiser={"rounds_to_float32": True, "powers": "multiplied"},
        )
        for powers, meaning in (
            ("double", "in double precision"),
            ("weights", "in the precision of the weights"),
            ("rounded", "in the precision of the weights, from betas rounded to float32, as by Keras on TensorFlow"),
            ("multiplied", "in float32, multiplied once a step"),
        ):
            if powers != ours.kind_of_powers:
                sentence = f"The powers of the betas are computed {meaning}."
                yield Variant(f"powers of the betas: {powers}", sentence, optimiser={"powers": powers})
        yield from _decays(replay)
        for setting, field, values in (
            ("adam_beta1", "beta1", (0.0, 0.5, 0.8, 0.95, 0.99)),
            ("adam_beta2", "beta2", (0.9, 0.95, 0.99, 0.9999)),
        ):
            yield from (_set(setting, value, field) for value in values if value != getattr(ours, field))
    for factor in (10.0, 0.1, 2.0, 0.5, 100.0, 0.01):
        yield _set("adam_lr", float(f"{ours.lr * factor:.12g}"), "lr")
    for name in ("adam", "sgd", "momentum", "rmsprop", "adagrad"):
        if name != ours.optimiser and not (name == "adam" and ours.optimiser == "adamw"):
            yield Variant(
                f"first_stage: {name}",
                f"The optimiser is {name}.",
                {"first_stage": name},
                optimiser={"optimiser": name},
            )
    yield Variant("update added", "The update is added instead of subtracted.", optimiser={"ascends": True})


def _set(setting: str, value: Any, field: str) -> Variant:
    return Variant(f"{setting}: {value:g}", f"{setting} is {value:g}.", {setting: value}, optimiser={field: value})


def _epsilons(replay: Replay) -> Iterator[Variant]:
    ours = replay.optimiser(Variant())
    for convention, eps in itertools.product(_CONVENTIONS, dict.fromkeys((ours.eps, *_EPSILONS))):
        if (convention, eps) == (ours.convention, ours.eps):
            continue
        parts = {}
        if convention != ours.convention:
            parts["adam_convention"] = convention
        if eps != ours.eps:
            parts["adam_eps"] = eps
        yield Variant(
            ", ".join(f"{name}: {value}" for name, value in parts.items()),
            f"Adam's epsilon, {eps:g}, {_CONVENTIONS[convention]}.",
            parts,
            optimiser={"convention": convention, "eps": eps},
        )
    if ours.convention != "keras":
        yield Variant(
            "adam_convention: keras, powers of the betas: double",
            f"Adam's epsilon, {ours.eps:g}, {_CONVENTIONS['keras']}; the powers of the betas are in double precision.",
            {"adam_convention": "keras"},
            optimiser={"convention": "keras", "powers": "double"},
        )


def _decays(replay: Replay) -> Iterator[Variant]:
    ours = replay.optimiser(Variant())
    has_decay = ours.optimiser == "adamw"
    values = dict.fromkeys((ours.weight_decay, *_DECAYS) if has_decay else _DECAYS)
    for form, value in itertools.product(("l2", "decoupled"), values):
        if has_decay and (form, value) == (ours.weight_decay_form, ours.weight_decay):
            continue
        meaning = "is added to the gradient (L2)" if form == "l2" else "shrinks the weights apart from Adam (decoupled)"
        yield Variant(
            f"weight_decay_form: {form}, weight_decay: {value:g}",
            f"Weight decay {value:g} {meaning}.",
            {"first_stage": "adamw", "weight_decay_form": form, "weight_decay": value},
            optimiser={"optimiser": "adamw", "weight_decay_form": form, "weight_decay": value},
        )
    if has_decay:
        yield Variant(
            "first_stage: adam",
            "There is no weight decay.",
            {"first_stage": "adam"},
            optimiser={"optimiser": "adam"},
        )


def _parameters(replay: Replay) -> Iterator[Variant]:
    levels = range(1, len(replay.layers))
    biases, weights = tuple(f"b{level}" for level in levels), tuple(f"W{level}" for level in levels)
    several = (("all biases", biases), ("all weights", weights)) if len(biases) > 1 else ()
    for what, names in (*((name, (name,)) for name in (*biases, *weights)), *several):
        yield Variant(f"{what} not updated", f"{_subject(what)} not updated.", frozen=names)
        yield Variant(f"{what} without gradient", f"{_subject(what)} without a gradient: it is zero.", lost=names)
    everything = ("all parameters", (*weights, *biases))
    for what, names in (everything, *several, *((name, (name,)) for name in (*biases, *weights))):
        yield Variant(
            f"gradient of {what} not cleared",
            f"The gradient of {what} is not cleared: it adds up over the steps.",
            uncleared=names,
        )


def _subject(what: str) -> str:
    return f"{what[0].upper()}{what[1:]} are" if what.startswith("all") else f"{what} is"


def _columns(problem: Problem) -> Iterator[Variant]:
    symbols = dict.fromkeys(column.symbol for column in (*problem.coordinates, *problem.input_columns, *problem.known))
    coordinates = tuple(column.symbol for column in problem.coordinates)
    for what in (*((symbol,) for symbol in symbols), coordinates):
        for factor in _FACTORS:
            names = " and ".join(what)
            yield Variant(
                f"{names} x {factor:g}",
                f"The column{'s' if len(what) > 1 else ''} {names} of the points {'are' if len(what) > 1 else 'is'} "
                f"multiplied by {factor:g}: other units.",
                changes=Changes(factors=dict.fromkeys(what, factor)),
            )
    yield from _settings(problem)


def _settings(problem: Problem) -> Iterator[Variant]:
    """Yield what a problem's own settings of scale and form offer."""
    choices: list[dict[str, Any]] = []
    factors = dict.fromkeys((problem.scale_factor, 1.0, 10.0, 100.0))
    if hasattr(problem, "scale_scope"):
        scopes = ("consistent", "all", "elocal")
        choices += [{"scale_scope": scope, "scale_factor": factor} for scope in scopes for factor in factors]
        choices += [{"strain_multiplier": value} for value in (1.0, 10.0)]
        choices += [
            {"scale_scope": scope, "scale_factor": factor, "strain_multiplier": 1.0}
            for scope in scopes
            for factor in factors
        ]
        choices += [{"strain_reference": value} for value in ("rms", "max")]
    else:
        choices += [{"scale_factor": factor} for factor in factors]
    for choice in choices:
        changed = {name: value for name, value in choice.items() if getattr(problem, name) != value}
        if changed and _is_possible(problem, changed):
            text = ", ".join(f"{name}: {value}" for name, value in changed.items())
            yield Variant(text, f"The inputs are scaled by {text}.", changed, Changes(problem=changed))


def _is_possible(problem: Problem, settings: dict[str, Any]) -> bool:
    try:
        dataclasses.replace(problem, **settings)
    except PinnError:
        return False
    return True


def _derivatives(problem: Problem) -> Iterator[Variant]:
    inputs = [column.symbol for column in problem.input_columns]
    everything: list[str] = []
    for group in problem.groups:
        names = channel_names(problem, group)
        for term in group.terms:
            own = [name for each in names for name in each[1:]]
            for form in group.channels.forms:
                letters = [problem.coordinates[c].symbol for c in group.channels.firsts]
                if len(form) > 1 and len(names) == 1:
                    own += [f"{names[0][0]}_{letters[p]}{letters[q]}" for p, q, _ in form]
            used = _used(problem, group)
            everything += [f"{term}/{name}" for name in own]
            for name in own:
                if name in used or name not in {n for each in names for n in each}:
                    yield Variant(
                        f"{term}/{name} is zero",
                        f"The derivative {name} in the term {term} is zero, or empty.",
                        changes=Changes(zeroed=(f"{term}/{name}",)),
                    )
            for coordinate in group.channels.firsts:
                letter = problem.coordinates[coordinate].symbol
                for number, other in enumerate(inputs):
                    if number != coordinate:
                        yield Variant(
                            f"{term}: derivative to {other} instead of {letter}",
                            f"In the term {term} the derivative to {letter} is taken to the input {other}.",
                            changes=Changes(directions={f"{term}/{letter}": number}),
                        )
    if len(everything) > 1:  # else it is the one above
        yield Variant(
            "all derivatives are zero",
            "All derivatives, in every term, are zero, or empty.",
            changes=Changes(zeroed=tuple(everything)),
        )


def _used(problem: Problem, group: Any) -> set[str]:
    """Return the derivatives that the residuals of a group depend on."""
    names = channel_names(problem, group)
    symbols = set().union(*(residual.free_symbols for residual in group.residuals if hasattr(residual, "free_symbols")))
    return {
        name
        for each, own in zip(names, group.channel_symbols, strict=True)
        for name, symbol in zip(each, own, strict=True)
        if symbol in symbols
    }


def _loss(problem: Problem) -> Iterator[Variant]:
    conditions = [group.terms[0] for group in problem.groups][1:]
    for one, two in itertools.combinations(conditions, 2):
        yield Variant(
            f"points of {one} and {two} exchanged",
            f"The points of the terms {one} and {two} are exchanged.",
            changes=Changes(exchanged=(one, two)),
        )
    forms = (
        ("norm", "norm", "", "the L2 norm, neither averaged nor squared"),
        ("mean_square", "mean_square", "", "the mean square"),
        ("sum of squares", "mean_square", "sum", "the sum of squares"),
        ("half the mean square", "mean_square", "half mean", "half the mean square"),
        ("half the sum of squares", "mean_square", "half sum", "half the sum of squares"),
        ("root of the mean square", "norm", "root", "the root of the mean square"),
    )
    for name, form, scaling, meaning in forms:
        if (form, scaling) != (problem.loss_form, ""):
            is_setting = not scaling and problem.loss_form != "energy"
            yield Variant(
                f"loss: {name}",
                f"Every loss term is {meaning}.",
                {"loss": form} if is_setting else {},
                Changes(form="" if form == problem.loss_form else form, scaling=scaling),
            )
    terms = problem.terms
    for term, share in itertools.product(terms, _SHARES):
        yield _weighted(problem, f"weight of {term} x {share:g}", {term: share}, f"The term {term}", share)
    if len(terms) > 2:
        for share in _SHARES:
            names = dict.fromkeys(terms[1:], share)
            yield _weighted(
                problem, f"weights of {', '.join(names)} x {share:g}", names, f"The terms {', '.join(names)}", share
            )


def _weighted(problem: Problem, name: str, weights: dict[str, float], what: str, share: float) -> Variant:
    settings = {}
    if hasattr(problem, "boundary_weight") and set(weights) == set(problem.terms[1:]):
        settings = {"boundary_weight": problem.boundary_weight * share}
    verb = "have" if what.startswith("The terms") else "has"
    return Variant(name, f"{what} {verb} {share:g} times the weight in the loss.", settings, Changes(weights=weights))


def _network(replay: Replay) -> Iterator[Variant]:
    hidden = len(replay.layers) - 2
    for name in ACTIVATIONS:
        if name != replay.train.activation:
            yield Variant(
                f"activation: {name}", f"The activation is {name}.", {"activation": name}, Changes(activation=name)
            )
    if hidden:
        for backward, where in (
            ("value", "of the values"),
            ("channels", "of values and derivatives"),
            ("both", "of values and derivatives, and in the derivatives to the inputs"),
        ):
            yield Variant(
                f"activation's derivative left out ({backward})",
                f"The activation's derivative is left out of the passed-back error {where}.",
                changes=Changes(backward=backward),  # type: ignore[arg-type]
            )
    if (other := replay.precision) != replay.train.dtype:  # float32 would explain everything that is as small
        sentence = f"The whole training computes in {other}."
        yield Variant(f"dtype: {other}", sentence, {"dtype": other}, Changes(dtype=other))
    square = tuple(k for k in range(1, len(replay.layers)) if replay.layers[k - 1] == replay.layers[k] > 1)
    for levels in (*((level,) for level in square), *((square,) if len(square) > 1 else ())):
        names = ", ".join(f"W{level}" for level in levels)
        yield Variant(
            f"{names} transposed",
            f"{names} {'is' if len(levels) == 1 else 'are'} recorded transposed.",
            transposed=levels,
        )


def _start(replay: Replay) -> Iterator[Variant]:
    if replay.source is not replay.target:
        yield Variant(
            "initial weights of the other trace",
            "The two trainings start from different weights.",
            is_theirs=True,
        )
