"""A made-up plate, initial weights and a manifest, common to all writers; NumPy only."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

RECORDED = (0, 1, 2, 5, 10)


def plate(seed: int, points: int = 8) -> dict[str, dict[str, Any]]:
    """Return points by loss term: a grid of points x points in a square of 100 mm, strains as ahead of a notch."""
    generator = np.random.default_rng([seed, 1])
    middle = (np.arange(points) + 0.5) * 100 / points
    x, y = (part.ravel() for part in np.meshgrid(middle, middle))
    ends = np.repeat([0.0, 100.0], points)
    along = np.tile(middle, 2)

    def columns(x: Any, y: Any) -> dict[str, Any]:
        strain = 1e-5 + 8e-4 * np.exp(-(((x - 35) / 12) ** 2) - (y / 9) ** 2) * generator.uniform(0.9, 1.1, x.shape)
        return {"x": x, "y": y, "g": np.full(x.shape, 8.0), "elocal": strain}

    return {"residual": columns(x, y), "lrb": columns(ends, along), "btb": columns(along, ends)}


def start(layers: tuple[int, ...], seed: int) -> list[tuple[Any, Any]]:
    """Return weights (in, out) and biases, Glorot normal with small biases."""
    generator = np.random.default_rng([seed, 2])
    return [
        (
            generator.standard_normal((before, after)) * (2 / (before + after)) ** 0.5,
            0.1 * generator.standard_normal(after),
        )
        for before, after in itertools.pairwise(layers)
    ]


def scaled(points: dict[str, Any], is_raw: bool, reference: float, scale: float) -> Any:
    """Return the inputs [points, inputs] of the network: raw with strains times ten, or consistent (x, y)."""
    if is_raw:
        return np.stack([points["x"], points["y"], points["g"], 10 * points["elocal"]], axis=1)
    return np.stack([scale * (points["x"] - 50) / 50, scale * (points["y"] - 50) / 50], axis=1)


def save(file: Path, manifest: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Write a trace."""
    np.savez(file, manifest=np.array(json.dumps(manifest)), **arrays)


def manifest(framework: str, version: str, *, layers: tuple[int, ...], dtype: str, **stated: Any) -> dict[str, Any]:
    """Return what a correct program would do."""
    is_raw = layers[0] == 4
    problem: dict[str, Any] = {"name": "nonlocal_strain", "loss": stated.pop("loss", "norm")}
    if is_raw:
        problem |= {"inputs": ["x", "y", "g", "elocal"], "scale_scope": "all", "strain_multiplier": 10.0}
    else:
        problem |= {"inputs": ["x", "y"], "scale_scope": "consistent", "scale_factor": stated.pop("scale", 1.0)}
    return {
        "format": "pinnsweep trace 1",
        "framework": framework,
        "version": version,
        "dtype": dtype,
        "layers": list(layers),
        "settings": {"first_stage": "adam", "adam_lr": 1e-3, **stated},
        "problem": problem,
    }
