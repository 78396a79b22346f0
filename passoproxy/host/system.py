"""What this process asks of its system: free ports, durable folders, the limit on descriptors, no core dumps, no orphans."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import resource
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from passoproxy.ports import Clock

Result = TypeVar("Result")

MOST_DESCRIPTORS = 65_536
"""More than any number of connections here needs. A limit without end makes programs slow that close every descriptor at their start."""


def run_loop(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine in a new event loop: uvloop's, or asyncio's where uvloop is not installed, which is slower and otherwise the same."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def raise_descriptor_limit() -> None:
    """Raises the soft limit, which programs that the daemon starts inherit, as far as the hard one and `MOST_DESCRIPTORS` let it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Refused under a filter of system calls, such as that of the unit, which sets the limit itself.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_descriptors() -> int:
    """How many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


_PR_SET_DUMPABLE = 4


def forbid_dumps() -> None:
    """No core dump, no ptrace and no look into `/proc/PID` but by root, until the next program is executed; on Linux, elsewhere no core dump."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    with contextlib.suppress(
        OSError, ValueError
    ):  # a filter of system calls may forbid it; nothing is dumped then either
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without prctl
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def orphans(processes: Path = Path("/proc")) -> set[int]:
    """The children of this process that have ended, and that it has not collected."""
    found, parent = set(), str(os.getpid())
    for each in processes.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just gone
            state, its_parent = each.read_text(errors="replace").rpartition(")")[2].split()[:2]  # proc(5)
            if (state, its_parent) == ("Z", parent):
                found.add(int(each.parent.name))
    return found


async def collect_orphans(clock: Clock, every: float = 5.0) -> None:
    """For process 1 of a container, which inherits what alert commands leave behind: collects those that have ended, until cancelled. Its own
    children the event loop collects at once, so one that is there at two looks is an orphan."""
    before = set[int]()
    while True:
        await clock.sleep(every)
        now = orphans()
        for each in now & before:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(each, os.WNOHANG)  # noqa: ASYNC222 (it does not wait)
        before = now


def free_ports(count: int) -> list[int]:
    """So many different free ports of loopback."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def why_taken(host: str, port: int) -> str:
    """Why no socket can listen there, '' if one can."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, UnicodeError) as error:
        return (os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)).lower()
    return ""


_ESCAPE = re.compile(r"\\([0-7]{3})")
_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def volatile(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Why `folder` is gone with a restart, '' if it is durable or that is unknown."""
    kind = _file_system(folder, mounts)
    if kind in _IN_MEMORY:
        return f"is in memory ({kind})"
    return "is a container's own layer (overlay)" if kind == "overlay" else ""


def in_memory(folder: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether what is written to `folder` takes memory instead of disk."""
    return _file_system(folder, mounts) in _IN_MEMORY


def _file_system(folder: Path, mounts: Path) -> str:
    """The type of the file system that `folder` is on, '' if that is unknown."""
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
