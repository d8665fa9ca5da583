"""A process that publishes and compacts until it is killed: `python -m tests.sweeps.publishing STUDY`.

It writes into two files beside the study how many flushes it has begun and how many it has published.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sweeps.storage import compaction
from sweeps.storage.tables import StudyTables

TRIALS, ROWS = 3, 5  # trials per flush; rows per trial in the table curves


def flush_name(number: int) -> str:
    """Return the name of a flush."""
    return f"trials-{number:06d}"


def publish(tables: StudyTables, number: int) -> None:
    """Publish a flush of small rows."""
    trials = range(number * TRIALS, (number + 1) * TRIALS)
    tables.publish(
        flush_name(number),
        trials=[{"trial": trial, "replicate": 0, "state": "COMPLETE", "rel_l2": 1.0} for trial in trials],
        curves=[
            {"trial": trial, "replicate": 0, "phase": "first", "step": list(range(ROWS)), "loss": 1.0}
            for trial in trials
        ],
    )


def main(study: Path) -> None:
    """Continue after a killed process, as an owner does: recover, then publish."""
    tables = StudyTables(study)
    compaction.recover(study)
    tables.remove_orphans()
    number = len(tables.read("trials", columns=["trial"])) // TRIALS
    while True:
        _write_count(study, "begun", number + 1)
        publish(tables, number)
        number += 1
        _write_count(study, "published", number)
        if number % 7 == 0:
            compaction.compact(tables)


def _write_count(study: Path, what: str, number: int) -> None:
    beside = study.with_name(f"{what}.new")
    beside.write_text(str(number))
    os.replace(beside, study.with_name(what))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
