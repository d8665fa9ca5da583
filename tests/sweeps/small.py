"""A small study on a thinned StrB100, whose trials take a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from pinncore.data import Points, load_data
from sweeps.folder import open_folder, settle
from sweeps.packs import PackRun
from sweeps.spec import StudySpec
from sweeps.study import Cluster, StudyOwner

STUDY = """\
study: small
problem:
  boundary_weight: 0.05
  data: {{gauss_points: {d}/g.csv, lrb: {d}/l.csv, btb: {d}/b.csv, elocal_factor: 1}}
search: {{sampler: {sampler}, trials: {trials}, seed: 3}}
space:
  width: {{choice: [3, 5, 6]}}
  adam_lr: {{loguniform: [1.0e-3, 2.0e-2]}}
  lbfgs_history: {{choice: [3, 20]}}
  init: {{choice: [torch, keras, tf1]}}
  scale_factor: {{choice: [1, 3]}}
train: {{adam_epochs: {epochs}, lbfgs_iterations: {iterations}, record_every: 5, keep_epochs: [0]}}
resources: {{pack: {pack}}}
"""
CLUSTER = Cluster(slots=2, device="cpu")
PLACES = ("data", "config_hash", "spec_hash")  # hold the path of the tables
CHANGING = ("attempt", "started_at", "finished_at", "adam_seconds", "lbfgs_seconds", "seconds", "host", "time_s")


def write_study(
    folder: Path,
    *,
    sampler: str = "qmc",
    trials: int = 8,
    epochs: int = 20,
    iterations: int = 12,
    pack: int = 2,
    thin: int = 32,
) -> Path:
    """Write the tables and the study file; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    data = load_data()
    for name, points, step in (("g", data.gauss, thin), ("l", data.lrb, 4), ("b", data.btb, 4)):
        _write_csv(folder / f"{name}.csv", points, step)
    file = folder / "small.yaml"
    file.write_text(
        STUDY.format(d=folder, sampler=sampler, trials=trials, epochs=epochs, iterations=iterations, pack=pack)
    )
    return file


def _write_csv(file: Path, points: Points, step: int) -> None:
    columns = {"xcoord": points.x_mm, "ycoord": points.y_mm, "g": points.g_mm2, "elocal": points.elocal}
    if points.enonlocal_true is not None:
        columns["enonlocal_true"] = points.enonlocal_true
    table = np.stack([column[::step] for column in columns.values()], axis=1)
    np.savetxt(file, table, delimiter=",", header=",".join(columns), comments="")


def prepare(root: Path, spec: StudySpec) -> tuple[Path, bool]:
    """The study's folder with its study file, as a first start leaves it, and whether it is new."""
    study_dir, is_new = open_folder(root, spec)
    settle(study_dir, spec)
    return study_dir, is_new


def train_all(study_dir: Path, *, segment_s: float = 0.05, packs: int | None = None) -> StudyOwner:
    """Train what is left of a study (or so many packs of it) in this process; the owner is handed back open."""
    owner = StudyOwner(study_dir, CLUSTER)
    try:
        while packs != 0 and (pack := owner.next_pack()) is not None:
            train_pack(owner, study_dir, pack, segment_s=segment_s)
            packs = None if packs is None else packs - 1
    except BaseException:
        owner._lock.release()  # as the kernel does when a process dies
        raise
    return owner


def train_pack(owner: StudyOwner, study_dir: Path, pack: int, *, segment_s: float = 0.05) -> None:
    """One pack from lease to end, in the worker's order: report, then checkpoint."""
    run = PackRun(owner.lease(pack), study_dir)
    while True:
        report = run.segment(segment_s)
        assert owner.report(report)
        run.checkpoint()
        if report.done:
            return


def table(study_dir: Path, name: str) -> pa.Table:
    """A table as any reader sees it, sorted, without the columns that differ between two equal runs."""
    found = ds.dataset(study_dir / name, format="parquet").to_table()
    found = found.select([column for column in found.column_names if column not in CHANGING])
    keys = [
        column
        for column in ("trial", "phase", "step", "epoch", "layer", "row", "column", "x_mm", "y_mm")
        if column in found.column_names
    ]
    return found.sort_by([(key, "ascending") for key in keys])


def assert_same_tables(one: Path, other: Path, *, places_differ: bool = False) -> None:
    """Bitwise equality of trials, curves, fields and weights, times and hosts aside."""
    for name in ("trials", "curves", "fields", "weights"):
        left, right = table(one, name), table(other, name)
        assert left.schema.equals(right.schema), name
        assert left.num_rows == right.num_rows, f"{name}: {left.num_rows} rows and {right.num_rows} rows"
        compared = [column for column in left.column_names if not (places_differ and column in PLACES)]
        different = [column for column in compared if not _identical(left[column], right[column])]
        assert not different, f"{name} differs in {different}"


def _identical(left: Any, right: Any) -> bool:
    if pa.types.is_floating(left.type):
        if left.null_count != right.null_count:
            return False
        a, b = (np.asarray(c.to_numpy(zero_copy_only=False), dtype=np.float64) for c in (left, right))
        return bool(np.array_equal(a.view(np.int64), b.view(np.int64)))
    return bool(left.equals(right))
