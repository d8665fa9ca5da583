"""Small inputs that users stumbled over: each names settings and columns by the names they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.errors import SpecError
from sweeps.study.loading import load_spec, read_given
from tests import ROOT

FILES = sorted((ROOT / "tests" / "cases").rglob("*.yaml"))
MAPPINGS: dict[str, dict[str, Any]] = {
    "NumPy integers": {"space": {"width": {"choice": [np.int64(8), np.int64(16)]}}},
    "NumPy floats": {"space": {"adam_lr": {"choice": [np.float32(0.001), np.float32(0.003)]}}},
    "a list of NumPy's": {"space": {"adam_lr": {"choice": list(np.logspace(-4, -2, 3))}}},
    "a NumPy array": {"space": {"width": {"choice": np.array([8, 16])}}},
    "a range": {"space": {"width": {"choice": range(4, 9, 2)}}},
    "a tuple": {"space": {"width": {"choice": (8, 16)}}},
    "a set": {"space": {"width": {"choice": {8, 16}}}},
    "a NumPy bool": {"space": {"allow_tf32": {"choice": [np.bool_(True), np.bool_(False)]}}},
    "NumPy text": {"space": {"init": {"choice": [np.str_("torch"), np.str_("keras")]}}},
    "not a number": {"space": {"adam_lr": {"choice": [float("nan"), 1e-3]}}},
    "numbers as text": {"space": {"adam_lr": {"loguniform": ["1e-4", "1e-2"]}}},
    "a list without a kind": {"space": {"width": [8, 16]}},
    "configurations": {"search": {"sampler": "list", "list": [{"width": np.int32(8)}, {"width": np.int32(16)}]}},
}
NAMES_NOTHING = ("is an unknown key", "names no field")


def unknown_names(load: Callable[[], object]) -> list[str]:
    """The places of a study file that name a setting which does not exist; columns of tables are another matter."""
    try:
        load()
    except SpecError as error:
        wrong = [mistake for mistake in error.mistakes if any(rule in mistake.rule for rule in NAMES_NOTHING)]
        return [mistake.path for mistake in wrong if not mistake.path.startswith("search.list")]
    return []


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(file.parts[-2:]))
def test_every_setting_of_a_case_exists(file: Path) -> None:
    assert unknown_names(lambda: load_spec(file)) == []


@pytest.mark.parametrize("given", MAPPINGS.values(), ids=MAPPINGS)
def test_every_setting_of_a_mapping_exists(given: dict[str, Any]) -> None:
    base = {"study": "api", "search": {"trials": 2}, "train": {"epochs": 5, "iterations": 0}}
    assert unknown_names(lambda: read_given({**base, **given})) == []


def test_a_name_that_does_not_exist_is_seen() -> None:
    given = {"study": "old", "search": {"trials": 2}, "train": {"adam_epochs": 5}}
    assert unknown_names(lambda: read_given(given)) == ["train.adam_epochs"]
