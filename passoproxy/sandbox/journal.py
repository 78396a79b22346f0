"""What really arrived: every request and every token, with credentials hashed, in bounded memory; and the middleware that notes it.

The sandbox's own control paths (`/__sandbox/…`) are not in it, so that looking does not change what is seen.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Protocol
from urllib.parse import unquote_plus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDictProxy

_SECRET_FIELDS = frozenset(
    {"access_token", "refresh_token", "token", "client_secret", "code", "code_verifier", "id_token", "assertion"}
)
_SECRET_HEADER = re.compile(r"cookie|secret|token|key|credential", re.IGNORECASE)
_SECRET_PATH = re.compile(r"(?<=/auth/login/)[^/]+")
_AUTHORIZATION = frozenset({"authorization", "proxy-authorization"})


def fingerprint(secret: str) -> str:
    """`sha256:` and the first 16 hexadecimal digits: enough to tell secrets apart, useless to a reader."""
    return "sha256:" + hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def cover_header(name: str, value: str) -> str:
    """A header value that may be shown: credentials are replaced by their fingerprint, their scheme is kept."""
    if name.lower() in _AUTHORIZATION:
        scheme, space, credential = value.partition(" ")
        return f"{scheme} {fingerprint(credential.strip())}" if space else fingerprint(value)
    return fingerprint(value) if _SECRET_HEADER.search(name) else value


def cover_query(query: str) -> str:
    """A query string, byte for byte, in which only the values of fields that hold secrets are replaced."""
    if not query:
        return query
    return "&".join(_cover_field(field) for field in query.split("&"))


def _cover_field(field: str) -> str:
    name, equals, value = field.partition("=")
    if equals and unquote_plus(name).lower() in _SECRET_FIELDS:
        return f"{name}={fingerprint(unquote_plus(value))}"
    return field


@dataclass(slots=True)
class Entry:
    """One request; what is not known yet, or does not apply, is None."""

    index: int
    time: float
    method: str
    path: str
    query: str
    target: str
    headers: dict[str, str]
    status: int | None = None
    outcome: str | None = None
    token_valid: bool | None = None
    fault: str | None = None
    body_bytes: int | None = None
    body_sha256: str | None = None
    grant_type: str | None = None
    client_auth: str | None = None
    refresh_token: str | None = None
    code: str | None = None

    def struck(self, fault: str) -> None:
        """Notes a fault; a request that met several names all of them."""
        self.fault = fault if self.fault is None else f"{self.fault},{fault}"

    def describe(self) -> dict[str, object]:
        """The journal's view."""
        return {name: getattr(self, name) for name in Entry.__slots__}

    def note_body(self, raw: bytes) -> None:
        """Notes a body that was read, by length and digest; not for bodies that hold credentials."""
        self.body_bytes, self.body_sha256 = len(raw), hashlib.sha256(raw).hexdigest()[:16]


class Noted(Protocol):
    """What the journal can show."""

    def describe(self) -> dict[str, object]: ...


class Journal:
    """The record of a sandbox's life, oldest entries dropped first."""

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests: deque[Entry] = deque(maxlen=size)
        self._tokens: deque[Noted] = deque(maxlen=size)
        self._next = 0

    def arrived(self, method: str, target: str, headers: CIMultiDictProxy[str]) -> Entry:
        """Notes a request at the moment when its head is complete; the caller fills in how it went."""
        path, mark, query = target.partition("?")
        path, query = _SECRET_PATH.sub(lambda found: fingerprint(found[0]), path), cover_query(query)
        entry = Entry(
            self._next, self._clock(), method, path, query, path + mark + query, _cover(tuple(headers.items()))
        )
        self._next += 1
        self._requests.append(entry)
        return entry

    def issued(self, token: Noted) -> None:
        """Notes a token; later changes of it show by themselves."""
        self._tokens.append(token)

    def requests(self, since: int = 0) -> list[Entry]:
        """The entries with an index of `since` or more, oldest first."""
        first = self._requests[0].index if self._requests else self._next
        return list(islice(self._requests, max(0, since - first), None))

    def tokens(self) -> list[Noted]:
        """Every token that was issued, oldest first."""
        return list(self._tokens)

    @property
    def next_index(self) -> int:
        """The index that the next request will get; indexes are never used twice, not even after `clear`."""
        return self._next

    def clear(self) -> None:
        """Forgets requests and tokens; the tokens themselves stay valid."""
        self._requests.clear()
        self._tokens.clear()


@lru_cache(maxsize=256)
def _cover(fields: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """What the journal shows of a head; clients repeat themselves, so that equal heads share one."""
    shown: dict[str, str] = {}
    for name, value in fields:
        covered = cover_header(name, value)
        shown[name] = f"{shown[name]}, {covered}" if name in shown else covered
    return shown


ENTRY = web.RequestKey("entry", Entry)
CONTROL = "/__sandbox/"
ORIGIN = "/api/"


def entry_of(request: web.Request) -> Entry:
    """The journal's entry of a request that is being answered."""
    return request[ENTRY]


def recording(journal: Journal, latency: float, sleep: Callable[[float], Awaitable[object]]) -> Middleware:
    """Notes each request, waits `latency` seconds before answers other than the origin's (its guard waits), and answers refusals of the framework."""

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(CONTROL):
            return await _answer(request, handler)
        request[ENTRY] = entry = journal.arrived(request.method, request.raw_path, request.headers)
        if latency and not request.path.startswith(ORIGIN):
            await sleep(latency)
        try:
            answer = await _answer(request, handler)
        except Exception:
            entry.status, entry.outcome = 500, "failed"
            raise
        if entry.outcome is None:
            entry.outcome = "answered"
        if entry.outcome != "dropped":
            entry.status = answer.status
        return answer

    return around


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        answer = _plain(request, 413, "The body is larger than the sandbox takes (1 MiB).")
        answer.force_close()
        return answer
    except web.HTTPMethodNotAllowed as refused:
        allowed, path = ", ".join(sorted(refused.allowed_methods)), request.path.lstrip("/")
        text = f"The {request.method} method is not supported for route {path}. Supported: {allowed}."
        # The data service documents 404 as "method not allowed"; the provider is an ordinary server.
        answer = _plain(request, 404 if request.path.startswith(ORIGIN) else 405, text)
        answer.headers["Allow"] = allowed
        return answer
    except web.HTTPNotFound:
        return _plain(request, 404, f"The route {request.path.lstrip('/')} could not be found.")


def _plain(request: web.Request, status: int, text: str) -> web.Response:
    body = json.dumps({"message": text}).replace("/", "\\/")
    headers = {"Cache-Control": "no-cache, private"} if request.path.startswith(ORIGIN) else None
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)
