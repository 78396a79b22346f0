"""The terms of a stored answer: until when it is fresh, and how far beyond it may serve (RFC 9111 §4.2, RFC 5861, contract §7).

They depend on the entry and the policy of the moment alone, not on the time of asking, so a hop may remember them and compare
moments. What a request wants is weighed against them in `reuse`.
"""

from __future__ import annotations

from dataclasses import replace

from passoproxy.core.cache.cache_control import said_by
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.freshness import Lifetime, initial_age, lifetime, with_policy
from passoproxy.core.cache.partial import whole_status
from passoproxy.core.cache.policy import CacheMode, RoutePolicy, for_cookies
from passoproxy.core.cache.storing import objection
from passoproxy.values import value

CLOCK_TOLERANCE = 60.0
"""An answer that came from further ahead than this many seconds was stored under another clock: its age is unknown."""

WITH_COOKIE = "with-cookie"
"""The note of an entry that came, or was validated, with a cookie that is passed on: what it holds may be one person's."""

_OUTDATED = "outdated"


@value
class Terms:
    """Moments are epoch seconds. The entry is fresh from `not_before` until `fresh_until`; its age is the time since `born_at`.

    The `…_until` of the windows count from the end of freshness, and are minus infinity where stale use is prohibited.
    `refresh_from` is when a hit begins to renew it in the background, infinite if never. `objection` says why it may not be used at all.

    `fresh_from` is `not_before`, or infinite for what is never fresh: a clock that was set back makes nothing younger than new.
    """

    lifetime: Lifetime
    born_at: float
    not_before: float
    fresh_until: float
    must_validate: bool = False
    never_stale: bool = False
    revalidate_until: float = float("-inf")
    error_until: float = float("-inf")
    unauthorized_until: float = float("-inf")
    refresh_from: float = float("inf")
    overridden: bool = False
    objection: str = ""
    fresh_from: float = float("-inf")

    def age(self, now: float) -> float:
        """The current age in seconds (RFC 9111 §4.2.3), never negative."""
        return max(0.0, now - self.born_at)

    def is_fresh(self, now: float) -> bool:
        """Whether it is fresh (RFC 9111 §4.2); an answer from the future is not."""
        return self.fresh_from <= now < self.fresh_until


def terms(entry: Entry, policy: RoutePolicy, mode: CacheMode) -> Terms:
    """The terms of `entry` under `policy`."""
    if entry.note(WITH_COOKIE) is not None:
        policy = for_cookies(policy)
    own = said_by(whole_status(entry.status), entry.fields, response_time=entry.response_time, shared=mode.shared)
    said = with_policy(own, policy)
    span = lifetime(said, heuristics=mode.http)
    born_at = entry.response_time - initial_age(entry.fields, entry.request_time, entry.response_time)
    fresh_until = (entry.stored_at if said.counts_from_storing else born_at) + span.seconds
    prohibited = float("-inf") if said.never_stale else 0.0
    renewed_ahead = policy.refresh_ahead > 0.0 and "immutable" not in said.directives  # RFC 8246 §2
    found = Terms(
        lifetime=span,
        born_at=born_at,
        not_before=entry.response_time - CLOCK_TOLERANCE,
        fresh_until=fresh_until,
        must_validate=said.must_validate,
        never_stale=said.never_stale,
        revalidate_until=fresh_until + said.stale_while_revalidate + prohibited,
        error_until=fresh_until + said.stale_if_error + prohibited,
        unauthorized_until=fresh_until + said.stale_if_unauthorized + prohibited,
        refresh_from=fresh_until - policy.refresh_ahead * span.seconds if renewed_ahead else float("inf"),
        overridden=said.overridden,
        objection=objection(said),
        fresh_from=entry.response_time - CLOCK_TOLERANCE if span.seconds > 0.0 else float("inf"),
    )
    if (ended := outdated_at(entry)) is None:
        return found
    # What the origin is known to have no more serves in place of a failure, and not instead of asking; also where the clock was set back.
    return replace(cut(found, ended), revalidate_until=float("-inf"), fresh_from=float("inf"))


def outdated(entry: Entry, at: float | None) -> Entry:
    """The entry as one that the origin's word of that moment has made stale (RFC 9111 §4.3.5); None takes it back."""
    return entry.noting(_OUTDATED, None if at is None else repr(at))


def outdated_at(entry: Entry) -> float | None:
    """When the origin's word made it stale; None where it did not."""
    noted = entry.note(_OUTDATED)
    return None if noted is None else float(noted)


def cut(terms: Terms, ended_at: float | None) -> Terms:
    """The terms once freshness was ended at that moment: the windows of stale use count from there. None changes nothing."""
    if ended_at is None or ended_at >= terms.fresh_until:
        return terms
    sooner = terms.fresh_until - ended_at
    return replace(
        terms,
        fresh_until=ended_at,
        revalidate_until=terms.revalidate_until - sooner,
        error_until=terms.error_until - sooner,
        unauthorized_until=terms.unauthorized_until - sooner,
        refresh_from=float("inf"),
    )
