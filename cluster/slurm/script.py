"""The batch script of a SLURM job: it starts Ray on the nodes, runs the command on the first, and records the end.

The script keeps everything in the job's folder: the ids that SLURM gave it, Ray's log, and `ended.json`, which it
writes last, as the supervisor of the local back-end does.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ..errors import JobError
from ..supervisor import LOG

BODY: Final = Path(__file__).with_name("job.sh")


def batch_script(
    options: Sequence[str],
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    folder: Path,
    start: Path,
    setup: Sequence[str],
    scratch: str,
) -> str:
    """Return the script of a job whose folder is `folder` and whose command starts in `start`.

    Raises `JobError` for options on several lines and for variables that a shell cannot hold.
    """
    log = str(folder / LOG).replace("%", "%%")  # SLURM expands %j and the like
    options = [*options, f"--output={shlex.quote(log)}", "--open-mode=append"]
    for text in (*options, *setup):
        if "\n" in text:
            raise JobError(f"options and setup lines of SLURM jobs must be single lines, got {text!r}")
    for name in environment:
        if not (name.isascii() and name.isidentifier()):
            raise JobError(f"variables of SLURM jobs must have names of letters, digits and '_', got {name!r}")
    here = Path(sys.executable).parent  # without setup lines, the programs of the submitting environment run
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            f"folder={shlex.quote(str(folder))}",
            f"start={shlex.quote(str(start))}",
            f"scratch={shlex.quote(scratch)}",
            f"job=({shlex.join(argv)})",
            "prepare() {  # runs on every node before anything else",
            f"PATH={shlex.quote(str(here))}:$PATH",
            *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
            *(f"{line} || return" for line in setup),
            "}",
            BODY.read_text(),
        ]
    )
