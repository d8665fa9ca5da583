"""Whether a place can run studies, step by step, and what to mend where it cannot."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cluster import Check, Job, JobState, executor_of
from cluster.folder import JOBS_FOLDER, check_folder

from ..errors import StudyError
from ..machine import available_cpus
from ..own_name import own_name
from ..storage.object_store import Remote, uri_of
from .profiles import find_profile

RUN_TIMEOUT_S = 600.0  # for a job that only looks: a queue may hold it


def check_here(root: str) -> Iterator[Check]:
    """Look at this machine; ends at the first problem."""
    yield Check(f"pinnsweep {importlib.metadata.version('pinnsweep')}, {available_cpus()} CPU cores")
    for package in ("ray", "torch"):
        if importlib.util.find_spec(package) is None:
            yield Check(package, f"the package {package} is not installed here: pip install {package}")
            return
        yield Check(f"{package} {importlib.metadata.version(package)}")
    uri = uri_of(root)
    if uri is None:
        yield check_folder(Path(root) / JOBS_FOLDER)
        return
    what, problem = f"{uri} can be written to and read", ""
    try:
        Remote(uri).check()
    except StudyError as error:
        problem = str(error)
    yield Check(what, problem)


def check_profile(name: str, *, run: bool = False) -> Iterator[Check]:
    """Look at the place of a profile from here, and with `run` have a job look around there; ends at the first problem.

    Raises `SpecError` for an unknown or wrong profile.
    """
    profile = find_profile(name)
    yield Check(f"profile {name}: a place of kind {profile.kind}")
    executor = executor_of(profile, name)
    for check in executor.checks():
        yield check
        if check.problem:
            return
    if not run:
        return
    command = (*profile.command, "doctor", "local", "--root", profile.root)
    handle = executor.submit(Job(argv=command, name="doctor", environment=dict(profile.environment)))
    what, state = f"job {name}/{handle.id} looks around there", handle.wait(RUN_TIMEOUT_S)
    told = "".join(handle.logs()).rstrip() if state.finished else ""
    check = Check(f"{what}:\n{told}" if told else what)
    if not state.finished:
        later = f"look later: {own_name()} logs {name}/{handle.id}"
        problem = f"it has not ended in {RUN_TIMEOUT_S:g} s and is {state.value}; {later}"
        check = replace(check, problem=problem)
    elif state is not JobState.DONE:
        check = replace(check, problem=f"it ended as {state.value} (exit code {handle.exit_code()}); mend what it says")
    yield check
