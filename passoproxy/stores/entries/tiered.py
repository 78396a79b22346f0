"""A memory tier before a store that several processes share.

An answer can be used from memory as soon as it is complete, and is written to the slow store behind the answer (write-behind). Memory holds nothing
that another process changed: every lookup first compares one number in shared memory, and drops what was changed since.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import Body, BytesBody, EntryStore, EntryWriter, StoreStats
from passoproxy.stores.entries.change_feed import PURGED, SOFTENED
from passoproxy.stores.entries.memory import Shelf, Watchers
from passoproxy.stores.entries.serialization import key_name, mark_of, with_variant, youngest_first

if TYPE_CHECKING:
    from passoproxy.stores.entries.disk.store import DiskStore

BEHIND_BYTES = 32 * 1024 * 1024
"""Beyond so many bytes that wait for the slow store, an answer is stored there before it is committed."""

_SMALL_BYTES = 256 * 1024
_MOST_ALONE = 4096
_LEAST_ASKED_ONCE = 64
_SLICE = 32


class ChangeFeed(Protocol):
    """Numbers that grow with what happens to what is stored, in any process. Cheap to read."""

    @property
    def events(self) -> int:
        """Grows with everything."""
        ...

    @property
    def purges(self) -> int:
        """Grows with every purge."""
        ...

    def foreign_since(self, seen: int) -> tuple[int, list[int] | None]:
        """The present `events`, and the marks of what others changed since `seen`; None: anything may have changed."""
        ...


class SlowStore(EntryStore, Protocol):
    """A store that several processes share. Nothing here waits for a lock or another machine."""

    def find_nowait(self, key: str) -> Sequence[tuple[Entry, bytes | None]] | None:
        """What `select` gives, with bodies that are at hand; None where that may take long."""
        ...

    def read_nowait(self, entry: Entry) -> bytes | None:
        """The whole body of an entry; None where that may take long, or it is lost."""
        ...

    @property
    def touch(self) -> Callable[[str], None]:
        """Is told of primary keys that were served without asking the store."""
        ...

    @property
    def feed(self) -> ChangeFeed:
        """Word of what happened to what is stored, in any process."""
        ...


class TieredWriter:
    """One answer on its way into both tiers. `slow` is None if the slow store takes nothing now: then memory stores it, if it is small."""

    __slots__ = ("_entry", "_is_open", "_parts", "_purges", "_size", "_slow", "_store")

    def __init__(self, store: TieredStore, entry: Entry, purges: int, slow: EntryWriter | None) -> None:
        self._store, self._entry, self._purges, self._slow = store, entry, purges, slow
        self._parts: list[bytes] | None = []
        self._size = 0
        self._is_open = True

    async def write(self, data: bytes) -> None:
        if not self._is_open:
            raise EntryStoreFailure("this answer's place in the cache was given up already")
        self._size += len(data)
        if self._size > self._store.small_bytes:
            self._parts = None
        elif self._parts is not None:
            self._parts.append(data)
        if self._slow is not None:
            try:
                await self._slow.write(data)
            except EntryStoreFailure:
                slow, self._slow = self._slow, None
                await slow.abandon()
                if self._parts is None:
                    raise
        elif self._parts is None:
            raise EntryStoreFailure("an answer is too large for the cache's memory, and the disk takes nothing now")

    async def commit(self, entry: Entry | None = None) -> Entry | None:
        if not self._is_open or (self._slow is None and self._parts is None):
            raise EntryStoreFailure("this answer's place in the cache was given up already")
        self._is_open = False
        store, slow, final = self._store, self._slow, entry or self._entry
        if slow is not None and (self._parts is None or self._is_purged() or not store.may_wait(self._size)):
            return await self._commit_slow(slow, final)
        if self._is_purged():
            return None  # only the slow store could tell which purge it was
        assert self._parts is not None
        body = b"".join(self._parts)
        shown = final.with_content(sha256(body).hexdigest(), len(body), final.content_digest, final.made_etag)
        try:
            is_shown = await store.show(shown, body)
        except BaseException:
            if slow is not None:
                await slow.abandon()
            raise
        if slow is None:
            if not is_shown:
                raise EntryStoreFailure("an answer has no place in the cache's memory, and the disk takes nothing now")
            if self._is_purged():
                store.hide(shown)
                return None
            store.keep_alone(shown)
        elif not is_shown or self._is_purged():
            return await self._commit_slow(slow, final)
        else:
            store.write_behind(shown, slow.commit(shown))
        return shown

    def _is_purged(self) -> bool:
        """Whether there was any purge at all since this writer was created."""
        return self._store.feed.purges != self._purges

    async def _commit_slow(self, slow: EntryWriter, entry: Entry) -> Entry | None:
        """The slow store decides; memory reads the entry when it is asked for."""
        try:
            return await slow.commit(entry)
        except BaseException:
            with contextlib.suppress(EntryStoreFailure):
                await slow.abandon()
            raise
        finally:
            self._store.hide(entry)

    async def abandon(self) -> None:
        if self._is_open:
            self._is_open = False
            self._parts = None
            if self._slow is not None:
                await self._slow.abandon()


class TieredStore:
    """An `EntryStore`. `memory_bytes` bounds the memory tier; closing this store closes `slow`."""

    def __init__(self, memory_bytes: int, slow: SlowStore, answers: DiskStore | None = None) -> None:
        self._shelf = Shelf(memory_bytes, self._on_drop)
        self._used = self._shelf.used
        self._slow, self._answers = slow, answers
        self.small_bytes = min(_SMALL_BYTES, memory_bytes // 16)
        self.feed, self._touch = slow.feed, slow.touch
        self._seen = slow.feed.events
        self._by_mark: dict[int, str] = {}
        self._loading: dict[str, object] = {}
        self._behind: dict[str, tuple[Entry, asyncio.Task[None]]] = {}
        self._behind_bytes = 0
        self._at_hand: Sequence[tuple[Entry, bytes | None]] = ()
        self._asked_once: set[int] = set()
        self._alone: dict[str, Entry] = {}  # by identifier: what the slow store does not hold
        self._most_alone = _MOST_ALONE
        self._own_changes = 0
        self.on_purged: Callable[[], None] = lambda: None
        """Called when another process has purged, softly or not, before anything more is found."""

    # ---- finding ---------------------------------------------------------------------------------------------------

    def get_nowait(self, key: str) -> Sequence[Entry] | None:
        if self.feed.events != self._seen:
            self._catch_up()
        variants = self._shelf.variants(key)
        if variants is None:
            return self._find_nowait(key)
        if variants:
            self._touch(key)
        return variants

    def _find_nowait(self, key: str) -> tuple[Entry, ...] | None:
        """What the slow store gives at once. It is kept in memory when it is asked for again, so that a walk over many keys costs no more than
        its reads; that there is nothing is kept too.
        """
        found = self._slow.find_nowait(key)
        if found is None:
            return None
        variants = youngest_first([entry for entry, _ in found])
        self._at_hand = found
        if not found or self._is_asked_again(key):
            self._remember(key, variants)
            for entry, body in found:
                if body is not None:
                    self._shelf.put_body(entry, body)
        return variants

    def _is_asked_again(self, key: str) -> bool:
        """Whether a key that memory does not have was asked for not long ago."""
        if (mark := hash(key)) in self._asked_once:
            return True
        if len(self._asked_once) > 2 * self._shelf.key_count + _LEAST_ASKED_ONCE:
            self._asked_once.clear()
        self._asked_once.add(mark)
        return False

    def read_nowait(self, entry: Entry) -> bytes | None:
        body = self._shelf.body(entry)
        if body is not None:
            return body
        for known, at_hand in self._at_hand:
            if known is entry and at_hand is not None:
                return at_hand
        body = self._slow.read_nowait(entry)
        if body is not None:
            self._shelf.put_body(entry, body)
        return body

    async def select(self, key: str) -> Sequence[Entry]:
        held = self.get_nowait(key)
        if held is not None:
            return held
        variants, current = await self._load(key)
        if current and variants:
            self._remember(key, variants)
        if self.feed.events != self._seen:  # what was learnt on the way counts for this answer too
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
        """What the slow store has, and whether nothing changed at that key meanwhile."""
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
        """That key was changed: what is being loaded of it must not be kept."""
        self._loading.pop(key, None)
        self._own_changes += 1

    def _catch_up(self) -> None:
        """Drops what other processes have changed."""
        self._seen, marks = self.feed.foreign_since(self._seen)
        if marks is None:
            self._loading.clear()
            self._shelf.clear()
            self._by_mark.clear()
            self._alone.clear()
            self.on_purged()
            return
        for mark in marks:
            if (key := self._by_mark.get(mark)) is not None:
                self._shelf.drop(key)
        if marks:
            self._loading.clear()
        if PURGED in marks:  # another process's purge cannot see what only this one holds
            for entry in (*self._alone.values(), *(entry for entry, _ in self._behind.values())):
                self._shelf.remove(entry)
            self._alone.clear()
        if PURGED in marks or SOFTENED in marks:
            self.on_purged()

    # ---- answers that were made of what memory holds ---------------------------------------------------------------

    def keep_up(self) -> bool:
        """Drops from memory what other processes have changed; whether there was anything new, and cheap if not."""
        if self.feed.events == self._seen:
            return False
        self._catch_up()
        return True

    def watchers(self, entry: Entry) -> Watchers | None:
        """See `Shelf.watchers`; `clearings` counts what they are not told of."""
        return self._shelf.watchers(entry)

    def held_body(self, entry: Entry) -> bytes | None:
        """The body of an entry, if memory holds it; the slow store is not asked."""
        return self._shelf.body(entry)

    @property
    def clearings(self) -> int:
        """How often memory forgot everything at once."""
        return self._shelf.clearings

    def keep_answer(self, digest: bytes, entry: Entry, made: tuple[Any, ...], *, with_body: bool) -> None:
        """See `DiskStore.keep_answer`. For the entry that was read last; nothing if there were other variants, because a change of those
        would change what is chosen.
        """
        if self._answers is not None and len(self._at_hand) == 1 and self._at_hand[0][0] is entry:
            self._answers.keep_answer(digest, entry, made, with_body=with_body)

    def answer_nowait(self, digest: bytes) -> tuple[str, tuple[Any, ...], bytes] | None:
        """Primary key, what was kept, and body, of an answer whose entry is on disk as it was; None if memory holds its key."""
        found = None if self._answers is None else self._answers.answer_nowait(digest)
        return None if found is None or self._shelf.has(found[0]) else found

    def is_taken_in(self, key: str) -> bool:
        """Whether a key that is used now, and that memory does not hold, is to be looked up so that memory takes it in."""
        return self.small_bytes > 0 and self._is_asked_again(key)

    def used(self, key: str) -> None:
        """A key was served from an answer that was made of what memory holds."""
        self._used(key)
        self._touch(key)

    # ---- storing ---------------------------------------------------------------------------------------------------

    async def create(self, entry: Entry) -> EntryWriter:
        purges = self.feed.purges
        try:
            return TieredWriter(self, entry, purges, await self._slow.create(entry))
        except EntryStoreFailure:
            return TieredWriter(self, entry, purges, None)  # a full disk does not keep the memory from storing

    def may_wait(self, size: int) -> bool:
        """Whether so many bytes more may wait for the slow store."""
        return self._behind_bytes + size <= BEHIND_BYTES

    async def show(self, entry: Entry, body: bytes) -> bool:
        """Makes a complete entry visible in memory, among the variants of its key; whether it has room there."""
        known = self._shelf.variants(entry.key)
        if known is None:
            known = self._find_nowait(entry.key)
        if known is None:
            known, current = await self._load(entry.key)
            if not current:
                return False
            known = self._shelf.variants(entry.key) or known
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

    def write_behind(self, entry: Entry, storing: Coroutine[Any, Any, Entry | None]) -> None:
        """Stores a visible entry in the slow store, behind the answer."""
        self._behind_bytes += entry.size
        self._behind[entry.identifier] = entry, asyncio.ensure_future(self._write_behind(entry, storing))

    async def _write_behind(self, entry: Entry, storing: Coroutine[Any, Any, Entry | None]) -> None:
        try:
            if await storing is None or self._shelf.held(entry) is None:
                self.hide(entry)  # purged, or dropped meanwhile and the slow store asked before it had the entry
        except EntryStoreFailure:
            self.keep_alone(entry)
        finally:
            self._behind_bytes -= entry.size
            self._behind.pop(entry.identifier, None)
            if self.feed.events != self._seen:  # too many unread events of this process would look like another one's
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
        known, fresh = self._shelf.held(entry), None
        if known is not None:
            fresh = replace(entry, digest=known.digest, size=known.size)
            self._shelf.replace(fresh)
        self._changed(entry.key)
        try:
            await self._slow.update(entry)
        except EntryStoreFailure:
            if known is None:
                raise
        finally:
            self._changed(entry.key)
            if (held := self._shelf.held(entry)) is not None and held is not fresh:
                self._shelf.drop(entry.key)  # looked up meanwhile

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
            keys = list(self._shelf)
            for at in range(0, len(keys), _SLICE):
                for entry in self._shelf.find(selector, keys[at : at + _SLICE]):
                    self._shelf.remove(entry)
                    count += self._alone.pop(entry.identifier, None) is not None
                await asyncio.sleep(0)
        return count

    # ---- listing ---------------------------------------------------------------------------------------------------

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

    async def by_route(self, names: Sequence[str]) -> dict[str, int]:
        await self.settled()
        return await self._slow.by_route(names)

    def memory_stats(self) -> StoreStats:
        """The memory tier; `stats` tells of the slow store."""
        return StoreStats(len(self._shelf), self._shelf.bytes_used, self._shelf.evictions, tier="memory")

    def generation(self) -> int:
        # with purges, because a soft purge changes nothing that is stored
        return self._slow.generation() + self.feed.purges + self._own_changes

    async def close(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.settled(), 10)
        await self._slow.close()
