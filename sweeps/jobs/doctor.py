"""Checks, step by step, of whether a place can run studies, and what to fix where it cannot."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from cluster import Check, Job, JobState, executor_of
from cluster.folder import JOBS_FOLDER, check_folder

from ..errors import StudyError
from ..machine import available_cpus
from ..own_name import own_name
from ..storage.object_store import Remote, uri_of
from .profiles import find_profile

RUN_TIMEOUT_S = 600.0  # for a test job, which may wait in a queue


def check_here(root: str) -> Iterator[Check]:
    """Yield the checks of this machine, up to the first problem."""
    yield Check(f"pinnsweep {importlib.metadata.version('pinnsweep')}, {available_cpus()} CPU cores")
    for package in ("ray", "torch"):
        if importlib.util.find_spec(package) is None:
            yield Check(package, f"the package {package} is not installed here: pip install {package}")
            return
        yield Check(f"{package} {importlib.metadata.version(package)}")
    yield from _gpu_checks()
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


def _gpu_checks() -> Iterator[Check]:
    """Yield a line for each visible GPU; none is no problem: studies run all the same."""
    from pinncore.cuda import devices  # needs torch

    found = devices.gpus()
    if not found:
        yield Check(f"no GPU: {devices.why_no_gpu()}; packs train on the CPU")
    for gpu in found:
        obstacle = devices.kernel_obstacle(gpu)
        kernel = "engine fused runs" if obstacle is None else f"only engine torch runs: {obstacle}"
        memory = f"{gpu.memory_bytes / 1e9:.1f} GB, driver {gpu.driver or 'unknown'}"
        yield Check(f"cuda:{gpu.index} {gpu.name}, capability {gpu.capability_text}, {memory}; {kernel}")


def check_profile(name: str, *, run: bool = False) -> Iterator[Check]:
    """Yield the checks of a profile's place, up to the first problem; with `run`, a test job repeats them there.

    Raises `SpecError` for an unknown or wrong profile.
    """
    profile = find_profile(name)
    yield Check(f"profile {name} of kind {profile.kind}")
    executor = executor_of(profile, name)
    for check in executor.checks():
        yield check
        if check.problem:
            return
    if not run:
        return
    command = (*profile.command, "doctor", "local", "--root", profile.root)
    handle = executor.submit(Job(argv=command, name="doctor", environment=dict(profile.environment)))
    what, state = f"test job {name}/{handle.id}", handle.wait(RUN_TIMEOUT_S)
    log, problem = "".join(handle.logs()).rstrip() if state.finished else "", ""
    if not state.finished:
        later = f"see its log later: {own_name()} logs {name}/{handle.id}"
        problem = f"the test job has not ended after {RUN_TIMEOUT_S:g} s and is {state.value}; {later}"
    elif state is not JobState.DONE:
        problem = f"the test job ended as {state.value} (exit code {handle.exit_code()}); fix what its log reports"
    yield Check(f"{what}:\n{log}" if log else what, problem)
