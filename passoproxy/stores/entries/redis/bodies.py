"""Bodies in Redis: written piece by piece to a key that ends by itself, read whole and proven before their first byte is served."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from passoproxy.core.cache.entry import Entry
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import Body, BytesBody, Spill, SpillFile
from passoproxy.stores.entries.redis.connection import Connection, RedisAway

PIECE_BYTES = 256 * 1024
"""A body of more is stored and read in pieces of this size."""

UNDER_WAY_SECONDS = 300
"""How long a body that is being stored is kept after its last piece."""


class RedisWriter:
    """`prefix` begins the key of a body under way; `commit` is told the entry as it began and as it ended, the token in that key ('' for a
    body of one piece), the last piece's number, and the last piece."""

    def __init__(
        self,
        connection: Connection,
        prefix: str,
        entry: Entry,
        max_bytes: int,
        commit: Callable[[Entry, Entry, str, int, bytes], Awaitable[Entry | None]],
    ) -> None:
        self._connection, self._prefix, self._entry, self._max_bytes = connection, prefix, entry, max_bytes
        self._commit = commit
        self._buffer, self._hash = bytearray(), sha256()
        self._size = self._number = 0
        self._token = ""
        self._open = True

    async def write(self, data: bytes) -> None:
        self._must_be_open()
        self._size += len(data)
        if self._size > self._max_bytes:
            raise EntryStoreFailure("an answer is larger than cache.max_entry_size")
        self._hash.update(data)
        self._buffer += data
        while len(self._buffer) >= PIECE_BYTES:
            piece = bytes(self._buffer[:PIECE_BYTES])
            del self._buffer[:PIECE_BYTES]
            self._token = self._token or f"in:{secrets.token_hex(16)}"
            async with self._connection.client() as client, client.pipeline(transaction=True) as pipe:
                pipe.hset(self._prefix + self._token, str(self._number), piece)
                pipe.expire(self._prefix + self._token, UNDER_WAY_SECONDS)
                await pipe.execute()
            self._number += 1

    async def commit(self, entry: Entry | None = None) -> Entry | None:
        self._must_be_open()
        self._open = False
        final = replace(entry or self._entry, digest=self._hash.hexdigest(), size=self._size)
        try:
            return await self._commit(self._entry, final, self._token, self._number, bytes(self._buffer))
        finally:
            await self._remove()

    async def abandon(self) -> None:
        if self._open:
            self._open = False
            self._buffer.clear()
            await self._remove()

    def _must_be_open(self) -> None:
        if not self._open:
            raise EntryStoreFailure("this answer's place in the cache was given up already")

    async def _remove(self) -> None:
        if self._token:
            with contextlib.suppress(EntryStoreFailure):
                async with self._connection.client() as client:
                    await client.unlink(self._prefix + self._token)


async def body_at(connection: Connection, name: str, entry: Entry, spill: Spill) -> Body | None:
    """The body in the hash `name`; None if it is not there, or not the entry's. A large one is read into `spill`.

    Raises RedisAway, also if there is no room for a large body.
    """
    if entry.size <= PIECE_BYTES:
        async with connection.client() as client:
            data: Any = await client.hget(name, "0")
        return BytesBody(data) if data is not None and _is_whole(sha256(data), len(data), entry) else None
    file, digest, size = spill.open(), sha256(), 0
    try:
        while size < entry.size:
            async with connection.client() as client:
                piece: Any = await client.hget(name, str(size // PIECE_BYTES))
            if not piece:
                return None
            if not await file.write(size, piece):
                raise RedisAway(f"there is no room on disk for a stored body of {entry.size} bytes")
            digest.update(piece)
            size += len(piece)
        if not _is_whole(digest, size, entry):
            return None
        body, file = SpilledBody(file, size), spill.open()
        return body
    finally:
        file.close()


def _is_whole(digest: Any, size: int, entry: Entry) -> bool:
    return size == entry.size and digest.hexdigest() == entry.digest


class SpilledBody:
    """A stored body in a spill file."""

    def __init__(self, file: SpillFile, size: int) -> None:
        self._file, self._at, self._end = file, 0, size
        self.length: int | None = size

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._at == self._end:
            self._file.close()
            raise StopAsyncIteration
        piece = await self._file.read(self._at, PIECE_BYTES)
        self._at += len(piece)
        return piece

    async def aclose(self) -> None:
        self._at = self._end
        self._file.close()
