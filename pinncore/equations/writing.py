"""From the methods that a user writes to checked SymPy expressions; what is wrong there is one message with its line.

Settings that are floats are symbols inside these methods, so one expression serves every value of them. All other
settings keep their values: they decide what is written.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import sympy as sp
from sympy.core.function import AppliedUndef

from ..errors import PinnError, ProblemError
from .channels import TorchCall
from .conditions import NORMAL, Condition
from .texts import Text, text_of

HIGHEST_ORDER: Final = 2


@dataclass(frozen=True, eq=False)
class Written:
    """What a problem says, in symbols: `terms` by name, those of the equations first.

    `fields` are the network's outputs as functions of the coordinates, `outputs` the physical quantities in them;
    `point_symbols` have a number at each point, `settings` one for each network.
    """

    terms: Mapping[str, Any]
    equations: tuple[str, ...]
    fields: tuple[Any, ...]
    outputs: Mapping[str, Any]
    coordinates: tuple[Any, ...]
    point_symbols: tuple[Any, ...]
    settings: tuple[Any, ...]
    texts: Mapping[str, Text]


class Writer:
    """The symbols of one structure of a problem class, and calls of its methods with them.

    `names` are those of coordinates, outputs, known data and float settings; `symbolic` is an instance whose float
    settings are symbols, `sizes` the outputs with a reference size.
    """

    def __init__(
        self,
        symbolic: Any,
        *,
        coordinates: tuple[str, ...],
        outputs: tuple[str, ...],
        known: tuple[str, ...],
        settings: tuple[str, ...],
        sizes: tuple[str, ...],
    ) -> None:
        self.symbolic, self.kind = symbolic, type(symbolic)
        self.coordinates = {name: sp.Symbol(name, real=True) for name in coordinates}
        self.known = {name: sp.Symbol(name, real=True) for name in known}
        self.normals = {f"{NORMAL}{name}": sp.Symbol(f"{NORMAL}{name}", real=True) for name in coordinates}
        self.settings = {name: sp.Symbol(name, real=True) for name in settings}
        self.sizes = {name: sp.Symbol(f"size_{name}", real=True, positive=True) for name in sizes}
        self.outputs = {name: _output(name, self.coordinates) for name in outputs}
        self.fields = {name: _output(f"N_{name}", self.coordinates) for name in outputs}

    def written(self) -> Written:
        """Return the checked equations and conditions. Raises `ProblemError`."""
        equations = self._equations()
        conditions = {condition.name: condition.residual for condition in self._conditions()}
        if twice := sorted(set(equations) & set(conditions)):
            raise self.error("conditions", f"{', '.join(twice)} is the name of an equation too; loss terms need names")
        terms = {**equations, **conditions}
        if not terms:
            raise self.error("equations", "there is neither an equation nor a condition")
        outputs = self._outputs()
        checked = {name: self._checked(name, residual, outputs) for name, residual in terms.items()}
        used = set().union(*(_atoms(residual, AppliedUndef) for residual in checked.values()))
        for name, field in self.fields.items():
            if field not in used:
                raise self.error("equations", f"the output {name} is in no equation and in no condition")
        return Written(
            checked,
            tuple(equations),
            tuple(self.fields.values()),
            outputs,
            tuple(self.coordinates.values()),
            (*self.coordinates.values(), *self.known.values(), *self.normals.values()),
            (*self.settings.values(), *self.sizes.values()),
            {name: text_of(residual, self.outputs) for name, residual in terms.items()},
        )

    def call(self, method: str, instance: Any, arguments: Mapping[str, Any]) -> Any:
        """Call a method of a user's class with its parameters by name. Raises `ProblemError` for what it raises."""
        function = getattr(instance, method)
        names = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
        if unknown := [name for name in names if name not in arguments]:
            raise self.error(
                method,
                f"its parameter {unknown[0]} is neither an output, a coordinate nor known data: "
                f"{', '.join(arguments)} are",
            )
        try:
            return function(**{name: arguments[name] for name in names})
        except PinnError as problem:
            raise self.error(method, str(problem), problem) from None
        except Exception as problem:
            raise self.error(method, _explained(problem), problem) from None

    def conditions_of(self, instance: Any) -> tuple[Condition, ...]:
        """Return the conditions of an instance with numbers, for their regions and weights. Raises `ProblemError`."""
        returned = self.call("conditions", instance, self._symbols)
        if not isinstance(returned, (list, tuple)) or not all(isinstance(each, Condition) for each in returned):
            raise self.error("conditions", f"must return a list of Condition, not {_kind(returned)}")
        names = [condition.name for condition in returned]
        if len(set(names)) < len(names):
            raise self.error("conditions", f"two of the conditions {', '.join(map(str, names))} have one name")
        for name in names:
            self._check_name("conditions", name)
        return tuple(returned)

    def error(self, method: str, message: str, problem: BaseException | None = None) -> ProblemError:
        """Return an error in a method of the class, with file and line: of the exception, else of the method."""
        file, line = self._place(method, problem)
        return ProblemError(f"{file}, line {line}: {self.kind.__name__}.{method}: {message}")

    def _place(self, method: str, problem: BaseException | None) -> tuple[str, int]:
        file = inspect.getsourcefile(self.kind) or "?"
        if problem is not None:
            lines = [f.lineno for f in traceback.extract_tb(problem.__traceback__) if f.filename == file]
            if lines and lines[-1]:
                return file, lines[-1]
        definition = inspect.unwrap(getattr(self.kind, method, self.kind))
        try:
            return file, inspect.getsourcelines(definition)[1]
        except (OSError, TypeError):
            return file, 1

    @property
    def _symbols(self) -> dict[str, Any]:
        return {**self.outputs, **self.coordinates, **self.known}

    def _equations(self) -> dict[str, Any]:
        returned = self.call("equations", self.symbolic, self._symbols)
        returned = getattr(returned, "equations", returned)  # an object of PhysicsNeMo-Sym
        if not isinstance(returned, Mapping):
            raise self.error("equations", f"must return a dictionary of expressions by name, not {_kind(returned)}")
        for name in returned:
            self._check_name("equations", name)
        return dict(returned)

    def _conditions(self) -> tuple[Condition, ...]:
        return self.conditions_of(self.symbolic)

    def _check_name(self, method: str, name: object) -> None:
        if not isinstance(name, str) or not name.isidentifier():
            raise self.error(method, f"a loss term must have a name of letters, digits and _, not {name!r}")

    def _outputs(self) -> dict[str, Any]:
        """Return every physical output in the network's outputs: with its reference size and hard conditions."""
        sized = {name: self.sizes.get(name, sp.Integer(1)) * field for name, field in self.fields.items()}
        returned = self.call("transform", self.symbolic, self._symbols)
        if returned is None:
            return sized
        if not isinstance(returned, Mapping):
            returned = dict.fromkeys(self.outputs, returned) if len(self.outputs) == 1 else returned
        if not isinstance(returned, Mapping) or not set(returned) <= set(self.outputs):
            raise self.error("transform", f"must return expressions by output, {', '.join(self.outputs)}")
        inner = {self.outputs[name]: sized[name] for name in self.outputs}
        transformed = {}
        for name, output in self.outputs.items():
            expression = self._ours("transform", returned.get(name, output))
            if expression.atoms(sp.Derivative):
                raise self.error("transform", f"{name} must not contain derivatives")
            transformed[name] = expression.xreplace(inner)
        return transformed

    def _checked(self, name: str, residual: Any, outputs: Mapping[str, Any]) -> Any:
        method = "equations" if name not in {c.name for c in self._conditions()} else "conditions"
        if isinstance(residual, TorchCall):
            return replace(
                residual, arguments=tuple(self._inner(method, name, each, outputs) for each in residual.arguments)
            )
        return self._inner(method, name, residual, outputs)

    def _inner(self, method: str, name: str, residual: Any, outputs: Mapping[str, Any]) -> Any:
        """Return a residual in the network's outputs, checked."""
        expression = self._ours(method, residual, name)
        allowed = {*self.coordinates.values(), *self.known.values(), *self.settings.values()}
        if method == "conditions":
            allowed |= set(self.normals.values())
        if unknown := sorted(map(str, expression.free_symbols - allowed)):
            known = ", ".join(sorted(map(str, allowed)))
            raise self.error(method, f"{name}: the symbol {unknown[0]} is unknown; known are {known}")
        for applied in expression.atoms(AppliedUndef):
            if applied not in self.outputs.values():
                raise self.error(method, f"{name}: {applied} is not an output at the point itself")
        if expression.has(sp.zoo, sp.oo, -sp.oo, sp.nan) or expression.has(sp.I):
            raise self.error(method, f"{name}: {residual} is not finite and real")
        inner = {self.outputs[key]: value for key, value in outputs.items()}
        lowered = expression.subs(inner, simultaneous=True).doit()
        for derivative in lowered.atoms(sp.Derivative):
            if not isinstance(derivative.expr, AppliedUndef):
                raise self.error(method, f"{name}: {derivative} is no derivative of an output")
            if derivative.derivative_count > HIGHEST_ORDER:
                shown = derivative.xreplace(dict(zip(self.fields.values(), self.outputs.values(), strict=True)))
                raise self.error(
                    method,
                    f"{name}: {shown} is of order {derivative.derivative_count}; the engines go to order "
                    f"{HIGHEST_ORDER}. Write the equation as a system of lower order",
                )
        return lowered

    def _ours(self, method: str, value: Any, name: str = "") -> Any:
        """Return a value as an expression in our symbols; those of other makers are taken by their names."""
        where = f"{name}: " if name else ""
        if value is None or isinstance(value, (bool, str)):
            raise self.error(method, f"{where}must be an expression, not {_kind(value)}")
        try:
            expression = sp.sympify(value)
        except (sp.SympifyError, TypeError, ValueError):
            raise self.error(method, f"{where}must be an expression, not {_kind(value)}") from None
        if not isinstance(expression, sp.Expr):
            raise self.error(method, f"{where}must be an expression, not {_kind(value)}")
        named = {**self.coordinates, **self.known, **self.settings, **self.normals}
        symbols = {each: named[each.name] for each in expression.free_symbols if each.name in named}
        expression = expression.subs({theirs: ours for theirs, ours in symbols.items() if theirs != ours})
        functions = {
            applied: self.outputs.get(applied.func.__name__, named.get(applied.func.__name__))
            for applied in expression.atoms(AppliedUndef)
            if all(argument in self.coordinates.values() for argument in applied.args)
        }
        others = {applied: ours for applied, ours in functions.items() if ours is not None and ours != applied}
        return expression.subs(others, simultaneous=True).doit()


def _output(name: str, coordinates: Mapping[str, Any]) -> Any:
    """Return an output as a function of the coordinates; its derivatives take symbols of one name for one symbol."""
    function: Any = sp.Function(name, real=True)  # one for all problems with an output of this name: SymPy caches it

    def diff(self: Any, *symbols: Any, **options: Any) -> Any:
        coordinates, ours = {each.name: each for each in self.args if isinstance(each, sp.Symbol)}, []
        for symbol in symbols:
            for part in symbol if isinstance(symbol, (tuple, list)) else (symbol,):
                if isinstance(part, sp.Symbol) and part.name in coordinates:
                    part = coordinates[part.name]
                elif isinstance(part, sp.Symbol):
                    known = ", ".join(coordinates)
                    raise ProblemError(f"{name} is differentiated to {part}, which is no coordinate; {known} are")
                ours.append(part)
        return sp.Derivative(self, *ours, evaluate=True, **options)

    function.diff = diff
    return function(*coordinates.values())


def _atoms(residual: Any, kind: Any) -> set[Any]:
    parts = residual.arguments if isinstance(residual, TorchCall) else (residual,)
    return set().union(*(part.atoms(kind) for part in parts)) if parts else set()


def _kind(value: object) -> str:
    return "None" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"


def _explained(problem: Exception) -> str:
    """Return an exception of a user's method as a sentence, with the usual reason."""
    text = f"{type(problem).__name__}: {problem}"
    if "truth value of Relational" in text:
        return (
            "a float setting is a symbol here and has no value yet, so `if` cannot ask for it. Write sympy.Piecewise, "
            "or make the choice a setting of type bool, int or str"
        )
    numpy_signs = ("loop of ufunc", "Cannot convert expression to float", "cannot convert expression to float")
    if isinstance(problem, (TypeError, AttributeError)) and any(sign in text for sign in numpy_signs):
        return f"functions of numpy and math know no symbols: use those of sympy, such as sympy.sin(u) ({text})"
    return text
