"""Bodies from Redis: small ones whole, large ones piece by piece, and never a byte of one whose hash was not seen.

A large body is read twice the first time: once to prove it, remembering what each piece's hash is, and once to give it. Later only the pieces
are proven, each before it is given. What was begun is read to its end: the store keeps the body for readers when its entry goes, and one that
is away for a moment is waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from hashlib import blake2b, sha256
from typing import Any

from passoproxy.core.cache.entry import Entry
from passoproxy.errors import BodyBroken, EntryStoreFailure
from passoproxy.ports import Body, BytesBody
from passoproxy.stores.entries.redis_link import RedisPath
from passoproxy.stores.entries.redis_scripts import READ_SECONDS

SMALL_BYTES = 256 * 1024
_PIECE = 256 * 1024
_PATIENCE = 10.0
"""Seconds for which a store that is away is asked again for the next piece of what was begun."""

_AGAIN = 0.1
_REMEMBERED = 1024


class Bodies:
    """Opens bodies over `path`. Raises RedisAway."""

    def __init__(self, path: RedisPath) -> None:
        self._path = path
        self._proven: OrderedDict[tuple[str, str], tuple[bytes, ...]] = OrderedDict()

    async def open(self, name: str, entry: Entry) -> Body | None:
        """The body at `name`; None where it is not there or not the entry's."""
        if entry.size <= SMALL_BYTES:
            async with self._path.asking() as client:
                data: Any = await client.get(name)
            good = data is not None and len(data) == entry.size and sha256(data).hexdigest() == entry.digest
            return BytesBody(data) if good else None
        await keep_for_reading(self._path, name)
        pieces = self._proven.get((name, entry.digest)) or await self._prove(name, entry)
        if pieces is None:
            await keep_for_reading(self._path, name, False)
            return None
        self._remember((name, entry.digest), pieces)
        return RedisBody(self._path, name, entry.size, pieces)

    async def _prove(self, name: str, entry: Entry) -> tuple[bytes, ...] | None:
        whole, pieces, size = sha256(), [], 0
        while size < entry.size:
            piece = await piece_at(self._path, name, size)
            if not piece:
                return None
            whole.update(piece)
            pieces.append(_mark(piece))
            size += len(piece)
        is_it = size == entry.size and whole.hexdigest() == entry.digest
        return tuple(pieces) if is_it and not await piece_at(self._path, name, size) else None

    def _remember(self, which: tuple[str, str], pieces: tuple[bytes, ...]) -> None:
        self._proven[which] = pieces
        self._proven.move_to_end(which)
        if len(self._proven) > _REMEMBERED:
            self._proven.popitem(last=False)


async def piece_at(path: RedisPath, name: str, at: int) -> bytes:
    """The next piece of a body from `at` on, empty behind its end."""
    async with path.asking() as client:
        piece: Any = await client.getrange(name, at, at + _PIECE - 1)
    return bytes(piece)


async def keep_for_reading(path: RedisPath, name: str, keep: bool = True) -> None:
    """Has a body outlive its entry for as long as a reader may take, or not."""
    epoch, _, body = name.rpartition(":b:")
    note = f"{epoch}:read:{body}"
    async with path.asking() as client:
        await (client.set(note, b"1", ex=READ_SECONDS) if keep else client.unlink(note))


def _mark(piece: bytes) -> bytes:
    return blake2b(piece, digest_size=16).digest()


class RedisBody:
    """A proven body. One that is changed while it is being given, or cannot be read for long, breaks off."""

    __slots__ = ("_at", "_ended", "_kept_at", "_name", "_path", "_pieces", "length")

    def __init__(self, path: RedisPath, name: str, size: int, pieces: tuple[bytes, ...]) -> None:
        self._path, self._name, self._pieces = path, name, pieces
        self._at = 0
        self._ended = False
        self._kept_at = time.monotonic()
        self.length: int | None = size

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ended or self._at == len(self._pieces):
            raise StopAsyncIteration
        piece = await self._next()
        if _mark(piece) != self._pieces[self._at]:
            raise BodyBroken("a stored body was changed or removed in the store while it was being served")
        self._at += 1
        return piece

    async def _next(self) -> bytes:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                if time.monotonic() - self._kept_at > READ_SECONDS / 5:
                    await keep_for_reading(self._path, self._name)
                    self._kept_at = time.monotonic()
                return await piece_at(self._path, self._name, self._at * _PIECE)
            except EntryStoreFailure as failure:
                if time.monotonic() > until:
                    raise BodyBroken(f"a stored body could not be read to its end: {failure}") from failure
            await asyncio.sleep(_AGAIN)

    async def aclose(self) -> None:
        self._ended = True
