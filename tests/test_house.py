"""What keeps the house in order beside its import contracts: small rooms, names that hide nothing, docstrings."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import sweeps
from tests import ROOT

MOST_MODULES = 22  # of a folder: more is no room but a street
PACKAGES = ("benchmarks", "cluster", "pinncore", "sweeps")
CODE = (FunctionType, property, classmethod, staticmethod, functools.cached_property)


def modules(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def every_module() -> list[str]:
    modules = pkgutil.walk_packages(sweeps.__path__, "sweeps.")
    return [module.name for module in modules if not module.name.endswith("__main__")]


def test_no_folder_is_crowded() -> None:
    every = (file.parent.relative_to(ROOT) for file in modules(*PACKAGES, "tests"))
    counted = Counter(
        str(folder) for folder in every if "__pycache__" not in folder.parts
    )  # which holds generated code
    assert len(counted) > 30
    assert {folder: count for folder, count in counted.items() if count > MOST_MODULES} == {}


def test_no_module_hides_what_sweeps_exports() -> None:
    """Importing `sweeps.run`, a module, would replace `sweeps.run`, the function."""
    exported = {name: getattr(sweeps, name) for name in sweeps.__all__}
    for module in every_module():
        importlib.import_module(module)
    assert {name: getattr(sweeps, name) for name in sweeps.__all__} == exported
    assert {module.name for module in pkgutil.iter_modules(sweeps.__path__)} & set(exported) == set()


def test_every_room_has_its_tests() -> None:
    rooms = [folder for folder in (ROOT / "sweeps").iterdir() if (folder / "__init__.py").is_file()]
    assert [room.name for room in rooms if not any((ROOT / "tests" / "sweeps" / room.name).glob("test_*.py"))] == []


def public_functions(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the functions of a module and the methods of its classes, whose names begin with no underscore."""
    for name, definition in vars(module).items():
        if name.startswith("_") or getattr(definition, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(definition):
            yield name, definition
        elif inspect.isclass(definition):
            yield from (
                (f"{name}.{member}", getattr(definition, member))
                for member, value in vars(definition).items()
                if not member.startswith("_") and isinstance(value, CODE) and not _is_private(value)
            )


def test_every_public_function_says_what_it_does() -> None:
    """A method may have what its base class says."""
    docstrings = {
        f"{module}.{name}": inspect.getdoc(function)
        for module in every_module()
        for name, function in public_functions(importlib.import_module(module))
    }
    assert len(docstrings) > 500
    assert [name for name, text in docstrings.items() if not text] == []


def _is_private(value: object) -> bool:
    """Return whether a function is private, although a class has it under public names."""
    return getattr(value, "__name__", "").startswith("_")
