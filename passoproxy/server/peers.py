"""Who is at the other end of a connection, and whether such a peer may connect (contract §3 `allowed_peers`, `unix_peers`)."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from passoproxy.core.peers import NetworkRule, UserRule
from passoproxy.peer_credentials import peer_credentials, peer_groups


@dataclass(frozen=True, slots=True)
class Peer:
    """`address`: IP text, or `unix:UID`."""

    address: str
    allowed: bool = True


PeerCheck = Callable[[socket.socket, str], Peer]
"""Asked when a connection was taken, with the address that came with it ('' on unix sockets), before a byte is read or a handshake begins."""


def network_check(rule: NetworkRule) -> PeerCheck:
    """Checks TCP peers by their address."""

    def check(sock: socket.socket, address: str) -> Peer:
        return Peer(address, rule.allows(address))

    return check


def user_check(rule: UserRule) -> PeerCheck:
    """Checks unix peers by what the kernel says of them."""

    def check(sock: socket.socket, address: str) -> Peer:
        user, _ = peer_credentials(sock)
        return Peer(f"unix:{user}", rule.allows(user, peer_groups(sock) if rule.groups else ()))

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
