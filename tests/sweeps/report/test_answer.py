"""Beside the error of the best trial stands what it is worth: other errors on the same data, and the seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.fft import dctn, idctn
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator, RegularGridInterpolator

from pinncore import load_data
from pinncore.problems.columns import relative
from pinncore.problems.nonlocal_strain import NonlocalStrain
from sweeps.report.answer import answer, ladder

from .. import synthetic, toy_problem
from ..problems import STRAIN, WIND
from .test_report import Page, read


def texts(folder: Path, objective: str = "rel_l2", **changed: Any) -> list[str]:
    """Return the texts of the answer and of the table beside it, for four trials with fields at the small points."""
    tables = synthetic.make_study(folder, trials=0, failed=0, objective=objective)
    rows = [synthetic.trial_row(trial) | {"rel_l2": 0.01 * (trial + 1)} | changed for trial in range(4)]
    tables.publish("a", trials=rows, fields=[synthetic.field(0, synthetic.small_points())])
    study = read(folder)
    assert study.best is not None
    return Page(str(answer(study, study.best)) + str(ladder(study, study.best))).texts


def test_an_error_stands_among_others_on_its_data(tmp_path: Path) -> None:
    found = texts(tmp_path / "demo")
    _, _, local, reference = synthetic.small_points()
    identity, mean = relative(local, reference), relative(np.full(reference.size, reference.mean()), reference)
    assert mean > identity
    sentence = f"{identity / 0.01:.2g} times better than the local strain, u = e ({100 * identity:.3g} %)"
    limit = "2.4 times what an exact solution leaves: the strong form solved on a fine grid"
    assert "Is 1 % good?" in found and sentence in found[3] and limit in found[3] and "another seed" in found[3]
    rows = found[found.index("of") + 1 :]
    assert rows[0::2] == [f"{100 * mean:.3g} %", f"{100 * identity:.3g} %", "2.5 %", "1 %", "0.42 %"]
    assert rows[5] == "median of 4 complete trials" and rows[7] == "the best, trial 0"


def test_an_error_that_a_guess_reaches_is_not_good(tmp_path: Path) -> None:
    found = texts(tmp_path / "demo", rel_l2=0.9)
    assert found[3].startswith("No. Without any training, the local strain, u = e (")
    assert "No larger than what an exact solution leaves" in texts(tmp_path / "low", rel_l2=0.004)[3]


def test_without_a_reference_nothing_is_claimed(tmp_path: Path) -> None:
    found = texts(tmp_path / "demo", "loss", rel_l2=None)
    assert "How good is it?" in found and "no reference field" in " ".join(found) and "of" not in found


def test_without_a_kept_field_the_data_are_asked(tmp_path: Path) -> None:
    tables = synthetic.make_study(tmp_path / "demo", trials=0, failed=0)
    bundled = load_data("strb100").sha256
    for name, digest in (("a", "d" * 64), ("b", bundled)):  # those of other data say nothing
        tables.publish(name, trials=[synthetic.trial_row(len(name)) | {"rel_l2": 0.02, "data_hash": digest}])
        study = read(tmp_path / "demo")
        assert study.best is not None
        assert ("17.3 %" in str(ladder(study, study.best | {"data_hash": digest}))) == (digest == bundled)


def test_yardsticks_are_computed_from_the_data() -> None:
    field, strain = NonlocalStrain().field(np.zeros((1, 6400))), STRAIN.record
    errors = [each.rel_l2 for each in strain.yardsticks(field, {"data": "strb100"})]
    assert errors[:2] == pytest.approx([0.45, 0.173], abs=3e-3)
    assert len(errors) == 3 and len(strain.yardsticks(field, {"data": {"npz": "of_a_user.npz"}})) == 2
    assert strain.yardsticks(field | {"reference": np.full(6400, np.nan)}, {}) == strain.yardsticks({}, {}) == ()
    of_wind = WIND.record.yardsticks(toy_problem.Wind().field(np.zeros((1, 64))), {})
    assert [each.what for each in of_wind] == ["the best constant field"]


def test_the_limit_of_the_bundled_data_is_what_the_equation_leaves() -> None:
    """Solve it by cosines on 320 x 320 points, e being interpolated linearly."""
    gauss, cells = load_data("strb100").gauss, 320
    axis = (np.arange(cells) + 0.5) * 100 / cells
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=2)
    corners = np.stack([gauss.x_mm, gauss.y_mm], axis=1)
    forcing = LinearNDInterpolator(corners, gauss.elocal)(places)
    outside = np.isnan(forcing)
    forcing[outside] = NearestNDInterpolator(corners, gauss.elocal)(places[outside])
    waves = (np.pi * np.arange(cells) / 100) ** 2
    solved = idctn(dctn(forcing) / (1 + gauss.g_mm2[0] * (waves[:, None] + waves)))
    predicted = RegularGridInterpolator((axis, axis), solved, bounds_error=False, fill_value=None)(corners)
    assert gauss.enonlocal_true is not None
    limit = STRAIN.record.limits["strb100"]
    assert limit.is_limit and relative(predicted, gauss.enonlocal_true) == pytest.approx(limit.rel_l2, rel=0.05)
