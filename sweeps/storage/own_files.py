"""Which Parquet files belong to a study: each names, in its metadata, the identity of the study and itself.

A file that somebody copied into a table's folder, from another program, another study or this one under another name,
is not read. The identity is drawn when the first file is written, and stays with the study wherever it is copied to.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pinncore.disk import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

IDENTITY: Final = "identity"  # file in the folder of a study, and object in its store
PROBLEM_FILE: Final = "problem.json"  # another: the problem, which `stored_problem` reads
_WHOLE: Final = re.compile(r"[0-9a-f]{32}\n")
_STUDY, _FILE = b"pinnsweep_study", b"pinnsweep_file"  # in the metadata of a file


def identity_in(study_dir: Path) -> str:
    """Return the identity of the study in a folder, empty where it has none yet, or its file is torn."""
    try:
        text = (study_dir / IDENTITY).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return text.rstrip("\n") if _WHOLE.fullmatch(text) else ""


def draw_identity(study_dir: Path) -> str:
    """Write and return a new identity of the study in a folder."""
    identity = uuid.uuid4().hex
    study_dir.mkdir(parents=True, exist_ok=True)
    write_whole(study_dir / IDENTITY, f"{identity}\n")
    return identity


def marked(rows: pa.Table, identity: str, name: str) -> pa.Table:
    """Return the rows of a study's file; `name` is TABLE/FILE without its ending."""
    return rows.replace_schema_metadata({**(rows.schema.metadata or {}), _STUDY: identity, _FILE: name})


def is_own(schema: pa.Schema, identity: str, name: str) -> bool:
    """Return whether a file of this schema and name is one of a study's own."""
    metadata = schema.metadata or {}
    return bool(identity) and (metadata.get(_STUDY), metadata.get(_FILE)) == (identity.encode(), name.encode())


def unmarked(schema: pa.Schema) -> pa.Schema:
    """Return the schema of a file without what differs between the files of a table."""
    metadata = schema.metadata or {}
    return schema.with_metadata({key: value for key, value in metadata.items() if key not in (_STUDY, _FILE)})
