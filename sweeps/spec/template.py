"""A study file to start from: a study that runs as it stands, and every other key with its default and description."""

from __future__ import annotations

import json
import keyword
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pinncore.problems import DEFAULT, Problem
from pinncore.problems.record import ProblemRecord
from pinncore.problems.source import ProblemSource

from . import model, yaml_text
from .sections import PrunerSettings

MARK: Final = "   # "  # between the value of a key and its description
_WIDTH: Final = 118
_START: Final = """\
study: {study}
problem: {{{problem}}}
search: {{{search}}}
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
_OF_STRAIN: Final = {"boundary_weight": 0.05}  # with which the shipped data are solved best
_PROBLEM: Final = '''\
"""Heat in a rod. Write here what your equation is called."""

import sympy as sp

from pinncore import Box, Condition, Problem


class {name}(Problem):
    # What derivatives are taken to, and what the network gives: names and units.
    coordinates = {{"x": "m", "t": "s"}}
    outputs = {{"u": "K"}}

    # Settings: a study file fixes or sweeps them. A float is a symbol in the methods below.
    diffusivity: float = 0.1

    # Where the equation holds.
    domain = Box(x=(0, 1), t=(0, 1))

    # The equations by name, each an expression that must be 0.
    def equations(self, u, x, t):
        return {{"heat": u.diff(t) - self.diffusivity * u.diff(x, 2)}}

    # What holds on parts of the boundary.
    def conditions(self, u, x, t):
        return [
            Condition("walls", u, on=self.domain.faces("x")),
            Condition("start", u - sp.sin(sp.pi * x), on=self.domain.face(t=0)),
        ]

    # The solution, for errors. Where it is not known, leave this out and write objective: heldout_residual.
    def reference(self, x, t):
        return sp.exp(-self.diffusivity * sp.pi**2 * t) * sp.sin(sp.pi * x)
'''
_PROBLEM_STUDY: Final = """\
study: {study}
problem: {{name: {file}, points: 1024}}         # diffusivity: 0.2 would stand here too
search: {{sampler: tpe, trials: 16}}
space:                                        # the swept fields of problem and train
  width: {{choice: [8, 16, 32]}}                # one of these
  depth: {{int: [2, 4]}}                        # a whole number from 2 to 4
  adam_lr: {{loguniform: [1.0e-3, 2.0e-2]}}     # every ratio equally likely
  scale_factor: {{uniform: [1, 3]}}             # a number from 1 to 3
train: {{epochs: 1000, iterations: 500}}
budget: {{hours: 1}}
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
    given = {"name": problem.reference} | (_OF_STRAIN if problem.reference == DEFAULT else {})
    search = {"sampler": "tpe", "trials": 64} | ({} if has_reference(problem) else {"objective": "heldout_residual"})
    start = _START.format(study=study, problem=_inline(given), search=_inline(search))
    content = yaml_text.read(start)[0]
    lines, section = [], ""
    for path, value, description in _keys(problem.record, content):
        if path.partition(".")[0] != section:
            section = path.partition(".")[0]
            lines.append("#")
        lines += _lines(path, value, description)
    return "\n".join([f"{start}{_REST}".rstrip("\n"), *lines, ""])


def starter(study: str, file: str, kind: str = "") -> tuple[str, str]:
    """Return the text of a problem to start from, for a file of this name, and that of a study of it.

    `kind` is the name of its class, made from that of the file where it is empty.
    """
    words = re.findall(r"[A-Za-z0-9]+", Path(file).stem)
    name = kind or "".join(word[:1].upper() + word[1:] for word in words)
    name = name if name.isidentifier() and not keyword.iskeyword(name) else f"Problem{name}"
    return _PROBLEM.format(name=name), _PROBLEM_STUDY.format(study=study, file=_scalar(file))


def has_reference(problem: ProblemSource) -> bool:
    """Return whether a problem has a solution to compare with, executing the code of a user's."""
    return problem.is_shipped or problem.problem_class.reference is not Problem.reference


def _inline(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {_scalar(value)}" for key, value in values.items())


def _scalar(value: Any) -> str:
    """Return a value as YAML within a line, text in quotes where it needs them."""
    is_bare = not isinstance(value, str) or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", value)
    return str(value) if is_bare else json.dumps(value)


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
            if name == "track":
                yield path, {}, about.description
                for part, rule in about.annotation.model_fields.items():
                    yield f"{path}.{part}", rule.default, rule.description or ""
            elif about.default_factory is PrunerSettings:
                yield path, PrunerSettings().kind, about.description
                for part, rule in list(PrunerSettings.model_fields.items())[1:]:
                    yield f"{path}.{part}", rule.default, rule.description or ""
            else:
                yield path, about.get_default(call_default_factory=True), about.description


def _lines(path: str, value: Any, description: str) -> list[str]:
    plain = list(value) if isinstance(value, tuple) else value
    key = yaml_text.write({path: plain}).strip()
    key = key[1:-1] if key.startswith("{") else key
    return textwrap.wrap(
        f"{key}{MARK}{description}",
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="#       ",
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
