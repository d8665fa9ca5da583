"""Configurations listed one by one, in the study file or in a CSV file: their meaning and their mistakes."""

from __future__ import annotations

import csv
import io
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import SpecError
from sweeps.spec import yaml_text
from sweeps.spec.dimensions import Choice
from sweeps.study.input_checks import warnings_of
from sweeps.study.loading import load_spec, load_text
from tests.sweeps.spec.study_files import ELSEWHERE, mistakes

LISTED = """
study: s
search:
  sampler: list
  list:
    - {width: 8, adam_lr: 1}
    - {width: 8, inputs: [x, y, g, elocal], max_evaluations: null}
    - {}
    - {width: 4, depth: 3}
train: {adam_lr: 0.01, depth: 5, width: 7}
"""
HINT = "The first line names the fields; every further line is a configuration."
CSV = """\
\N{ZERO WIDTH NO-BREAK SPACE}width, adam_lr ,inputs,max_evaluations,init
8,1e-3,"[x, y, g, elocal]",,keras
 16 ,,,null,file:w/a b.npz

,,,,
"""


def test_rows_are_configurations_with_the_rest_from_train_and_problem() -> None:
    spec = load_text(LISTED, base=ELSEWHERE)
    assert spec.listed == (
        {"width": 8, "adam_lr": 1.0},
        {"width": 8, "inputs": ["x", "y", "g", "elocal"], "max_evaluations": None},
        {},
        {"width": 4, "depth": 3},
    )
    assert type(spec.listed[0]["adam_lr"]) is float
    assert spec.space == {
        "width": Choice((8, 4)),
        "adam_lr": Choice((1.0,)),
        "inputs": Choice((["x", "y", "g", "elocal"],)),
        "max_evaluations": Choice((None,)),
        "depth": Choice((3,)),
    }
    train = [spec.config(row)["train"] for row in spec.listed]
    assert [settings["width"] for settings in train] == [8, 8, 7, 4]
    assert [settings["adam_lr"] for settings in train] == [1.0, 0.01, 0.01, 0.01]
    assert [settings["depth"] for settings in train] == [5, 5, 5, 3]
    assert set(spec.values("width")) == {8, 4, 7} and set(spec.values("depth")) == {3, 5}
    assert spec.search.trials is None


def test_a_field_that_every_row_gives_has_no_other_value() -> None:
    listed = "study: s\nsearch: {sampler: list, list: [{width: 3}, {width: 4}]}\n"
    with_default, without = (load_text(listed + more, base=ELSEWHERE) for more in ("train: {width: 9}", ""))
    assert with_default == without
    assert with_default.values("width") == (3, 4) and "width" not in with_default.train


def test_a_list_comes_back_from_its_canonical_form() -> None:
    spec = load_text(LISTED, base=ELSEWHERE)
    again = load_text(spec.to_yaml(), base=Path("/anywhere"))
    assert again == spec and again.to_yaml() == spec.to_yaml() and again.sha256() == spec.sha256()
    assert spec.to_plain()["space"] == {}
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301 (Ray sends it to workers so)


def test_another_sampler_has_no_list() -> None:
    assert load_text("study: s\nsearch: {trials: 4, list: null}", base=ELSEWHERE).listed == ()


def test_the_rows_of_a_csv_file_are_stored_with_the_study(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "rows.csv").write_text(CSV, encoding="utf-8")
    (tmp_path / "study.yaml").write_text("study: s\nsearch: {sampler: list, list: rows.csv}")
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "study.yaml")
    (missing,) = caught.value.mistakes
    assert missing.path == "search.list (line 3 of rows.csv).init" and missing.rule == "there is no such file"
    (tmp_path / "rows.csv").write_text(CSV.replace("file:w/a b.npz", "tf1"), encoding="utf-8")
    spec = load_spec(tmp_path / "study.yaml")
    assert spec.listed == (
        {"width": 8, "adam_lr": 1e-3, "inputs": ["x", "y", "g", "elocal"], "init": "keras"},
        {"width": 16, "max_evaluations": None, "init": "tf1"},
        {},
    )
    (tmp_path / "rows.csv").unlink()
    assert load_text(spec.to_yaml(), base=ELSEWHERE) == spec


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("8", 8),
        ("-8", -8),
        ("1e-4", 1e-4),
        (".5", 0.5),
        ("true", True),
        ("no", "no"),
        ("null", None),
        ("010", 10),
        ("file:a: b#c", "file:a: b#c"),
        ('"8"', "8"),
        ("[1, 2]", [1, 2]),
        ("{a: 1}", {"a": 1}),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("2024-01-01", "2024-01-01"),
    ],
)
def test_a_cell_is_read_like_a_value_of_the_study_file(cell: str, value: Any) -> None:
    assert yaml_text.read_value(cell) == value
    assert type(yaml_text.read_value(cell)) is type(value)
    if cell != "file:a: b#c":  # a mapping in YAML; text in a cell, which has neither brackets nor quotes
        assert yaml_text.read(f"a: {cell}")[0] == {"a": value}


ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "width": st.integers(1, 99),
            "adam_lr": st.floats(1e-9, 1e9),
            "init": st.sampled_from(["torch", "keras", "tf1"]),
            "inputs": st.sampled_from([["x", "y"], ["x", "y", "g", "elocal"]]),
            "max_evaluations": st.one_of(st.none(), st.integers(1, 9)),
            "allow_tf32": st.booleans(),
        },
    ),
    min_size=1,
    max_size=5,
)


@given(rows=ROWS)
@settings(max_examples=25, deadline=None)
def test_a_csv_and_a_yaml_list_of_the_same_rows_are_the_same_study(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    fields = ["width", "adam_lr", "init", "inputs", "max_evaluations", "allow_tf32"]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(fields)
    for row in rows:
        writer.writerow([json.dumps(row[name]) if name in row else "" for name in fields])
    (folder / "same.csv").write_text(table.getvalue(), encoding="utf-8")
    content: dict[str, Any] = {"study": "s", "search": {"sampler": "list", "list": rows}}
    from_yaml = load_text(yaml_text.write(content), base=folder)
    content["search"]["list"] = "same.csv"
    from_csv = load_text(yaml_text.write(content), base=folder)
    assert from_csv.listed == from_yaml.listed == tuple(rows)
    assert from_csv.train == from_yaml.train and from_csv.to_plain()["search"] == from_yaml.to_plain()["search"]


# ---- mistakes ----


def table_mistakes(folder: Path, table: str | bytes, more: str = "") -> list[str]:
    """Return the mistakes of a study whose list is `table`, with DIR for its folder."""
    (folder / "rows.csv").write_bytes(table.encode() if isinstance(table, str) else table)
    lines = mistakes("study: s\nsearch: {sampler: list, list: rows.csv}\n" + more, folder)
    return [line.replace(str(folder), "DIR") for line in lines]


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    assert mistakes("study: s\nsearch: {sampler: list, list: nope.csv}") == [
        f"search.list: /nonexistent/nope.csv does not exist. {HINT}"
    ]
    for table, reason in (
        ("", " is empty: its first line must name the columns"),
        ("\n", " is empty: its first line must name the columns"),
        ("width,depth\n", " has a header but no rows"),
        ("width\n\n\n", " has a header but no rows"),
        ("width\n\N{LATIN SMALL LETTER E WITH ACUTE}".encode("latin-1"), ", line 2: not text in UTF-8"),
        ('width\n"8', ", line 2: the quotes do not match"),
        ("width,depth\n8,2\n8\n8,2,3\n", ", line 3 has 1 cells, and the header 2 (and 1 more such lines): 8. "),
        ("width,depth,depth\n8,2,2\n", " has the column depth twice (columns 2 and 3): keep one"),
    ):
        (line,) = table_mistakes(tmp_path, table)
        assert line.startswith(f"search.list: DIR/rows.csv{reason}") and line.endswith(HINT)


def test_forms_of_a_table_that_programs_write(tmp_path: Path) -> None:
    """pandas writes whole numbers beside an empty cell as 8.0, and its index without a name."""
    (tmp_path / "study.yaml").write_text("study: s\nsearch: {sampler: list, list: rows.csv}")
    rows = ({"width": 8, "depth": 2, "adam_lr": 0.001}, {"width": 16, "adam_lr": 0.003}, {"depth": 3, "adam_lr": 1})
    for text in (
        ",width,depth,adam_lr\n0,8.0,2.0,0.001\n1,16.0,,0.003\n2,,3.0,1\n",
        '"","width","depth","adam_lr"\n"1",8,2,1e-3\n"2",16,,3e-3\n"3",,3,1.0\n',
        "width;depth;adam_lr\n8;2;1e-3\n16;;3e-3\n;3;1\n",
        "width\tdepth\tadam_lr\n8\t2\t0.001\n16.00\t\t0.003\n\t3\t1\n",
    ):
        (tmp_path / "rows.csv").write_text(text)
        assert load_spec(tmp_path / "study.yaml").listed == rows
    table = pa.table({"width": [8.0, 16.0, None], "depth": [2.0, float("nan"), 3.0], "adam_lr": [0.001, 0.003, 1.0]})
    pq.write_table(table, tmp_path / "rows.csv")
    assert load_spec(tmp_path / "study.yaml").listed == rows


@pytest.mark.parametrize("cell", ["nan", "NaN", "NA", "N/A", "#N/A", "None"])
def test_a_word_for_no_value_is_an_empty_cell(tmp_path: Path, cell: str) -> None:
    assert table_mistakes(tmp_path, f"width,depth\n8,2\n16,{cell}\n") == [
        f'search.list (line 3 of rows.csv).depth: must be a whole number, got "{cell}". Leave the cell empty.'
    ]


def test_columns_that_are_not_fields(tmp_path: Path) -> None:
    assert table_mistakes(tmp_path, "widht,depth,\n8,2,\n9,2,\n") == [
        'search.list: a column of rows.csv names no field of train or problem, got "widht". Did you mean width?'
    ]


def test_mistakes_in_cells_name_their_line(tmp_path: Path) -> None:
    assert table_mistakes(tmp_path, "width,depth\n8,2\n\nwide,0\n8,[2\n") == [
        'search.list (line 4 of rows.csv).width: must be a whole number, got "wide".',
        "search.list (line 4 of rows.csv).depth: must be at least 1, got 0.",
        "search.list (line 5 of rows.csv).depth: this is not valid YAML: while parsing a flow sequence: expected ',' "
        "or ']', but got '<stream end>', in line 1, column 3, got \"[2\".",
    ]
    assert table_mistakes(tmp_path, "width\n99999999999999999999\n") == [
        "search.list (line 2 of rows.csv).width: must be a number of at most 9223372036854775807, got "
        '"99999999999999999999".'
    ]


@pytest.mark.parametrize("cell", ["nan", "NaN", "None", "NA", "n/a", "null", ".nan"])
def test_a_cell_without_a_number_is_left_empty(tmp_path: Path, cell: str) -> None:
    (line,) = table_mistakes(tmp_path, f"width,depth\n8,2\n16,{cell}\n")
    assert line.startswith("search.list (line 3 of rows.csv).depth: must be a whole number, got ")
    assert line.endswith(" Leave the cell empty.")


def test_many_mistakes_in_a_list_are_not_all_written_out(tmp_path: Path) -> None:
    lines = table_mistakes(tmp_path, "width\n" + "0\n" * 100, "train: {depth: 0}")
    assert len(lines) == 22
    assert lines[:2] == [
        "search.list (line 2 of rows.csv).width: must be at least 1, got 0.",
        "search.list (line 3 of rows.csv).width: must be at least 1, got 0.",
    ]
    assert lines[20:] == ["train.depth: must be at least 1, got 0.", "search.list: has 80 more mistakes like these."]


def test_a_wrong_cell_does_not_hide_other_mistakes() -> None:
    rows = "[{width: -1, depth: 2}, 5, {inti: keras}, {init: kears}, {inti: tf1}, {width: 90}]"
    text = f"study: s\nsearch: {{sampler: list, list: {rows}, constraints: [width < 50]}}\nproblem: {{data: strb}}"
    paths = [line.split(": ")[0] for line in mistakes(text)]
    assert paths == ["search.list[0].width", "search.list[1]", "search.list[2].inti", "problem.data"]
    corrected = text.replace("-1", "1").replace("5, ", "").replace("inti", "init").replace("strb", "strb100")
    assert [line.split(": ")[0] for line in mistakes(corrected)] == ["search.list[2].init", "search.list[4]"]


def test_fewer_distinct_trials_than_rows_cause_a_warning() -> None:
    head = "study: s\nsearch: {sampler: list, list: [{width: 8}, {}, {width: 16}], trials: TRIALS}"
    repeated, too_many = (
        warnings_of(load_text(head.replace("TRIALS", trials), base=ELSEWHERE)) for trials in ("2", "5")
    )
    assert repeated == ("search.list has 1 rows that repeat another: no configuration is trained twice.",)
    assert too_many == ("search.trials is 5 and search.list has 3 rows: the smaller number is run.", *repeated)


def test_ten_thousand_rows(tmp_path: Path) -> None:
    lines = ["width,adam_lr", *(f"{i % 50 + 1},{(i + 1) * 1e-7:.17g}" for i in range(10_000))]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    spec = load_text("study: s\nsearch: {sampler: list, list: rows.csv, constraints: [width <= 50]}", base=tmp_path)
    assert len(spec.listed) == 10_000 and len(spec.space["adam_lr"].arguments()) == 10_000
