"""Which peers may connect at all: addresses and networks for TCP (contract §3 `allowed_peers`), users and groups for unix sockets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """Addresses and networks that may connect; none listed means any."""

    networks: tuple[_Network, ...] = ()

    def allows(self, address: str) -> bool:
        """Whether the peer `address` (IP text, a zone allowed) may connect. An IPv4 address mapped into IPv6 is the IPv4 address."""
        if not self.networks:
            return True
        try:
            peer = _unmapped(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        return any(peer in network for network in self.networks)


def holder_of(address: str) -> str:
    """Who holds the connections of `address` (IP text, `unix:UID`, or '' where it is not known): an IPv4 address, an IPv6 network of 64
    bits, which one customer has whole, or '' on this machine, where one address is many clients."""
    try:
        peer = _unmapped(ip_address(address.partition("%")[0]))
    except ValueError:
        return ""
    if peer.is_loopback:
        return ""
    return str(peer) if isinstance(peer, IPv4Address) else str(ip_network((peer, 64), strict=False))


def network_rule(entries: Iterable[str]) -> NetworkRule:
    """The rule that a list of addresses and networks means. Raises ValueError naming the entry that is neither."""
    return NetworkRule(tuple(_network(entry) for entry in entries))


@dataclass(frozen=True, slots=True)
class UserRule:
    """Users and groups (numbers) that may connect to a unix socket."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    def allows(self, user: int, groups: Iterable[int]) -> bool:
        """Whether a peer of this user, who is in these groups, may connect."""
        return user in self.users or not self.groups.isdisjoint(groups)


def _network(entry: str) -> _Network:
    try:
        return ip_network(entry, strict=False)
    except ValueError as fault:
        raise ValueError(f"server.allowed_peers: {entry!r} is neither an address nor a network") from fault


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
