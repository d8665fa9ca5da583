"""The study file of `pinnsweep init`: valid as it stands, with every other key as a comment that is valid too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweeps.spec import model, yaml_text
from sweeps.spec.samplers import PRUNERS
from sweeps.spec.template import MARK, study_name, study_template
from sweeps.study.input_checks import warnings_of
from sweeps.study.loading import load_spec, load_text

from ..invoking import errors_of, invoke
from ..problems import STRAIN

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
    assert invoke("init", "study.yaml", "--force", "--json").stdout == (
        '{\n  "file": "study.yaml",\n  "study": "study"\n}\n'
    )
    assert "there is no folder" in errors_of(invoke("init", "none/study.yaml"))
