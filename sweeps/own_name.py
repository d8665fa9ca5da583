"""What a user has to type to call this command again: every hint can be pasted."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

SCRIPT: Final = "pinnsweep"


def own_name() -> str:
    """The command as it can be called in the surroundings of this process.

    That is `pinnsweep` where PATH leads to this environment's, else the path of that script, and of the interpreter
    where there is none. How this process itself was started is no matter: a job is started by its interpreter.
    """
    for script in (Path(sys.argv[0]), Path(sys.executable).with_name(SCRIPT)):
        if script.name == SCRIPT and script.is_file():
            found = shutil.which(SCRIPT)
            return SCRIPT if found and Path(found).samefile(script) else shlex.quote(str(script))
    return f"{_python()} -m sweeps.cli"


def _python() -> str:
    """The interpreter; of an environment it is a link to another one, which would not find our packages."""
    found = shutil.which("python")
    is_own = found is not None and Path(found).absolute() == Path(sys.executable).with_name("python")
    return "python" if is_own else shlex.quote(sys.executable)
