"""Every form of a table that programs write gives the same numbers as the plain one."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import scipy.io

from pinncore import DataError
from sweeps.inputs.opening import open_table

from .tables import TABLES, Columns, as_csv, plate, read, shown, written


def rewritten(change: Callable[[str], str], separator: str = ",", encoding: str = "utf-8") -> Callable[..., Path]:
    """A writer of CSV whose text is changed."""

    def write(path: Path, columns: Columns) -> Path:
        path.write_bytes(change(as_csv(path, columns, separator).read_text()).encode(encoding))
        return path

    return write


def with_column(name: str, cell: Callable[[int], str], separator: str = ",") -> Callable[..., Path]:
    """A writer of CSV with one more column in front."""

    def write(path: Path, columns: Columns) -> Path:
        head, *rows = as_csv(path, columns, separator).read_text().splitlines()
        lines = [f"{name}{separator}{head}", *(f"{cell(row)}{separator}{line}" for row, line in enumerate(rows))]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def fortran(text: str) -> str:
    head, *rows = text.splitlines()
    numbers = [[f"{float(cell):+.17E}".replace("E", "D") for cell in row.split(",")] for row in rows]
    return "\n".join([head, *(",".join(row) for row in numbers)])


def german(text: str) -> str:
    return text.replace(",", ";").replace(".", ",")


def quoted(text: str) -> str:
    return "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines())


def parquet(path: Path, columns: Columns) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def arrow(path: Path, columns: Columns) -> Path:
    pyarrow.feather.write_feather(pa.table(columns), str(path))
    return path


def arrow_stream(path: Path, columns: Columns) -> Path:
    table = pa.table(columns)
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table)
    return path


def npz(path: Path, columns: Columns) -> Path:
    with path.open("wb") as stream:
        np.savez_compressed(stream, **columns)
    return path


def mat(path: Path, columns: Columns) -> Path:
    scipy.io.savemat(path, columns)
    return path


def xlsx(path: Path, columns: Columns) -> Path:
    book = openpyxl.Workbook()
    book.active.append(list(columns))
    for row in zip(*columns.values(), strict=True):
        book.active.append([float(value) for value in row])
    book.save(path)
    return path


def zipped(path: Path, columns: Columns) -> Path:
    path.write_bytes(gzip.compress(as_csv(path, columns).read_bytes()))
    return path


WRITERS = {
    "tabs": rewritten(lambda text: text.replace(",", "\t")),
    "semicolons": rewritten(lambda text: text.replace(",", ";")),
    "bars": rewritten(lambda text: text.replace(",", " | ")),
    "blanks": rewritten(lambda text: "\n".join(f"  {line.replace(',', '    ')}" for line in text.splitlines())),
    "decimal commas": rewritten(german),
    "decimal commas between tabs": rewritten(lambda text: german(text).replace(";", "\t")),
    "decimal commas in quotes": rewritten(lambda text: quoted(text).replace(".", ",")),
    "quotes": rewritten(quoted),
    "quotes after blanks": rewritten(lambda text: quoted(text).replace(",", ", ")),
    "a byte order mark": rewritten(str, encoding="utf-8-sig"),
    "UTF-16": rewritten(str, encoding="utf-16"),
    "ends of Windows": rewritten(lambda text: text.replace("\n", "\r\n")),
    "ends of old Macs": rewritten(lambda text: text.replace("\n", "\r")),
    "blank lines": rewritten(lambda text: "\n" + text.replace("\n", "\n\n")),
    "blanks around cells": rewritten(lambda text: text.replace(",", " , ")),
    "D exponents": rewritten(fortran),
    "exponents of three digits": rewritten(lambda text: text.replace("e-", "-0")),
    "plus signs": rewritten(lambda text: text.replace(",0.", ",+0.").replace(",2", ",+2")),
    "a # before the header": rewritten(lambda text: f"# {text}"),
    "comments above": rewritten(lambda text: f"# made by hand\n# on a Monday, late\n{text}"),
    "a comment and a # before the header": rewritten(lambda text: f"# made by hand\n# {text}"),
    "Excel's hint": rewritten(lambda text: f"sep=;\n{text.replace(',', ';')}"),
    "a separator at every end": rewritten(lambda text: text.replace("\n", ",\n")),
    "cells with #": with_column("id", lambda row: f"#{row}"),
    "text": with_column("elset", lambda row: f"PLATE_{row % 2}"),
    "text with a comma": with_column("elset", lambda row: f'"plate, part {row}"'),
    "text with a line break": with_column("elset", lambda row: f'"plate\npart {row}"'),
    "row names as R writes them": with_column('""', lambda row: f'"{row}"'),
    "an index as pandas writes it": with_column("", str),
    "an empty column": with_column("remark", lambda _: ""),
    "gz": zipped,
    "Parquet": parquet,
    "Arrow": arrow,
    "an Arrow stream": arrow_stream,
    "npz": npz,
    "mat": mat,
    "xlsx": xlsx,
}  # fmt: skip


@pytest.mark.parametrize("form", WRITERS)
def test_a_form_gives_the_same_numbers(tmp_path: Path, form: str) -> None:
    tables = plate()
    for name in ("plain", "other"):
        (tmp_path / name).mkdir()
    plain = read(written(tmp_path / "plain", tables))
    other = read(written(tmp_path / "other", tables, WRITERS[form], "table"))
    assert other.sha256 == plain.sha256
    assert other.warnings == plain.warnings == ()


def test_what_is_left_out_above_the_header_is_said(tmp_path: Path) -> None:
    found = read(written(tmp_path, plate(), WRITERS["comments above"]))
    assert sum("2 lines above the header begin with # and are left out" in note for note in found.notes) == 3


def test_columns_under_other_names(tmp_path: Path) -> None:
    tables = plate()
    plain = read(written(tmp_path, tables))
    names = {"xcoord": "X [mm]", "ycoord": "Y", "g": "c", "elocal": "eps_eq", "enonlocal_true": "eps_nl"}
    renamed = {name: {names[ours]: values for ours, values in table.items()} for name, table in tables.items()}
    columns = {"x": "X [mm]", "ycoord": "Y", "g_mm2": "c", "local": "eps_eq", "reference": "eps_nl"}
    assert read({**written(tmp_path, renamed), "columns": columns}).sha256 == plain.sha256
    with pytest.raises(DataError, match=r"lacks the column x \(x_mm or xcoord or x\), y .*columns: {x: NAME}"):
        read(written(tmp_path, renamed))


def test_our_own_names_are_read(tmp_path: Path) -> None:
    tables = plate()
    plain = read(written(tmp_path, tables))
    names = {"xcoord": "x_mm", "ycoord": "y_mm", "g": "g_mm2", "elocal": "local", "enonlocal_true": "reference"}
    ours = {name: {names[theirs]: values for theirs, values in table.items()} for name, table in tables.items()}
    ours["gauss_points"]["predicted"] = ours["gauss_points"]["local"]
    assert read(written(tmp_path, ours)).sha256 == plain.sha256


def test_two_columns_that_mean_the_same_are_refused_until_one_is_named(tmp_path: Path) -> None:
    tables = plate()
    for table in tables.values():
        table["x"] = table["xcoord"] + 1
    source = written(tmp_path, tables)
    with pytest.raises(DataError, match="has both xcoord and x, which mean the same"):
        read(source)
    assert read({**source, "columns": {"x": "xcoord"}}).gauss.x_mm[0] == pytest.approx(40 / 24, rel=1e-6)


@pytest.mark.parametrize(("unit", "mm"), [("m", 1000.0), ("cm", 10.0), ("um", 1e-3), ("in", 25.4)])
def test_a_stated_length_is_taken(tmp_path: Path, unit: str, mm: float) -> None:
    tables = plate()
    plain = read(written(tmp_path, tables))
    for table in tables.values():
        table["xcoord"], table["ycoord"], table["g"] = table["xcoord"] / mm, table["ycoord"] / mm, table["g"] / mm**2
    found = read({**written(tmp_path, tables), "length": unit})
    np.testing.assert_allclose(found.gauss.x_mm, plain.gauss.x_mm, rtol=1e-14)
    np.testing.assert_allclose(found.gauss.g_mm2, plain.gauss.g_mm2, rtol=1e-14)
    assert any(f"coordinates in mm (in the file: {unit})" in note for note in found.notes)
    for table in tables.values():
        table["g"] = table["g"] * mm**2
    assert read({**written(tmp_path, tables), "length": {"x": unit, "y": unit}}).gauss.g_mm2[0] == 8.0


@pytest.mark.parametrize(
    ("option", "fragment"),
    [
        ({"length": "ft"}, "must be um, mm, cm, m, in"),
        ({"length": {"elocal": "m"}}, "'elocal' has no unit of length"),
        ({"columns": {"z": "xcoord"}}, "'z' is no column of ours: x, y, g, elocal, enonlocal_true"),
        ({"columns": {"x": "xcoord", "x_mm": "ycoord"}}, "x is given twice"),
        ({"columns": {"x": "xcoord", "y": "xcoord"}}, "two columns of ours are read from 'xcoord'"),
        ({"columns": {"x": "X"}}, "lacks the column X, which data.columns names for x"),
        ({"columns": "xcoord"}, "must map our names to those of the tables"),
        ({"columns": {"x": [1]}}, "must be the name of a column"),
        ({"increment": 3}, "holds one table: increment choose from the tables of a .mat file"),
        ({"mat": "d.mat"}, "mat holds all three tables"),
        ({"csv": "d.csv"}, "unknown key 'csv'"),
        *(({"elocal_factor": factor}, "must be auto, 1 or 10") for factor in (5, True, "ten")),
    ],
)
def test_an_option_that_cannot_be_right_is_refused(tmp_path: Path, option: dict[str, Any], fragment: str) -> None:
    with pytest.raises(DataError) as caught:
        read({**written(tmp_path, plate()), **option})
    assert fragment in str(caught.value)


def published(tables: dict[str, Columns], mesh: str = "A") -> dict[str, np.ndarray]:
    """The arrays of a published .mat file with three increments, of which the second is ours."""
    arrays = {}
    for name, part in zip(TABLES, ("GP", "nodeslrb", "nodesbtb"), strict=True):
        table = tables[name]
        values = np.zeros((len(table["xcoord"]), 3, 12))
        for feature, column in ((0, "xcoord"), (1, "ycoord"), (2, "g"), (10, "elocal")):
            values[:, :, feature] = table[column][:, None]
        values[:, 0, 10] *= 0.5
        arrays[f"All_TrainingData_{mesh}_{part}"] = values
    return arrays


def version_73(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file[name] = values.T
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(512))


@pytest.mark.parametrize("save", [scipy.io.savemat, version_73], ids=["version 5", "version 7.3"])
def test_a_published_mat_file(tmp_path: Path, save: Callable[..., None]) -> None:
    tables = plate()
    path = tmp_path / "d.mat"
    save(path, published(tables))
    found = read({"mat": str(path), "increment": 2})
    assert (found.gauss.elocal == tables["gauss_points"]["elocal"]).all()
    assert (found.lrb.y_mm == tables["lrb"]["ycoord"]).all()
    assert found.gauss.enonlocal_true is None and found.elocal_factor == 1
    assert "elocal in the file: physical strains (factor 1); as the layout of the file fixes it" in found.notes
    assert any("All_TrainingData_A_GP, increment 2 of 3, 144 points" in note for note in found.notes)
    each = {name: str(path) for name in TABLES}
    assert read({**each, "increment": 1}).gauss.elocal[0] == found.gauss.elocal[0] / 2
    for source, fragment in (
        ({}, "holds 3 increments: state increment: N, from 1 to 3"),
        ({"increment": 4}, "from 1 to 3, not 4"),
        ({"increment": 0}, "from 1 to 3, not 0"),
        ({"increment": 1, "mesh": "B"}, "has no mesh 'B': state mesh: NAME, one of A"),
    ):
        with pytest.raises(DataError) as caught:
            read({"mat": str(path), **source})
        assert fragment in str(caught.value)


def test_a_mat_file_with_several_meshes(tmp_path: Path) -> None:
    path = tmp_path / "d.mat"
    scipy.io.savemat(path, {**published(plate(), "A"), **published(plate(points=6), "B")})
    with pytest.raises(DataError, match="has several meshes: state mesh: NAME, one of A, B"):
        read({"mat": str(path), "increment": 2})
    assert len(read({"mat": str(path), "increment": 2, "mesh": "B"}).gauss) == 36


def test_a_mat_file_that_is_none_of_these(tmp_path: Path) -> None:
    path = tmp_path / "d.mat"
    for arrays, fragment in (
        ({"a": np.array([[1j, 2j]])}, "a must hold real numbers"),
        ({"a": np.array(["x", 1], dtype=object)}, "a must hold real numbers"),
        ({"a": np.ones((3, 3))}, "has the shape (3, 3), and must be a column"),
        ({"a": np.ones(3), "b": np.ones(4)}, "different lengths"),
        ({"All_TrainingData_A_GP": np.ones((4, 3, 5))}, "with 11 features or more"),
    ):
        scipy.io.savemat(path, arrays)
        with pytest.raises(DataError) as caught:
            open_table(str(path), "gauss_points", {"increment": 1} if "A_GP" in str(arrays) else None)
        assert fragment in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "is empty: its first line must name the columns"),
        (b"\n \n", "is empty"),
        (b"x,y\n", "has a header but no rows"),
        (b"1,2\n3,4\n", "line 1 must name the columns, and holds numbers: 1, 2"),
        (b"x,y,x\n1,2,3\n", "has the column x twice (columns 1 and 3)"),
        (b"x,y\n1,2\n\n3,4,5\n", "line 4 has 3 cells, and the header 2: 3, 4, 5"),
        (b'x,y\n1,"2\n3,4\n', "the quotes do not match"),
        (b"x,y,name\n1,2,a\n1,2,Gr\xf6\xdfe\n", "line 3: not text in UTF-8 (byte 0xf6). Save the table as UTF-8"),
        (b"x,y\n1,\x002\n", "line 2: a zero byte"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "not text in UTF-8"),
        (b"\xd0\xcf\x11\xe0rest", "is a workbook in the old format .xls"),
        (b"\x1f\x8brest", "cannot be unpacked"),
        (b"PK\x03\x04rest", "is a damaged zip file"),
        (b"PAR1rest", "cannot be read"),
        (b"ARROW1rest", "cannot be read"),
        (b"MATLAB 5.0 MAT-file and no more", "is no .mat file that can be read"),
        (b"MATLAB 7.3 MAT-file and no more", "is no .mat file that can be read"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, content: bytes, fragment: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_table(str(path))
    assert str(path) in str(caught.value) and fragment in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.csv does not exist"):
        open_table(str(tmp_path / "no.csv"))
    with pytest.raises(DataError, match="cannot be read: it is a folder"):
        open_table(str(tmp_path))


def column(tmp_path: Path, *cells: str, others: str = "a") -> np.ndarray:
    path = tmp_path / "t.csv"
    path.write_text("\n".join([f"v;w{'': <0}", *(f"{cell};{others}" for cell in cells)]) + "\n")
    return open_table(str(path)).numbers("v")


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("1.5", " 2 ", "-3e-2", ".5", "4."), (1.5, 2, -0.03, 0.5, 4)),
        (("1,5", "2", "-3,25e-2"), (1.5, 2, -0.0325)),
        (("1.5D-05", "2d3", "1.5-105"), (1.5e-5, 2000, 1.5e-105)),
        (("1,250", "0,5"), (1.25, 0.5)),
    ],
)
def test_numbers_as_programs_write_them(tmp_path: Path, cells: tuple[str, ...], values: tuple[float, ...]) -> None:
    assert column(tmp_path, *cells).tolist() == list(values)


def test_a_comma_is_decimal_where_another_column_shows_it(tmp_path: Path) -> None:
    assert column(tmp_path, "1,250", "2,500", others="0,75").tolist() == [1.25, 2.5]


@pytest.mark.parametrize(
    ("cells", "line", "fragment"),
    [
        (("1", "abc"), 3, "column v: 'abc' is not a number"),
        (("1", "", "3"), 3, "column v is empty"),
        (("1", "nan"), 3, "'nan' is not a finite number"),
        (("inf", "1"), 2, "'inf' is not a finite number"),
        (("1e999", "1"), 2, "'1e999' is not a finite number"),
        (("1_000", "1"), 2, "'1_000' is not a number"),
        (("0x10", "1"), 2, "'0x10' is not a number"),
        (("1,234", "2,500"), 2, "its comma may be decimal or separate thousands"),
        (("1,5", "2.5"), 3, "both decimal points and commas"),
        (("1.234,5", "1"), 2, "'1.234,5' is not a number"),
    ],
)
def test_a_cell_that_is_no_number(tmp_path: Path, cells: tuple[str, ...], line: int, fragment: str) -> None:
    with pytest.raises(DataError) as caught:
        column(tmp_path, *cells)
    assert f"t.csv, line {line}, column v" in str(caught.value) and fragment in str(caught.value)


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('# above\n\nv,w\n1,"two\nlines"\n\n2,\x0c\nabc,z\n')
    with pytest.raises(DataError, match=r"t\.csv, line 8, column v: 'abc' is not a number"):
        open_table(str(path)).numbers("v")


def test_rows_of_a_workbook_are_counted_as_it_shows_them(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["v", "w"], [1, "a"], [], ["abc", "b"]):
        book.active.append(row)
    book.create_sheet("more").append(["other"])
    book.save(tmp_path / "t.xlsx")
    sheet = open_table(str(tmp_path / "t.xlsx"))
    assert sheet.notes == (f"{tmp_path / 't.xlsx'}: the sheet Sheet is read, of 2 with cells",)
    with pytest.raises(DataError, match="row 4, column v: 'abc' is not a number"):
        sheet.numbers("v")


def test_typed_columns(tmp_path: Path) -> None:
    table = pa.table({"v": [1.0, float("nan")], "n": [1, None], "t": ["1,5", "2"], "b": [True, False]})
    pq.write_table(table, tmp_path / "t.parquet")
    sheet = open_table(str(tmp_path / "t.parquet"))
    assert sheet.numbers("t").tolist() == [1.5, 2]
    for name, fragment in (("v", "row 2, column v: nan"), ("n", "row 2, column n is empty"), ("b", "of type bool")):
        with pytest.raises(DataError, match=fragment):
            sheet.numbers(name)
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="has the column a twice"):
        open_table(str(tmp_path / "t.parquet"))


def test_cells_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    cells = {
        "id": ["0007", "12"], "label": ["NA", "null"], "phase": ["true", "false"], "when": ["1e3", "2.50"],
        "serial": ["12345678901234567890", "2"], "big": ["9007199254740993", "0.5"], "t": ["01:30", "02:30:10"],
        "blank": [" P2", "x "],
    }  # fmt: skip
    as_csv(path, {**cells, "count": ["3", ""], "v": ["0.25", "1.5"]})
    table = open_table(str(path)).as_written()
    assert {name: table[name].to_pylist() for name in cells} == cells
    assert table["count"].to_pylist() == [3, None] and table["v"].to_pylist() == [0.25, 1.5]


def test_shown_writes_every_digit() -> None:
    assert float(shown(0.1 + 0.2)) == 0.1 + 0.2
