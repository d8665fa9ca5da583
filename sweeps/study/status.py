"""The status of a study, read quickly and beside its driver: no training library is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..storage import database, lock, optuna_reader
from .study_file import LIMIT, OBJECTIVES, STUDY_YAML, identified, whole_text


def read_status(study_dir: Path) -> dict[str, Any]:
    """Return the counts of trials, the best trial and who runs the study. Raises `StudyError` for a damaged study."""
    text, holder = whole_text(study_dir), lock.held_by(study_dir)
    study, where = identified(text, study_dir)
    connection = database.connect(where)
    try:
        optuna_reader.refuse_damaged(connection)
        number = optuna_reader.study_id(connection, study)
        attributes = optuna_reader.attributes(connection, number)
        counts, leader = optuna_reader.counts(connection, number), optuna_reader.best(connection, number)
    finally:
        connection.close()
    limit, objectives = attributes.get(LIMIT), attributes.get(OBJECTIVES, [])
    if attributes.get(STUDY_YAML) != text or limit is None:  # changed by hand, or not counted yet
        limit, objectives = _limit_and_objectives(study_dir)
    if holder is None:  # trials that a killed driver left RUNNING wait to be trained
        counts["WAITING"] += counts["RUNNING"]
        counts["RUNNING"] = 0
    return {
        "study": study,
        "limit": limit,
        "counts": counts,
        "objective": ", ".join(objectives),
        "best": leader
        and {"trial": leader[0], "value": leader[1][0], "params": {k: _plain(v) for k, v in leader[2].items()}},
        "held_by": holder,
    }


def _limit_and_objectives(study_dir: Path) -> tuple[int, list[str]]:
    """Return number of trials and objectives from the study file itself; parsing it takes seconds."""
    from ..search import search_of
    from .loading import read_spec

    spec = read_spec(study_dir)
    return search_of(spec).limit, list(spec.objectives)


def _plain(stored: Any) -> Any:
    """Return a parameter as in the study file: Optuna stores lists and mappings as JSON."""
    if isinstance(stored, str) and stored[:1] in ("[", "{"):
        try:
            return json.loads(stored)
        except ValueError:
            return stored
    return stored
