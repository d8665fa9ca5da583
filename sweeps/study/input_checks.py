"""Checks of the files a study names: that they exist, can be read, and fit every network of its space."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib.util
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

from pinncore.data.loading import BUILT_FILE, BUNDLED
from pinncore.errors import DataError, PinnError, SettingError, WeightsError
from pinncore.initialisation import SOURCES, check_init
from pinncore.member import Member, check_held_out, engine_of
from pinncore.networks import Layers, layer_sizes
from pinncore.problems import Problem
from pinncore.settings import TrainSettings, hints

from ..errors import NOT_GIVEN, Mistake, StudyError
from ..inputs.opening import open_table
from ..spec.assembly import URL
from ..spec.checks import impossible, impossible_combinations
from ..spec.combinations import possible
from ..spec.mistakes import did_you_mean, nearest
from ..spec.sections import ADDRESS, FROM_ENVIRONMENT, LIBRARIES
from ..spec.sources import DATA_FILES, DATA_KEYS, FILE_PREFIX, TRIAL_PREFIX, split_source
from ..spec.study_spec import StudySpec, as_setting
from ..spec.warnings import of_choices
from .home import is_study
from .initial_weights import layers_of, trial_weights

_MOST_SHAPES: Final = 300  # tried for a source; of larger spaces only the corners are
_MOST_STRUCTURES: Final = 50  # of problems that are asked for points to hold out, likewise


def warnings_of(spec: StudySpec) -> tuple[str, ...]:
    """Return warnings about choices and data that are allowed but likely to mislead. Raises `DataError`."""
    about_data = [warning for problem in spec.problems_on_data() for warning in problem.data_warnings]
    about_engine = () if "auto" not in spec.values("engine") else (_engine_of("auto", _fixed_problem(spec)),)
    more = dict.fromkeys([*about_data, *filter(None, about_engine), *map(str, not_ready(spec))])
    return (*of_choices(spec), *spec.problem_class.advice(spec.values), *more)


def _fixed_problem(spec: StudySpec) -> Problem:
    """Return the problem with the values that the study fixes, other settings at their defaults."""
    fixed = {name: as_setting(value) for name, value in spec.config({})["problem"].items() if name != "name"}
    return spec.problem_class(**fixed).reading(open_table)


def _engine_of(engine: Any, problem: Problem) -> str | None:
    """Return why `auto` is not the usual engine for a problem. Raises `SettingError` for an impossible engine."""
    return engine_of(Member(TrainSettings(engine=engine), problem), "cpu")[1]


def of_problem(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield each rule of the problem's class that some combination of the space breaks."""
    yield from impossible_combinations(spec, spec.problem_class, spec.problem, unsure)


def of_points(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield mistakes of a problem that draws its points: none, no finite numbers there, no solution, no engine."""
    kind = spec.problem_class
    if kind.domain is None and kind.data_settings:
        return
    is_sure = not unsure & spec.problem.keys()
    try:
        problem = _fixed_problem(spec)
        if is_sure:
            problem.check_at_points()
        yield from _not_computable(spec, "problem", problem, unsure)
    except PinnError as error:
        if is_sure:
            yield Mistake("problem.name", NOT_GIVEN, str(error).rstrip("."))
        return
    for path, engine in _places(spec, "engine", unsure):
        try:
            _engine_of(engine, problem)
        except SettingError as error:
            yield Mistake(path, engine, error.rule, error.way_out)


def of_data(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield mistakes of a problem on tables: they are missing, cannot be read, or lack what the objective needs."""
    kind = spec.problem_class
    if kind.domain is not None:
        return
    for setting in kind.data_settings:
        for path, source in _places(spec, setting, unsure):
            mistakes = list(_wrong_keys(path, source)) if isinstance(source, dict) else []
            yield from mistakes
            if mistakes:
                continue
            problem = kind(**{setting: source}).reading(open_table)
            try:
                mistakes = list(_not_computable(spec, path, problem, unsure))
            except DataError as error:
                place, _, rule = str(error).partition(": ")
                names = nearest(source, BUNDLED) if isinstance(source, str) else []
                hint = f"Did you mean {names[0]}?" if names else ""
                yield Mistake(path + place.removeprefix(setting), NOT_GIVEN, rule.rstrip("."), hint)
            else:
                yield from mistakes or _without_points(spec, path, problem, unsure)


def _without_points(spec: StudySpec, path: str, problem: Problem, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield mistakes of settings for which these data have no points, or not those of a metric."""
    for name in problem.point_settings:
        for place, value in _places(spec, name, unsure):
            chosen = dataclasses.replace(problem, **{name: value}).reading(open_table)
            try:
                _ = chosen.point_sets
                yield from _not_computable(spec, f"{name} {value}", chosen, unsure)
            except DataError as error:
                rule = str(error).partition(": ")[2].rstrip(".")
                others = [other for other in spec.values(name) if other != value]
                hint = f"Use {name}: {others[0]}." if others else f"Leave {name} out, or give {path} other points."
                yield Mistake(place, value, f"cannot be used: {rule}", hint)


def _not_computable(spec: StudySpec, path: str, problem: Problem, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield mistakes: metrics that rank or prune trials and that these data cannot give."""
    places = [
        ("search.objective" + (f"[{index}]" if len(spec.objectives) > 1 else ""), "objective", objective)
        for index, objective in enumerate(spec.objectives)
        if "objective" not in unsure
    ]
    pruner = spec.search.pruner
    if pruner.kind != "none" and pruner.metric is not None and "pruner" not in unsure:
        places.append(("search.pruner.metric", "metric", pruner.metric))
    for place, key, metric in places:
        reason = problem.why_not(metric)
        if reason is None:
            continue
        if spec.needs_reference(metric) and problem.solution is None:
            rule = f"needs a reference, which {path} does not have"
            instead = "heldout_residual" if key == "objective" else "loss"
            yield Mistake(place, metric, rule, f"{problem.reference_advice}, or use the {key} {instead}.")
        else:
            yield Mistake(place, metric, f"cannot be computed from {path}: {reason}", f"Use another {key}.")


def of_held_out(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield a mistake where trials are to keep their best held-out weights, but nothing can be held out."""
    kind = spec.problem_class
    structure = kind.pack_settings or tuple(name for name in hints(kind) if name not in kind.float_settings())
    fields = ("final_weights", *structure)
    if "best_heldout" not in spec.values("final_weights") or unsure & set(fields):
        return
    for index, chosen in enumerate(spec.listed or possible(spec, fields, _MOST_STRUCTURES, whole=True)):
        config = spec.config(chosen)
        train = TrainSettings(final_weights=config["train"]["final_weights"])
        values = {name: as_setting(config["problem"][name]) for name in structure}
        try:
            check_held_out(train, kind(**values).reading(open_table))
        except SettingError as error:
            if error.field == "final_weights":  # impossible problems have mistakes of their own
                yield impossible(spec, error, chosen, index, involved=structure)
                return
        except DataError:  # which has a mistake of its own
            return


def _wrong_keys(path: str, source: Mapping[str, Any]) -> Iterator[Mistake]:
    for key, value in source.items():
        if key not in DATA_KEYS:
            yield Mistake(f"{path}.{key}", value, "is an unknown key", did_you_mean(key, DATA_KEYS))
        elif key in DATA_FILES and not isinstance(value, str):
            yield Mistake(f"{path}.{key}", value, "must be the path of a file")
        elif key in DATA_FILES and not os.path.exists(value):
            file = Path(value)
            yield Mistake(f"{path}.{key}", value, "there is no such file", _how_to_build(file) or _similar_file(file))


def of_initial_weights(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield mistakes: missing sources of initial weights, and weights that do not fit every network of the space."""
    all_shapes = {} if unsure & set(_shape_fields(spec)) else _layer_shapes(spec)
    for path, init in _places(spec, "init", unsure):
        shapes = sorted(all_shapes.get(init, ()))
        if init.startswith(TRIAL_PREFIX):
            yield from _wrong_trial(path, init, shapes)
        elif not init.startswith(FILE_PREFIX):
            if init not in SOURCES:
                names = nearest(init, tuple(SOURCES))
                hint = f"Did you mean {names[0]}?" if names else f"A file is written {FILE_PREFIX}PATH."
                rule = f"must be one of {', '.join(SOURCES)}, {FILE_PREFIX}PATH or {TRIAL_PREFIX}STUDY/N"
                yield Mistake(path, init, rule, hint)
        else:
            file = Path(init.removeprefix(FILE_PREFIX).partition("#")[0])
            if not os.path.exists(file):
                yield Mistake(path, init, "there is no such file", _similar_file(file))
            else:
                yield from _misfits(path, shapes, functools.partial(check_init, init))


def of_other_studies(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield mistakes: folders of `warm_start`, `reuse` and `branch_of` that hold no study."""
    lists = {f"search.{key}[{{}}]": getattr(spec.search, key) for key in ("warm_start", "reuse")}
    lists["search.branch_of"] = [spec.search.branch_of] if spec.search.branch_of else []
    for key, folders in lists.items():
        for index, folder in enumerate(folders):
            path = key.format(index)
            if folder in folders[:index]:
                yield Mistake(path, folder, "is listed twice", "Remove one of the two.")
            elif not os.path.isdir(folder):
                hint = "Relative paths start at the folder of the study file."
                yield Mistake(path, folder, "there is no such folder", hint)
            elif not is_study(Path(folder)):
                hint = "Name the folder that pinnsweep run created."
                yield Mistake(path, folder, "is not a study: it has no study.yaml", hint)


def of_state(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield a mistake where the place for study.db is not a folder."""
    state = spec.state
    if state is not None and not URL.match(state) and os.path.exists(state) and not os.path.isdir(state):
        yield Mistake("state", state, "is a file, not a folder")


def of_trackers(spec: StudySpec, unsure: Set[str]) -> Iterator[Mistake]:
    """Yield the trackers whose library is not installed."""
    for name in spec.track.chosen:
        library = importlib.util.find_spec(LIBRARIES[name])
        if library is None or library.origin is None:  # a folder of that name is none
            rule = f"needs the package {LIBRARIES[name]}, which is not installed"
            yield Mistake(f"track.{name}", NOT_GIVEN, rule, f"pip install 'pinnsweep[{name}]' installs it.")


def not_ready(spec: StudySpec) -> Iterator[Mistake]:
    """Yield what a notification needs and this machine lacks; another machine that runs the study may have it."""
    notify = spec.notify
    if notify.webhook is not None and notify.webhook.startswith(FROM_ENVIRONMENT):
        variable = notify.webhook.removeprefix(FROM_ENVIRONMENT)
        address = os.environ.get(variable, "").strip()
        if not re.fullmatch(ADDRESS, address):
            rule = f"the variable {variable} {'holds no address' if address else 'is not set'}"
            hint = f"export {variable}=https://..., or leave it out: --set notify.webhook=null."
            yield Mistake("notify.webhook", NOT_GIVEN, rule, hint)
    if notify.command is not None and shutil.which(notify.words[0]) is None:
        hint = "Give the path of a program, or leave it out: --set notify.command=null."
        yield Mistake("notify.command", notify.words[0], "there is no such program", hint)


def _wrong_trial(path: str, init: str, shapes: Sequence[Layers]) -> Iterator[Mistake]:
    source = split_source(init)
    if source is None:
        hint = "For example: trial:runs/quickstart/3."
        yield Mistake(path, init, f"must be {TRIAL_PREFIX}STUDY/N, a study's folder and the number of a trial", hint)
        return
    folder, number = source
    try:
        trained = layers_of(trial_weights(folder, number))
    except StudyError as error:
        hint = "" if is_study(folder) else "Relative paths start at the folder of the study file."
        yield Mistake(path, init, str(error), hint)
        return

    def check(layers: Layers) -> None:
        if layers != trained:
            raise WeightsError(
                f"the weights of trial {number} of {folder} belong to a network {_dashes(trained)}, not to "
                f"{_dashes(layers)}"
            )

    yield from _misfits(path, shapes, check)


def _misfits(path: str, shapes: Sequence[Layers], check: Callable[[Layers], None]) -> Iterator[Mistake]:
    """Yield one mistake where weights do not fit some networks of the space."""
    complaints = {}
    for layers in shapes:
        try:
            check(layers)
        except (WeightsError, SettingError) as error:
            complaints[layers] = str(error).removeprefix("init: ").rstrip(".")
    if not complaints:
        return
    fitting = [_dashes(layers) for layers in shapes if layers not in complaints]
    several = len(set(complaints.values())) > 1
    others = f" (and {len(complaints) - 1} more of its {len(shapes)} shapes)" if several else ""
    some = ", ".join(fitting[:3]) + (f" and {len(fitting) - 3} more" if len(fitting) > 3 else "")
    hint = f"It fits {some}: keep only widths, depths and inputs that it fits, or leave the file out."
    yield Mistake(path, NOT_GIVEN, f"{next(iter(complaints.values()))}{others}", hint if fitting else "")


def _shape_fields(spec: StudySpec) -> tuple[str, ...]:
    """Return the fields that make a network's shape."""
    return (*spec.record.input_settings, "width", "depth")


def _layer_shapes(spec: StudySpec) -> dict[str, set[Layers]]:
    """Return the layer sizes of every network that may start from each `init`, or of the corners of a large space."""
    shapes: dict[str, set[Layers]] = {init: set() for init in spec.values("init")}
    if all(init in SOURCES for init in shapes):  # these have every shape
        return shapes
    combinations = spec.listed or possible(spec, ("init", *_shape_fields(spec)), _MOST_SHAPES * len(shapes), whole=True)
    for chosen in combinations:
        train, problem = (spec.config(chosen)[section] for section in ("train", "problem"))
        inputs = {name: as_setting(problem[name]) for name in spec.record.input_settings}
        with contextlib.suppress(SettingError):  # impossible inputs have a mistake of their own
            columns, outputs = spec.problem_class(**inputs).input_columns, len(spec.record.outputs)
            sizes = layer_sizes(len(columns), width=train["width"], depth=train["depth"], outputs=outputs)
            shapes.setdefault(train["init"], set()).add(sizes)
    return shapes


def _how_to_build(file: Path) -> str:
    """Return a hint: the command that writes tables of this name; none for other names."""
    built = BUILT_FILE.fullmatch(file.name)
    if built is None:
        return ""
    specimen, elements, increment, kind = built.groups()
    command = f"pinnsweep data build {specimen} --increment {increment} --mesh {elements} --format {kind}"
    return f"{command} -o {shlex.quote(str(file.parent))} writes it."


def _similar_file(file: Path) -> str:
    """Return a hint: the file of the same folder that was probably meant."""
    try:
        names = difflib.get_close_matches(file.name, os.listdir(file.parent), n=1)
    except (OSError, ValueError):
        return f"The folder {file.parent} cannot be read."
    return f"Did you mean {names[0]}?" if names else "Relative paths start at the folder of the study file."


def _dashes(layers: Layers) -> str:
    return "-".join(map(str, layers))


def _places(spec: StudySpec, field: str, unsure: Set[str]) -> Iterator[tuple[str, Any]]:
    """Yield each value a field may have, with its place in the study file, or the first of several places."""
    section = next((name for name, fields in (("train", spec.train), ("problem", spec.problem)) if field in fields), "")
    values: list[Any] = []
    for index, row in enumerate(spec.listed):
        if field in row and row[field] not in values:
            values.append(row[field])
            yield f"search.list[{index}].{field}", row[field]
    if field in spec.space and not spec.listed:
        path = f"space.{field}.{spec.space[field].kind}"
        for index, value in enumerate(spec.space[field].arguments()):
            yield path if field in unsure else f"{path}[{index}]", value  # a mistake may drop values
    if section:
        yield f"{section}.{field}", getattr(spec, section)[field]


FILE_CHECKS: Final = (
    *(of_problem, of_points, of_data, of_held_out, of_initial_weights, of_other_studies, of_state),
    of_trackers,
)
