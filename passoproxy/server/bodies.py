"""A request's body while it arrives: bounded in memory, read once, and loud when it ends before its end."""

from __future__ import annotations

import asyncio
from typing import Protocol

from passoproxy.core.http.chunks import ChunkReader
from passoproxy.core.http.framing import Chunked, Sized
from passoproxy.errors import BadRequest, BodyTooLarge, Refusal
from passoproxy.server.deadline import Pace

_MAX_CHUNKS = 256  # read at once: a millisecond's work, where single bytes come in chunks


class BodySource(Protocol):
    """The connection, as a body sees it."""

    def body_wanted(self) -> None:
        """Someone waits for bytes: the connection reads, sends a 100 where the client waits for one, and counts the time."""
        ...

    def body_crowded(self) -> None:
        """More is held than anyone takes: the connection stops reading."""
        ...


class RequestBody:
    """The `Body` of a request that did not arrive whole with its head.

    Iteration raises a Refusal: BadRequest for wrong framing and for an early end, BodyTooLarge, RequestTimeout for silence and sloth.
    """

    __slots__ = (
        "_chunks",
        "_closed",
        "_crowded_at",
        "_held",
        "_left",
        "_max_bytes",
        "_parts",
        "_received",
        "_source",
        "_waiter",
        "complete",
        "fault",
        "length",
        "pace",
    )

    def __init__(
        self, framing: Sized | Chunked, source: BodySource, max_bytes: int, max_trailer_bytes: int, pace: Pace
    ) -> None:
        """`max_bytes` bounds a chunked body as it arrives; a sized one was held against it before."""
        self.pace = pace
        self.length = framing.length if isinstance(framing, Sized) else None
        self.complete = False
        self.fault: Refusal | None = None
        self._left = self.length or 0
        self._chunks = ChunkReader(max_trailer_bytes, _MAX_CHUNKS) if isinstance(framing, Chunked) else None
        self._source = source
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
        """Bytes still to come; None where only the chunks will tell."""
        return None if self._chunks is not None else self._left

    @property
    def unread(self) -> bytes:
        """What the last `feed` left to be fed in another turn of the loop."""
        return b"" if self._chunks is None else self._chunks.unread

    @property
    def waiting(self) -> bool:
        """Whether someone waits for bytes."""
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
        """The body will never be whole; whoever reads it is told, once what came before is read."""
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
                self._source.body_crowded()
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
        self._source.body_wanted()
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
