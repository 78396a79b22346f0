"""The pair: what a token answer gave, as a value that never shows its strings."""

from __future__ import annotations

from dataclasses import field

from passoproxy.values import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """One generation of access and refresh token. Times are epoch seconds.

    `obtained_at` is taken before the request was sent, so that lifetimes err on the short side. `access_until` is None if the
    answer told no lifetime at all; `refresh_until` is None if there is no refresh token, or if its life is unknown.
    `lifetime` is the seconds between `obtained_at` and `access_until`, kept as the last known one for answers without any.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    obtained_at: float = 0.0
    access_until: float | None = None
    refresh_until: float | None = None
    lifetime: float | None = None
    scope: str | None = None
    subject: str | None = None
    generation: int = 0
    source: str = "login"
    """How it came: login, refresh, import, client_credentials, static."""
    salt: str = field(default="", repr=False)
    """What tells this identity from others where `subject` is not known; stays the same through every refresh."""
    client: str = ""
    """Which client of which token endpoint it came from (`identity.client_of`): it is sent to no other one. '' if that was not recorded."""
    upstream: str = ""
    """`upstream.url` of the time when it was obtained; '' if that was not recorded."""
    refresh_url: str = ""
    """Where refresh tokens were presented at that time, as people are told of it; '' if that was not recorded."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """An access token in use. `generation` tells a newer one from an older one; `until` is epoch seconds or None if unknown."""

    token: str = field(repr=False)
    generation: int = 0
    until: float | None = None
