"""What the README tells a reader to type, works; what it says is there, is there.

Its tour, from `make demo` to the comparison of traces, is executed in an empty folder (see `tests/tour.py`).
"""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from pinncore import Member, Pack
from sweeps.jobs.profiles import all_profiles
from sweeps.spec.study_spec import build_settings
from sweeps.study.input_checks import warnings_of
from sweeps.study.loading import load_spec, load_text
from tests import ROOT

from .sweeps.invoking import StandIn
from .sweeps.invoking import stand_in as stand_in
from .sweeps.spec.study_files import EXAMPLES
from .tour import Step, blocks_of, check_command, commands_of, executed_here, executed_really, tour
from .tour import folder as folder

README = (ROOT / "README.md").read_text()
FIRST_SCREEN = README.partition("\n## ")[0]
EXECUTED = ("See it work", "Your own study", "What mattered", "From Python", "Two frameworks, two answers")


def steps() -> list[Step]:
    return tour(README, EXECUTED)


@pytest.fixture
def reader(folder: Path) -> Path:
    """The folder of a reader who has two traces."""
    shutil.copy(folder / "trace.npz", folder / "other.npz")
    return folder


@pytest.mark.timeout(300)
def test_the_tour_is_executed(reader: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    executed_here(steps(), reader, stand_in, monkeypatch)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(1800)
def test_the_tour_is_executed_by_the_real_command(reader: Path) -> None:
    executed_really(steps(), reader)


def test_the_readme_is_as_short_as_it_promises() -> None:
    kinds = [step.kind for step in steps()]
    assert kinds.count("file") == kinds.count("python") == 1 and kinds.count("command") >= 15
    (study,) = [step.text for step in steps() if step.kind == "file"]
    assert len(study.splitlines()) == 12, "twelve lines of YAML"
    sections = dict(part.split("\n", 1) for part in README.split("\n## ")[1:])
    assert len(commands_of(sections["Your own study"])) == 5
    assert len(commands_of(sections["More machines"])) + 1 == 6, "six lines of SLURM"
    assert len(commands_of(sections["Two frameworks, two answers"])) == 3
    (python,) = blocks_of(sections["From Python"])
    assert len([line for line in python.splitlines() if line]) <= 8


def test_the_first_screen_needs_no_other_page() -> None:
    """It explains itself: no link, no name of the project's own, and its picture for light and dark pages."""
    text, pictures = FIRST_SCREEN, re.findall(r'(?:src|srcset)="([^"]+)"', FIRST_SCREEN)
    assert len(text.splitlines()) <= 40 and "](" not in text
    assert not re.search(r"StrB100|packs?\b|traps?\b|rel_l2|L-BFGS|I-FENN", text)
    assert pictures == ["docs/pictures/demo-dark.svg", "docs/pictures/demo.svg"]
    assert all((ROOT / picture).read_text().startswith("<?xml") for picture in pictures)


@pytest.mark.parametrize("line", commands_of(README))
def test_each_command_is_understood(line: str) -> None:
    check_command(line)


def test_the_study_file_is_valid(tmp_path: Path) -> None:
    (step,) = [step for step in steps() if step.kind == "file"]
    spec = load_text(step.text, base=tmp_path)
    assert spec.study == "widths" and warnings_of(spec) == ()


def test_the_place_is_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(r"^    (uni: \{.*\})$", README, flags=re.MULTILINE)
    (tmp_path / "clusters.yaml").write_text(line)
    (profile,) = all_profiles().values()
    assert profile.kind == "slurm"


def test_the_equation_trains(tmp_path: Path) -> None:
    """Its class, in a file of its own, in the study that the text beside it describes."""
    (text,) = re.findall(r"```python\n(.*?)```", README[README.index("## Your own equation") :], flags=re.DOTALL)
    (problem,) = re.findall(r"`(problem: \{name: reaction.*?\})`", README)
    (tmp_path / "reaction.py").write_text(text)
    objective = "objective: heldout_residual"
    assert objective in README
    study = f"study: own\n{problem}\nsearch: {{sampler: random, trials: 2, {objective}}}\n"
    rest = "space: {rate: {uniform: [1, 4]}}\ntrain: {width: 4, epochs: 3, iterations: 2}\n"
    spec = load_text(study + rest, base=tmp_path)
    train, reaction = build_settings(spec.config({"rate": 2.0}), spec.source)
    result = Pack([Member(train, reaction)], device="cpu")
    result.step(100)
    assert result.results[0].terms.keys() == {"heat", "walls", "start"}
    assert result.results[0].metrics["heldout_residual"] is not None


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_each_linked_file_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_each_example_is_valid(file: Path) -> None:
    spec = load_spec(file)
    assert spec.space or spec.listed


def test_the_quickstart_sweeps_the_five_dimensions_with_sixteen_trials() -> None:
    spec = load_spec(ROOT / "examples" / "quickstart.yaml")
    assert {"width", "adam_lr", "lbfgs_history", "init", "scale_factor"} <= set(spec.space)
    assert (spec.search.trials or 0) >= 16 and spec.problem["data"] == "strb100"


def test_what_is_cited_is_this_project() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= cited.keys()
    assert (cited["title"], cited["version"], cited["license"]) == (
        project["name"],
        project["version"],
        project["license"],
    )
    assert [author["name"] for author in cited["authors"]] == [author["name"] for author in project["authors"]]


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda form: form.stem
)
def test_the_forms_for_issues_are_complete(form: Path) -> None:
    read = yaml.safe_load(form.read_text())
    assert read.keys() >= {"name", "description", "body"}
    asked = [part for part in read["body"] if part["type"] != "markdown"]
    assert asked and all(part["attributes"]["label"] for part in asked)
    assert len({part["id"] for part in asked}) == len(asked)
    for line in re.findall(r"`(pinnsweep [a-z][^`]*)`", form.read_text()):
        check_command(line)
