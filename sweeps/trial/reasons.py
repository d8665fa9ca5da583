"""Why a trial trained again may come to other numbers than it had in its study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pinncore

from ..spec.study_spec import config_sha256
from ..storage.schema import config_of
from ..study.provenance import versions

WHAT: Final = {
    "host": "machine",
    "cpu": "processor",
    "python_version": "Python",
    "torch_version": "PyTorch",
    "numpy_version": "NumPy",
    "scipy_version": "SciPy",
    "numba_version": "Numba",
    "pinnsweep_version": "pinnsweep",
    "code_version": "pinnsweep's code",
}


def reasons(
    row: dict[str, Any], result: pinncore.MemberResult | None, settings: pinncore.TrainSettings
) -> tuple[str, ...]:
    """What is known to differ, or to make a difference, one sentence each; never empty."""
    found = [*_of_training(row, result), *_of_surroundings(row)]
    if found and settings.dtype == "float32":
        found.append("float32: rounding is at the seventh digit, so that whatever differs is seen sooner")
    return tuple(found) or ("no reason is known: equal code, libraries and machine should give equal numbers",)


def _of_training(row: dict[str, Any], result: pinncore.MemberResult | None) -> Iterator[str]:
    if row["rebatched"]:
        yield "rebatched: in the study it trained in other company than planned, with an engine that rounds by company"
    if row["config_hash"] not in (None, config_sha256(config_of(row))):
        yield "settings: the row lacks some that this version has, which stand at their defaults here"
    if result is None:
        return
    if row["engine_used"] not in (None, result.engine):
        yield f"engine: {row['engine_used']} in the study, {result.engine} here"
    elif result.engine != "fused":
        yield f"engine {result.engine}: its last digits depend on the members that share a pack, and here it is alone"
    if row["device"] not in (None, result.device):
        yield f"device: {row['device']} in the study, {result.device} here"
    if row["data_hash"] not in (None, result.data_sha256):
        yield f"data: hash {row['data_hash'][:12]} in the study, {result.data_sha256[:12]} here"


def _of_surroundings(row: dict[str, Any]) -> Iterator[str]:
    here = versions()
    for name, what in WHAT.items():
        if name in here and row.get(name) not in (None, here[name]):
            yield f"{what}: {row[name]} in the study, {here[name]} here"
