"""Checkpoints of members in training: one folder each, with a safetensors and a JSON file per member, no pickle.

A folder is complete or missing: it is written under another name, every file is synced, then it is renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .disk import sync_folder, write_synced
from .errors import CheckpointError

VERSION = 4  # of the names in the states


@dataclass(frozen=True)
class MemberState:
    """Everything a member needs to continue as if it had never stopped; arrays at the member's own shape, unpadded."""

    label: int
    values: dict[str, Any]
    tensors: dict[str, Tensor]


def write_checkpoint(folder: Path, states: Sequence[MemberState], *, values: dict[str, Any] | None = None) -> None:
    """Write a new checkpoint folder with a state for each member and `values` of the pack as a whole."""
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for state in states:
        payload = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()})
        digest = hashlib.sha256(payload).hexdigest()
        header = {"version": VERSION, "label": state.label, "sha256": digest, "values": state.values}
        write_synced(temporary / f"member-{state.label:06d}.safetensors", payload)
        write_synced(temporary / f"member-{state.label:06d}.json", json.dumps(header).encode())
    pack = {"version": VERSION, "members": [state.label for state in states], "values": values or {}}
    write_synced(temporary / "pack.json", json.dumps(pack).encode())
    sync_folder(temporary)
    os.rename(temporary, folder)
    sync_folder(folder.parent)


def read_checkpoint(folder: Path) -> tuple[list[MemberState], dict[str, Any]]:
    """Return the members' states and the pack's values.

    Raises `CheckpointError` for a file that is missing, damaged or of another version.
    """
    pack = _read_json(folder / "pack.json", "members", "values")
    states = []
    for label in pack["members"]:
        header = _read_json(folder / f"member-{label:06d}.json", "sha256", "values")
        file = folder / f"member-{label:06d}.safetensors"
        try:
            payload = file.read_bytes()
        except OSError as problem:
            raise CheckpointError(f"{file} cannot be read ({problem.strerror}); {_advice(folder)}") from None
        if hashlib.sha256(payload).hexdigest() != header["sha256"]:
            raise CheckpointError(f"{file} is damaged: its hash differs from that in its JSON; {_advice(folder)}")
        try:
            states.append(MemberState(label, header["values"], load(payload)))
        except SafetensorError as problem:
            raise CheckpointError(f"{file} is not a safetensors file ({problem})") from None
    return states, pack["values"]


def _read_json(file: Path, *keys: str) -> dict[str, Any]:
    try:
        header = json.loads(file.read_text())
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{file} cannot be read ({problem}); {_advice(file.parent)}") from None
    version = header.get("version") if isinstance(header, dict) else None
    if version != VERSION:
        raise CheckpointError(f"{file} is of version {version}, but this code reads version {VERSION}")
    missing = [key for key in keys if key not in header]
    if missing:
        raise CheckpointError(f"{file} lacks {', '.join(missing)}; {_advice(file.parent)}")
    return dict(header)


def _advice(folder: Path) -> str:
    return f"remove {folder} to train its members from the start"
