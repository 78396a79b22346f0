"""The route table: which policy a request lives under (contract §3). What the policy leads to is judged in `core.cache`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from passoproxy.core.cache.policy import CacheMode, RoutePolicy, for_cookies
from passoproxy.core.http.messages import RequestHead
from passoproxy.core.http.paths import compile_pattern, decoded_once

UNLISTED = RoutePolicy(stores=False)
"""What a request lives under that no route matches, in mode `routes`: it is forwarded and never stored."""

BY_RFC_ALONE = RoutePolicy()
"""The same in mode `http`: RFC 9111 judges."""


class RouteTable:
    """Routes in their order; the first whose pattern matches the once-decoded path wins, whatever the method.

    `methods` does not take part in the matching: it says which methods may be stored, so that an unsafe request finds the route whose
    `purges` it sets off, and a later route cannot make a write of an earlier one look like a read. Immutable; a reload makes a new one.
    """

    def __init__(self, policies: Iterable[RoutePolicy], mode: CacheMode) -> None:
        """Raises ValueError where a pattern does not begin with a slash."""
        self.policies = tuple(policies)
        """As they were given, in their order."""
        self._routes = [(compile_pattern(policy.match).matches, _under(policy, mode)) for policy in self.policies]
        self._else = BY_RFC_ALONE if mode.http else UNLISTED

    def policy_of(self, head: RequestHead) -> RoutePolicy:
        """The policy for a request: that of its path, as it is for a cookie where one is passed on."""
        policy = self.find(head.path)
        return for_cookies(policy) if policy.pass_cookies and "Cookie" in head.fields else policy

    def find(self, path: str) -> RoutePolicy:
        """The policy for a path (without query, as on the wire)."""
        decoded = decoded_once(path)
        return next((policy for matches, policy in self._routes if matches(decoded)), self._else)


def _under(policy: RoutePolicy, mode: CacheMode) -> RoutePolicy:
    # In mode `routes` a route without ttl stores nothing, since nothing says how long an answer holds.
    return policy if mode.http or policy.ttl is not None else replace(policy, stores=False)
