"""Back-end `local`: the command in the background of this machine, whatever becomes of the client."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from . import supervisor
from .errors import ClusterError
from .folder import JOBS_FOLDER, FolderExecutor
from .profile import Profile

LOCAL: Final = "local"  # the profile that is always there: the background of this machine


@dataclass(frozen=True, kw_only=True)
class LocalProfile(Profile):
    """This machine, with a root, an environment or a command of its own."""

    kind: ClassVar[str] = LOCAL
    joins: ClassVar[bool] = False
    shares_files: ClassVar[bool] = True

    command: tuple[str, ...] = (sys.executable, "-m", "sweeps.cli")

    def executor(self, name: str) -> LocalExecutor:
        return LocalExecutor(Path(self.root).expanduser() / JOBS_FOLDER)


class LocalExecutor(FolderExecutor):
    """Runs each job under a supervisor of its own that has left the client's session and terminal."""

    def _run(self, folder: Path) -> None:
        # The script by its path, isolated (-I): it must start from any folder, under any PYTHONPATH.
        argv = [sys.executable, "-I", supervisor.__file__, str(folder)]
        started = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if started.returncode != 0:
            raise ClusterError(f"the supervisor of {folder} did not start: {started.stderr.strip()}")
