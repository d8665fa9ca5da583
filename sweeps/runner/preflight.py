"""Whether every machine of a cluster can train a study: it sees the same folder and lock, and has the same code.

The driver's lock file holds a word that nobody else has; who reads it sees the driver's folder. A machine answers with
a file of its own, which the driver must see. Of a study in an object store the word and the answer are objects there.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import StudyError
from ..storage import lock
from ..storage.object_store import PROOF, Remote
from ..study.home import OWNER, remote_of
from ..study.provenance import source_digest
from ..study.study_file import identified, whole_text

TIMEOUT_S: Final = 60.0  # for all machines together
_NO_ANSWER: Final = [f"did not answer in {TIMEOUT_S:g} s: see whether Ray can start a process there"]
_SAME_FOLDER: Final = "mount one file system at the same path on every machine"
_SAME_STORE: Final = "give every machine the same AWS_ENDPOINT_URL and credentials of the same account"


@dataclass(frozen=True)
class Expected:
    """What a machine must find: the word in the study's lock, whether that must be held, and versions by name.

    `store` is the URI of the study in an object store, where the machine finds the word instead.
    """

    word: str | None
    holds_lock: bool
    versions: Mapping[str, str]
    store: str | None = None


@dataclass(frozen=True)
class NodeReport:
    """What a machine found: the word in the lock, whether it is held, the name of the file it wrote, or why it could
    not write."""

    host: str
    word: str | None
    lock_is_held: bool
    proof: str | None
    cannot_write: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def check_nodes(ray: Any, study_dir: Path) -> None:
    """Raise `StudyError`, a line a machine, where machines of the cluster other than this one cannot train the study.

    `ray` is the module, connected; the study's owner holds the lock.
    """
    here = ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if not nodes:
        return
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    expected, task = expected_here(study_dir), ray.remote(report_node)
    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = task.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        asked.append(options.remote(str(study_dir.absolute()), expected.word, expected.store))
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=TIMEOUT_S)
    lines = []
    for node, answer in zip(nodes, asked, strict=True):
        name, problems = str(node.get("NodeManagerAddress", node["NodeID"])), _NO_ANSWER
        if answer in answered:
            try:
                report = ray.get(answer)
                name = f"{name} ({report.host})"
                problems = [*problems_of(report, expected, study_dir), *_unseen(report, expected, study_dir)]
            except Exception as problem:  # whatever another version raises or returns
                problems = [f"could not be asked ({last_line(problem)}): install the same pinnsweep there"]
        lines += [f"node {name} {'; '.join(problems)}"] if problems else []
    for left in study_dir.glob(f"{PROOF}*"):
        left.unlink(missing_ok=True)
    if lines:
        where = expected.store or study_dir.absolute()
        first = f"not every machine of the cluster can train the study in {where}:"
        raise StudyError("\n".join([first, *lines]))


def check_here(study_dir: Path, expected: Expected) -> None:
    """Raise `StudyError` where this machine cannot train the study: for one that joins when the study runs."""
    report = report_node(str(study_dir), expected.word, expected.store)
    if report.proof and expected.store:
        Remote(expected.store).remove([report.proof])
    elif report.proof:
        with contextlib.suppress(OSError):
            (study_dir / report.proof).unlink()
    problems = problems_of(report, expected, study_dir)
    if problems:
        raise StudyError(f"machine {report.host} {'; '.join(problems)}")


def expected_here(study_dir: Path) -> Expected:
    """What every machine must find, by what the driver's machine has."""
    _, where = identified(whole_text(study_dir), study_dir)
    remote = remote_of(study_dir)
    store = None if remote is None else remote.uri
    must_hold = store is None and not where.is_shared
    return Expected(lock.read_holder(study_dir).get("word"), must_hold, versions(), store)


def report_node(study_dir: str, word: str | None, store: str | None = None) -> NodeReport:
    """What this machine finds; `word` is what it writes into a file, or an object of the store, for the driver."""
    if store is not None:
        return _report_store(Remote(store), word or "")
    folder, proof, cannot_write = Path(study_dir), f"{PROOF}{uuid.uuid4().hex}", ""
    holder, is_held = lock.read_holder(folder), lock.held_by(folder) is not None
    try:
        (folder / proof).write_text(word or "")
    except OSError as problem:
        cannot_write = problem.strerror or str(problem)
    found = holder.get("word")
    return NodeReport(socket.gethostname(), found, is_held, None if cannot_write else proof, cannot_write, versions())


def _report_store(remote: Remote, word: str) -> NodeReport:
    proof, found, cannot = f"{PROOF}{uuid.uuid4().hex}", None, ""
    try:
        found = remote.get(OWNER)
        remote.put(proof, word.encode())
    except StudyError as problem:
        cannot = str(problem)
    known = None if found is None else found.decode(errors="replace")
    return NodeReport(socket.gethostname(), known, False, None if cannot else proof, cannot, versions())


def problems_of(report: NodeReport, expected: Expected, study_dir: Path) -> list[str]:
    """Why the machine of a report cannot train the study; each goes on from "node NAME"."""
    if expected.store is not None:
        return [*_store_problems(report, expected), *_other_versions(report.versions, expected.versions)]
    if report.word is None or report.word != expected.word:
        what = "does not see" if report.word is None else "sees another folder at"
        return [f"{what} {study_dir}: {_SAME_FOLDER}", *_other_versions(report.versions, expected.versions)]
    problems = []
    if expected.holds_lock and not report.lock_is_held:
        problems.append(
            "does not find the study's lock held, so its file system does not hold locks between machines: mount it "
            "with locks, put the study on another one (--root DIR), or its database on a server (state: postgresql://...)"
        )
    if report.cannot_write:
        problems.append(f"cannot write into {study_dir} ({report.cannot_write}): make it writable there")
    return [*problems, *_other_versions(report.versions, expected.versions)]


def _store_problems(report: NodeReport, expected: Expected) -> Iterator[str]:
    if report.cannot_write:
        yield f"cannot use the store: {report.cannot_write}"
    elif report.word != expected.word:
        what = "does not find this study in" if report.word is None else "finds another study in"
        yield f"{what} {expected.store}: {_SAME_STORE}"


def _other_versions(found: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    for name, version in wanted.items():
        if found.get(name) != version:  # of a hash, the beginning tells enough
            yield f"has {name} {found.get(name, 'of no version')[:12]}, the driver has {version[:12]}: install the same"


def _unseen(report: NodeReport, expected: Expected, study_dir: Path) -> Iterable[str]:
    """Look for the file or object that a machine wrote, and remove it."""
    if report.proof is None or report.word is None:
        return ()
    if expected.store is not None:
        remote = Remote(expected.store)
        written = remote.get(report.proof)
        remote.remove([report.proof])
        seen = written == report.word.encode()
        return () if seen else (f"wrote an object that is not seen here in {remote}: {_SAME_STORE}",)
    file = study_dir / report.proof
    try:
        content = file.read_text()
        file.unlink()
    except OSError:
        content = None
    return () if content == report.word else (f"wrote a file that is not seen here in {study_dir}: {_SAME_FOLDER}",)


@functools.cache
def versions() -> dict[str, str]:
    """Versions that numbers depend on; `sources` is the hash of this project's own code."""
    return {
        "sources": source_digest(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "numpy")},
    }


def last_line(problem: BaseException) -> str:
    """Return the last line of an exception's text, which with Ray is the one that says what happened."""
    return next((line.strip() for line in reversed(str(problem).splitlines()) if line.strip()), type(problem).__name__)
