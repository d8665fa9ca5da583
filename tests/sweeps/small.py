"""A small study on a thinned StrB100, whose trials take a fraction of a second, and ways to interrupt it."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from pinncore.data.loading import load_data
from pinncore.data.points import Points
from sweeps.owner.capacity import ClusterCapacity
from sweeps.owner.owner import StudyOwner
from sweeps.owner.slots import SlotOffer
from sweeps.runner.worker import SlotWorker
from sweeps.spec.study_spec import StudySpec
from sweeps.states import FINISHED
from sweeps.storage.database import Connection
from sweeps.study.folder import open_folder, open_study
from sweeps.study.loading import load_spec

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
train: {{epochs: {epochs}, iterations: {iterations}, record_every: 5, keep_epochs: [0]}}
resources: {{pack: {pack}}}
"""
MACHINES = ClusterCapacity(places=2, device="cpu")
PLACES = ("data", "config_hash", "spec_hash")  # columns that depend on the path of the tables
OPERATIONS = ("replace", "rename", "fsync", "mkdir", "commit")  # on files, folders and the database
CHANGING = (
    "attempt",
    "pack",
    "started_at",
    "finished_at",
    "first_seconds",
    "second_seconds",
    "seconds",
    "host",
    "time_s",
)


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
    """Write the tables and the study file; return the path of the study file."""
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
    """Create the folder of a study as a first start does; return it, and whether it is new."""
    study_dir, is_new = open_folder(root, spec)
    open_study(study_dir, spec).ledger.close()
    return study_dir, is_new


class Crash(BaseException):
    """Simulates kill -9 at one place: nothing may catch it."""


class Calm:
    """A study that has not begun, and the same study trained without interruption."""

    def __init__(self, folder: Path, *overrides: str, file: Path | None = None, **settings: Any) -> None:
        self.file, self.overrides = file or write_study(folder / "data", **settings), overrides
        self.fresh, _ = prepare(folder / "fresh", load_spec(self.file, overrides))
        self.whole = self.copy(folder / "whole")
        self.counts = run_all(self.whole, segment_s=5.0)

    def copy(self, folder: Path) -> Path:
        """Copy the study that has not begun to another folder and return it; the data tables are shared."""
        return Path(shutil.copytree(self.fresh, folder / self.fresh.name))

    def finish(self, study_dir: Path, *, but: tuple[str, ...] = (), segment_s: float = 5.0, **options: Any) -> None:
        """Train the remaining trials, then compare: the same rows, each once, and no leftovers."""
        assert run_all(study_dir, segment_s=segment_s, **options) == self.counts
        self.compare(study_dir, but=but)

    def compare(self, study_dir: Path, *, but: tuple[str, ...] = ()) -> None:
        """Fail unless a finished study equals the uninterrupted one."""
        assert_same_tables(self.whole, study_dir, but=but)
        assert not list((study_dir / "checkpoints").glob("*")), "finished packs leave nothing"


def trained_study(folder: Path, trials: int) -> tuple[Path, Path]:
    """Train a study to its end; return its study file and its folder."""
    file = write_study(folder / "data", trials=trials)
    study_dir, _ = prepare(folder / "root", load_spec(file))
    train_all(study_dir).close()
    return file, study_dir


def train_all(
    study_dir: Path,
    *,
    segment_s: float = 0.05,
    least: int | None = None,
    machines: ClusterCapacity = MACHINES,
    **options: Any,
) -> StudyOwner:
    """Train a study in this process to its end, or until `least` trials are finished; return its owner, still open."""
    owner = StudyOwner(study_dir, machines, **options)
    try:
        while (slot := offered(owner)) is not None:
            worker = SlotWorker(owner, study_dir, slot)
            while not worker.done:
                if least is not None and finished(owner) >= least:
                    return owner
                worker.segment(segment_s)
    except BaseException:
        kill(owner)
        raise
    return owner


def run_all(study_dir: Path, **options: Any) -> dict[str, int]:
    """Run one attempt to its end and return the number of trials in each state."""
    owner = train_all(study_dir, **options)
    try:
        return owner.close()
    except BaseException:
        kill(owner)
        raise


def offered(owner: StudyOwner) -> int | None:
    """Return the owner's next slot, None if there is none now."""
    offer = owner.offer()
    return offer.slot if isinstance(offer, SlotOffer) else None


def next_slot(owner: StudyOwner) -> int:
    """Return the owner's next slot; fail if there is none."""
    slot = offered(owner)
    assert slot is not None
    return slot


def finished(owner: StudyOwner) -> int:
    """Return the number of trials that are finished."""
    return sum(owner.snapshot().counts[state] for state in FINISHED)


def kill(owner: StudyOwner) -> None:
    """Close lock and database of an owner as the kernel does when its process dies."""
    owner._attempt.lock._file.close()
    owner._attempt.ledger.close()


def cut_window(study_dir: Path, number: int) -> None:
    """Enter the first window of trials, then delete those from `number` on."""
    owner = StudyOwner(study_dir, MACHINES)
    owner.ask_ahead()
    kill(owner)
    with sqlite3.connect(study_dir / "study.db") as database:
        lost = f"(SELECT trial_id FROM trials WHERE number >= {number})"
        for kind in ("params", "user_attributes", "system_attributes"):
            database.execute(f"DELETE FROM trial_{kind} WHERE trial_id IN {lost}")
        database.execute(f"DELETE FROM trials WHERE number >= {number}")
    database.close()


def planned_packs(study_dir: Path) -> list[int]:
    """Return the pack that each trial was planned for."""
    with sqlite3.connect(study_dir / "study.db") as database:
        rows = database.execute("SELECT value_json FROM trial_user_attributes WHERE key = 'pack' ORDER BY trial_id")
        packs = [int(pack) for (pack,) in rows]
    database.close()
    return packs


def train_together(
    owner: StudyOwner,
    study_dir: Path,
    draw: random.Random,
    *,
    most: int,
    segments: int = 10**6,
    seconds: Sequence[float] = (0.0, 0.0, 0.02, 0.2),
) -> None:
    """Train `segments` segments of random length, each of a random one of up to `most` workers."""
    workers: list[SlotWorker] = []
    for _ in range(segments):
        while len(workers) < most and (slot := offered(owner)) is not None:
            workers.append(SlotWorker(owner, study_dir, slot))
        workers = [worker for worker in workers if not worker.done]
        if not workers:
            return
        draw.choice(workers).segment(draw.choice(seconds))


@contextmanager
def trapped(
    number: int, fault: Callable[[], BaseException], *, patch: Any, kinds: tuple[str, ...] = OPERATIONS
) -> Iterator[list[str]]:
    """Make disk operations of these kinds fail from the `number`-th one on; yield the list of those done."""
    operations: list[str] = []

    def count(name: str) -> None:
        if name in kinds:
            operations.append(name)
            if len(operations) >= number:
                raise fault()

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            if name != "fsync" or os.path.basename(os.readlink(f"/proc/self/fd/{args[0]}")) != "lock":
                count(name)
            return real(*args, **options)

        return counted

    dialect = Connection._dialect

    def committed(self: Connection, sql: str) -> str:
        if sql == "COMMIT":
            count("commit")
        return dialect(self, sql)

    with patch.context() as patched:
        for name in OPERATIONS[:-1]:
            patched.setattr(os, name, wrapped(name, getattr(os, name)))
        patched.setattr(Connection, "_dialect", committed)
        yield operations


def events(study_dir: Path) -> list[tuple[str, str]]:
    """Return the events of a study in order, each with its detail."""
    columns = ds.dataset(study_dir / "events", format="parquet").to_table().sort_by("time").to_pydict()
    return list(zip(columns["event"], columns["detail"], strict=True))


def table(study_dir: Path, name: str) -> pa.Table:
    """Return a table as any reader sees it, sorted, without the columns that differ between two equal runs."""
    rows = ds.dataset(study_dir / name, format="parquet").to_table()
    rows = rows.select([column for column in rows.column_names if column not in CHANGING])
    keys = [
        column
        for column in ("trial", "replicate", "phase", "step", "epoch", "layer", "row", "column", "x_mm", "y_mm")
        if column in rows.column_names
    ]
    return rows.sort_by([(key, "ascending") for key in keys])


def assert_same_tables(
    one: Path,
    other: Path,
    *,
    places_differ: bool = False,
    but: tuple[str, ...] = (),
    of: Callable[..., Any] | None = None,
) -> None:
    """Fail unless trials, curves, fields and weights are bitwise equal, except times, hosts and the columns `but`.

    `of` selects the rows of a table to compare.
    """
    for name in ("trials", "curves", "fields", "weights"):
        left, right = (of(rows) if of else rows for rows in (table(one, name), table(other, name)))
        assert left.schema.equals(right.schema), name
        assert left.num_rows == right.num_rows, f"{name}: {left.num_rows} rows and {right.num_rows} rows"
        ignored = (*but, *(PLACES if places_differ else ()))
        compared = [column for column in left.column_names if column not in ignored]
        different = [column for column in compared if not _identical(left[column], right[column])]
        assert not different, f"{name} differs in {different}"


def _identical(left: Any, right: Any) -> bool:
    if pa.types.is_floating(left.type):
        if left.null_count != right.null_count:
            return False
        a, b = (np.asarray(c.to_numpy(zero_copy_only=False), dtype=np.float64) for c in (left, right))
        return bool(np.array_equal(a.view(np.int64), b.view(np.int64)))
    return bool(left.equals(right))
