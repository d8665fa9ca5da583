"""A study's log: unexpected exceptions with their tracebacks, in a file of the study's folder."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import textwrap
import traceback
from pathlib import Path
from typing import Final

LOG_FILE: Final = "pinnsweep.log"


def log_exception(study_dir: Path, who: str, problem: BaseException) -> str:
    """Log an exception that `who` met; return it in one line that names the log."""
    frames = traceback.extract_tb(problem.__traceback__)[-1:]
    where = f", {Path(frames[0].filename).name} line {frames[0].lineno}" if frames else ""
    write_log(study_dir, who, "".join(traceback.format_exception(problem)))
    return f"unexpected {type(problem).__name__}: {problem}{where}; the traceback is in {study_dir / LOG_FILE}"


def write_log(study_dir: Path, who: str, detail: str) -> None:
    """Append an entry. Raises nothing where the disk cannot be written to: that may be what is logged."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    entry = f"{time} {who}, process {os.getpid()} of {platform.node()}\n{textwrap.indent(detail.rstrip(), '    ')}\n"
    with contextlib.suppress(OSError), open(study_dir / LOG_FILE, "a", encoding="utf-8") as file:
        file.write(entry)
