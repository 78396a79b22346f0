"""What this process knows of a cache that it shares by Redis, without asking: the epoch, the purges in force, and what others changed.

It is brought up to date by the stream of changes (`redis_listening`), and by every answer that shows that something is not yet known.

How the shared cache is: learnt from the store at the beginning and from every answer that shows more, and owed purges made up for first.

Listening to what others do to the shared cache: one task, one connection that waits on the stream of changes.

After a cut it goes on where it was, so that a short one costs nothing; what the stream no longer has, or a store that came back empty, means
that anything may have changed.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.soft_purge import SoftPurges
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries import serialization
from passoproxy.stores.entries.change_feed import ANYTHING, PURGED, SOFTENED
from passoproxy.stores.entries.redis.client import RedisPath
from passoproxy.stores.entries.redis.scripts import BEGIN, HEARD
from passoproxy.stores.entries.serialization import decode_soft_purges
from passoproxy.stores.redis_client import ended

SLOTS = 512
NO_SOFT_PURGES = SoftPurges()


@dataclass(frozen=True, slots=True)
class Known:
    """How the shared cache is, as of one moment. `undone` are the purges in force that are not carried out, with their numbers; `soft` the
    soft purges, which have changed `softs` times.
    """

    epoch: str
    purges: int
    undone: tuple[tuple[int, Selector], ...] = ()
    softs: int = 0
    soft: SoftPurges = NO_SOFT_PURGES

    def is_as(self, epoch: str, purges: int, undone: Sequence[int], softs: int) -> bool:
        """Whether nothing is new in these."""
        numbers = [number for number, _ in self.undone]
        return (self.epoch, self.purges, self.softs) == (epoch, purges, softs) and numbers == list(undone)

    def is_before(self, other: Known) -> bool:
        """Whether this is an earlier state of the same epoch."""
        return self.epoch == other.epoch and (self.purges, self.softs) < (other.purges, other.softs)

    def is_purged(self, entry: Entry, stamp: int) -> bool:
        """Whether an entry that was stored after purge number `stamp` is gone, although it lies there still."""
        return any(stamp < number and selector.matches(entry) for number, selector in self.undone)


class View:
    """Numbers that grow, as `slow.SlowStore` tells them, and the last `SLOTS` marks of others."""

    def __init__(self) -> None:
        self.known: Known | None = None
        self._may_go_back = False
        self.generation = 0
        self.events = 0
        self.purges = 0
        self._marks: list[int] = [ANYTHING] * SLOTS

    def learn(self, known: Known) -> None:
        """How it is now. Another epoch means that anything may have changed."""
        before = self.known
        if before is not None and not self._may_go_back and known.is_before(before):
            return  # an answer that a later one has overtaken
        self.known, self._may_go_back = known, False
        if known.soft is not (NO_SOFT_PURGES if before is None else before.soft):
            self.hear([SOFTENED])
        if before is None:
            return
        if before.epoch != known.epoch:
            self.hear([ANYTHING, PURGED])
        if (before.epoch, before.purges) != (known.epoch, known.purges):
            self.purges += 1

    def set_back(self) -> None:
        """The store came back older than it was: what it says next counts, whatever was known."""
        self._may_go_back = True

    def hear(self, marks: Sequence[int], *, changed: bool = True) -> None:
        """Others have changed what these marks stand for."""
        for mark in marks:
            self.events += 1
            self._marks[self.events % SLOTS] = mark
        self.generation += changed

    def foreign_since(self, seen: int) -> tuple[int, list[int] | None]:
        """See `slow.SlowStore`."""
        if self.events - seen >= SLOTS:
            return self.events, None
        marks = [self._marks[at % SLOTS] for at in range(seen + 1, self.events + 1)]
        return self.events, None if ANYTHING in marks else marks


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
        return decode_soft_purges(found or b"", time.time())

    async def _selectors(self, numbers: Sequence[int]) -> list[Selector]:
        """Of these purges; of one that is in no log any more, everything."""
        return [serialization.decode_purge(selector) for selector in await self.logged(numbers)]

    async def logged(self, numbers: Sequence[int]) -> list[bytes]:
        """What the log says of these purges; nothing of one that it does not have any more. Raises RedisAway."""
        if not numbers:
            return []
        async with self._path.asking() as client:
            found: Any = await client.hmget(f"{self._prefix}meta", [f"log:{number}" for number in numbers])
        return [selector or b"" for selector in found]


BLOCK_SECONDS = 1.0
AGAIN_SECONDS = 0.25
_AT_ONCE = 512


class Listening:
    """`refresh` brings the view's `known` up to date, and gives the number of the last event. `path` is this task's own: it waits for long."""

    def __init__(
        self,
        path: RedisPath,
        prefix: str,
        name: str,
        view: View,
        refresh: Callable[[], Awaitable[int]],
        on_fault: Callable[[str], None],
    ) -> None:
        self._on_fault = on_fault
        self._path, self._prefix, self._name = path, prefix, name
        self._view, self._refresh = view, refresh
        self._at = b"$"
        self._number = self._awaited = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, number: int, at: bytes) -> None:
        """Begins behind that event, at that place of the stream."""
        self._number, self._at = number, at
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Ends, and lets go of its connection."""
        task, self._task = self._task, None
        if task is not None:
            await ended(task)
        await self._path.aclose()

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except EntryStoreFailure:
                await asyncio.sleep(AGAIN_SECONDS)
            except Exception as fault:
                self._on_fault(f"{type(fault).__name__}: {fault}")
                self._view.hear([ANYTHING])  # what was heard last may not have been taken up
                await asyncio.sleep(AGAIN_SECONDS)

    async def _listen(self) -> None:
        messages = await self._next()
        self._heed(messages)
        number = await self._refresh()
        if number < self._number:
            self._begin_again(number)
        elif not messages and self._number < self._awaited:
            self._number = number  # the stream was lost, and with it what others said in between
            self._view.hear([ANYTHING])
        self._awaited = 0 if messages else number
        await self._path.run(HEARD, self._prefix, self._name, self._number)

    async def _next(self) -> Sequence[tuple[bytes, Mapping[bytes, bytes]]]:
        async with self._path.asking() as client:
            found: Any = await client.xread(
                {f"{self._prefix}events": self._at}, count=_AT_ONCE, block=int(BLOCK_SECONDS * 1000)
            )
        return found[0][1] if found else ()

    def _heed(self, messages: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        for self._at, message in messages:
            number = int(message.get(b"n", b"0"))
            if number != self._number + 1:
                self._view.hear([ANYTHING])
            self._number = number
            if message.get(b"from") != self._name.encode():
                self._view.hear(_marks(message), changed=message.get(b"changed") != b"0")

    def _begin_again(self, number: int) -> None:
        """The store was emptied: events are counted anew."""
        self._number, self._at = number, b"0-0"
        self._view.set_back()
        self._view.hear([ANYTHING])


def _marks(message: Mapping[bytes, bytes]) -> list[int]:
    marks = [int(mark) for mark in message.get(b"marks", b"").split()]
    return [PURGED, *marks] if message.get(b"purge", b"") else marks
