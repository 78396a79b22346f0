"""Ports for what runs for a while beside everything else: the demo, a rehearsal.

Whether a folder outlives the machine or the container: a pair on tmpfs or in a container's own layer does not.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """So many different ports of loopback on which nobody listens now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


_ESCAPE = re.compile(r"\\([0-7]{3})")
_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def volatile(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Why `folder` is gone with a restart, '' where it is durable or nobody can tell."""
    kind = _file_system(folder, mounts)
    if kind in _IN_MEMORY:
        return f"is in memory ({kind})"
    return "is a container's own layer (overlay)" if kind == "overlay" else ""


def in_memory(folder: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether what is written to `folder` takes memory instead of disk."""
    return _file_system(folder, mounts) in _IN_MEMORY


def _file_system(folder: Path, mounts: Path) -> str:
    """The type of the file system that `folder` is on, '' where nobody can tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
        place = folder.resolve()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        parts = fields.split()
        if len(parts) < 5 or not rest:
            continue
        # proc(5): the mount point is the fifth field, blanks and backslashes in it written as octal escapes
        point = Path(_ESCAPE.sub(lambda found: chr(int(found[1], 8)), parts[4]))
        if (place == point or point in place.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), rest.split()[0]
    return kind
