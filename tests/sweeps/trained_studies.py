"""Small trained studies, whose trials end in every possible way."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.study.loading import load_spec

from .small import prepare, run_all, write_study

SHAPES = {"W1": (2, 5), "b1": (5,), "W2": (5, 5), "b2": (5,), "W3": (5, 1), "b3": (1,)}
LISTED = 8
PLAIN, SINGLE, FROM_FILE, REPEATED, EXPLODING, POISONED, FIRST_ONLY, FOUR_INPUTS = range(LISTED)


def every_end(factory: pytest.TempPathFactory) -> Path:
    """Return the study that all tests of a session share and only read."""
    return _every_end(factory.getbasetemp() / "every-end")


@functools.cache
def _every_end(folder: Path) -> Path:
    """Train and return a study with these trials: plain, in float32, from a file, a repetition of the first, diverging,
    from a file that got a NaN after it was checked, without a second stage, and with a network of four inputs."""
    folder.mkdir()
    good, bad = folder / "good.npz", folder / "bad.npz"
    weights = {name: np.random.default_rng(0).normal(0, 0.3, shape) for name, shape in SHAPES.items()}
    for file in (good, bad):
        np.savez(file, **weights)  # type: ignore[arg-type]  # NumPy's stub has its flags in the way
    listed: list[dict[str, Any]] = [{} for _ in range(LISTED)]
    listed[PLAIN] = listed[REPEATED] = {"adam_lr": 0.01}
    listed[SINGLE] = {"dtype": "float32", "width": 6}
    listed[FROM_FILE], listed[POISONED] = {"init": f"file:{good}"}, {"init": f"file:{bad}", "adam_lr": 0.02}
    listed[EXPLODING] = {"adam_lr": 1e8}
    listed[FIRST_ONLY] = {"iterations": 0, "width": 3}
    listed[FOUR_INPUTS] = {"inputs": ["x", "y", "g", "elocal"]}
    overrides = ["search.sampler=list", f"search.list={json.dumps(listed)}", "space={}", "train.width=5"]
    spec = load_spec(write_study(folder / "data", trials=LISTED, epochs=15, iterations=8, pack=4), overrides)
    study_dir, _ = prepare(folder / "root", spec)
    np.savez(bad, **weights | {"W2": np.full((5, 5), np.nan)})  # type: ignore[arg-type]
    run_all(study_dir, segment_s=5.0)
    return study_dir


def sampled(folder: Path, *overrides: str, **settings: Any) -> Path:
    """Train and return a study whose trials of different width shared packs."""
    spec = load_spec(write_study(folder / "data", **{"trials": 4, "epochs": 15, "iterations": 8} | settings), overrides)
    study_dir, _ = prepare(folder / "root", spec)
    run_all(study_dir, segment_s=5.0)
    return study_dir
