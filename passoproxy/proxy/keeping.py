"""What the outward half of caching puts into the store and takes out of it. A broken store costs misses, and is told as an event.

Stored parts are joined here, in memory and within bounds; whether two belong together is decided in `core.cache.partial`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from dataclasses import replace
from typing import TypeVar, cast

from passoproxy.core.cache.content import content_digest, made_etag
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.partial import (
    LARGEST_COMBINED,
    as_part,
    combined,
    holding_of,
    is_partial,
    may_combine,
)
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.events import EntryStored, StoreFailed
from passoproxy.core.http.messages import changed
from passoproxy.core.http.ranges import Span, read_content_range
from passoproxy.errors import BodyBroken, EntryStoreFailure, OriginInvalid, OriginUnreachable
from passoproxy.ports import Body, EntryStore, EntryWriter, Observer, Response, read_whole

LARGEST_TAGGED = 256 * 1024
"""An answer of more bytes gets no made tag."""

T = TypeVar("T")


class Keeping:
    """The store, as far as answers go into it."""

    def __init__(self, store: EntryStore, observer: Observer) -> None:
        self._store = store
        self._observer = observer

    async def guarded(self, work: Awaitable[T], instead: T) -> T:
        """What the store gives, or `instead` where it fails."""
        try:
            return await work
        except EntryStoreFailure as fault:
            self._observer(StoreFailed(str(fault)))
            return instead

    async def read(self, entry: Entry) -> Body | None:
        """The body of a stored entry; None where it is lost, or the store fails."""
        return await self.guarded(self._store.read(entry), None)

    def sink(self, writer: EntryWriter, max_bytes: int) -> Sink:
        """Takes a body into the store."""
        return Sink(writer, max_bytes, self._observer)

    async def committed(self, writer: EntryWriter, entry: Entry) -> Entry | None:
        """The entry as it is stored now; None where a purge meanwhile counts against it, or the store fails."""
        kept = await self.guarded(writer.commit(entry), None)
        if kept is not None:
            self._observer(EntryStored(kept.key, kept.route, kept.size))
        return kept

    async def joined(
        self, part: Entry, span: Span, data: bytes, entry: Entry, policy: RoutePolicy, writer: EntryWriter
    ) -> Entry | None:
        """Stores `data`, which is `span`, and the stored part as one, under the old fields as those of `entry` change them (RFC 9111 §3.4);
        None where that fails.
        """
        stored = await self.read(part)
        old = await read_whole(stored, LARGEST_COMBINED) if stored is not None else None
        if old is None:
            return None
        holding, whole = combined(holding_of(part), old, span, data)
        merged = as_part(replace(entry, fields=changed(part.fields, having=entry.fields.items())), holding)
        if not await self.sink(writer, len(whole))(whole):
            return None
        return await self.committed(writer, await finished(merged, policy, whole))


class Sink:
    """Writes part after part; gives up, for good, at the limit and at the first failure of the store. `taken` counts the bytes."""

    __slots__ = ("_max_bytes", "_observer", "_writer", "taken")

    def __init__(self, writer: EntryWriter, max_bytes: int, observer: Observer) -> None:
        self._writer = writer
        self._max_bytes = max_bytes
        self._observer = observer
        self.taken = 0

    async def __call__(self, part: bytes) -> bool:
        self.taken += len(part)
        if self.taken > self._max_bytes:
            return False
        try:
            await self._writer.write(part)
        except EntryStoreFailure as fault:
            self._observer(StoreFailed(str(fault)))
            return False
        return True


async def joinable(response: Response, part: Entry, max_bytes: int) -> tuple[Span, bytes] | None:
    """What a 206 brings to a stored part; None, and its body untouched, where it does not belong to it, or both would be more than
    `max_bytes`. Raises OriginInvalid where it is not what it says, OriginUnreachable where it breaks off.
    """
    described = read_content_range(response.head.fields)
    if described is None or not may_combine(part, response.head.fields, described[1]):
        return None
    span = described[0]
    if holding_of(part).bytes_held + span.size > min(LARGEST_COMBINED, max_bytes):
        return None
    try:
        body = await read_whole(response.body, span.size)
    except BodyBroken:
        await response.body.aclose()
        raise OriginUnreachable("the origin's answer broke off; try again") from None
    if body is None or len(body) != span.size:
        raise OriginInvalid("the origin's 206 has another length than its Content-Range says")
    return span, body


def is_all(entry: Entry, size: int) -> bool:
    """Whether so many bytes are what a part says to hold; of a whole answer any number is."""
    return not is_partial(entry) or holding_of(entry).bytes_held == size


async def finished(entry: Entry, policy: RoutePolicy, body: bytes | None) -> Entry:
    """The entry with a tag of ours (contract §7) where the origin gave none and all of a whole answer is at hand."""
    if (
        body is None
        or len(body) > LARGEST_TAGGED
        or entry.status != 200
        or entry.method != "GET"
        or "ETag" in entry.fields
    ):
        return entry
    digest = await _in_steps(content_digest(body, entry.fields, policy.volatile_fields))
    return replace(entry, content_digest=digest, made_etag=made_etag(digest))


async def _in_steps(work: Generator[None, None, T]) -> T:
    """What `work` comes to; the loop has a turn after each of its steps."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            return cast(T, done.value)
        await asyncio.sleep(0)
