"""What a client is told where there is no usable access token: whether a person is needed, and when to come again."""

from __future__ import annotations

from datetime import UTC, datetime

from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.errors import AuthorizationRequired, Refusal, TokenUnavailable


def refusal_of(shown: TokenSnapshot, now: float) -> Refusal:
    """Why there is no bearer, while the pair stands as `shown` at `now` (epoch seconds)."""
    if shown.login_until is not None and now < shown.login_until:
        return TokenUnavailable("no usable access token; a login is under way", 5)
    needs_person = shown.grant == "authorization_code"
    if not needs_person or (shown.runway_seconds != 0 and shown.chain != "none"):
        wait = 5.0 if shown.next_refresh_at is None else shown.next_refresh_at - now
        return TokenUnavailable(f"no usable access token: {shown.reason}", max(1.0, min(wait, 60.0)))
    ended = f" (the access token's time: {_spoken(shown.access_until)})" if shown.access_until else ""
    return AuthorizationRequired(f"no usable access token{ended}: {shown.reason}; {shown.remedy}", 30)


def _spoken(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "long ago or far away"
