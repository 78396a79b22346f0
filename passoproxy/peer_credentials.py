"""The kernel's word on who is at the other end of a unix socket. What follows from it is decided where connections are made and taken."""

from __future__ import annotations

import socket
import struct


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
