"""Where the class of a problem comes from: a shipped name, a user's file, or a module of an installed package.

Only the text of one file is kept, so that a problem travels with a job and its study: it must not import files that lie
beside it. The class of a file is made from that text, wherever it runs.
"""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..disk import read_text
from ..errors import ProblemError, SettingError
from . import PROBLEMS, problem_class
from .base import Problem
from .record import ProblemRecord, record_of

SUFFIX: Final = ".py"
MOST_BYTES: Final = 1_000_000
_DIGITS: Final = 12  # of the hash of a source, in names
_OURS: Final = ("pinncore", "sweeps")


@dataclass(frozen=True)
class ProblemSource:
    """A problem as a study keeps it: how it was named, its record, and the text that defines it.

    `reference` is a shipped name, FILE.py:CLASS with an absolute path, or PACKAGE.MODULE:CLASS. `text` is the content
    of the user's file or module, None for a shipped problem.
    """

    reference: str
    record: ProblemRecord
    text: str | None = None

    @property
    def name(self) -> str:
        """Return what tables and configurations call the problem: for a user's with the first digits of its hash."""
        return self.record.name

    @property
    def is_shipped(self) -> bool:
        """Return whether the problem comes with this package, so that its class is no user's code."""
        return self.text is None

    @property
    def is_file(self) -> bool:
        """Return whether the problem is defined by a file of the user."""
        return _is_file(self.reference)

    @property
    def file(self) -> str:
        """Return the file or module of a user's problem, for messages."""
        where = self.reference.rpartition(":")[0]
        return where if self.is_file else f"module {where}"

    @property
    def problem_class(self) -> type[Problem]:
        """Return the class, executing the user's code where it is not shipped. Raises `ProblemError`."""
        if self.text is None:
            return problem_class(self.reference)
        where, _, name = self.reference.rpartition(":")
        if self.is_file:
            return _class_of_text(self.text, where, name)
        return _class_of_module(where, name, self.text)

    def to_plain(self) -> dict[str, Any]:
        """Return the source as values that JSON can hold."""
        return {"reference": self.reference, "record": self.record.to_plain(), "text": self.text}

    @staticmethod
    def from_plain(values: Mapping[str, Any]) -> ProblemSource:
        """Return the source of `to_plain`. Raises `TypeError`, `KeyError` or `ValueError` for other values."""
        return ProblemSource(values["reference"], ProblemRecord.from_plain(values["record"]), values["text"])


def is_reference(name: str) -> bool:
    """Return whether a name means a user's problem, FILE.py, FILE.py:CLASS or PACKAGE.MODULE:CLASS."""
    return ":" in name or name.endswith(SUFFIX)


def find_problem(name: str, base: Path) -> ProblemSource:
    """Return the problem that a name means; a relative path starts at `base`. The user's code is executed.

    Raises `KeyError` for a name that is neither shipped nor a user's, and `ProblemError` with file and line for a
    user's problem that cannot be used.
    """
    if not is_reference(name):
        return _shipped(name)
    where, _, class_name = (name, "", "") if name.endswith(SUFFIX) else name.rpartition(":")
    if _is_file(f"{where}:"):
        path = os.path.abspath(base / os.path.expanduser(where))
        text = _read(path)
        kind = _class_of_text(text, path, class_name)
        reference = f"{path}:{kind.__name__}"
    else:
        text = _text_of_module(where)
        kind = _class_of_module(where, class_name, text)
        path, reference = f"module {where}", f"{where}:{kind.__name__}"
    try:
        record = record_of(kind, f"{kind.__name__}@{digest_of(text)[:_DIGITS]}")
    except SettingError as problem:
        raise problem_error(path, _line_of(text, kind.__name__, problem.field), str(problem)) from None
    return ProblemSource(reference, record, text)


def line_of_field(source: ProblemSource, field: str) -> int | None:
    """Return the line on which a user's class declares a field; that of the class where it does not."""
    return _line_of(source.text or "", source.record.class_name, field)


def problem_error(file: str, line: int | None, rule: str, way_out: str = "") -> ProblemError:
    """Return an error in a user's problem, with its place, the rule and the way out."""
    place = f"{file}, line {line}" if line else file
    return ProblemError(f"{place}: {rule}" + (f". {way_out}" if way_out else ""))


def digest_of(text: str) -> str:
    """Return the hash of a source."""
    return hashlib.sha256(text.encode()).hexdigest()


def same_code(one: str | None, other: str | None) -> bool:
    """Return whether two sources differ in comments and layout at most."""
    if one is None or other is None or one == other:
        return one == other
    return ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))


def difference(before: str | None, after: str | None, names: tuple[str, str]) -> str:
    """Return the unified diff of two sources."""
    one, other = ((text or "").splitlines() for text in (before, after))
    return "\n".join(difflib.unified_diff(one, other, *names, lineterm="", n=1))


@functools.cache
def _shipped(name: str) -> ProblemSource:
    if name not in PROBLEMS:
        raise KeyError(name)
    return ProblemSource(name, record_of(problem_class(name)))


def _is_file(reference: str) -> bool:
    return reference.rpartition(":")[0].endswith(SUFFIX)


# ---- files ---------------------------------------------------------------------------------------------------------


def _read(path: str) -> str:
    try:
        return read_text(Path(path), MOST_BYTES).replace("\r\n", "\n")
    except FileNotFoundError:
        raise problem_error(path, None, "there is no such file") from None
    except OSError as problem:
        raise problem_error(path, None, f"cannot be read ({problem.strerror})") from None
    except ValueError:
        raise problem_error(path, None, "is not a text in UTF-8 of at most 1 MB") from None


@functools.cache
def _class_of_text(text: str, path: str, name: str) -> type[Problem]:
    """Return a class that a text defines, as a module named by its content; `path` is that of messages."""
    return _chosen(_module_of_text(text, path), text, path, name)


def _module_of_text(text: str, path: str) -> types.ModuleType:
    module_name = f"pinnsweep_problem_{digest_of(text)[:16]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    for line, what in _siblings(_parsed(text, path), Path(path).parent):
        raise problem_error(
            path,
            line,
            f"imports {what}, which lies beside it, and only this file travels with a study",
            "Put everything into this file, or install a package and write PACKAGE.MODULE:CLASS.",
        )
    module = types.ModuleType(module_name)
    module.__file__ = path
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)  # of tracebacks, and `inspect`
    sys.modules[module_name] = module  # where annotations of its classes are looked up
    try:
        exec(compile(text, path, "exec", dont_inherit=True), vars(module))
    except BaseException as problem:
        del sys.modules[module_name]
        if isinstance(problem, (Exception, SystemExit)):
            raise _explained(problem, text, path) from problem
        raise
    return module


def _parsed(text: str, path: str) -> ast.Module:
    try:
        return ast.parse(text, path)
    except SyntaxError as problem:
        raise problem_error(path, problem.lineno, f"is no Python: {problem.msg}") from None
    except ValueError as problem:  # null bytes
        raise problem_error(path, None, f"is no Python: {problem}") from None


def _siblings(tree: ast.Module, folder: Path) -> Iterator[tuple[int, str]]:
    """Yield the imports, with their lines, of what lies in the folder of a file and nowhere else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for first in dict.fromkeys(name.partition(".")[0] for name in names):
                if _lies_in(first, folder):
                    yield node.lineno, first


def _lies_in(module: str, folder: Path) -> bool:
    """Return whether a module lies in a folder and is not found without it."""
    if not ((folder / f"{module}{SUFFIX}").is_file() or (folder / module / f"__init__{SUFFIX}").is_file()):
        return False
    if module in sys.stdlib_module_names or module in _OURS:
        return False
    elsewhere = [place for place in sys.path if Path(place).resolve() != folder.resolve()]
    for finder in sys.meta_path:
        path = elsewhere if finder is importlib.machinery.PathFinder else None
        if finder.find_spec(module, path) is not None:
            return False
    return True


def _explained(problem: BaseException, text: str, path: str) -> ProblemError:
    """Return an error of a user's code as a message with the line where it left the user's file."""
    lines = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == path]
    line = lines[-1] if lines else None
    if isinstance(problem, ProblemError):
        return problem
    if isinstance(problem, SettingError):
        return problem_error(path, line, str(problem))
    said = " ".join(str(problem).split())
    return problem_error(path, line, f"{type(problem).__name__}{f': {said}' if said else ''}")


# ---- modules -------------------------------------------------------------------------------------------------------


def _text_of_module(name: str) -> str:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    except Exception as problem:  # importing the package above it executes code
        raise problem_error(f"module {name}", None, f"{type(problem).__name__}: {problem}") from problem
    if found is None or found.origin is None or not found.origin.endswith(SUFFIX):
        raise problem_error(
            f"module {name}", None, "cannot be imported", "Install its package, or write the path of a file ending .py."
        )
    return _read(found.origin)


def _class_of_module(name: str, class_name: str, text: str) -> type[Problem]:
    """Return a class of an installed module whose text must be `text`."""
    if (here := _text_of_module(name)) != text:
        raise problem_error(
            f"module {name}",
            None,
            f"is not the one that the study began with (hash {digest_of(text)[:_DIGITS]}, here "
            f"{digest_of(here)[:_DIGITS]})",
            "Install the same version.",
        )
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as problem:
        raise _explained(problem, text, importlib.util.find_spec(name).origin or name) from problem  # type: ignore[union-attr]
    return _chosen(module, text, f"module {name}", class_name)


# ---- classes -------------------------------------------------------------------------------------------------------


def _chosen(module: types.ModuleType, text: str, path: str, name: str) -> type[Problem]:
    """Return the class of this name, or the only problem of a module where it is empty."""
    problems = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Problem) and value.__module__ == module.__name__
    }
    listed = ", ".join(problems) or "none"
    if name in problems:
        return problems[name]
    if name and hasattr(module, name):
        line = _line_of(text, name)
        raise problem_error(path, line, f"{name} is not a class derived from Problem", f"Its problems: {listed}.")
    if name:
        raise problem_error(path, None, f"has no class {name}", f"Its problems: {listed}.")
    if len(problems) != 1:
        rule = f"must hold one problem where no class is named, has {len(problems) or 'none'}"
        way_out = f"Write FILE.py:CLASS with one of {listed}." if problems else "Derive a class from pinncore.Problem."
        raise problem_error(path, None, rule, way_out)
    return next(iter(problems.values()))


def _line_of(text: str, class_name: str, field: str = "") -> int | None:
    """Return the line of a class, or of one of its fields, None where the text does not show it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            targets = {getattr(part, "target", None): part for part in node.body if isinstance(part, ast.AnnAssign)}
            lines = [part.lineno for target, part in targets.items() if getattr(target, "id", None) == field]
            return lines[0] if lines else node.lineno
    return None
