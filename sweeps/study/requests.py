"""What a user asks of a study that is there: to stop, to have more trials, failed ones once more, to be branched."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import StudyError
from ..storage import database, lock, optuna_reader
from .home import local, remote_of
from .status import read_status
from .study_file import SPEC_FILE, identified, whole_text
from .trials import RETRY_OF

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec

LOOK_S: Final = 0.2  # between two looks at the lock of a study that is being stopped
FINITE: Final = ("grid", "list")  # samplers that come to an end
LEARNERS: Final = ("tpe", "gp", "nsga2")  # samplers that learn from other studies


def stop(study_dir: Path, *, wait: bool = False) -> str:
    """Ask whoever runs a study to finish the running stretch, save and leave; returns who that is.

    With `wait`, come back when the study is free. Raises `StudyError` where nobody runs it.
    """
    holder, word = lock.held_by(study_dir), lock.read_holder(study_dir).get("word")
    if holder is None:
        remote = remote_of(study_dir)
        if remote is not None:
            raise StudyError(f"{remote} is not being run on this machine. If another one runs it, stop it there")
        raise StudyError(f"{study_dir} is not being run by anybody, so there is nothing to stop")
    lock.stop_file(study_dir).touch()
    while wait and lock.held_by(study_dir) and lock.read_holder(study_dir).get("word") == word:
        lock.stop_file(study_dir).touch()  # a driver that is just starting removes an old one
        time.sleep(LOOK_S)
    return holder


def study_status(study_dir: Path) -> dict[str, Any]:
    """How a study stands: `read_status`, and as `failures` how many failed trials were not trained once more."""
    return {**read_status(study_dir), "failures": len(_still_failed(failed_trials(study_dir)))}


def failed_trials(study_dir: Path) -> dict[int, int | None]:
    """The failed trials by number, each with the trial that repeats it, or None. Raises `StudyError`."""
    name, where = identified(whole_text(study_dir), study_dir)
    connection = database.connect(where)
    try:
        with connection.snapshot():
            study = optuna_reader.study_id(connection, name)
            failed = connection.rows(
                "SELECT number FROM trials WHERE study_id = ? AND state = 'FAIL' ORDER BY number", study
            )
            repeats = connection.rows(
                "SELECT a.value_json, t.number FROM trial_user_attributes a JOIN trials t ON t.trial_id = a.trial_id "
                "WHERE t.study_id = ? AND a.key = ? ORDER BY t.number",
                study,
                RETRY_OF,
            )
    finally:
        connection.close()
    repeated_by = {json.loads(original): number for original, number in repeats}
    return {number: repeated_by.get(number) for (number,) in failed}


def to_retry(study_dir: Path, asked: Iterable[int] = ()) -> list[int]:
    """The failed trials to train once more: those asked for, or all that were not yet.

    Raises `StudyError` for other trials, where there are none, and where somebody runs the study.
    """
    lock.refuse_held(study_dir)
    failed = failed_trials(study_dir)
    left = _still_failed(failed)
    chosen = sorted(set(asked))
    for number in chosen:
        if number not in failed:
            raise StudyError(
                f"{study_dir}: trial {number} has not failed, and only failed trials are trained once more: "
                f"{_listed(left) or 'there is none'}"
            )
        if number not in left:
            raise StudyError(
                f"{study_dir}: trial {number} is repeated by trial {failed[number]} already: retry that one"
            )
    if not left:
        raise StudyError(f"{study_dir}: there is no failed trial that is not repeated already")
    return chosen or left


def more_trials(study_dir: Path, more: int) -> int:
    """The number of trials that makes, altogether, with `more` than a study has now.

    Raises `StudyError` where `more` is no number of trials, where a grid or a list has not so many left, and where
    somebody runs the study.
    """
    lock.refuse_held(study_dir)  # before the imports, which take seconds
    from .loading import read_spec

    if more < 1:
        raise StudyError(f"the number of further trials must be at least 1, got {more}")
    spec = read_spec(study_dir)
    if spec.search.sampler not in FINITE:
        assert spec.search.trials is not None  # only of a grid or a list may it be left out
        return spec.search.trials + more
    size = _whole_size(spec)
    now = min(spec.search.trials or size, size)
    if now == size:
        raise StudyError(f"{study_dir}: the {spec.search.sampler} has {size} trials and is whole already")
    if now + more > size:
        raise StudyError(
            f"{study_dir}: {now} of the {spec.search.sampler}'s {size} trials are taken, ask for {size - now}"
        )
    return now + more


def named(name: str) -> str:
    """The override that gives a study another name."""
    return f"study={json.dumps(name)}"


def kept_in(where: str) -> str:
    """The override that puts a study's database into a folder, relative to this one, or onto a server."""
    return f"state={json.dumps(where if '://' in where else str(Path(where).absolute()))}"


def branched(target: Path, name: str, *, root: Path, overrides: Sequence[str] = ()) -> list[str]:
    """Overrides that make of a study, changed by its file or `overrides`, a new one that goes on from it.

    Configurations that the old one completed are taken over, and a sampler that learns begins with its results.
    Raises `StudyError` where there is no study to go on from, and `SpecError` for a wrong file.
    """
    from .loading import load_spec, read_spec

    target = local(target)
    if target.is_dir():
        old = target.resolve()
        spec = read_spec(target, [*overrides, named(name)])
    else:
        spec = load_spec(target, overrides)
        old = local(root / spec.study).absolute()
    if not (old / SPEC_FILE).is_file():
        raise StudyError(f"--branch: there is no study in {old} to go on from. Leave --branch out to begin one")
    if name == old.name:
        raise StudyError(f"--branch: must be another name than that of the study in {old}, got {name!r}")
    lists = {"search.reuse": [*spec.search.reuse, str(old)]}
    if spec.search.sampler in LEARNERS and read_spec(old).objectives == spec.objectives:
        lists["search.warm_start"] = [*spec.search.warm_start, str(old)]
    return [named(name), *(f"{key}={json.dumps(list(dict.fromkeys(value)))}" for key, value in lists.items())]


def _whole_size(spec: StudySpec) -> int:
    """Number of trials of a grid or list, whatever number of them is asked for."""
    from ..search import Search

    whole = spec.search.model_copy(update={"trials": None})
    return Search(dataclasses.replace(spec, search=whole)).limit


def _still_failed(failed: dict[int, int | None]) -> list[int]:
    return [number for number, repeated_by in failed.items() if repeated_by is None]


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10} more"
