"""Inputs of a study from elsewhere: files of initial weights, trials of other studies.

Both are stored at the first start, so that the study can continue when their source has changed or is gone.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from pinncore.disk import read_bytes, write_whole
from pinncore.npz import MOST_BYTES

from ..errors import StudyError
from ..search import PastTrial, search_of
from ..search.points import Points
from ..spec.sources import FILE_PREFIX, split_source
from ..spec.study_spec import StudySpec, config_sha256
from ..states import COMPLETE
from ..storage.database import database
from ..storage.optuna_sql import Ledger, StudyReader, TrialRecord
from .home import is_study
from .initial_weights import trial_weights
from .loading import read_spec
from .provenance import data_hash

FOLDER: Final = "initial_weights"
WEIGHTS, WARM_START = "initial_weights", "warm_start"  # attributes of the study in its database

Entered = tuple[TrialRecord, dict[str, Any]]  # a trial in a database, and its parameters


def settle_weights(study_dir: Path, spec: StudySpec, ledger: Ledger) -> dict[str, str]:
    """Copy the study's files of initial weights into its folder; return the copies by their names in the study file.

    Raises `StudyError` where a source has changed since the study began, or is gone together with its copy.
    """
    stored: dict[str, str] = ledger.attributes().get(WEIGHTS, {})
    copies, digests = {}, dict(stored)
    for init in spec.values("init"):
        file, _, group = str(init).removeprefix(FILE_PREFIX).partition("#")
        if not init.startswith(FILE_PREFIX) and split_source(init) is None:
            continue
        digest = stored.get(init)
        copy = study_dir / FOLDER / f"{digest}.npz"
        if digest is None or not copy.is_file() or _digest(copy) != digest:
            payload = _read(init, file)
            new_digest = hashlib.sha256(payload).hexdigest()
            if digest not in (None, new_digest):
                raise StudyError(
                    f"{init}: has changed since the study began, and the copy in {copy} is damaged or gone"
                )
            digest = digests[init] = new_digest
            copy = study_dir / FOLDER / f"{digest}.npz"
            copy.parent.mkdir(exist_ok=True)
            write_whole(copy, payload)
        elif init.startswith(FILE_PREFIX) and os.path.isfile(file) and _digest(Path(file)) != digest:
            raise StudyError(
                f"{init}: the file has changed since the study began (hash {digest[:12]}). Restore it, or start a "
                "study with another name"
            )
        name = f"{FOLDER}/{copy.name}"
        copies[init] = f"{name}#{group}" if group and init.startswith(FILE_PREFIX) else name
    if digests != stored:
        ledger.set_attribute(WEIGHTS, digests)
    return copies


def warm_start(spec: StudySpec, ledger: Ledger, but: Iterable[Mapping[str, Any]] = ()) -> list[PastTrial]:
    """Return the complete trials of the studies this one learns from, as they were when it began.

    Those that are the points `but` of its space are left out.
    """
    if not spec.search.warm_start:
        return []
    trials = ledger.attributes().get(WARM_START)
    if trials is None:
        trials = [trial for folder in spec.search.warm_start for trial in _results(Path(folder), spec)]
        ledger.set_attribute(WARM_START, trials)
    points, known = Points(spec), {config_sha256(params) for params in but}
    return [
        PastTrial(i, trial["params"], COMPLETE, tuple(trial["values"]))
        for i, trial in enumerate(trials)
        if not known or config_sha256(points.fitting(trial["params"]) or {}) not in known
    ]


def reusable(spec: StudySpec) -> tuple[dict[str, str], list[str]]:
    """Return the complete trials of other studies that this one may take over, and the studies that are gone.

    The trials are FOLDER/N, by the hash of their configuration. Studies with other data or another number of replicates
    contribute none.
    """
    trials: dict[str, str] = {}
    gone = [folder for folder in spec.search.reuse if not is_study(Path(folder))]
    for folder in spec.search.reuse:
        if folder in gone:
            continue
        other, attributes, records = read_other(Path(folder))
        if other.search.replicates == spec.search.replicates and attributes.get("data_hash") == data_hash(spec):
            for record, params in _complete(records):
                trials.setdefault(config_sha256(other.config(params)), f"{folder}/{record.number}")
    return trials, gone


def _results(study_dir: Path, spec: StudySpec) -> list[dict[str, Any]]:
    """Return the complete trials of a study. Raises `StudyError` where its objectives are others."""
    other, _, records = read_other(study_dir)
    if other.objectives != spec.objectives:
        raise StudyError(
            f"search.warm_start: {study_dir} minimises {', '.join(other.objectives)}, this study "
            f"{', '.join(spec.objectives)}. Leave it out"
        )
    return [{"params": params, "values": list(record.values or ())} for record, params in _complete(records)]


def read_other(study_dir: Path) -> tuple[StudySpec, dict[str, Any], list[Entered]]:
    """Return another study, its attributes, and its trials with their parameters."""
    spec = read_spec(study_dir)
    with StudyReader(database(study_dir, spec.state), spec.study, check=True) as reader:
        records, attributes = reader.records(), reader.attributes()
    decoded = search_of(spec).decoded
    return spec, attributes, [(record, decoded(record.params)) for record in records]


def _complete(records: Iterable[Entered]) -> Iterator[Entered]:
    return ((record, params) for record, params in records if record.state == COMPLETE)


def _read(init: str, file: str) -> bytes:
    source = split_source(init)
    if source is not None:
        stream = io.BytesIO()
        np.savez(stream, **trial_weights(*source))  # type: ignore[arg-type]  # NumPy's stub takes names for flags
        return stream.getvalue()
    try:
        return read_bytes(file, MOST_BYTES)
    except OSError as problem:
        raise StudyError(f"{init}: cannot be read ({problem.strerror})") from None


def _digest(file: Path) -> str:
    return hashlib.sha256(read_bytes(file, MOST_BYTES)).hexdigest()
