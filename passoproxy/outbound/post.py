"""One POST on a connection of its own, and its answer read as leniently as can be: for the provider's endpoints and the webhook.

The provider's answer may hold the only copy of a pair (contract §4), so no fault in its framing costs what arrived whole. Answers of the origin
are read strictly instead (`connection`). What an answer means is up to the caller.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterator
from typing import cast

from yarl import URL

from passoproxy import __version__
from passoproxy.outbound.connection import encoded
from passoproxy.outbound.dial import Endpoint
from passoproxy.ports import BytesBody
from passoproxy.values import dataclass

MAX_BODY_BYTES = 64 * 1024 + 1
"""What is read of a body: one byte more than an answer may have, so that an oversize one is noticed."""

MAX_WIRE_BYTES = 1024 * 1024
"""What is read of an answer as a whole, its head and framing included."""

LINGER = 1.0
"""Seconds for what may follow an answer that is whole by its content or by its framing, and not by both."""

_OWN_FIELDS = frozenset({"user-agent", "accept-encoding", "host", "content-length", "connection"})
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_STATUS_LINE = re.compile(rb"\s*HTTP/\S+[ \t]+([1-9][0-9]{2})(?![0-9])")
_CHUNK_HEAD = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})(?:[ \t;][^\r\n]*)?\r?\n")
_ANY_CHUNK_HEAD = re.compile(rb"(?:\A|\r?\n)[0-9A-Fa-f]{1,8}(?:[ \t;][^\r\n]*)?\r?\n")
_CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Window bits by content coding, as zlib counts them."""


def request_bytes(url: str, endpoint: Endpoint, fields: tuple[tuple[str, str], ...], body: bytes) -> bytes:
    """The whole request as it goes onto the wire. Raises BadRequest if a part of it would break the message."""
    given = [pair for pair in fields if pair[0].lower() not in _OWN_FIELDS]
    own = [
        ("Host", endpoint.authority),
        ("User-Agent", f"passoproxy/{__version__}"),
        ("Accept-Encoding", "gzip"),
        ("Connection", "close"),
    ]
    target = URL(url, encoded=True).raw_path_qs or "/"
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in (*own, *given))]
    return encoded(lines, "POST", BytesBody(body)) + body


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was understood. `is_framed`: its framing says that it is all there; `is_whole`: so does its content.

    `status` is 0 if there is no readable one. A coded body is decoded; one that cannot be is given as it came.
    """

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    is_framed: bool
    is_whole: bool


IsWhole = Callable[[int, bytes], bool]
"""Whether a body under a status (0: unreadable) is all that is waited for."""


class Exchange(asyncio.Protocol):
    """Carries one request. `send` it, await `over`, then take the `answer`, or None if it is lost; `abort` at the end."""

    def __init__(self, is_whole: IsWhole, linger: float = LINGER) -> None:
        self._is_whole, self._linger = is_whole, linger
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._raw = bytearray()
        self._closed_cleanly = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def send(self, request: bytes) -> None:
        """Puts the request on its way."""
        if self._transport is not None:
            self._transport.write(request)

    @property
    def stands(self) -> bool:
        """Whether the connection is there, and the other side has not ended it."""
        return self._transport is not None and not self._over.done()

    async def over(self) -> None:
        """Waits until nothing more is worth waiting for."""
        await self._over

    def answer(self) -> Answer | None:
        """What arrived so far, if it can be used."""
        found = understood(bytes(self._raw), self._closed_cleanly, self._is_whole)
        return found if found.is_whole or (found.status >= 200 and found.is_framed) else None

    def abort(self) -> None:
        """Ends the connection."""
        self._end()
        if self._transport is not None:
            self._transport.abort()

    # ---- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._over.done():
            return
        self._raw += data
        found = understood(bytes(self._raw), False, self._is_whole)
        awaits_content = found.status < 300 and not found.is_whole
        if (found.is_framed and not awaits_content) or len(self._raw) > MAX_WIRE_BYTES:
            self._end()
        elif (found.is_framed or found.is_whole) and self._timer is None:
            self._timer = self._loop.call_later(self._linger, self._end)

    def eof_received(self) -> None:
        self._closed_cleanly = True
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed_cleanly = self._closed_cleanly or exc is None
        self._transport = None
        self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._over.done():
            self._over.set_result(None)


# ---- reading leniently -----------------------------------------------------------------------------------------------


def understood(raw: bytes, closed: bool, is_whole: IsWhole) -> Answer:
    """The answer in what arrived, by the reading under which it is whole; `closed`: nothing follows, and the end came in order."""
    status, fields, rest = _head(raw)
    named = {name.lower(): value for name, value in reversed(fields)}
    coding = named.get("content-encoding", "").lower()
    framed, is_framed = _framed(status, fields, named, rest, closed)
    if len(framed) >= MAX_BODY_BYTES:
        return Answer(status, fields, framed[:MAX_BODY_BYTES], True, True)
    for candidate in _readings(framed, rest):
        body = _decoded(candidate, coding)
        if is_whole(status, body):
            return Answer(status or 200, fields, body, is_framed, True)
    return Answer(status, fields, _decoded(framed, coding, to_its_end=True), is_framed, False)


def _head(raw: bytes) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    """Status, fields and the bytes behind, interim heads passed over; status 0 and all bytes if there is no head."""
    at = 0
    while (end := _END_OF_HEAD.search(raw, at)) is not None:
        first, *lines = _LINE_END.split(raw[at : end.start()])
        if (found := _STATUS_LINE.match(first)) is None:
            break
        if (status := int(found[1])) >= 200:
            return status, tuple(_fields(lines)), raw[end.end() :]
        at = end.end()
    return 0, (), raw[at:]


def _fields(lines: list[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, colon, value = line.decode("utf-8", "surrogateescape").partition(":")
        if colon and name.strip():
            yield name.strip(), value.strip()


def _framed(
    status: int, fields: tuple[tuple[str, str], ...], named: dict[str, str], rest: bytes, closed: bool
) -> tuple[bytes, bool]:
    """The body as its framing has it, and whether that says that it is all there."""
    if status in (204, 304):
        return b"", True
    if "chunked" in named.get("transfer-encoding", "").lower():
        return _unchunked(rest)
    lengths = {value for name, value in fields if name.lower() == "content-length"}
    if len(lengths) == 1 and (length := lengths.pop()).isdecimal() and len(length) < 10:
        return rest[: int(length)], len(rest) >= int(length)
    return rest, closed


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    """The data of the chunks, as far as they are such, and whether the last one is there."""
    parts: list[bytes] = []
    at = 0
    while (head := _CHUNK_HEAD.match(data, at)) is not None:
        size = int(head[1], 16)
        if not size:
            return b"".join(parts), True
        parts.append(data[head.end() : head.end() + size])
        at = head.end() + size
        if (end := _LINE_END.match(data, at)) is not None:
            at = end.end()
    return b"".join(parts), False


def _readings(framed: bytes, rest: bytes) -> Iterator[bytes]:
    """The ways in which a body can be read: as it is framed, as it came, and without what looks like chunks' sizes (JSON has no such line)."""
    yield framed
    yield rest
    yield _ANY_CHUNK_HEAD.sub(b"", rest)
    yield _unchunked(rest)[0]


def _decoded(body: bytes, coding: str, *, to_its_end: bool = False) -> bytes:
    """`body` without its content coding, as much of it as can be had and at most MAX_BODY_BYTES; as it came if the coding is unknown.

    `to_its_end`: what cannot be decoded to its end is given as it came.
    """
    if coding not in _CODINGS:
        return body
    machine = zlib.decompressobj(wbits=_CODINGS[coding])
    try:
        plain = machine.decompress(body, MAX_BODY_BYTES)
    except zlib.error:
        return body
    return body if to_its_end and not machine.eof and len(plain) < MAX_BODY_BYTES else plain
