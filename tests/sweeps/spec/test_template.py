"""The study file of `pinnsweep init`: valid as it stands, with every other key as a comment that is valid too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pinncore.problems import PROBLEMS
from sweeps.spec import model, yaml_text
from sweeps.spec.samplers import PRUNERS
from sweeps.spec.template import MARK, study_name, study_template
from sweeps.study.input_checks import warnings_of
from sweeps.study.loading import load_spec, load_text
from sweeps.study.problems import load_problem

from ..invoking import errors_of, invoke
from ..problems import STRAIN
from ..small import prepare, run_all

TEXT = study_template("mine", STRAIN)
KEYS = {
    found[1]: found[2]
    for found in re.finditer(rf"^# ([a-z][\w.]*): (.*?){re.escape(MARK)}\S", TEXT, flags=re.MULTILINE)
}


def test_it_is_a_study_of_twelve_lines(tmp_path: Path) -> None:
    lines = TEXT.splitlines()
    assert lines[12] == "" and not any(line.startswith("#") for line in lines[:12])
    assert all(line.startswith("#") for line in lines[13:]) and max(map(len, lines)) <= 120 and len(lines) < 160
    spec = load_text(TEXT, base=tmp_path)
    assert spec.study == "mine" and len(spec.space) == 6 and warnings_of(spec) == ()


def test_every_key_of_a_study_file_is_in_it() -> None:
    sections = model.section_keys(model.study_file(STRAIN.record))
    content = yaml_text.read(TEXT)[0]
    wanted = {key for key in sections[""] if key not in sections}
    wanted |= {f"{name}.{key}" for name, keys in sections.items() if name not in ("", "space") for key in keys}
    active = {f"{name}.{key}" for name, section in content.items() if isinstance(section, dict) for key in section}
    swept = {f"{name}.{key}" for name in ("train", "problem") for key in content["space"]}
    assert wanted - swept - active - {"study", "search.pruner.kind"} == set(KEYS)


@pytest.mark.parametrize("path", KEYS)
def test_a_key_is_valid_with_the_default_that_it_has(path: str, tmp_path: Path) -> None:
    key = path.rpartition(".")[2]
    kinds = [kind for kind, traits in PRUNERS.items() if key in (*traits.keys, "metric") and kind != "none"]
    others = [f"search.pruner.kind={kinds[0]}"] if path.startswith("search.pruner.") else []
    others += [f"{tracker[0]}={{}}"] if (tracker := re.match(r"track\.\w+", path)) else []
    with_default = load_text(TEXT, base=tmp_path, overrides=[*others, f"{path}={KEYS[path]}"])
    assert with_default.to_yaml() == load_text(TEXT, base=tmp_path, overrides=others).to_yaml()


@pytest.mark.parametrize(
    ("stem", "name"),
    [("widths", "widths"), ("my study (2)", "my-study-2"), ("_a.", "a"), ("é", "study"), ("a" * 99 + "..b", "a" * 99)],
)
def test_the_study_is_named_after_its_file(stem: str, name: str) -> None:
    assert study_name(stem) == name


def test_the_command_writes_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("init")
    assert result.stdout.startswith("wrote study.yaml: the study study. Next:\n") and "run study.yaml" in result.stdout
    assert load_spec(Path("study.yaml")).study == "study"
    Path("study.yaml").write_text("mine")
    assert "study.yaml exists already: add --force" in errors_of(invoke("init"))
    assert Path("study.yaml").read_text() == "mine"
    said = json.loads(invoke("init", "study.yaml", "--force", "--json").stdout)
    assert said == {"files": ["study.yaml"], "study": "study"}
    assert "there is no folder" in errors_of(invoke("init", "none/study.yaml"))


@pytest.mark.parametrize("name", PROBLEMS)
def test_there_is_a_study_file_of_every_problem(name: str, tmp_path: Path) -> None:
    assert invoke("init", tmp_path / "own.yaml", "--problem", name).exit_code == 0
    spec = load_spec(tmp_path / "own.yaml")
    assert spec.source.reference == name and ("boundary_weight: 0.05" in (tmp_path / "own.yaml").read_text()) == (
        name == "nonlocal_strain"
    )


@pytest.mark.parametrize(
    ("name", "kind"), [("rod", "Rod"), ("my-heat 2", "MyHeat2"), ("2d", "Problem2d"), ("none", "Problem")]
)
def test_a_problem_to_start_from_is_valid_and_trains(name: str, kind: str, tmp_path: Path) -> None:
    result = invoke("init", tmp_path / name)
    assert result.exit_code == 0 and f"{name}.py and " in result.stdout and "problem " in result.stdout
    assert f"class {kind}" in (tmp_path / f"{name}.py").read_text()
    text = (tmp_path / f"{name}.yaml").read_text()
    assert len(text.splitlines()) <= 12
    changes = ["search.sampler=random", "search.trials=1", "train.epochs=2", "train.iterations=1", "problem.points=16"]
    spec = load_spec(tmp_path / f"{name}.yaml", changes)
    assert spec.source.is_file and "diffusivity" in spec.problem
    if name == "rod":
        study_dir, _ = prepare(tmp_path / "runs", spec)
        assert run_all(study_dir, segment_s=5.0)["COMPLETE"] == 1
    assert "exists already" in errors_of(invoke("init", tmp_path / name))


@pytest.mark.parametrize("name", ["own.py:Diffusion", "own.py"])
def test_a_problem_may_be_named_as_in_a_study_file(name: str, tmp_path: Path) -> None:
    assert invoke("init", tmp_path / name).exit_code == 0
    spec = load_spec(tmp_path / "own.yaml")
    assert spec.record.class_name == (name.partition(":")[2] or "Own") and spec.study == "own"


def test_a_problem_without_a_reference_ranks_by_its_residual(tmp_path: Path) -> None:
    invoke("init", tmp_path / "rod")
    code = (tmp_path / "rod.py").read_text()
    (tmp_path / "rod.py").write_text(code[: code.index("    # The solution")])
    assert "needs a reference" in errors_of(invoke("validate", tmp_path / "rod.yaml"))
    assert invoke("init", tmp_path / "own.yaml", "--problem", tmp_path / "rod.py").exit_code == 0
    assert load_spec(tmp_path / "own.yaml").objectives == ("heldout_residual",)
    assert "there is no problem 'rods'" in errors_of(invoke("init", tmp_path / "x.yaml", "--problem", "rods"))


# ---- problem ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_is_shown_with_what_it_says(name: str) -> None:
    result = invoke("problem", name)
    assert result.exit_code == 0
    about = json.loads(invoke("problem", name, "--json").stdout)
    record = load_problem(name, Path()).record
    assert about["title"] in result.stdout and about["engine"] == "fused"
    assert [term["term"] for term in about["terms"]] and all(term["points"] for term in about["terms"])
    for setting in record.settings:
        assert f"  {setting.name} " in result.stdout


def test_the_words_on_a_problem() -> None:
    text = invoke("problem", "kovasznay").stdout
    assert "momentum_x  0 = u*u_x + v*u_y + p_x - (u_xx + u_yy)/reynolds" in text
    assert "channels *, *_x, *_y, *_xx + *_yy" in text and "* stands for each output" in text
    assert "reynolds         number, greater than 0; default 20.0. Reynolds number Re." in text
    strain = invoke("problem", "nonlocal_strain").stdout
    assert "u_xx + u_yy" in strain and "x (column x_mm) in mm" in strain and "82 points" in strain
    assert "burgers" in invoke("problem").stdout
    assert "there is no problem 'burger'" in errors_of(invoke("problem", "burger"))
