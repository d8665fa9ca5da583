"""The checkpoints of a study: folders in the study's folder, or archives in its object store.

They are kept by pack, and the newest of a pack counts.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import pinncore
from cluster.scratch import scratch_folder

from ..storage.object_store import Remote, at_once
from .home import remote_of

FOLDER: Final = "checkpoints"
INDEX: Final = "pack.json"  # in a checkpoint: the labels of its members
TRAINED: Final = "trained"  # in its values: how far each member is
ENDING: Final = ".tar"
_TORN: Final = (OSError, ValueError, KeyError)  # errors of reading an index

PackState: TypeAlias = "tuple[list[pinncore.MemberState], dict[str, Any]]"  # members, and the values of the pack


class SavedPack(NamedTuple):
    """What the index of a checkpoint says: when it was written, its members, and how far they are, by label."""

    pack: int
    time_ns: int
    labels: list[int]
    trained: dict[str, dict[str, Any]]  # trial, and share of the planned steps


class Checkpoints(Protocol):
    """The store of members that still train."""

    def write(self, pack: int, name: str, states: Sequence[pinncore.MemberState], values: dict[str, Any]) -> None:
        """Write a pack's checkpoint `name`, and remove those with smaller names."""

    def newest(self, pack: int) -> PackState | None:
        """Return the newest checkpoint of a pack, None where there is none. Raises `CheckpointError` for a torn one."""

    def indices(self) -> Iterator[SavedPack]:
        """Yield what the newest checkpoint of each pack holds; those that are torn are left out.

        The worker that trains the members of a torn one reports it.
        """

    def saved_members(self) -> dict[int, int]:
        """Return the pack whose checkpoint holds each member, by label; of several the one written last."""
        return _pack_of(self.indices())

    def trained(self) -> dict[int, list[tuple[int, float]]]:
        """Return by pack the trial of each saved member and the share of its planned steps that it has trained."""
        indices, trained = list(self.indices()), dict[int, list[tuple[int, float]]]()
        newest = _pack_of(indices)
        for index in indices:
            for label, member in index.trained.items():
                if newest.get(int(label)) == index.pack:
                    trained.setdefault(index.pack, []).append((int(member["trial"]), float(member["share"])))
        return dict(sorted(trained.items()))

    def packs(self) -> list[int]:
        """Return the packs that have checkpoints."""

    def remove(self, packs: Iterable[int]) -> None:
        """Remove all checkpoints of some packs."""


def checkpoints_of(study_dir: Path) -> Checkpoints:
    """Return the checkpoints of the study in a folder, or whose home it is."""
    remote = remote_of(study_dir)
    return FolderCheckpoints(study_dir) if remote is None else StoredCheckpoints(remote)


class FolderCheckpoints(Checkpoints):
    """Checkpoints in the study's folder."""

    def __init__(self, study_dir: Path) -> None:
        self._study_dir = study_dir

    def write(self, pack: int, name: str, states: Sequence[pinncore.MemberState], values: dict[str, Any]) -> None:
        folder = checkpoint_folder(self._study_dir, pack)
        pinncore.write_checkpoint(folder / name, states, values=values)
        for older in folder.glob("attempt-*"):
            if older.name < name:  # a superseded worker must not remove checkpoints of its successor
                shutil.rmtree(older, ignore_errors=True)

    def newest(self, pack: int) -> PackState | None:
        folder = max(checkpoint_folder(self._study_dir, pack).glob("attempt-*"), default=None)
        return None if folder is None else pinncore.read_checkpoint(folder)

    def indices(self) -> Iterator[SavedPack]:
        for pack in self.packs():
            folder = max(checkpoint_folder(self._study_dir, pack).glob("attempt-*"), default=None)
            if folder is not None:
                with contextlib.suppress(*_TORN):
                    yield _index(pack, (folder / INDEX).stat().st_mtime_ns, (folder / INDEX).read_bytes())

    def packs(self) -> list[int]:
        return list(_last_by_pack(f"{FOLDER}/{folder.name}" for folder in (self._study_dir / FOLDER).glob("pack-*")))

    def remove(self, packs: Iterable[int]) -> None:
        for pack in packs:
            shutil.rmtree(checkpoint_folder(self._study_dir, pack), ignore_errors=True)


class StoredCheckpoints(Checkpoints):
    """Checkpoints in an object store: one archive each, with the files that a folder would hold, the index first."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def write(self, pack: int, name: str, states: Sequence[pinncore.MemberState], values: dict[str, Any]) -> None:
        folder, stream = _folder(pack), io.BytesIO()
        with scratch_folder("checkpoint") as scratch:
            pinncore.write_checkpoint(scratch / name, states, values=values)
            with tarfile.open(fileobj=stream, mode="w") as archive:
                for file in sorted((scratch / name).iterdir(), key=lambda file: (file.name != INDEX, file.name)):
                    archive.add(file, file.name)
        self._remote.put(f"{folder}/{name}{ENDING}", stream.getvalue())
        self._remote.remove([older for older in self._remote.objects(folder) if older < f"{folder}/{name}"])

    def newest(self, pack: int) -> PackState | None:
        name = max(self._remote.objects(_folder(pack)), default=None)
        if name is None:
            return None
        content = self._remote.get(name)
        with scratch_folder("checkpoint") as scratch:
            try:
                with tarfile.open(fileobj=io.BytesIO(content or b"")) as archive:
                    for member in archive:
                        file = archive.extractfile(member)
                        if file is not None:
                            (scratch / Path(member.name).name).write_bytes(file.read())
            except tarfile.TarError as problem:
                raise pinncore.CheckpointError(f"{self._remote}/{name} cannot be read ({problem})") from None
            return pinncore.read_checkpoint(scratch)

    def indices(self) -> Iterator[SavedPack]:
        stored = self._remote.objects(FOLDER)
        last = _last_by_pack(stored)
        for pack, content in zip(last, at_once(self._index, last.values()), strict=True):
            with contextlib.suppress(*_TORN):
                yield _index(pack, stored[last[pack]].time_ns, content)

    def packs(self) -> list[int]:
        return list(_last_by_pack(self._remote.objects(FOLDER)))

    def remove(self, packs: Iterable[int]) -> None:
        for pack in packs:
            self._remote.remove_folder(_folder(pack))

    def _index(self, name: str) -> bytes:
        """Return the index of an archive, empty where it is torn; only its beginning is read."""
        try:
            with self._remote.reading(name) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
                index = archive.next()
                file = index and archive.extractfile(index)
                return file.read() if file else b""
        except (FileNotFoundError, tarfile.TarError):
            return b""


def _pack_of(indices: Iterable[SavedPack]) -> dict[int, int]:
    """Return the pack of each member, by label; of several the one whose checkpoint was written last."""
    saved = sorted(indices, key=lambda index: (index.time_ns, index.pack))
    return {label: index.pack for index in saved for label in index.labels}


def _folder(pack: int) -> str:
    return checkpoint_folder(Path(), pack).as_posix()


def _last_by_pack(paths: Iterable[str]) -> dict[int, str]:
    """Return the last of the paths checkpoints/pack-NUMBER/... of each pack, by its number."""
    numbers = ((path.split("/")[1].removeprefix("pack-"), path) for path in sorted(paths))
    return {int(number): path for number, path in numbers if number.isdigit()}


def _index(pack: int, time_ns: int, content: bytes) -> SavedPack:
    index = json.loads(content)
    return SavedPack(
        pack, time_ns, [int(label) for label in index["members"]], index.get("values", {}).get(TRAINED, {})
    )


def checkpoint_folder(study_dir: Path, pack: int) -> Path:
    """Return the folder of a pack's checkpoints."""
    return study_dir / FOLDER / f"pack-{pack:06d}"
