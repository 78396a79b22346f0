"""Entries in one Redis or Valkey that many instances share: an `EntryStore`, and a `SlowStore` for the memory tier before it.

What lies there and the scripts that change it are `redis_scripts`'; `redis_view` and `redis_listening` know what others do, `redis_purging`
purges, `redis_link` keeps waits short. While the store is away there are misses, nothing is stored, and what was to be purged is made up for
when it is back, before anything else is read.

A sealed value proves that it was made under the same secret, for that place, and that nobody changed it: damage, another fleet's rows and
whatever else lies in that store are misses. It is no protection against whoever has the secret, nor, where that is only derived from the
store's own password, against whoever may write to the store (docs/decisions/0013-entries-in-redis.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.soft_purges import SoftPurge, SoftPurges
from passoproxy.core.events import EntriesEvicted, TaskFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import Body, Observer, StoreStats, nobody
from passoproxy.stores.entries import purge_log
from passoproxy.stores.entries.hints import hints_of
from passoproxy.stores.entries.names import key_name, mark_of, row_name
from passoproxy.stores.entries.redis_body import Bodies
from passoproxy.stores.entries.redis_knowing import Knowing
from passoproxy.stores.entries.redis_link import PAUSE_SECONDS, RedisAway, RedisPath, ended
from passoproxy.stores.entries.redis_listening import BLOCK_SECONDS, Listening
from passoproxy.stores.entries.redis_purging import FEW, Purging
from passoproxy.stores.entries.redis_rows import (
    body_suffix,
    identifier_of,
    mark,
    row_of,
    rows_of,
    varies_of,
    visible,
)
from passoproxy.stores.entries.redis_scripts import DROP, STORE, UPDATE
from passoproxy.stores.entries.redis_view import NO_SOFT_PURGES, Known, View
from passoproxy.stores.entries.redis_writer import UNDER_WAY_SECONDS, RedisWriter
from passoproxy.stores.entries.sealing import Seal
from passoproxy.stores.entries.soft_purge_codec import encode
from passoproxy.stores.entries.variants import MAX_VARIANTS, youngest_first

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

CONNECT_SECONDS = 0.05
ANSWER_SECONDS = 0.1
SKEW_SECONDS = 2.0
"""By so much the clocks of instances may differ: what is fetched within that time after a soft purge counts as fetched before it."""

_ROUNDS = 8


def for_a_week(entry: Entry) -> float:
    """The end of an entry where nothing better is known: a week after it came."""
    return entry.stored_at + 7 * 86400.0


class RedisStore:
    """`connect(connect_seconds, answer_seconds)` makes a client whose waits are bounded so; `prefix` begins every name, and has a hash tag.

    `ends_at` tells when (epoch seconds) an entry is of no use any more, however stale it may serve; it and its body end there by themselves.
    `max_bytes` bounds what all entries take together; those that end soonest go first. `secret` (16 bytes or more) is the same for all instances.
    `shown` names the store in messages.
    """

    def __init__(
        self,
        connect: Callable[[float, float], Redis],
        prefix: str,
        *,
        secret: bytes,
        shown: str = "store.url",
        max_bytes: int = 1 << 30,
        max_entry_bytes: int = 16 << 20,
        ends_at: Callable[[Entry], float] = for_a_week,
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
        observer: Observer = nobody,
        monotonic: Callable[[], float] = time.monotonic,
        few: int = FEW,
    ) -> None:
        self.max_entry_bytes, self._max_bytes = max_entry_bytes, max_bytes
        self._evictions = 0
        self._prefix, self._seal, self._ends_at, self._observer = prefix, Seal(secret), ends_at, observer
        self._name = secrets.token_hex(8)
        self._view = View()
        self._path = RedisPath(
            lambda: connect(connect_seconds, answer_seconds), shown, observer, monotonic, pause_seconds
        )
        waiting = RedisPath(
            lambda: connect(connect_seconds, answer_seconds + 2 * BLOCK_SECONDS), shown, nobody, monotonic, 0.0
        )
        self._knowing = Knowing(self._path, prefix, self._view, self._on_begin, self._purge)
        self._now, self._refresh, self._owe = self._knowing.now, self._knowing.refresh, self._knowing.owe
        self._listening = Listening(waiting, prefix, self._name, self._view, self._refresh, self._on_fault)
        self._purging = Purging(self._path, prefix, self._name, self._seal, self._now, self._go_on, few)
        self._bodies = Bodies(self._path)
        self._behind: set[asyncio.Task[None]] = set()
        self.touch: Callable[[str], None] = _untold

    # ---- finding -----------------------------------------------------------------------------------------------------

    async def select(self, key: str) -> Sequence[Entry]:
        with contextlib.suppress(RedisAway):
            return await self._select(key)
        return ()

    async def _select(self, key: str) -> Sequence[Entry]:
        name = key_name(key)
        for _ in range(_ROUNDS):
            known = await self._now()
            (epoch, purges, undone, softs), fields = await self._path.together(
                partial(self._ask_for, known.epoch, name)
            )
            if epoch is None:
                await self._refresh()
                continue
            learnt = await self._knowing.learn(epoch, purges, undone, softs)
            if learnt.epoch == known.epoch:
                rows, foreign = rows_of(self._seal, name, fields)
                if foreign:
                    await self._drop([f"{name}.{each}" for each in foreign])
                return youngest_first([entry for entry in visible(rows, learnt) if entry.key == key])
        return ()

    def _ask_for(self, epoch: str, name: str, pipe: Pipeline) -> None:
        pipe.hmget(f"{self._prefix}meta", "epoch", "purges", "undone", "softs")
        pipe.hgetall(f"{self._prefix}{epoch}:k:{name}")

    async def read(self, entry: Entry) -> Body | None:
        with contextlib.suppress(RedisAway):
            known = await self._now()
            body = await self._bodies.open(f"{self._prefix}{known.epoch}:{body_suffix(entry)}", entry)
            if body is None:
                await self._drop([row_name(entry)], entry.digest[:16])
            return body
        return None

    async def entries(self, selector: Selector) -> AsyncIterator[Entry]:
        known = await self._now()
        async for names, _ in self._purging.candidates(known.epoch, selector):
            found = await self._purging.values(known.epoch, names)
            rows = (row_of(self._seal, name, *pair) for name, pair in zip(names, found, strict=True))
            for entry in visible([row for row in rows if row is not None], await self._now()):
                if selector.matches(entry):
                    yield entry

    # ---- storing -----------------------------------------------------------------------------------------------------

    async def create(self, entry: Entry) -> RedisWriter:
        return RedisWriter(self, entry, await self._now())

    async def append(self, token: str, piece: bytes) -> None:
        """See `redis_writer.Desk`."""
        name = self._prefix + token
        await self._path.together(lambda pipe: (pipe.append(name, piece), pipe.expire(name, UNDER_WAY_SECONDS)))

    async def drop(self, token: str) -> None:
        """See `redis_writer.Desk`."""
        async with self._path.asking() as client:
            await client.unlink(self._prefix + token)

    async def store(self, began: Entry, entry: Entry, known: Known, token: str, body: bytes) -> Entry | None:
        """See `redis_writer.Desk`."""
        since = known.purges
        for _ in range(_ROUNDS):
            answer = await self._path.run(STORE, self._prefix, *self._stored(entry, known.epoch, since, token, body))
            match answer[0]:
                case b"stored":
                    self._view.generation += int(answer[1])
                    self._on_evicted(int(answer[2]))
                    return entry
                case b"purges":
                    if await self._is_purged(since, int(answer[1]), began, entry):
                        return None
                    since = int(answer[1])
                case b"epoch":
                    await self._refresh()
                    return None
                case _:
                    raise EntryStoreFailure("a body on its way into the store was lost there")
        return None  # purged again and again meanwhile

    def _stored(self, entry: Entry, epoch: str, since: int, token: str, body: bytes) -> tuple[str | bytes | int, ...]:
        return (
            epoch,
            since,
            self._name,
            key_name(entry.key),
            identifier_of(entry),
            self._seal.close(entry),
            hints_of(entry),
            varies_of(entry),
            repr(entry.response_time),
            entry.digest[:16],
            entry.size,
            int(self._ends_at(entry)) + 1,
            MAX_VARIANTS,
            mark(entry),
            token,
            body,
            self._max_bytes,
        )

    def _on_evicted(self, count: int) -> None:
        if count:
            self._evictions += count
            self._observer(EntriesEvicted(count, "redis"))

    async def _is_purged(self, since: int, upto: int, began: Entry, entry: Entry) -> bool:
        """Whether one of the purges after `since` means it; one that is in no log any more means everything."""
        return purge_log.counts_against(await self._knowing.logged(range(since + 1, upto + 1)), began, entry)

    async def update(self, entry: Entry) -> None:
        key, identifier = key_name(entry.key), identifier_of(entry)
        for _ in range(_ROUNDS):
            known = await self._now()
            ((sealed, packed),) = await self._purging.values(known.epoch, [row_name(entry)])
            row = row_of(self._seal, row_name(entry), sealed, packed)
            if row is None or known.is_purged(row.entry, row.stamp):
                return
            fresh = replace(entry, digest=row.entry.digest, size=row.entry.size)
            done = await self._path.run(
                UPDATE,
                self._prefix,
                known.epoch,
                self._name,
                key,
                identifier,
                row.sealed,
                self._seal.close(fresh),
                hints_of(fresh),
                varies_of(fresh),
                repr(fresh.response_time),
                int(self._ends_at(fresh)) + 1,
                mark(fresh),
            )
            if int(done) >= 0:
                self._view.generation += int(done)
                return

    async def discard(self, entry: Entry) -> None:
        try:
            await self._drop([row_name(entry)])
        except RedisAway:
            self._owe(Selector(key=entry.key, target=entry.target))
            raise

    async def _drop(self, rows: Sequence[str], digest: str = "") -> None:
        known = await self._now()
        told = [part for row in rows for part in (row, str(mark_of(row)))]
        gone = await self._path.run(DROP, self._prefix, known.epoch, self._name, digest, 0, 0, *told)
        self._view.generation += bool(gone)

    async def purge(self, selector: Selector) -> int:
        """Where the store is away it raises RedisAway, and is made up for when that is back."""
        try:
            return await self._purge(selector)
        except RedisAway:
            self._owe(selector)
            raise

    async def _purge(self, selector: Selector) -> int:
        count = await self._purging.purge(selector)
        await self._refresh()
        self._view.purges += 1
        self._view.generation += bool(count)
        return count

    # ---- soft purges -------------------------------------------------------------------------------------------------

    def current(self, now: float) -> SoftPurges:
        """The soft purges that this instance has heard of; each waits until all have."""
        return NO_SOFT_PURGES if self._view.known is None else self._view.known.soft

    async def add(self, purge: SoftPurge) -> None:
        """One more, which every instance has heard of when it returns. It has a leeway, for clocks that differ a little.

        Raises RedisAway where the store is away; then nothing has changed.
        """
        lenient = replace(purge, leeway=SKEW_SECONDS)
        for _ in range(_ROUNDS):
            known = await self._now()
            event = await self._purging.soften(known, encode(known.soft.having(lenient)))
            await self._refresh()
            if event:
                self._view.generation += 1
                await self._purging.heard(event)
                return
        raise EntryStoreFailure("other instances purge all the time, and nothing was purged; try again")

    # ---- telling -----------------------------------------------------------------------------------------------------

    async def stats(self) -> StoreStats:
        known = await self._now()
        at, now = f"{self._prefix}{known.epoch}:ends", int(time.time())
        count, (used, left) = await self._path.together(
            lambda pipe: (pipe.zcount(at, f"({now}", "+inf"), pipe.hmget(f"{self._prefix}meta", "bytes", "left"))
        )
        return StoreStats(max(0, int(count) - int(left or 0)), max(0, int(used or 0)), self._evictions, tier="redis")

    def generation(self) -> int:
        return self._view.generation

    def events(self) -> int:
        """See `slow.SlowStore`."""
        return self._view.events

    def purges(self) -> int:
        """See `slow.SlowStore`."""
        return self._view.purges

    def foreign_since(self, seen: int) -> tuple[int, list[int] | None]:
        """See `slow.SlowStore`."""
        return self._view.foreign_since(seen)

    # ---- behind the answers ------------------------------------------------------------------------------------------

    def _go_on(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._guarded(work))
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    def _on_begin(self, number: int, place: bytes) -> None:
        self._listening.start(number, place)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except EntryStoreFailure:
            pass  # what is purged is gone in any case, and what lies there still has an end
        except Exception as fault:
            self._on_fault(f"{type(fault).__name__}: {fault}")

    def _on_fault(self, detail: str) -> None:
        self._observer(TaskFailed("cache store", detail))

    async def close(self) -> None:
        if self._knowing.closed:
            return
        self._knowing.closed = True
        for task in list(self._behind):
            await ended(task)
        await self._listening.stop()
        await self._path.aclose()


def _untold(key: str) -> None:
    """Redis has no use for it: entries end by time."""
