"""Which peers may connect."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from passoproxy.core.access import NetworkRule, UserRule

RULE = NetworkRule(tuple(map(ip_network, ("10.0.0.0/8", "192.168.0.7", "fd00::/8"))))


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "192.168.0.7", "fd00::1", "fd00::1%eth0"])
def test_listed_networks(address: str) -> None:
    assert RULE.allows(address)


@pytest.mark.parametrize("address", ["11.1.2.3", "192.168.0.8", "::1", "::ffff:11.1.2.3", "", "localhost"])
def test_other_addresses(address: str) -> None:
    assert not RULE.allows(address)


def test_no_rule_lets_anyone_in() -> None:
    assert NetworkRule().allows("8.8.8.8")


@pytest.mark.parametrize(("user", "groups", "allowed"), [(5, (), True), (6, (7,), True), (6, (8,), False)])
def test_users_and_groups(user: int, groups: tuple[int, ...], allowed: bool) -> None:
    assert UserRule(frozenset({5}), frozenset({7})).allows(user, groups) is allowed
