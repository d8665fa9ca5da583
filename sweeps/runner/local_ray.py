"""What Ray on this machine takes from its surroundings: a folder with short paths, a token, imports of workers."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..errors import StudyError

TOKEN: Final = "RAY_AUTH_TOKEN"
LONGEST_SOCKET: Final = 107  # bytes of a socket's path
# Ray's longest path below its folder; a pid has at most seven digits
_SOCKET: Final = "/session_0000-00-00_00-00-00_000000_0000000/sockets/plasma_store"
_NAME: Final = "ray"  # of Ray's folder in a folder for temporary files
_OTHERS: Final = ("/tmp", "/var/tmp", "/dev/shm")


def session_folder() -> str:
    """Return the folder for Ray's logs and sockets: RAY_TMPDIR, or the first short one that can be written to.

    Raises `StudyError` where there is none.
    """
    chosen = os.environ.get("RAY_TMPDIR")
    for folder in [chosen] if chosen else dict.fromkeys([_temporary(), *_OTHERS]):
        if (path := Path(folder, _NAME).absolute()) and _fits(path) and _is_writable(path):
            return str(path)
    variable, value = ("RAY_TMPDIR", chosen) if chosen else ("TMPDIR", os.environ.get("TMPDIR", ""))
    longest = LONGEST_SOCKET - len(f"/{_NAME}{_SOCKET}")
    raise StudyError(
        f"{variable}: must be a folder that can be written to, whose path has at most {longest} bytes because Ray puts "
        f"sockets below it, got {value!r}"
    )


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # neither TMPDIR nor another usual folder can be written to
        return _OTHERS[0]


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder)) + len(_SOCKET) <= LONGEST_SOCKET


def _is_writable(folder: Path) -> bool:
    """Return whether a folder can be written to, or made."""
    try:
        with tempfile.TemporaryFile(dir=next(path for path in (folder, *folder.parents) if path.exists())):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """Put a new token for a cluster of this process into the environment, unless the user gave one there.

    Ray's own way is to write it into the home, which need not exist.
    """
    if os.environ.get(TOKEN, "").strip():
        yield
        return
    os.environ[TOKEN] = secrets.token_hex(32)
    _forget_token()
    try:
        yield
    finally:
        del os.environ[TOKEN]
        _forget_token()


def _forget_token() -> None:
    """Make Ray, if it is imported, read the token again."""
    if "ray" in sys.modules:
        with contextlib.suppress(AttributeError):  # private to Ray
            sys.modules["ray"]._raylet.AuthenticationTokenLoader.instance().reset_cache()


def job_config() -> Any:
    """Return a configuration of the driver's job by which workers import nothing from the current folder.

    Ray would let them look there, and beside the script that was started, before all else. Only where this code itself
    lies there it is found there.
    """
    from ray.job_config import JobConfig

    class OwnCode(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True  # Ray then adds neither folder

    code = Path(__file__).parents[2]
    lies_there = code in (Path.cwd(), Path(sys.argv[0]).resolve().parent)
    return OwnCode(_py_driver_sys_path=[str(code)] if lies_there else [])
