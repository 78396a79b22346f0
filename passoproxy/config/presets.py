"""What `provider` stands for: raw values in the shape of the file, laid beneath it.

The passolution routes follow the resources of the Dataservice API. Its answers carry the framework's default `no-cache, private`,
so every route that stores says `override`. A route without `ttl` is there to be named in logs and metrics, and stores nothing.
"""

from __future__ import annotations

from typing import Any

_API = "/api/v2"
_VOLATILE = ["requestid", "responsetime"]
# what creates a link, sends mail or marks a visit, whatever the method
_SIDE_EFFECTS = {"query_has": ["mark_visited"], "body_has": ["trip", "subscribe"]}


def _uncached(name: str, match: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "match": _API + match, "methods": ["GET"], **more}


def _stored(name: str, match: str, ttl: str, *tags: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "match": _API + match,
        "methods": ["GET"],
        "ttl": ttl,
        "override": True,
        "volatile_fields": _VOLATILE,
        "tags": list(tags),
        **more,
    }


def _reference(name: str, match: str, ttl: str = "1d") -> dict[str, Any]:
    """Lists that change within weeks or months, the same for everyone."""
    return _stored(
        name,
        match,
        ttl,
        "reference",
        name,
        stale_while_revalidate="1h",
        stale_if_error="7d",
        stale_if_unauthorized="7d",
    )


def _requirements(name: str, match: str, *tags: str, ttl: str = "1h", private: bool = False) -> dict[str, Any]:
    """What travellers rely on: GET and POST are both reads; bounded staleness, renewed ahead while it is asked for."""
    return _stored(
        name,
        match,
        ttl,
        "requirements",
        *tags,
        methods=["GET", "POST"],
        stale_while_revalidate="5m",
        stale_if_error="1d",
        stale_if_unauthorized="1d",
        refresh_ahead=0.1,
        bypass_when=_SIDE_EFFECTS,
        private=private,
    )


def _own_content(name: str, match: str) -> dict[str, Any]:
    """What the account edits itself; a write changes it and everything that it is mixed into."""
    return _stored(
        name,
        match,
        "5m",
        name,
        stale_if_error="1h",
        stale_if_unauthorized="1d",
        private=True,
        purges=[name, "content-all"],
    )


def _news(name: str, match: str, ttl: str, stale_if_error: str) -> dict[str, Any]:
    """What is announced at any time: short, and not for long without asking."""
    return _stored(
        name,
        match,
        ttl,
        "infosystem",
        stale_while_revalidate="1m",
        stale_if_error=stale_if_error,
        stale_if_unauthorized="1d",
    )


_ROUTES: list[dict[str, Any]] = [
    # never stored: personal, one-time, live, or with side effects
    _uncached(
        "travel-details", "/travel-details/**", bypass_when=_SIDE_EFFECTS, private=True, purges=["travel-details"]
    ),
    _uncached("auth", "/auth/**", private=True),
    _uncached("information-share", "/information/share", bypass_when=_SIDE_EFFECTS),
    _uncached("information-updates", "/information/updates"),
    _uncached("health", "/health"),
    # requirement content
    _requirements("content-all", "/content/all/**", "content-all", private=True),
    _requirements("content-country", "/content/country/**", "content-country", ttl="6h"),
    _requirements("content-overview", "/content/overview/**", "content-overview"),
    _requirements("content-entry", "/content/entry/**", "content-entry"),
    _requirements("content-visa", "/content/visa/**", "content-visa"),
    _requirements("content-transit-visa", "/content/transit_visa/**", "content-transit-visa"),
    _requirements("content-health", "/content/health/**", "content-health"),
    _requirements("information-search", "/information/search", "information-search"),
    _requirements("destinations", "/destinations", "destinations"),
    # what the account itself edits or is
    _own_content("individual-content", "/individual-content/**"),
    _own_content("tour-operator", "/tour-operator/*"),
    _stored(
        "account-subscription",
        "/account/subscription",
        "1h",
        "account",
        stale_if_error="1d",
        stale_if_unauthorized="1d",
        private=True,
    ),
    # news
    _news("infosystem-general", "/infosystem/general", "5m", "6h"),
    _news("infosystem-passolution", "/infosystem/passolution", "1h", "1d"),
    # lists
    _reference("countries", "/countries"),
    _reference("locations", "/countries/*/locations"),
    _reference("nationalities", "/nationalities"),
    _reference("languages", "/languages"),
    _reference("tour-operators", "/tour-operators"),
    _reference("entry-documents", "/entry/documents"),
    _reference("entry-additional-info", "/entry/additional-info"),
    _reference("immunizations", "/health/immunizations"),
    _stored("version", "/version", "5m", "version", stale_if_error="1h", stale_if_unauthorized="1d"),
]

_PASSOLUTION: dict[str, Any] = {
    "upstream": {"url": "https://api.passolution.eu"},
    "oauth": {
        "authorization_url": "https://web.passolution.eu/oauth/authorize",
        "token_url": "https://web.passolution.eu/oauth/token",
        # its provider does not punish the reuse of a spent token, and after a lost answer nothing is left to lose
        "lost_answer_replay": "always",
    },
    "routes": _ROUTES,
}

PRESETS: dict[str, dict[str, Any]] = {"passolution": _PASSOLUTION, "custom": {}}
"""The raw values of each provider. Not to be written to; layers copy them."""
