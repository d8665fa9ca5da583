"""The reasons why a trial that is trained again may give other numbers than in its study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pinncore

from ..study.provenance import versions

NAMES: Final = {
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
    """Return a sentence on everything that is known to differ or to make a difference; never empty."""
    sentences = [*_differences_of_training(row, result), *_differences_of_machine(row)]
    if sentences and settings.dtype == "float32":
        sentences.append("float32: numbers are rounded at the seventh digit, so small differences show sooner")
    return tuple(sentences) or ("no reason is known: equal code, libraries and machine should give equal numbers",)


def _differences_of_training(row: dict[str, Any], result: pinncore.MemberResult | None) -> Iterator[str]:
    if row["rebatched"]:
        yield "rebatched: in the study it shared its pack with other members than planned, which changes the rounding"
    if result is None:
        return
    if row["engine_used"] not in (None, result.engine):
        yield f"engine: {row['engine_used']} in the study, {result.engine} here"
    elif result.engine != "fused":
        yield f"engine {result.engine}: its last digits depend on the other members of the pack; here, there are none"
    if row["device"] not in (None, result.device):
        yield f"device: {row['device']} in the study, {result.device} here"
    if row["data_hash"] not in (None, result.data_sha256):
        yield f"data: hash {row['data_hash'][:12]} in the study, {result.data_sha256[:12]} here"


def _differences_of_machine(row: dict[str, Any]) -> Iterator[str]:
    here = versions()
    for name, what in NAMES.items():
        if name in here and row.get(name) not in (None, here[name]):
            yield f"{what}: {row[name]} in the study, {here[name]} here"
