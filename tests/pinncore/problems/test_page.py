"""docs/problems.md: its examples are problems as they stand, its tables name all settings."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pytest

from pinncore import PROBLEMS, Problem, problem_class
from pinncore.geometry import SAMPLERS
from pinncore.problems import DEFAULT
from pinncore.problems.declaring import base_settings
from pinncore.settings import hints
from tests import ROOT
from tests.pages import DOCS, blocks

PAGE = DOCS / "problems.md"
TEXT = PAGE.read_text()
BLOCKS = {re.findall(r"(?:class|def) (\w+)", block.text)[0]: block.text for block in blocks(PAGE, "python")}
EXAMPLES = [text for text in BLOCKS.values() if "class " in text]  # the others are methods of a class
AROUND = """\
import sympy as sp
from pinncore import Box, Problem, TorchCall


def my_flux(u, u_t, u_xx):
    return u_t - u * u_xx


class Around(Problem):
    coordinates = {"x": "m", "t": "s"}
    outputs = {"u": "m/s"}
    domain = Box(x=(-1, 1), t=(0, 1))
    length: float = 2.0

    def equations(self, u, x, t):
        return {"flow": u.diff(t) - u.diff(x, 2)}

"""
ROWS = {
    name: line for line in reversed(TEXT.splitlines()) for name in re.findall(r"^\| `(\w+)` \|", line)
}  # the first of a name
FILES = {  # columns of the tables that the examples name
    "species.csv": ("x", "y", "t", "substrate", "catalyst"),
    "rain.csv": ("x", "y", "rain"),
    "wells.csv": ("x", "y", "level"),
}


class Opened:
    """Three rows of a table."""

    elocal_factor, notes = None, ()

    def __init__(self, path: str) -> None:
        self.source, self.names = path, list(FILES[Path(path).name])

    def numbers(self, name: str) -> Any:
        return np.linspace(0.2, 0.8, 3) + self.names.index(name)

    def place(self, row: int) -> str:
        return f"row {row}"


@pytest.fixture(params=BLOCKS)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[type[Problem]]:
    file, text = tmp_path / "my.py", BLOCKS[request.param]
    file.write_text(text if text in EXAMPLES else AROUND + indent(text, "    "))
    spec = importlib.util.spec_from_file_location("my_example", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules["my_example"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (kind,) = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == "my_example"]
    yield kind
    del sys.modules["my_example"]


def test_an_example_is_a_problem(example: type[Problem]) -> None:
    problem = example().reading(lambda path, role, options: Opened(path))
    assert len(problem.point_sets) == len(problem.groups)
    for index, points in enumerate(problem.point_sets):
        assert len(points) > 0
        assert np.isfinite(problem.group_columns(index, points)).all()
    assert set(problem.terms) == set(example.term_names())
    if problem.solution is not None:
        assert problem.solution.shape == (len(example.outputs), len(problem.field_points))


def test_examples_are_short() -> None:
    assert len(EXAMPLES) == 3 and len(BLOCKS) == 6
    assert max(len(text.splitlines()) for text in EXAMPLES) <= 40


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_shipped_problem_has_its_row(name: str) -> None:
    assert name in ROWS
    kind = problem_class(name)
    if name != DEFAULT:
        own = [setting for setting in hints(kind) if setting not in base_settings(kind)]
        assert [s for s in own if not s.endswith("_weight") and f"`{s}`" not in ROWS[name]] == []
        assert (ROOT / "examples" / f"{name}.yaml").is_file()


def test_the_settings_of_every_problem_are_those_of_the_table() -> None:
    kind: Any = problem_class("burgers")
    assert {setting for setting in base_settings(kind) if setting not in ROWS} == set()
    defaults: Mapping[str, Any] = {setting: getattr(kind(), setting) for setting in base_settings(kind)}
    for setting, default in defaults.items():
        written = ROWS[setting].split("|")[2].strip().strip("`")
        assert written == (
            "null" if default is None else f"{default:g}" if isinstance(default, float) else str(default)
        )
    assert [sampler for sampler in SAMPLERS if f"`{sampler}`" not in ROWS["points_sampler"]] == []
