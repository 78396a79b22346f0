"""The pair's store, seen from the loop: every call in a thread, and what could not be written tried again until it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from passoproxy.core.events import PairFileDamaged, PairNotSaved
from passoproxy.core.oauth.pair import Pair
from passoproxy.errors import PairDamaged, PairStoreFailure
from passoproxy.ports import ChainRecord, Observer, PairStore, RawAnswer

T = TypeVar("T")

RETRY_INTERVAL = 5.0
"""What could not be written is tried again this often, in seconds."""


class Blocking(Protocol):
    """Runs a blocking call if it does not hold up the loop."""

    def __call__(self, call: Callable[[], T]) -> Awaitable[T]: ...


async def in_thread(call: Callable[[], T]) -> T:
    """The Blocking of a running daemon."""
    return await asyncio.to_thread(call)


class Saving:
    """The store, seen from the loop."""

    def __init__(self, store: PairStore, observe: Observer, blocking: Blocking = in_thread) -> None:
        self._store = store
        self._observe = observe
        self._blocking = blocking
        self._pair: Pair | None = None
        self._record: ChainRecord | None = None
        self.damage = ""
        """What was found damaged or unreadable since the start, else ''."""
        self.unrecorded = ""
        """Why it is not known which tokens were spent; '' if the record tells."""
        self.fault = ""
        """Why what waits to be written could not be written when that was tried last."""

    @property
    def unsaved(self) -> bool:
        """Whether something waits to be written."""
        return self._record is not None

    async def take(self) -> None:
        """Becomes the owner. Raises PairStoreOwned, CannotCreate."""
        await self._blocking(self._store.acquire)

    async def leave(self) -> None:
        await self._blocking(self._store.release)

    def may_present(self) -> bool:
        """Whether the store's ownership is certain this very moment."""
        return self._store.may_present()

    async def load(self) -> tuple[Pair | None, ChainRecord, RawAnswer | None]:
        """What is stored; damaged files are passed over, told as events, and named in `damage`. Raises PairStoreFailure."""
        self.damage = self.unrecorded = ""
        try:
            record = await self._blocking(self._store.load_record)
        except PairDamaged as fault:
            self.unrecorded = self._told(fault)
            record = await self._blocking(self._store.imports)
        answer = await self._readable(self._store.pending_answer)
        pair = await self._readable(self._store.load)
        return pair, record, answer

    async def kept(self) -> tuple[Pair, ...]:
        """The pairs that wait for another configuration, the youngest first."""
        return await self._blocking(self._store.kept)

    async def reread(self) -> Pair | None:
        """The newest stored generation now; None if it cannot be read."""
        try:
            return await self._blocking(self._store.load)
        except (PairStoreFailure, PairDamaged):
            return None

    async def reserve(self) -> None:
        """Takes room for an answer. Raises PairStoreFailure if there is none."""
        await self._blocking(self._store.reserve)

    async def mark(self, record: ChainRecord) -> None:
        """Makes a record durable now. Raises PairStoreFailure if it cannot be, and then nothing waits to be written."""
        await self._blocking(lambda: self._store.save_record(record))

    async def keep(self, answer: RawAnswer) -> bool:
        """Makes a raw answer durable; whether it could."""
        try:
            await self._blocking(lambda: self._store.keep_answer(answer))
        except PairStoreFailure as fault:
            self._observe(PairNotSaved(str(fault)))
            return False
        return True

    async def commit(self, pair: Pair, record: ChainRecord) -> bool:
        """Makes a generation and its record durable; whether it could. What could not be written waits for `retry`."""
        self._pair, self._record = pair, record
        return await self.retry()

    async def note(self, record: ChainRecord) -> None:
        """Makes a record durable; what could not be written waits for `retry`."""
        self._record = record
        await self.retry()

    async def retry(self) -> bool:
        """Tries again to write what waits; whether nothing waits any more."""
        pair, record = self._pair, self._record
        if record is None:
            return True

        def both() -> None:
            if pair is not None:
                self._store.commit(pair)
            self._store.save_record(record)

        try:
            await self._blocking(both)
        except PairStoreFailure as fault:
            self.fault = str(fault)
            self._observe(PairNotSaved(self.fault))
            return False
        self._pair = self._record = None
        return True

    async def erase(self, record: ChainRecord) -> None:
        """Forgets the pair, and what waits of it. Raises PairStoreFailure if it cannot be erased."""

        def both() -> None:
            self._store.erase()
            self._store.save_record(record)

        await self._blocking(both)
        self._pair = self._record = None

    async def _readable(self, read: Callable[[], T]) -> T | None:
        """What can be read, passing over damaged files: each is moved aside by the store, so that the next read sees what is left."""
        for _ in range(8):
            try:
                return await self._blocking(read)
            except PairDamaged as fault:
                self._told(fault)
        return None

    def _told(self, fault: PairDamaged) -> str:
        self.damage = str(fault)
        self._observe(PairFileDamaged(self.damage))
        return self.damage
