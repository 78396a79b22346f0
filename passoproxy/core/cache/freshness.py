"""Freshness and age, the arithmetic of RFC 9111 §4.2. What follows from it (serve, ask, refuse) is decided in `reuse`."""

from __future__ import annotations

from dataclasses import dataclass

from passoproxy.core.cache.cache_control import Said, date_of, read_age
from passoproxy.core.http.messages import Fields

HEURISTIC_STATUSES = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""Status codes that are heuristically cacheable (RFC 9110 §15.1), without 206, which needs ranges."""

HEURISTIC_SHARE = 0.1
LONGEST_HEURISTIC = 86400.0
"""A tenth of the time since the last change, at most a day (RFC 9111 §4.2.2 leaves the limit to the cache)."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A freshness lifetime in seconds with its `basis`, in words for people. Zero where nothing gives any."""

    seconds: float
    basis: str

    @property
    def is_explicit(self) -> bool:
        """Whether someone stated it."""
        return self.basis not in ("none", "heuristic")


def lifetime(said: Said, *, heuristics: bool) -> Lifetime:
    """The freshness lifetime (RFC 9111 §4.2.1): s-maxage in a shared cache, max-age, Expires, a route's ttl, and last a guess (§4.2.2)."""
    directives = said.directives
    if said.shared and (seconds := directives.seconds("s-maxage")) is not None:
        return Lifetime(seconds, "s-maxage")
    if said.counts_from_storing and said.ttl_of_route is not None:
        return Lifetime(said.ttl_of_route, "ttl of the route")
    if (seconds := directives.seconds("max-age")) is not None:
        return Lifetime(seconds, "max-age")
    if said.expires is not None:
        return Lifetime(max(0.0, said.expires - said.date), "Expires")
    if said.ttl_of_route is not None:
        return Lifetime(said.ttl_of_route, "ttl of the route")
    return _heuristic(said) if heuristics else Lifetime(0.0, "none")


def initial_age(fields: Fields, request_time: float, response_time: float) -> float:
    """The corrected initial age in seconds (RFC 9111 §4.2.3), never negative: clocks disagree, and ours may have stepped."""
    # Date tells whole seconds: what is left of a second is its rounding, and no age.
    apparent = max(0.0, (response_time - date_of(fields, response_time)) // 1)
    corrected = read_age(fields) + max(0.0, response_time - request_time)
    return max(apparent, corrected)


def _heuristic(said: Said) -> Lifetime:
    if said.status not in HEURISTIC_STATUSES and "public" not in said.directives:
        return Lifetime(0.0, "none")
    if said.last_modified is None or said.last_modified >= said.date:
        return Lifetime(0.0, "none")
    return Lifetime(min(LONGEST_HEURISTIC, HEURISTIC_SHARE * (said.date - said.last_modified)), "heuristic")
