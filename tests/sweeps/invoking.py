"""Helpers for tests of the command: calling it, replacing modules, studies without training."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sweeps.cli.app import app
from sweeps.runner import driver
from sweeps.search import search_of
from sweeps.spec.study_spec import config_sha256
from sweeps.storage.database import database
from sweeps.storage.optuna_sql import Ledger
from sweeps.storage.schema import setting_columns
from sweeps.storage.tables import StudyTables
from sweeps.study.folder import open_folder, open_study
from sweeps.study.loading import load_text

from .problems import STRAIN
from .small import train_all

StandIn = Callable[..., None]


def invoke(*words: object) -> Result:
    """Run the command in this process and return its result."""
    return CliRunner().invoke(app, [str(word) for word in words])


def errors_of(result: Result) -> str:
    """Return the standard error of a command that reported a mistake of the user."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)  # so without a traceback
    assert result.stdout == ""
    return result.stderr


def raising(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises this error."""

    def run(*arguments: Any, **options: Any) -> Any:
        raise error

    return run


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Replace a module by one with the given functions."""

    def put(name: str, **functions: Any) -> None:
        module = ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        monkeypatch.setattr(importlib.import_module(parent), last, module, raising=False)

    return put


def made_study(
    root: Path,
    name: str = "first",
    states: Sequence[str] = ("COMPLETE", "FAIL", "PRUNED"),
    *,
    trials: int | None = None,
    repeats: Mapping[int, int] | None = None,
    lines: str = "",
) -> Path:
    """Return a study of trials that were not trained: trial n was in pack n, its rel_l2 is 0.1 + n/100, its seed 1.

    `trials` is the number of trials in the study file (default: that of `states`), `repeats` maps a trial to the one
    that it repeats, `lines` are further lines of the study file.
    """
    search = f"{{sampler: random, trials: {trials or len(states)}}}"
    text = (
        f"study: {name}\nsearch: {search}\nspace: {{width: {{choice: [4, 8]}}, adam_lr: {{uniform: [0.001, 0.1]}}}}\n"
    )
    spec = load_text(text + lines, base=root)
    study_dir, _ = open_folder(root, spec)
    open_study(study_dir, spec).ledger.close()
    sampled, tables = search_of(spec), StudyTables(study_dir)
    ledger = Ledger(database(study_dir, spec.state), name)
    ledger.take("a test")
    ledger.set_attribute("limit", sampled.limit)
    for number, state in enumerate(states):
        params = sampled.propose(number).params
        config = spec.config(params)
        attributes = {
            "index": number,
            "pack": number,
            "window": [0, len(states), 1, 0],
            "config_hash": config_sha256(config),
        }
        attributes |= {"index": None, "retry_of": (repeats or {})[number]} if number in (repeats or {}) else {}
        ledger.enter(number, sampled.stored(params), sampled.distributions(params), attributes)
        if state == "WAITING":
            continue
        ledger.mark(number, "RUNNING")
        if state == "RUNNING":
            continue
        value = 0.1 + number / 100 if state == "COMPLETE" else None
        row = {
            "trial": number,
            "replicate": 0,
            "state": state,
            "pack": number,
            "seed": 1,
            "attempt": 1,
            "rel_l2": value,
        }
        curve = {"trial": number, "replicate": 0, "phase": ["first"] * 3, "step": [0, 5, 10], "loss": [3.0, 2.0, 1.0]}
        tables.publish(f"trials-{number:06d}", trials=[row | setting_columns(config, STRAIN.record)], curves=[curve])
        ledger.mark(number, state, None if value is None else [value])
    ledger.close()
    return study_dir


def run_here(
    target: Path,
    *,
    root: Path,
    overrides: Sequence[str] = (),
    trials: int | None = None,
    retry: Sequence[int] = (),
    **options: Any,
) -> driver.RunOutcome:
    """Run a study as the driver does, but without Ray: all packs one after the other in this process."""
    spec, root = driver._study(target, root, [*overrides, *([f"search.trials={trials}"] if trials else [])])
    study_dir, _ = open_folder(root, spec)
    owner = train_all(study_dir, spec=spec, retry=retry)
    failures = owner.snapshot().failures
    return driver.RunOutcome(int(failures > 0), study_dir, owner.close(), None)
