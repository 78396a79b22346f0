"""Bodies read from disk: small ones whole, large ones piece by piece from a thread, and never a byte of an unproven one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from passoproxy.core.cache.entry import Entry
from passoproxy.errors import BodyBroken
from passoproxy.ports import Body, BytesBody
from passoproxy.stores.entries.disk_bodies import Bodies
from passoproxy.stores.entries.lanes import Lane
from passoproxy.stores.entries.names import body_name, row_name

SMALL_BYTES = 256 * 1024
_PIECE = 256 * 1024


def open_body(bodies: Bodies, lane: Lane, entry: Entry) -> Body | None:
    """The proven body of `entry`; None where it is not there or is not what was stored. Blocks; raises OSError."""
    file = bodies.open(body_name(row_name(entry), entry.digest), entry.digest, entry.size)
    if file is None:
        return None
    if entry.size > SMALL_BYTES:
        return FileBody(file, entry.size, lane)
    try:
        data = os.pread(file, entry.size + 1, 0)
    finally:
        os.close(file)
    return BytesBody(data) if len(data) == entry.size else None


class FileBody:
    """A proven body in an open file. It goes on also when its entry is replaced or evicted; a file that is written to breaks it off."""

    __slots__ = ("_at", "_file", "_lane", "_unchanged", "length")

    def __init__(self, file: int, size: int, lane: Lane) -> None:
        self._file, self._lane, self._at = file, lane, 0
        self.length: int | None = size
        self._unchanged = os.fstat(file).st_mtime_ns

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._file < 0 or self._at == self.length:
            await self.aclose()
            raise StopAsyncIteration
        piece = await self._lane.call(self._next)
        self._at += len(piece)
        return piece

    def _next(self) -> bytes:
        assert self.length is not None
        try:
            piece = os.pread(self._file, min(_PIECE, self.length - self._at), self._at)
            found = os.fstat(self._file)
        except OSError as error:
            raise BodyBroken(f"a stored body could not be read to its end: {error.strerror}") from error
        if not piece or found.st_mtime_ns != self._unchanged or found.st_size != self.length:
            raise BodyBroken("a stored body was changed on disk while it was being served")
        return piece

    async def aclose(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:  # whoever asked was cancelled and never got it
        if self._file >= 0:
            os.close(self._file)
