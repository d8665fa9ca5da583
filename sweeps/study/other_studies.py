"""What a study takes from elsewhere and keeps for itself: files of initial weights, trials of other studies.

Both are settled at the first start, so that a study goes on when their source has changed or gone.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from pinncore.data import load_data
from pinncore.disk import write_whole

from ..errors import StudyError
from ..search import PastTrial, Search
from ..spec.sources import FILE_PREFIX, split_source
from ..spec.study_spec import StudySpec, config_sha256
from ..storage.database import database
from ..storage.optuna_writer import Ledger
from .initial_weights import is_study, trial_weights
from .loading import read_spec

FOLDER: Final = "initial_weights"
WEIGHTS, WARM_START = "initial_weights", "warm_start"  # attributes of the study in its database


def settle_weights(study_dir: Path, spec: StudySpec, ledger: Ledger) -> dict[str, str]:
    """The study's own copies of its files of initial weights, in its folder, by what the study file calls them.

    Raises `StudyError` where a source is not what it was when the study began, or is gone and so is its copy.
    """
    known: dict[str, str] = ledger.attributes().get(WEIGHTS, {})
    found, digests = {}, dict(known)
    for init in spec.values("init"):
        file, _, group = str(init).removeprefix(FILE_PREFIX).partition("#")
        if not init.startswith(FILE_PREFIX) and split_source(init) is None:
            continue
        digest = known.get(init)
        copy = study_dir / FOLDER / f"{digest}.npz"
        if digest is None or not _is_whole(copy, digest):
            payload = _read(init, file)
            fresh = hashlib.sha256(payload).hexdigest()
            if digest not in (None, fresh):
                raise StudyError(
                    f"{init}: has changed since the study began, and the copy in {copy} is damaged or gone"
                )
            digest = digests[init] = fresh
            copy = study_dir / FOLDER / f"{digest}.npz"
            copy.parent.mkdir(exist_ok=True)
            write_whole(copy, payload)
        elif init.startswith(FILE_PREFIX) and os.path.isfile(file) and _digest(Path(file)) != digest:
            raise StudyError(
                f"{init}: the file has changed since the study began (hash {digest[:12]}). Restore it, or start a "
                "study of another name"
            )
        name = f"{FOLDER}/{copy.name}"
        found[init] = f"{name}#{group}" if group and init.startswith(FILE_PREFIX) else name
    if digests != known:
        ledger.set_attribute(WEIGHTS, digests)
    return found


def warm_start(spec: StudySpec, ledger: Ledger) -> list[PastTrial]:
    """Complete trials of the studies this one learns from, as they were when it began."""
    if not spec.search.warm_start:
        return []
    known = ledger.attributes().get(WARM_START)
    if known is None:
        known = [trial for folder in spec.search.warm_start for trial in _complete(Path(folder), spec)]
        ledger.set_attribute(WARM_START, known)
    return [PastTrial(i, each["params"], "COMPLETE", tuple(each["values"])) for i, each in enumerate(known)]


def reusable(spec: StudySpec) -> tuple[dict[str, str], list[str]]:
    """Complete trials of other studies that this one may take over, and the studies that are no longer there.

    The trials are FOLDER/N by the hash of their configuration. Studies on other data than this one's, and with another
    number of replicates, have none.
    """
    found: dict[str, str] = {}
    gone = [folder for folder in spec.search.reuse if not is_study(Path(folder))]
    for folder in spec.search.reuse:
        if folder in gone:
            continue
        other = read_spec(Path(folder))
        ledger = Ledger(database(Path(folder), other.state), other.study)
        try:
            records, known = ledger.records(), ledger.attributes()
        finally:
            ledger.close()
        if other.search.replicates != spec.search.replicates or known.get("data_hash") != _data_hash(spec):
            continue
        search = Search(other)
        for record in records:
            if record.state == "COMPLETE":
                digest = config_sha256(other.config(search.decoded(record.params)))
                found.setdefault(digest, f"{folder}/{record.number}")
    return found, gone


def _data_hash(spec: StudySpec) -> str | None:
    """Hash of the data all trials share, None where they are swept."""
    return None if "data" in spec.space else load_data(spec.problem.get("data", "strb100")).sha256


def _complete(study_dir: Path, spec: StudySpec) -> list[dict[str, Any]]:
    """The complete trials of a study that was after the same objectives."""
    other = read_spec(study_dir)
    if other.objectives != spec.objectives:
        raise StudyError(
            f"search.warm_start: {study_dir} made {', '.join(other.objectives)} small, this study "
            f"{', '.join(spec.objectives)}. Leave it out"
        )
    search = Search(other)
    ledger = Ledger(database(study_dir, other.state), other.study)
    try:
        records = ledger.records()
    finally:
        ledger.close()
    return [
        {"params": search.decoded(record.params), "values": list(record.values)}
        for record in records
        if record.state == "COMPLETE" and record.values
    ]


def _read(init: str, file: str) -> bytes:
    source = split_source(init)
    if source is not None:
        stream = io.BytesIO()
        np.savez(stream, **trial_weights(*source))  # type: ignore[arg-type]  # NumPy's stub has its flags in the way
        return stream.getvalue()
    try:
        return Path(file).read_bytes()
    except OSError as problem:
        raise StudyError(f"{init}: cannot be read ({problem.strerror})") from None


def _is_whole(copy: Path, digest: str) -> bool:
    return copy.is_file() and _digest(copy) == digest


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
