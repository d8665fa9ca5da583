"""The words with which a user calls this command: every command in a hint can be copied and pasted."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

SCRIPT: Final = "pinnsweep"


def own_name() -> str:
    """Return the command as it can be called in the environment of this process.

    It is `pinnsweep` if PATH finds the script of this Python environment, otherwise the path of the script, and if
    there is no script, the interpreter with `-m`. How this process was started does not matter, since jobs are started
    by the interpreter.
    """
    for script in (Path(sys.argv[0]), Path(sys.executable).with_name(SCRIPT)):
        if script.name == SCRIPT and script.is_file():
            on_path = shutil.which(SCRIPT)
            return SCRIPT if on_path and Path(on_path).samefile(script) else shlex.quote(str(script))
    return f"{_python()} -m sweeps.cli"


def _python() -> str:
    """Return the interpreter. Links are not resolved: the target of an environment's link lacks our packages."""
    on_path = shutil.which("python")
    is_own = on_path is not None and Path(on_path).absolute() == Path(sys.executable).with_name("python")
    return "python" if is_own else shlex.quote(sys.executable)
