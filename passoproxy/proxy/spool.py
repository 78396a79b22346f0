"""Bodies that wait for a slow side: up to 1 MiB in memory, then in a file without a name, so that the other side need not wait.

A spool is written once and read by any number of readers, each from the start. Readers that keep up are served from memory, and for them
nothing is copied to disk. The writer decides where a body comes from, and what happens when there is no room.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from passoproxy.errors import BodyBroken, PassoproxyError
from passoproxy.ports import Body, BytesBody, Spill, SpillFile

WINDOW_BYTES = 1024 * 1024
"""How much of one body is held in memory for slow readers."""

IN_MEMORY_BYTES = 64 * 1024 * 1024
"""How much of all bodies together, about: with many readers each one's window is smaller."""

_LEAST_WINDOW = 64 * 1024
_PIECE_BYTES = 256 * 1024  # of a spilled body, written or read at once
_PARTS = 64  # of a window, about: smaller parts are joined, because a body of tiny ones would cost many times its bytes


class Spools:
    """What the spools of one process share: the disk, and memory. Without a `spill` bodies wait for their readers instead."""

    def __init__(self, spill: Spill | None = None, window_bytes: int = WINDOW_BYTES) -> None:
        self.spill = spill
        self.readers = 0
        """How many there are, of all spools."""
        self._window = window_bytes

    @property
    def window(self) -> int:
        """How much of one body may be in memory now."""
        return min(self._window, max(_LEAST_WINDOW, IN_MEMORY_BYTES // max(1, self.readers)))

    @contextlib.asynccontextmanager
    async def buffered(self, body: Body) -> AsyncIterator[Body]:
        """The whole of `body`: as bytes where it is small, else as a Reader; where there is no room for it, as much as there is, and then
        the rest as it comes. Ends what it takes of memory and disk, but for readers that were made with `again`.

        Raises what `body` raises, and BodyBroken where it is not as long as it said.
        """
        spool = Spool(self, None)
        reader = spool.reader()
        assert reader is not None
        try:
            yield await _gathered(body, spool, reader)
        finally:
            reader.leave()


async def _gathered(body: Body, spool: Spool, reader: Reader) -> Body:
    async for part in body:
        spool.add(part)
        if not await spool.has_room():
            spool.end(True)
            return BegunBody(reader, body)
    if body.length is not None and spool.size != body.length:
        raise BodyBroken("the request's body is not as long as it said")
    spool.end(True)
    if spool.size <= _LEAST_WINDOW and (whole := spool.whole) is not None:
        return BytesBody(whole)
    reader.length = spool.size
    return reader


class Spool:
    """One body. `add` and `end` write it; `has_room` is to be awaited after each part, by one task."""

    def __init__(self, spools: Spools, length: int | None) -> None:
        self.length = length
        self.size = 0
        """Bytes that were added."""
        self._spools = spools
        self._parts: deque[bytes] = deque()
        self._start = 0  # offset of the first byte in memory; earlier ones are on disk, or read by all
        self._file: SpillFile | None = None
        self._ended: PassoproxyError | bool = False
        self._readers: list[Reader] = []

    # ---- the writer's side -----------------------------------------------------------------------------------------------

    def add(self, part: bytes) -> None:
        """One more part."""
        self.size += len(part)
        if self._parts and (len(self._parts[-1]) + len(part)) * _PARTS <= self._spools.window:
            part = self._parts.pop() + part
        self._parts.append(part)
        self._tell()

    def end(self, how: PassoproxyError | bool) -> None:
        """That was all of it, or all that will come."""
        self._ended = how
        self._tell()

    async def has_room(self) -> bool:
        """Whether another part may be added; makes room where there is none. False: wait until a reader has gone on, or left."""
        if self._held <= self._spools.window:
            return True
        await asyncio.sleep(0)  # a reader that keeps up takes what came just now
        self._drop_what_all_have()
        while self._held > self._spools.window:
            had_room = await self._spilled()
            self._drop_what_all_have()
            if not had_room:
                break
        return self._held <= self._spools.window

    def pass_by(self, part: bytes) -> None:
        """A part without readers."""
        self.size += len(part)
        self._parts.clear()
        self._start = self.size

    @property
    def _held(self) -> int:
        return self.size - self._start

    async def _spilled(self) -> bool:
        """Moves the oldest part in memory to disk."""
        if self._file is None:
            if self._spools.spill is None or not self._readers:
                return False
            self._file = self._spools.spill.open()
        file, start, count, size = self._file, self._start, 0, 0
        for part in self._parts:
            count, size = count + 1, size + len(part)
            if size >= _PIECE_BYTES:
                break
        parts = [self._parts[index] for index in range(count)]
        file.trim(min((reader.at for reader in self._readers), default=start))
        if not await file.write(start, b"".join(parts)):
            return False
        if file is self._file:  # else its readers have left meanwhile
            for _ in range(count):
                self._start += len(self._parts.popleft())
        return True

    def _drop_what_all_have(self) -> None:
        slowest = min((reader.at for reader in self._readers), default=self.size)
        while self._parts and self._start + len(self._parts[0]) <= slowest and self._held > self._spools.window:
            self._start += len(self._parts.popleft())

    def _tell(self) -> None:
        for reader in self._readers:
            reader.wake()

    # ---- the readers' side -----------------------------------------------------------------------------------------------

    @property
    def whole(self) -> bytes | None:
        """The complete body, while all of it is in memory."""
        return b"".join(self._parts) if self._ended is True and not self._start else None

    @property
    def is_broken(self) -> bool:
        """Whether it ended before its end."""
        return isinstance(self._ended, PassoproxyError)

    def reader(self) -> Reader | None:
        """The body from its start; None where that is not in memory any more."""
        return None if self._start else self.joined(0)

    def joined(self, at: int) -> Reader:
        """The body from offset `at` on, where another reader is."""
        reader = Reader(self, at)
        self._readers.append(reader)
        self._spools.readers += 1
        return reader

    def leave(self, reader: Reader) -> None:
        """The reader wants nothing more."""
        if reader in self._readers:
            self._readers.remove(reader)
            self._spools.readers -= 1
            if not self._readers and self._file is not None:
                self._file.close()
                self._file = None
            self.advanced()

    def advanced(self) -> None:
        """A reader has gone on, or left: there may be room."""

    def in_memory(self, at: int) -> bytes:
        """What there is from offset `at` on, to the end of a part; b'' where nothing is in memory."""
        if not self._start <= at < self.size:
            return b""
        begin = self.size
        for part in reversed(self._parts):  # a reader that keeps up wants the last one
            begin -= len(part)
            if begin <= at:
                return part[at - begin :]
        raise AssertionError("the parts in memory are those from _start on")

    async def from_disk(self, reader: Reader) -> bytes:
        """What comes next for `reader`, where that is not in memory any more; b'' where nothing has come yet."""
        if reader.at >= self._start:
            return b""
        if self._file is None:
            raise BodyBroken("a part of this body was not kept")
        return await self._file.read(reader.at, min(_PIECE_BYTES, self._spools.window))

    def has_ended(self) -> bool:
        """Whether there is an end; raises what the body ended by."""
        if isinstance(self._ended, PassoproxyError):
            raise self._ended.with_traceback(None)
        return self._ended

    async def before_the_last(self) -> None:
        """Awaited before a reader gets the last bytes, or the end of a body of unknown length."""


class Reader:
    """One reader's view of a spool: a Body. Where `rest` is set, what comes next is read there."""

    __slots__ = ("_closed", "_spool", "_waiting", "at", "length", "rest")

    def __init__(self, spool: Spool, at: int) -> None:
        self.length = spool.length
        self.at = at
        """Where in the body it is."""
        self.rest: Body | None = None
        self._spool = spool
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        spool = self._spool
        while not self._closed:
            if self.rest is not None:
                return await anext(self.rest)
            part = spool.in_memory(self.at) or await spool.from_disk(self)
            if part:
                self.at += len(part)
                spool.advanced()
                if self.at == self.length:
                    await spool.before_the_last()
                return part
            if self.rest is not None:
                continue
            if spool.has_ended():
                if self.length is None:
                    await spool.before_the_last()
                break
            await self._news()
        raise StopAsyncIteration

    async def _news(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def wake(self) -> None:
        """There is something new to see."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def again(self) -> Reader:
        """Another reader at the same place. Not to be asked for of one that has left."""
        other = self._spool.joined(self.at)
        other.length = self.length
        return other

    def leave(self) -> None:
        """Wants nothing more; `aclose` without what needs waiting."""
        self._closed = True
        self._spool.leave(self)
        self.wake()

    async def aclose(self) -> None:
        self.leave()
        if self.rest is not None:
            await self.rest.aclose()


# ---- bodies that were partly read --------------------------------------------------------------------------------------


class BegunBody:
    """A body of which a beginning was read already: gives that, then the rest as it comes."""

    __slots__ = ("_begun", "_rest", "length")

    def __init__(self, begun: Body, rest: Body) -> None:
        self._begun: Body | None = begun
        self._rest = rest
        self.length = rest.length

    def __aiter__(self) -> BegunBody:
        return self

    async def __anext__(self) -> bytes:
        if self._begun is not None:
            try:
                return await anext(self._begun)
            except StopAsyncIteration:
                self._begun = None
        return await anext(self._rest)

    async def aclose(self) -> None:
        if self._begun is not None:
            await self._begun.aclose()
        await self._rest.aclose()


async def gathered(body: Body, max_bytes: int) -> BytesBody | Body:
    """The body in memory where it is no longer than `max_bytes`; else the same stream with nothing lost."""
    if isinstance(body, BytesBody) or (body.length is not None and body.length > max_bytes):
        return body
    parts: list[bytes] = []
    size = 0
    async for part in body:
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            return BegunBody(BytesBody(b"".join(parts)), body)
    await body.aclose()
    return BytesBody(b"".join(parts))
