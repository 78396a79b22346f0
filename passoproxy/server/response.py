"""One request and its answer on a connection: the bytes of heads, the framing of bodies, and how a broken answer ends.

The proxy's own answers: problem documents (RFC 9457) with `code`, `Proxy-Status` (RFC 9209) and `Cache-Status` (contract §6).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from passoproxy.core.http.messages import (
    BODILESS,
    ResponseHead,
    declared_length,
    fields_of,
    head_text,
)
from passoproxy.errors import BodyBroken, OriginInvalid, Refusal
from passoproxy.ports import Body, BytesBody, Client, Response
from passoproxy.proxy.hits import Hit
from passoproxy.server.request import Received, RequestBody

if TYPE_CHECKING:
    from passoproxy.server.connection import ProxyConnection

_NONE = ResponseHead(0)
_KEEP_ALIVE, _CLOSE = b"Connection: keep-alive\r\n\r\n", b"Connection: close\r\n\r\n"
_COPIED = 16 * 1024  # bytes of a body that cost less to copy behind the head than to write by themselves
PIECE_BYTES = 64 * 1024
"""So much of a body is written at once; the next piece waits until the client has taken enough of those before."""


def head_bytes(head: ResponseHead, framing: Iterable[str], date: str = "") -> bytes:
    """A head on the wire: its fields but those of framing, for which `framing` has lines, and `date` if it has none itself.

    Raises OriginInvalid if a field holds what would end the head early.
    """
    text = "".join((head_text(head, date), *(f"{line}\r\n" for line in framing), "\r\n"))
    if "\0" in text:
        raise OriginInvalid("a field of the answer holds NUL")
    return text.encode("utf-8", "surrogateescape")


class Exchange:
    """One request on a connection and the one answer to it. `started` is `time.perf_counter()` at the first byte of its head, `answer` the head
    of what was last sent, or begun to be, and `raw_head` its bytes. `hit` is what was sent of a hit from memory, if it says nothing of the moment
    but `Age` and `ttl`.
    """

    __slots__ = (
        "_connection",
        "answer",
        "begun",
        "body",
        "client",
        "head",
        "hit",
        "raw_head",
        "received",
        "sent_bytes",
        "started",
        "will_close",
    )

    def __init__(
        self,
        connection: ProxyConnection,
        received: Received,
        body: Body,
        client: Client,
        started: float,
    ) -> None:
        self._connection = connection
        self.received, self.head = received, received.head
        self.body = body
        self.client = client
        self.started = started
        self.begun = False
        self.will_close = not received.keep_alive
        self.answer = _NONE
        self.raw_head = b""
        self.hit: Hit | None = None
        self.sent_bytes = 0

    @property
    def fault(self) -> Refusal | None:
        """What is known to be wrong with the request's body."""
        return self.body.fault if isinstance(self.body, RequestBody) else None

    def send_hit(self, hit: Hit, more: bytes = b"") -> None:
        """Writes the whole answer; `more` is a field line of the moment."""
        connection, form, body = self._connection, hit.form, hit.body
        keep = connection.keeps_on(self.received.keep_alive)
        date = b"" if form.dated else b"Date: %b\r\n" % connection.date().encode()
        length = b"" if form.length is None else b"Content-Length: %d\r\n" % form.length
        option = b"\r\n" if keep and self.head.version >= (1, 1) else _KEEP_ALIVE if keep else _CLOSE
        self.begun, self.will_close, self.hit = True, not keep, None if more else hit
        self.sent_bytes = len(body)
        self.raw_head = head = b"".join((hit.head, more, date, length, option))
        if self.sent_bytes <= _COPIED:
            connection.write(head + body)
        else:
            connection.writelines((head, body))

    async def send(self, response: Response) -> None:
        """Writes the whole answer and closes its body.

        Raises BodyBroken, after the connection was reset, if the body breaks off; before anything was written, what the body raises.
        CancelledError means that the client left.
        """
        self.answer = response.head
        try:
            await self._send(response.head, response.body)
        finally:
            await response.body.aclose()

    async def _send(self, head: ResponseHead, body: Body) -> None:
        if head.status < 200:
            raise OriginInvalid("an interim status cannot be the answer")
        if self.head.method == "HEAD" or head.status in BODILESS:
            unsent = len(body.data) if isinstance(body, BytesBody) and head.status != 204 else 0
            self._begin(head, unsent or declared_length(head))
        elif isinstance(body, BytesBody):
            self._begin(head, len(body.data), body.data)
            if len(body.data) > PIECE_BYTES:
                await self._pour(body.data, begun_with=PIECE_BYTES)
        elif body.length is not None:
            await self._send_sized(head, body, body.length)
        else:
            await self._send_unsized(head, body)

    async def _send_sized(self, head: ResponseHead, body: Body, length: int) -> None:
        # The first part is awaited before the head goes out: a body that fails at once can still become an error answer,
        # and a small one travels in one write with its head.
        first = await anext(body, b"")
        if len(first) > length or (length and not first):
            raise BodyBroken("the answer's body has another length than it says")
        self._begin(head, length, first)
        left = length - len(first)
        try:
            await self._pour(first, begun_with=PIECE_BYTES)
            # To its very end, also when all bytes are there: that is when those who store it learn that it is whole.
            async for part in body:
                left -= len(part)
                if left < 0:
                    break
                await self._pour(part)
        except Exception as fault:
            raise self._broken() from fault
        if left:
            raise self._broken()

    async def _send_unsized(self, head: ResponseHead, body: Body) -> None:
        chunked = self.head.version >= (1, 1)
        self._begin(head, None, chunked=chunked)
        try:
            async for part in body:
                await self._pour(part, chunked=chunked)
        except Exception as fault:
            raise self._broken() from fault
        if chunked:
            self._connection.write(b"0\r\n\r\n")

    def _begin(self, head: ResponseHead, length: int | None, data: bytes = b"", *, chunked: bool = False) -> None:
        framing: list[str] = []
        if length is not None:
            framing.append(f"Content-Length: {length}")
        elif chunked:
            framing.append("Transfer-Encoding: chunked")
        framed = length is not None or chunked or self.head.method == "HEAD" or head.status in BODILESS
        keep = self._connection.keeps_on(self.received.keep_alive and framed)
        if not keep:
            framing.append("Connection: close")
        elif self.head.version < (1, 1):
            framing.append("Connection: keep-alive")
        self.raw_head = raw = head_bytes(head, framing, self._connection.date())
        self.begun = True
        self.will_close = not keep
        first = data[:PIECE_BYTES]
        self.sent_bytes += len(first)
        self._connection.write(raw + first if first else raw)

    async def _pour(self, data: bytes, *, begun_with: int = 0, chunked: bool = False) -> None:
        if len(data) <= begun_with:
            return
        whole = memoryview(data)
        for at in range(begun_with, len(data), PIECE_BYTES):
            piece = whole[at : at + PIECE_BYTES]
            if chunked:
                self._connection.writelines([b"%x\r\n" % len(piece), piece, b"\r\n"])
            else:
                self._connection.write(piece)
            self.sent_bytes += len(piece)
            await self._connection.room()

    def on_interim(self, head: ResponseHead) -> None:
        """Passes a 102 or 103 on, to a client that understands it and takes what is written."""
        if not self.begun and not self._connection.crowded and self.head.version >= (1, 1):
            self._connection.write(head_bytes(head, ()))

    def _broken(self) -> BodyBroken:
        self.will_close = True
        self._connection.abort()
        return BodyBroken("the answer's body ended before its end, or went past it; the client's connection was reset")


OWN_NAME = "passoproxy"
"""Our name in `Cache-Status` and `Proxy-Status`."""


def problem(refusal: Refusal, request_id: str = "") -> Response:
    """The answer that tells a client of `refusal`; it repeats nothing of the request but what the refusal's text holds, and its trace id."""
    document = {
        "type": f"urn:passoproxy:problem:{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
    }
    if request_id:
        document["request_id"] = request_id
    fields = (
        ("Content-Type", "application/problem+json"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Proxy-Status", f"{OWN_NAME}; error={refusal.proxy_error}"),
        ("Cache-Status", f"{OWN_NAME}; fwd=bypass; detail={refusal.code}"),
        *refusal.fields,
    )
    # Escaped to ASCII, because a detail may hold bytes of a client that are no UTF-8.
    body = json.dumps(document).encode("ascii")
    return Response(ResponseHead(refusal.status, fields_of(fields)), BytesBody(body))
