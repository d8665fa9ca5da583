"""Back-end `local`: the command in the background of this machine, whatever becomes of the client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .. import supervisor
from ..errors import ClusterError
from ..folder import FolderExecutor


class LocalExecutor(FolderExecutor):
    """Runs each job under a supervisor of its own that has left the client's session and terminal."""

    def _run(self, folder: Path) -> None:
        # The script by its path, isolated (-I): it must start from any folder, under any PYTHONPATH.
        argv = [sys.executable, "-I", supervisor.__file__, str(folder)]
        started = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if started.returncode != 0:
            raise ClusterError(f"the supervisor of {folder} did not start: {started.stderr.strip()}")
