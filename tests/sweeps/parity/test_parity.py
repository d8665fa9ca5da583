"""The command on real and faulty traces: verdict, exit codes, JSON, page, study, injection."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pinncore.parity.results import Comparison, Difference, Explanation, Place
from sweeps.parity.page import write_page
from sweeps.parity.text import text_of, verdict
from tests.sweeps.invoking import errors_of, invoke

TRACE = Path(__file__).parents[3] / "examples" / "traces" / "tensorflow1_4-4-1.npz"
RECORDERS = Path(__file__).parents[3] / "examples" / "traces"


def test_real_tensorflow_agrees() -> None:
    result = invoke("parity", TRACE)
    assert result.exit_code == 0, result.output
    assert "agree within rounding in all 197 arrays." in " ".join(result.stdout.split())
    assert "Not recorded: moment, update." in result.stdout


def test_another_convention_parts_and_is_named(tmp_path: Path) -> None:
    """One run: text, page, study, injection; then JSON."""
    page, study = tmp_path / "p.html", tmp_path / "s.yaml"
    other = ("--set", "adam_convention=torch")
    result = invoke("parity", TRACE, *other, "--report", page, "--study", study, "--inject", "gradients")
    assert result.exit_code == 1, result.output
    text = " ".join(result.stdout.split())
    assert "part at weights W1 at step 1: " in text and "To train so here, write adam_convention: tf1." in text
    assert " 1. adam_convention: tf1: nothing left" in result.stdout
    assert "With the trace's gradients of steps 0, 1, 2 in place of ours" in text
    html = page.read_text(encoding="utf-8")
    assert "adam_convention: tf1" in html and html.count("<img") >= 8 and "<script" not in html
    assert "What was not recorded is hatched." in html
    assert invoke("validate", study).exit_code == 0
    assert study.read_text().count("# epsilon of") == 3 and "replicates: 10" in study.read_text()
    assert "exists already: add --force" in errors_of(invoke("parity", TRACE, "--report", page))
    answer = json.loads(invoke("parity", TRACE, *other, "--json").stdout)
    assert answer["agrees"] is False and answer["found"] == ["adam_convention: tf1"]
    assert (answer["first"]["name"], answer["first"]["step"]) == ("W1", 1)


def test_the_study_trains(tmp_path: Path) -> None:
    study = tmp_path / "s.yaml"
    assert invoke("parity", TRACE, "--study", study).exit_code == 0
    short = [f"--set={key}" for key in ("search.replicates=1", "train.epochs=2", "train.keep_epochs=[0]")]
    plan = invoke("plan", study, *short, "--no-calibrate", "--json")
    assert plan.exit_code == 0, plan.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no.npz",), "no.npz does not exist"),
        ((TRACE, "no.npz"), "no.npz does not exist"),
        ((TRACE, "--set", "adam_epsilon=1"), "adam_eps"),
        ((TRACE, "--set", "adam_eps"), "must be a path and a value"),
        ((TRACE, "--set", "adam_convention=tf2"), "must be one of torch, tf1, keras, inside"),
        ((TRACE, "--study", "/nowhere/s.yaml"), "there is no folder"),
        ((TRACE, "--study", "a", "--report", "a"), "must name files of their own"),
        ((TRACE, "--report", TRACE, "--force"), "must name files of their own"),
    ],
)
def test_mistakes(words: tuple[object, ...], message: str) -> None:
    assert message in " ".join(errors_of(invoke("parity", *words)).replace("│", " ").split())


def test_numbers_are_read_as_in_study_files() -> None:
    """PyYAML alone takes 1e-7 for a text."""
    result = invoke("parity", TRACE, "--set", "adam_eps=1e-7", "--no-pairs", "--json")
    assert result.exit_code == 1, result.output
    assert json.loads(result.stdout)["found"] == ["adam_eps: 1e-08"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}", np.random.default_rng(0).bytes(3000)])
def test_a_file_that_is_no_trace(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "t.npz"
    file.write_bytes(content)
    assert "error: " in errors_of(invoke("parity", file))


def comparison(units: float = 40.0, **more: object) -> Comparison:
    first = Difference(Place("first", 0, "gradient", "grad_W1", 1), 1e-3, 1e-2, units)
    values = {"source": "a.npz", "other": "our replay", "framework": "torch", "configuration": (), "coverage": ()}
    return Comparison(**{**values, "notes": (), "differences": (first,), **more})  # type: ignore[arg-type]


def test_what_cannot_be_told_apart_shares_the_first_place() -> None:
    left = Difference(Place("first", 0, "gradient", "grad_W1", 1), 1e-3, 1e-2, 20.0)
    names = (("one", None), ("two", None), ("three", left))
    explanations = tuple(Explanation(name, f"{name}.", {}, parts, 1) for name, parts in names)
    text = text_of(comparison(explanations=explanations))
    assert " 1. one: nothing left" in text and " 1. two: nothing left" in text and " 3. three: 20 x rounding" in text
    assert "No setting trains so: it is a mistake." in " ".join(text.split())


def test_a_pair_is_two_changes() -> None:
    left = Difference(Place("first", 0, "gradient", "grad_W1", 1), 1e-3, 1e-2, 20.0)
    pair = Explanation("a and b", "A. B.", {}, None, 1)
    text = " ".join(text_of(comparison(explanations=(Explanation("a", "A.", {}, left, 0),), pairs=(pair,))).split())
    assert "vanishes with two changes of our side" in text and "one of them is a mistake" in text


def test_the_step_where_they_part_is_shown() -> None:
    places = [Place("first", step, "weights", "W1", 1) for step in range(0, 500, 10)]
    differences = tuple(Difference(p, 0.1, 0.1, 50.0 if p.step >= 300 else 0.5) for p in places)
    head = next(line for line in text_of(comparison(differences=differences), 60).splitlines() if "step  " in line)
    assert {"0", "300", "490"} <= set(head.split())


@pytest.mark.parametrize("width", [60, 80, 200])
def test_lines_fit_the_terminal(width: int) -> None:
    notes = ("a note that is long enough to be wrapped at sixty columns and at eighty columns, by its words",)
    assert max(map(len, text_of(comparison(notes=notes), width).splitlines())) <= width


def test_an_empty_derivative_says_its_shape() -> None:
    place = Place("first", 0, "derivative", "lrb/u_x")
    gone = Difference(place, np.inf, np.inf, np.inf, "shape (1, 0, 2) instead of (80,)")
    assert verdict(comparison(differences=(gone,))).endswith("lrb/u_x at step 0: shape (1, 0, 2) instead of (80,).")


def test_a_page_of_little(tmp_path: Path) -> None:
    write_page(dataclasses.replace(comparison(), differences=()), tmp_path / "none.html")
    write_page(comparison(units=np.inf), tmp_path / "p.html")
    assert "beyond any rounding" in (tmp_path / "p.html").read_text(encoding="utf-8")


def tables(folder: Path) -> list[Path]:
    """A plate of a hundred points as users have them."""
    middle = (np.arange(10) + 0.5) * 10
    x, y = (part.ravel() for part in np.meshgrid(middle, middle))
    places = {"gauss": (x, y), "lrb": (np.repeat([0.0, 100.0], 10), np.tile(middle, 2))}
    places["btb"] = places["lrb"][::-1]
    files = []
    for name, (first, second) in places.items():
        strain = 1e-5 + 8e-4 * np.exp(-(((first - 35) / 12) ** 2) - (second / 9) ** 2)
        columns = np.stack([first, second, np.full(first.shape, 8.0), strain], axis=1)
        files.append(folder / f"{name}.csv")
        np.savetxt(files[-1], columns, delimiter=",", header="xcoord,ycoord,g,elocal", comments="")
    return files


@pytest.mark.parametrize(
    "name",
    [
        "numpy",
        "torch",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("jax", "keras", "tensorflow1")),
    ],
)
def test_recorders_record_what_agrees(tmp_path: Path, name: str) -> None:
    pytest.importorskip({"tensorflow1": "tensorflow"}.get(name, name))
    script = RECORDERS / f"record_{name}.py"
    command = [sys.executable, str(script), *map(str, tables(tmp_path)), str(tmp_path / "t.npz"), "4"]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=tmp_path)
    result = invoke("parity", tmp_path / "t.npz")
    assert result.exit_code == 0, result.output
    assert name != "torch" or "at iterations 0, 1, 2, 3." in result.stdout
