"""Who is at the other end of a connection, and whether such a peer may connect (contract §3 `allowed_peers`, `unix_peers`)."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from passoproxy.core.peers import NetworkRule, UserRule


@dataclass(frozen=True, slots=True)
class Peer:
    """`address`: IP text, or `unix:UID`."""

    address: str
    allowed: bool = True


PeerCheck = Callable[[asyncio.BaseTransport], Peer]
"""Asked before a byte of a connection is read."""


def network_check(rule: NetworkRule) -> PeerCheck:
    """Checks TCP peers by their address."""

    def check(transport: asyncio.BaseTransport) -> Peer:
        name = transport.get_extra_info("peername")
        address = str(name[0]) if name else ""
        return Peer(address, rule.allows(address))

    return check


def user_check(rule: UserRule) -> PeerCheck:
    """Checks unix peers by what the kernel says of them."""

    def check(transport: asyncio.BaseTransport) -> Peer:
        user, group = peer_credentials(transport.get_extra_info("socket"))
        return Peer(f"unix:{user}", rule.allows(user, _groups_of(user, group) if rule.groups else (group,)))

    return check


def user_rule(unix_peers: Sequence[str], own_user: int | None = None) -> UserRule:
    """The rule that names of users and groups mean: they, the daemon's own user and root; numbers count as users.

    Raises ValueError naming an entry that is neither.
    """
    users = {0, os.getuid() if own_user is None else own_user}
    groups: set[int] = set()
    for name in unix_peers:
        found = _user_number(name)
        group = _group_number(name)
        if found is None and group is None:
            raise ValueError(f"server.unix_peers: {name!r} is neither a user nor a group of this machine")
        users.update(() if found is None else (found,))
        groups.update(() if group is None else (group,))
    return UserRule(frozenset(users), frozenset(groups))


def peer_credentials(sock: socket.socket) -> tuple[int, int]:
    """User and primary group of a unix peer, as the kernel noted them when it connected."""
    if hasattr(socket, "SO_PEERCRED"):
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, user, group = struct.unpack("3i", raw)
        return user, group
    # macOS: LOCAL_PEERCRED at level SOL_LOCAL gives struct xucred (version, uid, count, groups).
    raw = sock.getsockopt(0, 1, struct.calcsize("2Ih16I"))
    _, user, _, group, *_ = struct.unpack("2Ih16I", raw)
    return user, group


def _user_number(name: str) -> int | None:
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _group_number(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _groups_of(user: int, group: int) -> Sequence[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(user).pw_name, group)
    except KeyError:  # a user id without a passwd entry
        return (group,)
