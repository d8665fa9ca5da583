"""Requests to an existing study: stop it, add trials, retry failed ones, branch it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ..errors import StudyError, listed
from ..storage import lock
from .home import local, remote_of
from .status import failed_trials, unrepeated
from .study_file import SPEC_FILE, open_reader
from .trials import BRANCH

POLL_S: Final = 0.2  # interval for checking the lock of a study that is being stopped


def stop(study_dir: Path, *, wait: bool = False) -> str:
    """Ask the driver of a study to finish the current step, save and end; return who runs it, in words.

    With `wait`, return once the study is free. Raises `StudyError` where it is not running.
    """
    holder, word = lock.held_by(study_dir), lock.read_holder(study_dir).get("word")
    if holder is None:
        remote = remote_of(study_dir)
        if remote is not None:
            raise StudyError(f"{remote} is not being run on this machine. If another one runs it, stop it there")
        raise StudyError(f"{study_dir} is not running, so there is nothing to stop")
    lock.stop_file(study_dir).touch()
    while wait and lock.held_by(study_dir) and lock.read_holder(study_dir).get("word") == word:
        lock.stop_file(study_dir).touch()  # a driver that is just starting removes the old one
        time.sleep(POLL_S)
    return holder


def to_retry(study_dir: Path, numbers: Iterable[int] = ()) -> list[int]:
    """Return the failed trials to retry: those with the given numbers, or all that were not retried yet.

    Raises `StudyError` for other trials, where there are none, and where the study is running.
    """
    lock.refuse_held(study_dir)
    with open_reader(study_dir) as reader:
        failed = failed_trials(reader)
    open_failures = unrepeated(failed)
    chosen = sorted(set(numbers))
    for number in chosen:
        if number not in failed:
            raise StudyError(
                f"{study_dir}: trial {number} has not failed, and only failed trials can be retried: "
                f"{listed(open_failures) or 'there is none'}"
            )
        if failed[number] is not None:
            raise StudyError(
                f"{study_dir}: trial {number} is already repeated by trial {failed[number]}: retry that one"
            )
    if not open_failures:
        raise StudyError(f"{study_dir}: there is no failed trial that is not already repeated")
    return chosen or open_failures


def more_trials(study_dir: Path, more: int) -> int:
    """Return the number of trials of a study after adding `more`.

    Raises `StudyError` where `more` is less than 1, where a grid or a list has fewer left, and where the study is
    running.
    """
    lock.refuse_held(study_dir)  # before the imports, which take seconds
    from ..search import search_of
    from .loading import read_spec

    if more < 1:
        raise StudyError(f"the number of further trials must be at least 1, got {more}")
    spec = read_spec(study_dir)
    if not spec.search.traits.is_finite:
        assert spec.search.trials is not None  # it may be left out for a grid or a list only
        with open_reader(study_dir) as reader:
            taken_over = reader.attributes().get(BRANCH, {}).get("trials", 0)
        return max(spec.search.trials, taken_over) + more
    unlimited = spec.search.model_copy(update={"trials": None})
    size = search_of(dataclasses.replace(spec, search=unlimited)).limit
    current = min(spec.search.trials or size, size)
    if current == size:
        raise StudyError(f"{study_dir}: the {spec.search.sampler} has only {size} trials, and the study has them all")
    if current + more > size:
        raise StudyError(
            f"{study_dir}: the study has {current} of the {spec.search.sampler}'s {size} trials: add at most "
            f"{size - current}"
        )
    return current + more


def named(name: str) -> str:
    """Return the override that gives a study another name."""
    return f"study={json.dumps(name)}"


def kept_in(where: str) -> str:
    """Return the override that puts a study's database into a folder, relative to the current one, or on a server."""
    return f"state={json.dumps(where if '://' in where else str(Path(where).absolute()))}"


def branched(target: Path, name: str, *, root: Path, overrides: Sequence[str] = ()) -> list[str]:
    """Return the overrides that turn a study, changed in its file or by `overrides`, into a new one that continues it.

    Its complete trials become trials of the new study where they fit it; a sampler that learns also knows the others.
    Raises `StudyError` where there is no study to continue, and `SpecError` for a wrong study file.
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
        raise StudyError(f"--branch: there is no study in {old} to continue. Leave --branch out to start one")
    if name == old.name:
        raise StudyError(f"--branch: must be another name than that of the study in {old}, got {name!r}")
    changes = [named(name), f"search.branch_of={json.dumps(str(old))}"]
    if spec.search.traits.learns_from_others and read_spec(old).objectives == spec.objectives:
        changes.append(f"search.warm_start={json.dumps(list(dict.fromkeys([*spec.search.warm_start, str(old)])))}")
    return changes
