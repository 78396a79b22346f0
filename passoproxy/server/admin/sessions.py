"""Page sessions: a user of `control.sock` gets a link, and the browser that opens it a cookie, with which it may change things.

They are in memory, and end with the process.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

from passoproxy.errors import CommandFailure
from passoproxy.values import dataclass

SESSION_PATH = "/page/session"
LINK_SECONDS = 600.0
SESSION_SECONDS = 12 * 3600.0
_MOST = 64
"""So many links, and so many sessions, are good at once; the oldest give way."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageLink:
    """`url` opens the page once, until `expires_at` (epoch seconds). `socket` is the unix socket that it is reached by, '' for none."""

    url: str
    expires_at: float
    socket: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """Open until `until` (epoch seconds). `user` is whose browser began it, None if unknown."""

    until: float
    user: int | None


class PageSessions:
    """The links that were handed out, and the sessions that they began. `wall` gives epoch seconds.

    `command` tells a person how to get a link. `address` is the admin listener's URL, or `unix:` and its path; '' until it is known, or off.
    """

    def __init__(
        self,
        command: Callable[[], str] = lambda: "passoproxy page",
        wall: Callable[[], float] = time.time,
        chance: Callable[[], str] = lambda: secrets.token_urlsafe(24),
    ) -> None:
        self.command, self._wall, self._chance = command, wall, chance
        self.address = ""
        self._links: dict[bytes, float] = {}
        self._sessions: dict[bytes, Session] = {}

    def link(self) -> PageLink:
        """A new link. Raises CommandFailure if there is no page."""
        if not self.address:
            raise CommandFailure("there is no status page: admin.listen is off; the commands do all that it does")
        word, until = self._chance(), self._wall() + LINK_SECONDS
        _put(self._links, word, until)
        is_socket = self.address.startswith("unix:")
        base = "http://localhost" if is_socket else self.address
        return PageLink(
            f"{base}{SESSION_PATH}?{urlencode({'link': word})}", until, self.address[5:] if is_socket else ""
        )

    def begin(self, word: str, user: int | None) -> str | None:
        """The cookie of a new session for the browser that brings a link's word; None for a word that is not good, or not any more.

        `user` is whose browser it is, None if unknown: another user of this machine cannot use its cookie.
        """
        until = self._links.pop(_digest(word), 0.0)
        if until <= self._wall():
            return None
        cookie = self._chance()
        _put(self._sessions, cookie, Session(self._wall() + SESSION_SECONDS, user))
        return cookie

    def of(self, cookie: str) -> Session | None:
        """The open session of a cookie."""
        found = self._sessions.get(_digest(cookie))
        return found if found is not None and found.until > self._wall() else None


def _put(known: dict[bytes, T], word: str, value: T) -> None:
    if len(known) >= _MOST:
        del known[next(iter(known))]
    known[_digest(word)] = value


def _digest(word: str) -> bytes:
    # Looked up by its digest, so that the time tells nothing of the words.
    return hashlib.sha256(word.encode("utf-8", "surrogateescape")).digest()
