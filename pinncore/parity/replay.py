"""A recorded training replayed here, array by array in the order in which a training computes them.

A replay yields what the trace recorded, so that whoever compares can stop at the first array that parts. Rounding is
measured: eight replays, in which weights, points and data are changed by one unit in the last place with random signs,
also the weights after each step, and every partial sum over the points; activations by the eight units that fast vector
functions may be off. Between recorded steps they take the fast gradient, changed by as much as it was off at the last
recorded step.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch

from ..errors import SettingError
from ..networks import Layers, flatten, unflatten
from ..optim import FirstOrderSettings, PackedFirstOrder
from ..problems import Problem
from ..problems.columns import Array
from ..settings import TrainSettings
from ..training import DTYPES, first_order
from .evaluation import EPSILON, Changes, Evaluator, Noise
from .results import Place
from .trace import Trace

REPLAYS: Final = 8
_FLOOR: Final = 0.02  # of the largest rounding in an array: no entry is known better
_KEPT: Final = 512  # evaluations
_KEPT_ENGINES: Final = 48


@dataclass(frozen=True)
class Variant:
    """Our side with something changed; without changes it is our replay.

    `optimiser` are fields of `FirstOrderSettings`. The names in `frozen` (W2, b1) are not updated, those in `lost` have
    a zero gradient, those in `uncleared` have one that adds up over the steps, and the weights of the layers in
    `transposed` are recorded transposed. `is_theirs` starts from the weights of the trace that is compared with.
    """

    name: str = ""
    sentence: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    optimiser: Mapping[str, Any] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    uncleared: tuple[str, ...] = ()
    transposed: tuple[int, ...] = ()
    is_theirs: bool = False

    def joined(self, other: Variant) -> Variant:
        """Return both changes together."""
        names = {
            name: tuple(dict.fromkeys((*getattr(self, name), *getattr(other, name))))
            for name in ("frozen", "lost", "uncleared")
        }
        return Variant(
            f"{self.name} and {other.name}",
            f"{self.sentence} {other.sentence}",
            {**self.settings, **other.settings} if self.settings and other.settings else {},
            self.changes.joined(other.changes),
            {**self.optimiser, **other.optimiser},
            **names,
            transposed=self.transposed + other.transposed,
            is_theirs=self.is_theirs or other.is_theirs,
        )


class Replay:
    """Our side of a comparison: a configuration, a start, and the arrays of a trace to be met.

    `target` is the trace that is compared with; `source` the one whose configuration and start are taken.
    """

    def __init__(self, source: Trace, target: Trace, train: TrainSettings, problem: Problem) -> None:
        self.source, self.target, self.train, self.problem = source, target, train, problem
        self.layers: Layers = tuple(source.layers)
        series = () if target.loss_terms_by_step is None else target.loss_terms_by_step
        self.last = max([-1, *target.steps, len(series) - 1])
        self._evaluators: OrderedDict[str, Evaluator] = OrderedDict()
        self._evaluations: OrderedDict[tuple[str, bytes], tuple[float, Array, Array]] = OrderedDict()

    @cached_property
    def first_step(self) -> int:
        """Return the first step with weights, at which a replay starts; one behind the last where there is none."""
        whole = [step for step, arrays in self.source.steps.items() if "W1" in arrays]
        return min(whole, default=self.last + 1)

    def start(self, trace: Trace) -> Array:
        """Return the weights [parameters] of a trace at the first step."""
        return trace.vector(self.first_step)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Return all arrays to be met, in the order of computation."""
        return tuple(place for step in range(self.first_step, self.last + 1) for place in self._at(step))

    def _at(self, step: int) -> Iterator[Place]:
        arrays = self.target.steps.get(step, {})
        levels = range(1, len(self.layers))
        for quantity, prefix in (("moment", "m_"), ("moment", "v_"), ("weights", "")):
            if quantity == "weights" and step == self.first_step:
                quantity = "initial weights"
            yield from (
                Place("first", step, quantity, f"{prefix}{kind}{level}", level)
                for level in levels
                for kind in "Wb"
                if f"{prefix}{kind}{level}" in arrays
            )
        for quantity in ("prediction", "derivative"):
            for name in arrays:
                if self._channel(name) is not None and (name.split("/")[-1] in self._outputs) == (
                    quantity == "prediction"
                ):
                    yield Place("first", step, quantity, name)
        series = self.target.loss_terms_by_step
        if "loss_terms" in arrays or (series is not None and step < len(series)):
            yield from (Place("first", step, "loss term", term) for term in self.problem.terms)
        if "loss" in arrays:
            yield Place("first", step, "loss", "loss")
        for quantity, prefix in (("gradient", "grad_"), ("update", "update_")):
            yield from (
                Place("first", step, quantity, f"{prefix}{kind}{level}", level)
                for level in levels
                for kind in "Wb"
                if f"{prefix}{kind}{level}" in arrays
            )

    @cached_property
    def _outputs(self) -> frozenset[str]:
        return frozenset(column.symbol for column in self.problem.outputs)

    def _channel(self, name: str) -> tuple[int, str] | None:
        """Return the group and the derivative that an array's name means; None where it means none."""
        term, _, quantity = name.rpartition("/")
        firsts = [group.terms for group in self.problem.groups]
        groups = [number for number, terms in enumerate(firsts) if term in terms] if term else [0]
        output = quantity.split("_")[0]
        if not groups or not (quantity == "laplacian" or output in self._outputs):
            return None
        letters = quantity.partition("_")[2]
        known = {column.symbol for column in self.problem.coordinates}
        return (groups[0], quantity) if set(letters) <= known or quantity == "laplacian" else None

    def theirs(self, place: Place) -> Array:
        """Return the recorded array at a place."""
        arrays = self.target.steps.get(place.step, {})
        if place.quantity == "loss term":
            number = self.problem.terms.index(place.name)
            terms = arrays.get("loss_terms")
            if terms is None:
                assert self.target.loss_terms_by_step is not None
                terms = self.target.loss_terms_by_step[place.step]
            return np.asarray(terms, dtype=np.float64).reshape(-1)[number : number + 1]
        return arrays[place.name].reshape(1) if place.quantity == "loss" else arrays[place.name]

    def run(self, variant: Variant, seed: int | None = None) -> Generator[Array, None, Array]:
        """Yield our array at each of `places`; with a `seed`, of a replay with changes of one unit in the last place.

        Return the weights [parameters] at the last step.
        Raises `SettingError` where the change makes no training.
        """
        evaluator = self._evaluator(variant.changes)
        dtype = evaluator.dtype
        noise = None if seed is None else Noise(seed, dtype)
        flat = self.start(self.target if variant.is_theirs else self.source)
        flat = self._transposed(flat, variant)
        if noise is not None:
            flat = noise.shaken_array(flat)
        x = torch.as_tensor(flat, dtype=DTYPES[dtype])[None]
        optimiser = PackedFirstOrder([self.optimiser(variant)], x)
        masks = {name: self._mask(getattr(variant, name)) for name in ("frozen", "lost", "uncleared")}
        carried = torch.zeros_like(x)
        off: tuple[float, Array, Array] | None = None
        engine = None if noise is None else evaluator.shaken(noise)
        for step in range(self.first_step, self.last + 1):
            at = np.asarray(x[0].double().numpy())
            is_recorded = step in self.target.steps
            found = self._evaluate(evaluator, at)
            if noise is not None and is_recorded:
                loss, terms, gradient = evaluator.evaluate(at, engine)
                points = evaluator.points
                shaken = (
                    float(noise.summed(loss, points)),
                    noise.summed(terms, points),
                    noise.summed(gradient, points),
                )
                off = (abs(shaken[0] - found[0]), np.abs(shaken[1] - found[1]), np.abs(shaken[2] - found[2]))
                found = shaken
            elif noise is not None and off is not None:
                found = (
                    found[0] + float(noise.signs(()) * off[0]),
                    found[1] + noise.signs(found[1].shape) * off[1],
                    found[2] + noise.signs(found[2].shape) * off[2],
                )
            loss, terms, gradient = found
            g = torch.as_tensor(gradient, dtype=x.dtype)[None]
            g = torch.where(masks["lost"], torch.zeros_like(g), g)
            carried = torch.where(masks["uncleared"], carried, torch.zeros_like(carried)) + g
            vectors = {"": x, "m": optimiser.m, "v": optimiser.v, "grad": carried}
            for place in self._at(step):
                match place.quantity:
                    case "prediction" | "derivative":
                        yield self._derivative(evaluator, at, place.name, engine)
                    case "loss term":
                        yield terms[self.problem.terms.index(place.name)][None]
                    case "loss":
                        yield np.array([loss])
                    case "update":
                        break  # the last places of a step
                    case _:
                        yield self._part(place, vectors, variant)
            following = torch.where(masks["frozen"], x, optimiser.step(x, carried, [0]))
            vectors["update"] = following - x
            for place in self._at(step):
                if place.quantity == "update":
                    yield self._part(place, vectors, variant)
            x = following if noise is None else noise.shaken(following)
        return at

    def _part(self, place: Place, vectors: Mapping[str, torch.Tensor], variant: Variant) -> Array:
        """Return the array of a layer from the vectors [1, parameters] by the prefixes of their names."""
        prefix, _, name = place.name.rpartition("_")
        assert place.layer is not None
        w, b = unflatten(np.asarray(vectors[prefix][0].double().numpy()), self.layers)[place.layer - 1]
        if name.startswith("b"):
            return b
        return w.T if place.layer in variant.transposed else w

    def evaluate(self, flat: Array) -> tuple[float, Array]:
        """Return loss and gradient [parameters] of our side at weights."""
        loss, _, gradient = self._evaluate(self._evaluator(Changes()), flat)
        return loss, gradient

    def terms(self, flat: Array) -> Array:
        """Return the loss terms [terms] of our side at weights."""
        return self._evaluate(self._evaluator(Changes()), flat)[1]

    def optimiser(self, variant: Variant) -> FirstOrderSettings:
        """Return the optimiser of our side with the changes of a variant."""
        settings = first_order(self.train)
        is_keras = settings.convention == "keras" and self.source.framework.startswith(("keras", "tensorflow"))
        changes: dict[str, Any] = {"powers": "rounded"} if is_keras else {}
        return dataclasses.replace(settings, **{**changes, **variant.optimiser})

    def error(self, variant: Variant) -> float | None:
        """Return `rel_l2` of our side at the last step; None without reference."""
        walk = self.run(variant)
        while True:
            try:
                next(walk)
            except StopIteration as end:
                return self.error_of(variant, end.value)

    def error_of(self, variant: Variant, flat: Array) -> float | None:
        """Return `rel_l2` of weights [parameters]; None without reference."""
        error: float | None = self.problem.error(self._outputs_of(variant, flat))
        return error

    def field(self, flat: Array) -> Array:
        """Return the first output [points] at the field points."""
        return self._outputs_of(Variant(), flat)[0]

    def _outputs_of(self, variant: Variant, flat: Array) -> Array:
        evaluator = self._evaluator(variant.changes)
        engine = evaluator.engine
        x = engine.layout.pack([flat], dtype=engine.dtype, device=torch.device("cpu"))
        return np.asarray(engine.outputs(x, [0])[0].double().numpy())

    @cached_property
    def precision(self) -> str:
        """Return the precision of the recorded numbers: float32 where all weights behind the start are such."""
        later = [arrays for step, arrays in self.target.steps.items() if step > self.first_step or len(arrays) > 1]
        numbers = [
            array
            for arrays in later
            for name, array in arrays.items()
            if name.startswith(("grad_", "update_", "W")) and np.isfinite(array).all()
        ]
        return "float32" if all((array.astype(np.float32) == array).all() for array in numbers) else "float64"

    def _transposed(self, flat: Array, variant: Variant) -> Array:
        if not variant.transposed:
            return flat
        weights = unflatten(flat, self.layers)
        for level in variant.transposed:
            if self.layers[level - 1] != self.layers[level]:
                raise SettingError("weights", f"W{level}", "must be square to be transposed")
        return flatten([(w.T if level in variant.transposed else w, b) for level, (w, b) in enumerate(weights, 1)])

    def _mask(self, names: tuple[str, ...]) -> torch.Tensor:
        """Return which parameters [1, parameters] have one of these names."""
        parts = [
            (np.full(w.shape, f"W{level}" in names), np.full(b.shape, f"b{level}" in names))
            for level, (w, b) in enumerate(unflatten(self._zeros, self.layers), 1)
        ]
        return torch.as_tensor(flatten(parts))[None]

    @cached_property
    def _zeros(self) -> Array:
        return np.zeros_like(self.start(self.source))

    def _evaluator(self, changes: Changes) -> Evaluator:
        key = changes.key
        if key not in self._evaluators:
            self._evaluators[key] = Evaluator(
                self.problem, self.layers, self.train.dtype, self.train.activation, changes
            )
            while len(self._evaluators) > _KEPT_ENGINES:
                self._evaluators.popitem(last=False)
        self._evaluators.move_to_end(key)
        return self._evaluators[key]

    def _evaluate(self, evaluator: Evaluator, flat: Array) -> tuple[float, Array, Array]:
        """Return loss, terms, gradient, from memory where these weights were evaluated before."""
        key = (evaluator.key, flat.tobytes())
        if key not in self._evaluations:
            self._evaluations[key] = evaluator.evaluate(flat)
            while len(self._evaluations) > _KEPT:
                self._evaluations.popitem(last=False)
        return self._evaluations[key]

    def _derivative(self, evaluator: Evaluator, flat: Array, name: str, engine: Any) -> Array:
        """Return the prediction or a derivative [points] as a trace records it."""
        found = self._channel(name)
        assert found is not None
        number, quantity = found
        return evaluator.named(flat, number, quantity, engine) / self.unit(quantity)

    def unit(self, quantity: str) -> float:
        """Return what turns a derivative to coordinates into one to the network's inputs."""
        if self.target.derivatives == "coordinates":
            return 1.0
        seeds = dict(zip((column.symbol for column in self.problem.coordinates), self.problem.seeds, strict=False))
        if quantity == "laplacian":
            return float(next(iter(seeds.values())) ** 2)
        letters = quantity.partition("_")[2]
        return float(np.prod([seeds[letter] for letter in letters]))


class Rounding:
    """A variant's arrays, and how far rounding moves each entry: the most that eight shaken replays are off."""

    def __init__(self, replay: Replay, variant: Variant) -> None:
        self._ours = replay.run(variant)
        self._shaken = [replay.run(variant, seed) for seed in range(REPLAYS)]
        self._places = replay.places
        self.epsilon = EPSILON[variant.changes.dtype or replay.train.dtype]
        self.arrays: list[Array] = []
        self.sizes: list[Array] = []

    def ours(self, number: int) -> Array:
        """Return our array at the `number`th place."""
        while len(self.arrays) <= number:
            self.arrays.append(np.array(next(self._ours)))
        return self.arrays[number]

    def size(self, number: int) -> Array:
        """Return the rounding of each entry at the `number`th place."""
        while len(self.sizes) <= number:
            ours = self.ours(len(self.sizes))
            most = self.epsilon * np.abs(ours)
            for shaken in self._shaken:
                most = np.maximum(most, np.abs(next(shaken) - ours))
            if most.size:
                most = np.maximum(most, _FLOOR * most.max())
            self.sizes.append(np.maximum(most, np.finfo(np.float64).tiny))
        return self.sizes[number]

    def nearest(self, number: int) -> Array:
        """Return the rounding at a place as far as it was measured: there, or at the last place of its kind."""
        if number < len(self.sizes):
            return self.sizes[number]
        place, ours = self._places[number], self.ours(number)
        for earlier in reversed(range(len(self.sizes))):
            other = self._places[earlier]
            if (other.quantity.removeprefix("initial "), other.name) == (place.quantity, place.name):
                return self.sizes[earlier]
        return (
            self.epsilon * np.maximum(np.abs(ours), np.abs(ours).max(initial=0.0) * _FLOOR) * 10 + np.finfo(float).tiny
        )
