"""The slides' scale factors: the tenfold strains, the scaled strain alone, and the equation a factor changes.

    python examples/documents/slides_scale.py

`examples/scale.yaml` is the whole study, over seeds; docs/numerics.md has its figures.
"""

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

import pinncore
from pinncore import FieldData, NonlocalStrain, TrainSettings, load_data
from sweeps.inputs.opening import open_table
from table import Row, equal, show

PRINTED = (  # of the .mat file: x, y, g, elocal
    ("5.28312163e-01", "5.28312163e-01", "8.00000000e+00", "1.41774367e-07"),
    ("1.97168784e+00", "5.28312163e-01", "8.00000000e+00", "8.18238599e-08"),
    ("5.28312163e-01", "1.97168784e+00", "8.00000000e+00", "8.15890766e-08"),
)
RAW = ("x", "y", "g", "elocal")


def both_files() -> tuple[FieldData, FieldData]:
    """Return StrB100 read from CSV tables with strains times ten, and from the published .mat layout."""
    data = load_data("strb100")
    tables = {"gauss_points": ("GP", data.gauss), "lrb": ("nodeslrb", data.lrb), "btb": ("nodesbtb", data.btb)}
    arrays, files = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for role, (part, points) in tables.items():
            array = np.zeros((len(points), 1, 11))
            array[:, 0, :3] = np.stack([points.x_mm, points.y_mm, points.g_mm2], axis=1)
            array[:, 0, 10] = points.elocal
            arrays[f"All_TrainingData_StrB100_{part}"] = array
            files[role] = str(Path(folder) / f"{role}.csv")
            with open(files[role], "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["xcoord", "ycoord", "g", "elocal", "enonlocal_true"])
                writer.writerows(
                    zip(points.x_mm, points.y_mm, points.g_mm2, 10 * points.elocal, points.enonlocal_true, strict=True)
                )
        mat = Path(folder) / "strb100.mat"
        savemat(mat, arrays)
        return load_data(files, open_table), load_data({"mat": str(mat), "increment": 1}, open_table)


def metric(name: str, settings: TrainSettings, **problem: Any) -> float:
    """Return a metric of one training."""
    value = pinncore.train(NonlocalStrain(**problem), settings, device="cpu").metrics[name]
    assert value is not None
    return value


def rows() -> list[Row]:
    """Return what the slides say of factors and files beside what comes out."""
    points = load_data("strb100").gauss
    columns = (points.x_mm, points.y_mm, points.g_mm2, points.elocal)
    found = [
        equal(f"{name} of Gauss point {number + 1}", text, float(column[number]), 1e-7 * abs(float(text)))
        for number, line in enumerate(PRINTED)
        for name, text, column in zip(RAW, line, columns, strict=True)
    ]
    from_csv, from_mat = both_files()
    strains = np.abs(from_csv.gauss.elocal / from_mat.gauss.elocal - 1).max()
    factors = f"{from_csv.elocal_factor}, {from_mat.elocal_factor}"
    found.append(
        Row("factor of elocal found, .csv and .mat", "10, 1", factors, factors == "10, 1", "from enonlocal_true")
    )
    found.append(
        Row("strains read from .csv over .mat, less 1", "", f"{strains:.0e}", bool(strains < 1e-14), "the trap is shut")
    )
    untrained = TrainSettings(width=1, depth=1, epochs=0, iterations=0)
    for factor, printed in ((10.0, "11.6"), (100.0, "15.4")):
        error = 100 * metric("equation_error", untrained, inputs=RAW, scale_scope="all", scale_factor=factor)
        what = f"exact solution off in %, all inputs times {factor:.0f}"
        found.append(
            Row(what, "less accurate", f"{error:.1f}", f"{error:.1f}" == printed, f"g/{factor:.0f} is solved for g")
        )
    settings = TrainSettings(width=8, depth=8, epochs=300, iterations=0)
    constants = [
        metric("over_constant", settings, inputs=RAW, scale_scope="elocal", scale_factor=factor)
        for factor in (1.0, 10.0, 100.0)
    ]
    found.append(
        Row(
            "8x8, elocal alone times 1, 10, 100: error over a constant's",
            "trivial",
            ", ".join(f"{value:.2g}" for value in constants),
            min(constants) > 0.5,
            "after 300 epochs; the whole study: examples/scale.yaml",
        )
    )
    settings = TrainSettings(epochs=400, iterations=0, adam_lr=5e-3, lr_schedule="cosine")
    errors = [metric("rel_l2", settings, scale_factor=factor) for factor in (1.0, 10.0)]
    return [
        *found,
        Row(
            "rel_l2 in % after 400 epochs, consistent factors 1 and 10",
            "faster",
            ", ".join(f"{100 * error:.1f}" for error in errors),
            errors[1] < errors[0] / 2,
            "the same equation: here a factor is faster, and accurate",
        ),
    ]


if __name__ == "__main__":
    show(rows())
