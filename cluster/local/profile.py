"""The profile of this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar, Final

from ..profile import Profile

LOCAL: Final = "local"  # the built-in profile of this machine's background


@dataclass(frozen=True, kw_only=True)
class LocalProfile(Profile):
    """This machine, with its own root, environment or command."""

    kind: ClassVar[str] = LOCAL
    joins: ClassVar[bool] = False
    shares_files: ClassVar[bool] = True

    command: tuple[str, ...] = (sys.executable, "-P", "-m", "sweeps.cli")  # -P: not from the current folder
