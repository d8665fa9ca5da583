"""Back-end `local`: commands in the background of this machine that outlive the client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .. import supervisor
from ..errors import ClusterError
from ..folder import FolderExecutor


class LocalExecutor(FolderExecutor):
    """An executor that runs each job under its own supervisor, outside the client's session and terminal."""

    def _run(self, folder: Path) -> None:
        # By path and isolated (-I), so that it starts from any folder and under any PYTHONPATH.
        argv = [sys.executable, "-I", supervisor.__file__, str(folder)]
        launch = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if launch.returncode != 0:
            raise ClusterError(f"the supervisor of {folder} did not start: {launch.stderr.strip()}")
