"""The problems that study files name: shipped ones, and users' own, whose code is executed here and nowhere before.

`load_problem` is for the commands that train or evaluate; everything else reads what a study stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pinncore.problems import DEFAULT, PROBLEMS
from pinncore.problems.record import ProblemRecord
from pinncore.problems.source import ProblemSource, find_problem, line_of_field, problem_error

from ..spec.parse import LoadProblem, json_schema
from ..storage.schema import reserved_names


def load_problem(name: str | None, base: Path) -> ProblemSource:
    """Return the problem that a study file names; a relative path of a user's file starts at `base`.

    Raises `KeyError` for an unknown name, `ProblemError` for a user's problem that cannot be used.
    """
    source = find_problem(DEFAULT if name is None else name, base)
    if not source.is_shipped:
        _refuse_names(source)
    return source


def stored(source: ProblemSource) -> LoadProblem:
    """Return a loader for the study file of a study that has this problem: it executes code for other names only."""
    return lambda name, base: source if name in (None, source.reference) else load_problem(name, base)


def study_schema() -> dict[str, Any]:
    """Return the JSON schema of study files, which knows the settings of all shipped problems."""
    return json_schema([load_problem(name, Path()).record for name in PROBLEMS])


def _refuse_names(source: ProblemSource) -> None:
    """Raise `ProblemError` where a name of a user's problem is that of a column in the tables of results."""
    record = source.record
    reserved = reserved_names(record)
    for what, name, taken in _names(record, reserved):
        if name in taken:
            raise problem_error(
                source.file,
                line_of_field(source, name),
                f"the {what} {name} has the name of a column in the tables of results",
                "Give it another name.",
            )


def _names(record: ProblemRecord, reserved: dict[str, tuple[str, ...]]) -> list[tuple[str, str, tuple[str, ...]]]:
    settings = [("setting", setting.name, reserved["settings"]) for setting in record.settings if setting.is_own]
    columns = (*record.coordinates, *record.outputs, *record.known, *record.shown)
    return settings + [("column", column.name, reserved["fields"]) for column in columns]
