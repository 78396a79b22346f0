"""One answer on its way to disk: gathered in memory up to a piece, streamed to a file in a thread beyond it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from passoproxy.core.cache.entry import Entry
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk_bodies import Incoming

PIECE_BYTES = 256 * 1024


class Desk(Protocol):
    """What a writer needs of its store."""

    async def put_down(self, body: Incoming | None, piece: bytes) -> Incoming:
        """Appends a piece to `body` (begun where None). Raises EntryStoreFailure; `body` stays the writer's to drop."""
        ...

    async def store(
        self, began: Entry, entry: Entry, purges: int, body: Incoming | None, rest: bytes
    ) -> Entry | None: ...
    def drop(self, body: Incoming) -> None: ...


class DiskWriter:
    """At most two pieces of a body are in memory: one being gathered, one being written."""

    __slots__ = ("_body", "_desk", "_entry", "_gathered", "_parts", "_purges", "_put", "_state")

    def __init__(self, desk: Desk, entry: Entry, purges: int) -> None:
        self._desk, self._entry, self._purges = desk, entry, purges
        self._parts: list[bytes] = []
        self._gathered = 0
        self._body: Incoming | None = None
        self._put: asyncio.Task[Incoming] | None = None
        self._state = "open"

    async def write(self, data: bytes) -> None:
        if self._state != "open":
            raise EntryStoreFailure("this answer's place in the cache was given up already")
        self._parts.append(data)
        self._gathered += len(data)
        if self._gathered >= PIECE_BYTES:
            await self._hand_over()

    async def _hand_over(self) -> None:
        await self._settle()
        piece, self._parts, self._gathered = b"".join(self._parts), [], 0
        self._put = asyncio.ensure_future(self._desk.put_down(self._body, piece))

    async def _settle(self) -> None:
        """Waits for the piece that is being written. A caller that is cancelled meanwhile loses neither the piece nor the file."""
        if self._put is not None:
            self._body = await asyncio.shield(self._put)
            self._put = None

    async def commit(self, entry: Entry | None = None) -> Entry | None:
        if self._state != "open":
            raise EntryStoreFailure("this answer's place in the cache was given up already")
        await self._settle()
        self._state = "ended"
        body, self._body = self._body, None
        return await self._desk.store(self._entry, entry or self._entry, self._purges, body, b"".join(self._parts))

    async def abandon(self) -> None:
        if self._state != "open":
            return
        self._state = "ended"
        self._parts = []
        if self._put is not None:
            with contextlib.suppress(EntryStoreFailure):
                self._body = await asyncio.shield(self._put)
            self._put = None
        if self._body is not None:
            self._desk.drop(self._body)
            self._body = None
