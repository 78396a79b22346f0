"""One body from the origin, read once and at the origin's pace, and given to many: the store and every client that waits for it.

Clients that take it slowly get the rest from the spool. Where that has no room, the source waits for them; while the body is also being
stored, a client that holds the others up is parked: it gets the rest from the store once that is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from passoproxy.core.cache.entry import Entry
from passoproxy.errors import BodyBroken, PassoproxyError
from passoproxy.ports import Body, BytesBody, Clock
from passoproxy.proxy.bodies import BegunBody
from passoproxy.proxy.spool import Reader, Spool, Spools

LONGEST_STALL = 5.0
"""Seconds that a client may hold up a body that others or the store are waiting for."""

ROOM_AGAIN = 1.0
"""Seconds after which room is looked for again on disk, where others may have given some back."""

LONGEST_HELD = 0.1
"""Seconds that the end of a body is kept back until the store has it, so that a client which asks again at once finds it there."""

MOST_PASSED_BY = 16 * 1024 * 1024
"""Bytes that are read of a body that nobody wants any more, before its connection is ended."""

Sink = Callable[[bytes], Awaitable[bool]]
"""Takes one part; False as soon as nothing more is to be stored."""


class SharedBody(Spool):
    """`pump` reads the source to its end; `reader` gives bodies that begin at its start. Not for more than one loop."""

    def __init__(
        self,
        source: Body,
        clock: Clock,
        spools: Spools,
        read: Callable[[Entry], Awaitable[Body | None]],
        watch: Callable[[int], None] = lambda readers: None,
        longest_stall: float = LONGEST_STALL,
    ) -> None:
        """`read` reads what `stored` names; `watch` is told how many readers there are, whenever that changes."""
        super().__init__(spools, source.length)
        self._read = read
        self._source = source
        self._clock = clock
        self._watch = watch
        self._stall = longest_stall
        self._parked: set[Reader] = set()
        self._storing = False
        self._news: asyncio.Future[None] | None = None
        self.stored: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        """Settled by whoever stores, when that is done or given up."""

    async def pump(self, sink: Sink | None) -> bool:
        """Reads the source to its end, also where nobody wants it any more; says whether `sink` took all of it.

        Never raises what the source raises: readers are told.
        """
        self._storing = sink is not None
        passed_by = 0
        try:
            async for part in self._source:
                if not self._readers and not self._storing:
                    self.pass_by(part)
                    if (passed_by := passed_by + len(part)) > MOST_PASSED_BY:
                        raise BodyBroken("nobody waits for this body any more")
                    continue
                self.add(part)
                if sink is not None and self._storing:
                    self._storing = await sink(part)
                await self._room()
            self.end(True)
        except PassoproxyError as fault:
            self.end(fault)
        finally:
            if self._ended is False:  # cancelled, or a fault of our own: nobody may take the body for complete
                self.end(BodyBroken("the body was given up"))
            await self._source.aclose()
        return self._ended is True and self._storing

    async def _room(self) -> None:
        """Waits until there is room for another part, or nobody is left who wants one."""
        waited_since = self._clock.monotonic()
        while not await self.has_room():
            if not self._readers and not self._storing:
                return
            rest = self._stall - (self._clock.monotonic() - waited_since)
            slow = self._slow()
            if slow and rest <= 0.0:
                self._parked.update(slow)
                for reader in slow:
                    super().leave(reader)
            else:
                await self._something_new(min(rest, ROOM_AGAIN) if slow else ROOM_AGAIN)

    def _slow(self) -> list[Reader]:
        # Nobody is parked who holds up nobody else, nor where the store may yet find the body too long: a plain slow client of a long
        # answer is served at its own pace.
        if not self._storing or self.length is None:
            return []
        slowest = min((reader.at for reader in self._readers), default=0)
        slow = [reader for reader in self._readers if reader.at == slowest]
        return slow if len(slow) < len(self._readers) else []

    async def _something_new(self, within: float) -> None:
        self._news = asyncio.get_running_loop().create_future()
        await done_within(self._clock, self._news, within)

    def reader(self) -> Reader | None:
        reader = super().reader()
        self._watch(len(self._readers) + len(self._parked))
        return reader

    def leave(self, reader: Reader) -> None:
        super().leave(reader)
        self._parked.discard(reader)
        self._watch(len(self._readers) + len(self._parked))

    def advanced(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def from_disk(self, reader: Reader) -> bytes:
        if reader not in self._parked:
            return await super().from_disk(reader)
        entry = await asyncio.shield(self.stored)
        body = await self._read(entry) if entry is not None else None
        if body is None:
            raise BodyBroken("this client was too slow, and the answer could not be kept for it")
        reader.rest = await _after(body, reader.at)
        return b""

    async def before_the_last(self) -> None:
        await self.held_until_stored()

    async def held_until_stored(self) -> None:
        """Waits until the body is stored, or is not going to be, for at most LONGEST_HELD."""
        if self._storing and not self.stored.done():
            await done_within(self._clock, self.stored, LONGEST_HELD)


async def _after(body: Body, skip: int) -> Body:
    """The body without its first `skip` bytes."""
    if isinstance(body, BytesBody):
        return BytesBody(body.data[skip:])
    while skip > 0:
        part = await anext(body, b"")
        if not part:
            return BytesBody()
        if len(part) > skip:
            return BegunBody(BytesBody(part[skip:]), body)
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
