"""How the shared cache is: learnt from the store at the beginning and from every answer that shows more, and owed purges made up for first."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.soft_purges import SoftPurges
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries import purge_log
from passoproxy.stores.entries.redis_link import RedisPath
from passoproxy.stores.entries.redis_scripts import BEGIN
from passoproxy.stores.entries.redis_view import NO_SOFT_PURGES, Known, View
from passoproxy.stores.entries.soft_purge_codec import decode

_MOST_OWED = 1000


class Knowing:
    """`begin` is told the number of the last event and its place in the stream, once; `purge` carries an owed purge out."""

    def __init__(
        self,
        path: RedisPath,
        prefix: str,
        view: View,
        begin: Callable[[int, bytes], None],
        purge: Callable[[Selector], Awaitable[int]],
    ) -> None:
        self._path, self._prefix, self._view = path, prefix, view
        self._on_begin, self._purge = begin, purge
        self._beginning = asyncio.Lock()
        self.owed: list[Selector] = []
        self.closed = False

    async def now(self) -> Known:
        """What is known, and at the first call what the store says. Raises RedisAway."""
        if self.closed:
            raise EntryStoreFailure("the cache is closed")
        if self._view.known is None or self.owed:
            await self._begin()
        assert self._view.known is not None
        return self._view.known

    def owe(self, selector: Selector) -> None:
        """A purge that the store could not be told of."""
        self.owed = [Selector()] if len(self.owed) >= _MOST_OWED else [*self.owed, selector]

    async def _begin(self) -> None:
        async with self._beginning:
            if self._view.known is None:
                place = await self._last_place()
                self._on_begin(await self.refresh(), place)
            while self.owed:
                await self._make_up_for(self.owed[0])

    async def _make_up_for(self, selector: Selector) -> None:
        owed, self.owed = self.owed, []  # or `now` would begin again within the purge
        try:
            await self._purge(selector)
        except BaseException:
            self.owed = owed + self.owed
            raise
        self.owed = owed[1:] + self.owed

    async def _last_place(self) -> bytes:
        """The stream's last message: asked for before the number of the last event, so that none is missed."""
        async with self._path.asking() as client:
            found: Any = await client.xrevrange(f"{self._prefix}events", count=1)
        place: bytes = found[0][0] if found else b"0-0"
        return place

    async def refresh(self) -> int:
        """Learns how the cache is; the number of its last event. Raises RedisAway."""
        epoch, purges, events, undone, softs = await self._path.run(BEGIN, self._prefix, secrets.token_hex(8))
        await self.learn(epoch, purges, undone, softs)
        return int(events)

    async def learn(self, epoch: bytes, purges: bytes, undone: bytes, softs: bytes | None) -> Known:
        """What these fields of `meta` say, with the selectors that they only number. Raises RedisAway."""
        numbers = [int(number) for number in undone.split()]
        known, soft = self._view.known, int(softs or 0)
        if known is not None and known.is_as(epoch.decode(), int(purges), numbers, soft):
            return known
        selectors = await self._selectors(numbers)
        undone_purges = tuple(zip(numbers, selectors, strict=True))
        soft_purges = await self._soft(known, epoch.decode(), soft)
        learnt = Known(epoch.decode(), int(purges), undone_purges, soft, soft_purges)
        self._view.learn(learnt)
        return learnt

    async def _soft(self, known: Known | None, epoch: str, softs: int) -> SoftPurges:
        """The soft purges as they are after so many changes, or more: then they will be asked for once more."""
        if not softs:
            return NO_SOFT_PURGES
        if known is not None and (known.epoch, known.softs) == (epoch, softs):
            return known.soft
        async with self._path.asking() as client:
            found: Any = await client.hget(f"{self._prefix}meta", "soft")
        return decode(found or b"", time.time())

    async def _selectors(self, numbers: Sequence[int]) -> list[Selector]:
        """Of these purges; of one that is in no log any more, everything."""
        return [purge_log.decode(selector) for selector in await self.logged(numbers)]

    async def logged(self, numbers: Sequence[int]) -> list[bytes]:
        """What the log says of these purges; nothing of one that it does not have any more. Raises RedisAway."""
        if not numbers:
            return []
        async with self._path.asking() as client:
            found: Any = await client.hmget(f"{self._prefix}meta", [f"log:{number}" for number in numbers])
        return [selector or b"" for selector in found]
