"""A user's problem: found, checked, stored with its study, and never executed by what only reads."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pinncore.errors import ProblemError
from pinncore.problems import PROBLEMS
from pinncore.problems.source import ProblemSource, find_problem, same_code
from sweeps.errors import StudyError
from sweeps.jobs.bundle import bundle, unpack
from sweeps.spec.identity import identity_sha256
from sweeps.storage.own_files import PROBLEM_FILE
from sweeps.storage.stored_problem import read_problem
from sweeps.study.branching import branch
from sweeps.study.loading import load_spec, load_text, read_spec
from sweeps.study.problems import load_problem
from sweeps.study.references import reference_store

from ..invoking import errors_of, invoke
from ..small import prepare, run_all

DECAY = '''\
"""Radioactive decay."""

from pathlib import Path
from pinncore import Box, Condition, Problem


class Decay(Problem):
    coordinates = {"x": "m", "t": "s"}
    outputs = {"u": "1"}
    domain = Box(x=(0, 1), t=(0, 1))
    rate: float = 2.0

    def equations(self, u, x, t):
        return {"decay": u.diff(t) + self.rate * u}

    def conditions(self, u, x, t):
        return [Condition("start", u - 1, on=self.domain.face(t=0))]
'''
STUDY = """\
study: decays
problem: {{name: "{name}", points: 32, condition_points: 1}}
search: {{sampler: qmc, trials: 2, objective: heldout_residual}}
space: {{rate: {{uniform: [1.0, 3.0]}}}}
train: {{width: 4, depth: 1, epochs: 3, iterations: 2, keep_epochs: [0]}}
"""


def written(folder: Path, text: str = DECAY, name: str = "decay.py:Decay", **changes: str) -> Path:
    """Return a study file beside the file of its problem."""
    folder.mkdir(parents=True, exist_ok=True)
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "decay.py").write_text(text)
    file = folder / "decays.yaml"
    file.write_text(STUDY.format(name=name))
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose problem's file leaves a trace where it is executed, and then is gone."""
    folder = tmp_path_factory.mktemp("trained")
    trace = f"\n\nPath({str(folder / 'trace')!r}).touch()\n"
    study_dir, _ = prepare(folder / "root", load_spec(written(folder, DECAY + trace)))
    run_all(study_dir, segment_s=5.0)
    (folder / "decay.py").unlink()
    assert (folder / "trace").exists()
    return study_dir


# ---- records -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_shipped_problem_comes_back_from_its_record(name: str) -> None:
    source = load_problem(name, Path())
    back = ProblemSource.from_plain(json.loads(json.dumps(source.to_plain())))
    assert back == source and hash(back.record) == hash(source.record) and source.is_shipped
    assert list(back.record.hints) == [field.name for field in dataclasses.fields(source.problem_class)]
    assert set(back.record.equations) <= set(back.record.terms)


def test_a_problem_is_the_same_wherever_its_file_lies(tmp_path: Path) -> None:
    one, other = (load_spec(written(tmp_path / name)) for name in ("one", "other"))
    assert one.source.name == other.source.name and one.source.name.startswith("Decay@")
    assert one.config({}) == other.config({}) and identity_sha256(one) == identity_sha256(other)
    assert one.problem["name"] == f"{tmp_path / 'one' / 'decay.py'}:Decay"
    changed = load_spec(written(tmp_path / "changed", **{"self.rate * u": "self.rate * u**3"}))
    assert changed.config({}) != one.config({}) and identity_sha256(changed) != identity_sha256(one)


def test_one_problem_in_a_file_needs_no_name(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path, name="decay.py"))
    assert spec.problem["name"].endswith("decay.py:Decay")
    assert load_text(spec.to_yaml(), base=Path("/")) == spec


def test_a_module_of_a_package_is_a_problem_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_equations"
    written(package)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    file = written(tmp_path / "elsewhere", name="my_equations.decay:Decay")
    spec = load_spec(file)
    assert spec.problem["name"] == "my_equations.decay:Decay" and spec.source.text == DECAY
    (package / "decay.py").write_text(DECAY.replace("2.0", "3.0"))
    with pytest.raises(ProblemError, match="is not the one that the study began with"):
        _ = ProblemSource.from_plain(spec.source.to_plain() | {"text": DECAY + "# other\n"}).problem_class


# ---- mistakes ------------------------------------------------------------------------------------------------------

TRIAL = DECAY.replace(", t)", ", trial)").replace("f(t)", "f(trial)").replace("t=", "trial=").replace('"t"', '"trial"')
MISTAKES: Mapping[str, tuple[str, str, str]] = {
    "no file": ("", "gone.py:Decay", "gone.py: there is no such file"),
    "syntax": ("class Decay(:\n", "decay.py:Decay", "decay.py, line 1: is no Python"),
    "exception": (f"{DECAY}\nx = 1 / 0\n", "decay.py", "line 19: ZeroDivisionError: division by zero"),
    "exit": ("import sys\nsys.exit(3)\n", "decay.py", "line 2: SystemExit: 3"),
    "no class": (DECAY, "decay.py:Growth", "has no class Growth. Its problems: Decay"),
    "no problem": (f"{DECAY}\nclass Rate: ...\n", "decay.py:Rate", "line 19: Rate is not a class derived from Problem"),
    "none": ("x = 1\n", "decay.py", "must hold one problem where no class is named, has none"),
    "sibling": (f"{DECAY}\nimport beside\n", "decay.py", "line 19: imports beside, which lies beside it"),
    "relative": (f"{DECAY}\nfrom . import beside\n", "decay.py", "line 19: imports ., which lies beside it"),
    "column": (
        DECAY.replace("rate", "evaluations"),
        "decay.py",
        "line 11: the setting evaluations has the name of a col",
    ),
    "field": (TRIAL, "decay.py", "the column trial has the name of a column in the tables"),
    "train": (DECAY.replace("rate", "width"), "decay.py", "the setting width has the name of a setting of train"),
    "no default": (DECAY.replace("float = 2.0", "float"), "decay.py", "rate needs a default"),
    "unhashable": (DECAY.replace("float = 2.0", "list = [1]"), "decay.py", "line "),
    "package": ("", "no_such_package.equations:Decay", "module no_such_package.equations: cannot be imported"),
    "unknown": ("", "burgrs", "Did you mean burgers?"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_message_with_file_and_line(case: str, tmp_path: Path) -> None:
    text, name, message = MISTAKES[case]
    file = written(tmp_path, text, name)
    (tmp_path / "beside.py").touch()
    for command in (["validate", file], ["run", file, "--root", tmp_path / "runs"], ["plan", file]):
        said = " ".join(errors_of(invoke(*command)).split())
        assert message in said and said.count("problem.name") == 1, said
    assert not (tmp_path / "runs").exists()


# ---- identity ------------------------------------------------------------------------------------------------------


def test_a_changed_equation_is_refused_with_the_difference(trained: Path, tmp_path: Path) -> None:
    file = written(tmp_path, **{"self.rate * u": "self.rate * u**3"})
    said = errors_of(invoke("run", file, "--root", trained.parent))
    assert '-        return {"decay": u.diff(t) + self.rate * u}' in said
    assert '+        return {"decay": u.diff(t) + self.rate * u**3}' in said
    assert "--new-study decays-2" in said and "--branch decays-2" in said


def test_a_branch_takes_over_trials_of_the_same_code_only(trained: Path, tmp_path: Path) -> None:
    stored = read_problem(trained).text or ""
    same = written(tmp_path / "same", f"# a comment\n{stored}")
    other = written(tmp_path / "other", stored.replace("self.rate * u", "self.rate * u**3"))
    changes = ["study=second", f"search.branch_of={trained}"]
    assert len(branch(load_spec(same, changes)).trials) == 2
    left = branch(load_spec(other, changes))
    assert not left.trials and "solve the problem Decay@" in left.text
    assert same_code("x = 1  # one\n", "x  =  1\n") and not same_code("x = 1\n", "x = 2\n")


def test_a_stored_problem_that_was_changed_by_hand_is_refused(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / trained.name
    shutil.copytree(trained, copy)
    content = json.loads((copy / PROBLEM_FILE).read_text())
    (copy / PROBLEM_FILE).write_text(json.dumps(content | {"text": content["text"] + "\nx = 1\n"}))
    with pytest.raises(StudyError, match="is not what the study began with"):
        run_all(copy, segment_s=5.0)
    (copy / PROBLEM_FILE).write_text("{")
    with pytest.raises(StudyError, match=r"problem\.json is damaged"):
        read_spec(copy)
    (copy / PROBLEM_FILE).unlink()
    assert "problem.json is missing" in errors_of(invoke("top", copy))


# ---- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["top"],
        ["top", "--json"],
        ["query", "SELECT * FROM trials"],
        ["show", "0"],
        ["status"],
        ["effects"],
        ["export", "-o", "tables"],
        ["report", "-o", "page.html"],
        ["compact"],
        ["gc"],
        ["list"],
    ],
    ids=" ".join,
)
def test_commands_that_read_execute_nothing_of_a_study(trained: Path, tmp_path: Path, words: list[str]) -> None:
    """In a process of its own, as the class was imported in this one."""
    trace = trained.parent.parent / "trace"
    trace.unlink(missing_ok=True)
    command, *rest = words
    arguments = [command, "--root", str(trained.parent)] if command == "list" else [command, str(trained), *rest]
    code = "import sys\nfrom sweeps.cli import main\nsys.argv = ['pinnsweep', *sys.argv[1:]]\nmain()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not trace.exists()
    if command == "report":
        page = (tmp_path / "page.html").read_text()
        assert "rate" in page and "heldout_residual" in page


def test_trials_are_trained_again_and_evaluated_without_the_users_file(trained: Path, tmp_path: Path) -> None:
    assert invoke("retrain", trained, 0).exit_code == 0
    (tmp_path / "points.csv").write_text("x,t\n0.5,0.5\n")
    result = invoke("predict", trained, 0, tmp_path / "points.csv")
    assert result.exit_code == 0 and result.stdout.splitlines()[0] == "x,t,predicted,extrapolated"
    assert invoke("weights", trained, 0, "-o", tmp_path / "network.npz").exit_code == 0


def test_a_study_goes_on_without_the_users_file(trained: Path) -> None:
    spec = read_spec(trained, ["search.trials=3"])
    assert spec.source.is_file and not Path(spec.source.file).exists()
    assert run_all(trained, spec=spec, segment_s=5.0)["COMPLETE"] == 3


# ---- jobs ----------------------------------------------------------------------------------------------------------


def test_the_file_travels_with_a_job(tmp_path: Path) -> None:
    spec, root, job = load_spec(written(tmp_path / "here")), tmp_path / "root", tmp_path / "job"
    job.mkdir()
    for name, content in bundle(spec, str(root), shares_files=False).items():
        (job / name).write_bytes(content)
    shutil.rmtree(tmp_path / "here")
    unpack(job, root)
    arrived = load_spec(job / "study.yaml")
    assert arrived.source.file == str(job / "decay.py") and arrived.source.text == DECAY
    assert identity_sha256(arrived) == identity_sha256(spec) and not root.exists()
    assert set(bundle(arrived, "s3://bucket/studies", shares_files=False)) == {"study.yaml", "decay.py"}
    assert set(bundle(arrived, str(root), shares_files=True)) == {"study.yaml"}


def test_a_class_of_a_text_needs_no_file(tmp_path: Path) -> None:
    source = find_problem(str(written(tmp_path).parent / "decay.py"), Path("/"))
    (tmp_path / "decay.py").unlink()
    assert source.problem_class(rate=1.5).terms == ("decay", "start")


# ---- references ----------------------------------------------------------------------------------------------------

SLOW = """

    def reference(self, x, t):
        def solved(x, t):
            (Path(PLACE) / f"computed-{self.rate}").touch(exist_ok=False)
            return np.exp(-self.rate * t)

        return solved
"""


def test_a_reference_is_computed_once_for_its_settings(tmp_path: Path) -> None:
    """Its function fails where it is called twice for the same rate; four trials have two rates."""
    text = DECAY.replace("from pathlib", "import numpy as np\nfrom pathlib") + SLOW.replace(
        "PLACE", repr(str(tmp_path))
    )
    file = written(tmp_path / "own", text)
    changes = [
        "space={rate: {choice: [1.0, 3.0]}, adam_lr: {choice: [0.01, 0.02]}}",
        "search.sampler=grid",
        "search.trials=4",
    ]
    study_dir, _ = prepare(tmp_path / "root", load_spec(file, changes))
    assert run_all(study_dir, segment_s=5.0)["COMPLETE"] == 4
    assert {file.name for file in tmp_path.glob("computed-*")} >= {"computed-1.0", "computed-3.0"}
    kept = sorted((study_dir / "references").iterdir())
    assert len(kept) == 2 and all(file.suffix == ".npz" for file in kept)
    kept[0].write_bytes(b"torn")
    store = reference_store(study_dir, keeps=True)
    assert store(kept[0].stem, lambda: {"u": np.ones(3)})["u"].tolist() == [1, 1, 1]
    assert store(kept[0].stem, dict)["u"].tolist() == [1, 1, 1]
    assert invoke("predict", study_dir, 0, _points(tmp_path)).exit_code == 0


def _points(folder: Path) -> Path:
    file = folder / "points.csv"
    file.write_text("x,t\n0.5,0.5\n")
    return file
