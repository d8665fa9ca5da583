"""A study file to start from: a study that runs as it stands, and every other key with its default and description."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from pinncore.problems.record import ProblemRecord
from pinncore.problems.source import ProblemSource

from . import model, yaml_text
from .sections import PrunerSettings

MARK: Final = "   # "  # between the value of a key and its description
_WIDTH: Final = 118
_START: Final = """\
study: {study}
problem: {{name: {problem}, boundary_weight: 0.05}}
search: {{sampler: tpe, trials: 64}}
space:                                        # the swept fields of problem and train
  width: {{choice: [8, 16, 32]}}                # one of these
  depth: {{int: [1, 4]}}                        # a whole number from 1 to 4
  adam_lr: {{loguniform: [1.0e-3, 2.0e-2]}}     # every ratio equally likely
  lbfgs_history: {{choice: [10, 50, 200]}}
  init: {{choice: [torch, keras, tf1]}}
  scale_factor: {{uniform: [1, 4]}}             # a number from 1 to 4
train: {{epochs: 1000, iterations: 1000}}
budget: {{hours: 2}}
"""
_REST: Final = """\

# Every other key, with its default. Write one into its section above, train.activation: sin as
# train: {activation: sin, ...}, or give it on the command line: --set train.activation=sin. A field of problem or train
# that is to be swept goes under space.
"""


def study_template(study: str, problem: ProblemSource) -> str:
    """Return the text of a study file called `study` for a problem, valid as it stands.

    Below the twelve lines of the study, each line of a comment that has a `MARK` is another key, as a path, with its
    default and description.
    """
    start = _START.format(study=study, problem=problem.reference)
    given = yaml_text.read(start)[0]
    lines, section = [], ""
    for path, value, description in _keys(problem.record, given):
        if path.partition(".")[0] != section:
            section = path.partition(".")[0]
            lines.append("#")
        lines += _lines(path, value, description)
    return "\n".join([f"{start}{_REST}".rstrip("\n"), *lines, ""])


def study_name(stem: str) -> str:
    """Return the name of a study from that of its file, without what a name may not have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:100].strip("._-") or "study"


def _keys(problem: ProblemRecord, given: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yield path, default and description of every key that is neither `given` nor swept, in the order of the file."""
    for name, field in model.study_file(problem).model_fields.items():
        section: Any = field.annotation
        if name == "space":
            continue
        if not hasattr(section, "model_fields"):
            if name not in given:
                yield name, field.default, field.description or ""
            continue
        for key, about in section.model_fields.items():
            path = f"{name}.{about.alias or key}"
            if (about.alias or key) in (*given.get(name, {}), *given["space"]):
                continue
            if about.default_factory is PrunerSettings:
                yield path, PrunerSettings().kind, about.description
                for part, rule in list(PrunerSettings.model_fields.items())[1:]:
                    yield f"{path}.{part}", rule.default, rule.description or ""
            else:
                yield path, about.get_default(call_default_factory=True), about.description


def _lines(path: str, value: Any, description: str) -> list[str]:
    plain = list(value) if isinstance(value, tuple) else value
    key = yaml_text.write({path: plain}).strip().removeprefix("{").removesuffix("}")
    return textwrap.wrap(
        f"{key}{MARK}{description}",
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="#       ",
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
