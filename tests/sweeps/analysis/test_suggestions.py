"""Suggestions: planted edges are found, noise gives none, and every suggested line is valid in a study file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.analysis.importance import Importance, importance
from sweeps.analysis.study_axes import judged
from sweeps.analysis.suggestions import Suggestion, suggestions
from sweeps.spec import yaml_text
from sweeps.study.loading import load_text

from ..bare_rows import SPACE, Row, planted

NOTHING = Importance("rel_l2", 0, 0, ())


def suggested(place: Path) -> dict[str, Suggestion]:
    """Return the suggestion for each dimension, without its importance."""
    return {suggestion.dimension: suggestion for suggestion in suggestions(judged(place), NOTHING)}


def scattered(error: float, point: Row) -> float:
    return error * math.exp(np.random.default_rng(int(1e9 * point["adam_lr"] * 1e4)).normal(0, 0.05))


def towards(name: str, best: float) -> Callable[[Row], float]:
    """Return an error that grows with the distance from the best value of one dimension."""

    def error(point: Row) -> float:
        distance = abs(math.log(point[name] / best)) if name == "adam_lr" else abs(point[name] - best)
        return scattered(0.01 * (1 + distance), point)

    return error


@pytest.mark.parametrize(
    ("name", "best", "line"),
    [
        ("adam_lr", 0.02, "adam_lr: {loguniform: [0.0001, 0.1]}"),
        ("adam_lr", 1e-4, "adam_lr: {loguniform: [1e-05, 0.01]}"),
        ("scale_factor", 5.0, "scale_factor: {uniform: [1.0, 5.5]}"),
        ("scale_factor", 0.5, "scale_factor: {uniform: [0.25, 4.0]}"),
        ("depth", 6, "depth: {int: [1, 7]}"),
        ("width", 40, "width: {choice: [8, 16, 32, 64]}"),
        ("width", 4, "width: {choice: [4, 8, 16, 32]}"),
    ],
)
def test_a_planted_edge_is_found_and_the_line_widens_it(tmp_path: Path, name: str, best: float, line: str) -> None:
    sampler = "tpe" if best == 0.02 else "random"
    place = planted(tmp_path / "demo", 120, towards(name, best), search=f"sampler: {sampler}")
    by_name = suggested(place)
    assert list(by_name) == [name]
    suggestion = by_name[name]
    assert (suggestion.kind, suggestion.section, suggestion.study_file) == ("widen", "space", line)
    assert "best trials lie at the" in suggestion.text and suggestion.text.endswith("widen it.")
    content = {**judged(place).file, "space": {**SPACE, **yaml_text.read(line)[0]}}
    assert load_text(yaml_text.write(content), base=tmp_path).space[name].arguments()


@pytest.mark.parametrize(("name", "best"), [("adam_lr", 1e-3), ("adam_lr", 4e-3), ("scale_factor", 2.5), ("depth", 3)])
def test_an_optimum_inside_presses_against_nothing(tmp_path: Path, name: str, best: float) -> None:
    assert suggested(planted(tmp_path / "demo", 120, towards(name, best))) == {}


def test_noise_presses_against_nothing(tmp_path: Path) -> None:
    places = [planted(tmp_path / f"{n}", 100, lambda point: scattered(1.0, point), seed=n) for n in range(4)]
    assert sum(len(suggested(place)) for place in places) <= 1


def test_a_bound_that_the_field_itself_has_is_left_alone(tmp_path: Path) -> None:
    space: dict[str, Any] = {"adam_lr": SPACE["adam_lr"], "adam_beta1": {"uniform": [0.0, 0.9]}}
    assert suggested(planted(tmp_path / "low", 100, towards("adam_beta1", -1), space=space)) == {}
    wider = suggested(planted(tmp_path / "high", 100, towards("adam_beta1", 1), space=space))["adam_beta1"]
    assert wider.study_file == "adam_beta1: {uniform: [0.0, 0.99]}"


def test_a_category_that_wins_is_to_be_fixed(tmp_path: Path) -> None:
    def by_init(point: Row) -> float:
        return scattered({"torch": 0.03, "keras": 0.01, "tf1": 0.02}[point["init"]], point)

    suggestion = suggested(planted(tmp_path / "demo", 120, by_init))["init"]
    assert (suggestion.kind, suggestion.section, suggestion.study_file) == ("fix", "train", "init: keras")
    assert suggestion.text == "12 of the 12 best trials have init keras: fix it, and search the rest more closely."


def test_a_dimension_without_effect_is_to_be_dropped_once_trials_are_many(tmp_path: Path) -> None:
    space = {name: SPACE[name] for name in ("adam_lr", "init", "scale_factor")}
    for number, expected in ((120, {"init", "scale_factor"}), (40, set())):
        read = judged(planted(tmp_path / str(number), number, towards("adam_lr", 1e-3), space=space))
        by_name = {suggestion.dimension: suggestion for suggestion in suggestions(read, importance(read))}
        assert {name for name, suggestion in by_name.items() if suggestion.kind == "drop"} <= expected
        assert not expected or by_name
    assert all(suggestion.section in ("train", "problem") for suggestion in by_name.values())


@pytest.mark.parametrize("number", [0, 19])
def test_few_trials_suggest_nothing(tmp_path: Path, number: int) -> None:
    assert suggested(planted(tmp_path / "demo", number, towards("adam_lr", 0.02))) == {}


def test_failed_trials_are_not_among_the_best(tmp_path: Path) -> None:
    assert suggested(planted(tmp_path / "demo", 60, lambda point: None)) == {}
