"""Entries in memory alone: the model of what every store does, and the store of tests that need no disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from hashlib import sha256

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.events import EntriesEvicted
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import Body, BytesBody, Observer, StoreStats, nobody
from passoproxy.stores.entries.memory import Shelf

SLICE = 200
"""Keys that a purge or a listing looks at before others get their turn."""


class MemoryStore:
    """An `EntryStore` of at most `max_bytes`; `select` and `read` never suspend. An entry over an eighth of that is not stored."""

    def __init__(self, max_bytes: int, *, observer: Observer = nobody) -> None:
        self._shelf = Shelf(max_bytes)
        self.read_nowait = self._shelf.body
        self._most = max_bytes // 8
        self._observer = observer
        self._generation = 0
        self._writers: set[MemoryWriter] = set()

    def get_nowait(self, key: str) -> Sequence[Entry]:
        return self._shelf.variants(key) or ()

    def keep_up(self) -> bool:
        return False

    async def select(self, key: str) -> Sequence[Entry]:
        return self.get_nowait(key)

    async def read(self, entry: Entry) -> Body | None:
        body = self.read_nowait(entry)
        return None if body is None else BytesBody(body)

    async def create(self, entry: Entry) -> MemoryWriter:
        writer = MemoryWriter(self, entry, self._most)
        self._writers.add(writer)
        return writer

    async def update(self, entry: Entry) -> None:
        stored = self._shelf.held(entry)
        if stored is not None:
            self._shelf.replace(replace(entry, digest=stored.digest, size=stored.size))
            self._generation += 1

    async def discard(self, entry: Entry) -> None:
        if self._shelf.remove(entry):
            self._generation += 1

    async def purge(self, selector: Selector, *, brief: bool = False) -> int:
        for writer in self._writers:
            writer.heed(selector)
        count = 0
        async for entry in self.entries(selector):
            if self._shelf.remove(entry):
                count += 1
                self._generation += 1
        return count

    async def entries(self, selector: Selector) -> AsyncIterator[Entry]:
        keys = list(self._shelf)
        for at in range(0, len(keys), SLICE):
            for entry in self._shelf.find(selector, keys[at : at + SLICE]):
                yield entry
            await asyncio.sleep(0)

    async def stats(self) -> StoreStats:
        return StoreStats(len(self._shelf), self._shelf.bytes_used, self._shelf.evictions, tier="memory")

    async def by_route(self, names: Sequence[str]) -> dict[str, int]:
        return {name: len([each async for each in self.entries(Selector(route=name))]) for name in names}

    def generation(self) -> int:
        return self._generation

    async def close(self) -> None:
        """Keeps what it holds: there is nothing to let go of."""

    def store(self, writer: MemoryWriter, entry: Entry, body: bytes) -> Entry:
        """What a writer has gathered becomes visible."""
        stored = replace(entry, digest=sha256(body).hexdigest(), size=len(body))
        before, evicted = self._shelf.variants(entry.key), self._shelf.evictions
        if not self._shelf.add(stored, body):
            self._shelf.remove(stored)
            raise EntryStoreFailure("an answer does not fit into the memory of the cache; see cache.memory_size")
        evicted = self._shelf.evictions - evicted
        if before or evicted:
            self._generation += 1
        if evicted:
            self._observer(EntriesEvicted(evicted, "memory"))
        return stored

    def forget(self, writer: MemoryWriter) -> None:
        """A writer has ended."""
        self._writers.discard(writer)


class MemoryWriter:
    """Gathers one answer."""

    __slots__ = ("_ended", "_entry", "_most", "_parts", "_purges", "_size", "_store")

    def __init__(self, store: MemoryStore, entry: Entry, most: int) -> None:
        self._store, self._entry, self._most = store, entry, most
        self._parts: list[bytes] = []
        self._size = 0
        self._purges: list[Selector] = []
        self._ended = False

    def heed(self, purge: Selector) -> None:
        """A purge happened while this was under way."""
        self._purges.append(purge)

    async def write(self, data: bytes) -> None:
        if self._ended:
            raise EntryStoreFailure("this answer's place in the cache was given up already")
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._most:
            self._parts.clear()
            await self.abandon()
            raise EntryStoreFailure("an answer does not fit into the memory of the cache; see cache.memory_size")

    async def commit(self, entry: Entry | None = None) -> Entry | None:
        if self._ended:
            raise EntryStoreFailure("this answer's place in the cache was given up already")
        await self.abandon()
        final = entry or self._entry
        if any(purge.matches(each) for purge in self._purges for each in (self._entry, final)):
            return None
        return self._store.store(self, final, b"".join(self._parts))

    async def abandon(self) -> None:
        self._ended = True
        self._store.forget(self)
