"""What is said of the pair to people and machines, without ever saying a token: `token` of `/api/status`, `token status`, the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from passoproxy.core.http.syntax import print_date
from passoproxy.core.oauth.chain import Access, Chain, Standing
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.schedule import runway
from passoproxy.core.oauth.settings import Terms
from passoproxy.values import dataclass


@dataclass(frozen=True, slots=True)
class TokenSnapshot:
    """The pair at one moment. Moments are epoch seconds, None where unknown or without meaning.

    `access` is none, valid or expired; `chain` none, healthy, retrying, unknown or dead. `runway_seconds` is null where no person is ever
    needed, or if it cannot be known. `served_until` is when clients stop being served with the token in use unless it is renewed before.
    `saved` is False while the pair lives in memory only. `role` is owner, or following where another process renews the pair;
    `login_until` is when a login that is open now ends at the latest, `as_of` the moment of the snapshot by the clock of all the others.
    `handed_over_at` is when the pair was exported, so that another program renews it; null while it is ours. `alone`: it follows, and the
    owner has not been heard for so long that a follower must speak for itself. `client` is which client of which token endpoint the pair
    is for, `kept` names the pairs of others that wait for their own configuration.
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
    role: str = "owner"
    login_until: float | None = None
    as_of: float = 0.0
    handed_over_at: float | None = None
    alone: bool = False
    client: str = ""
    kept: str = ""


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
    login_until: float | None = None,
    handed_over_at: float | None = None,
    client: str = "",
    kept: str = "",
) -> TokenSnapshot:
    """The pair as it is shown at `now`."""
    left = runway(pair, standing, terms, now)
    return TokenSnapshot(
        access=standing.access.value,
        chain=standing.chain.value,
        reason=reason or _reason(standing, terms, handed_over_at, client, kept),
        runway_seconds=left,
        access_until=pair.access_until if pair else None,
        served_until=pair.access_until if pair and standing.access is Access.VALID else None,
        next_refresh_at=next_refresh_at,
        remedy=_remedy(standing, terms, left, login_until is not None, saved, handed_over_at is not None, bool(kept)),
        link=terms.link if terms.needs_person else "",
        generation=pair.generation if pair else 0,
        grant=terms.grant,
        obtained_at=pair.obtained_at if pair else None,
        last_error=last_error,
        saved=saved,
        login_until=login_until,
        as_of=now,
        handed_over_at=handed_over_at,
        client=client,
        kept=kept,
    )


UNTOLD = TokenSnapshot(
    access=Access.NONE.value,
    chain=Chain.NONE.value,
    reason="the pair's owner has not told anything yet",
    runway_seconds=None,
    access_until=None,
    served_until=None,
    next_refresh_at=None,
    remedy="",
    link="",
    generation=0,
    grant="authorization_code",
    obtained_at=None,
    last_error="",
    saved=True,
    role="following",
)
"""What one who follows shows before the owner was heard."""


def told(document: Mapping[str, object]) -> TokenSnapshot:
    """The snapshot that the pair's owner told, as one who follows shows it. Members that are missing or of another kind are as in `UNTOLD`."""
    known = {name: _of_kind(document.get(name), getattr(UNTOLD, name)) for name in TokenSnapshot.__slots__}
    return replace(UNTOLD, **{**known, "role": UNTOLD.role, "alone": False})


def of_another(client: str) -> TokenSnapshot:
    """What a follower shows if the owner's pair is another client's."""
    return replace(UNTOLD, reason=f"state.directory is served by a daemon for {client}", remedy=_ANOTHER, client=client)


_ANOTHER = "give this one another state.directory, or both the same oauth.token_url and oauth.client_id"


def aged(shown: TokenSnapshot, passed: float, now: float) -> TokenSnapshot:
    """What was told `passed` seconds ago, as it is at `now` if nothing happened meanwhile."""
    left = None if shown.runway_seconds is None else max(0.0, shown.runway_seconds - passed)
    if shown.access == Access.VALID and shown.access_until is not None and shown.access_until <= now:
        return replace(shown, runway_seconds=left, as_of=now, access=Access.EXPIRED.value, served_until=None)
    return replace(shown, runway_seconds=left, as_of=now)


def left_alone(shown: TokenSnapshot) -> TokenSnapshot:
    """What an owner that has been gone for long told last, shown as it is now: no process renews the pair."""
    if shown.generation == 0:
        return replace(shown, alone=True, reason=_NEVER_HEARD, remedy=_BRING_BACK)
    due = shown.next_refresh_at is None or shown.next_refresh_at <= shown.as_of
    if not due or shown.chain not in {Chain.HEALTHY, Chain.RETRYING}:
        return replace(shown, alone=True)
    remedy = f"{_BRING_BACK} before the access token ends" if shown.access == Access.VALID else _BRING_BACK
    return replace(shown, alone=True, chain=Chain.RETRYING.value, reason=_ALONE, remedy=remedy)


_ALONE = "nobody renews the pair: the process that owns it cannot be reached"
_NEVER_HEARD = "nothing is known of the pair: the process that owns it cannot be reached"
_BRING_BACK = "bring back what the last error names"


def _of_kind(value: object, default: Any) -> Any:
    """`value` if it may stand in the place of `default`: a moment if that is None, else something of its type."""
    if default is None or type(default) is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if fits else default  # type: ignore[arg-type]
    return value if type(value) is type(default) else default


_REASONS = {
    Chain.HEALTHY: "the pair renews itself",
    Chain.RETRYING: "the last refresh failed; it is tried again",
    Chain.UNKNOWN: "a refresh was sent and its answer was lost",
    Chain.DEAD: "the provider refuses the refresh token",
}


def _reason(standing: Standing, terms: Terms, handed_over_at: float | None, client: str, kept: str) -> str:
    if handed_over_at is not None:
        return f"handed over by 'token export' on {print_date(handed_over_at)}: it is renewed elsewhere now"
    if standing.chain in _REASONS:
        return _REASONS[standing.chain]
    if standing.access is Access.NONE and kept and terms.needs_person:
        return f"there is no pair of {client}; kept until its own configuration is back: {kept}"
    if standing.access is Access.NONE:
        return "nobody has authorised passoproxy yet" if terms.needs_person else "no access token was obtained yet"
    return "a static token is used as it is" if terms.grant == "static" else "there is no refresh token"


def _remedy(
    standing: Standing,
    terms: Terms,
    left: float | None,
    login_open: bool,
    saved: bool,
    handed_over: bool,
    is_kept: bool,
) -> str:
    if not saved:
        return "make room or permissions in state.directory: the pair lives in memory only"
    if standing.chain is Chain.HEALTHY or terms.grant == "static":
        return ""
    if login_open:
        return "a login is under way: finish it in the browser"
    if handed_over:
        return "import or log in for a pair of its own; 'passoproxy token refresh --force' takes this one back, if nobody has refreshed it yet"
    if not terms.needs_person:
        return "check that the provider can be reached and oauth.client_id and its secret are right"
    if standing.chain is Chain.RETRYING and left != 0:
        return "none needed if that ends in time; else run 'passoproxy login'"
    where = f" or open {terms.link}" if terms.link else ""
    login = f"run 'passoproxy login'{where}"
    if standing.access is Access.NONE and is_kept:
        return (
            f"set oauth.token_url and oauth.client_id back, or {login}; where the vendor has only moved its address, "
            "'passoproxy token refresh --force' presents the kept pair there, once"
        )
    return login
