"""Whether the files a study names exist, can be read, and fit every network of its space."""

from __future__ import annotations

import difflib
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pinncore.data import BUNDLED, TABLES, load_data
from pinncore.errors import DataError, SettingError, WeightsError
from pinncore.initialisation import SOURCES, check_init
from pinncore.networks import Layers, layer_sizes

from .errors import NOT_GIVEN, Mistake
from .specmistakes import did_you_mean, nearest

if TYPE_CHECKING:
    from .spec import StudySpec

FILE_PREFIX: Final = "file:"
DATA_FILES: Final = (*TABLES, "npz")
DATA_KEYS: Final = (*DATA_FILES, "elocal_factor")
NEEDS_REFERENCE: Final = ("rel_l2", "paper_metric", "process_zone_error")
_SHAPE: Final = ("inputs", "width", "depth")  # the fields that make a network's shape
_MOST_SHAPES: Final = 300  # tried one by one; beyond, the corners of the space are


def of_data(spec: StudySpec, *, unsure: Set[str]) -> Iterator[Mistake]:
    """Find tables that are missing, cannot be read, or lack what the objective needs."""
    for path, source in _places(spec, "data", unsure):
        wrong = list(_wrong_keys(path, source)) if isinstance(source, dict) else []
        yield from wrong
        if wrong:
            continue
        try:
            data = load_data(source)
        except DataError as error:
            names = nearest(source, BUNDLED) if isinstance(source, str) else []
            hint = f"Did you mean {names[0]}?" if names else ""
            yield Mistake(path, NOT_GIVEN, str(error).removeprefix("data: ").rstrip("."), hint)
            continue
        objective = spec.search.objective
        if data.gauss.enonlocal_true is None and objective in NEEDS_REFERENCE and "objective" not in unsure:
            hint = "Add the column enonlocal_true to the Gauss points, or take the objective heldout_residual."
            yield Mistake("search.objective", objective, f"needs a reference, which {path} has not", hint)


def _wrong_keys(path: str, source: Mapping[str, Any]) -> Iterator[Mistake]:
    for key, value in source.items():
        if key not in DATA_KEYS:
            yield Mistake(f"{path}.{key}", value, "is an unknown key", did_you_mean(key, DATA_KEYS))
        elif key in DATA_FILES and not isinstance(value, str):
            yield Mistake(f"{path}.{key}", value, "must be the path of a file")
        elif key in DATA_FILES and not os.path.isfile(value):
            yield Mistake(f"{path}.{key}", value, "there is no such file", _similar_file(Path(value)))


def of_initial_weights(spec: StudySpec, *, unsure: Set[str]) -> Iterator[Mistake]:
    """Find sources of initial weights that do not exist, and files that do not fit every network of the space."""
    shapes = _layer_shapes(spec)
    for path, init in _places(spec, "init", unsure):
        file = Path(init.removeprefix(FILE_PREFIX).partition("#")[0])
        if not init.startswith(FILE_PREFIX):
            yield from _unknown_source(path, init)
        elif not os.path.isfile(file):
            yield Mistake(path, init, "there is no such file", _similar_file(file))
        elif not unsure & {"width", "depth", "inputs"}:
            yield from _misfits(path, init, shapes)


def _unknown_source(path: str, init: str) -> Iterator[Mistake]:
    if init not in SOURCES:
        names = nearest(init, tuple(SOURCES))
        hint = f"Did you mean {names[0]}?" if names else f"A file is written {FILE_PREFIX}PATH."
        yield Mistake(path, init, f"must be one of {', '.join(SOURCES)} or {FILE_PREFIX}PATH", hint)


def _misfits(path: str, init: str, shapes: Sequence[Layers]) -> Iterator[Mistake]:
    """Yield at most one mistake: the networks of the space that a weights file does not fit."""
    complaints = {}
    for layers in shapes:
        try:
            check_init(init, layers)
        except (WeightsError, SettingError) as error:
            complaints[layers] = str(error).removeprefix("init: ").rstrip(".")
    if not complaints:
        return
    fitting = [_dashes(layers) for layers in shapes if layers not in complaints]
    several = len(set(complaints.values())) > 1
    others = f" (and so for {len(complaints) - 1} more of its {len(shapes)} shapes)" if several else ""
    hint = f"It fits {_some(fitting)}: keep only widths, depths and inputs that it fits, or leave the file out."
    yield Mistake(path, NOT_GIVEN, f"{next(iter(complaints.values()))}{others}", hint if fitting else "")


def _layer_shapes(spec: StudySpec) -> list[Layers]:
    """Return the layer sizes of every network of the space, or of its corners where they are many."""
    every = [spec.space[field].finite_values() if field in spec.space else spec.values(field) for field in _SHAPE]
    if math.prod(len(listed or ()) for listed in every) > _MOST_SHAPES:
        every = [spec.values(field) for field in _SHAPE]
    combinations = itertools.product(*(listed or () for listed in every))
    return sorted({layer_sizes(len(inputs), width=width, depth=depth) for inputs, width, depth in combinations})


def _similar_file(file: Path) -> str:
    """Return which file of the same folder was probably meant."""
    try:
        names = difflib.get_close_matches(file.name, os.listdir(file.parent), n=1)
    except (OSError, ValueError):
        return f"The folder {file.parent} cannot be read."
    return f"Did you mean {names[0]}?" if names else "Relative paths start at the folder of the study file."


def _dashes(layers: Layers) -> str:
    return "-".join(map(str, layers))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _places(spec: StudySpec, field: str, unsure: Set[str]) -> Iterator[tuple[str, Any]]:
    """Yield each value a field may have, with its place in the file."""
    path = f"{spec.section_of(field)}.{field}"
    if field in spec.space:
        path = f"{path}.{spec.space[field].kind}"
    for index, value in enumerate(spec.values(field)):
        counted = field in spec.space and field not in unsure  # a choice with a mistake lacks some of its values here
        yield f"{path}[{index}]" if counted else path, value
