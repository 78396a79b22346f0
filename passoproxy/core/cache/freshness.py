"""Freshness and age, the arithmetic of RFC 9111 §4.2, and a route's policy as a rewrite of what the origin said (contract §3, §7).

Entries keep the origin's own fields; the rewrite is made at each use from the policy of that moment. So a changed `ttl` or `override` takes
effect on what is stored already. What follows (serve, ask, refuse) is decided in `reuse`.
"""

from __future__ import annotations

from dataclasses import replace

from passoproxy.core.cache.cache_control import NONE_SAID, Directives, Said, date_of, read_age
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.http.messages import Fields
from passoproxy.values import value

HEURISTIC_STATUSES = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""Status codes that are heuristically cacheable (RFC 9110 §15.1), without 206, which needs ranges."""

HEURISTIC_SHARE = 0.1
LONGEST_HEURISTIC = 86400.0
"""A tenth of the time since the last change, at most a day (RFC 9111 §4.2.2 leaves the limit to the cache)."""


@value
class Lifetime:
    """A freshness lifetime in seconds with its `basis`, in words for people. Zero where nothing gives any."""

    seconds: float
    basis: str


def lifetime(said: Said, *, heuristics: bool) -> Lifetime:
    """The freshness lifetime (RFC 9111 §4.2.1): s-maxage in a shared cache, max-age, Expires, a route's ttl, and last a guess (§4.2.2)."""
    directives = said.directives
    if said.shared and "s-maxage" in directives and (seconds := directives.seconds("s-maxage")) is not None:
        return Lifetime(seconds, "s-maxage")
    if said.counts_from_storing and said.ttl_of_route is not None:
        return Lifetime(said.ttl_of_route, "ttl of the route")
    if "max-age" in directives and (seconds := directives.seconds("max-age")) is not None:
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


# ---- the route's word --------------------------------------------------------------------------------------------------

ANSWERS_WITH_TTL = frozenset({200, 203, 204, 300, 301, 404, 410})
"""Status codes that a route's `ttl` is meant for."""

BRIEF_ANSWERS = frozenset({204, 404, 410})
LONGEST_BRIEF_TTL = 300.0
"""Nothing found may soon be something: these are kept for at most 300 s."""

NEVER_OVERRIDDEN = frozenset({401, 403, 429})
"""Beside 5xx: what a route with `override` never stores, whatever the origin says."""

_NO_STORE = Directives({"no-store": None})


def with_policy(said: Said, policy: RoutePolicy) -> Said:
    """What counts under `policy`: the origin's word with the route's."""
    if policy.origin_decides:
        return _with_windows(said, policy) if lifetime(said, heuristics=False).seconds > 0.0 else said
    if policy.ttl is None:
        return _with_windows(said, policy)
    ttl = min(policy.ttl, LONGEST_BRIEF_TTL) if said.status in BRIEF_ANSWERS else policy.ttl
    if not policy.override:
        fills_in = said.status in ANSWERS_WITH_TTL and _is_silent(said)
        return _with_windows(said, policy, ttl) if fills_in else _with_windows(said, policy)
    if said.status not in ANSWERS_WITH_TTL:
        refused = said.status in NEVER_OVERRIDDEN or said.status >= 500
        return replace(said, directives=_NO_STORE) if refused else _with_windows(said, policy)
    windows = (policy.stale_while_revalidate, policy.stale_if_error, policy.stale_if_unauthorized)
    # `ttl: 0` says "do not keep"; with a stale window it says "ask each time, and fall back".
    is_kept = bool(ttl) or said.has_windows or max(windows) > 0.0
    return _with_windows(said, policy, ttl, NONE_SAID if is_kept else _NO_STORE)


def _with_windows(said: Said, policy: RoutePolicy, ttl: float | None = None, instead: Directives | None = None) -> Said:
    """What is said with the windows and a `ttl` of the route; `instead` of the origin's directives and `Expires` if the route overrides them."""
    # The longer of the route's and the origin's applies (contract §7); whether any may is judged by the prohibitions in `said`.
    # A stored failure has none: a stale one would stand in for another failure.
    while_revalidate = if_error = if_unauthorized = 0.0
    if not said.is_failure:
        while_revalidate = max(said.stale_while_revalidate, policy.stale_while_revalidate)
        if_error = max(said.stale_if_error, policy.stale_if_error)
        if_unauthorized = max(said.stale_if_unauthorized, policy.stale_if_unauthorized)
    return Said(
        said.status,
        said.directives if instead is None else instead,
        said.date,
        said.expires if instead is None else None,
        said.last_modified,
        said.has_validator,
        said.shared,
        while_revalidate,
        if_error,
        if_unauthorized,
        counts_from_storing=instead is not None,
        overridden=instead is not None and ttl is not None and _speaks_against(said, ttl),
        ttl_of_route=ttl,
    )


def _is_silent(said: Said) -> bool:
    directives = said.directives
    return not (
        said.expires is not None
        or "max-age" in directives
        or "no-store" in directives
        or (said.shared and "s-maxage" in directives)
        or said.must_validate
        or said.is_private
    )


def _speaks_against(said: Said, ttl: float) -> bool:
    # Against the origin's word is what it forbade, and a freshness that it put shorter.
    if "no-store" in said.directives or said.is_private or said.never_stale:
        return True
    stated = said.directives.seconds("max-age") if "max-age" in said.directives else None
    if stated is None and said.expires is not None:
        stated = said.expires - said.date
    return stated is not None and stated < ttl
