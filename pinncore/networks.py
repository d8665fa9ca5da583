"""Multilayer perceptrons: layer sizes and flat parameter vectors.

A network of layers (n_0, ..., n_L) has weights W_l of shape [n_{l-1}, n_l] and biases b_l of shape [n_l]. Its flat
vector is W_1, b_1, W_2, b_2, ... row by row.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Layers = tuple[int, ...]
Weights = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def layer_sizes(inputs: int, *, width: int, depth: int, outputs: int = 1) -> Layers:
    """Return the sizes of `depth` hidden layers of `width` units between inputs and outputs."""
    return (inputs, *[width] * depth, outputs)


def parameter_count(layers: Layers) -> int:
    """Return the number of weights and biases."""
    return sum((before + 1) * after for before, after in itertools.pairwise(layers))


def flatten(weights: Weights) -> NDArray[np.float64]:
    """Return the flat vector [parameters] of [(W [in, out], b [out]), ...]."""
    return np.concatenate([np.concatenate([w.reshape(-1), b.reshape(-1)]) for w, b in weights])


def unflatten(flat: NDArray[np.float64], layers: Layers) -> Weights:
    """Return [(W [in, out], b [out]), ...], views of the flat vector [parameters]."""
    weights, start = [], 0
    for before, after in itertools.pairwise(layers):
        w = flat[start : start + before * after].reshape(before, after)
        b = flat[start + before * after : start + (before + 1) * after]
        weights.append((w, b))
        start += (before + 1) * after
    return weights
