"""The body of an answer while it arrives: bytes held in bounded memory between the connection and whoever reads.

The connection feeds and ends it; how much may be held, and what happens to the connection afterwards, is the connection's business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from passoproxy.errors import PassoproxyError
from passoproxy.ports import BytesBody

_MANY_PIECES = 64
"""A body of tiny pieces costs more than its bytes: so many are joined before they are held."""


class Feeder(Protocol):
    """Where a body comes from."""

    def wanted(self, body: AnswerBody) -> None:
        """Everything held was read, and more may come."""
        ...

    def abandoned(self, body: AnswerBody) -> None:
        """Nobody will read the rest."""
        ...


class AnswerBody:
    """A body that is read while it arrives. Closing it before its end breaks the connection that it comes over."""

    __slots__ = ("_feeder", "_loop", "_parts", "_reader", "ended", "fault", "held", "length")

    def __init__(self, feeder: Feeder, loop: asyncio.AbstractEventLoop, length: int | None) -> None:
        self.length = length
        self.held = 0
        """Bytes that were fed and not yet read."""
        self.ended = False
        """Whether all of it has been fed, or a fault ended it."""
        self.fault: PassoproxyError | None = None
        self._feeder = feeder
        self._loop = loop
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
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._taken()
        if not self.ended:
            self._feeder.wanted(self)
        return data

    async def aclose(self) -> None:
        self._parts.clear()
        self.held = 0
        if not self.ended:
            self.ended = True
            self._feeder.abandoned(self)
            self._wake()

    def whole(self) -> BytesBody | None:
        """All of it as a body in memory, if it has arrived and nothing of it was read; else None."""
        if not self.ended or self.fault is not None:
            return None
        return BytesBody(self._taken() if self._parts else b"")

    def _taken(self) -> bytes:
        self.held = 0
        if len(self._parts) == 1:
            return self._parts.popleft()
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    # ---- the connection's side

    def feed(self, data: bytes) -> None:
        """More of it; nothing where it has ended."""
        if self.ended or not data:
            return
        self.held += len(data)
        self._parts.append(data)
        if len(self._parts) > _MANY_PIECES:
            joined = b"".join(self._parts)
            self._parts.clear()
            self._parts.append(joined)
        self._wake()

    def end(self, fault: PassoproxyError | None = None) -> None:
        """That was all, or all that will come."""
        if not self.ended:
            self.ended, self.fault = True, fault
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
