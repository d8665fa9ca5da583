"""The dashboard's pictures of a trial, whatever its problem is."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from sweeps.dashboard.pictures import FIELDS, PICTURES, fields_of, trial_picture
from sweeps.storage.tables import StudyTables

from .. import any_problem


def size_of(png: bytes) -> tuple[int, int]:
    image = matplotlib.image.imread(io.BytesIO(png))
    assert np.ptp(image[..., :3]) > 0.5, "something is drawn"
    return image.shape[1], image.shape[0]


def tables_of(folder: Path, name: str, *, has_reference: bool = True) -> StudyTables:
    return any_problem.make_study(folder, name, trials=1, has_reference=has_reference)


def test_outputs_stand_below_each_other(tmp_path: Path) -> None:
    one, three = (tables_of(tmp_path / name, name) for name in ("helmholtz", "kovasznay"))
    for name in FIELDS:
        (_, height), (_, tall) = (size_of(trial_picture(tables, name, 0, 0)) for tables in (one, three))
        assert tall == pytest.approx(3 * height, rel=0.02)
    assert size_of(trial_picture(three, "training", 0, 0))


def test_over_one_coordinate_one_picture_shows_all(tmp_path: Path) -> None:
    tables = tables_of(tmp_path / "line", "regression")
    assert fields_of(tables.problem, has_reference=True) == FIELDS[:1]
    alone = tables_of(tmp_path / "alone", "regression", has_reference=False)
    heights = [size_of(trial_picture(each, FIELDS[0], 0, 0))[1] for each in (tables, alone)]
    assert heights[0] > 1.3 * heights[1], "the error stands below"


def test_what_is_not_known_is_told(tmp_path: Path) -> None:
    tables = tables_of(tmp_path / "demo", "wave", has_reference=False)
    assert fields_of(tables.problem, has_reference=False) == FIELDS[:1]
    sizes = {name: size_of(trial_picture(tables, name, 0, 0)) for name in PICTURES}
    assert sizes["reference"] == sizes["error"], "the picture with words"
    assert sizes["predicted"] != sizes["reference"]
