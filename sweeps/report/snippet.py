"""A trial's configuration as a study file to copy."""

from __future__ import annotations

import json
from typing import Any

from pinncore.problems.record import ProblemRecord
from pinncore.problems.source import ProblemSource

from ..errors import SpecError
from ..query.ranking import dimensions
from ..query.text import printable, shown
from ..spec import yaml_text
from ..storage.schema import Section, all_settings, config_of

SEEDS = 10  # replicates of the configuration: seeds alone spread errors more than most settings do


def snippet(name: str, study_file: dict[str, Any], source: ProblemSource, row: dict[str, Any]) -> str:
    """Return a study file of the configuration in a trials row: swept settings and those not at their default."""
    swept, search = set(dimensions(study_file)), study_file.get("search") or {}
    objective = {"objective": search["objective"]} if search.get("objective", "rel_l2") != "rel_l2" else {}
    content: dict[str, Any] = {
        "study": f"{name[:90]}-best",
        "problem": {"name": source.reference} | _worth_writing("problem", row, swept, source.record),
        "search": {"sampler": "grid", "replicates": SEEDS} | objective,  # an empty space gives one trial
        "train": _worth_writing("train", row, swept, source.record),
    }
    result = shown("rel_l2", row["rel_l2"]) or "not known"
    lines = [f"# Trial {row['trial']} of {printable(name)}: rel_l2 {result}", f"# with seed {row['seed']}"]
    for key, value in content.items():  # one setting per line is easier to read and edit than one section per line
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {_line(field, item)}" for field, item in value.items())]
        else:
            lines.append(_line(key, value))
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    """Return one line of YAML: text without quotes where it reads back unchanged, everything else as JSON."""
    bare = f"{key}: {value}"
    try:
        if isinstance(value, str) and yaml_text.read(bare) == ({key: value}, []):
            return bare
    except SpecError:
        pass
    return f"{key}: {json.dumps(value, ensure_ascii=False)}"


def _worth_writing(section: Section, row: dict[str, Any], swept: set[str], problem: ProblemRecord) -> dict[str, Any]:
    """Return the settings of a section that were swept or are not at their defaults."""
    values = config_of(row, problem)[section]
    settings = (setting for setting in all_settings(problem) if setting.section == section)
    return {
        setting.name: values[setting.name]
        for setting in settings
        if setting.name in swept or values[setting.name] != setting.default
    }
