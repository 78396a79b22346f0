"""The changing routes of the admin listener and of `control.sock`, as the audit lines name them; commands on a stopped daemon's folders use the same
words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from passoproxy.core.oauth.settings import CALLBACK_PATH

ACTIONS: Final[Mapping[tuple[str, str], str]] = {
    ("POST", "/api/token/refresh"): "token refresh",
    ("POST", "/api/token/import"): "token import",
    ("GET", "/api/token/export"): "token export",
    ("POST", "/api/token/commands"): "token command",
    ("POST", "/api/login/start"): "login start",
    ("POST", "/api/login/complete"): "login",
    ("POST", "/api/logout"): "logout",
    ("POST", "/api/cache/purge"): "cache purge",
    ("POST", "/api/cache/warm"): "cache warm",
    ("POST", "/api/reload"): "reload",
    ("POST", "/api/quit"): "quit",
    ("POST", "/api/alert/test"): "alert test",
    ("POST", "/api/page"): "page link",
    ("GET", "/page/session"): "page session",
    ("POST", "/page/token"): "page session",
    ("POST", "/page/refresh"): "token refresh",
    ("POST", "/page/purge"): "cache purge",
    ("POST", "/page/logout"): "logout",
    ("GET", "/oauth/start"): "login start",
    ("GET", CALLBACK_PATH): "login",
    ("POST", "/oauth/paste"): "login",
}
"""By method and path (a route's pattern)."""

QUESTIONS: Final = frozenset((("POST", "/api/explain"), ("POST", "/api/cache/show")))
"""Other routes than GET that change nothing."""


def target_of(order: Mapping[str, object]) -> str:
    """What a changing call is about, in a line: its members, without the bodies among them."""
    words = []
    for name, value in order.items():
        if value is True:
            words.append(name)
        elif isinstance(value, list):
            words.append(f"{len(value)} {name}")
        elif isinstance(value, str) and name in ("url", "prefix", "route", "tag", "command", "what"):
            words.append(f"{name} {value}")
    return ", ".join(words)
