"""Reading the tables of a study in an object store.

Folders cannot be swapped there, so the files of flushes stay, and a manifest names the files they were merged into.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from pinncore.problems.source import ProblemSource

from . import own_files
from .object_store import MANIFEST, Remote, at_once
from .schema import TABLES
from .stored_problem import read_problem
from .tables import Listing, Snapshot, StudyTables


@dataclass(frozen=True)
class Merged:
    """A merged file: its name below the study, its number of rows, the names of the flushes in it."""

    file: str
    rows: int
    flushes: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """The merged files of a study's tables; each manifest covers the flushes of the one before it."""

    generation: int = 0
    tables: Mapping[str, Sequence[Merged]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the manifest as JSON text, as it is stored."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_manifest(remote: Remote) -> Manifest:
    """Return the manifest of a study, an empty one where nothing was compacted."""
    content = remote.get(MANIFEST)
    if content is None:
        return Manifest()
    record = json.loads(content)
    tables = {
        name: [Merged(part["file"], part["rows"], tuple(part["flushes"])) for part in parts]
        for name, parts in record["tables"].items()
    }
    return Manifest(record["generation"], tables)


class StoredTables(StudyTables):
    """The tables of a study in an object store."""

    def __init__(self, remote: Remote) -> None:
        super().__init__(Path(remote.path("")))
        self._remote = remote

    @functools.cached_property
    def source(self) -> ProblemSource:
        """Return the study's problem. Raises `StudyError` where it cannot be read."""
        return read_problem(self._remote)

    @property
    def _filesystem(self) -> Any:
        return self._remote.filesystem

    def snapshot(self, tables: Sequence[str] = TABLES) -> Snapshot:
        """Return the published files of some tables at one moment."""
        manifest = read_manifest(self._remote)  # first, so that the listing has all flushes it names
        names = list(dict.fromkeys(["trials", *tables]))
        listed = dict(zip(names, at_once(lambda name: self._listing(name).files, names), strict=True))
        published = {path.stem for path in listed["trials"]}
        files = {}
        for name in tables:
            parts = manifest.tables.get(name, ())
            merged = {flush for part in parts for flush in part.flushes}
            complete = (path for path in listed[name] if name == "events" or path.stem in published)
            files[name] = (
                *(Path(self._remote.path(part.file)) for part in parts),
                *(path for path in complete if path.stem not in merged),
            )
        return Snapshot(dict.fromkeys(tables, manifest.generation), files, self.identity())

    def identity(self) -> str:
        """Return what the study's own files name it by, empty before the first is written."""
        return (self._remote.get(own_files.IDENTITY) or b"").decode().strip()

    def has_moved(self, snapshot: Snapshot) -> bool:
        """Return whether a compaction has removed files of a snapshot since."""
        return any(number != read_manifest(self._remote).generation for number in set(snapshot.generations.values()))

    def _listing(self, table: str) -> Listing:
        names = sorted(name for name in self._remote.objects(table) if PurePosixPath(name).suffix == ".parquet")
        return Listing(0, tuple(Path(self._remote.path(name)) for name in names))

    def _footers(self, paths: Iterable[Path]) -> list[pa.Schema]:
        return at_once(self._footer, paths)

    @contextlib.contextmanager
    def _damage_named(self, path: Path) -> Iterator[None]:
        with super()._damage_named(path), self._remote.explained(reads_files=True):
            yield


def tables_of(place: Path | Remote) -> StudyTables:
    """Return the tables of a study in a folder or an object store."""
    if isinstance(place, Remote):
        return StoredTables(place)
    return StudyTables(place)
