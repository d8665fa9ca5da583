"""Tables in `.mat` files: the arrays of published damage analyses, or one vector for each column.

`All_TrainingData_<mesh>_GP`, `..._nodeslrb` and `..._nodesbtb` have the shape (points, increments, features); the first
features are x, y, g, and the eleventh is elocal, which is physical there.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import scipy.io
from numpy.typing import NDArray

from pinncore.errors import DataError

from .arrays import of_arrays
from .sheet import Sheet

MOST_VALUES: Final = 2**29  # in one array: 4 GiB
_LAYOUT: Final = re.compile(r"All_TrainingData_(?P<mesh>.+)_(?P<part>GP|nodeslrb|nodesbtb)")
_PARTS: Final = {"gauss_points": "GP", "lrb": "nodeslrb", "btb": "nodesbtb"}
_FEATURES: Final = {0: "xcoord", 1: "ycoord", 2: "g", 10: "elocal"}

Shapes = dict[str, tuple[int, ...]]
Load = Callable[[str], NDArray[Any]]


def read(source: str, stream: IO[bytes], role: str, chosen: Mapping[str, Any]) -> Sheet:
    """Return the table of a `.mat` file, of version 5 or 7.3. Raises `DataError`."""
    if stream.read(10) == b"MATLAB 5.0":
        stream.seek(0)
        shapes, load = _version_5(source, stream)
    else:
        stream.seek(0)
        shapes, load = _version_73(source, stream)
    for name, shape in shapes.items():
        if np.prod(shape, dtype=float) > MOST_VALUES:
            raise DataError(f"{source}: the array {name} has the shape {shape}, more than {MOST_VALUES:,} values")
    found = {name: match for name in shapes if (match := _LAYOUT.fullmatch(name))}
    meshes = {match["mesh"]: name for name, match in found.items() if match["part"] == _PARTS.get(role)}
    if meshes:
        return _increment(source, meshes, shapes, load, chosen)
    if role and found:
        raise DataError(f"{source} has no array All_TrainingData_MESH_{_PARTS[role]}; it has {', '.join(shapes)}")
    if chosen:
        raise DataError(f"{source} has no arrays All_TrainingData_MESH_..., from which {' and '.join(chosen)} choose")
    return of_arrays(source, {name: load(name) for name in shapes})


def _increment(source: str, meshes: Mapping[str, str], shapes: Shapes, load: Load, chosen: Mapping[str, Any]) -> Sheet:
    """Return one increment of the array of one mesh."""
    mesh = chosen.get("mesh", next(iter(meshes)) if len(meshes) == 1 else None)
    if mesh not in meshes:
        said = "several meshes" if "mesh" not in chosen else f"no mesh {mesh!r}"
        raise DataError(f"{source} has {said}: state mesh: NAME, one of {', '.join(meshes)}")
    name = meshes[mesh]
    shape = shapes[name] if len(shapes[name]) == 3 else (0, 0, 0)
    points, increments, features = shape
    if features <= max(_FEATURES):
        raise DataError(
            f"{source}: {name} has the shape {shapes[name]}, and must have (points, increments, features) with "
            f"{max(_FEATURES) + 1} features or more"
        )
    increment = chosen.get("increment", 1 if increments == 1 else None)
    if type(increment) is not int or not 0 < increment <= increments:
        said = "" if increment is None else f", not {increment!r}"
        raise DataError(f"{source} holds {increments} increments: state increment: N, from 1 to {increments}{said}")
    values = load(name)[:, increment - 1, :]
    names = [_FEATURES.get(index, str(index)) for index in range(features)]
    table = pa.Table.from_arrays([pa.array(np.ascontiguousarray(column)) for column in values.T], names=names)
    read = ", ".join(f"{name} is {index}" for index, name in _FEATURES.items())
    note = f"{source}: {name}, increment {increment} of {increments}, {points} points; of its features, {read}"
    return Sheet(source, table, notes=(note,), elocal_factor=1)


def _version_5(source: str, stream: IO[bytes]) -> tuple[Shapes, Load]:
    try:
        shapes = {name: shape for name, shape, kind in scipy.io.whosmat(stream) if not name.startswith("__")}
    except Exception as problem:  # scipy raises whatever its parsers raise
        raise DataError(f"{source} is no .mat file that can be read ({type(problem).__name__}: {problem})") from None

    def load(name: str) -> NDArray[Any]:
        stream.seek(0)
        try:
            array = scipy.io.loadmat(stream, variable_names=[name])[name]
        except Exception as problem:
            raise DataError(f"{source}: {name} cannot be read ({type(problem).__name__}: {problem})") from None
        return _real(source, name, array)

    return shapes, load


def _version_73(source: str, stream: IO[bytes]) -> tuple[Shapes, Load]:
    try:
        h5py = importlib.import_module("h5py")
    except ModuleNotFoundError:
        raise DataError(
            f"{source} is a .mat file of version 7.3, and h5py is not installed: pip install 'pinnsweep[hdf5]'. Or "
            "save it with -v7"
        ) from None
    try:
        file = h5py.File(stream, "r")
        arrays = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
    except OSError as problem:
        raise DataError(f"{source} is no .mat file that can be read ({problem})") from None
    shapes = {name: item.shape[::-1] for name, item in arrays.items()}  # MATLAB stores columns first
    return shapes, lambda name: _real(source, name, arrays[name][()].T)


def _real(source: str, name: str, array: Any) -> NDArray[Any]:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufU":
        raise DataError(f"{source}: {name} must hold real numbers")
    return array
