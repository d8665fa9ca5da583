"""Folders for what is needed only as long as this process works, as `cluster` makes them for its own use too."""

from __future__ import annotations

from cluster.scratch import remove_scratch as remove_scratch
from cluster.scratch import scratch_folder as scratch_folder
