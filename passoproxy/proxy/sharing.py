"""One body from the origin, read once and given to many: the store and every client that waits for it.

The source is read at the pace of the slowest client, within a window that bounds the memory. While the body is also being stored, a
client that holds the others up is parked: it gets the rest from the store once that is complete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from passoproxy.core.cache.entry import Entry
from passoproxy.errors import BodyBroken, PassoproxyError
from passoproxy.ports import Body, BytesBody, Clock
from passoproxy.proxy.bodies import BegunBody

WINDOW_BYTES = 1024 * 1024
LONGEST_STALL = 5.0
"""Seconds that a client may hold up a body that others or the store are waiting for."""

LONGEST_HELD = 0.1
"""Seconds that the end of a body is kept back until the store has it, so that a client which asks again at once finds it there."""

Sink = Callable[[bytes], Awaitable[bool]]
"""Takes one part; False as soon as nothing more is to be stored."""


class SharedBody:
    """`pump` reads the source to its end; `reader` gives bodies that begin at its start. Not for more than one loop."""

    def __init__(
        self,
        source: Body,
        clock: Clock,
        read: Callable[[Entry], Awaitable[Body | None]],
        window_bytes: int = WINDOW_BYTES,
        longest_stall: float = LONGEST_STALL,
    ) -> None:
        """`read` reads what `stored` names."""
        self.length = source.length
        self.read = read
        self._source = source
        self._clock = clock
        self._window = window_bytes
        self._stall = longest_stall
        self._parts: deque[bytes] = deque()
        self._dropped = 0  # parts that are not in memory any more
        self._held_bytes = 0
        self._ended: PassoproxyError | bool = False
        self._readers: list[Reader] = []
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._storing = False
        self.stored: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        """Settled by whoever stores, when that is done or given up."""

    @property
    def whole(self) -> bytes | None:
        """The complete body, while all of it is in memory."""
        return b"".join(self._parts) if self._ended is True and not self._dropped else None

    @property
    def is_broken(self) -> bool:
        """Whether the source ended before its end."""
        return isinstance(self._ended, PassoproxyError)

    def reader(self) -> Reader | None:
        """A body from the start; None where the start is not in memory any more."""
        if self._dropped:
            return None
        reader = Reader(self)
        self._readers.append(reader)
        return reader

    async def held_until_stored(self) -> None:
        """Waits until the body is stored, or is not going to be, for at most LONGEST_HELD."""
        if self._storing and not self.stored.done():
            await done_within(self._clock, self.stored, LONGEST_HELD)

    async def pump(self, sink: Sink | None) -> bool:
        """Reads the source to its end, or until neither a client nor `sink` wants it; says whether `sink` took all of it.

        Never raises what the source raises: readers are told.
        """
        self._storing = sink is not None
        try:
            async for part in self._source:
                self._add(part)
                if sink is not None and self._storing:
                    self._storing = await sink(part)
                if not await self._room():
                    self._end(BodyBroken("nobody waits for this body any more"))
                    return False
            self._end(True)
        except PassoproxyError as fault:
            self._end(fault)
        finally:
            if self._ended is False:  # cancelled, or a fault of our own: nobody may take the body for complete
                self._end(BodyBroken("the body was given up"))
            await self._source.aclose()
        return self._ended is True and self._storing

    def _add(self, part: bytes) -> None:
        self._parts.append(part)
        self._held_bytes += len(part)
        self._tell()

    def _end(self, how: PassoproxyError | bool) -> None:
        self._ended = how
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, self._news.get_loop().create_future()
        if not news.done():
            news.set_result(None)

    async def _room(self) -> bool:
        """Waits until there is room for another part. False where nobody is left to read on for."""
        waited_since = self._clock.monotonic()
        while True:
            if not self._readers and not self._storing:
                return False
            if self._held_bytes <= self._window:
                return True
            self._drop_what_all_have()
            if self._held_bytes <= self._window:
                return True
            rest = self._stall - (self._clock.monotonic() - waited_since)
            slow = self._slow()
            if slow and rest <= 0.0:
                self._readers = [reader for reader in self._readers if reader not in slow]
            else:
                await self._something_new(rest if slow else None)

    def _drop_what_all_have(self) -> None:
        slowest = min((reader.at for reader in self._readers), default=self._dropped + len(self._parts))
        while self._dropped < slowest and self._held_bytes > self._window:
            self._held_bytes -= len(self._parts.popleft())
            self._dropped += 1

    def _slow(self) -> list[Reader]:
        # Nobody is parked who holds up nobody else, nor where the store may yet find the body too long: a plain slow client of a long
        # answer is served at its own pace.
        if not self._storing or self.length is None:
            return []
        slowest = min((reader.at for reader in self._readers), default=0)
        slow = [reader for reader in self._readers if reader.at == slowest]
        return slow if len(slow) < len(self._readers) else []

    async def _something_new(self, within: float | None) -> None:
        if within is None:
            await asyncio.shield(self._news)
        else:
            await done_within(self._clock, self._news, within)

    # ---- what readers ask ----

    def part(self, at: int) -> bytes | None:
        """Part number `at`; None where it has not come yet."""
        index = at - self._dropped
        return self._parts[index] if index < len(self._parts) else None

    def has_dropped(self, at: int) -> bool:
        """Whether part `at` was there and is not in memory any more."""
        return at < self._dropped

    def check_end(self) -> bool:
        """Whether the body has ended; raises what it ended by."""
        if isinstance(self._ended, PassoproxyError):
            raise self._ended.with_traceback(None)
        return self._ended

    async def news(self) -> None:
        """Waits until there is another part, or the end."""
        await asyncio.shield(self._news)

    def advanced(self) -> None:
        """A reader has gone on: there may be room."""
        if self._held_bytes > self._window:
            self._tell()

    def leave(self, reader: Reader) -> None:
        """The reader wants nothing more."""
        if reader in self._readers:
            self._readers.remove(reader)
            self._tell()


class Reader:
    """One client's view of a shared body."""

    __slots__ = ("_closed", "_given", "_rest", "_shared", "at", "length")

    def __init__(self, shared: SharedBody) -> None:
        self.length = shared.length
        self.at = 0
        self._given = 0
        self._shared = shared
        self._rest: Body | None = None
        self._closed = False

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        while not self._closed:
            if self._rest is not None:
                return await self._rest.__anext__()
            if self._shared.has_dropped(self.at):
                self._rest = await self._from_store()
            elif (part := self._shared.part(self.at)) is not None:
                self.at += 1
                self._given += len(part)
                self._shared.advanced()
                if self._given == self.length:
                    await self._shared.held_until_stored()
                return part
            elif self._shared.check_end():
                if self.length is None:
                    await self._shared.held_until_stored()
                break
            else:
                await self._shared.news()
        raise StopAsyncIteration

    def leave(self) -> None:
        """Wants nothing more; `aclose` without what needs waiting."""
        self._closed = True
        self._shared.leave(self)

    async def aclose(self) -> None:
        self.leave()
        if self._rest is not None:
            await self._rest.aclose()

    async def _from_store(self) -> Body:
        entry = await asyncio.shield(self._shared.stored)
        body = await self._shared.read(entry) if entry is not None else None
        if body is None:
            raise BodyBroken("this client was too slow, and the answer could not be kept for it")
        return await _after(body, self._given)


async def _after(body: Body, skip: int) -> Body:
    """The body without its first `skip` bytes."""
    if isinstance(body, BytesBody):
        return BytesBody(body.data[skip:])
    while skip > 0:
        part = await anext(body, b"")
        if not part:
            return BytesBody()
        if len(part) > skip:
            return BegunBody([part[skip:]], body)
        skip -= len(part)
    return body


async def done_within(clock: Clock, future: asyncio.Future[Any], seconds: float) -> bool:
    """Whether `future` is done within so many seconds; it is not cancelled."""
    alarm = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((future, alarm), return_when=asyncio.FIRST_COMPLETED)
    finally:
        alarm.cancel()
    return future.done()
