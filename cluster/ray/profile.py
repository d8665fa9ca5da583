"""What a user says of a Ray cluster that is already there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from annotated_types import Ge, MinLen

from ..errors import JobError
from ..profile import Profile


@dataclass(frozen=True, kw_only=True)
class RayProfile(Profile):
    """A Ray cluster: `address` is that of its dashboard, such as http://10.0.0.5:8265.

    `token_file` holds its token; without it, the token is looked up where Ray keeps it. With `carry_code` every job
    brings the packages of this machine's pinnsweep, so they need not be installed there. A job that is stopped has
    `stop_grace_s` seconds to save its work.
    """

    kind: ClassVar[str] = "ray"

    address: Annotated[str, MinLen(1)]
    token_file: str | None = None
    carry_code: bool = False
    stop_grace_s: Annotated[int, Ge(1)] = 90

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise JobError(
                f"address must be that of the cluster's dashboard, such as http://10.0.0.5:8265, got {self.address!r}"
            )
