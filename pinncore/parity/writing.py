"""Traces written: by programs that record their arrays, and of our own trainings."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import itertools
import json
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from ..disk import write_whole
from ..errors import TraceError
from ..member import Member
from ..networks import Layers, unflatten
from ..problems import Problem
from ..problems.columns import Array
from ..settings import TrainSettings, hints
from ..training import Pack
from .evaluation import Changes, Evaluator, channel_names
from .trace import FORMAT

STEPS: Final = (0, 1, 2, 10, 50, 100)


class Recorder:
    """Collects the arrays of a training, from any framework whose arrays convert to NumPy, and writes them as a trace.

    `settings` are named as in `TrainSettings`, `problem` is its name and settings. The ending of the file says the
    format: .npz, .safetensors or .mat.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        framework: str,
        version: str = "",
        layers: Sequence[int] = (),
        settings: Mapping[str, Any] | None = None,
        problem: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self.file = Path(file)
        if self.file.suffix.lower() not in _WRITERS:
            raise TraceError(f"{file}: the name of a trace must end in {', '.join(_WRITERS)}")
        self.manifest = {
            "format": FORMAT,
            "framework": framework,
            "version": version,
            **({"layers": list(layers)} if len(layers) else {}),
            "settings": dict(settings or {}),
            "problem": dict(problem or {}),
            **more,
        }
        self._arrays: dict[str, Array] = {}
        self._terms: list[Array] = []

    def points(self, term: str, **columns: Any) -> None:
        """Record the points of a loss term: an array [points] for each symbol, physical."""
        self._add(f"points/{term}", columns)

    def step(self, number: int, **arrays: Any) -> None:
        """Record arrays of the weights after so many steps of the first stage."""
        self._add(f"step{number}", arrays)

    def iteration(self, number: int, **arrays: Any) -> None:
        """Record arrays of the weights after so many iterations of the second stage."""
        self._add(f"iteration{number}", arrays)

    def loss_terms(self, terms: Any) -> None:
        """Record the loss terms [terms] of the next step, whether or not the step is recorded otherwise."""
        terms = _numbers(f"loss_terms of step {len(self._terms)}", terms)
        if self._terms and terms.shape != self._terms[0].shape:
            raise TraceError(
                f"loss_terms of step {len(self._terms)}: must have the shape of those before, "
                f"{self._terms[0].shape}, got {terms.shape}"
            )
        self._terms.append(terms)

    def _add(self, group: str, arrays: Mapping[str, Any]) -> None:
        self._arrays |= {(key := f"{group}/{name}"): _numbers(key, array) for name, array in arrays.items()}

    def save(self) -> Path:
        """Write the file, whole or not at all, and return it.

        Raises `TraceError` where nothing was recorded, the manifest is not JSON, or the file cannot be written.
        """
        if not self._arrays:
            raise TraceError(f"{self.file}: nothing was recorded")
        arrays = dict(self._arrays)
        if self._terms:
            arrays["loss_terms_by_step"] = np.stack(self._terms)
        try:
            manifest = json.dumps(self.manifest, default=_plain)
        except (TypeError, ValueError) as problem:
            raise TraceError(f"{self.file}: the manifest cannot be written as JSON: {problem}") from None
        try:
            write_whole(self.file.absolute(), _WRITERS[self.file.suffix.lower()](arrays, manifest))
        except OSError as problem:
            raise TraceError(f"{self.file}: cannot be written: {problem.strerror or problem}") from None
        return self.file


def _numbers(name: str, array: Any) -> Array:
    """Return a copy of an array of real numbers. Raises `TraceError` for what NumPy does not take for one."""
    try:
        copy = np.asarray(array).copy()
    except (TypeError, ValueError, RuntimeError) as problem:  # RuntimeError: PyTorch, of what requires a gradient
        raise TraceError(f"{name}: does not convert to a NumPy array of float32 or float64: {problem}") from None
    if copy.dtype.kind not in "fiub":
        raise TraceError(f"{name}: must be real numbers, got {copy.dtype}; convert it to float32 or float64")
    return copy


def _plain(value: Any) -> Any:
    """Return a number or an array of NumPy as JSON has it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is no number, text, list or mapping")


def record(
    problem: Problem, train: TrainSettings, file: str | Path, *, seed: int = 0, steps: Sequence[int] = STEPS
) -> Path:
    """Train the first stage here, and write weights, prediction, derivatives, loss and gradient at `steps` as a trace.

    Raises `TraceError` where the steps are none, or the file cannot be written, and what a training raises.
    """
    whole = all(isinstance(step, numbers.Integral) and not isinstance(step, bool) and step >= 0 for step in steps)
    wanted = sorted({int(step) for step in steps}) if whole else []
    if not wanted:
        raise TraceError(f"steps: must be whole numbers from 0 on, got {list(steps)}")
    epochs = max(wanted[-1] + 1, 1)
    train = dataclasses.replace(
        train, epochs=epochs, iterations=0, record_every=1, keep_epochs=tuple(range(epochs)), final_weights="last"
    )
    member = Member(train, problem, seed)
    recorder = Recorder(
        file,
        framework="pinnsweep",
        version=importlib.metadata.version("pinnsweep"),
        layers=member.layers,
        settings=_stated(train),
        problem={"name": problem.name, **_stated(problem)},
        dtype=train.dtype,
        derivatives="coordinates",
        seed=seed,
    )
    pack = Pack([member], device="cpu")
    while pack.active:
        pack.step(1000)
    (result,) = pack.results
    for group, points in zip(problem.groups, problem.point_sets, strict=True):
        if not group.is_coupled:  # nodes are those of the data
            recorder.points(group.terms[0], **points.values)
    evaluator = Evaluator(problem, member.layers, train.dtype, train.activation, Changes())
    for step in range(wanted[-1] + 1):
        recorder.loss_terms([result.curves[f"loss_{term}"][step] for term in problem.terms])
        if step in wanted:
            recorder.step(step, **_arrays(evaluator, result.weights[step], member.layers))
    return recorder.save()


def _stated(settings: Any) -> dict[str, Any]:
    """Return the settings that are not at their defaults, without those that name files or the length of a run."""
    return {
        name: list(value) if isinstance(value := getattr(settings, name), tuple) else value
        for name in hints(settings.__class__)
        if name not in _NOT_STATED and getattr(settings, name) != getattr(type(settings), name, None)
    }


_NOT_STATED: Final = (
    *("width", "depth", "dtype", "init", "engine", "epochs", "iterations", "record_every", "keep_epochs"),
    "final_weights",
)


def _arrays(evaluator: Evaluator, flat: Array, layers: Layers) -> dict[str, Array]:
    """Return what is recorded of weights [parameters]."""
    loss, terms, gradient = evaluator.evaluate(flat)
    arrays: dict[str, Array] = {"loss": np.array(loss), "loss_terms": terms}
    for prefix, vector in (("", flat), ("grad_", gradient)):
        for level, (w, b) in enumerate(unflatten(vector, layers), 1):
            arrays |= {f"{prefix}W{level}": w, f"{prefix}b{level}": b}
    problem = evaluator.problem.unchanged
    for number, group in enumerate(problem.groups):
        names = itertools.chain.from_iterable(channel_names(problem, group))
        prefix = f"{group.terms[0]}/" if number else ""
        arrays |= {prefix + name: evaluator.named(flat, number, name) for name in names if "_form" not in name}
    return arrays


def _npz(arrays: Mapping[str, Array], manifest: str) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{"manifest": np.array(manifest), **arrays})  # type: ignore[arg-type]
    return stream.getvalue()


def _safetensors(arrays: Mapping[str, Array], manifest: str) -> bytes:
    from safetensors.numpy import save

    plain = {name: np.ascontiguousarray(np.atleast_1d(array)) for name, array in arrays.items()}
    return bytes(save(plain, metadata={"manifest": manifest}))


def _mat(arrays: Mapping[str, Array], manifest: str) -> bytes:
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, {"manifest": manifest, **{name.replace("/", "__"): array for name, array in arrays.items()}})
    return stream.getvalue()


_WRITERS: Final[Mapping[str, Callable[[Mapping[str, Array], str], bytes]]] = MappingProxyType(
    {".npz": _npz, ".safetensors": _safetensors, ".mat": _mat}
)
