"""What the class of a problem states, checked when Python makes the class."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from typing_extensions import Doc

from ..errors import ProblemError
from ..settings import NonNegativeInt, PositiveInt, TrainSettings, hints
from .columns import Column

MOST_COORDINATES: Final = 4
FIXED_SAMPLERS: Final = ("grid", "gauss", "table")  # which give the same points every time
RESERVED: Final = ("name", "terms", "groups", "weights", "scales", "seeds", "solution", "written")


class Sampled:
    """The settings of problems with a domain: where their points are."""

    points: Annotated[PositiveInt, Doc("Points of the equations, drawn inside the domain.")] = 4096
    condition_points: Annotated[
        PositiveInt, Doc("Points of every condition, where it does not state its own number.")
    ] = 256
    points_sampler: Annotated[
        Literal["sobol", "lhs", "uniform", "grid", "gauss", "refined", "table"],
        Doc(
            "How points are drawn: sobol (scrambled Sobol sequence), lhs (Latin hypercube), uniform (random), grid "
            "(regular), gauss (Gauss-Legendre points of a grid), refined (denser towards the ends of every "
            "coordinate) or table (those of points_table)."
        ),
    ] = "sobol"
    points_seed: Annotated[NonNegativeInt, Doc("Seed of the points; other seeds draw others.")] = 0
    points_table: Annotated[
        str | None, Doc("File with the points of the equations, one column for each coordinate and known quantity.")
    ] = None
    resample_every: Annotated[
        PositiveInt | None,
        Doc("Epochs of the first stage after which new points are drawn; null keeps the points."),
    ] = None


def sampled_settings() -> dict[str, Any]:
    """Return the settings of `Sampled` with their rules and descriptions."""
    return typing.get_type_hints(Sampled, include_extras=True)


def output_columns(outputs: tuple[Column, ...]) -> tuple[Column, ...]:
    """Return prediction and reference of every output in turn, as columns of the table fields."""
    if len(outputs) == 1:
        (output,) = outputs
        return (Column("u", "predicted", output.unit), Column("u_ref", "reference", output.unit))
    return tuple(
        Column(f"{output.symbol}{ending}", f"{name}_{output.symbol}", output.unit)
        for output in outputs
        for name, ending in (("predicted", ""), ("reference", "_ref"))
    )


def columns_of(cls: type[Any], group: str) -> tuple[Column, ...]:
    """Return a group of columns as a class states it: a dictionary of units, or columns. Raises `ProblemError`."""
    stated = getattr(cls, group, ())
    if not isinstance(stated, (Mapping, tuple, list)):
        raise class_error(cls, f"{group} must be a dictionary of names and units, such as {{'x': 'm'}}")
    columns = tuple(Column(n, n, u) for n, u in stated.items()) if isinstance(stated, Mapping) else tuple(stated)
    for column in columns:
        if not isinstance(column, Column) or not str(column.symbol).isidentifier() or not isinstance(column.unit, str):
            raise class_error(cls, f"{group} must be a dictionary of names and units, such as {{'x': 'm'}}")
    return columns


def check_class(cls: Any) -> None:
    """Raise `ProblemError` for names that cannot be told apart."""
    if not 1 <= len(cls.coordinates) <= MOST_COORDINATES:
        raise class_error(cls, f"coordinates must be 1 to {MOST_COORDINATES}, not {len(cls.coordinates)}")
    if not cls.outputs:
        raise class_error(cls, "outputs must name at least one quantity, such as {'u': 'm/s'}")
    symbols = [column.symbol for group in (cls.coordinates, cls.outputs, cls.known) for column in group]
    if twice := next((symbol for symbol in symbols if symbols.count(symbol) > 1), None):
        raise class_error(cls, f"{twice} is the name of two of coordinates, outputs and known data")
    if base := next((symbol for symbol in symbols if symbol in base_settings(cls)), None):
        raise class_error(cls, f"{base} is the name of a setting that every problem has: call it otherwise")
    taken = {
        **dict.fromkeys(hints(TrainSettings), "a setting of train"),
        **dict.fromkeys((metric.name for metric in cls.metrics), "a metric"),
        **dict.fromkeys((column.name for column in cls.field_columns()), "a column of the table fields"),
        **dict.fromkeys(symbols, "a coordinate, an output or known data"),
        **dict.fromkeys(RESERVED, "a part of every problem"),
    }
    for name, hint in hints(cls).items():
        if name in taken and name not in base_settings(cls):
            raise class_error(cls, f"the setting {name} has the name of {taken[name]}: call it otherwise")
        if not hasattr(cls, name):
            raise class_error(cls, f"the setting {name} needs a default, such as {name}: float = 1.0")
        if not _is_known(bare(hint)):
            raise class_error(cls, f"the setting {name} must be a float, int, bool, str or Literal")


def base_settings(cls: type[Any]) -> tuple[str, ...]:
    """Return the settings that are not the problem's own."""
    return (*inspect.get_annotations(Sampled), "loss", "scale_factor", "batch")


def bare(hint: Any) -> Any:
    """Return an annotation without its rules."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def is_literal(hint: Any) -> bool:
    return typing.get_origin(bare(hint)) is Literal


def _is_known(hint: Any) -> bool:
    return hint in (float, int, bool, str) or typing.get_origin(hint) is not None


def class_error(cls: type, message: str) -> ProblemError:
    """Return an error in a class, with file and line."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or "?"
    line = 1
    try:
        line = inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):  # while its module is being imported the class is not yet there
        if frame is not None and frame.f_code.co_filename == file:
            line = frame.f_lineno
    return ProblemError(f"{file}, line {line}: {cls.__name__}: {message}")
