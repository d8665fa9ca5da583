"""What is written of an increment: tables of Gauss points and nodes, as csv, npz or mat."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
import scipy.io

from ..disk import write_whole
from ..fem.damage import DamageAnalysis, Increment
from ..fem.discrete import Discrete
from ..fem.quads import Array, Indices
from .loading import save_data
from .points import FieldData, MeshTables, Points
from .tables import CORNERS

TableFormat = Literal["csv", "npz", "mat"]
COLUMNS: Final = (  # of every table, as published; in a .mat file features 0 to 11
    *("xcoord", "ycoord", "g", "damage", "sigma_xx", "sigma_yy", "tau_xy", "e_xx", "e_yy", "e_xy"),
    *("elocal", "enonlocal_true"),
)
DISPLACEMENTS: Final = ("displacement_x_mm", "displacement_y_mm")  # further columns of the table `nodes`
_MAT_NAMES: Final = {"gauss_points": "GP", "nodes_lrb": "nodeslrb", "nodes_btb": "nodesbtb", "nodes": "nodes"}


@dataclass(frozen=True)
class IncrementTables:
    """The tables of an increment: mm, mm^2, MPa, and physical strains, of which `e_xy` is the shear angle 2 eps_xy."""

    analysis: DamageAnalysis
    increment: Increment

    @property
    def name(self) -> str:
        """Return the name, with which those of the files begin."""
        return tables_name(self.analysis, self.increment.number)

    @cached_property
    def tables(self) -> dict[str, dict[str, Array]]:
        """Return the columns of `gauss_points`, `nodes_lrb`, `nodes_btb` and `nodes`, arrays [rows].

        Gauss points and nodes are in the order of the mesh, of the boundaries left and bottom before right and top.
        Nodal values are extrapolated bilinearly from the Gauss points of each element and averaged; but
        `enonlocal_true` is the solution there.
        """
        quads, unknowns = self.analysis.quads, self.increment.unknowns
        gauss = np.empty((quads.points, len(COLUMNS) - 2))
        gauss[quads.gauss] = self._of_elements
        nodes = np.stack([quads.at_nodes(values) for values in np.moveaxis(self._of_elements, -1, 0)], axis=1)
        nodes[:, 0], nodes[:, -1] = self.analysis.specimen.material.gradient_mm2, unknowns[:, 2]
        at_gauss = _named(np.concatenate([quads.values @ quads.nodes, gauss], axis=1))
        at_nodes = _named(np.concatenate([quads.nodes, nodes], axis=1))
        sides = {f"nodes_{name}": self._boundary(axis) for axis, name in enumerate(("lrb", "btb"))}
        boundaries = {table: {name: values[rows] for name, values in at_nodes.items()} for table, rows in sides.items()}
        displacements = dict(zip(DISPLACEMENTS, unknowns[:, :2].T, strict=True))
        return {"gauss_points": at_gauss, **boundaries, "nodes": at_nodes | displacements}

    @cached_property
    def data(self) -> FieldData:
        """Return the tables as a problem reads them."""
        gauss, lrb, btb = (_points(self.tables[name]) for name in ("gauss_points", "nodes_lrb", "nodes_btb"))
        size, increment = self.analysis.elements, self.increment
        notes = [
            f"{self.analysis.specimen.name}, load increment {increment.number} (load factor "
            f"{increment.load_factor:g}), {size} x {size} bilinear elements; computed by coupled finite elements in "
            "plane strain, from displacement and non-local strain",
            f"elocal, dimensionless: {gauss.elocal.min():.4g} to {gauss.elocal.max():.4g}, physical",
            f"{len(gauss)} Gauss points, {len(lrb)} left/right and {len(btb)} bottom/top nodes",
        ]
        notes += [increment.note] if increment.note else []
        mesh = MeshTables(self.analysis.quads.nodes, self.analysis.quads.corners)
        return FieldData(self.name, gauss, lrb, btb, 1, tuple(notes), mesh=mesh)

    @cached_property
    def equation_error(self) -> float:
        """Return how far u is from the solution of u - g laplace u = e for this e: largest difference over largest u.

        Both are read at the Gauss points, and the equation is solved anew, with the same elements, for u alone.
        """
        gauss = self.tables["gauss_points"]
        discrete, truth = Discrete(self.analysis.quads, gauss["g"], gauss["elocal"]), gauss["enonlocal_true"]
        return float(np.abs(discrete.read(discrete.solution) - truth).max() / np.abs(truth).max())

    def write(self, folder: Path, kind: TableFormat, *, elocal_factor: int = 1) -> list[Path]:
        """Write the files of a format, each complete or not at all; `elocal_factor` multiplies `elocal` in csv."""
        files = [folder / name for name in table_files(self.name, kind)]
        if kind == "csv":
            corners = dict(zip(CORNERS, 1 + self.analysis.quads.corners.T, strict=True))
            factors = {"elocal": elocal_factor}
            for file, columns in zip(files, (*self.tables.values(), corners), strict=True):
                write_whole(file, _csv({name: factors.get(name, 1) * values for name, values in columns.items()}))
        elif kind == "npz":
            save_data(self.data, files[0], {f"nodes/{name}": values for name, values in self.tables["nodes"].items()})
        else:
            write_whole(files[0], self._mat())
        return files

    @cached_property
    def _of_elements(self) -> Array:
        """Return g, damage, stresses, strains, e and u, shape [elements, 4, columns]."""
        state = self.increment.state
        strength = np.full_like(state.damage, self.analysis.specimen.material.gradient_mm2)
        first, last = (strength, state.damage), (state.local, state.nonlocal_strain)
        parts = (np.stack(first, axis=-1), state.stress_mpa, state.strain, np.stack(last, axis=-1))
        return np.concatenate(parts, axis=-1)

    def _boundary(self, axis: int) -> Indices:
        """Return the nodes at the smallest and then those at the largest coordinate."""
        along = self.analysis.quads.nodes[:, axis]
        return np.concatenate([np.flatnonzero(along == end) for end in (along.min(), along.max())])

    def _mat(self) -> bytes:
        """Return arrays (points, increments, features) as published, of one increment."""
        size, content = self.analysis.elements, io.BytesIO()
        arrays = {
            f"All_TrainingData_{size}x{size}_{_MAT_NAMES[table]}": np.stack(list(columns.values()), axis=1)[:, None]
            for table, columns in self.tables.items()
        }
        scipy.io.savemat(content, arrays, do_compression=True)
        return content.getvalue()


def tables_name(analysis: DamageAnalysis, increment: int) -> str:
    """Return the name of the tables of an increment."""
    return f"{analysis.specimen.name}_{analysis.elements}x{analysis.elements}_increment{increment}"


def table_files(name: str, kind: TableFormat) -> list[str]:
    """Return the names of the files of the tables `name`: in csv one for each table."""
    return [f"{name}_{table}.csv" for table in (*_MAT_NAMES, "elements")] if kind == "csv" else [f"{name}.{kind}"]


def _named(values: Array) -> dict[str, Array]:
    """Return the columns of values [rows, columns] by name."""
    return dict(zip(COLUMNS, np.ascontiguousarray(values.T), strict=True))


def _points(columns: dict[str, Array]) -> Points:
    return Points(*(columns[name] for name in ("xcoord", "ycoord", "g", "elocal", "enonlocal_true")))


def _csv(columns: dict[str, Array]) -> str:
    """Return a table as text, each number with as many digits as are needed to read it back exactly."""
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(repr, row)) for row in rows), ""])
