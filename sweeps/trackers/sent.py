"""The record of what was sent to a tracker, in the folder of the study: whole, and written by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pinncore.disk import write_whole

from ..errors import StudyError
from .member_runs import Key

FOLDER: Final = "tracked"  # in the folder of a study


class SentRuns:
    """The trials and replicates that a tracker has, for each place it was ever told to write to.

    A damaged record counts as empty: trackers replace a run that is sent again.
    """

    def __init__(self, study_dir: Path, tracker: str, place: str, *, again: bool = False) -> None:
        self._file, self._place = study_dir / FOLDER / f"{tracker}.json", place
        self._all = _read(self._file)
        self._keys = set() if again else set(_keys(self._all.get(place, {})))

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: Key) -> None:
        """Note that a run was sent; `save` writes it down."""
        self._keys.add(key)

    def save(self) -> None:
        """Write the record. Raises `OSError`."""
        self._all[self._place] = _ranges(self._keys)
        self._file.parent.mkdir(exist_ok=True)
        write_whole(self._file, json.dumps(self._all, indent=1) + "\n")


@contextlib.contextmanager
def only_sender(study_dir: Path, tracker: str) -> Iterator[None]:
    """Let no other process send this study to this tracker meanwhile. Raises `StudyError` where one does."""
    folder = study_dir / FOLDER
    folder.mkdir(exist_ok=True)
    with open(folder / f"{tracker}.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f"another process sends {study_dir} to {tracker} now, as a run of the study does. Wait for its end"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _ranges(keys: Iterable[Key]) -> dict[str, str]:
    """Return keys by replicate, with trials that follow one another as ranges: {"0": "0-15,17"}."""
    by_replicate: dict[int, list[list[int]]] = {}
    for trial, replicate in sorted(keys):
        ranges = by_replicate.setdefault(replicate, [])
        if ranges and ranges[-1][-1] == trial - 1:
            ranges[-1][1:] = [trial]
        else:
            ranges.append([trial])
    return {
        str(replicate): ",".join("-".join(map(str, part)) for part in ranges)
        for replicate, ranges in by_replicate.items()
    }


def _keys(ranges: Mapping[str, str]) -> Iterator[Key]:
    """Yield the keys that `_ranges` wrote, none where somebody else did."""
    with contextlib.suppress(ValueError, AttributeError):
        for replicate, parts in ranges.items():
            for part in filter(None, parts.split(",")):
                first, _, last = part.partition("-")
                yield from ((trial, int(replicate)) for trial in range(int(first), int(last or first) + 1))
