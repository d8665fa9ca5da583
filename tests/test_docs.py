"""Every page: study files are valid, Python and SQL run, commands are understood, links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from textwrap import indent
from typing import Any

import duckdb
import pytest
import yaml

from sweeps.cli.help_text import every_command, options
from sweeps.jobs.profiles import all_profiles
from sweeps.query.query import query
from sweeps.study.loading import load_text
from sweeps.study.problems import study_schema
from tests import ROOT

from .pages import DOCS, LINKING, PAGES, Block, anchors, blocks, indented, lines_of, links
from .sweeps import synthetic
from .sweeps.invoking import invoke
from .tour import check_command, program

LANGUAGES = {"sh", "yaml", "python", "sql", "json", "text"}
EXECUTED = {  # what other tests execute, with data of their own; every other block is executed here
    ("python.md", "python"): "tests/sweeps/api/test_api.py",
    ("problems.md", "python"): "tests/pinncore/problems/test_page.py",
    ("judgement.md", "python"): "tests/sweeps/analysis/test_analysis_docs.py",
    ("trials.md", "python"): "tests/sweeps/trial/test_trials_page.py",
    ("query.md", "sql"): "tests/sweeps/query/test_query.py",
}
TABLES = {  # names of the pages, and of what `data build` writes
    "gauss": "gauss_points",
    "left_right": "nodes_lrb",
    "bottom_top": "nodes_btb",
    "nodes": "nodes",
    "elements": "elements",
}
CLUSTERS = DOCS / "clusters.md"
VMS = next(block.text for block in blocks(CLUSTERS, "yaml") if "kind: vms" in block.text)
COMPLETED = {"search": "{sampler: random, trials: 4}", "space": "{width: {choice: [4, 8]}}"}  # what a fragment lacks
OWN_PROBLEM = "{sampler: random, trials: 4, objective: heldout_residual}"  # of a user, without a reference


def every(language: str) -> Any:
    """Parametrise a test by the blocks of a language that no other test executes."""
    found = [block for page in PAGES for block in blocks(page, language) if (page.name, language) not in EXECUTED]
    return pytest.mark.parametrize("block", found, ids=str)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader: a study, tables, a problem of his own beside them and in a package."""
    folder = tmp_path_factory.mktemp("reader")
    synthetic.make_study(folder / "runs" / "quickstart", trials=4, failed=1, replicates=3)
    done = invoke("data", "build", "strb100", "--increment", "1", "--mesh", "10", "-o", folder)
    assert done.exit_code == 0, done.output
    for name, written in TABLES.items():
        (folder / f"strb100_10x10_increment1_{written}.csv").rename(folder / f"{name}.csv")
    (folder / "package").mkdir()
    for module in ("my.py", "package/module.py"):
        (folder / module).write_text(blocks(DOCS / "problems.md", "python")[0].text)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_fenced_with_its_language(page: Path) -> None:
    assert indented(page) == []
    assert [str(block) for block in blocks(page) if block.language not in LANGUAGES] == []


# ---- study files and profiles --------------------------------------------------------------------------------------


def alternatives(block: Block) -> list[str]:
    """Return the documents of a block of YAML: its lines, where each of them gives the same key."""
    lines = block.text.splitlines()
    is_one = len(lines) == 1 or len({line.partition(":")[0] for line in lines}) > 1
    return [block.text] if is_one else lines


def completed(text: str) -> str:
    """Return a study file around a fragment of one."""
    given = yaml.safe_load(text)
    missing = {key: value for key, value in COMPLETED.items() if key not in given}
    if "search" in missing and ":" in given.get("problem", {}).get("name", ""):
        missing["search"] = OWN_PROBLEM
    return "\n".join(["study: completed", *(f"{key}: {value}" for key, value in missing.items()), text])


@every("yaml")
def test_yaml_is_accepted_by_what_reads_it(block: Block, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(reader)
    for text in alternatives(block):
        keys = set(yaml.safe_load(text))
        if keys <= set(study_schema()["properties"]):
            load_text(text if "study" in keys else completed(text), base=reader)
        else:
            monkeypatch.setenv("XDG_CONFIG_HOME", str(reader))
            monkeypatch.chdir(reader)
            (reader / "clusters.yaml").write_text(VMS + indent(text, "  ") if keys == {"overrides"} else text)
            assert all_profiles()


# ---- Python, SQL, JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and (page.name, "python") not in EXECUTED], ids=str
)
def test_the_python_of_a_page_is_one_script_that_runs(
    page: Path, reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reader)
    names = {"__name__": "page", "print": lambda *words: None}
    for block in blocks(page, "python"):
        exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)


@every("sql")
def test_each_statement_is_answered(block: Block, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    for statement in filter(str.strip, block.text.split(";")):
        is_plain = "read_parquet" in statement  # for programs that know nothing of studies
        rows = (
            duckdb.sql(statement).fetchall()
            if is_plain
            else query([reader / "runs" / "quickstart"], statement).to_pylist()
        )
        assert rows


@every("json")
def test_json_is_json(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize(("page", "language"), EXECUTED)
def test_what_is_executed_elsewhere_is_read_there(page: str, language: str) -> None:
    assert blocks(DOCS / page, language), "nothing is left to execute"
    code = (ROOT / EXECUTED[page, language]).read_text()
    assert f'"{page}"' in code and (f"```{language}" in code or f'"{language}")' in code)
    assert re.search(r"exec\(|exec_module\(|\bquery\(|subprocess\.run\(", code)


# ---- commands ------------------------------------------------------------------------------------------------------

SHELL = [line for page in PAGES for block in blocks(page, "sh") for line in lines_of(block)]
OTHERS = ("kubectl", "ray", "docker")  # programs of others


@pytest.mark.parametrize("line", dict.fromkeys(SHELL))
def test_each_command_line_can_be_typed(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert [name for word in words for name in extras_of(word) if name not in extras] == []
    elif words[0] == "python" and words[1] == "-m":
        assert (ROOT / Path(*words[2].split("."))).with_suffix(".py").is_file() or (ROOT / words[2]).is_dir()
    elif words[0] == "python":
        assert (ROOT / words[1]).exists() or list((ROOT / "examples").glob(f"*/{words[1]}"))
    elif words[0] not in OTHERS:
        check_command(line)


def extras_of(word: str) -> list[str]:
    """Return the extras that a requirement of this package names."""
    found = re.fullmatch(r"(?:pinnsweep|\.)\[([\w,]+)\]", word)
    return found[1].split(",") if found else []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_sentences_exist_with_their_options(page: Path) -> None:
    context = program().make_context("pinnsweep", ["status"])
    known = {
        words: set(re.findall(r"--?[\w-]+", " ".join(name for name, _ in options(command, context)))) | {"-h", "--help"}
        for words, command in every_command(program(), context)
    }
    groups = {words.split()[0] for words in known if " " in words}
    wrong = []
    for sentence in re.findall(r"`pinnsweep ([a-z][^`]*)`", page.read_text(encoding="utf-8").replace("\n", " ")):
        words = sentence.split()
        name = " ".join(words[: 2 if words[0] in groups else 1])
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        if name not in known or not given <= known[name]:
            wrong.append(sentence)
    assert wrong == []


# ---- links, and the index ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    broken = []
    for target in links(page):
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_the_index_lists_every_page_once() -> None:
    lines = [line for line in (DOCS / "README.md").read_text().splitlines() if line.startswith(("- ", "| "))]
    listed = [name for line in lines for name in re.findall(r"\]\((\w[\w-]*\.md)\)", line)]
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md") if page.name != "README.md")


def test_each_guarantee_names_the_files_of_its_tests() -> None:
    table = (DOCS / "numerics.md").read_text().partition("\n## Guarantees and their tests\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 16
    files = {row[0]: re.findall(r"\]\(\.\./(tests/[^)]+\.py)\)", row[2]) for row in rows}
    assert [what for what, found in files.items() if not found] == []
    assert [name for found in files.values() for name in found if not (ROOT / name).is_file()] == []
