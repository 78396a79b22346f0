"""`gateway.record`: a hop that writes what clients were answered as files.

It stands outside the cache, and so far before the bearer and `upstream.headers` are added: neither is in what it sees. What clients sent as
credentials is left out, and bodies are masked as log lines are. Files are written in a thread of its own, behind the answers; whatever goes wrong
there is a warning, and no client's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from passoproxy.core.cache.cache_status import NAME
from passoproxy.core.cache.etag import is_made
from passoproxy.core.cache.validation import unconditional
from passoproxy.core.cache.vary import nominated
from passoproxy.core.events import Warned
from passoproxy.core.http.conditional import weak
from passoproxy.core.http.content_coding import content_coding
from passoproxy.core.http.messages import TRACING, RequestHead, ResponseHead, fields_of
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.redaction import SECRET_FIELDS, Redactor
from passoproxy.core.routes import UNLISTED
from passoproxy.errors import BodyBroken
from passoproxy.gateway.folder import Folder, masked, readable, telling_fields
from passoproxy.gateway.recording import LONGEST_BODY, Recording, masked_body, masked_value, uncoded
from passoproxy.ports import Body, BytesBody, Hop, Observer, Request, Response
from passoproxy.proxy.codecs import known
from passoproxy.proxy.spool import gathered
from passoproxy.values import dataclass

MOST_WAITING = 16 * LONGEST_BODY
"""Bytes of requests and answers that arrive or wait for the disk; those beyond it are not recorded."""
_KEPT = 4 * 1024
"""Bytes of a recorded answer that stay in memory."""
_HEADS = 8 * 1024
"""What each of them takes beside its bodies, about."""

_TOO_FAST = "more comes at once than can be kept, or than the disk takes"

_DIGESTS = frozenset({"content-digest", "content-md5", "digest", "repr-digest", "unencoded-digest"})
_LEFT_OUT = (
    SECRET_FIELDS
    | _DIGESTS
    | {"age", "cache-status", "connection", "content-length", "keep-alive", "set-cookie2", "transfer-encoding", "via"}
)
"""Fields of an answer that are no part of a recording: credentials, framing, what the proxy writes anew, digests of bytes that a person edits."""

_VOLATILE = TRACING | {
    "cf-ray", "date", "etag", "expires", "last-modified", "ratelimit", "ratelimit-remaining", "ratelimit-reset", "server-timing",
    "x-amz-cf-id", "x-amzn-requestid", "x-ratelimit-remaining", "x-ratelimit-reset", "x-response-time", "x-runtime", "x-trace-id",
}  # fmt: skip
"""Fields that differ from one answer to the next, whatever is answered."""

_VOLATILE_MEMBERS = ("requestid", "request_id", "responsetime", "response_time", "timestamp")
"""Of a JSON body, beside the `volatile_fields` of the route."""

_PASSING = frozenset({401, 407, 408, 425, 429})
"""Beside 5xx: answers that say something of the moment, and never take the place of another recording."""


@dataclass(frozen=True, slots=True)
class _Exchange:
    request: Request
    asked: bytes
    head: ResponseHead
    body: bytes
    bearers: tuple[str, ...]


class Recorder:
    """The hop. Close it to have everything written."""

    def __init__(
        self,
        next: Hop,
        folder: Path,
        redactor: Callable[[], Redactor],
        observer: Observer,
        bearer: Callable[[], Bearer | None] = lambda: None,
    ) -> None:
        """`bearer` is that of the moment: what is stored may show it, too."""
        self._next, self._folder, self._redactor, self._observer = next, Folder(folder, _KEPT), redactor, observer
        self._bearer, self._bearers = bearer, deque[str](maxlen=8)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._waiting, self._failing, self._is_closed = 0, False, False
        self._told_personal: set[Path] = set()
        self._thread.submit(self._begin)

    def _begin(self) -> None:
        self._folder.clear_begun()
        self._folder.look()

    async def look(self) -> None:
        """Counts the recordings anew."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._folder.look)

    def shown(self) -> dict[str, object]:
        """For the daemon's status."""
        return {"mode": "record", "directory": str(self._folder.path), "recordings": self._folder.count}

    async def send(self, request: Request) -> Response:
        """The answer of the hop behind, recorded when a client has had all of it. It is asked for whole, without conditions."""
        head = unconditional(request.head) if request.head.method in ("GET", "HEAD") else request.head
        request = replace(request, head=head)
        length = LONGEST_BODY if request.body.length is None else min(request.body.length, LONGEST_BODY)
        if not self._has_room(taken := _HEADS + length):
            self._skip(head, _TOO_FAST)
            return await self._next.send(request)
        try:
            body = await gathered(request.body, LONGEST_BODY)
            request = replace(request, body=body)
            response = await self._next.send(request)
        finally:
            self._waiting -= taken
        if response.head.status in (206, 304):
            return response
        if not isinstance(body, BytesBody):
            self._skip(head, f"the request's body is longer than {LONGEST_BODY} bytes")
            return response
        if isinstance(response.body, BytesBody):
            self._take(request, body.data, response.head, response.body.data)
            return response
        if not self._has_room(size := _HEADS + len(body.data)):
            self._skip(head, _TOO_FAST)
            return response

        def came(data: bytes | None, held: int, why: str) -> None:
            self._waiting -= size + held
            if data is not None:
                self._take(request, body.data, response.head, data)
            elif why:
                self._skip(head, why)

        return Response(response.head, _RecordedBody(response.body, self._has_room, came), response.content_id)

    def _has_room(self, size: int) -> bool:
        """Whether so many bytes more may wait; then they are counted."""
        if self._waiting + size > MOST_WAITING:
            return False
        self._waiting += size
        return True

    def _take(self, request: Request, asked: bytes, head: ResponseHead, body: bytes) -> None:
        if self._is_closed:
            return
        for each in (request.trail.bearer, self._bearer()):
            if each is not None and each.token not in self._bearers:
                self._bearers.append(each.token)
        exchange = _Exchange(request, asked, head, body, tuple(self._bearers))
        if not self._has_room(size := _HEADS + len(asked) + len(body)):
            self._skip(request.head, _TOO_FAST)
            return
        loop, redactor = asyncio.get_running_loop(), self._redactor()
        future = self._thread.submit(self._keep, exchange, redactor)

        def done(kept: Future[list[Warned]]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._tell, size, kept)

        future.add_done_callback(done)

    def _tell(self, size: int, kept: Future[list[Warned]]) -> None:
        self._waiting -= size
        for warned in kept.result():
            self._observer(warned)

    def _skip(self, head: RequestHead, why: str) -> None:
        self._observer(_skipped(head, why, self._redactor()))

    def _keep(self, exchange: _Exchange, redactor: Redactor) -> list[Warned]:
        """In the thread. What is to be told of it."""
        status, told = exchange.head.status, list[Warned]()
        try:
            policy = (exchange.request.policy or UNLISTED).key
            replaces = status < 500 and status not in _PASSING
            kept = self._folder.keep(recording_of(exchange, redactor), policy, replaces=replaces)
        except OSError as fault:
            if not self._failing:
                said = f"{self._folder.path}: an answer could not be recorded ({fault.strerror}); make room or permissions there"
                told.append(Warned("recording_failed", said))
            self._failing = True
            return told
        except Exception as fault:  # whatever an answer holds, the next one is recorded
            why = str(fault) if isinstance(fault, BodyBroken | ValueError) else type(fault).__name__
            return [_skipped(exchange.request.head, why, redactor)]
        if self._failing:
            self._failing = False
            told.append(Warned("recording_failed", "answers can be recorded again", over=True))
        if kept is not None:
            path, names = kept
            if names and path not in self._told_personal:
                self._told_personal.add(path)
                said = f"{readable(path)} may hold personal data ({', '.join(names[:8])}): look before you share it"
                told.append(Warned("recording_personal", said))
        return told

    async def close(self) -> None:
        """Waits until everything is written. What ends later is not recorded."""
        self._is_closed = True
        await asyncio.to_thread(self._thread.shutdown)
        await asyncio.sleep(0)  # what is to be told is told


def _skipped(head: RequestHead, why: str, redactor: Redactor) -> Warned:
    """One warning for all, since they are as many as clients ask for."""
    said = f"{head.method} {redactor.target(head.target)} is not recorded: {why}; write that file by hand if it is needed (docs/gateway.md)"
    return Warned("recording_skipped", said)


def recording_of(exchange: _Exchange, redactor: Redactor) -> Recording:
    """What is kept of an exchange. Raises BodyBroken for a body that is not in its coding, ValueError for one that is too long."""
    request, head, body = exchange.request, exchange.head, exchange.body
    policy, fields = request.policy or UNLISTED, head.fields
    coding = known(content_coding(fields))
    body, sent = uncoded(body, fields), uncoded(exchange.asked, request.head.fields)
    redactor = redactor.knowing(
        {*exchange.bearers, *_credentials(request.head)}
    )  # an origin may show the request that it got
    shown = masked_body(body, fields, redactor)
    gone = set(_LEFT_OUT)
    if coding is not None:
        gone.add("content-encoding")
    elif request.head.method == "HEAD":
        gone.remove("content-length")  # of a body that is not there
    kept = []
    for name, text in fields.items():
        lower = name.lower()
        if lower in gone or lower.startswith(f"{NAME}-") or (lower == "etag" and is_made(text)):
            continue
        is_of_other_bytes = lower == "etag" and (coding is not None or shown != body)
        kept.append((name, weak(text) if is_of_other_bytes else masked_value(name, text, redactor)))
    answer = ResponseHead(head.status, fields_of(kept))
    telling = {*policy.key.headers, *(nominated(fields) or ())}
    asked = masked(telling_fields(request.head, map(str.lower, telling)), sent, redactor)
    volatile = [name for name in dict.fromkeys(answer.fields) if name.lower() in _VOLATILE]
    for name in dict.fromkeys((*policy.volatile_fields, *_VOLATILE_MEMBERS)):
        if f'"{name.rpartition(".")[2]}"'.encode() in shown:
            volatile.append(f"body.{name}")
    return Recording(*asked, answer, shown, tuple(volatile))


def _credentials(head: RequestHead) -> Iterator[str]:
    """What a client sent as credentials, but what is too short to be told from other content."""
    for name, text in head.fields.items():
        if name.lower() == "cookie":
            values = (each.partition("=")[2].strip() for each in text.split(";"))
            yield from (value for value in values if len(value) >= 16)
        elif name.lower() in SECRET_FIELDS and len(said := text.rpartition(" ")[2]) >= 8:
            yield said
            with contextlib.suppress(ValueError):  # Basic
                yield base64.b64decode(said, validate=True).decode().partition(":")[2]


class _RecordedBody:
    """A body that is kept on its way. At its end, or if it is not kept any more, `came` is given what it was, None if not all, with the bytes that
    were taken of `has_room`, and why it is not recorded, '' for one that broke off.
    """

    __slots__ = ("_body", "_came", "_has_room", "_kept", "length")

    def __init__(
        self, body: Body, has_room: Callable[[int], bool], came: Callable[[bytes | None, int, str], None]
    ) -> None:
        self.length = body.length
        self._body, self._has_room = body, has_room
        self._came: Callable[[bytes | None, int, str], None] | None = came
        self._kept = bytearray()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            part = await self._body.__anext__()
        except StopAsyncIteration:
            self._over(bytes(self._kept))
            raise
        if self._came is not None:
            if len(self._kept) + len(part) > LONGEST_BODY:
                self._over(None, f"the answer is longer than {LONGEST_BODY} bytes")
            elif not self._has_room(len(part)):
                self._over(None, _TOO_FAST)
            else:
                self._kept += part
        return part

    def _over(self, data: bytes | None, why: str = "") -> None:
        came, self._came = self._came, None
        if came is not None:
            came(data, len(self._kept), why)
            self._kept.clear()

    async def aclose(self) -> None:
        self._over(None)
        await self._body.aclose()
