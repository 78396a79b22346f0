"""The limit on open descriptors of this process (RLIMIT_NOFILE): a connection costs one."""

from __future__ import annotations

import contextlib
import resource

MOST = 65_536
"""More than any number of connections here needs. A limit without end makes programs slow that close every descriptor at their start."""


def raise_limit() -> None:
    """Raises the soft limit, which programs that the daemon starts inherit, as far as the hard one and `MOST` let it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Refused under a filter of system calls, such as that of the unit, which sets the limit itself.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most() -> int:
    """How many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft
