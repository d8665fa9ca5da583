"""Synthetic studies of any problem: fields near its reference and metrics of the right names, without training."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from pinncore.problems.columns import relative
from pinncore.problems.declaring import output_columns
from pinncore.problems.source import ProblemSource
from sweeps.storage.schema import setting_columns
from sweeps.storage.stored_problem import write_problem
from sweeps.storage.tables import StudyTables
from sweeps.study.problems import load_problem

from . import synthetic

FILE: Final = """\
study: {name}
problem: {{name: "{problem}"}}
search: {{sampler: random, trials: {trials}, objective: {objective}, seed: 0}}
space:
  width: {{choice: [8, 16, 24]}}
  adam_lr: {{loguniform: [1.0e-4, 1.0e-2]}}
train: {{epochs: 1000, iterations: 500}}
"""
VOLUME: Final = '''\
"""Heat in a slab that cools."""

from pinncore import Box, Condition, Problem


class Slab(Problem):
    """Heat in a slab that cools, <b>over time</b>."""

    coordinates = {"x": "m", "y": "m", "t": "s"}
    outputs = {"warmth": "K"}
    diffusivity: float = 0.25
    is_open: bool = False
    domain = Box(x=(0, 1), y=(0, 2), t=(0, 10))

    def equations(self, warmth, x, y, t):
        return {"heat": warmth.diff(t) - self.diffusivity * (warmth.diff(x, 2) + warmth.diff(y, 2))}

    def conditions(self, warmth, x, y, t):
        return [Condition("walls", warmth, on=self.domain.faces("x"))]

    def reference(self, x, y, t):
        return x * (1 - x) * y + t / 100
'''


def config(source: ProblemSource, number: int) -> dict[str, Any]:
    """Return the resolved configuration of trial `number`."""
    settings = {setting.name: setting.default for setting in source.record.settings}
    return {"train": synthetic.config(number)["train"], "problem": {"name": source.name, **settings}}


def make_study(folder: Path, name: str, *, trials: int = 6, has_reference: bool = True, **settings: Any) -> StudyTables:
    """Write a study of a problem, by its name in study files, with some settings of it in all trials."""
    folder.mkdir(parents=True, exist_ok=True)
    source = load_problem(name, folder)
    write_problem(folder, source)
    objective = "rel_l2" if has_reference else "loss"
    text = FILE.format(name=folder.name, problem=name, trials=trials, objective=objective)
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    tables, record = StudyTables(folder), source.record
    problem = source.problem_class(**settings)
    places, solution = problem.field_points.values, problem.solution
    assert solution is not None
    rows, fields = [], []
    for number in range(trials):
        size = 1e-3 * (1 + number)
        waves = [np.cos(3 * sum(places.values(), np.zeros(1)) + output) for output in range(len(solution))]
        predicted = solution + [size * np.abs(u).max() * wave for u, wave in zip(solution, waves, strict=True)]
        errors = [relative(u, expected) for u, expected in zip(predicted, solution, strict=True)]
        row = {
            **setting_columns(
                {**(resolved := config(source, number)), "problem": {**resolved["problem"], **settings}}, record
            ),
            **{name: synthetic.trial_row(number)[name] for name in _KEPT},
            "started_at": synthetic.START,
            "finished_at": synthetic.START + timedelta(seconds=30),
            "loss": size,
            "max_error": size,
            "heldout_residual": 2 * size,
            **{f"loss_{term}": size / len(record.terms) for term in record.terms},
        }
        if has_reference:
            row["rel_l2"] = float(np.sqrt(np.mean(np.square(errors))))
            several = zip(record.outputs, errors, strict=True) if len(errors) > 1 else ()
            row |= {f"rel_l2_{column.symbol}": error for column, error in several}
        rows.append(row)
        known = [values if has_reference else values * np.nan for values in solution]
        both = [values for pair in zip(predicted, known, strict=True) for values in pair]
        columns = {column.name: places[column.symbol] for column in record.coordinates}
        columns |= {column.name: values for column, values in zip(output_columns(record.outputs), both, strict=True)}
        fields.append({"trial": number, "replicate": 0, **columns})
    terms = {f"loss_{term}": None for term in record.terms}
    strain = ("loss_residual", "loss_lrb", "loss_btb")
    curves = [
        {name: values for name, values in synthetic.curve(number).items() if name not in strain} | terms
        for number in range(trials)
    ]
    tables.publish("all", trials=rows, fields=fields, curves=curves)
    return tables


_KEPT: Final = (
    *("trial", "replicate", "state", "pack", "seed", "attempt", "rebatched", "engine_used", "device", "host"),
    *("python_version", "torch_version", "pinnsweep_version", "data_hash", "config_hash", "spec_hash", "grad_norm"),
    *("stop_reason", "parameters", "epochs_done", "iterations_done", "first_evaluations", "second_evaluations"),
    *("evaluations", "first_seconds", "second_seconds", "seconds"),
)
