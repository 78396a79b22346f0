"""The kernel's word on who is at the other end of a connection. What follows from it is decided where connections are made and taken."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import struct
from collections.abc import Sequence

_SO_PEERGROUPS = 59
_MOST_GROUPS = 256
"""Groups for which Python's getsockopt has room."""


def peer_groups(sock: socket.socket) -> Sequence[int]:
    """The groups of a unix peer, supplementary ones too, as the kernel noted them when it connected. What the kernel does not tell (more
    than 256, or none of Linux) is what the group database says of the user."""
    user, group = peer_credentials(sock)
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * struct.calcsize("I"))
        return group, *(number for (number,) in struct.iter_unpack("I", raw))
    except OSError as fault:
        if fault.errno not in (errno.ERANGE, errno.ENOPROTOOPT, errno.EINVAL):
            raise
    try:
        return os.getgrouplist(pwd.getpwuid(user).pw_name, group)
    except KeyError:  # a user id without a passwd entry
        return (group,)


def peer_credentials(sock: socket.socket) -> tuple[int, int]:
    """User and primary group of a unix peer, as the kernel noted them when it connected, or began to listen."""
    if hasattr(socket, "SO_PEERCRED"):
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, user, group = struct.unpack("3i", raw)
        return user, group
    # macOS: LOCAL_PEERCRED at level SOL_LOCAL gives struct xucred (version, uid, count, groups).
    raw = sock.getsockopt(0, 1, struct.calcsize("2Ih16I"))
    _, user, _, group, *_ = struct.unpack("2Ih16I", raw)
    return user, group


def peer_process(sock: socket.socket) -> int:
    """The process that listens at the other end of a unix socket; 0 if the kernel does not tell, as of another pid namespace."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)


def tcp_owner(client: object, server: object) -> int | None:
    """The user who holds the client's end of an established TCP connection between two socket names of this machine.

    None where that cannot be told: the client is on another machine, has closed its end (which then reads as root's), or it is no Linux.
    """
    forms = list(zip(_in_tables(client), _in_tables(server), strict=False))
    for name in ("tcp", "tcp6") if forms else ():
        try:
            with open(f"/proc/self/net/{name}", encoding="ascii") as table:
                for line in table:  # proc(5): the two addresses, the state and six fields on the user
                    _, local, remote, state, *_, user = line.split()[:8]
                    if state == _ESTABLISHED and (local, remote) in forms:
                        return int(user)
        except OSError:
            return None
    return None


_ESTABLISHED = "01"
_MAPPED = "0000000000000000FFFF0000"


def _in_tables(name: object) -> list[str]:
    """A TCP socket's name as it may stand in the kernel's tables: an IPv4 address also mapped into IPv6. Nothing for another socket's."""
    if not isinstance(name, tuple):
        return []
    host = str(name[0]).partition("%")[0]
    raw = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    shown = "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", raw)) + f":{name[1]:04X}"
    return [shown, shown if ":" in host else _MAPPED + shown]
