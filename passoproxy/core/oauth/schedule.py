"""When a pair is renewed, how long to pause after a failure, and how long until a person is needed.

All moments are epoch seconds of one clock that does not step (the keeper sees to that); chance is a number from 0 to 1.
"""

from __future__ import annotations

from dataclasses import replace

from passoproxy.core.oauth.chain import Access, Chain, Standing
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.settings import Terms

JITTER = 0.02
"""A renewal is early or late by at most this share of its delay."""

UNKNOWN_LIFETIME_INTERVAL = 3600.0
"""A pair of unknown lifetime is renewed this often, in seconds."""

SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 900.0
LONGEST_RETRY_AFTER = 3600.0
LONGEST_PAUSE_WITHOUT_TOKEN = 10.0
"""While clients wait and the chain can still be saved, or client credentials be asked for."""
LONGEST_PAUSE_OVERDUE = 60.0
"""When the time is up as far as is known: the refresh token may live longer than was thought."""
SLOW_PAUSE = 30.0
"""The first pause after a fault of the configuration."""


def shorter_lifetime(pair: Pair) -> float | None:
    """Seconds of the shorter of both lifetimes; None if neither is known."""
    ends = [end for end in (pair.access_until, pair.refresh_until) if end is not None]
    return min(ends) - pair.obtained_at if ends else None


def refresh_moment(pair: Pair, terms: Terms, chance: float) -> float | None:
    """When the pair is to be renewed; None if it cannot be."""
    if pair.refresh_token is None and terms.needs_person:
        return None
    lifetime = shorter_lifetime(pair)
    delay = terms.refresh_at * lifetime if lifetime is not None else UNKNOWN_LIFETIME_INTERVAL
    return pair.obtained_at + delay * (1 + JITTER * (2 * chance - 1))


def rooted(pair: Pair, now: float, terms: Terms) -> Pair:
    """A stored pair as it is to be lived with at `now`.

    One from the future was obtained before the wall clock was set back, or lost in a restart of the machine: its age is unknown, and moments
    that far away would let it die unnoticed. It is taken for due.
    """
    if pair.obtained_at <= now:
        return pair
    lifetime = shorter_lifetime(pair)
    delay = terms.refresh_at * lifetime if lifetime is not None else UNKNOWN_LIFETIME_INTERVAL
    return moved_in_time(pair, now - delay - pair.obtained_at)


def moved_in_time(pair: Pair, seconds: float) -> Pair:
    """`pair` with all its moments moved."""
    return replace(
        pair,
        obtained_at=pair.obtained_at + seconds,
        access_until=None if pair.access_until is None else pair.access_until + seconds,
        refresh_until=None if pair.refresh_until is None else pair.refresh_until + seconds,
    )


def time_left(pair: Pair | None, now: float) -> float | None:
    """Seconds until the first of access and refresh token ends, of those that have not ended; None if nothing is known to end.

    0 if all that is known to end has ended.
    """
    ends = [end for end in ((pair.access_until, pair.refresh_until) if pair else ()) if end is not None]
    if not ends:
        return None
    return min((end - now for end in ends if end > now), default=0.0)


def pause(
    pair: Pair | None,
    now: float,
    failures: int,
    chance: float,
    *,
    retry_after: float | None = None,
    slow: bool = False,
) -> float:
    """Seconds to wait after the `failures`-th failure in a row (from 1): at least 1, growing, and never so long that the time runs out.

    At most a twelfth of what is left, so that at least six attempts fit into the last half of it (from 60 s on), to the last second.
    `retry_after` is respected up to half of what is left. `slow` is for faults that only a person can mend.
    """
    left = time_left(pair, now)
    grown = min((SLOW_PAUSE if slow else 1.0) * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE)
    if left is None or left <= 0:
        # without a refresh token it is client credentials that are asked for, and they are as good as ever
        is_overdue = pair is not None and pair.refresh_token is not None
        wait = min(grown, LONGEST_PAUSE_OVERDUE if is_overdue or slow else LONGEST_PAUSE_WITHOUT_TOKEN)
    else:
        wait = min(grown, left / 12)
        if pair is not None and pair.access_until is not None and now >= pair.access_until:
            wait = min(wait, LONGEST_PAUSE_WITHOUT_TOKEN)
    wait *= 0.8 + 0.2 * chance
    if retry_after is not None:
        wait = max(wait, min(retry_after, left / 2 if left else LONGEST_RETRY_AFTER))
    return max(SHORTEST_PAUSE, wait)


def patience(pair: Pair | None, now: float) -> float:
    """Seconds that one token request may take as a whole: generous, because an answer given up on may cost the pair."""
    left = time_left(pair, now)
    return 60.0 if not left else max(10.0, min(60.0, left / 3))


def is_worth_filling(pair: Pair, now: float) -> bool:
    """Whether more than a tenth of the pair's life is used: then it is renewed before a stop (`oauth.refresh_on_exit`)."""
    return now - pair.obtained_at > 0.1 * (shorter_lifetime(pair) or UNKNOWN_LIFETIME_INTERVAL)


def is_last_stand(pair: Pair | None, now: float) -> bool:
    """Whether so little is left that a refresh which cannot be recorded is better than none: the last tenth, at least 5 s."""
    left = time_left(pair, now)
    lifetime = shorter_lifetime(pair) if pair else None
    return left is not None and left <= max(5.0, 0.1 * (lifetime or 0.0))


def runway(pair: Pair | None, standing: Standing, terms: Terms, now: float) -> float | None:
    """Seconds until a person is needed, never negative; None if none ever is, or if it cannot be known."""
    if not terms.needs_person:
        return None
    if pair is None or standing.chain is Chain.DEAD:
        return 0.0
    renewable = standing.chain in {Chain.HEALTHY, Chain.RETRYING}
    end = pair.refresh_until if renewable else pair.access_until
    if end is None:
        return None if renewable or standing.access is Access.VALID else 0.0
    return max(0.0, end - now)
