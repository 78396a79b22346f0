"""From bytes to a request: a head as it gathers, what it means, and the body while it arrives.

A head passes the strict scan first, then aiohttp's C parser for the fields, then the framing rules.

The parser is undocumented and pinned; `tests/server/test_parser_facts.py` states each thing relied upon. It is given the field lines
under a request line of ours, so that methods it does not know, targets and versions are judged by `core.http` alone; a new one
for each head, so that nothing of one request can reach another.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from passoproxy.core.http.framing import (
    Chunked,
    ChunkReader,
    RequestFraming,
    Sized,
    expects_continue,
    keeps_alive,
    request_framing,
)
from passoproxy.core.http.messages import TRACING, FieldLines, Fields, RequestHead, changed
from passoproxy.core.http.request_line import (
    HEAD_END,
    parse_authority,
    scan_beginning,
    scan_fields,
    scan_request_line,
)
from passoproxy.errors import BadRequest, BodyTooLarge, HeadersTooLarge, Refusal
from passoproxy.http_parser import http_exceptions, http_parser

_MAX_CHUNKS = 256  # read at once: a millisecond's work, where single bytes come in chunks


class Pace:
    """How long the next bytes of a body may be waited for: `silence` seconds at most, and so that `min_rate` bytes a second come once
    `grace` seconds were waited (0: no such rate). Time in which no bytes are waited for does not count.
    """

    __slots__ = ("_arrived", "_grace", "_min_rate", "_silence", "_waited")

    def __init__(self, min_rate: int, silence: float, grace: float) -> None:
        self._min_rate, self._silence, self._grace = min_rate, silence, grace
        self._arrived = 0
        self._waited = 0.0

    def note(self, count: int, waited: float) -> None:
        """`count` bytes arrived, for which `waited` seconds were waited."""
        self._arrived += count
        self._waited += waited

    @property
    def patience(self) -> float:
        """Seconds that are left for the next bytes."""
        if not self._min_rate:
            return self._silence
        left = max(self._grace, self._arrived / self._min_rate) - self._waited
        # What came fast earns a pause, and not an hour of single bytes.
        self._waited += max(0.0, left - max(self._grace, self._silence))
        return min(left, self._silence)


class RequestBody:
    """The `Body` of a request that did not arrive whole with its head.

    Iteration raises a Refusal: BadRequest for wrong framing and for an early end, BodyTooLarge, RequestTimeout for bytes that do not come, or come too slowly.
    """

    __slots__ = (
        "_chunks",
        "_closed",
        "_crowded_at",
        "_held",
        "_left",
        "_max_bytes",
        "_on_crowded",
        "_on_wanted",
        "_parts",
        "_received",
        "_waiter",
        "complete",
        "fault",
        "length",
        "pace",
    )

    def __init__(
        self,
        framing: Sized | Chunked,
        on_wanted: Callable[[], None],
        on_crowded: Callable[[], None],
        max_bytes: int,
        max_trailer_bytes: int,
        pace: Pace,
    ) -> None:
        """`max_bytes` bounds a chunked body as it arrives; a sized one was held against it before. `on_wanted` is called when bytes are waited
        for, `on_crowded` when more is held than is taken.
        """
        self.pace = pace
        self.length = framing.length if isinstance(framing, Sized) else None
        self.complete = False
        self.fault: Refusal | None = None
        self._left = self.length or 0
        self._chunks = ChunkReader(max_trailer_bytes, _MAX_CHUNKS) if isinstance(framing, Chunked) else None
        self._on_wanted, self._on_crowded = on_wanted, on_crowded
        self._max_bytes = max_bytes
        self._crowded_at = 64 * 1024
        self._received = 0
        self._held = 0
        self._parts: list[bytes] = []
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None

    # ---- what the connection does --------------------------------------------------------------------------------------

    @property
    def left(self) -> int | None:
        """Bytes still to come; None if the body is chunked."""
        return None if self._chunks is not None else self._left

    @property
    def unread(self) -> bytes:
        """What the last `feed` left to be fed in another turn of the loop."""
        return b"" if self._chunks is None else self._chunks.unread

    @property
    def waiting(self) -> bool:
        """Whether a reader waits for bytes."""
        return self._waiter is not None

    def feed(self, data: bytes) -> bytes:
        """Takes bytes off the wire; gives back those that belong to what follows the body. Not to be called after a fault."""
        if self._chunks is None:
            part, rest = data[: self._left], data[self._left :]
            self._left -= len(part)
            self.complete = not self._left
        else:
            try:
                part = self._chunks.feed(data)
            except Refusal as fault:
                self.fail(fault)
                return b""
            rest, self.complete = self._chunks.rest, self._chunks.done
        self._take(part)
        return rest

    def fail(self, fault: Refusal) -> None:
        """The body will never be whole; its reader gets `fault` once what came before is read."""
        self.fault = fault
        self._wake()

    def end_early(self) -> None:
        """The client stopped sending."""
        self.fail(BadRequest("the connection ended before the request's body did"))

    def _take(self, part: bytes) -> None:
        self._received += len(part)
        if self._received > self._max_bytes:
            self._parts.clear()
            self.fail(BodyTooLarge(f"the body is larger than server.limits.body_bytes ({self._max_bytes} bytes)"))
            return
        if part and not self._closed:
            self._parts.append(part)
            self._held += len(part)
            if self._held > self._crowded_at and not self.complete:
                self._on_crowded()
        if part or self.complete:
            self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ---- what a reader does --------------------------------------------------------------------------------------------

    def __aiter__(self) -> RequestBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self.fault is not None:
                raise self.fault
            if self.complete or self._closed:
                raise StopAsyncIteration
            await self._more()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        return data

    async def _more(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        self._on_wanted()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def aclose(self) -> None:
        """What still arrives is thrown away."""
        self.discard()

    def discard(self) -> None:
        """As `aclose`."""
        self._closed = True
        self._parts.clear()
        self._held = 0
        self._wake()


class HeadGatherer:
    """Takes reads until a head is whole."""

    __slots__ = ("_held", "_max_bytes", "_scanned")

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` bounds request line and fields together, the empty line included."""
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._scanned = 0

    @property
    def begun(self) -> bool:
        """Whether a part of a head is held."""
        return bool(self._held)

    @property
    def asks_for_head_only(self) -> bool:
        """Whether what is held begins as a HEAD request does."""
        return self._held.startswith(b"HEAD ")

    def take(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The head and what follows it; None until it is whole. One empty line before it is passed over (RFC 9112 §2.2).

        Raises HeadersTooLarge, and BadRequest for what no further byte can mend; what is held is then the offence.
        """
        buffer: bytes | bytearray = data
        if self._held:
            self._held += data
            buffer = self._held
        if not self._scanned and buffer.startswith(b"\r\n"):
            buffer = buffer[2:]
        if not buffer or buffer == b"\r":
            self._held = bytearray(buffer)
            return None
        found = buffer.find(HEAD_END, max(0, self._scanned - len(HEAD_END) + 1))
        size = found + len(HEAD_END) if found >= 0 else len(buffer)
        if size > self._max_bytes:
            self._held = bytearray(buffer[:8])
            raise HeadersTooLarge(
                f"request line and fields are over server.limits.header_bytes ({self._max_bytes} bytes)"
            )
        if found < 0:
            if buffer is not self._held:
                self._held = bytearray(buffer)
            scan_beginning(self._held, self._scanned)
            self._scanned = len(self._held)
            return None
        if self._held:
            self._held, self._scanned = bytearray(), 0
        return bytes(buffer[:size]), bytes(buffer[size:])


MOST_FIELDS = 256
"""Field lines in a head; each costs many times its bytes once it is an object."""

LONGEST_TRACED = 1024
"""Bytes of field lines that are remembered, and from which those of TRACING are taken out: so few that no limit on a head is passed unseen."""

_LONGEST_LINE_REMEMBERED = 512
_OWN_REQUEST_LINE = b"GET / HTTP/1.0\r\n"

_BEGINS = "".join(sorted({letter for name in TRACING for letter in name[0] + name[0].upper()}))
_TRACING_LINE = re.compile(
    rf"(\r\n(?=[{_BEGINS}])(?i:{'|'.join(sorted(TRACING))}):[\t -~\x80-\xff]*+)(?=\r\n)".encode("latin-1")
)


class Received(NamedTuple):
    """A head that may be handled. `keep_alive`: what the client asked for (RFC 9112 §9.3); `expects_continue`: it waits for a 100.

    `lines` are the remembered field lines that `head` has its fields from, without those of TRACING, which stand in `traced` as they came;
    None if they are not remembered: then `head` has all fields.
    """

    head: RequestHead
    framing: RequestFraming
    keep_alive: bool
    expects_continue: bool
    lines: FieldLines | None
    traced: tuple[bytes, ...] = ()


def receive(head: bytes, scheme: str) -> Received:
    """Reads a whole head, its empty last line included. Raises BadRequest, or HeadersTooLarge for too many fields.

    What short heads meant is remembered by their bytes, the request line and the field lines each by themselves: nothing in it can be changed.
    """
    end = head.find(b"\r\n")
    begin, rest = head[: end + 2], head[end:]
    line = (_line if end <= _LONGEST_LINE_REMEMBERED else scan_request_line)(begin)
    method, (target, named), version = line.method, line.target, line.version
    if len(rest) <= LONGEST_TRACED:
        rest, traced = untraced(rest)
        fields = _field_lines(rest, scheme, version)
        lines: FieldLines | None = fields.lines
    else:
        fields = _field_lines.__wrapped__(rest, scheme, version)
        lines, traced = None, ()
    request = RequestHead(method, target, fields.lines.fields, fields.host if named is None else named, scheme, version)
    return Received(request, fields.framing, fields.keep_alive, fields.expects_continue, lines, traced)


def untraced(lines: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Field lines, or a whole head, without those of TRACING; and these, each with the line end before it."""
    rest, *traced = _TRACING_LINE.split(lines)
    return (rest + b"".join(traced[1::2]), tuple(traced[::2])) if traced else (lines, ())


def with_traced(head: RequestHead, traced: tuple[bytes, ...]) -> RequestHead:
    """The head with the lines of `Received.traced` as well."""
    if not traced:
        return head
    pairs = [line[2:].decode("utf-8", "surrogateescape").partition(":") for line in traced]
    return head.with_fields(changed(head.fields, adding=[(name, value.strip(" \t")) for name, _, value in pairs]))


class _Lines(NamedTuple):
    """What field lines say: `host` as they name it, '' if they do not."""

    lines: FieldLines
    host: str
    framing: RequestFraming
    keep_alive: bool
    expects_continue: bool


_line = lru_cache(maxsize=2048)(scan_request_line)


@lru_cache(maxsize=512)
def _field_lines(rest: bytes, scheme: str, version: tuple[int, int]) -> _Lines:
    """`rest` is a head without its request line, but for the line end."""
    if rest.count(b"\n") > MOST_FIELDS + 2:
        raise HeadersTooLarge(f"more than {MOST_FIELDS} header fields")
    scan_fields(rest)
    fields = _read_fields(rest)
    host = _host(fields, version)
    framing, expects = request_framing(version, fields), expects_continue(version, fields)
    return _Lines(FieldLines(fields, scheme, version), host, framing, keeps_alive(version, fields), expects)


def _read_fields(rest: bytes) -> Fields:
    lines = _OWN_REQUEST_LINE + rest[2:]
    most = len(lines)
    parser = http_parser.HttpRequestParser(
        None,  # nothing to pause: the parser never sees a body
        asyncio.get_running_loop(),
        most,
        max_line_size=most,
        max_field_size=most,
        max_headers=MOST_FIELDS,
        response_with_body=False,
        auto_decompress=False,
    )
    try:
        messages, _, _ = parser.feed_data(lines)
    except http_exceptions.HttpProcessingError as fault:
        # Its text repeats the line, credentials included: never passed on.
        raise BadRequest(
            "the header fields are not as RFC 9112 has them, or one that must be alone is there twice"
        ) from fault
    if len(messages) != 1:
        raise BadRequest("the header fields do not end where they seem to")
    fields: Fields = messages[0][0].headers
    return fields


def _host(fields: Fields, version: tuple[int, int]) -> str:
    hosts = fields.getall("Host", ())
    if len(hosts) > 1:
        raise BadRequest("more than one Host field (RFC 9112 §3.2)")
    if not hosts and version >= (1, 1):
        raise BadRequest("no Host field (RFC 9112 §3.2)")
    if hosts and parse_authority(hosts[0]) is None:
        raise BadRequest("the Host field is not valid (RFC 9112 §3.2)")
    return hosts[0] if hosts else ""
