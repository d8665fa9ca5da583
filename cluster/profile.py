"""The base of every back-end's profile, which describes a place where jobs run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import MinLen


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A place where jobs run, as its section of `clusters.yaml` describes it.

    `root` is the folder, or `s3://` or `gs://` address, of the studies as the machines there see it. `command` holds
    the words that start pinnsweep there. `environment` is set for every job.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}  # for whoever reads profiles with pydantic
    kind: ClassVar[str]
    joins: ClassVar[bool] = True  # whether a job has to join a Ray cluster there
    shares_files: ClassVar[bool] = False  # whether paths of this machine are valid there

    root: Annotated[str, MinLen(1)]
    command: Annotated[tuple[str, ...], MinLen(1)] = ("pinnsweep",)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
