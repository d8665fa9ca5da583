"""Shared by the tests of study files: a smallest file, mistakes as lines, a folder of data and weights."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from sweeps.errors import SpecError
from sweeps.study.loading import load_text
from tests import ROOT

BUILT_FIRST = ("ifenn_error_convergence.yaml", "ifenn_shapes.yaml")  # need tables: tests/test_published_study.py
EXAMPLES = sorted(file for file in (ROOT / "examples").glob("*.yaml") if file.name not in BUILT_FIRST)
ELSEWHERE = Path("/nonexistent")
MINIMAL = "study: s\nsearch: {trials: 4}\n"


def mistakes(text: str, base: Path = ELSEWHERE, overrides: tuple[str, ...] = ()) -> list[str]:
    """Return every mistake of a file, as the lines a user sees."""
    with pytest.raises(SpecError) as caught:
        load_text(text, base=base, overrides=overrides)
    assert str(caught.value) == "\n".join(map(str, caught.value.mistakes))
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def write_files(folder: Path) -> None:
    """Write data tables, weights for 2-8-8-1, and files that are neither."""
    points = "xcoord,ycoord,g,elocal,enonlocal_true\n" + "\n".join(
        f"{x},{y},8,{1e-4 + 1e-6 * x},1e-4" for x in (0, 50, 100) for y in (0, 40, 100)
    )
    for name in ("gauss", "lrb", "btb"):
        (folder / f"{name}.csv").write_text(points)
    (folder / "blind.csv").write_text(points.replace("enonlocal_true", "other"))
    (folder / "words.csv").write_text("a,b\n1,2\n")
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 cut off here")
    layers = (2, 8, 8, 1)
    arrays = {f"W{i}": np.ones(shape) for i, shape in enumerate(itertools.pairwise(layers), start=1)}
    np.savez(folder / "weights.npz", **arrays, **{f"b{i}": np.ones(n) for i, n in enumerate(layers[1:], start=1)})
