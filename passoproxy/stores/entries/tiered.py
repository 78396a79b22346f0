"""What `tiered` asks of the store behind it, beyond what every store does: word of what other processes changed.

One answer on its way into both tiers: gathered for memory while it is small, and passed on to the slow store.

A fast store before a slow one: a shelf in memory, filled by what is read and written, before a store that processes share.

An answer is usable from the shelf as soon as it is complete, and goes to the slow store behind the caller's back (write-behind). The
shelf holds nothing that the slow store lost to someone else: every select first asks whether others changed anything, which costs
a load from shared memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Protocol

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import Body, BytesBody, EntryStore, EntryWriter, StoreStats
from passoproxy.stores.entries.change_feed import PURGED, SOFTENED
from passoproxy.stores.entries.memory import Shelf
from passoproxy.stores.entries.serialization import key_name, mark_of, with_variant


class SlowStore(EntryStore, Protocol):
    """A store that several processes share. Nothing here waits."""

    @property
    def touch(self) -> Callable[[str], None]:
        """Is told of primary keys that were served without asking the store."""
        ...

    def events(self) -> int:
        """Grows with everything that happens to what is stored, in any process."""
        ...

    def purges(self) -> int:
        """Grows with every purge, in any process."""
        ...

    def foreign_since(self, seen: int) -> tuple[int, list[int] | None]:
        """The present `events`, and the marks of what others changed since `seen`; None: anything may have changed."""
        ...


class Tiers(Protocol):
    """What a writer needs of its store; see `tiered.TieredStore`."""

    small_bytes: int

    def is_purged_since(self, purges: int) -> bool: ...
    def has_place_behind(self, size: int) -> bool: ...
    async def show(self, entry: Entry, body: bytes) -> bool: ...
    def hide(self, entry: Entry) -> None: ...
    def keep_alone(self, entry: Entry) -> None: ...
    def behind(self, entry: Entry, storing: Coroutine[Any, Any, Entry | None]) -> None: ...


class TieredWriter:
    """`slow` is None where the slow store takes nothing now: then memory alone stores, what is small enough."""

    __slots__ = ("_ended", "_entry", "_parts", "_purges", "_size", "_slow", "_tiers")

    def __init__(self, tiers: Tiers, entry: Entry, purges: int, slow: EntryWriter | None) -> None:
        self._tiers, self._entry, self._purges, self._slow = tiers, entry, purges, slow
        self._parts: list[bytes] | None = []
        self._size = 0
        self._ended = False

    async def write(self, data: bytes) -> None:
        if self._ended:
            raise EntryStoreFailure("this answer's place in the cache was given up already")
        self._size += len(data)
        if self._size > self._tiers.small_bytes:
            self._parts = None
        elif self._parts is not None:
            self._parts.append(data)
        if self._slow is None:
            if self._parts is None:
                raise EntryStoreFailure("an answer is too large for the cache's memory, and the disk takes nothing now")
            return
        try:
            await self._slow.write(data)
        except EntryStoreFailure:
            slow, self._slow = self._slow, None
            await slow.abandon()
            if self._parts is None:
                raise

    async def commit(self, entry: Entry | None = None) -> Entry | None:
        if self._ended or (self._slow is None and self._parts is None):
            raise EntryStoreFailure("this answer's place in the cache was given up already")
        self._ended = True
        final = entry or self._entry
        purged = self._tiers.is_purged_since(self._purges)
        if self._parts is None or (self._slow is not None and (purged or not self._tiers.has_place_behind(self._size))):
            return await self._commit_slow(final)
        if purged:
            return None  # which purge it was, only the slow store could tell
        body = b"".join(self._parts)
        shown = replace(final, digest=sha256(body).hexdigest(), size=len(body))
        if self._slow is None:
            return await self._commit_alone(shown, body)
        if not await self._shown(shown, body) or self._tiers.is_purged_since(self._purges):
            return await self._commit_slow(final)
        self._tiers.behind(shown, self._slow.commit(final))
        return shown

    async def _shown(self, entry: Entry, body: bytes) -> bool:
        try:
            return await self._tiers.show(entry, body)
        except BaseException:
            if self._slow is not None:
                await self._slow.abandon()
            raise

    async def _commit_slow(self, entry: Entry) -> Entry | None:
        """The slow store's word comes first; memory learns of it when it is asked for."""
        assert self._slow is not None
        try:
            return await self._slow.commit(entry)
        except BaseException:
            with contextlib.suppress(EntryStoreFailure):
                await self._slow.abandon()
            raise
        finally:
            self._tiers.hide(entry)

    async def _commit_alone(self, entry: Entry, body: bytes) -> Entry | None:
        if not await self._tiers.show(entry, body):
            raise EntryStoreFailure("an answer has no place in the cache's memory, and the disk takes nothing now")
        if self._tiers.is_purged_since(self._purges):
            self._tiers.hide(entry)
            return None
        self._tiers.keep_alone(entry)
        return entry

    async def abandon(self) -> None:
        if not self._ended:
            self._ended = True
            self._parts = None
            if self._slow is not None:
                await self._slow.abandon()


BEHIND_BYTES = 32 * 1024 * 1024
"""More than this waiting for the slow store, and whoever stores next waits with it."""

_SLICE = 32
_MOST_ALONE = 4096
_SMALL_BYTES = 256 * 1024


class TieredStore:
    """An `EntryStore`. `memory_bytes` bounds the shelf; closing it closes `slow`."""

    def __init__(self, memory_bytes: int, slow: SlowStore) -> None:
        self._shelf = Shelf(memory_bytes, self._on_drop)
        self.read_nowait = self._shelf.body
        self._slow = slow
        self.small_bytes = min(_SMALL_BYTES, memory_bytes // 16)
        self._events, self._touch = slow.events, slow.touch
        self._seen = slow.events()
        self._by_mark: dict[int, str] = {}
        self._loading: dict[str, object] = {}
        self._behind: dict[str, tuple[Entry, asyncio.Task[None]]] = {}
        self._behind_bytes = 0
        self._alone: dict[str, Entry] = {}  # by identifier: what the slow store does not hold
        self._most_alone = _MOST_ALONE
        self._own_changes = 0
        self.on_purged: Callable[[], None] = _nothing_to_do
        """Called when others have purged, softly or not, before anything more is found."""

    # ---- finding ---------------------------------------------------------------------------------------------------

    def get_nowait(self, key: str) -> Sequence[Entry] | None:
        if self._events() != self._seen:
            self._catch_up()
        variants = self._shelf.variants(key)
        if variants is not None:
            self._touch(key)
        return variants

    async def select(self, key: str) -> Sequence[Entry]:
        held = self.get_nowait(key)
        if held is not None:
            return held
        variants, current = await self._load(key)
        if current and variants:
            self._remember(key, variants)
        if self._events() != self._seen:  # what was learnt on the way counts for this answer too
            self._catch_up()
        return variants

    async def read(self, entry: Entry) -> Body | None:
        held = self.read_nowait(entry)
        if held is not None:
            return BytesBody(held)
        body = await self._slow.read(entry)
        if isinstance(body, BytesBody):
            self._shelf.put_body(entry, body.data)
        elif body is None:
            self._changed(entry.key)
            self._shelf.remove(entry)
        return body

    async def _load(self, key: str) -> tuple[tuple[Entry, ...], bool]:
        """What the slow store has, and whether nothing happened to that key meanwhile."""
        token = self._loading.setdefault(key, object())
        current = False
        try:
            found = tuple(await self._slow.select(key))
        finally:
            current = self._loading.get(key) is token
            if current:
                del self._loading[key]
        return found, current

    def _remember(self, key: str, variants: Sequence[Entry]) -> None:
        if self._shelf.put(key, variants):
            self._by_mark[mark_of(key_name(key))] = key

    def _on_drop(self, key: str) -> None:
        self._by_mark.pop(mark_of(key_name(key)), None)

    def _changed(self, key: str) -> None:
        """Something happened to that key: what is being loaded of it is not to be remembered."""
        self._loading.pop(key, None)
        self._own_changes += 1

    def _catch_up(self) -> None:
        """Forgets what other processes have changed."""
        self._seen, marks = self._slow.foreign_since(self._seen)
        if marks is None:
            self._loading.clear()
            self._shelf.clear()
            self._by_mark.clear()
            self._alone.clear()
            self.on_purged()
            return
        for mark in marks:
            key = self._by_mark.get(mark)
            if key is not None:
                self._shelf.drop(key)
        if marks:
            self._loading.clear()
        if PURGED in marks:
            self._drop_unshared()
        if PURGED in marks or SOFTENED in marks:
            self.on_purged()

    def _drop_unshared(self) -> None:
        """Another process's purge cannot see what only we hold."""
        for entry in (*self._alone.values(), *(entry for entry, _ in self._behind.values())):
            self._shelf.remove(entry)
        self._alone.clear()

    # ---- storing ---------------------------------------------------------------------------------------------------

    async def create(self, entry: Entry) -> EntryWriter:
        purges = self._slow.purges()
        try:
            return TieredWriter(self, entry, purges, await self._slow.create(entry))
        except EntryStoreFailure:
            return TieredWriter(self, entry, purges, None)  # a full disk does not keep the memory from storing

    def purges(self) -> int:
        """Grows with every purge, in any process; cheap to ask."""
        return self._slow.purges()

    def is_purged_since(self, purges: int) -> bool:
        """Whether there was any purge at all since `purges` was read."""
        return self._slow.purges() != purges

    def has_place_behind(self, size: int) -> bool:
        """Whether that many bytes more may wait for the slow store."""
        return self._behind_bytes + size <= BEHIND_BYTES

    async def show(self, entry: Entry, body: bytes) -> bool:
        """Makes a complete entry visible in memory, among the variants of its key; whether it has room there."""
        known = self._shelf.variants(entry.key)
        current = True
        if known is None:
            known, current = await self._load(entry.key)
            known = self._shelf.variants(entry.key) or known
        if not current:
            return False
        self._loading.pop(entry.key, None)
        if known:  # a key's first entry changes nothing that anyone can have seen
            self._own_changes += 1
        self._remember(entry.key, with_variant(known, entry))
        return self._shelf.put_body(entry, body)

    def hide(self, entry: Entry) -> None:
        """Takes an entry back from memory, and what is known of its key with it."""
        self._loading.pop(entry.key, None)
        if self._shelf.drop(entry.key):
            self._own_changes += 1

    def keep_alone(self, entry: Entry) -> None:
        """The slow store does not take this one."""
        self._alone[entry.identifier] = entry
        if len(self._alone) > self._most_alone:  # most of them have left the memory long since
            self._alone = {each.identifier: each for each in self._alone.values() if self._shelf.held(each)}
            self._most_alone = 2 * len(self._alone) + _MOST_ALONE

    def behind(self, entry: Entry, storing: Coroutine[Any, Any, Entry | None]) -> None:
        """Stores a visible entry in the slow store, behind the caller's back."""
        self._behind_bytes += entry.size
        self._behind[entry.identifier] = entry, asyncio.ensure_future(self._store_behind(entry, storing))

    async def _store_behind(self, entry: Entry, storing: Coroutine[Any, Any, Entry | None]) -> None:
        try:
            if await storing is None:
                self.hide(entry)
            elif self._shelf.held(entry) is None:
                self.hide(entry)  # it was given up meanwhile, and the slow store asked before it had it
        except EntryStoreFailure:
            self.keep_alone(entry)
        finally:
            self._behind_bytes -= entry.size
            self._behind.pop(entry.identifier, None)
            if self._events() != self._seen:  # our own events, too many unread, would look like anybody's
                self._catch_up()

    async def settled(self) -> None:
        """Waits until the slow store has all that is visible now."""
        if self._behind:
            await asyncio.wait([task for _, task in self._behind.values()])

    async def _settle(self, entry: Entry) -> None:
        storing = self._behind.get(entry.identifier)
        if storing is not None:
            await asyncio.wait([storing[1]])

    # ---- changing --------------------------------------------------------------------------------------------------

    async def update(self, entry: Entry) -> None:
        await self._settle(entry)
        known = self._shelf.held(entry)
        if known is not None:
            self._shelf.replace(replace(entry, digest=known.digest, size=known.size))
        self._changed(entry.key)
        try:
            await self._slow.update(entry)
        except EntryStoreFailure:
            if known is None:
                raise
        finally:
            self._changed(entry.key)

    async def discard(self, entry: Entry) -> None:
        await self._settle(entry)
        try:
            await self._slow.discard(entry)
        finally:
            self._changed(entry.key)
            self._shelf.remove(entry)
            self._alone.pop(entry.identifier, None)

    async def purge(self, selector: Selector, *, brief: bool = False) -> int:
        await self.settled()
        count = 0
        try:
            count = await self._slow.purge(selector, brief=brief)
        finally:
            self._loading.clear()
            self._own_changes += 1
            count += await self._purge_shelf(selector)
        return count

    async def _purge_shelf(self, selector: Selector) -> int:
        """Takes what is meant from memory; how many of them the slow store did not have."""
        count, keys = 0, list(self._shelf)
        for at in range(0, len(keys), _SLICE):
            for entry in self._shelf.find(selector, keys[at : at + _SLICE]):
                self._shelf.remove(entry)
                count += self._alone.pop(entry.identifier, None) is not None
            await asyncio.sleep(0)
        return count

    # ---- telling ---------------------------------------------------------------------------------------------------

    async def entries(self, selector: Selector) -> AsyncIterator[Entry]:
        await self.settled()
        async for entry in self._slow.entries(selector):
            yield entry
        for entry in list(self._alone.values()):
            known = self._shelf.held(entry)
            if known is not None and selector.matches(known):
                yield known

    async def stats(self) -> StoreStats:
        await self.settled()
        return await self._slow.stats()

    def memory_stats(self) -> StoreStats:
        """What the shelf holds, beside `stats`, which tells of the slow store."""
        return StoreStats(len(self._shelf), self._shelf.bytes_used, self._shelf.evictions, tier="memory")

    def generation(self) -> int:
        return (
            self._slow.generation() + self._slow.purges() + self._own_changes
        )  # a soft purge changes nothing that is stored

    async def close(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.settled(), 10)
        await self._slow.close()


def _nothing_to_do() -> None:
    """Nobody asks what others purge."""
