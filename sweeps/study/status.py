"""How a study stands, read in a moment and without taking it from its driver: no training library is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..storage import database, lock, optuna_reader
from .study_file import LIMIT, OBJECTIVES, STUDY_YAML, identified, whole_text


def read_status(study_dir: Path) -> dict[str, Any]:
    """Counts, the best trial and who runs the study. Raises `StudyError`."""
    text, holder = whole_text(study_dir), lock.held_by(study_dir)
    study, where = identified(text, study_dir)
    connection = database.connect(where)
    try:
        optuna_reader.refuse_damaged(connection)
        number = optuna_reader.study_id(connection, study)
        known = optuna_reader.attributes(connection, number)
        found, leader = optuna_reader.counts(connection, number), optuna_reader.best(connection, number)
    finally:
        connection.close()
    limit, objectives = known.get(LIMIT), known.get(OBJECTIVES, [])
    if known.get(STUDY_YAML) != text or limit is None:  # changed by hand, or of an earlier version
        limit, objectives = _understood(study_dir)
    if holder is None:  # what a killed driver left RUNNING is trained by nobody
        found["WAITING"] += found["RUNNING"]
        found["RUNNING"] = 0
    return {
        "study": study,
        "limit": limit,
        "counts": found,
        "objective": ", ".join(objectives),
        "best": leader
        and {"trial": leader[0], "value": leader[1][0], "params": {k: _plain(v) for k, v in leader[2].items()}},
        "held_by": holder,
    }


def _understood(study_dir: Path) -> tuple[int, list[str]]:
    """Trials and objectives by the study file itself; to understand it takes seconds."""
    from ..search import Search
    from .loading import read_spec

    spec = read_spec(study_dir)
    return Search(spec).limit, list(spec.objectives)


def _plain(stored: Any) -> Any:
    """A parameter as the study file has it: Optuna keeps lists and mappings as JSON."""
    if isinstance(stored, str) and stored[:1] in ("[", "{"):
        try:
            return json.loads(stored)
        except ValueError:
            return stored
    return stored
