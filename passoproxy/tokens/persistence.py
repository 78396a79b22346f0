"""The pair's store, seen from the loop: every call in a thread, and what could not be written tried again until it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from passoproxy.core.events import PairFileDamaged, PairNotSaved
from passoproxy.core.oauth.pair import Pair
from passoproxy.errors import PairDamaged, PairStoreFailure
from passoproxy.ports import ChainRecord, Observer, PairStore, RawAnswer

P = ParamSpec("P")
T = TypeVar("T")

RETRY_INTERVAL = 5.0
"""What could not be written is tried again this often, in seconds."""


class Blocking(Protocol):
    """Runs a blocking call so that it does not hold up the loop; `asyncio.to_thread` in a running daemon."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...


class Saving:
    """The store, seen from the loop."""

    def __init__(self, store: PairStore, observe: Observer, blocking: Blocking = asyncio.to_thread) -> None:
        self.store, self._observe, self._blocking = store, observe, blocking
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

    async def call(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a method of the store gives. Raises what it raises."""
        return await self._blocking(partial(do, *args, **kwargs))

    async def load(self) -> tuple[Pair | None, ChainRecord, RawAnswer | None]:
        """What is stored; damaged files are passed over, told as events, and named in `damage`. Raises PairStoreFailure."""
        self.damage = self.unrecorded = ""
        try:
            record = await self.call(self.store.load_record)
        except PairDamaged as fault:
            self.unrecorded = self._told(fault)
            record = await self._readable(self.store.imports) or ChainRecord()
            if self.damage != self.unrecorded:
                self.unrecorded = self.damage = f"{self.unrecorded}; {self.damage}"
        answer = await self._readable(self.store.pending_answer)
        pair = await self._readable(self.store.load)
        return pair, record, answer

    async def keep(self, answer: RawAnswer) -> bool:
        """Makes a raw answer durable; whether it could."""
        try:
            await self.call(self.store.keep_answer, answer)
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
                self.store.commit(pair)
            self.store.save_record(record)

        try:
            await self.call(both)
        except PairStoreFailure as fault:
            self.fault = str(fault)
            self._observe(PairNotSaved(self.fault))
            return False
        self._pair = self._record = None
        return True

    async def erase(self, record: ChainRecord) -> None:
        """Forgets the pair, and what waits of it. Raises PairStoreFailure if it cannot be erased."""

        def both() -> None:
            self.store.erase()
            self.store.save_record(record)

        await self.call(both)
        self._pair = self._record = None

    async def _readable(self, read: Callable[[], T]) -> T | None:
        """What can be read, passing over damaged files: each is moved aside by the store, so that the next read sees what is left."""
        for _ in range(8):
            try:
                return await self.call(read)
            except PairDamaged as fault:
                self._told(fault)
        return None

    def _told(self, fault: PairDamaged) -> str:
        self.damage = str(fault)
        self._observe(PairFileDamaged(self.damage))
        return self.damage
