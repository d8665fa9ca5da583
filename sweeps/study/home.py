"""The home of a study whose root is an object store: the folder on this machine that holds its lock.

Tables are written there and published in the store. From the store another machine can build its own home, where both
reach the database. Where the database is a file, the home is beside it; otherwise it is in the cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from ..errors import StudyError
from ..storage import database, lock
from ..storage.object_store import MANIFEST, MERGED_FOLDER, Remote, Stored, replace, uri_of
from ..storage.own_files import IDENTITY, PROBLEM_FILE
from .study_file import SPEC_FILE, identified, read_text, whole_text

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec
    from ..storage.tables import StudyTables

DEFAULT_ROOT: Final = "runs"  # folder of studies where the user names none
FILE: Final = "object_store"  # in a home: the URI of the study in its store
OWNER: Final = "owner"  # in the store: the word of the lock of the home that publishes there
WEIGHTS: Final = "initial_weights"  # folder of files that workers need
_OF_FLUSHES: Final = ("curves", "fields", "weights")  # tables whose files count only with their trials


def remote_of(study_dir: Path) -> Remote | None:
    """Return the store of the study whose home this folder is; None for a folder that holds the study itself."""
    try:
        return Remote((study_dir / FILE).read_text(encoding="utf-8").strip())
    except (FileNotFoundError, NotADirectoryError):
        return None


def root_of(study_dir: Path) -> Path:
    """Return the root of the study in a folder, or whose home it is."""
    remote = remote_of(study_dir)
    return study_dir.parent if remote is None else Path(remote.uri.rpartition("/")[0])


def open_home(root: str, spec: StudySpec) -> Path:
    """Return the home of a study in an object store, created if necessary.

    Raises `StudyError` where the study has no database outside the store, where the database is on another machine, and
    where the store cannot be used.
    """
    remote = Remote(f"{root}/{spec.study}")
    if spec.state is None:
        raise StudyError(
            f"--root: an object store cannot hold a study's database, got {root}. Choose a place for it: --state DIR "
            "on this machine, or --state postgresql://HOST/DATABASE for several machines"
        )
    home = _home(remote, spec.state)
    other = remote_of(home)
    is_used = home.is_dir() and any(not path.name.startswith(".") for path in home.iterdir())
    if other != remote and (other is not None or is_used):
        use = f"the home of {other}" if other else "there already"
        raise StudyError(f"{home} is {use}, so it cannot be the home of {remote}. Choose another --state or name")
    remote.check()
    file = database.database(home, spec.state).file
    is_lost = file is not None and not file.exists() and not (home / SPEC_FILE).exists()
    if is_lost and remote.get(SPEC_FILE) is not None:
        raise StudyError(
            f"{remote} holds a study whose database is not in {spec.state}. Use the --state it was started with, on "
            f"the same machine, or another name (--set study={spec.study}-2)"
        )
    _furnish(home, remote, is_shared=_is_server(spec.state))
    return home


def local(place: Path) -> Path:
    """Return the folder of a study on this machine: its home where `place` is in an object store, else `place` itself.

    Raises `StudyError` where there is no such study, or its database is on another machine.
    """
    uri = uri_of(place)
    if uri is None:
        return place
    remote = Remote(uri)
    text = read_text(remote)
    where = identified(text, Path(remote.name))[1]
    if where.is_shared:
        home = _home(remote, database.POSTGRESQL)
        _furnish(home, remote, is_shared=True)
        return home
    assert where.file is not None  # it is a file unless it is a server
    home = where.file.with_suffix("")
    if remote_of(home) != remote or not where.file.is_file():
        raise StudyError(
            f"{remote}: its database is {where.file} on the machine that runs it, and is not here. Run this command "
            "there; query, top and report need only the store"
        )
    return home


def is_study(place: Path) -> bool:
    """Return whether a folder, or the URI of an object store, holds a study."""
    uri = uri_of(place)
    return (place / SPEC_FILE).is_file() if uri is None else Remote(uri).get(SPEC_FILE) is not None


def studies_in(root: Path) -> list[Path]:
    """Return the places of all studies in a root, sorted by name."""
    uri = uri_of(root)
    if uri is None:
        return sorted(path.parent for path in root.glob(f"*/{SPEC_FILE}"))
    return [root / name for name in Remote(uri).folders() if is_study(root / name)]


def refresh(study_dir: Path) -> None:
    """Copy into a home the study file that another machine with the same database may have changed."""
    remote = remote_of(study_dir)
    if remote is not None and identified(whole_text(study_dir), study_dir)[1].is_shared:
        _furnish(study_dir, remote, is_shared=True)


def worker_home(uri: str) -> Path:
    """Return a folder with the initial weights, for the workers of a study on a machine other than its driver's."""
    remote = Remote(uri)
    folder = _cache(remote) / "workers" / remote.name
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / name for name in remote.objects(WEIGHTS)}
    remote.pull({name: file for name, file in files.items() if not file.is_file()})
    _write(folder / FILE, f"{uri}\n")
    return folder


def reconcile(study_dir: Path, remote: Remote, tables: StudyTables, word: str) -> None:
    """Copy files between a home and its store until both have all published files; where they differ the store counts.

    `word` is that of the home's lock. Another machine may have published files since this home was last used.
    """
    remote.put(OWNER, word.encode())
    for name in (PROBLEM_FILE, SPEC_FILE):
        remote.put(name, study_dir / name)
    _settle_identity(study_dir, remote)
    stored, flushes = remote.objects(), set(tables.flushes())
    stored_flushes = {PurePosixPath(name).stem for name in stored if name.startswith("trials/")}

    def is_wanted(name: str) -> bool:
        table, flush = PurePosixPath(name).parts[0], PurePosixPath(name).stem
        if table in (*_OF_FLUSHES, "trials"):
            # a file of a flush that was never complete here may differ from the store's of that name
            return flush in stored_flushes and (flush not in flushes or _differs(study_dir / name, stored[name]))
        return table in ("events", WEIGHTS) and _differs(study_dir / name, stored[name])

    _trials_last(remote.pull, {name: study_dir / name for name in stored if is_wanted(name)})
    identity, files = tables.identity(), dict[str, Path]()
    for table in (*_OF_FLUSHES, "trials", "events"):
        missing = [file for file in tables.files(table) if f"{table}/{file.name}" not in stored]
        files |= {f"{table}/{file.name}": file for file in tables.own(table, missing, identity)}
    _trials_last(remote.push, files)


def _settle_identity(study_dir: Path, remote: Remote) -> None:
    """Give home and store the same identity, that of the store where it has one."""
    content, file = remote.get(IDENTITY), study_dir / IDENTITY
    if content is not None:
        replace(file, content)
    elif file.exists():
        remote.put(IDENTITY, file)


def _trials_last(transfer: Callable[[Mapping[str, Path]], None], files: Mapping[str, Path]) -> None:
    """Transfer files, those of trials last, so that a transfer that is cut short publishes nothing."""
    for of_trials in (False, True):
        transfer({name: file for name, file in files.items() if name.startswith("trials/") is of_trials})


def _differs(file: Path, stored: Stored) -> bool:
    return not file.is_file() or file.stat().st_size != stored.bytes


def check_owner(remote: Remote, word: str) -> None:
    """Raise `StudyError` where the study in the store no longer belongs to the home whose lock has this word."""
    if remote.get(OWNER) != word.encode():
        raise StudyError(
            f"{remote} was taken over by another machine while this study was running. Nothing more is recorded from "
            "here. Let only one driver run it, then run the study again: it continues where it stopped"
        )


def push_weights(study_dir: Path, remote: Remote) -> None:
    """Publish the study's initial weights, for workers on other machines."""
    stored = remote.objects(WEIGHTS)
    files = {f"{WEIGHTS}/{file.name}": file for file in (study_dir / WEIGHTS).glob("*.npz")}
    remote.push({name: file for name, file in files.items() if name not in stored})


def remove_stored(remote: Remote) -> None:
    """Remove a study from its store, the study file last: until then it still counts as a study."""
    for folder in ("checkpoints", WEIGHTS, MERGED_FOLDER, *_OF_FLUSHES, "events", "trials"):
        remote.remove_folder(folder)
    remote.remove([OWNER, MANIFEST, IDENTITY, PROBLEM_FILE, SPEC_FILE])


# ---- where homes lie -----------------------------------------------------------------------------------------------


def _home(remote: Remote, where: str) -> Path:
    return (_cache(remote) if _is_server(where) else Path(where)) / remote.name


def _cache(remote: Remote) -> Path:
    """Return the folder for what this machine keeps of a store; raise `StudyError` where it cannot be made."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = base / "pinnsweep" / hashlib.sha256(remote.uri.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StudyError(
            f"{remote} needs a folder on this machine, and {folder} cannot be made ({problem.strerror}). Set "
            "XDG_CACHE_HOME to a folder that can be written to"
        ) from None
    return folder


def _is_server(where: str) -> bool:
    return where.startswith(database.POSTGRESQL)


def _furnish(home: Path, remote: Remote, *, is_shared: bool) -> None:
    """Prepare a home for the study to be opened: write the URI of the store, the problem and the study file.

    Where several machines share the database and the study is not running here, the files in the store count, as
    another machine may have changed them.
    """
    home.mkdir(parents=True, exist_ok=True)
    _write(home / FILE, f"{remote}\n")
    may_differ = is_shared and lock.held_by(home) is None
    for name in (PROBLEM_FILE, SPEC_FILE):
        content = remote.get(name)
        if content is not None and (may_differ or not (home / name).exists()):
            _write(home / name, content.decode("utf-8"))


def _write(file: Path, text: str) -> None:
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        replace(file, text.encode())
