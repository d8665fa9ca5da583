"""What a study's data cannot give is refused before anything is trained; what is doubtful is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sweeps.errors import SpecError
from sweeps.study.loading import load_text
from tests import ROOT

from ..inputs.tables import Columns, as_csv, plate
from ..invoking import errors_of, invoke

STUDY = """\
study: s
problem: {{data: {{gauss_points: gauss_points.csv, lrb: lrb.csv, btb: btb.csv}}}}
search: {{trials: 1, {search}}}
"""


def mistakes(folder: Path, search: str, tables: dict[str, Columns]) -> list[str]:
    for name, columns in tables.items():
        as_csv(folder / f"{name}.csv", columns)
    with pytest.raises(SpecError) as caught:
        load_text(STUDY.format(search=search), base=folder)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_an_objective_without_points_is_refused() -> None:
    text = errors_of(invoke("validate", ROOT / "tests" / "cases" / "objective-process-zone" / "study.yaml"))
    assert text == (
        "error: search.objective: cannot be computed from problem.data: no Gauss point lies in the process zone, "
        '25 < x < 47.5 mm, y < 2.5 mm, got "process_zone_error". Use another objective.\n'
    )


def test_every_metric_that_ranks_or_prunes_is_checked(tmp_path: Path) -> None:
    tables = plate()
    tables["gauss_points"]["enonlocal_true"] = np.where(
        tables["gauss_points"]["xcoord"] < 2, 0, tables["gauss_points"]["elocal"]
    )
    (line,) = mistakes(tmp_path, "objective: [rel_l2, paper_metric]", tables)
    assert line.startswith("search.objective[1]: cannot be computed from problem.data: the reference is 0 at some")
    gauss = plate()["gauss_points"]
    tables["gauss_points"] = {name: values[:12] for name, values in gauss.items()}
    (line,) = mistakes(tmp_path, "objective: heldout_residual", tables)
    assert line.startswith("search.objective: cannot be computed from problem.data: there are no points to hold out")


def test_mistakes_in_options_of_the_data_have_their_place(tmp_path: Path) -> None:
    for name, columns in plate().items():
        as_csv(tmp_path / f"{name}.csv", columns)
    text = STUDY.format(search="sampler: random").replace("btb.csv", "btb.csv, length: ft")
    with pytest.raises(SpecError) as caught:
        load_text(text, base=tmp_path)
    (mistake,) = caught.value.mistakes
    assert mistake.path == "problem.data.length" and mistake.rule.startswith("must be um, mm, cm, m, in")


def test_doubtful_data_are_said_by_validate_and_data_check(tmp_path: Path) -> None:
    tables = plate()
    for table in tables.values():
        table["g"] = table["g"] / 10
    files = [as_csv(tmp_path / f"{name}.csv", columns) for name, columns in tables.items()]
    (tmp_path / "study.yaml").write_text(STUDY.format(search="sampler: random") + "space: {width: {choice: [4, 6]}}\n")
    warning = "warning: l_c = 1.26 mm is smaller than the spacing of the Gauss points (about 3.33 mm)"
    for done in (invoke("validate", tmp_path / "study.yaml"), invoke("data", "check", *files)):
        assert done.exit_code == 0 and warning in done.stderr


def test_data_check_takes_the_options_of_a_study_file(tmp_path: Path) -> None:
    tables = plate()
    for table in tables.values():
        table["X pos"] = table.pop("xcoord") / 10
        table["ycoord"], table["g"] = table["ycoord"] / 10, table["g"] / 100
    files = [as_csv(tmp_path / f"{name}.csv", columns) for name, columns in tables.items()]
    done = invoke("data", "check", *files, "--column", "x=X pos", "--length", "cm")
    assert "coordinates in mm (in the file: cm): x 1.667 to 38.33, y 1.667 to 38.33" in done.stdout
    assert "--column must be OURS=THEIRS" in errors_of(invoke("data", "check", *files, "--column", "x"))
    assert "give all three tables" in errors_of(invoke("data", "check", *files[:2]))
    assert "give all three tables" in errors_of(invoke("data", "check", files[0]))
