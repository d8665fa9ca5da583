"""Problems that a member can be trained on. Every module here that is named in `PROBLEMS` holds one."""

import importlib
import pkgutil
from typing import Final

from .base import Predictor as Predictor
from .base import Problem as Problem
from .columns import Column as Column
from .columns import Metric as Metric
from .columns import PointSet as PointSet
from .columns import Yardstick as Yardstick

_OTHERS: Final = ("base", "columns", "declaring", "record", "source", "structure")
DEFAULT: Final = "nonlocal_strain"  # of study files that name no problem

# the shipped problems by name, that of their module; the default first
PROBLEMS: Final = (
    DEFAULT,
    *(module.name for module in pkgutil.iter_modules(__path__) if module.name not in (DEFAULT, *_OTHERS)),
)


def problem_class(name: str) -> type[Problem]:
    """Return the class of a shipped problem; only its module is imported. Raises `KeyError` for another name."""
    if name not in PROBLEMS:
        raise KeyError(name)
    module = importlib.import_module(f"{__name__}.{name}")
    return next(
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Problem) and kind.__module__ == module.__name__
    )
