"""Study files without mistakes: their meaning, hashes, schema and documentation."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinncore import PROBLEMS, NonlocalStrain, problem_class
from pinncore.errors import SettingError
from pinncore.settings import TrainSettings
from sweeps.errors import SpecError
from sweeps.spec import model, yaml_text
from sweeps.spec.dimensions import Choice, Int, LogInt, LogUniform, Uniform
from sweeps.spec.parse import parse_spec
from sweeps.spec.sections import PrunerSettings, SearchSettings
from sweeps.spec.study_spec import StudySpec, build_settings, config_sha256
from sweeps.study.input_checks import warnings_of
from sweeps.study.loading import load_spec, load_text
from sweeps.study.problems import load_problem, study_schema
from tests.sweeps.spec.study_files import ELSEWHERE, EXAMPLES, MINIMAL, ROOT, write_files

from ..problems import STRAIN


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with data tables, weights for 2-8-8-1, and files that are neither."""
    write_files(tmp_path)
    return tmp_path


def test_a_minimal_file_has_the_defaults_of_the_settings() -> None:
    spec = load_text(MINIMAL, base=ELSEWHERE)
    train, problem = build_settings(spec.config({}), spec.source)
    assert (train, problem) == (TrainSettings(), NonlocalStrain())
    assert (spec.search.objective, spec.search.sampler, spec.search.seed) == ("rel_l2", "random", 0)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid_and_come_back_from_their_canonical_form(path: Path) -> None:
    spec = load_spec(path)
    again = load_text(spec.to_yaml(), base=ELSEWHERE)
    assert again == spec
    assert again.to_yaml() == spec.to_yaml()
    assert again.sha256() == spec.sha256()
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301 (Ray sends it to workers so)


def test_the_quickstart_sweeps_the_five_named_dimensions() -> None:
    spec = load_spec(ROOT / "examples" / "quickstart.yaml")
    assert spec.study == "quickstart"
    assert set(spec.space) == {"width", "adam_lr", "lbfgs_history", "init", "scale_factor"}
    assert spec.search.trials is not None and spec.search.trials >= 16
    assert warnings_of(spec) == ()


def test_dimensions_are_typed_by_their_field() -> None:
    spec = load_text(
        MINIMAL
        + """
space:
  width: {choice: [8, 16]}
  depth: {int: [2, 8]}
  adam_lr: {loguniform: [1e-4, 1]}
  lbfgs_history: {logint: [3, 500]}
  boundary_weight: {uniform: [0, 1]}
  scale_factor: {choice: [1, 10]}
  strain_reference: {choice: [rms, max]}
  max_evaluations: {choice: [null, 100]}
  inputs: {choice: [[x, y], [x, y, g, elocal]]}
""",
        base=ELSEWHERE,
    )
    assert list(spec.space.values()) == [
        Choice((8, 16)),
        Int(2, 8),
        LogUniform(1e-4, 1.0),
        LogInt(3, 500),
        Uniform(0.0, 1.0),
        Choice((1.0, 10.0)),
        Choice(("rms", "max")),
        Choice((None, 100)),
        Choice((["x", "y"], ["x", "y", "g", "elocal"])),
    ]
    assert [type(value) for value in spec.space["scale_factor"].arguments()] == [float, float]
    assert not spec.space.keys() & (spec.train.keys() | spec.problem.keys())


def test_a_configuration_is_whole_and_plain() -> None:
    spec = load_text(MINIMAL + "space: {scale_factor: {int: [1, 9]}, inputs: {choice: [[x, y]]}}", base=ELSEWHERE)
    config = spec.config({"scale_factor": 3, "inputs": ["x", "y"]})
    assert json.loads(json.dumps(config)) == config
    assert type(config["problem"]["scale_factor"]) is float
    assert list(config["train"]) == [field.name for field in dataclasses.fields(TrainSettings)]
    assert list(config["problem"]) == ["name", *(field.name for field in dataclasses.fields(NonlocalStrain))]
    train, problem = build_settings(config, spec.source)
    assert problem == NonlocalStrain(scale_factor=3.0) and train == TrainSettings()
    with pytest.raises(
        ValueError, match=r"params must name fields among \['inputs', 'scale_factor'\], got \['width'\]"
    ):
        spec.config({"width": 8})


def test_hashes_see_values_and_nothing_else() -> None:
    space = "space: {width: {choice: [8]}, depth: {choice: [2]}}"
    text = f"study: s\nsearch: {{trials: 4, seed: 0}}\n{space}\ntrain: {{adam_lr: 0.001}}"
    same = "space: {depth: {choice: [2]}, width: {choice: [8]}}\n\nsearch:\n  trials: 4  # as before\nstudy: s"
    other = text.replace("[8]", "[9]")
    first, second, third = (load_text(version, base=ELSEWHERE).sha256() for version in (text, same, other))
    assert first == second != third
    config = load_text(MINIMAL, base=ELSEWHERE).config({})
    assert config_sha256(config) == config_sha256(dict(reversed(config.items())))
    assert config_sha256(config) != config_sha256({**config, "train": {**config["train"], "width": 17}})


def test_relative_paths_start_at_the_folder_of_the_file(files: Path) -> None:
    text = (
        MINIMAL
        + """
space: {data: {choice: [strb100, {gauss_points: gauss.csv, lrb: ./lrb.csv, btb: btb.csv, elocal_factor: 1}]}}
train: {init: file:weights.npz, width: 8}
"""
    )
    (files / "study.yaml").write_text(text)
    spec = load_spec(files / "study.yaml")
    assert spec.train["init"] == f"file:{files}/weights.npz"
    assert spec.space["data"].arguments()[1] == {
        **{table: f"{files}/{name}.csv" for table, name in (("gauss_points", "gauss"), ("lrb", "lrb"), ("btb", "btb"))},
        "elocal_factor": 1,
    }
    assert load_text(spec.to_yaml(), base=ELSEWHERE) == spec


def test_overrides_replace_values() -> None:
    spec = load_text(
        MINIMAL,
        base=ELSEWHERE,
        overrides=[
            "train.adam_lr=1e-4",
            "search.sampler=grid",
            "budget.hours=2",
            "space.width={choice: [8, 16]}",
            "search.trials=null",
        ],
    )
    assert spec.train["adam_lr"] == 1e-4
    assert spec.search.trials is None and spec.budget.hours == 2
    assert spec.space == {"width": Choice((8, 16))}


FEW_KEYS = """
study: s
problem: {name: nonlocal_strain, data: strb100, inputs: [x, y]}
search: {sampler: tpe, trials: 8, objective: rel_l2, seed: 3, replicates: 1, pruner: none}
space:
  width:
    choice: [8, 16]
train: {depth: 2}
resources: {device: auto, pack: auto, cpus_per_pack: 1, gpus_per_pack: null}
budget: {hours: null}
results: {fields: all, weights: all}
"""


def test_keys_that_are_left_out_have_their_defaults() -> None:
    spec = load_text(FEW_KEYS, base=ELSEWHERE)
    assert spec == load_text(spec.to_yaml(), base=ELSEWHERE)
    assert spec.search == SearchSettings(sampler="tpe", trials=8, seed=3)
    assert spec.search.model_dump(by_alias=True) == {
        "sampler": "tpe",
        "trials": 8,
        "objective": "rel_l2",
        "seed": 3,
        "replicates": 1,
        "quantile": 0.5,
        "deterministic": False,
        "generation": 8,
        "list": None,
        "constraints": [],
        "warm_start": [],
        "reuse": [],
        "branch_of": None,
        "pruner": PrunerSettings().model_dump(),
    }
    assert spec.search.pruner.kind == "none" and spec.state is None and spec.listed == ()
    assert spec.resources.priority == 1
    assert set(spec.budget.model_dump().values()) == {None}
    assert spec.objectives == ("rel_l2",)


def test_everything_about_the_search_is_read_and_written() -> None:
    text = """
study: s
search:
  sampler: nsga2
  trials: 64
  objective: [rel_l2, loss]
  replicates: 5
  quantile: 0.9
  deterministic: true
  generation: 16
  constraints: [width <= 64]
  pruner: {kind: patience, patience: 1, min_improvement: 0}
resources: {priority: 7}
budget: {hours: 1, device_hours: 2.5, evaluations: 3000000000, max_failures: 0}
track: {tensorboard: {}, mlflow: {uri: http://host:5000, experiment: e}, wandb: {project: p, mode: offline}}
notify: {command: "mail -s 'a b' me", webhook: env:CHAT, on: [end]}
state: postgresql://me@host/db?sslmode=require
"""
    spec = load_text(text, base=ELSEWHERE)
    assert spec.objectives == ("rel_l2", "loss")
    assert spec.search.pruner == PrunerSettings(kind="patience", patience=1.0, min_improvement=0.0)
    assert (spec.search.replicates, spec.search.quantile, spec.search.generation) == (5, 0.9, 16)
    assert (spec.budget.evaluations, spec.budget.max_failures) == (3_000_000_000, 0)
    assert spec.state == "postgresql://me@host/db?sslmode=require" and spec.resources.priority == 7
    assert list(spec.track.chosen) == ["tensorboard", "mlflow", "wandb"] and spec.track.wandb.entity is None
    assert spec.notify.words == ("mail", "-s", "a b", "me") and spec.notify.on == ("end",)
    again = load_text(spec.to_yaml(), base=ELSEWHERE)
    assert again == spec and again.sha256() == spec.sha256()
    jsonschema.Draft202012Validator(study_schema()).validate(spec.to_plain())
    assert load_text(text.replace("quantile: 0.9", "quantile: 0.5"), base=ELSEWHERE).sha256() != spec.sha256()


def test_the_name_of_a_pruner_is_short_for_a_mapping() -> None:
    head = "study: s\nsearch: {trials: 4, pruner: PRUNER}"
    short, long = (load_text(head.replace("PRUNER", p), base=ELSEWHERE) for p in ("asha", "{kind: asha}"))
    assert short == long and short.search.pruner == PrunerSettings(kind="asha")
    assert short.to_plain()["search"]["pruner"] == {**PrunerSettings().model_dump(), "kind": "asha"}


def test_folders_of_other_studies_and_of_the_state_are_absolute(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.yaml").write_text(MINIMAL)
    text = "study: s\nsearch: {trials: 4, sampler: tpe, warm_start: [one, ./two]}\nstate: states/here\n"
    spec = load_text(text, base=tmp_path)
    assert spec.search.warm_start == [f"{tmp_path}/one", f"{tmp_path}/two"]
    assert spec.state == f"{tmp_path}/states/here"
    assert load_text(spec.to_yaml(), base=ELSEWHERE) == spec
    (tmp_path / "one" / "study.yaml").unlink()
    assert parse_spec(spec.to_yaml(), base=ELSEWHERE, load_problem=load_problem) == spec
    (tmp_path / "states").write_text("")
    with pytest.raises(SpecError, match=r"search.warm_start\[0\]: is not a study.*\nstate: is a file, not a folder"):
        load_text(text.replace("/here", ""), base=tmp_path)


def test_a_pruner_whose_metric_the_data_lack(files: Path) -> None:
    text = "study: s\nsearch: {trials: 4, objective: heldout_residual, pruner: {kind: asha, metric: METRIC}}\n"
    text += "problem: {data: {gauss_points: blind.csv, lrb: lrb.csv, btb: btb.csv, elocal_factor: 1}}"
    with pytest.raises(SpecError, match=r"search\.pruner\.metric: needs a reference"):
        load_text(text.replace("METRIC", "rel_l2"), base=files)
    assert load_text(text.replace("METRIC", "loss"), base=files).search.pruner.metric == "loss"


def test_empty_sections_count_as_left_out() -> None:
    assert load_text(MINIMAL + "space:\ntrain:\nbudget:\n", base=ELSEWHERE) == load_text(MINIMAL, base=ELSEWHERE)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("1.e-4", 1e-4), (".1", 0.1), ("+1e-4", 1e-4), ("1", 1.0), ("010", 10.0)],
)
def test_numbers_are_read_as_in_yaml_1_2(text: str, value: float) -> None:
    """In YAML 1.1, 1e-4 is text and 010 is eight."""
    assert load_text(MINIMAL + f"train: {{adam_lr: {text}}}", base=ELSEWHERE).train["adam_lr"] == value


@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**63) + 1, 2**63 - 1),
            st.floats(allow_nan=False),
            st.text(),
            st.sampled_from(
                ["1e-4", "no", "on", "~", "0x10", "1:30", "2024-01-01", "<<", "=", "null", ".inf", "1_000"]
            ),
        ),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
        max_leaves=6,
    )
)
def test_plain_values_are_written_and_read_back(value: Any) -> None:
    content, mistakes = yaml_text.read(yaml_text.write({"value": value}))
    assert content == {"value": value} and mistakes == []
    assert type(content["value"]) is type(value)


# ---- warnings ----


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("search: {trials: 1, objective: loss}", "loss does not rank trials"),
        ("problem: {scale_scope: all}", "scale_scope all reproduces published mistakes"),
        ("space: {scale_scope: {choice: [consistent, elocal]}}", "scale_scope elocal reproduces published mistakes"),
        ("space: {inputs: {choice: [[x, y], [x, y, g, elocal]]}}", "u = e then has zero loss"),
        ("train: {dtype: float32}", "float32 makes L-BFGS stop early"),
        ("train: {first_step: 0.001}", "a line search that starts with so small a step"),
        ("search: {sampler: grid, trials: 3}\nspace: {width: {choice: [8, 16]}}", "the grid has 2 combinations"),
        ("space: {}", "space is empty: there is one configuration, so use search.replicates"),
        ("search: {trials: 1, objective: [rel_l2, loss]}", "loss does not rank trials"),
        (
            "search: {trials: 3}\nspace: {width: {choice: [8, 16]}}",
            "the space has 2 combinations: none is trained twice",
        ),
        ("space: {epochs: {int: [0, 9]}}\ntrain: {iterations: 0}", "trains nothing"),
    ],
)
def test_misleading_choices_cause_warnings(text: str, words: str) -> None:
    head = "study: s\n" if "search:" in text else MINIMAL
    warnings = warnings_of(load_text(head + text, base=ELSEWHERE))
    assert any(words in warning for warning in warnings), warnings
    assert all(warning.endswith(".") for warning in warnings)


def test_without_a_second_stage_there_is_no_warning_about_it() -> None:
    spec = load_text(MINIMAL + "train: {dtype: float32, iterations: 0, first_step: 0.001}", base=ELSEWHERE)
    assert not any("L-BFGS" in warning or "lbfgs" in warning for warning in warnings_of(spec))


# ---- one rule, one place ----


VALUES: list[Any] = [
    -1,
    0,
    1,
    8,
    10**6,
    0.0,
    0.5,
    1.0,
    8.5,
    -0.5,
    math.inf,
    math.nan,
    True,
    None,
    "",
    "8",
    "torch",
    "tanh",
    "float32",
    "auto",
    "norm",
    "rms",
    "all",
    "constant",
    "strb100",
    [],
    [0],
    [0, 50],
    ["x", "y"],
    [-1],
    {},
]
OPENED_LATER = {"init": "torch", "data": "strb100"}


@pytest.mark.parametrize(("section", "owner"), [("train", TrainSettings), ("problem", NonlocalStrain)])
def test_the_file_accepts_what_the_settings_accept(section: str, owner: type[Any]) -> None:
    """For every field and value, fixed or swept, a study file and pinncore agree."""
    for field in dataclasses.fields(owner):
        for value in VALUES:
            expected = _settings_accept(owner, field.name, value)
            if field.name in OPENED_LATER and isinstance(value, (str, dict)):  # the settings accept any name there
                expected = value == OPENED_LATER[field.name]
            for content in ({section: {field.name: value}}, {"space": {field.name: {"choice": [value]}}}):
                accepted = _file_accepts({"study": "s", "search": {"trials": 1}, **content})
                assert accepted == expected, (field.name, value, content)


def _settings_accept(owner: type[Any], name: str, value: Any) -> bool:
    try:
        owner(**{name: tuple(value) if isinstance(value, list) else value})
    except SettingError:
        return False
    return True


def _file_accepts(content: dict[str, Any]) -> bool:
    try:
        load_text(yaml_text.write(content), base=ELSEWHERE)
    except SpecError:
        return False
    return True


def test_fields_of_train_and_problems_have_names_of_their_own() -> None:
    names = [field.name for owner in (TrainSettings, NonlocalStrain) for field in dataclasses.fields(owner)]
    assert len(names) == len(set(names))
    assert not set(names) & set(model.section_keys(model.study_file(STRAIN.record))[""])


# ---- the JSON schema ----


def test_the_schema_is_one_and_describes_every_key() -> None:
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    nodes = [schema, *schema["$defs"].values()]
    undescribed = [
        name for node in nodes for name, key in node.get("properties", {}).items() if not key.get("description")
    ]
    assert undescribed == []
    owners = (TrainSettings, *map(problem_class, PROBLEMS))
    fields = {field.name for owner in owners for field in dataclasses.fields(owner)}
    assert set(schema["$defs"]["Space"]["properties"]) == fields


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_agree_with_the_schema(path: Path) -> None:
    content, _ = yaml_text.read(path.read_text())
    jsonschema.Draft202012Validator(study_schema()).validate(content)
    jsonschema.Draft202012Validator(study_schema()).validate(load_spec(path).to_plain())


@pytest.mark.parametrize(
    "text",
    [
        "train: {widht: 8}",
        "train: {width: -8}",
        "train: {width: 8.5}",
        "train: {dtype: half}",
        "space: {width: {choice: []}}",
        "space: {adam_lr: {loguniform: [0, 1]}}",
        "space: {width: {choice: [8], int: [1, 2]}}",
        "space: {width: {uniform: [1, 2]}}",
        "space: {adam_beta1: {uniform: [0.5, 1]}}",
        "search: {sampler: sobol}",
        "search: {pruner: ahsa}",
        "search: {pruner: {kind: asha, reduction: 1}}",
        "search: {objective: [rel_l2]}",
        "search: {list: [{widht: 8}]}",
        "search: {list: [{width: -8}]}",
        "search: {list: []}",
        "space: {width: {choice: [8], when: {depht: 2}}}",
        "space: {width: {when: {depth: 2}}}",
        "state: 3",
        "budget: {max_failures: -1}",
        "study: a b",
        "space: {hours: {choice: [1]}}",
    ],
)
def test_the_schema_refuses_what_an_editor_should_mark(text: str) -> None:
    content, _ = yaml_text.read(text if text.startswith("study") else f"study: s\n{text}")
    assert not jsonschema.Draft202012Validator(study_schema()).is_valid(content)


# ---- the documentation ----


def documented_tables() -> str:
    """Return the tables of docs/study-file.md, made from the model."""
    schema = study_schema()
    titles = {
        "search": "SearchSettings",
        "search.pruner": "PrunerSettings",
        "train": "TrainSettings",
        "problem": "NonlocalStrain",
        "resources": "ResourceSettings",
        "budget": "BudgetSettings",
        "results": "ResultSettings",
        "track": "TrackSettings",
        "track.tensorboard": "TensorBoardSettings",
        "track.mlflow": "MLflowSettings",
        "track.wandb": "WandbSettings",
        "notify": "NotifySettings",
    }
    state = {"properties": {"state": schema["properties"]["state"]}}
    tables = [_table(section, schema["$defs"][title]) for section, title in titles.items()]
    return "\n".join([*tables, _table("state", state)])


def _table(section: str, schema: dict[str, Any]) -> str:
    rows = [
        f"| `{name}` | {_kind(key)} | {_default(name, key)} | {key['description']} |"
        for name, key in schema["properties"].items()
    ]
    return "\n".join(
        [f"### `{section}`", "", "| key | type and rule | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _default(name: str, key: dict[str, Any]) -> str:
    factories = {"constraints": [], "warm_start": [], "reuse": [], "pruner": "none"}
    if "$ref" in key and name not in factories:
        return "left out"
    return f"`{json.dumps(factories.get(name, key.get('default')))}`"


def _kind(key: dict[str, Any]) -> str:
    if branches := key.get("anyOf") or key.get("oneOf"):
        return " or ".join(_kind(branch) for branch in branches)
    if "$ref" in key:
        return "mapping"
    if "enum" in key or "const" in key:
        return ", ".join(f"`{value}`" for value in key.get("enum", [key.get("const")]))
    if key["type"] == "array":
        return f"list of {_kind(key['items'])}" if "items" in key else "list"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    words |= {"object": "mapping", "null": "`null`"}
    bounds = {
        "minimum": "at least {}",
        "exclusiveMinimum": "greater than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
    }
    rules = [sentence.format(key[bound]) for bound, sentence in bounds.items() if bound in key]
    return ", ".join([words[key["type"]], *rules])


def test_the_documentation_has_every_key_with_its_rule_and_default() -> None:
    assert documented_tables() in (ROOT / "docs" / "study-file.md").read_text()


def test_the_documented_examples_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "study-file.md").read_text(), re.S)
    complete = [block for block in blocks if block.startswith("study:")]
    assert complete
    parts = {"search": "study: s\n", "space": MINIMAL}
    for block in blocks:
        head = "" if block in complete else parts[block.partition(":")[0]]
        assert isinstance(load_text(head + block, base=ELSEWHERE), StudySpec)


def test_a_clash_is_found_however_many_combinations_there_are() -> None:
    """Three fields among ten thousand combinations; one combination of them breaks the rule."""
    space = {
        "lbfgs_memory": {"choice": ["auto", "dense"]},
        "lbfgs_history": {"choice": [1000, 100]},
        "iterations": {"choice": [50, 200]},
        "width": {"choice": list(range(1, 60))},
        "epochs": {"choice": list(range(1, 60))},
    }
    content = {"study": "s", "search": {"sampler": "random", "trials": 4}, "space": space}
    with pytest.raises(SpecError, match="dense needs an lbfgs_history of at least iterations"):
        load_text(json.dumps(content), base=ELSEWHERE)
    del space["lbfgs_history"]["choice"][1]
    load_text(json.dumps(content), base=ELSEWHERE)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:12"])
def test_a_gpu_may_be_chosen_by_its_index(device: str) -> None:
    content = {"study": "s", "search": {"sampler": "random", "trials": 1}, "resources": {"device": device}}
    assert load_text(json.dumps(content), base=ELSEWHERE).resources.device == device
