"""The second stage of a trace replayed: L-BFGS iteration by iteration, then by its decisions.

L-BFGS amplifies rounding: a start that differs in the last place is 1e-5 away after fifty iterations. While rounding is
below `LIMIT`, arrays are compared. From then on decisions are: each iteration starts at the recorded weights, with the
recorded pairs, and the share of directions, lengths and numbers of evaluations that agree is compared with that among
replays which rounding alone tells apart. `PackedLBFGS` has one form of each of these things, and so cannot try others.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from ..networks import flatten, unflatten
from ..optim import LBFGSSettings
from ..optim.line_search import ARMIJO, MOST_STEPS, StrongWolfe
from .evaluation import EPSILON
from .replay import REPLAYS
from .results import BEYOND, Difference, Explanation, Place
from .trace import Array, Arrays, Trace

Evaluate = Callable[[Array], tuple[float, Array]]  # loss and gradient [parameters] of weights [parameters]
_Pair = tuple[Array, Array, float]  # s, y, 1 / y's

LIMIT: Final = 1e-3  # relative rounding from which on only decisions are compared
_MOST_BYTES: Final = 2**27  # of gradients in memory
_CLOSE: Final = 0.05  # relative rounding of a direction from which on it says nothing
_SMALLEST: Final = 1e-6  # relative difference of directions up to which they always agree
_FACTOR: Final = 2.0  # between lengths that agree
_SHARE: Final = 0.9  # of the share that rounding leaves: less does not agree
_SMALLEST_CURVATURE: Final = 1e-10  # of torch
_ARRAY: Final = re.compile(r"(?:(grad|direction|step)_)?([Wb])(\d+)")
_QUANTITIES: Final = {"": "weights", "grad": "gradient", "direction": "direction", "step": "update"}
_OF_SEARCH: Final = ("direction", "length", "evaluations", "update")
_ORDER: Final = ("weights", "loss", "gradient", "direction", "length", "evaluations", "update")


@dataclass(frozen=True)
class Method:
    """An L-BFGS: what can be another in another program.

    `curvature` none keeps every pair. `is_first_shortened`: the first search starts at min(1, 1/|g|_1) times
    `first_step`. `calls` is the max_iter of each call of torch's optimiser, which takes no more than a quarter more
    evaluations, also inside a line search; 0 means no such limit.
    """

    history: int
    curvature: Literal["torch", "relative", "none"]
    first_step: float
    tolerance_grad: float
    tolerance_change: float
    is_first_shortened: bool = True
    search: Literal["strong_wolfe", "armijo", "fixed"] = "strong_wolfe"
    calls: int = 0

    @staticmethod
    def of(settings: LBFGSSettings) -> Method:
        """Return that of our settings."""
        return Method(
            settings.history, settings.curvature, settings.lr, settings.tolerance_grad, settings.tolerance_change
        )


@dataclass(frozen=True)
class Iteration:
    """Weights, loss and gradient, and the search from there; `stops` where the tests end the stage instead."""

    x: Array
    loss: float
    gradient: Array
    direction: Array
    length: float
    evaluations: int
    stops: bool

    def vector(self, quantity: str) -> Array:
        """Return an array [parameters], or a number as one of shape [1]."""
        match quantity:
            case "weights":
                return self.x
            case "gradient":
                return self.gradient
            case "direction":
                return self.direction
            case "update":
                return self.length * self.direction
        return np.array([float(getattr(self, quantity))])


@dataclass(frozen=True)
class _Recorded:
    """The weights of an iteration, its gradient and the step to the next one, where a trace has them."""

    x: Array
    gradient: Array | None
    step: Array | None


class _Search:
    """A line search along a direction. After `run`: step length, evaluations, loss and gradient at its end."""

    def __init__(self, evaluate: Evaluate, x: Array, loss: float, gradient: Array, direction: Array) -> None:
        self._evaluate, self._x, self._direction = evaluate, x, direction
        self.length, self.loss, self.gradient, self.evaluations = 0.0, loss, gradient, 0
        self._slope = _dot(gradient, direction)

    def _at(self, t: float) -> tuple[float, Array]:
        self.evaluations += 1
        return self._evaluate(self._x + self._x.dtype.type(t) * self._direction)

    def run(self, kind: str, t: float, most: int) -> None:
        """Search from the step `t` on."""
        match kind:
            case "fixed":
                self.length = t
                self.loss, self.gradient = self._at(t)
            case "armijo":
                self._armijo(t)
            case _:
                self._strong_wolfe(t, most)

    def _armijo(self, t: float) -> None:
        start = self.loss
        for _ in range(MOST_STEPS):
            loss, gradient = self._at(t)
            if loss <= start + ARMIJO * t * self._slope:
                self.length, self.loss, self.gradient = t, loss, gradient
                return
            t /= 2

    def _strong_wolfe(self, t: float, most: int) -> None:
        reach = float(np.abs(self._direction).max())
        search = StrongWolfe(self.loss, self._slope, t, reach, most_steps=most)
        seen = {0.0: self.gradient}
        while not search.done:
            t = search.t
            loss, seen[t] = self._at(t)
            search.tell(loss, _dot(seen[t], self._direction))
        self.length, self.loss = search.ends[search.low], search.values[search.low]
        self.gradient = seen[self.length]


def iterate(
    evaluate: Evaluate,
    start: Array,
    method: Method,
    *,
    dtype: str = "float64",
    recorded: Mapping[int, _Recorded] | None = None,
) -> Iterator[Iteration]:
    """Yield the iterations of an L-BFGS without end; those in `recorded` start there instead of where ours ended."""
    recorded = recorded or {}
    x = start.astype(dtype)
    loss, gradient = _typed(evaluate(x), dtype)
    pairs: list[_Pair] = []
    gamma, spent, of_call, stops = 1.0, 1, 0, bool(np.abs(gradient).max() <= method.tolerance_grad)
    number, limit = 0, method.calls * 5 // 4
    while True:
        direction = -gradient if number == 0 else -_two_loops(pairs, gamma, gradient)
        t = method.first_step
        if number == 0 and method.is_first_shortened:
            t *= min(1.0, 1.0 / float(np.abs(gradient).sum()))
        search = _Search(lambda at: _typed(evaluate(at), dtype), x, loss, gradient, direction)
        stops = stops or not _dot(gradient, direction) < -method.tolerance_change
        if not stops:
            if of_call == method.calls or spent >= limit:
                spent, of_call = 1, 0  # a new call evaluates where it starts
            search.run(method.search, t, max(limit - spent, 0) if method.calls else MOST_STEPS)
            spent, of_call = spent + search.evaluations, of_call + 1
        yield Iteration(x, loss, gradient, direction, search.length, search.evaluations, stops)
        step = x.dtype.type(search.length) * direction
        following, slope, value = x + step, search.gradient, search.loss
        if entry := recorded.get(number + 1):
            following = entry.x.astype(dtype)
            value, slope = _typed(evaluate(following), dtype)
            slope = slope if entry.gradient is None else entry.gradient.astype(dtype)
            before = recorded.get(number)
            step = following - x if before is None or before.step is None else before.step.astype(dtype)
            stops = False
        else:
            stops = stops or bool(np.abs(slope).max() <= method.tolerance_grad)
            if not method.calls or of_call < method.calls:  # torch makes no other test where a call ends
                stops = stops or bool(np.abs(step).max() <= method.tolerance_change)
                stops = stops or abs(value - loss) < method.tolerance_change
        gamma = _store(pairs, step, slope - gradient, gamma, method)
        x, loss, gradient, number = following, value, slope, number + 1


def _typed(found: tuple[float, Array], dtype: str) -> tuple[float, Array]:
    return float(found[0]), np.asarray(found[1]).astype(dtype)


def _dot(a: Array, b: Array) -> float:
    return float(a.astype(np.float64, copy=False) @ b.astype(np.float64, copy=False))


def _store(pairs: list[_Pair], s: Array, y: Array, gamma: float, method: Method) -> float:
    """Put a pair among the others where the test keeps it, and return gamma = y's / y'y of the newest one."""
    curvature, square = _dot(y, s), _dot(y, y)
    least = {"torch": _SMALLEST_CURVATURE, "relative": EPSILON[s.dtype.name] * square, "none": -np.inf}
    if not (curvature > least[method.curvature] and curvature != 0 and square > 0):
        return gamma
    pairs.append((s, y, 1 / curvature))
    del pairs[: -method.history]
    return curvature / square


def _two_loops(pairs: list[_Pair], gamma: float, gradient: Array) -> Array:
    """Return H g. Nocedal and Wright (2006), algorithm 7.4."""
    q, alphas = gradient.copy(), []
    kind = q.dtype.type
    for s, y, rho in reversed(pairs):
        alphas.append(_dot(s, q) * rho)
        q = q - kind(alphas[-1]) * y
    q = kind(gamma) * q
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + kind(alpha - _dot(y, q) * rho) * s
    return q


# ---- rounding and comparison ---------------------------------------------------------------------------------------


class _Remembering:
    """An evaluation with memory: what is tried visits the same weights until it makes a difference."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._found: OrderedDict[bytes, tuple[float, Array]] = OrderedDict()

    def __call__(self, x: Array) -> tuple[float, Array]:
        key = x.tobytes()
        if key not in self._found:
            self._found[key] = self._evaluate(x)
            while len(self._found) * len(key) > _MOST_BYTES:
                self._found.popitem(last=False)
        return self._found[key]


class _Shaken:
    """An evaluation that is off by one unit in the last place, of the loss and of the largest entry of the gradient."""

    def __init__(self, evaluate: Evaluate, seed: int, dtype: str) -> None:
        self._evaluate, self._epsilon = evaluate, EPSILON[dtype]
        self._generator = np.random.default_rng(seed)

    def array(self, values: Array) -> Array:
        """Return values, each off by one unit in the last place."""
        return np.asarray(values * (1 + self._epsilon * self._signs(values.shape)), dtype=np.float64)

    def __call__(self, x: Array) -> tuple[float, Array]:
        loss, gradient = self._evaluate(x)
        off = self._epsilon * np.abs(gradient).max() * self._signs(gradient.shape)
        return loss * (1 + self._epsilon * float(self._signs(()))), np.asarray(gradient + off, dtype=np.float64)

    def _signs(self, shape: tuple[int, ...]) -> Array:
        return np.asarray(self._generator.integers(0, 2, shape) * 2.0 - 1.0, dtype=np.float64)


class _Following:
    """Our iterations beside those of a trace, with rounding measured as far as it is asked for."""

    def __init__(self, trace: Trace, evaluate: Evaluate, method: Method) -> None:
        self._trace, self._evaluate, self._method = trace, evaluate, method
        self._first, self._last = min(trace.iterations), max(trace.iterations)
        self._recorded = _recorded(trace)
        self._start = self._recorded[0].x
        # without a line search nobody needs an evaluation at the end of the step
        self._uncounted = ("evaluations",) if method.search == "fixed" else ()
        self._counted_before = 0.0  # 1 where a search counts the evaluation at its start

    def differences(self, *, whole: bool) -> Iterator[Difference]:
        """Yield the difference of each array, then those of decisions; stop behind the first one unless `whole`."""
        shakers = [_Shaken(self._evaluate, seed, self._trace.dtype) for seed in range(REPLAYS)]
        ours = self._run(self._evaluate, self._start)
        shaken = [self._run(shaker, shaker.array(self._start)) for shaker in shakers]
        for number in range(self._last - self._first + 1):
            own, others = next(ours), [next(each) for each in shaken]
            if number == 0 and "evaluations" in self._trace.iterations[self._first]:
                more = float(self._trace.iterations[self._first]["evaluations"].reshape(-1)[0]) - own.evaluations
                self._counted_before = 1.0 if more == 1 else 0.0
            if self._is_lost(own, others):
                yield from self._decisions(number)
                return
            for difference in self._at(number, own, others):
                yield difference
                if difference.is_beyond and not whole:
                    return

    def _run(
        self, evaluate: Evaluate, start: Array, recorded: Mapping[int, _Recorded] | None = None
    ) -> Iterator[Iteration]:
        return iterate(evaluate, start, self._method, dtype=self._trace.dtype, recorded=recorded)

    @staticmethod
    def _is_lost(own: Iteration, others: list[Iteration]) -> bool:
        """Return whether rounding has taken over: arrays differ by `LIMIT`, or decisions do."""
        if any((each.evaluations, each.stops) != (own.evaluations, own.stops) for each in others):
            return True
        return any(
            np.abs(each.vector(name) - own.vector(name)).max() > LIMIT * np.abs(own.vector(name)).max()
            for each in others
            for name in ("weights", "direction", "length")
        )

    def _at(self, number: int, own: Iteration, others: list[Iteration]) -> Iterator[Difference]:
        """Yield the differences of the arrays of an iteration in the order of computation."""
        iteration = self._first + number
        arrays = self._trace.iterations.get(iteration, {})
        found = []
        for name, theirs in arrays.items():
            match = _ARRAY.fullmatch(name)
            quantity = _QUANTITIES[match[1] or ""] if match else name
            if quantity not in _ORDER or (quantity in _OF_SEARCH and own.stops) or quantity in self._uncounted:
                continue
            layer = int(match[3]) if match else None
            part = self._part(match[2], layer) if match and layer else _whole
            place = Place("second", iteration, quantity, name, layer)
            vectors = [part(each.vector(quantity)) for each in (own, *others)]
            if quantity == "evaluations":
                theirs = theirs - self._counted_before
            found.append(_difference(place, theirs, vectors, EPSILON[self._trace.dtype]))
        yield from sorted(found, key=lambda difference: _ORDER.index(difference.place.quantity))
        if own.stops and iteration < self._last:
            place = Place("second", iteration, "evaluations", "stop")
            yield Difference(place, 1.0, 1.0, np.inf, "our tests of tolerance end the stage here")

    def _part(self, kind: str, layer: int) -> Callable[[Array], Array]:
        def part(flat: Array) -> Array:
            w, b = unflatten(flat, self._trace.layers)[layer - 1]
            return b if kind == "b" else w

        return part

    def _decisions(self, start: int) -> Iterator[Difference]:
        """Yield how many decisions agree from an iteration on, where each one starts at the recorded weights."""
        numbers = range(start, self._last - self._first + 1)
        shakers = [_Shaken(self._evaluate, seed, self._trace.dtype) for seed in range(2)]
        own = self._forced(self._evaluate, lambda values: values, numbers)
        shaken = [self._forced(shaker, shaker.array, numbers) for shaker in shakers]
        for quantity in ("direction", "length", "evaluations"):
            if quantity in self._uncounted:
                continue
            mine = {n: own[n].vector(quantity) for n in numbers}
            others = [{n: each[n].vector(quantity) for n in numbers} for each in shaken]
            close = {n: max(_off(each[n], mine[n]) for each in others) for n in numbers}
            theirs = {
                n: found
                for n in numbers
                if (found := self._theirs(n, quantity)) is not None and (quantity != "direction" or close[n] < _CLOSE)
            }
            if not theirs:
                continue
            share = _share(quantity, mine, theirs, close)
            expected = min(_share(quantity, mine, {n: each[n] for n in theirs}, close) for each in others)
            place = Place("second", self._first + start, quantity, f"{quantity} from there on")
            note = f"{share:.0%} of {len(theirs)} agree, {expected:.0%} where only rounding differs"
            units = 0.0 if share >= _SHARE * expected else np.inf
            yield Difference(place, 1 - share, 1 - share, units, note)

    def _forced(self, evaluate: Evaluate, change: Callable[[Array], Array], numbers: range) -> dict[int, Iteration]:
        recorded = {
            number: dataclasses.replace(
                entry, x=change(entry.x), gradient=None if entry.gradient is None else change(entry.gradient)
            )
            for number, entry in self._recorded.items()
        }
        run = self._run(evaluate, recorded[0].x, recorded)
        return {number: next(run) for number in range(numbers.stop)}

    def _theirs(self, number: int, quantity: str) -> Array | None:
        arrays = self._trace.iterations.get(self._first + number, {})
        if quantity == "direction":
            return _flat(arrays, "direction_", self._trace)
        if quantity not in arrays:
            return None
        return np.atleast_1d(arrays[quantity]) - (self._counted_before if quantity == "evaluations" else 0.0)


def _recorded(trace: Trace) -> dict[int, _Recorded]:
    """Return the recorded weights by the number of iterations since the first."""
    first = min(trace.iterations)
    found = {}
    for iteration, arrays in trace.iterations.items():
        x = _flat(arrays, "", trace)
        if x is None:
            continue
        step, direction = _flat(arrays, "step_", trace), _flat(arrays, "direction_", trace)
        if step is None and direction is not None and "length" in arrays:
            step = arrays["length"] * direction
        found[iteration - first] = _Recorded(x, _flat(arrays, "grad_", trace), step)
    return found


def _flat(arrays: Arrays, prefix: str, trace: Trace) -> Array | None:
    """Return the arrays of all layers as a vector [parameters]; None where one is missing or of another shape."""
    layers = trace.layers
    names = [(f"{prefix}W{k}", f"{prefix}b{k}") for k in range(1, len(layers))]
    shapes = [((before, after), (after,)) for before, after in itertools.pairwise(layers)]
    parts = []
    for pair, wanted in zip(names, shapes, strict=True):
        if any(name not in arrays or arrays[name].shape != shape for name, shape in zip(pair, wanted, strict=True)):
            return None
        parts.append((arrays[pair[0]], arrays[pair[1]]))
    return flatten(parts)


def _whole(vector: Array) -> Array:
    return vector


def _difference(place: Place, theirs: Array, vectors: list[Array], epsilon: float) -> Difference:
    """Return how far an array is from ours, the first of `vectors`; the others are those of shaken replays."""
    own, *others = (np.asarray(vector, dtype=np.float64) for vector in vectors)
    values = np.atleast_1d(theirs)
    if values.shape != own.shape:
        return Difference(place, np.inf, np.inf, np.inf, f"shape {values.shape} instead of {own.shape}")
    largest = float(np.abs(own).max())
    rounding = max(epsilon * largest, *(float(np.abs(each - own).max()) for each in others), np.finfo(float).tiny)
    size = float(np.abs(values - own).max())
    if not np.isfinite(size):
        return Difference(place, np.inf, np.inf, np.inf, "not finite")
    return Difference(place, size, size / largest if largest else np.inf if size else 0.0, size / rounding)


def _off(own: Array, theirs: Array) -> float:
    """Return how far a vector is from another, relative to its length."""
    length = float(np.linalg.norm(theirs))
    return float(np.linalg.norm(own - theirs)) / length if length else float(np.any(own))


def _share(
    quantity: str, own: Mapping[int, Array], theirs: Mapping[int, Array], rounding: Mapping[int, float]
) -> float:
    """Return the share of iterations in which a decision agrees; `rounding` is that of each, relative."""
    return float(np.mean([_agrees(quantity, own[n], values, rounding[n]) for n, values in theirs.items()]))


def _agrees(quantity: str, own: Array, theirs: Array, rounding: float) -> bool:
    if quantity == "direction":
        return _off(own, theirs) <= max(BEYOND * rounding, _SMALLEST)
    if quantity == "length":
        low, high = sorted((abs(float(own[0])), abs(float(theirs[0]))))
        return high <= _FACTOR * low or high == low
    return bool(own[0] == theirs[0])


# ---- explanations --------------------------------------------------------------------------------------------------


def compare_second_stage(
    trace: Trace, evaluate: Evaluate, settings: LBFGSSettings
) -> tuple[list[Difference], list[Explanation]]:
    """Return the differences of the iterations of a trace from ours, and what explains them, the best first.

    The replay starts at the first recorded iteration, which must be that with which the second stage began. Without a
    difference beyond rounding nothing is tried. Both are empty where no iteration has weights to start from.
    """
    if not trace.iterations or 0 not in _recorded(trace):
        return [], []
    method, evaluate = Method.of(settings), _Remembering(evaluate)
    differences = list(_Following(trace, evaluate, method).differences(whole=True))
    if not any(difference.is_beyond for difference in differences):
        return differences, []
    explanations = []
    for name, sentence, written, changes in _changes(trace, method):
        changed = list(_Following(trace, evaluate, dataclasses.replace(method, **changes)).differences(whole=False))
        parts = next((difference for difference in changed if difference.is_beyond), None)
        explanations.append(Explanation(name, sentence, written, parts, len(changed) - (parts is not None)))
    explanations.sort(key=_rank)
    return differences, explanations


def _rank(explanation: Explanation) -> tuple[int, float]:
    parts = explanation.parts_at
    return (-1, 0.0) if parts is None else (0, -parts.place.step - explanation.agreeing * 1e-6)


def _changes(trace: Trace, method: Method) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Yield what can be another: name, sentence, settings to write, fields of `Method`."""
    for curvature, which in (("torch", "y's > 1e-10"), ("relative", "y's > eps y'y")):
        if curvature != method.curvature:
            sentence = f"The other program keeps the curvature pairs with {which}."
            yield f"lbfgs_curvature: {curvature}", sentence, {"lbfgs_curvature": curvature}, {"curvature": curvature}
    yield "no curvature test", "The other program keeps every curvature pair.", {}, {"curvature": "none"}
    for first in (1.0, 1e-3, 0.1):
        if first != method.first_step:
            sentence = f"Line searches of the other program start at {first:g}."
            yield f"first_step: {first:g}", sentence, {"first_step": first}, {"first_step": first}
    sentence = "The other program does not shorten the first step to 1/|g|_1."
    yield "first step not shortened", sentence, {}, {"is_first_shortened": False}
    for history in (5, 10, 20, 50, 100, 5000):
        if history != method.history:
            sentence = f"The other program keeps {history} curvature pairs."
            yield f"lbfgs_history: {history}", sentence, {"lbfgs_history": history}, {"history": history}
    yield "no line search", "The other program takes every step at its full length.", {}, {"search": "fixed"}
    sentence = "The other program halves the step until the loss falls enough (Armijo)."
    yield "line search: Armijo", sentence, {}, {"search": "armijo"}
    for calls in dict.fromkeys((1, max(trace.iterations) - min(trace.iterations), 20)):
        sentence = (
            f"torch.optim.LBFGS with max_iter = {calls} ends line searches at max_eval = {calls * 5 // 4} evaluations "
            "of a call; give it a large max_eval."
        )
        yield f"max_eval with max_iter {calls}", sentence, {}, {"calls": calls}
    none = {"tolerance_grad": 0.0, "tolerance_change": 0.0}
    yield "no tolerance", "The other program goes on where our tests of tolerance end the stage.", none, none
