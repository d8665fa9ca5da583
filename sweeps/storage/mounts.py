"""Mount options of a path: whether its file system enforces locks between machines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

MOUNTINFO = "/proc/self/mountinfo"  # proc(5): ID parent major:minor root point options [tags] - type source options
_LOCAL_OPTIONS = {  # by type: options with which locks are local to a machine
    "nfs": ("nolock", "local_lock=all", "local_lock=flock"),
    "nfs4": ("nolock", "local_lock=all", "local_lock=flock"),
    "lustre": ("localflock", "noflock"),
    "cifs": ("nobrl", "nolock"),
    "smb3": ("nobrl", "nolock"),
}
_LOCAL_TYPES = ("9p", "vboxsf", "prl_fs", "vmhgfs", "fuse.vmhgfs-fuse")
_LOCAL_FUSE = ("sshfs", "s3fs", "gcsfuse", "rclone", "goofys", "mountpoint-s3", "blobfuse", "blobfuse2", "geesefs")


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo; `options` are those of the mount point and of the file system."""

    point: str
    kind: str
    source: str
    options: tuple[str, ...]


def lock_doubts(mountinfo: str, path: str) -> str | None:
    """Return why locks at `path` may fail between machines, and the way out; None where nothing is known.

    `path` is absolute and without links, `mountinfo` the text of /proc/self/mountinfo.
    """
    mount = mount_of(mountinfo, path)
    if mount is None:
        return None
    option = next((option for option in _LOCAL_OPTIONS.get(mount.kind, ()) if option in mount.options), None)
    if option is None and not _is_local(mount):
        return None
    kind = f"{mount.kind} with the option {option}" if option else _name(mount)
    return (
        f"{path} is on the mount {mount.point} ({kind}), which does not enforce locks between machines: two drivers "
        "could write to one study. Put the study on another file system (--root DIR), or its database on a server "
        "that locks by itself (state: postgresql://...)"
    )


def mount_of(mountinfo: str, path: str) -> Mount | None:
    """Return the mount of `path`: the longest mount point above it, and of several equal ones the last."""
    nearest = None
    for mount in filter(None, map(_parsed, mountinfo.splitlines())):
        is_above = PurePosixPath(path).is_relative_to(mount.point)
        if is_above and (nearest is None or len(mount.point) >= len(nearest.point)):
            nearest = mount
    return nearest


def _parsed(line: str) -> Mount | None:
    left, separator, right = line.partition(" - ")
    fields, system = left.split(" "), right.split(" ")
    if not separator or len(fields) < 6 or len(system) < 2:
        return None
    options = (*fields[5].split(","), *(system[2].split(",") if len(system) > 2 else ()))
    return Mount(_unescaped(fields[4]), system[0], _unescaped(system[1]), options)


def _unescaped(text: str) -> str:
    """Return a text with its octal numbers, such as `\\040` for a blank, replaced by characters."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _is_local(mount: Mount) -> bool:
    return mount.kind in _LOCAL_TYPES or (mount.kind.startswith("fuse") and _name(mount) in _LOCAL_FUSE)


def _name(mount: Mount) -> str:
    """Return the type; for plain FUSE mounts the source, which names the program."""
    if mount.kind in ("fuse", "fuseblk"):
        return mount.source
    return mount.kind.removeprefix("fuse.")
