"""A trace read from a file: its manifest and arrays checked, all mistakes of it named at once."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from ..data.points import FieldData, Points
from ..errors import PinnError, SettingError, TraceError
from ..networks import Layers
from ..problems import PROBLEMS, Problem, problem_class
from ..problems.nonlocal_strain import NonlocalStrain
from ..problems.source import find_problem, is_reference
from ..settings import NonNegativeInt, PositiveInt, TrainSettings, broken_rule, hints
from .archives import MANIFEST, Archive, read_archive
from .trace import FORMAT, Array, Arrays, Trace

_MANIFEST: Final[Mapping[str, Any]] = {  # the keys of a manifest with their rules
    "format": Literal["pinnsweep trace 1"],
    "framework": str,
    "version": str,
    "dtype": Literal["float32", "float64"],
    "layers": tuple[PositiveInt, ...],
    "weights": Literal["in_out", "out_in"],
    "derivatives": Literal["inputs", "coordinates"],
    "seed": NonNegativeInt | None,
    "settings": dict,
    "problem": dict,
}
_OWN: Final = ("framework", "version", "dtype", "layers", "weights", "derivatives", "seed")  # keys that may be replaced
_OF_NETWORK: Final = ("width", "depth", "dtype")  # settings that the weights decide
_MOST_STEPS: Final = 1_000_000
_STEP: Final = re.compile(r"(step|epoch|iteration)(\d{1,7})/(.+)")
_PARAMETER: Final = re.compile(r"(?:(?:grad|m|v|update|direction|step)_)?([Wb])([1-9]\d{0,3})")
_NUMBERS: Final = ("loss", "length", "evaluations")
_SERIES: Final = ("loss_terms_by_step", "loss_terms_by_epoch")
_OLD: Final = ("layers", "lr", "seed")  # arrays of the layout without a manifest
_TENSORFLOW: Final[Mapping[str, Any]] = {  # what that layout means
    "format": FORMAT,
    "framework": "tensorflow",
    "settings": {"first_stage": "adam", "adam_convention": "tf1", "adam_eps": 1e-8, "iterations": 0},
    "problem": {
        "name": "nonlocal_strain",
        "inputs": ["x", "y", "g", "elocal"],
        "scale_scope": "all",
        "strain_multiplier": 10.0,
        "loss": "norm",
        "data": "strb100",
    },
}
_TRUTH: Final = "enonlocal_true"  # symbol of the reference among the points
_SAME: Final = 1e-5  # relative; points and data that are those of a data set, also in float32


def read_trace(file: str | Path, settings: Mapping[str, Any] | None = None) -> Trace:
    """Read a trace.

    `settings` replace what the manifest says: settings of the training or of the problem, `problem` (its name) or a key
    of the manifest such as `derivatives`. Raises `TraceError` with every mistake of the manifest, or with the first of
    the arrays.
    """
    source = str(file)
    archive = read_archive(file)
    mistakes: list[str] = []
    manifest, notes = _manifest(archive, source)
    stated = _Stated.of(manifest, settings or {}, mistakes, notes)
    if stated is None:
        raise _refusal(source, mistakes)
    return _Reader(source, archive, stated, notes).trace()


def training_of(trace: Trace) -> tuple[TrainSettings, Problem]:
    """Return the settings of a trace's training, and its problem on the points of the trace.

    Where hidden layers differ, `width` is that of the first. Raises `TraceError` for layers that do not fit the problem
    and points that do not, and `PinnError` where the problem's own data cannot be read.
    """
    width, depth = trace.layers[1], len(trace.layers) - 2
    train = TrainSettings(**{**trace.settings, "width": width, "depth": depth, "dtype": trace.dtype})
    problem = _problem(trace.problem)
    ends = (len(problem.input_columns), len(problem.outputs))
    if (trace.layers[0], trace.layers[-1]) != ends:
        raise TraceError(
            f"{trace.source}: its network has layers {_dashes(trace.layers)}, and {problem.name} with inputs "
            f"{', '.join(column.symbol for column in problem.input_columns)} needs {ends[0]} inputs and {ends[1]} "
            "outputs. State other settings of the problem, such as inputs"
        )
    if not trace.points:
        return train, problem
    try:
        return train, with_points(problem, trace.points)
    except TraceError as mistake:
        raise TraceError(f"{trace.source}: {mistake}") from None


def with_points(problem: Problem, points: Mapping[str, Arrays]) -> Problem:
    """Return a problem on given points [points] by loss term and symbol, physical, instead of its own.

    Raises `TraceError` where a term or a quantity is missing.
    """
    groups = problem.groups
    if any(group.is_coupled for group in groups):
        raise TraceError("the nodes of a loss that couples them are those of its data: leave the points out")
    given = [next((term for term in group.terms if term in points), None) for group in groups]
    equations = {term for term in problem.written.equations if term in points}
    for number, group in enumerate(groups):  # equations have the same points
        if given[number] is None and group.terms[0] in problem.written.equations:
            given[number] = next(iter(equations), None)
    if None in given:
        missing = [group.terms[0] for group, term in zip(groups, given, strict=True) if term is None]
        raise TraceError(
            f"it has points of {', '.join(points)}, but none of {', '.join(missing)}. Give the points of every loss "
            "term, or none, which takes those of the problem"
        )
    sets = {str(term): points[str(term)] for term in given}
    known = set(problem.symbol_values())
    for term, group in zip(given, groups, strict=True):
        needed = [column.symbol for column in problem.input_columns]
        needed += sorted({str(s) for column in group.columns for s in column.free_symbols} - known)
        absent = [symbol for symbol in dict.fromkeys(needed) if symbol not in sets[str(term)]]
        if absent:
            raise TraceError(f"the points of {term} have no {', '.join(absent)}: add points/{term}/{absent[0]}")
    if isinstance(problem, NonlocalStrain):
        return problem.with_tables(_tables(problem, sets))
    again = dataclasses.replace(problem)
    kept = {name: value for name, value in vars(problem).items() if name not in vars(again)}
    kept.pop("data_sha256", None)
    vars(again).update(kept, point_sets=tuple(problem.at(str(term), points[str(term)]) for term in given))
    return again


def _tables(problem: NonlocalStrain, sets: Mapping[str, Arrays]) -> FieldData:
    """Return the tables of a trace's points, with the reference of the problem's data where these are the same."""
    tables = {}
    for term, values in sets.items():
        zeros = np.zeros(len(values["x"]))  # where the loss does not need them
        tables[term] = Points(
            values["x"], values["y"], values.get("g", zeros), values.get("elocal", zeros), values.get(_TRUTH)
        )
    gauss = tables["residual"]
    if gauss.enonlocal_true is None:
        gauss = dataclasses.replace(gauss, enonlocal_true=_reference(problem, gauss))
    return FieldData("trace", gauss, tables["lrb"], tables["btb"], 1, ("points of the trace",))


def _reference(problem: NonlocalStrain, gauss: Points) -> Array | None:
    try:
        own = problem.tables.gauss
    except PinnError:  # the data are not at hand, and not needed
        return None
    names = ("x_mm", "y_mm", "g_mm2", "elocal")
    if len(own) != len(gauss):
        return None
    is_same = all(_is_same(getattr(own, name), getattr(gauss, name)) for name in names)
    return own.enonlocal_true if is_same else None


def _is_same(one: Array, other: Array) -> bool:
    return bool(np.abs(one - other).max() <= _SAME * np.abs(one).max())


def _problem(stated: Mapping[str, Any]) -> Problem:
    kind = _class_of(stated["name"])
    return kind(**{name: value for name, value in stated.items() if name != "name"})


def _class_of(name: str) -> type[Problem]:
    return find_problem(name, Path()).problem_class if is_reference(name) else problem_class(name)


# ---- the manifest --------------------------------------------------------------------------------------------------


def _manifest(archive: Archive, source: str) -> tuple[dict[str, Any], list[str]]:
    """Return the manifest of a file, or that of the layout without one, and notes."""
    if MANIFEST in archive.texts:
        try:
            manifest = json.loads(archive.texts[MANIFEST])
        except (ValueError, RecursionError) as problem:
            raise TraceError(f"{source}: its manifest is not JSON ({problem})") from None
        if not isinstance(manifest, dict):
            raise TraceError(f"{source}: its manifest must be an object, {{...}}, not {type(manifest).__name__}")
        return manifest, []
    if not any(name.startswith("epoch") and "/" in name for name in archive.arrays):
        raise TraceError(
            f"{source} has no manifest. A trace has a text `manifest` in JSON, such as "
            f'{{"format": "{FORMAT}", "framework": "torch", "problem": {{"name": "nonlocal_strain"}}}}'
        )
    manifest = json.loads(json.dumps(_TENSORFLOW))  # a copy
    manifest["version"] = archive.texts.get("tensorflow", "")
    if "layers" in archive.arrays:
        manifest["layers"] = [_whole(n) for n in archive.arrays["layers"].reshape(-1)]
    if archive.arrays.get("seed", np.zeros(0)).size == 1:
        manifest["seed"] = _whole(archive.arrays["seed"].reshape(()))
    if archive.arrays.get("lr", np.zeros(0)).size == 1:
        manifest["settings"]["adam_lr"] = float(archive.arrays["lr"].reshape(()))
    return manifest, [
        "it has no manifest: Adam of TensorFlow 1 and the published problem on strb100 are assumed (inputs x, y, g and "
        "elocal as they are, elocal times 10, the norm loss)"
    ]


def _whole(number: Any) -> Any:
    """Return a number that is whole as one."""
    return int(number) if np.isfinite(number) and number == int(number) else float(number)


@dataclasses.dataclass(frozen=True)
class _Stated:
    """What a manifest and the user say, checked."""

    own: Mapping[str, Any]  # keys of the manifest
    settings: Mapping[str, Any]
    problem: Mapping[str, Any]  # with its name
    terms: tuple[str, ...]
    coordinates: tuple[str, ...]

    @staticmethod
    def of(
        manifest: Mapping[str, Any], replaced: Mapping[str, Any], mistakes: list[str], notes: list[str]
    ) -> _Stated | None:
        """Return what is stated, None with mistakes."""
        own = {key: _as_tuple(value, _MANIFEST[key]) for key, value in manifest.items() if key in _MANIFEST}
        unknown = [key for key in manifest if key not in _MANIFEST]
        if unknown:
            mistakes.append(f"manifest: unknown {_named(unknown)}; possible are {', '.join(_MANIFEST)}")
        if isinstance(own.get("problem"), str):
            own["problem"] = {"name": own["problem"]}
        if "format" not in own:
            mistakes.append(f"manifest: it has no format, which must be {FORMAT!r}")
        mistakes += [
            f"manifest: {key} {rule}, got {value!r}"
            for key, value in own.items()
            if (rule := broken_rule(value, _MANIFEST[key]))
        ]
        train, problem = own.get("settings", {}), own.get("problem", {})
        train, problem = (dict(part) if isinstance(part, dict) else {} for part in (train, problem))
        name = replaced.get("problem", problem.get("name"))
        if isinstance(name, str) and is_reference(name) and "problem" not in replaced:
            mistakes.append(
                f"problem: {name} is code, which a trace cannot have executed. Name it yourself, as problem={name}"
            )
            kind = None
        else:
            kind = _kind(name, mistakes)
        own, train, problem = _replaced(own, train, problem, kind, replaced, mistakes, notes)
        problem["name"] = name
        train, record = _checked("settings", train, TrainSettings, mistakes), None
        if "dtype" in own and "dtype" in train and train["dtype"] != own["dtype"]:
            mistakes.append(f"settings: dtype is {train['dtype']}, but {own['dtype']} beside the settings")
        if kind is not None:
            values = {key: value for key, value in problem.items() if key != "name"}
            checked = _checked("problem", values, kind, mistakes)
            problem = {"name": name, **checked}
            record = _made(kind, checked, "problem", mistakes)
        _made(TrainSettings, {k: v for k, v in train.items() if k not in ("width", "depth")}, "settings", mistakes)
        if mistakes or record is None:
            return None
        own.setdefault("dtype", train.get("dtype"))
        coordinates = tuple(column.symbol for column in record.coordinates)
        return _Stated(own, train, problem, record.terms, coordinates)


def _replaced(
    own: dict[str, Any],
    train: dict[str, Any],
    problem: dict[str, Any],
    kind: type[Problem] | None,
    replaced: Mapping[str, Any],
    mistakes: list[str],
    notes: list[str],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Put what the user states in place of what the manifest says."""
    of_problem = hints(kind) if kind is not None else {}
    for key, value in replaced.items():
        if key == "problem":
            into, before = problem, problem.get("name")
        elif key in _OWN:
            into, before = own, own.get(key)
            value = _as_tuple(value, _MANIFEST[key])
            if rule := broken_rule(value, _MANIFEST[key]):
                mistakes.append(f"{key} {rule}, got {value!r}")
            train.pop(key, None)
            into[key] = value
        elif key in hints(TrainSettings) or key in of_problem:
            into = train if key in hints(TrainSettings) else problem
            before = into.get(key)
            into[key] = value
        elif kind is not None:
            possible = ("problem", *_OWN, *hints(TrainSettings), *of_problem)
            mistakes.append(f"unknown setting {key!r}; possible are {', '.join(dict.fromkeys(possible))}")
            continue
        else:
            continue
        said = "the manifest says nothing of it" if before is None else f"the manifest says {_text(before)}"
        notes.append(f"{key} is {_text(value)} as stated beside the trace; {said}")
    return own, train, problem


def _kind(name: Any, mistakes: list[str]) -> type[Problem] | None:
    """Return the class of a problem; None with a mistake where there is none."""
    if not isinstance(name, str):
        said = "it names none" if name is None else f"its name must be a text, got {name!r}"
        mistakes.append(f'problem: {said}; write {{"name": ...}} with one of {", ".join(PROBLEMS)}')
        return None
    try:
        return _class_of(name)
    except KeyError:
        mistakes.append(f"problem: there is none called {name!r}; possible are {', '.join(PROBLEMS)}")
    except PinnError as mistake:
        mistakes.append(f"problem: {mistake}")
    return None


def _checked(where: str, values: Mapping[str, Any], kind: Any, mistakes: list[str]) -> dict[str, Any]:
    """Return settings with tuples where these are needed; mistakes are added."""
    rules = hints(kind)
    unknown = [key for key in values if key not in rules]
    if unknown:
        mistakes.append(f"{where}: unknown {_named(unknown)}; possible are {', '.join(rules)}")
    checked = {key: _as_tuple(value, rules[key]) for key, value in values.items() if key in rules}
    mistakes += [
        f"{where}: {key} {rule}, got {_text(value)}"
        for key, value in checked.items()
        if (rule := broken_rule(value, rules[key]))
    ]
    return checked


def _made(kind: Any, values: Mapping[str, Any], where: str, mistakes: list[str]) -> Any:
    """Return a record of settings; None with a mistake where rules that involve several of them are broken."""
    try:
        return kind(**values)
    except SettingError as mistake:
        if not any(said.startswith(f"{where}: {mistake.field} ") for said in mistakes):
            mistakes.append(f"{where}: {mistake}")
    except PinnError as mistake:
        mistakes.append(f"{where}: {mistake}")
    return None


def _as_tuple(value: Any, hint: Any) -> Any:
    """Return a list as a tuple where the rule asks for one, since JSON has none."""
    arguments = typing.get_args(hint)
    if not isinstance(value, list):
        return value
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    is_open = typing.get_origin(hint) in (typing.Union, types.UnionType, typing.Annotated)
    return (
        next((t for t in (_as_tuple(value, a) for a in arguments) if isinstance(t, tuple)), value) if is_open else value
    )


def _named(names: list[str]) -> str:
    return ("keys " if len(names) > 1 else "key ") + ", ".join(map(repr, names))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(list(value) if isinstance(value, tuple) else value)


def _refusal(source: str, mistakes: list[str]) -> TraceError:
    if len(mistakes) == 1:
        return TraceError(f"{source}: {mistakes[0]}")
    lines = "".join(f"\n- {mistake}" for mistake in mistakes)
    return TraceError(f"{source}: {len(mistakes)} mistakes{lines}")


# ---- the arrays ----------------------------------------------------------------------------------------------------


class _Reader:
    """The arrays of a file, sorted into a trace. Its methods raise `TraceError`."""

    def __init__(self, source: str, archive: Archive, stated: _Stated, notes: list[str]) -> None:
        self._source, self._archive, self._stated, self._notes = source, archive, stated, notes
        self._steps: dict[int, dict[str, Array]] = {}
        self._iterations: dict[int, dict[str, Array]] = {}
        self._points: dict[str, dict[str, Array]] = {}
        self._series: Array | None = None

    def trace(self) -> Trace:
        """Return the trace."""
        self._check_types()
        self._sort()
        if not self._steps and not self._iterations:
            raise self._error("it has no step: arrays are named step0/W1, step0/b1, step0/u, iteration0/W1, ...")
        start = self._steps or self._iterations
        first = min(start)
        where = f"{'step' if self._steps else 'iteration'} {first}"
        layers, is_turned = self._layers(start[first], where)
        for steps, unit in ((self._steps, "step"), (self._iterations, "iteration")):
            for number, arrays in steps.items():
                steps[number] = {
                    name: self._shaped(name, array, layers, is_turned, f"{unit} {number}")
                    for name, array in arrays.items()
                }
        own, points = self._stated.own, self._checked_points()
        return Trace(
            source=self._source,
            framework=own.get("framework", "unknown"),
            version=own.get("version", ""),
            dtype=self._dtype(where),
            layers=layers,
            settings=self._settings(layers),
            problem=self._stated.problem,
            derivatives=own.get("derivatives", "inputs"),
            seed=own.get("seed"),
            steps=dict(sorted(self._steps.items())),
            iterations=dict(sorted(self._iterations.items())),
            loss_terms_by_step=self._terms_by_step(),
            points=points,
            notes=tuple(self._notes),
        )

    def _error(self, message: str) -> TraceError:
        return TraceError(f"{self._source}: {message}")

    def _check_types(self) -> None:
        for name, kind in self._archive.dtypes.items():
            if kind.startswith(("float", "longdouble")) and kind not in ("float32", "float64"):
                raise self._error(f"{name} is {kind}; arrays must be float32 or float64, whole numbers may be integers")

    def _sort(self) -> None:
        """Sort arrays by their names."""
        others = []
        for name, array in self._archive.arrays.items():
            if match := _STEP.fullmatch(name):
                unit, digits, rest = match.groups()
                steps, number = self._iterations if unit == "iteration" else self._steps, int(digits)
                if number > _MOST_STEPS:
                    raise self._error(f"{name}: steps up to {_MOST_STEPS:,} can be compared")
                if rest in steps.setdefault(number, {}):
                    raise self._error(f"two of its arrays are {rest} of {unit} {number}")
                steps[number][rest] = array
            elif name.startswith("points/") and name.count("/") == 2:
                _, term, symbol = name.split("/")
                self._points.setdefault(term, {})[symbol] = array
            elif name in _SERIES:
                self._series = array
            elif name not in _OLD:
                others.append(name)
        if others:
            more = "" if len(others) <= 5 else f" and {len(others) - 5} more"
            self._notes.append(f"arrays with unknown names are passed over: {', '.join(others[:5])}{more}")

    def _layers(self, arrays: Mapping[str, Array], where: str) -> tuple[Layers, bool]:
        """Return the layers by the weights of the first step, and whether these are (out, in)."""
        count = max((int(n) for name in arrays for n in re.findall(r"^[Wb]([1-9]\d{0,3})$", name)), default=0)
        missing = [f"{kind}{level}" for level in range(1, count + 1) for kind in "Wb" if f"{kind}{level}" not in arrays]
        if not count or missing:
            said = f"no {', '.join(missing[:6])}" if count else "no weights"
            raise self._error(
                f"{where}, the first one, has {said}. A replay starts there, and needs W1, b1, W2, ... of all layers; "
                "write zeros for layers without bias"
            )
        shapes = [arrays[f"W{level}"].shape for level in range(1, count + 1)]
        sizes = [arrays[f"b{level}"].size for level in range(1, count + 1)]
        listed = ", ".join(f"W{level} {shape}" for level, shape in enumerate(shapes, 1))
        if any(len(shape) != 2 for shape in shapes):
            raise self._error(f"{where}: weights must have two dimensions, and are {listed}")
        fitting = {
            is_turned: chain
            for is_turned in (False, True)
            if (chain := _chain([shape[::-1] if is_turned else shape for shape in shapes], sizes))
        }
        if not fitting:
            raise self._error(
                f"{where}: its weights fit no chain of layers, neither as (in, out) nor as (out, in): {listed}; "
                f"biases of {', '.join(map(str, sizes))}"
            )
        stated = self._stated.own.get("weights")
        is_turned = (stated == "out_in") if (stated == "out_in") in fitting else next(iter(fitting))
        if is_turned:
            by = "the manifest" if stated == "out_in" else "their shapes"
            self._notes.append(f"weights are (out, in) by {by}, and were transposed")
        elif stated == "out_in":
            self._notes.append("the manifest says that weights are (out, in), but by their shapes they are (in, out)")
        layers, wanted = fitting[is_turned], self._stated.own.get("layers")
        if wanted is not None and tuple(wanted) != layers:
            raise self._error(f"its weights have layers {_dashes(layers)}, but the manifest says {_dashes(wanted)}")
        if len(layers) < 3:
            raise self._error(f"its network has layers {_dashes(layers)}, and must have a hidden layer")
        return layers, is_turned

    def _shaped(self, name: str, array: Array, layers: Layers, is_turned: bool, where: str) -> Array:
        """Return an array as traces hold it; one of another shape stays as it is."""
        if match := _PARAMETER.fullmatch(name):
            kind, level = match[1], int(match[2])
            if level >= len(layers):
                raise self._error(f"{where}: there is a {name}, but the layers are {_dashes(layers)}")
            wanted = (layers[level],) if kind == "b" else (layers[level - 1], layers[level])
            if kind == "W" and is_turned and array.ndim == 2:
                array = array.T
            if kind == "b" and array.size == layers[level]:
                array = array.reshape(-1)
            if len(name) == len(match[1] + match[2]):  # weights, from which a replay starts
                if array.shape != wanted:
                    raise self._error(f"{where}: {name} has the shape {array.shape}, and must have {wanted}")
                if not np.isfinite(array).all():
                    raise self._error(f"{where}: {name} holds {array[~np.isfinite(array)][0]}; record up to there")
            return array
        if name in _NUMBERS:
            return array.reshape(()) if array.size == 1 else array
        if name == "loss_terms":
            if array.size != len(self._stated.terms):
                raise self._terms_error(f"{where}: loss_terms has {array.size} numbers", array)
            return array.reshape(-1)
        is_column = array.ndim == 2 and array.shape[1] == 1
        is_row = self._archive.is_matlab and array.ndim == 2 and array.shape[0] == 1 and array.size > 0
        return array.reshape(-1) if is_column or is_row else array

    def _terms_error(self, said: str, array: Array) -> TraceError:
        terms = self._stated.terms
        return self._error(f"{said}, and {self._stated.problem['name']} has {len(terms)} terms: {', '.join(terms)}")

    def _terms_by_step(self) -> Array | None:
        if self._series is None:
            return None
        series, terms = self._series, len(self._stated.terms)
        if terms == 1 and series.size == max(series.shape, default=1):
            series = series.reshape(-1, 1)
        if series.ndim != 2 or series.shape[1] != terms:
            raise self._terms_error(f"the loss terms by step have the shape {series.shape}", series)
        return series

    def _checked_points(self) -> dict[str, Arrays]:
        found: dict[str, Arrays] = {}
        for term, values in self._points.items():
            if term not in self._stated.terms:
                raise self._error(
                    f"it has points of {term}, which is no loss term of {self._stated.problem['name']}; these are "
                    f"{', '.join(self._stated.terms)}"
                )
            missing = [symbol for symbol in self._stated.coordinates if symbol not in values]
            if missing:
                raise self._error(f"the points of {term} have no {', '.join(missing)}: add points/{term}/{missing[0]}")
            counts = {symbol: array.size for symbol, array in values.items()}
            if len(set(counts.values())) > 1 or not all(counts.values()):
                listed = ", ".join(f"{symbol} {count}" for symbol, count in counts.items())
                raise self._error(f"the arrays of the points of {term} must have the same number of points: {listed}")
            for symbol, array in values.items():
                if array.size != max(array.shape, default=1):
                    raise self._error(f"points/{term}/{symbol} has the shape {array.shape}, and must have (points,)")
                if not np.isfinite(array).all():
                    raise self._error(f"points/{term}/{symbol} is not finite everywhere")
            found[term] = {symbol: array.reshape(-1) for symbol, array in values.items()}
        return found

    def _dtype(self, where: str) -> str:
        """Return the precision of the training: as stated, else that of the first weights."""
        unit, number = where.split()
        kinds = self._archive.dtypes
        names = (f"{alias}{number}/W1" for alias in (("step", "epoch") if unit == "step" else (unit,)))
        written = next((kinds[name] for name in names if kinds.get(name) in ("float32", "float64")), "float64")
        stated = self._stated.own.get("dtype")
        if stated is None:
            return written
        if written != stated:
            self._notes.append(f"the training is {stated} as stated; its weights were written as {written}")
        return str(stated)

    def _settings(self, layers: Layers) -> dict[str, Any]:
        settings = dict(self._stated.settings)
        depth, widths = settings.get("depth", len(layers) - 2), set(layers[1:-1])
        if depth != len(layers) - 2 or not {settings.get("width", layers[1])} <= widths:
            self._notes.append(f"the settings' width and depth are not those of the weights, {_dashes(layers)}")
        return {name: value for name, value in settings.items() if name not in _OF_NETWORK}


def _chain(shapes: list[tuple[int, ...]], sizes: list[int]) -> Layers | None:
    """Return the layers of weights (in, out) with biases of these sizes; None where they do not fit."""
    fits = all(before[1] == after[0] for before, after in itertools.pairwise(shapes))
    fits &= all(shape[1] == size and shape[0] > 0 and size > 0 for shape, size in zip(shapes, sizes, strict=True))
    return (shapes[0][0], *(shape[1] for shape in shapes)) if fits else None


def _dashes(layers: Any) -> str:
    return "-".join(map(str, layers))
