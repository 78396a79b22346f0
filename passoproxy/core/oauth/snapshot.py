"""What is said of the pair to people and machines, without ever saying a token: `token` of `/api/status`, `token status`, the page."""

from __future__ import annotations

from dataclasses import dataclass

from passoproxy.core.oauth.chain import Access, Chain, Standing
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.terms import Terms
from passoproxy.core.oauth.timing import runway


@dataclass(frozen=True, slots=True)
class TokenSnapshot:
    """The pair at one moment. Moments are epoch seconds, None where unknown or without meaning.

    `access` is none, valid or expired; `chain` none, healthy, retrying, unknown or dead. `runway_seconds` is null where no person is ever
    needed, or where nobody can know. `served_until` is when clients stop being served with the token in use unless it is renewed before.
    `saved` is False while the pair lives in memory only.
    """

    access: str
    chain: str
    reason: str
    runway_seconds: float | None
    access_until: float | None
    served_until: float | None
    next_refresh_at: float | None
    remedy: str
    link: str
    generation: int
    grant: str
    obtained_at: float | None
    last_error: str
    saved: bool


def snapshot(
    pair: Pair | None,
    standing: Standing,
    terms: Terms,
    now: float,
    *,
    reason: str = "",
    last_error: str = "",
    next_refresh_at: float | None = None,
    saved: bool = True,
    login_open: bool = False,
) -> TokenSnapshot:
    """The pair as it is shown at `now`."""
    left = runway(pair, standing, terms, now)
    return TokenSnapshot(
        access=standing.access.value,
        chain=standing.chain.value,
        reason=reason or _reason(standing, terms),
        runway_seconds=left,
        access_until=pair.access_until if pair else None,
        served_until=pair.access_until if pair and standing.access is Access.VALID else None,
        next_refresh_at=next_refresh_at,
        remedy=_remedy(standing, terms, left, login_open, saved),
        link=terms.link if terms.needs_person else "",
        generation=pair.generation if pair else 0,
        grant=terms.grant,
        obtained_at=pair.obtained_at if pair else None,
        last_error=last_error,
        saved=saved,
    )


_REASONS = {
    Chain.HEALTHY: "the pair renews itself",
    Chain.RETRYING: "the last refresh failed; it is tried again",
    Chain.UNKNOWN: "a refresh was sent and its answer was lost",
    Chain.DEAD: "the provider refuses the refresh token",
}


def _reason(standing: Standing, terms: Terms) -> str:
    if standing.chain in _REASONS:
        return _REASONS[standing.chain]
    if standing.access is Access.NONE:
        return "nobody has authorised passoproxy yet" if terms.needs_person else "no access token was obtained yet"
    return "a static token is used as it is" if terms.grant == "static" else "there is no refresh token"


def _remedy(standing: Standing, terms: Terms, left: float | None, login_open: bool, saved: bool) -> str:
    if not saved:
        return "make room or permissions in state.directory: the pair lives in memory only"
    if standing.chain is Chain.HEALTHY or terms.grant == "static":
        return ""
    if login_open:
        return "a login is under way: finish it in the browser"
    if not terms.needs_person:
        return "check that the provider can be reached and oauth.client_id and its secret are right"
    if standing.chain is Chain.RETRYING and left != 0:
        return "none needed if the provider comes back in time; else run 'passoproxy login'"
    where = f" or open {terms.link}" if terms.link else ""
    return f"run 'passoproxy login'{where}"
