"""A status document for each state of the page, with what must be said there."""

from __future__ import annotations

from typing import Any

from tests.server.fake_daemon import NOW, healthy, without_pair

LINK = "http://127.0.0.1:8611/"


def _dead(**more: Any) -> dict[str, Any]:
    token = {
        "chain": "dead",
        "runway_seconds": 0.0,
        "next_refresh_at": None,
        "access_until": NOW + 7_200,
        "served_until": NOW + 7_200,
        "reason": "the provider refuses the refresh token: invalid_grant",
        "remedy": f"run 'passoproxy login' or open {LINK}",
        "link": LINK,
    }
    document = healthy(**(token | more)) | {"state": "degraded", "alert": {"level": "page", "deadline": NOW + 7_200}}
    document["since"]["chain"] = NOW - 3_000
    return document


def _origin(state: str, **more: Any) -> dict[str, Any]:
    document = healthy() | {"state": "degraded"}
    document["origin"] |= {"state": state, "last_failure": "answered 503", **more}
    return document


def _with(part: str, members: dict[str, Any], document: dict[str, Any] | None = None) -> dict[str, Any]:
    document = healthy() if document is None else document
    document[part] = {**document.get(part, {}), **members}
    return document


FOLLOWING = {"role": "following"}
STORE_AWAY = {
    "code": "store_away",
    "detail": "store.url redis://cache is away; no instance renews the pair until it is back",
    "at": NOW - 90,
}
RETRYING = {
    "chain": "retrying",
    "reason": "the provider answered 503",
    "next_refresh_at": NOW + 240,
    "runway_seconds": 500_000.0,
}

DOCUMENTS: dict[str, dict[str, Any]] = {
    "starting": healthy() | {"state": "unready", "reason": "starting"},
    "stopping": healthy() | {"state": "unready", "reason": "draining"},
    "replaying": _with("gateway", {"mode": "replay", "directory": "/srv/recordings", "recordings": 12}, without_pair()),
    "empty": _with("cache", {"offline": True, "entries": 0}, healthy() | {"state": "unready"}),
    "offline": _with("cache", {"offline": True}, healthy() | {"state": "degraded"}),
    "login": _with("token", {"login_until": NOW + 590}, without_pair()),
    "dead": _dead(),
    "handed_over": healthy(chain="unknown", handed_over_at=NOW - 9, reason="handed over by 'token export'", remedy="import or log in"),
    "alone": healthy(role="following", alone=True, chain="retrying", reason="nobody renews the pair", last_error="control.sock: gone"),
    "untold": _with("token", {"role": "following", "reason": "the pair's owner has not told anything yet", "remedy": ""}, without_pair()),
    "lost": _with("token", {"reason": "pair.json is damaged", "last_error": "pair.json is damaged"}, without_pair()),
    "never": without_pair(),
    "no_token": healthy(access="expired", chain="retrying", grant="client_credentials", reason="the provider answered 503", served_until=None),
    "over": healthy(grant="static", chain="none", access_until=NOW - 60, runway_seconds=None, next_refresh_at=None),
    "origin_away": _origin("away", away="connection refused three times in a row"),
    "unknown": healthy(chain="unknown", reason="a refresh was sent and its answer was lost", runway_seconds=7_200.0, next_refresh_at=NOW + 9),
    "retrying": healthy(**RETRYING) | {"alert": {"level": "notify", "deadline": NOW + 500_000}, "state": "degraded"},
    "overdue": healthy(next_refresh_at=NOW - 60, runway_seconds=7_200.0) | {"alert": {"level": "page", "deadline": NOW + 7_200}},
    "renewing": healthy(access="expired", served_until=None, next_refresh_at=NOW - 2),
    "unsaved": healthy(saved=False, remedy="make room or permissions in state.directory: the pair lives in memory only"),
    "unrenewable": healthy(chain="none", reason="there is no refresh token"),
    "origin_failing": _origin("failing"),
    "cooling_down": _origin("cooling_down", cool_down_until=NOW + 42),
    "store_away": healthy() | {"warnings": [STORE_AWAY], "state": "degraded"},
    "following": healthy(**FOLLOWING),
    "static": healthy(grant="static", chain="none", runway_seconds=None, next_refresh_at=None),
    "healthy": healthy(),
}  # fmt: skip
"""By the face's name."""
