"""One answer on its way to Redis: gathered up to a piece, appended to a body under way beyond it, which ends by itself if nobody commits it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import Protocol

from passoproxy.core.cache.entry import Entry
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.redis_view import Known

PIECE_BYTES = 256 * 1024
UNDER_WAY_SECONDS = 300
"""How long a body under way is kept after its last piece."""

Append = Callable[[str, bytes], Awaitable[None]]


class Desk(Protocol):
    """What a writer needs of its store."""

    max_entry_bytes: int

    async def append(self, token: str, piece: bytes) -> None: ...
    async def store(self, began: Entry, entry: Entry, known: Known, token: str, body: bytes) -> Entry | None: ...
    async def drop(self, token: str) -> None: ...


class RedisWriter:
    """`known` is how the cache was when it began: purges after that count."""

    __slots__ = ("_desk", "_entry", "_gathered", "_hash", "_known", "_parts", "_size", "_state", "_token")

    def __init__(self, desk: Desk, entry: Entry, known: Known) -> None:
        self._desk, self._entry, self._known = desk, entry, known
        self._parts: list[bytes] = []
        self._gathered = self._size = 0
        self._hash = sha256()
        self._token = ""
        self._state = "open"

    async def write(self, data: bytes) -> None:
        self._must_be_open()
        self._size += len(data)
        if self._size > self._desk.max_entry_bytes:
            raise EntryStoreFailure("an answer is larger than cache.max_entry_size")
        self._parts.append(data)
        self._gathered += len(data)
        if self._gathered >= PIECE_BYTES:
            await self._hand_over()

    async def _hand_over(self) -> None:
        piece, self._parts, self._gathered = b"".join(self._parts), [], 0
        self._hash.update(piece)
        self._token = self._token or f"in:{secrets.token_hex(16)}"
        await self._desk.append(self._token, piece)

    async def commit(self, entry: Entry | None = None) -> Entry | None:
        self._must_be_open()
        if self._token and self._parts:
            await self._hand_over()
        self._state = "ended"
        rest = b"".join(self._parts)
        if not self._token:
            self._hash.update(rest)
        final = replace(entry or self._entry, digest=self._hash.hexdigest(), size=self._size)
        try:
            return await self._desk.store(self._entry, final, self._known, self._token, rest)
        finally:
            await self._dropped()

    def _must_be_open(self) -> None:
        if self._state != "open":
            raise EntryStoreFailure("this answer's place in the cache was given up already")

    async def abandon(self) -> None:
        if self._state == "open":
            self._state = "ended"
            self._parts = []
            await self._dropped()

    async def _dropped(self) -> None:
        token, self._token = self._token, ""
        if token:  # where it cannot be dropped it ends by itself
            with contextlib.suppress(EntryStoreFailure):
                await self._desk.drop(token)
