"""Checks of the section search of a study file, in itself and against the space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from typing import TYPE_CHECKING, Any, Final

from ..errors import NOT_GIVEN, Mistake, SweepError
from .combinations import candidates, is_few
from .constraints import ALLOWED, Constraint
from .mistakes import did_you_mean
from .samplers import PRUNERS, SAMPLERS, names

if TYPE_CHECKING:
    from .study_spec import StudySpec

IN_CURVES: Final = ("rel_l2", "loss")  # metrics known while a trial trains
_MOST_TRIED: Final = 100_000  # combinations of the fields of a constraint
_ENOUGH_TRIED: Final = 2000  # combinations, once one of them obeys the constraint


def search_mistakes(spec: StudySpec, *, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield the mistakes in the section search; the fields in `unsure` have a mistake already."""
    yield from _trials(spec, unsure)
    yield from _objectives(spec, unsure)
    yield from _sampler(spec, unsure)
    yield from _pruner(spec, unsure)
    yield from _constraints(spec, unsure)


def _trials(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    search = spec.search
    if unsure & {"sampler", "trials", "list"}:
        return
    if search.trials is None and not search.traits.is_finite:
        finite = names(SAMPLERS, lambda sampler: sampler.is_finite)
        hint = f"For example: trials: 64. Only the samplers {finite} have a number of trials of their own."
        yield Mistake("search.trials", NOT_GIVEN, "must be given", hint)
    if search.traits.reads_list and not spec.listed:
        hint = "Write the configurations as a list of mappings, or name a table."
        yield Mistake("search.list", NOT_GIVEN, f"must be given with the sampler {search.sampler}", hint)
    if not search.traits.reads_list and search.list_ is not None:
        yield Mistake("search.list", NOT_GIVEN, "only the sampler list reads it", "Write sampler: list, or remove it.")


def _objectives(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    if "objective" in unsure:
        return
    for index, objective in enumerate(spec.objectives):
        if objective in spec.objectives[:index]:
            yield Mistake(f"search.objective[{index}]", objective, "appears twice", "Remove one of the two.")
    if len(spec.objectives) == 1:
        return
    if not spec.search.traits.several_objectives and "sampler" not in unsure:
        able = names(SAMPLERS, lambda sampler: sampler.learns and sampler.several_objectives, "or")
        hint = f"Use {able}, or a single objective."
        yield Mistake("search.sampler", spec.search.sampler, "cannot search for several objectives", hint)
    if spec.budget.target is not None and "target" not in unsure:
        hint = "Leave it out, or use a single objective."
        yield Mistake("budget.target", spec.budget.target, "needs a single objective", hint)


def _sampler(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    search = spec.search
    if "sampler" in unsure:
        return
    for name, kind in spec.space.items():
        if search.traits.every_combination and kind.finite_values() is None:
            rule = f"must not be continuous with the sampler {search.sampler}"
            hint = "List its values with choice, or use the sampler random, qmc or tpe."
            yield Mistake(f"space.{name}.{kind.kind}", kind.arguments(), rule, hint)
        if search.traits.ranges_only and kind.kind == "choice":
            rule = f"{search.sampler} searches ranges of numbers only"
            hint = "Write it as a range, fix it under train or problem, or use the sampler tpe."
            yield Mistake(f"space.{name}.choice", kind.arguments(), rule, hint)
    if search.warm_start and not search.traits.learns_from_others and "warm_start" not in unsure:
        rule = f"the sampler {search.sampler} does not learn from other studies"
        hint = f"Use the sampler {names(SAMPLERS, lambda other: other.learns_from_others, 'or')}, or leave it out."
        yield Mistake("search.warm_start", search.warm_start, rule, hint)
    if search.traits.has_population and search.generation < 2 and "generation" not in unsure:
        rule = f"must be at least 2 with the sampler {search.sampler}: it is the population size"
        yield Mistake("search.generation", search.generation, rule)


def _pruner(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    search, pruner = spec.search, spec.search.pruner
    if pruner.kind == "none" or unsure & {"pruner", "kind"}:
        return
    if search.deterministic and pruner.traits.compares_at_rungs and "deterministic" not in unsure:
        rule = f"{pruner.kind} depends on which trials reach a rung first, so deterministic cannot hold"
        hint = f"Use {names(PRUNERS, lambda kind: kind.watches_curve, 'or')} or none, or leave deterministic out."
        yield Mistake("search.pruner", pruner.kind, rule, hint)
    hidden = [objective for objective in spec.objectives if objective not in IN_CURVES]
    if pruner.metric is None and hidden and not unsure & {"metric", "objective"}:
        rule = f"must be given: {hidden[0]} is known only at the end of a trial"
        yield Mistake("search.pruner.metric", NOT_GIVEN, rule, f"Write metric: {' or metric: '.join(IN_CURVES)}.")


def _constraints(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    if "constraints" in unsure:
        return
    names, mistakes = list(spec.flat()), []
    for index, text in enumerate(spec.search.constraints):
        path = f"search.constraints[{index}]"
        try:
            constraint = Constraint.parse(text)
        except ValueError as error:
            mistakes.append(Mistake(path, text, str(error), ALLOWED))
            continue
        unknown = sorted(constraint.names.difference(names))
        rule = "{} is not a field of train or problem"
        mistakes += [Mistake(path, text, rule.format(name), did_you_mean(name, names)) for name in unknown]
        if not unknown and not constraint.names & unsure:
            mistakes += _constraint(spec, constraint, path)
    yield from mistakes
    names_of_all = frozenset[str]().union(*(constraint.names for constraint in spec.constraints))
    if mistakes or spec.listed or len(spec.constraints) < 2 or names_of_all & unsure:
        return
    if is_few(spec, names_of_all, _MOST_TRIED) and not any(
        all(constraint.holds(values) for constraint in spec.constraints) for values in _tried(spec, names_of_all)
    ):
        rule = "no configuration of the space obeys all of them"
        yield Mistake("search.constraints", NOT_GIVEN, rule, "Loosen one of them, or widen the space.")


def _constraint(spec: StudySpec, constraint: Constraint, path: str) -> Iterator[Mistake]:
    """Yield a mistake where a constraint cannot be evaluated somewhere in the space, or holds nowhere."""
    try:
        if not spec.listed and not _holds_somewhere(spec, constraint):
            rule = "no configuration of the space obeys it"
            yield Mistake(path, constraint.text, rule, "Loosen it, or widen the space.")
        fixed = spec.flat()
        for index, row in enumerate(spec.listed):
            if not constraint.holds(fixed | row):
                yield Mistake(f"search.list[{index}]", row, f"breaks the constraint {constraint.text!r}")
    except SweepError as error:
        yield Mistake(path, constraint.text, str(error).removeprefix(constraint.subject).strip(" ."))


def _holds_somewhere(spec: StudySpec, constraint: Constraint) -> bool:
    """Return whether a constraint may hold. Raises `SweepError` where it cannot be evaluated for a combination."""
    holds = False
    for count, values in enumerate(_tried(spec, constraint.names)):
        holds |= constraint.holds(values)
        if holds and count >= _ENOUGH_TRIED:
            break
    return holds or not is_few(spec, constraint.names, _MOST_TRIED)


def _tried(spec: StudySpec, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the values of all fields in every combination of `names`, or in those of corners where they are many."""
    fixed = spec.flat()
    for chosen in candidates(spec, names, _MOST_TRIED, whole=True):
        yield fixed | chosen
