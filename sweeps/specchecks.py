"""What no single key of a study file can show: keys that contradict each other, and choices that mislead."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Final

from pinncore.errors import SettingError
from pinncore.problems import PROBLEMS
from pinncore.settings import TrainSettings

from .errors import NOT_GIVEN, Mistake
from .space import KINDS, Dimension
from .specinputs import NEEDS_REFERENCE, of_data, of_initial_weights
from .specmistakes import Sections, nearest

if TYPE_CHECKING:
    from .spec import StudySpec

_MOST_COMBINATIONS: Final = 500  # tried one by one; beyond, those of the fields that a rule connects


def of_structure(raw: Mapping[str, Any], sections: Sections) -> list[Mistake]:
    """Find fields that stand both fixed and swept, and dimensions that are not exactly one kind."""
    mistakes = []
    space = raw.get("space")
    for name, content in (space if isinstance(space, dict) else {}).items():
        home = sections.home(name)
        fixed = raw.get(home) if home else None
        if isinstance(fixed, dict) and name in fixed:
            hint = f"Remove {home}.{name} to sweep it, or space.{name} to fix it."
            mistakes.append(Mistake(f"space.{name}", NOT_GIVEN, f"{name} also stands under {home}", hint))
        kinds = content if isinstance(content, dict) and name in sections.kinds else {"": None}
        if len(kinds) != 1 and kinds.keys() <= KINDS.keys():
            hint = f"Keep one of {', '.join(sections.kinds[name])}."
            mistakes.append(Mistake(f"space.{name}", content, "must be exactly one kind of dimension", hint))
    return mistakes


def of_content(spec: StudySpec, *, unsure: Set[str]) -> list[Mistake]:
    """Find what is wrong between the parts of a study whose single values are all right.

    `unsure` names the fields that have a mistake already, so that nothing is said on the ground of their values.
    """
    checks = (
        _ranges(spec),
        _repeated_choices(spec, unsure),
        _trials(spec, unsure),
        _combinations(spec, unsure),
        _engine(spec, unsure),
        of_data(spec, unsure=unsure),
        of_initial_weights(spec, unsure=unsure),
    )
    return [mistake for check in checks for mistake in check]


def unsure_fields(mistakes: Iterable[Mistake], sections: Sections) -> frozenset[str]:
    """Return the names that mistakes are about, those a misspelt name may stand for included."""
    names: set[str] = set()
    for mistake in mistakes:
        written = [part for part in re.split(r"[.\[\]]+", mistake.path) if part]
        names.update(sections.keys.get(written[-1], ()) if written else ())
        for name in written[:2]:
            names.update([name], *(nearest(name, keys) for keys in sections.keys.values()))
    return frozenset(names)


def warnings(spec: StudySpec) -> tuple[str, ...]:
    """Say what is allowed and likely to mislead, one sentence each."""
    said = []
    if not spec.space:
        said.append("space is empty: trials differ by their seeds alone.")
    if spec.search.objective == "loss":
        said.append(
            "search.objective loss does not rank trials: published runs with a sixth of the loss have three "
            "times the error. rel_l2 does, wherever the data carry a reference."
        )
    reproductions = [scope for scope in spec.values("scale_scope") if scope != "consistent"]
    if reproductions:
        said.append(
            f"scale_scope {' and '.join(reproductions)} reproduces published mistakes: with a scale_factor "
            "other than 1 another equation is solved."
        )
    if any("elocal" in inputs for inputs in spec.values("inputs")):
        said.append(
            "inputs with elocal: u = e then has no loss at all, and is 17 % away from the truth on strb100; "
            "watch distance_to_local."
        )
    if "mean_square" in spec.values("loss") and spec.search.objective not in NEEDS_REFERENCE:
        said.append("loss mean_square tends to over-fit between the points: watch heldout_residual.")
    if "float32" in spec.values("dtype") and max(spec.values("lbfgs_iterations")) > 0:
        said.append("dtype float32 makes L-BFGS stop early on rounding; float64 does not.")
    if min(spec.values("lbfgs_lr")) < 0.1 and max(spec.values("lbfgs_iterations")) > 0:
        said.append(
            "lbfgs_lr below 0.1: it is the first step of every line search, and costs about three times the "
            "evaluations of 1."
        )
    if min(spec.values("adam_epochs")) == 0 and min(spec.values("lbfgs_iterations")) == 0:
        said.append("adam_epochs 0 with lbfgs_iterations 0 trains nothing: such a trial is its initial weights.")
    size, trials = grid_size(spec.space), spec.search.trials
    if spec.search.sampler == "grid" and trials is not None and trials != size:
        said.append(f"search.trials is {trials} and the grid has {size} combinations: the smaller number is run.")
    return tuple(said)


def grid_size(space: Mapping[str, Dimension]) -> int:
    """Return the number of combinations of a space without continuous dimensions."""
    return math.prod(len(kind.finite_values() or ()) for kind in space.values())


def _ranges(spec: StudySpec) -> Iterator[Mistake]:
    for name, kind in spec.space.items():
        if kind.kind != "choice" and not kind.arguments()[0] < kind.arguments()[1]:
            low, high = kind.arguments()
            hint = "Swap them." if low > high else "A single value belongs under train or problem."
            yield Mistake(f"space.{name}.{kind.kind}", [low, high], "must be [low, high] with low below high", hint)


def _repeated_choices(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    for name, kind in spec.space.items():
        if kind.kind == "choice":
            listed = kind.arguments()
            for index, value in enumerate(listed):
                if value in listed[:index]:
                    path = f"space.{name}.choice" + ("" if name in unsure else f"[{index}]")
                    yield Mistake(path, value, "stands twice in this choice", "Remove one of the two.")


def _trials(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    if unsure & {"sampler", "trials"}:
        return
    if spec.search.sampler != "grid":
        if spec.search.trials is None:
            hint = "Write for instance trials: 64; only the sampler grid knows by itself how many there are."
            yield Mistake("search.trials", NOT_GIVEN, "must be given", hint)
        return
    for name, kind in spec.space.items():
        if kind.finite_values() is None:
            hint = "List its values with choice, or take the sampler random, qmc or tpe."
            yield Mistake(f"space.{name}.{kind.kind}", kind.arguments(), "a grid has no continuous dimension", hint)


def _combinations(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Try the settings' own rules between fields on the combinations the space can give."""
    for settings, fixed in ((TrainSettings, spec.train), (PROBLEMS[spec.problem["name"]], spec.problem)):
        names = [field.name for field in dataclasses.fields(settings)]
        base = {name: value for name, value in fixed.items() if name in names}
        swept = {name: spec.space[name].corners() for name in names if name in spec.space}
        found: dict[tuple[str, str], tuple[SettingError, dict[str, Any]]] = {}
        for chosen in _some_combinations(swept, settings.TOGETHER):
            for error in _broken_rules(settings, {**base, **chosen}):
                found.setdefault((error.field, error.rule), (error, chosen))
        for error, chosen in found.values():
            if not any(name in error.rule.split() for name in unsure):
                yield _impossible(spec, error, chosen)


def _engine(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    if spec.resources.device == "cuda" and "fused" in spec.values("engine") and not unsure & {"engine", "device"}:
        hint = "Use device: cpu, or engine: auto."
        yield Mistake("resources.device", "cuda", "engine fused runs on a CPU only", hint)


def _impossible(spec: StudySpec, error: SettingError, chosen: Mapping[str, Any]) -> Mistake:
    involved = {name: value for name, value in chosen.items() if name in error.rule.split() and name != error.field}
    combined = ", ".join(f"{name} {value}" for name, value in involved.items())
    hint = f"The space combines it with {combined}. " if combined else ""
    path = f"{spec.section_of(error.field)}.{error.field}"
    return Mistake(path, error.value, error.rule, (hint + error.way_out).strip())


def _some_combinations(
    swept: Mapping[str, Sequence[Any]], together: Sequence[Sequence[str]]
) -> Iterator[dict[str, Any]]:
    """Yield every combination where they are few, else all values of the fields whose rules look at each other.

    Other dimensions stand at their first value, but each of theirs comes up too.
    """
    if math.prod(map(len, swept.values())) <= _MOST_COMBINATIONS:
        groups: list[list[str]] = [list(swept)]
    else:
        groups = [[name for name in group if name in swept] for group in together] + [[name] for name in swept]
    first = {name: listed[0] for name, listed in swept.items()}
    for group in groups:
        for chosen in itertools.product(*(swept[name] for name in group)):
            yield {**first, **dict(zip(group, chosen, strict=True))}


def _broken_rules(settings: type[Any], chosen: dict[str, Any]) -> Iterator[SettingError]:
    """Yield each rule of a settings record that `chosen` breaks, mending one field after the other."""
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    chosen = {name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}
    for _ in defaults:
        try:
            settings(**chosen)
            return
        except SettingError as error:
            yield error
            chosen = {**chosen, error.field: defaults[error.field]}
