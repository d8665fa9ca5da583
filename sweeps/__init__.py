"""Studies: a space of configurations searched by packs of networks that train together, kept as plain tables.

    import sweeps

    study = sweeps.run("examples/quickstart.yaml")
    study.best()

Every name is imported when it is first asked for, so that `import sweeps` costs nothing.
"""

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from .api import StoppedError as StoppedError
    from .api import Studies as Studies
    from .api import Study as Study
    from .api import open as open
    from .api import run as run
    from .api import submit as submit
    from .errors import Mistake as Mistake
    from .errors import QueryError as QueryError
    from .errors import RunLostError as RunLostError
    from .errors import SpecError as SpecError
    from .errors import StudyError as StudyError
    from .errors import SweepError as SweepError

_HOMES = {
    "api": ("StoppedError", "Studies", "Study", "open", "run", "submit"),
    "errors": ("Mistake", "QueryError", "RunLostError", "SpecError", "StudyError", "SweepError"),
}
__all__ = [*_HOMES["api"], *_HOMES["errors"]]


def __getattr__(name: str) -> _typing.Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(_importlib.import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
