"""Reading an origin's answer: its head, and its body as it arrives.

aiohttp's C parser is lenient with answers (bare LF, obsolete folding, control characters, any version), so a strict pattern over the whole head
comes first, and the parser only decodes what has passed. How a body is framed is decided in `core.http.framing`.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from passoproxy.core.http.framing import Chunked, ChunkReader, ResponseFraming, Sized, keeps_alive
from passoproxy.core.http.messages import Fields
from passoproxy.core.http.syntax import WORD_CHARACTERS
from passoproxy.errors import BodyBroken, OriginInvalid, PassoproxyError
from passoproxy.http_parser import BaseProtocol, http_exceptions, http_parser
from passoproxy.ports import BytesBody

if TYPE_CHECKING:
    from passoproxy.outbound.connection import Connection

_TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"
_FIELD_LINE = rb"[" + WORD_CHARACTERS.encode() + rb"]++:" + _TEXT + rb"\r\n"
_HEAD = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}(?: " + _TEXT + rb")?\r\n(?:" + _FIELD_LINE + rb")*+\r\n")
_NEVER_IN_A_HEAD = re.compile(rb"(?<!\r)\n|\r[^\n]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_START = b"HTTP/1."


class AnswerHead(NamedTuple):
    """A valid head as it came. `keep_alive` is what version and `Connection` say (RFC 9112 §9.3)."""

    status: int
    version: tuple[int, int]
    fields: Fields
    keep_alive: bool


def require_native_parser() -> None:
    """Raises PassoproxyError if aiohttp would parse in Python: the two parsers differ, and our tests hold only the C one."""
    if http_parser.HttpResponseParser is http_parser.HttpResponseParserPy:
        raise PassoproxyError(
            "aiohttp's C parser is missing; install a wheel of aiohttp with extensions and unset AIOHTTP_NO_EXTENSIONS"
        )


class HeadReader:
    """Collects the heads of one connection's answers, within `max_bytes` each. Faults are OriginInvalid; `peer` names the origin in them."""

    __slots__ = ("_held", "_loop", "_max_bytes", "_parser", "_peer")

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: str, max_bytes: int) -> None:
        self._loop = loop
        self._peer = peer
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._parser = self._new_parser()

    @property
    def begun(self) -> bool:
        """Whether part of a head is held."""
        return bool(self._held)

    def feed(self, data: bytes) -> tuple[AnswerHead, bytes] | None:
        """The next head and the bytes after it; None while it is incomplete."""
        searched = 0
        if self._held:
            searched = len(self._held)
            self._held += data
            data = bytes(self._held)
        end = data.find(b"\r\n\r\n", max(0, searched - 3)) + 4
        if end > self._max_bytes or (end == 3 and len(data) > self._max_bytes):
            raise OriginInvalid(
                f"the head of an answer of {self._peer} is over {self._max_bytes} bytes; see header_bytes"
            )
        if end == 3:
            self._check_start(data, searched)
            if not searched:
                self._held += data
            return None
        if self._held:
            self._held.clear()
        return self._parse(data[:end]), data[end:]

    def _check_start(self, data: bytes, searched: int) -> None:
        # A head that can no longer become valid is refused at once, not when the time for it is over.
        if not data.startswith(_START[: len(data)]) or _NEVER_IN_A_HEAD.search(data, max(0, searched - 1)):
            raise self._invalid()

    def _parse(self, raw: bytes) -> AnswerHead:
        if _HEAD.fullmatch(raw) is None:
            raise self._invalid()
        status, version = int(raw[9:12]), (1, raw[7] - 48)
        if status == 101:
            raise OriginInvalid(
                f"{self._peer} switched protocols (101), which was not asked for; check what runs there"
            )
        try:
            fields = self._parser.feed_data(raw)[0][0][0].headers
        except (http_exceptions.HttpProcessingError, IndexError) as error:
            raise self._invalid() from error
        if status < 200:
            # After an interim head with `Connection: close` the parser would accept no further one.
            self._parser = self._new_parser()
        return AnswerHead(status, version, fields, keeps_alive(version, fields))

    def _new_parser(self) -> http_parser.HttpResponseParser:
        return http_parser.HttpResponseParser(
            BaseProtocol(self._loop),
            self._loop,
            65536,
            max_line_size=self._max_bytes,
            max_field_size=self._max_bytes,
            max_headers=self._max_bytes,
            response_with_body=False,
            auto_decompress=False,
        )

    def _invalid(self) -> OriginInvalid:
        return OriginInvalid(f"{self._peer} sent an answer whose head is not valid HTTP/1.1; check what runs there")


# ---- the body ----------------------------------------------------------------------------------------------------------


class BodyInvalid(BodyBroken):
    """A body broke because its bytes are not HTTP."""


_MANY_PIECES = 64
"""So many pieces are joined into one, because a body of tiny pieces would cost more than its bytes."""


class AnswerBody:
    """The body of an answer, cut out of the stream by its framing and held in bounded memory. Closing it before its end breaks its connection.

    The connection feeds and ends it; `wanted` and `abandoned` of the connection are called back.
    """

    __slots__ = (
        "_chunks",
        "_connection",
        "_left",
        "_parts",
        "_reader",
        "complete",
        "ended",
        "excess",
        "fault",
        "held",
        "length",
    )

    def __init__(self, connection: Connection, framing: ResponseFraming, trailer_bytes: int) -> None:
        """`trailer_bytes` bounds the trailer section of a chunked body."""
        self.length = framing.length if isinstance(framing, Sized) else None
        self.held = 0
        """Bytes that were fed and not yet read."""
        self.complete = False
        """Whether all of it came."""
        self.excess = False
        """Whether more came than belongs to the answer."""
        self.ended = False
        """Whether it is complete, broken by `fault`, or closed."""
        self.fault: PassoproxyError | None = None
        self._connection = connection
        self._left = math.inf if self.length is None else self.length
        self._chunks = ChunkReader(trailer_bytes) if isinstance(framing, Chunked) else None
        self._parts: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None

    # ---- the reader's side

    def __aiter__(self) -> AnswerBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self.fault is not None:
                raise self.fault
            if self.ended:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._taken()
        if not self.ended:
            self._connection.wanted(self)
        return data

    async def aclose(self) -> None:
        self._parts.clear()
        self.held = 0
        if not self.ended:
            self.end()
            self._connection.abandoned(self)

    def whole(self) -> BytesBody | None:
        """All of it as a body in memory, if it has arrived and nothing of it was read; else None."""
        return BytesBody(self._taken() if self._parts else b"") if self.complete else None

    def _taken(self) -> bytes:
        self.held = 0
        if len(self._parts) == 1:
            return self._parts.popleft()
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    # ---- the connection's side

    @property
    def until_close(self) -> bool:
        """Whether only the end of the connection is the end of the body."""
        return self.length is None and self._chunks is None

    def feed(self, data: bytes) -> None:
        """Takes bytes off the wire. Raises BadRequest or HeadersTooLarge for chunks that are none; not to be called when complete."""
        if self._chunks is not None:
            data = self._chunks.feed(data)
            self.complete, self.excess = self._chunks.done, bool(self._chunks.rest)
        else:
            self.complete, self.excess = len(data) >= self._left, len(data) > self._left
            if self.excess:
                data = data[: int(self._left)]
            self._left -= len(data)
        if data and not self.ended:
            self.held += len(data)
            self._parts.append(data)
            if len(self._parts) > _MANY_PIECES:
                joined = b"".join(self._parts)
                self._parts.clear()
                self._parts.append(joined)
            self._wake()

    def end(self, fault: PassoproxyError | None = None) -> None:
        """Ends it, with `fault` if it broke."""
        if not self.ended:
            self.ended, self.fault = True, fault
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
