"""The command `query`: its SQL from an argument or from stdin, and what it says where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sweeps.cli.app import app

from ..invoking import errors_of, made_study

COUNT = "SELECT count(*) AS n FROM trials"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study in runs/ of the current folder."""
    monkeypatch.chdir(tmp_path)
    return made_study(tmp_path / "runs").relative_to(tmp_path)


def query(*words: object, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(app, ["query", *map(str, words)], input=stdin)


@pytest.mark.parametrize("words", [["runs/first", "-"], ["runs/first"], ["first", "first"]], ids=" ".join)
def test_sql_is_read_from_stdin(study: Path, words: list[str]) -> None:
    result = query(*words, "--format", "csv", stdin=f"\ufeff{COUNT};\n")
    assert (result.exit_code, result.stdout) == (0, "n\n3\n"), result.output


def test_an_export_reads_it_there_too(study: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(study), "--sql", "-", "-o", "n.csv"], input=COUNT)
    assert result.exit_code == 0, result.output
    assert Path("n.csv").read_text() == "n\n3\n"


@pytest.mark.parametrize("stdin", ["", " \n"])
def test_no_sql(study: Path, stdin: str) -> None:
    message = errors_of(query(study, stdin=stdin))
    assert message.startswith("error: the SQL is missing: write it in quotes after the studies, or pass it on stdin")
    assert f'query {study} "SELECT trial, rel_l2 FROM trials' in message and f"query {study} .tables" in message
    assert message.endswith("Tables and views: trials, curves, fields, weights, events, best, by_config, curves_last, "
                            "failures, pareto\n")  # fmt: skip


def test_nothing_waits_for_a_terminal(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda stream: True, raising=False)
    assert "the SQL is missing" in errors_of(query(study, stdin=COUNT))
    assert (result := query(study, "-", "--format", "csv", stdin=COUNT)).exit_code == 0, result.output


def test_stdin_that_is_no_text(study: Path) -> None:
    assert errors_of(query(study, stdin=b"\xff\xfe")) == "error: the SQL on stdin is not text in UTF-8\n"


@pytest.mark.parametrize("sql", [COUNT, ".tables", "FROM(trials)", "SELECT 1 " + "+ 1" * 300, "-"])
def test_no_study(study: Path, sql: str) -> None:
    assert errors_of(query(sql, stdin=COUNT)).startswith("error: the study is missing: ")


def test_a_study_that_is_not_there_is_no_sql(study: Path) -> None:
    assert "no study at runs/fisrt" in errors_of(query("first", "runs/fisrt", stdin=COUNT))


def test_a_folder_with_a_blank_in_its_name_is_a_study(study: Path) -> None:
    Path("my runs").mkdir()
    study.rename("my runs/first")
    assert query("my runs/first", COUNT).exit_code == query("my runs/first", stdin=COUNT).exit_code == 0
