"""Initial weights: the defaults of PyTorch, Keras and TensorFlow 1, the usual families, or a file.

The distributions are those of the frameworks, drawn from NumPy's PCG64, so that a seed gives the same weights on every
machine. The frameworks' random numbers are not reproduced; a file can hold their actual weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .errors import SettingError, WeightsError
from .networks import Layers, Weights, flatten
from .npz import Npz, open_npz

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """The distribution of a layer's weights: uniform within `size`, or normal with that deviation.

    A truncated normal one ends at two deviations. Biases are zero, or follow the weights' law.
    """

    kind: Literal["uniform", "normal", "truncated"]
    size: Callable[[int, int], float]  # from the numbers of inputs and outputs
    has_biases: bool = False

    def draw(self, generator: Generator, fan_in: int, fan_out: int) -> tuple[Array, Array]:
        """Draw weights [fan_in, fan_out] and biases [fan_out]."""
        size, shape = self.size(fan_in, fan_out), (fan_in, fan_out)
        if self.kind == "uniform":
            w = generator.uniform(-size, size, shape)
            return w, generator.uniform(-size, size, fan_out) if self.has_biases else np.zeros(fan_out)
        draws = generator.standard_normal(shape)
        while self.kind == "truncated" and (outside := np.abs(draws) > 2).any():
            draws[outside] = generator.standard_normal(int(outside.sum()))
        return size * draws, np.zeros(fan_out)


SOURCES: dict[str, Law] = {
    # torch.nn.Linear (Kaiming uniform, a = sqrt(5)); keras.layers.Dense (Glorot and Bengio 2010, eq. 16); PINN codes
    # of TensorFlow 1 (Xavier, truncated)
    "torch": Law("uniform", lambda fan_in, fan_out: 1 / np.sqrt(fan_in), has_biases=True),
    "keras": Law("uniform", lambda fan_in, fan_out: np.sqrt(6 / (fan_in + fan_out))),
    "tf1": Law("truncated", lambda fan_in, fan_out: np.sqrt(2 / (fan_in + fan_out))),
    "glorot_normal": Law("normal", lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5),
    # He et al. (2015); LeCun et al. (1998)
    "he": Law("normal", lambda fan_in, fan_out: (2 / fan_in) ** 0.5),
    "he_uniform": Law("uniform", lambda fan_in, fan_out: np.sqrt(6 / fan_in)),
    "lecun_normal": Law("normal", lambda fan_in, fan_out: (1 / fan_in) ** 0.5),
}


def initial_parameters(init: str, layers: Layers, *, seed: int) -> Array:
    """Return the flat vector [parameters] of a network's initial weights; a file ignores `seed`.

    Raises `SettingError` for an unknown source and `WeightsError` for a file that does not fit.
    """
    if init.startswith("file:"):
        return read_weights(init.removeprefix("file:"), layers)
    if init not in SOURCES:
        raise SettingError("init", init, f"must be one of {', '.join(SOURCES)} or file:PATH")
    generator = np.random.default_rng(seed)
    return flatten([SOURCES[init].draw(generator, *sizes) for sizes in itertools.pairwise(layers)])


def check_init(init: str, layers: Layers) -> None:
    """Raise what `initial_parameters` would raise, without drawing weights."""
    if init.startswith("file:") or init not in SOURCES:
        initial_parameters(init, layers, seed=0)


def read_weights(path: str, layers: Layers) -> Array:
    """Return the flat vector [parameters] from an `.npz` of `W1` [in, out], `b1` [out] or [1, out], `W2`, ...

    `weights.npz#epoch0` reads the arrays under `epoch0/`. Raises `WeightsError`.
    """
    file, _, group = path.partition("#")
    prefix = f"{group}/" if group else ""
    try:
        with open_npz(file) as archive:
            names = _fitting(archive, path, prefix, layers)
            arrays = archive.numbers(prefix + name for pair in names for name in pair)
    except WeightsError:
        raise
    except FileNotFoundError:
        raise WeightsError(f"init: the weights file {file} does not exist") from None
    except OSError as problem:
        raise WeightsError(f"init: {file} cannot be read ({problem.strerror})") from None
    except ValueError as problem:
        raise WeightsError(
            f"init: {file} is not an .npz of arrays that can be read ({problem}); write one with "
            "numpy.savez(file, W1=..., b1=...)"
        ) from None
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"init: {name.removeprefix(prefix)} in {path} has a value that is not finite")
    weights: Weights = [(arrays[prefix + w], arrays[prefix + b].reshape(-1)) for w, b in names]
    return flatten(weights)


def _fitting(archive: Npz, path: str, prefix: str, layers: Layers) -> list[tuple[str, str]]:
    """Return the names of weights and biases by layer. Raises `WeightsError` where their shapes are of other layers."""
    names = [(f"W{level}", f"b{level}") for level in range(1, len(layers))]
    known = set(archive.names)
    for (before, after), (w, b) in zip(itertools.pairwise(layers), names, strict=True):
        for name, shapes in ((w, [(before, after)]), (b, [(after,), (1, after)])):
            if prefix + name not in known:
                raise WeightsError(
                    f"init: {path} has no array {name}; a network {_dashes(layers)} needs W1, b1 to "
                    f"W{len(layers) - 1}, b{len(layers) - 1}"
                )
            shape = archive.shape(prefix + name)
            if shape not in shapes:
                raise WeightsError(
                    f"init: {name} in {path} has shape {shape}, but a network {_dashes(layers)} needs {shapes[0]}"
                )
    if f"{prefix}W{len(layers)}" in known:
        raise WeightsError(f"init: {path} has more layers than the network {_dashes(layers)}")
    return names


def _dashes(layers: Layers) -> str:
    return "-".join(map(str, layers))
