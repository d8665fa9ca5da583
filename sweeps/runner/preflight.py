"""Checks that every machine of a cluster can train a study: it sees the same folder and lock, and has the same code.

The driver's lock file holds a unique word; a machine that reads it sees the driver's folder. The machine answers with
a file of its own, which the driver must see. For a study in an object store the word and the answer are objects there.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pinncore.sources import source_digest

from ..errors import StudyError
from ..storage import lock
from ..storage.object_store import PROOF, Remote
from ..study.home import OWNER, remote_of
from ..study.provenance import PACKAGES
from ..study.study_file import identified, whole_text
from .ray_cluster import alive_nodes, on_node

TIMEOUT_S: Final = 60.0  # for all machines together
_NO_ANSWER: Final = [f"did not answer in {TIMEOUT_S:g} s: check whether Ray can start a process there"]
_SAME_FOLDER: Final = "mount one file system at the same path on every machine"
_SAME_STORE: Final = "give every machine the same AWS_ENDPOINT_URL and credentials of the same account"


@dataclass(frozen=True)
class Expected:
    """Expected findings of a machine: the word in the study's lock, whether the lock is held, and versions by name.

    `store` is the URI of a study in an object store; the machine finds the word there instead.
    """

    word: str | None
    holds_lock: bool
    versions: Mapping[str, str]
    store: str | None = None


@dataclass(frozen=True)
class NodeReport:
    """Findings of a machine: why it cannot train the study, as phrases that follow "node NAME".

    `proof` is the name of the file or object that it wrote for the driver, None where there was a reason not to.
    """

    host: str
    problems: tuple[str, ...]
    proof: str | None


def check_nodes(ray: Any, study_dir: Path) -> None:
    """Raise `StudyError`, with a line for each, where other machines of the cluster cannot train the study.

    `ray` is the connected module. The study's owner must hold the lock.
    """
    this_node = ray.get_runtime_context().get_node_id()
    nodes = [node for node in alive_nodes(ray) if node["NodeID"] != this_node]
    if not nodes:
        return
    expected, task = expected_here(study_dir), ray.remote(report_node)
    answers = []
    for node in nodes:
        on_it = task.options(max_retries=0, **on_node(node["NodeID"]))
        answers.append(on_it.remote(str(study_dir.absolute()), expected))
    ready, _ = ray.wait(answers, num_returns=len(answers), timeout=TIMEOUT_S)
    lines = []
    for node, answer in zip(nodes, answers, strict=True):
        name, problems = str(node.get("NodeManagerAddress", node["NodeID"])), _NO_ANSWER
        if answer in ready:
            try:
                report = ray.get(answer)
                name = f"{name} ({report.host})"
                problems = [*report.problems, *_unseen(report, expected, study_dir)]
            except Exception as problem:  # whatever another version raises or returns
                problems = [f"could not run the check ({last_line(problem)}): install the same pinnsweep there"]
        lines += [f"node {name} {'; '.join(problems)}"] if problems else []
    for proof in study_dir.glob(f"{PROOF}*"):
        proof.unlink(missing_ok=True)
    if lines:
        where = expected.store or study_dir.absolute()
        heading = f"not every machine of the cluster can train the study in {where}:"
        raise StudyError("\n".join([heading, *lines]))


def check_here(study_dir: Path, expected: Expected) -> None:
    """Raise `StudyError` where this machine, which joins while the study runs, cannot train it."""
    report = report_node(str(study_dir), expected)
    if report.proof and expected.store:
        Remote(expected.store).remove([report.proof])
    elif report.proof:
        with contextlib.suppress(OSError):
            (study_dir / report.proof).unlink()
    if report.problems:
        raise StudyError(f"machine {report.host} {'; '.join(report.problems)}")


def expected_here(study_dir: Path) -> Expected:
    """Return what every machine must find, from what the driver's machine has."""
    _, where = identified(whole_text(study_dir), study_dir)
    remote = remote_of(study_dir)
    store = None if remote is None else remote.uri
    must_hold = store is None and not where.is_shared
    return Expected(lock.read_holder(study_dir).get("word"), must_hold, versions(), store)


def report_node(study_dir: str, expected: Expected) -> NodeReport:
    """Return what this machine finds; it writes the word into a file, or an object of the store, for the driver."""
    proof = f"{PROOF}{uuid.uuid4().hex}"
    if expected.store is None:
        problems = tuple(_folder_problems(Path(study_dir), expected, proof))
    else:
        problems = tuple(_store_problems(Remote(expected.store), expected, proof))
    other_versions = _other_versions(versions(), expected.versions)
    return NodeReport(socket.gethostname(), (*problems, *other_versions), None if problems else proof)


def _folder_problems(folder: Path, expected: Expected, proof: str) -> Iterator[str]:
    """Yield why the study's folder cannot be used here; without a reason, write the proof into it."""
    word = lock.read_holder(folder).get("word")
    if word is None or word != expected.word:
        yield f"{'does not see' if word is None else 'sees another folder at'} {folder}: {_SAME_FOLDER}"
    elif expected.holds_lock and lock.held_by(folder) is None:
        yield (
            "does not find the study's lock held, so the file system does not share locks between machines: mount it "
            "with locks, put the study on another one (--root DIR), or its database on a server (state: postgresql://...)"
        )
    else:
        try:
            (folder / proof).write_text(word)
        except OSError as problem:
            yield f"cannot write into {folder} ({problem.strerror or problem}): make it writable there"


def _store_problems(store: Remote, expected: Expected, proof: str) -> Iterator[str]:
    """Yield why the study's store cannot be used here; without a reason, write the proof into it."""
    try:
        content = store.get(OWNER)
        if content is None or content.decode(errors="replace") != expected.word:
            verb = "does not find this study in" if content is None else "finds another study in"
            yield f"{verb} {expected.store}: {_SAME_STORE}"
        else:
            store.put(proof, content)
    except StudyError as problem:
        yield f"cannot use the store: {problem}"


def _other_versions(versions_there: Mapping[str, str], expected: Mapping[str, str]) -> Iterator[str]:
    for name, version in expected.items():
        there = versions_there.get(name)
        if there != version:  # the beginning of a hash suffices
            has = f"no {name}" if there is None else f"{name} {there[:12]}"
            yield f"has {has}, the driver has {version[:12]}: install the same"


def _unseen(report: NodeReport, expected: Expected, study_dir: Path) -> Iterable[str]:
    """Return the problem where the file or object that a machine wrote is not seen here; remove it."""
    if report.proof is None or expected.word is None:
        return ()
    if expected.store is not None:
        remote = Remote(expected.store)
        written = remote.get(report.proof)
        remote.remove([report.proof])
        is_seen = written == expected.word.encode()
        return () if is_seen else (f"wrote an object that is not seen here in {remote}: {_SAME_STORE}",)
    file = study_dir / report.proof
    try:
        content = file.read_text()
        file.unlink()
    except OSError:
        content = None
    return () if content == expected.word else (f"wrote a file that is not seen here in {study_dir}: {_SAME_FOLDER}",)


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions that results depend on; `sources` is the hash of this project's own code."""
    return {
        "sources": source_digest(*PACKAGES),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "numpy")},
    }


def last_line(problem: BaseException) -> str:
    """Return the last line of an exception's text, which in Ray's exceptions is the one with the cause."""
    return next((line.strip() for line in reversed(str(problem).splitlines()) if line.strip()), type(problem).__name__)
