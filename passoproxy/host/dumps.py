"""Keeps what a process has in memory to itself and root: tokens and secrets are in no core dump, and no other process of the user reads them."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys

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
