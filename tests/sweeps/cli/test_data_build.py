"""`pinnsweep data build`: what it writes is read back by `data check` and by study files, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from pinncore.data.increments import COLUMNS, DISPLACEMENTS, IncrementTables
from pinncore.data.loading import load_data
from pinncore.fem.damage import DamageAnalysis, Increment
from pinncore.fem.specimens import specimen
from sweeps.inputs.opening import open_table
from sweeps.study.loading import load_text

from ..invoking import errors_of, invoke

BUILD = ("data", "build", "strb100", "--mesh", "20")
NAME = "strb100_20x20_increment3"
TABLES = ("gauss_points", "nodes_lrb", "nodes_btb")


def csv_source(folder: Path, name: str = NAME) -> dict[str, str]:
    files = [str(folder / f"{name}_{table}.csv") for table in TABLES]
    return dict(zip(("gauss_points", "lrb", "btb"), files, strict=True))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Increments 2 and 3 in every format, in a folder that was not there."""
    folder = tmp_path_factory.mktemp("built") / "new" / "tables"
    formats = [word for kind in ("csv", "npz", "mat") for word in ("--format", kind)]
    result = invoke(*BUILD, "--increment", 3, "--increment", 2, "--increment", 3, "-o", folder, *formats)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""  # no progress where stderr is no terminal
    assert "increment 2: load factor 0.01\n" in result.stdout and "increment 3: load factor 0.015\n" in result.stdout
    assert f"  wrote {folder / NAME}.npz\n" in result.stdout
    assert "3 increments, 400 elements, 4 Newton iterations" in result.stdout
    return folder


@pytest.fixture(scope="module")
def tables() -> IncrementTables:
    analysis = DamageAnalysis(specimen("strb100"), 20)
    return IncrementTables(analysis, next(each for each in analysis.increments() if each.number == 3))


def test_every_format_has_the_same_numbers(built: Path, tables: IncrementTables) -> None:
    """To the last bit; boundary tables have a reference in `.npz` alone, as the bundled data have."""
    assert sorted(file.name for file in built.iterdir() if "increment3" in file.name) == sorted(
        [f"{NAME}_{table}.csv" for table in (*TABLES, "nodes", "elements")] + [f"{NAME}.npz", f"{NAME}.mat"]
    )
    npz = load_data({"npz": str(built / f"{NAME}.npz")})
    assert npz.sha256 == tables.data.sha256 and npz.notes == tables.data.notes
    csv = load_data(csv_source(built), open_table)
    mat = load_data({"mat": str(built / f"{NAME}.mat"), "columns": {"enonlocal_true": 11}}, open_table)
    assert csv.sha256 == mat.sha256
    for data in (csv, mat):
        for theirs, ours in zip((data.gauss, data.lrb, data.btb), (npz.gauss, npz.lrb, npz.btb), strict=True):
            for name, values in theirs.columns.items():
                np.testing.assert_array_equal(values, ours.columns[name])
    assert len(npz.gauss) == 1600 and len(npz.lrb) == len(npz.btb) == 42


def test_columns_are_as_published(built: Path, tables: IncrementTables) -> None:
    for table in (*TABLES, "nodes"):
        head, *rows = (built / f"{NAME}_{table}.csv").read_text().splitlines()
        columns = (*COLUMNS, *(DISPLACEMENTS if table == "nodes" else ()))
        assert head == ",".join(columns)
        found = np.array([[float(cell) for cell in row.split(",")] for row in rows])
        np.testing.assert_array_equal(found, np.stack(list(tables.tables[table].values()), axis=1))
    for table, across, along in (("nodes_lrb", "xcoord", "ycoord"), ("nodes_btb", "ycoord", "xcoord")):
        assert tables.tables[table][across].tolist() == [0.0] * 21 + [100.0] * 21
        assert tables.tables[table][along].tolist() == 2 * np.linspace(0, 100, 21).tolist()
    arrays = scipy.io.loadmat(built / f"{NAME}.mat")
    assert arrays["All_TrainingData_20x20_GP"].shape == (1600, 1, 12)
    np.testing.assert_array_equal(
        arrays["All_TrainingData_20x20_nodeslrb"][:, 0, 10], tables.tables["nodes_lrb"]["elocal"]
    )
    with np.load(built / f"{NAME}.npz") as archive:
        np.testing.assert_array_equal(archive["nodes/damage"], tables.tables["nodes"]["damage"])


def test_what_was_written_is_read_by_data_check_and_by_a_study_file(built: Path) -> None:
    for words in (csv_source(built).values(), [built / f"{NAME}.npz"], [built / f"{NAME}.mat"]):
        report = json.loads(invoke("data", "check", *words, "--json").stdout)
        assert report["points"] == {"gauss_points": 1600, "lrb": 42, "btb": 42}
    text = "study: built\nsearch: {trials: 1}\nspace: {width: {choice: [4]}}\n"
    text += f"problem: {{name: nonlocal_strain, data: {{npz: {NAME}.npz}}}}\n"
    assert load_text(text, base=built).problem["data"] == {"npz": str(built / f"{NAME}.npz")}


def test_elocal_can_be_multiplied_by_ten_as_in_published_csv(built: Path, tmp_path: Path) -> None:
    assert invoke(*BUILD, "--increment", 3, "-o", tmp_path, "--elocal-factor", 10).exit_code == 0
    data = load_data(csv_source(tmp_path), open_table)
    assert data.elocal_factor == 10
    np.testing.assert_allclose(data.gauss.elocal, load_data(csv_source(built), open_table).gauss.elocal, rtol=1e-15)


def test_as_json(tmp_path: Path) -> None:
    result = invoke(*BUILD, "--increment", 1, "-o", tmp_path, "--format", "npz", "--json")
    record = json.loads(result.stdout)
    assert (record["specimen"], record["mesh"], record["elements"], record["notes"]) == ("strb100", 20, 400, [])
    (increment,) = record["increments"]
    assert increment["files"] == [str(tmp_path / "strb100_20x20_increment1.npz")]
    assert increment["load_factor"] == 0.005 and increment["ranges"]["damage"] == [0, 0]
    assert increment["equation_error"] < 1e-11


def test_a_halved_step_is_a_warning_and_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Increment, "note", "increment 1: it was halved")
    result = invoke(*BUILD, "--increment", 1, "-o", tmp_path, "--format", "npz")
    assert result.stderr == "warning: increment 1: it was halved\n"
    assert "increment 1: it was halved" in load_data({"npz": str(tmp_path / "strb100_20x20_increment1.npz")}).notes


def test_files_are_replaced_only_by_force(tmp_path: Path) -> None:
    """Whether any is there is asked before the analysis."""
    taken = tmp_path / "strb100_20x20_increment3_nodes.csv"
    taken.write_text("mine")
    build = (*BUILD, "--increment", 1, "--increment", 3, "-o", tmp_path)
    assert "nodes.csv exists already: add --force to replace it" in errors_of(invoke(*build))
    assert [file.name for file in tmp_path.iterdir()] == [taken.name] and taken.read_text() == "mine"
    assert invoke(*build, "--force").exit_code == 0
    assert taken.read_text().startswith("xcoord,")


def test_what_was_reached_stays_where_the_command_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    increments = DamageAnalysis.increments

    def interrupted(analysis: DamageAnalysis) -> Iterator[Increment]:
        yield next(increments(analysis))
        raise KeyboardInterrupt

    monkeypatch.setattr(DamageAnalysis, "increments", interrupted)
    result = invoke(*BUILD, "--increment", 1, "--increment", 2, "-o", tmp_path, "--format", "npz")
    assert result.exit_code == 130 and "interrupted" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["strb100_20x20_increment1.npz"]
    assert len(load_data({"npz": str(tmp_path / "strb100_20x20_increment1.npz")}).gauss) == 1600


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["strb10", "--increment", "1"], "specimen: there is none called 'strb10'. Known: strb100"),
        (["strb100", "--increment", "0"], "--increment must be from 1 to 1,000, got 0"),
        (["strb100", "--increment", "1001"], "--increment must be from 1 to 1,000, got 1001"),
        (["strb100"], "Missing option '--increment'"),
        (["strb100", "--increment", "1", "--mesh", "45"], "mesh: must be a multiple of 10 from 10 to 200, got 45"),
        (["strb100", "--increment", "1", "--format", "npz", "--elocal-factor", "10"], "--elocal-factor 10 is for csv"),
        (["strb100", "--increment", "1", "-o", __file__], "is not a folder: give another one with -o FOLDER"),
        (["strb100", "--increment", "1", "-o", f"{__file__}/new"], "cannot be made (Not a directory)"),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    assert message in errors_of(invoke("data", "build", *words))
