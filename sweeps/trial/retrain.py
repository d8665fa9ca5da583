"""A trial that is trained again, alone and outside its study, and compared with the results in the study."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import pinncore

from ..errors import StudyError
from ..query.query import read_study_file
from ..query.ranking import ranking_of
from ..query.text import printable, shown
from ..spec.sources import FILE_PREFIX, TRIAL_PREFIX
from ..states import COMPLETE, FAIL, PRUNED
from ..storage.object_store import Remote
from ..storage.schema import FIRST, SECOND
from ..study import other_studies
from ..study.home import local
from ..study.study_file import open_reader
from ..study.trials import no_objective
from .compare import Difference, Stored, compare, reasons
from .tables import Row, TrialReader

TICKS_BETWEEN_LOOKS: Final = 20
LABEL: Final = 0  # label of the only member
SHOWN: Final = 8  # final differences in the text

Look = Callable[[pinncore.Pack], None]


@dataclass(frozen=True)
class Retrained:
    """A replicate that was trained again: its result, and its differences from the row in the study.

    `first` is the first difference in the course of training, `ends` are those of the final numbers, `compared` says
    how much was compared. `reasons` says why they may differ; it is empty where they do not. `result` is None where
    training could not begin, for the reason `failure`.
    """

    row: Row
    settings: pinncore.TrainSettings
    problem: Any
    device: str
    result: pinncore.MemberResult | None
    failure: str | None
    compared: dict[str, int]
    first: Difference | None
    ends: tuple[Difference, ...]
    reasons: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Return whether every number is the same, bit for bit."""
        return self.first is None and not self.ends

    @property
    def state(self) -> str:
        """Return the state in which it ended here."""
        if self.failure is not None:
            return FAIL
        return PRUNED if self.result and self.result.stop_reason is pinncore.StopReason.PRUNED else COMPLETE


def retrain(
    place: Path | Remote, trial: int, replicate: int = 0, *, engine: str | None = None, look: Look | None = None
) -> Retrained:
    """Train a replicate from its initial weights as its study did, to the same end, and compare.

    For a trial that repeats another, the other is trained; a pruned one is trained to the evaluation where it ended.
    The engine is the one that was used, unless given; so is the device where this machine has one of its kind. `look`
    is called with the pack from time to time. Nothing in the study changes. Raises `StudyError` where the replicate was
    never trained, or its initial weights are gone.
    """
    study_file = read_study_file(place)
    reader = TrialReader.of(place)
    row = reader.original(reader.row(trial, replicate))
    if row["seed"] is None or (row["state"] == PRUNED and row["evaluations"] is None):
        why = row["failure"] or row["stop_reason"] or "no reason given"
        raise StudyError(f"trial {trial} of {place} was never trained ({why}), so it cannot be trained again")
    train, problem = reader.settings_of(row)
    chosen_engine: Any = engine or row["engine_used"] or train.engine
    device = _device(row["device"])
    settings = dataclasses.replace(train, engine=chosen_engine, init=_own_copy(place, train.init))
    member = pinncore.Member(settings, problem, row["seed"], LABEL)
    threads = torch.get_num_threads()  # engines other than fused may round by their number
    torch.set_num_threads(int((study_file.get("resources") or {}).get("cpus_per_pack") or 1))
    try:
        result, failure = _train(member, device, row["evaluations"] if row["state"] == PRUNED else None, look)
    finally:
        torch.set_num_threads(threads)
    if result is not None and failure is None:
        failure = no_objective(result, ranking_of(study_file).objectives)
    compared, first, ends = compare(row, _stored(reader, row, settings), result, failure)
    known_reasons = reasons(row, result, settings) if first or ends else ()
    return Retrained(row, settings, problem, device, result, failure, compared, first, ends, known_reasons)


def _train(
    member: pinncore.Member, device: str, limit: int | None, look: Look | None
) -> tuple[pinncore.MemberResult | None, str | None]:
    """Return the result and why it failed, if it did; `limit` is the evaluation at which it was pruned."""
    try:
        pack = pinncore.Pack([member], device=device)
    except pinncore.PinnError as problem:
        return None, str(problem)
    evaluations = 0
    while pack.active and (limit is None or evaluations < limit):
        ticks = TICKS_BETWEEN_LOOKS if limit is None else min(TICKS_BETWEEN_LOOKS, limit - evaluations)
        pack.step(ticks)
        evaluations += ticks
        if look is not None and pack.active:
            look(pack)
    pack.stop(LABEL, pinncore.StopReason.PRUNED)
    return pack.results[0], pack.results[0].failure


def _stored(reader: TrialReader, row: Row, settings: pinncore.TrainSettings) -> Stored:
    curves = reader.part("curves", row)
    order = np.argsort(curves["evaluations"], kind="stable")
    ordered = {name: values[order] for name, values in curves.items()}
    first_epoch = {FIRST: 0, SECOND: settings.epochs}
    epochs = [int(step) + first_epoch[phase] for phase, step in zip(ordered["phase"], ordered["step"], strict=True)]
    return Stored(ordered, epochs, reader.kept_weights(row), reader.part("fields", row)["predicted"])


def _device(device: str | None) -> str:
    """Return a device of the kind it was trained on, where there is one."""
    if device == "cuda" and not torch.cuda.is_available():
        return "cpu"
    return device or "auto"


def _own_copy(place: Path | Remote, init: str) -> str:
    """Return the `init` that reads the study's own copy, where initial weights came from a file or another trial.

    Raises `StudyError` where the copy is gone.
    """
    if not init.startswith((FILE_PREFIX, TRIAL_PREFIX)):
        return init
    study_dir = local(Path(str(place)))
    with open_reader(study_dir) as reader:
        digests = reader.attributes().get(other_studies.WEIGHTS, {})
    copy = study_dir / other_studies.FOLDER / f"{digests.get(init)}.npz"
    if not os.path.isfile(copy):
        raise StudyError(f"the initial weights {init} are gone: {study_dir} has no copy of them")
    group = init.partition("#")[2] if init.startswith(FILE_PREFIX) else ""
    return f"{FILE_PREFIX}{copy}" + (f"#{group}" if group else "")


# ---- text ----------------------------------------------------------------------------------------------------------


def text(place: Path | Remote, trial: int, retrained: Retrained) -> str:
    """Return the verdict, then the first difference, the final differences, and the reasons."""
    row = retrained.row
    which = f"{place.name}, trial {trial}, replicate {row['replicate']}"
    lines = [] if row["trial"] == trial else [f"trial {trial} repeats trial {row['trial']}, which is trained here"]
    if retrained.same:
        lines += [f"{which}: the same, bit for bit ({_compared(retrained)})", _ended(retrained)]
        return "\n".join(map(printable, lines))
    lines.append(f"{which}: different")
    if row["state"] != retrained.state:
        lines.append(f"  it was {row['state']} in the study and is {retrained.state} here")
    if retrained.first:
        lines.append(f"  first difference at {retrained.first.where}: {_difference(retrained.first)}")
    lines += [f"  at the end: {_difference(difference)}" for difference in retrained.ends[:SHOWN]]
    if len(retrained.ends) > SHOWN:
        lines.append(f"  and {len(retrained.ends) - SHOWN} more (--json lists all)")
    lines += [f"  {'why' if i == 0 else 'and'}: {reason}" for i, reason in enumerate(retrained.reasons)]
    return "\n".join(map(printable, lines))


def _compared(retrained: Retrained) -> str:
    names = {"curve_rows": "rows of curves", "kept_epochs": "sets of weights", "field_points": "points of the field"}
    names["numbers"] = "final numbers"
    parts = [f"{retrained.compared[key]} {name}" for key, name in names.items() if retrained.compared.get(key)]
    return ", ".join(parts) or "the reason why it cannot be trained"


def _ended(retrained: Retrained) -> str:
    if retrained.failure is not None:
        return f"  it fails here too: {retrained.failure}"
    result = retrained.result
    assert result is not None
    error = "" if (value := result.metrics.get("rel_l2")) is None else f", rel_l2 {shown('rel_l2', value)}"
    return f"  loss {result.loss:.6g}{error}, {result.stop_reason.value}, engine {result.engine} on {result.device}"


def _difference(difference: Difference) -> str:
    size = "" if difference.relative is None else f" (relative difference {difference.relative:.1e})"
    return f"{difference.quantity} {_number(difference.stored)} in the study, {_number(difference.here)} here{size}"


def _number(value: Any) -> str:
    return "none" if value is None else repr(value) if isinstance(value, float) else str(value)
