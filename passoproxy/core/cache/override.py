"""A route's policy as a rewrite of what the origin said (contract §3 and §7), so that one set of rules judges both.

Nothing here is stored: entries keep the origin's own fields, and the rewrite is done again at each use from the policy of that moment.
So a changed `ttl` or `override` takes effect on what is stored already, and a restart changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

from passoproxy.core.cache.cache_control import NONE_SAID, Directives, Said
from passoproxy.core.cache.freshness import lifetime
from passoproxy.core.cache.policy import RoutePolicy

ANSWERS_WITH_TTL = frozenset({200, 203, 204, 300, 301, 404, 410})
"""Status codes that a route's `ttl` is meant for."""

BRIEF_ANSWERS = frozenset({204, 404, 410})
LONGEST_BRIEF_TTL = 300.0
"""Nothing found may soon be something: these are kept for at most 300 s."""

NEVER_OVERRIDDEN = frozenset({401, 403, 429})
"""Beside 5xx: what a route with `override` never stores, whatever the origin says."""


def with_policy(said: Said, policy: RoutePolicy) -> Said:
    """What counts under `policy`: the origin's word with the route's."""
    if policy.origin_decides:
        return _with_windows(said, policy) if lifetime(said, heuristics=False).seconds > 0.0 else said
    if policy.override and policy.ttl is not None:
        return _overridden(said, policy, policy.ttl)
    return _with_windows(_filled_in(said, policy), policy)


def _overridden(said: Said, policy: RoutePolicy, ttl: float) -> Said:
    if said.status in ANSWERS_WITH_TTL:
        seconds = _capped(said.status, ttl)
        against = _speaks_against(said, seconds)
        rewritten = replace(
            said,
            directives=NONE_SAID,
            expires=None,
            counts_from_storing=True,
            overridden=against,
            ttl_of_route=seconds,
        )
        return _never_stored_if_useless(_with_windows(rewritten, policy))
    if said.status in NEVER_OVERRIDDEN or said.status >= 500:
        return replace(said, directives=Directives({"no-store": None}))
    return _with_windows(said, policy)


def _filled_in(said: Said, policy: RoutePolicy) -> Said:
    if policy.ttl is None or said.status not in ANSWERS_WITH_TTL or not _is_silent(said):
        return said
    return replace(said, ttl_of_route=_capped(said.status, policy.ttl))


def _with_windows(said: Said, policy: RoutePolicy) -> Said:
    # The longer of the route's and the origin's applies (contract §7); whether any may is judged by the prohibitions in `said`.
    # A stored failure has none: a stale one would stand in for another failure.
    if said.is_failure:
        return replace(said, stale_while_revalidate=0.0, stale_if_error=0.0, stale_if_unauthorized=0.0)
    return replace(
        said,
        stale_while_revalidate=max(said.stale_while_revalidate, policy.stale_while_revalidate),
        stale_if_error=max(said.stale_if_error, policy.stale_if_error),
        stale_if_unauthorized=max(said.stale_if_unauthorized, policy.stale_if_unauthorized),
    )


def _never_stored_if_useless(said: Said) -> Said:
    # `ttl: 0` says "do not keep"; with a stale window it says "ask each time, and fall back".
    if said.ttl_of_route or said.has_windows:
        return said
    return replace(said, directives=Directives({"no-store": None}))


def _capped(status: int, ttl: float) -> float:
    return min(ttl, LONGEST_BRIEF_TTL) if status in BRIEF_ANSWERS else ttl


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
    stated = said.directives.seconds("max-age")
    if stated is None and said.expires is not None:
        stated = said.expires - said.date
    return stated is not None and stated < ttl
