"""The published study of I-FENN: its two study files hold every configuration, with the published settings."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pinncore import Member, Pack
from pinncore.data.increments import table_files
from pinncore.data.loading import BUILT_FILE
from sweeps.errors import SpecError
from sweeps.search import search_of
from sweeps.spec import yaml_text
from sweeps.spec.study_spec import StudySpec, build_settings
from sweeps.study.loading import load_spec, load_text
from sweeps.study.problems import study_schema
from tests import ROOT

from .sweeps.invoking import invoke
from .sweeps.spec.study_files import BUILT_FIRST

CONVERGENCE, SHAPES, SHORT = (
    ROOT / "examples" / f"ifenn_{name}.yaml" for name in ("error_convergence", "shapes", "short")
)
ELEMENTS = {CONVERGENCE: (50, 80, 100), SHAPES: (50,)}  # along an edge, of the tables that a study needs
PUBLISHED = {  # layers x units of 300, 420 and 560 hidden neurons, each the other way round too
    *((5, 60), (6, 50), (10, 30), (15, 20)),
    *((6, 70), (7, 60), (12, 35), (20, 21)),
    *((7, 80), (8, 70), (14, 40), (20, 28)),
}
TRAINING = {
    "init": "tf1",
    "activation": "tanh",
    "dtype": "float32",
    "first_stage": "adam",
    "adam_convention": "tf1",
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_eps": 1e-8,
    "lr_schedule": "constant",
    "second_stage": "scipy",
    "lbfgs_history": 50,
    "iterations": 50_000,
    "max_evaluations": 50_000,
    "tolerance_change": 2.22e-22,
    "tolerance_grad": 1e-5,
    "final_weights": "last",
}
PROBLEM = {
    "name": "nonlocal_strain",
    "inputs": ["x", "y", "g", "elocal"],
    "scale_scope": "all",
    "scale_factor": 1.0,
    "strain_multiplier": 10,
    "loss": "norm",
    "formulation": "strong",
    "boundary_weight": 1.0,
    "batch": None,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both studies and, under the names that they ask for, tables of a mesh of 10 x 10."""
    folder = tmp_path_factory.mktemp("ifenn")
    built = invoke("data", "build", "strb100", "--increment", 20, "--mesh", 10, "--format", "npz", "-o", folder)
    assert built.exit_code == 0, built.output
    (small,) = folder.glob("*.npz")
    for elements in ELEMENTS[CONVERGENCE]:
        shutil.copy(small, folder / f"strb100_{elements}x{elements}_increment164.npz")
    for study in ELEMENTS:
        shutil.copy(study, folder)
    return folder


@pytest.fixture(scope="module")
def specs(folder: Path) -> dict[Path, StudySpec]:
    return {study: load_spec(folder / study.name) for study in ELEMENTS}


def configurations(spec: StudySpec) -> list[dict[str, Any]]:
    """Return the configuration of every trial of a study, its two sections in one."""
    search = search_of(spec)
    assert search.size is not None
    params = [search.propose(index).params for index in range(search.size)]
    return [{**config["train"], **config["problem"]} for config in map(spec.config, params)]


def test_the_convergence_study_has_its_64_configurations(specs: dict[Path, StudySpec]) -> None:
    found = configurations(specs[CONVERGENCE])
    sizes = {(config["width"], config["depth"]) for config in found}
    sources = [config["data"] for config in found]
    data = {source if isinstance(source, str) else Path(source["npz"]).name for source in sources}
    assert len(found) == len({json.dumps(config, sort_keys=True) for config in found}) == 64 == 4 * 4 * 2 * 2
    assert sizes == {(8, 8), (12, 12), (20, 20), (32, 32)}
    assert data == {"strb100", *(f"strb100_{n}x{n}_increment164.npz" for n in ELEMENTS[CONVERGENCE])}
    assert {(config["adam_lr"], config["epochs"]) for config in found} == {
        (lr, epochs) for lr in (1e-3, 1e-4) for epochs in (5000, 10_000)
    }


def test_the_study_of_shapes_has_its_96_configurations(specs: dict[Path, StudySpec]) -> None:
    found = configurations(specs[SHAPES])
    shapes = Counter((config["depth"], config["width"]) for config in found)
    assert len(found) == len({json.dumps(config, sort_keys=True) for config in found}) == 96
    assert shapes == dict.fromkeys({*PUBLISHED, *((width, depth) for depth, width in PUBLISHED)}, 4)
    assert Counter(depth * width for depth, width in shapes) == {300: 8, 420: 8, 560: 8}
    assert {(config["adam_lr"], config["epochs"]) for config in found} == {
        (lr, epochs) for lr in (1e-3, 1e-4) for epochs in (5000, 10_000)
    }
    assert {Path(config["data"]["npz"]).name for config in found} == {"strb100_50x50_increment164.npz"}


@pytest.mark.parametrize("study", ELEMENTS, ids=lambda study: study.stem)
def test_every_configuration_has_the_published_settings(specs: dict[Path, StudySpec], study: Path) -> None:
    assert specs[study].search.replicates == 10
    for config in configurations(specs[study]):
        assert {name: config[name] for name in (TRAINING | PROBLEM)} == TRAINING | PROBLEM


def test_the_short_study_differs_in_the_stages_that_are_cut() -> None:
    spec = load_spec(SHORT)
    for config, cut in zip(
        configurations(spec),
        ({}, {}, {"epochs": 300, "iterations": 300}, {"epochs": 60, "iterations": 60}),
        strict=True,
    ):
        expected = TRAINING | PROBLEM | {"data": "strb100", "adam_lr": 1e-3, "epochs": 5000} | cut
        assert {name: config[name] for name in expected} == expected


@pytest.mark.parametrize("study", ELEMENTS, ids=lambda study: study.stem)
def test_the_studies_are_valid_and_agree_with_the_schema(specs: dict[Path, StudySpec], study: Path) -> None:
    content, _ = yaml_text.read(study.read_text())
    jsonschema.Draft202012Validator(study_schema()).validate(content)
    again = load_text(specs[study].to_yaml(), base=Path("/nonexistent"))
    assert again == specs[study] and again.sha256() == specs[study].sha256()
    assert study.name in BUILT_FIRST


@pytest.mark.parametrize("study", ELEMENTS, ids=lambda study: study.stem)
def test_missing_tables_are_named_with_the_command_that_builds_them(tmp_path: Path, study: Path) -> None:
    shutil.copy(study, tmp_path)
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / study.name)
    assert [str(mistake).partition("got ")[2] for mistake in caught.value.mistakes] == [
        f'"{tmp_path}/strb100_{n}x{n}_increment164.npz". '
        f"pinnsweep data build strb100 --increment 164 --mesh {n} --format npz -o {tmp_path} writes it."
        for n in ELEMENTS[study]
    ]


def test_the_names_of_built_files_are_those_of_the_build(folder: Path) -> None:
    (name,) = table_files("strb100_10x10_increment20", "npz")
    found = BUILT_FILE.fullmatch(name)
    assert (folder / name).is_file() and found is not None
    assert found.groups() == ("strb100", "10", "20", "npz")


def test_a_configuration_of_the_study_trains(specs: dict[Path, StudySpec]) -> None:
    spec = specs[CONVERGENCE]
    train, problem = build_settings(
        spec.config({"width": 8, "depth": 8, "data": spec.values("data")[1], "adam_lr": 1e-3, "epochs": 20}),
        spec.source,
    )
    pack = Pack([Member(dataclasses.replace(train, iterations=5), problem)], device="cpu")
    pack.step(1000)
    (result,) = pack.results
    assert result.failure is None and result.layers == (4, *[8] * 8, 1)
    assert result.counts["first_evaluations"] == 20 and result.counts["second_evaluations"] > 5
    assert result.loss < result.curves["loss"][0]
