"""One answer on its way into both tiers: gathered for memory while it is small, and passed on to the slow store."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from dataclasses import replace
from hashlib import sha256
from typing import Any, Protocol

from passoproxy.core.cache.entry import Entry
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import EntryWriter


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
