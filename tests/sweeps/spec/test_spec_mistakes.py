"""Study files with mistakes: all are reported at once, in one clear line each, and nothing crashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinncore import NonlocalStrain
from pinncore.settings import TrainSettings, hints
from sweeps.errors import Mistake, SpecError, SweepError
from sweeps.spec import yaml_text
from sweeps.study.loading import load_spec, load_text
from tests.sweeps.spec.study_files import ELSEWHERE, MINIMAL, mistakes, write_files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with data tables, weights for 2-8-8-1, and files that are neither."""
    write_files(tmp_path)
    return tmp_path


def recorded() -> dict[str, tuple[str, list[str]]]:
    """Return malformed files and their messages from mistakes.txt; a message that ends in ... goes on."""
    blocks = (Path(__file__).parent / "mistakes.txt").read_text(encoding="utf-8").split("=== ")[1:]
    cases = {}
    for block in blocks:
        name, _, rest = block.partition("\n")
        text, _, messages = rest.partition("\n>>>\n")
        cases[name] = (text, messages.strip().splitlines())
    return cases


RECORDED = recorded()


@pytest.mark.parametrize("name", RECORDED)
def test_a_malformed_file_gets_one_clear_message(name: str) -> None:
    text, messages = RECORDED[name]
    lines = mistakes(text)
    assert len(lines) == len(messages) == 1
    expected = messages[0]
    assert lines[0] == expected or (expected.endswith("...") and lines[0].startswith(expected.removesuffix("...")))


def test_the_record_is_complete() -> None:
    """A wrong separator in the file would leave cases out."""
    assert len(RECORDED) >= 160
    assert all(text.strip() or name == "empty file" for name, (text, _) in RECORDED.items())


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "-a", ".a", "a.", "é", "a" * 101])
def test_names_that_are_not_safe_as_folders(name: str) -> None:
    (line,) = mistakes(f"study: {name!r}\nsearch: {{trials: 4}}")
    assert line.startswith("study: must be a safe folder name: letters, digits, '.', '_' and '-'")


@pytest.mark.parametrize("name", ["a", "9", "strb100-widths", "a.b_c-d", "a" * 100])
def test_good_names(name: str) -> None:
    assert load_text(f'study: "{name}"\nsearch: {{trials: 4}}', base=ELSEWHERE).study == name


def test_overrides_are_checked_like_the_file() -> None:
    wrong = ("train.adam_lr=-1", "train.widht=8", "nonsense", "study.a.b=1", "train.depth=[1")
    assert mistakes(MINIMAL, overrides=wrong) == [
        "train.adam_lr: must be greater than 0, got -1.",
        "train.widht: is an unknown key, got 8. Did you mean width?",
        '--set: must be a path and a value, got "nonsense". For example: train.epochs=500.',
        "--set study.a.b: study is a value and cannot contain keys.",
        "train.depth: this is not valid YAML: while parsing a flow sequence: expected ',' or ']', but got "
        "'<stream end>', in line 1, column 3.",
    ]


# ---- files that a study file names ----


def test_data_files_that_are_missing_or_something_else(files: Path) -> None:
    def lines(data: str) -> list[str]:
        return [line.replace(str(files), "DIR") for line in mistakes(MINIMAL + f"problem: {{data: {{{data}}}}}", files)]

    assert lines("gauss_points: guass.csv, lrb: sub/lrb.csv, btb: btb.csv") == [
        'problem.data.gauss_points: there is no such file, got "DIR/guass.csv". Did you mean gauss.csv?',
        'problem.data.lrb: there is no such file, got "DIR/sub/lrb.csv". The folder DIR/sub cannot be read.',
    ]
    assert lines("gaus_points: gauss.csv, lrb: 3") == [
        'problem.data.gaus_points: is an unknown key, got "gauss.csv". Did you mean gauss_points?',
        "problem.data.lrb: must be the path of a file, got 3.",
    ]
    assert lines("gauss_points: gauss.csv") == [
        "problem.data: the table lrb and btb is missing; give gauss_points, lrb and btb."
    ]
    (wrong,) = lines("gauss_points: words.csv, lrb: lrb.csv, btb: btb.csv")
    assert wrong.startswith("problem.data: DIR/words.csv lacks the column x (x_mm or xcoord or x), y (")
    for name in ("words.csv", "broken.npz"):
        (wrong,) = lines(f"npz: {name}")
        assert wrong.startswith(f"problem.data: DIR/{name} is not a data file written by pinncore")


def test_an_objective_that_needs_a_reference(files: Path) -> None:
    data = "data: {gauss_points: blind.csv, lrb: lrb.csv, btb: btb.csv, elocal_factor: 1}"
    assert mistakes(MINIMAL + f"problem: {{{data}}}", files) == [
        'search.objective: needs a reference, which problem.data does not have, got "rel_l2". Add the column '
        "enonlocal_true to the Gauss points, or use the objective heldout_residual."
    ]
    text = f"study: s\nsearch: {{trials: 1, objective: heldout_residual}}\nproblem: {{{data}}}"
    assert load_text(text, base=files).problem["data"]["elocal_factor"] == 1


def test_best_weights_need_points_to_hold_out(files: Path) -> None:
    """Between points on a line there are none."""
    (files / "line.csv").write_text("xcoord,ycoord,g,elocal,enonlocal_true\n0,0,8,1e-4,1e-4\n99,0,8,1e-4,1e-4\n")
    line, best = "{gauss_points: line.csv, lrb: lrb.csv, btb: btb.csv, elocal_factor: 1}", "final_weights: best_heldout"
    rule = "needs points to hold out, which nonlocal_strain does not have here"
    advice = 'got "best_heldout". Use final_weights: last, or give it a condition (when).'
    assert mistakes(MINIMAL + f"problem: {{data: {line}}}\ntrain: {{{best}}}", files) == [
        f"train.final_weights: {rule}, {advice}"
    ]
    data = f"data: {{choice: [strb100, {line}]}}"
    (swept,) = mistakes(MINIMAL + f"space: {{{data}}}\ntrain: {{{best}}}", files)
    assert swept.startswith(f'train.final_weights: {rule}, got "best_heldout". The space combines it with data ')
    both = "final_weights: {choice: [last, best_heldout]"
    (swept,) = mistakes(MINIMAL + f"space: {{{data}, {both}}}}}", files)
    assert swept.startswith(f"space.final_weights: {rule}")
    row = f"search: {{sampler: list, list: [{{}}, {{data: {line}, {best}}}]}}"
    (listed,) = mistakes(f"study: s\n{row}", files)
    assert listed.startswith(f"search.list[1].final_weights: {rule}")
    assert load_text(MINIMAL + f"space: {{{data}, {both}, when: {{data: strb100}}}}}}", base=files)
    assert load_text(MINIMAL + f"train: {{{best}}}", base=files)


def test_best_weights_beside_both_formulations_need_a_condition() -> None:
    """The residual at points is that of the strong formulation."""
    forms, best = "formulation: {choice: [strong, fe]}", "final_weights: {choice: [best_heldout]"
    rule = "needs points to hold out, which nonlocal_strain does not have here"
    hint = "The space combines it with formulation fe. Use final_weights: last, or give it a condition (when)."
    wrong = MINIMAL + f"space: {{{forms}}}\ntrain: {{final_weights: best_heldout}}"
    assert mistakes(wrong) == [f'train.final_weights: {rule}, got "best_heldout". {hint}']
    assert mistakes(MINIMAL + f"space: {{{forms}, {best}}}}}")[0].startswith(f"space.final_weights: {rule}")
    assert load_text(MINIMAL + f"space: {{{forms}, {best}, when: {{formulation: strong}}}}}}", base=ELSEWHERE)


def test_weights_are_checked_against_every_network_of_the_space(files: Path) -> None:
    def lines(text: str) -> list[str]:
        return [line.replace(str(files), "DIR") for line in mistakes(MINIMAL + text, files)]

    assert load_text(MINIMAL + "train: {init: file:weights.npz, width: 8, depth: 2}", base=files)
    assert lines("train: {init: file:weights.npz, width: 16}") == [
        "train.init: W1 in DIR/weights.npz has shape (2, 8), but a network 2-16-16-1 needs (2, 16)."
    ]
    assert lines("train: {init: file:weights.npz}\nspace: {width: {choice: [8, 16, 32]}}") == [
        "train.init: W1 in DIR/weights.npz has shape (2, 8), but a network 2-16-16-1 needs (2, 16) (and "
        "1 more of its 3 shapes). "
        "It fits 2-8-8-1: keep only widths, depths and inputs that it fits, or leave the file out."
    ]
    assert lines("space: {width: {choice: [8]}, depth: {int: [2, 3]}, init: {choice: [torch, file:weights.npz]}}") == [
        "space.init.choice[1]: W3 in DIR/weights.npz has shape (8, 1), but a network 2-8-8-8-1 needs (8, 8). It "
        "fits 2-8-8-1: keep only widths, depths and inputs that it fits, or leave the file out."
    ]
    assert lines("train: {init: file:weights.npz}\nspace: {width: {int: [8, 5000]}}")  # only its ends are tried
    assert lines("train: {init: file:weigths.npz, width: 8}") == [
        'train.init: there is no such file, got "file:DIR/weigths.npz". Did you mean weights.npz?'
    ]
    for name in ("words.csv", "broken.npz"):
        (wrong,) = lines(f"train: {{init: file:{name}}}\nspace: {{width: {{choice: [8, 16]}}}}")
        assert wrong.startswith(f"train.init: DIR/{name} is not an .npz of arrays")


def test_weights_are_not_checked_against_a_misspelt_width(files: Path) -> None:
    lines = mistakes(MINIMAL + "train: {init: file:weights.npz}\nspace: {widht: {choice: [8]}}", files)
    assert [line.split(":")[0] for line in lines] == ["space.widht"]


# ---- all at once ----


MANY = """
study: my study
problem: {name: nonlocal, data: {gauss_points: nope.csv, lrb: nope.csv}, scale_scop: all, inputs: [x]}
search: {sampler: sobol, trials: 0, objective: error}
space:
  width: {choice: [8, -16]}
  depth: {int: [2.5, 8]}
  adam_lr: {loguniform: [0, 1e-2]}
  lbfgs_history: {choice: []}
  init: {choice: [torch, keas, file:nope.npz]}
  scale_factor: {uniform: [4, 1]}
  learning_rate: {choice: [1]}
train: {widht: 8, epochs: many, dtype: float16, width: 8, first_step: true}
resources: {cpus: 2}
budget: {hours: -1}
"""


def test_all_mistakes_of_a_file_come_in_one_go_and_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(MANY)
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "study.yaml", ["train.iterations=-3"])
    assert [mistake.path for mistake in caught.value.mistakes] == [
        "study",
        "problem.name",
        "problem.data.gauss_points",
        "problem.data.lrb",
        "problem.scale_scop",
        "problem.inputs",
        "search.sampler",
        "search.trials",
        "search.objective",
        "space.width",
        "space.width.choice[1]",
        "space.depth.int[0]",
        "space.adam_lr.loguniform[0]",
        "space.lbfgs_history.choice",
        "space.init.choice[1]",
        "space.init.choice[2]",
        "space.scale_factor.uniform",
        "space.learning_rate",
        "train.widht",
        "train.epochs",
        "train.dtype",
        "train.first_step",
        "train.iterations",
        "resources.cpus",
        "budget.hours",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.yaml"]


def test_correcting_every_mistake_leaves_none() -> None:
    """No mistake is left for a second run."""
    corrected = MANY
    for wrong, right in {
        "my study": "mine",
        "nonlocal,": "nonlocal_strain,",
        "{gauss_points: nope.csv, lrb: nope.csv}": "strb100",
        "scale_scop: all": "scale_scope: all",
        "inputs: [x]": "inputs: [x, y]",
        "sobol": "qmc",
        "trials: 0": "trials: 2",
        "error": "rel_l2",
        "-16": "16",
        "2.5": "2",
        "[0, 1e-2]": "[1e-3, 1e-2]",
        "choice: []": "choice: [9]",
        "keas, ": "",
        "file:nope.npz": "keras",
        "[4, 1]": "[1, 4]",
        "  learning_rate: {choice: [1]}\n": "",
        "widht: 8, ": "",
        "many": "10",
        "float16": "float32",
        "width: 8, first_step: true": "first_step: 1",
        "cpus:": "cpus_per_pack:",
        "-1": "1",
    }.items():
        assert wrong in corrected
        corrected = corrected.replace(wrong, right)
    assert load_text(corrected, base=ELSEWHERE).search.trials == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.yaml", "there is no such file"),
        ("", "this is a folder, not a study file"),
        ("latin.yaml", "not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_opened(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "latin.yaml").write_bytes("study: é".encode("latin-1"))
    with pytest.raises(SweepError, match=words):
        load_spec(tmp_path / name)


NAMES = sorted(
    {
        *hints(TrainSettings),
        *hints(NonlocalStrain),
        "study",
        "problem",
        "search",
        "space",
        "train",
        "resources",
        "budget",
        "results",
        "track",
        "tensorboard",
        "wandb",
        "uri",
        "notify",
        "webhook",
        "command",
        "on",
        "name",
        "sampler",
        "trials",
        "pack",
        "hours",
        "choice",
        "int",
        "uniform",
        "loguniform",
        "logint",
        "when",
        "objective",
        "constraints",
        "list",
        "warm_start",
        "pruner",
        "kind",
        "replicates",
        "state",
        "target",
        "elocal_factor",
        "gauss_points",
        "npz",
        "widht",
        "",
    }
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.integers(),
    st.floats(),
    st.sampled_from(NAMES),
    st.sampled_from(["grid", "torch", "file:x.npz", "strb100", "x", "y", "consistent", "all", "auto", "\0", "~x"]),
    st.sampled_from(
        ["list", "tpe", "gp", "cmaes", "asha", "rel_l2", "loss", "width < 9", "width", "trial:x/1", "sqlite:/"]
    ),
)
CONTENT = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=12,
)
SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(CONTENT, st.dictionaries(st.sampled_from(NAMES), CONTENT, max_size=5))
        for name in (
            *("study", "problem", "search", "space", "train", "resources", "budget", "results"),
            "track",
            "notify",
            "state",
            "extra",
        )
    },
)


@given(content=SECTIONS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nonsense_is_reported_and_never_crashes(content: dict[str, Any]) -> None:
    reported: tuple[Mistake, ...] = ()
    try:
        spec = load_text(yaml_text.write(content), base=ELSEWHERE)
        assert load_text(spec.to_yaml(), base=ELSEWHERE) == spec
    except SpecError as error:
        reported = error.mistakes
    assert all(mistake.rule and "Input should" not in str(mistake) for mistake in reported)


@given(text=st.text(alphabet="abst:{}[], \n-&*!|>'\"#%@?0.~é", max_size=60))
@settings(deadline=None)
def test_any_text_is_a_study_or_a_mistake(text: str) -> None:
    with pytest.raises(SpecError):
        load_text(text, base=ELSEWHERE)
