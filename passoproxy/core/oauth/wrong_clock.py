"""How wrong our clock is, by what the provider says: its `Date`, and a token's own moments. It is told, and nothing is reckoned by it.

Lifetimes are counted from `expires_in` and our own clock, so a wrong clock costs nothing until somebody compares moments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from passoproxy.core.http.grammar import parse_date
from passoproxy.core.oauth.answers import claims_of, parsed
from passoproxy.errors import AnswerUnusable

TOLERATED = 30.0
"""Seconds that two clocks may differ."""


def deviation(
    headers: Sequence[tuple[str, str]], body: bytes, content_type: str, sent_at: float, received_at: float
) -> tuple[float, str] | None:
    """Seconds by which our clock is ahead (negative: behind) of the provider's, 0 where that is tolerable, and what told it.

    `Date` counts before the token, which may have been issued earlier. None where nothing tells. Moments are epoch seconds of our clock,
    from before the request was sent and after its answer came.
    """
    told = _date(headers, received_at)
    source = "its Date"
    if told is None:
        told, source = _issued(body, content_type), "the token's own claims"
    if told is None:
        return None
    # a Date is cut to whole seconds, and the provider wrote it at some moment of the exchange
    ahead = max(0.0, sent_at - (told + 1.0)) or min(0.0, received_at - told)
    return (ahead if abs(ahead) > TOLERATED else 0.0), source


def _date(headers: Sequence[tuple[str, str]], now: float) -> float | None:
    for name, value in headers:
        if name.lower() == "date":
            return parse_date(value.strip(), now)
    return None


def _issued(body: bytes, content_type: str) -> float | None:
    """When the provider thinks that it answered: the token's `exp` less what `expires_in` says, else its `iat`."""
    try:
        words = parsed(body, content_type)
    except AnswerUnusable:
        return None
    claims = claims_of(words.get("access_token"))
    ends, lasts = _number(claims, "exp"), _number(words, "expires_in")
    return ends - lasts if ends is not None and lasts is not None else _number(claims, "iat")


def _number(words: Mapping[str, object], name: str) -> float | None:
    value = words.get(name)
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 else None
    )
