"""What a user says of this machine as a place where jobs run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar, Final

from ..profile import Profile

LOCAL: Final = "local"  # the profile that is always there: the background of this machine


@dataclass(frozen=True, kw_only=True)
class LocalProfile(Profile):
    """This machine, with a root, an environment or a command of its own."""

    kind: ClassVar[str] = LOCAL
    joins: ClassVar[bool] = False
    shares_files: ClassVar[bool] = True

    command: tuple[str, ...] = (sys.executable, "-m", "sweeps.cli")
