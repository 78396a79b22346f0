"""Entries in one Redis or Valkey that many instances share: an `EntryStore`, and a `SlowStore` for the memory tier before it.

The keys and the scripts that change them are in `scripts`. While the store is away there are misses and nothing is stored; purges that could not
be delivered are kept (`owed`) and carried out before anything is read again.

A purge is a number in a log: from then on every read leaves out what it means and what was stored before it, on every instance. Which rows
it means is decided by `Selector.matches` alone; the sets of rows in the store only narrow the search.

A sealed head proves that it was made with the same secret, for that key, and was not changed. Rows under another secret or format are misses and
are left alone. A seal is no protection against anyone who has the secret (docs/decisions/0013-entries-in-redis.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.soft_purge import MOST_KEPT, SoftPurge, SoftPurges
from passoproxy.core.cache.vary import MOST_VARIANTS
from passoproxy.core.events import EntriesEvicted, StoreFailed, TaskFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import Body, Observer, Spill, StoreStats, nobody
from passoproxy.stores.entries.redis.bodies import RedisWriter, body_at
from passoproxy.stores.entries.redis.connection import PAUSE_SECONDS, Connection, RedisAway
from passoproxy.stores.entries.redis.owed import OwedPurges
from passoproxy.stores.entries.redis.replica import (
    BLOCK_SECONDS,
    NO_SOFT_PURGES,
    Known,
    Replica,
    decode_logged,
    encode_logged,
)
from passoproxy.stores.entries.redis.rows import Row, Rows, set_of, set_of_key, sets_of, varies_of
from passoproxy.stores.entries.redis.scripts import BEHIND, DONE, DROP, GET, HEADS, PURGE, STORE, TOUCH, UPDATE
from passoproxy.stores.entries.serialization import means_everything, youngest_first
from passoproxy.stores.redis_client import ended

if TYPE_CHECKING:
    from redis.asyncio import Redis

CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 0.25
"""A request waits this long for the store, which then counts as away. A slower one would cost more than most answers of an origin."""

PURGE_SECONDS = 10.0
"""The same for a purge, which must not fail because the store is slow."""

SKEW_SECONDS = 2.0
"""Clocks of instances may differ by this much: what was fetched within that time after a soft purge counts as fetched before it."""

HEARD_SECONDS = 1.0
"""How long a purge waits at most for other instances to hear of it."""

FEW = 2000
"""A purge of more rows is answered before they are removed, if their number is known."""

_SLICE = 200
_MOST_USED = 100_000
_ROUNDS = 8


class RedisStore:
    """`connect(connect_seconds, answer_seconds)` makes a client with these time limits; `prefix` begins every key and has a hash tag.

    `secret` (16 bytes or more) is the same for all instances; entries under `previous_secret` are read too. `max_bytes` bounds all entries
    together. Bodies over PIECE_BYTES are read into `spill` before they are served. `folder` keeps purges that are owed to the store.
    `shown` names the store in messages.
    """

    def __init__(
        self,
        connect: Callable[[float, float], Redis],
        prefix: str,
        *,
        secret: bytes,
        spill: Spill,
        previous_secret: bytes | None = None,
        folder: Path | None = None,
        shown: str = "store.url",
        max_bytes: int = 1 << 30,
        max_entry_bytes: int = 16 << 20,
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        purge_seconds: float = PURGE_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
        observer: Observer = nobody,
        monotonic: Callable[[], float] = time.monotonic,
        few: int = FEW,
    ) -> None:
        self._max_entry_bytes, self._max_bytes, self._few = max_entry_bytes, max_bytes, few
        self._prefix, self._spill, self._observer = prefix, spill, observer
        self._rows = Rows(secret, previous_secret)
        self._name = secrets.token_hex(8)
        self._answer_seconds = answer_seconds
        # One for requests, one for purges, and one that listens: an instance counts as gone after 3 s in which it has heard nothing.
        self._brief = Connection(
            lambda: connect(connect_seconds, answer_seconds), shown, observer, monotonic, pause_seconds
        )
        self._patient = Connection(lambda: connect(purge_seconds, purge_seconds), shown, nobody, monotonic, 0.0)
        listening = Connection(
            lambda: connect(connect_seconds, answer_seconds + 2 * BLOCK_SECONDS), shown, nobody, monotonic, 0.0
        )
        self.feed = self._replica = Replica(listening, prefix, self._name, self._prepare, self._on_fault)
        self._owed = OwedPurges(folder)
        self._beginning = asyncio.Lock()
        self._used: set[str] = set()
        self._evictions = 0
        self._behind: set[asyncio.Task[None]] = set()
        self._closed = False

    # ---- the state ---------------------------------------------------------------------------------------------------

    async def _now(self, connection: Connection) -> Known:
        """What is known of the cache; the first call asks the store. Raises RedisAway."""
        if self._closed:
            raise EntryStoreFailure("the cache is closed")
        if self._replica.known is None or self._owed.selectors:
            self._replica.start()
            await self._begin(connection)
        assert self._replica.known is not None
        return self._replica.known

    async def _begin(self, connection: Connection) -> None:
        """Learns the state and delivers owed purges: one task at a time, and a request waits for it no longer than for an answer."""
        connection.check_pause()
        try:
            async with asyncio.timeout(self._answer_seconds if connection is self._brief else None):
                await self._beginning.acquire()
        except TimeoutError as fault:
            raise connection.failed(fault) from None
        try:
            if self._replica.known is None:
                await self._replica.begin(connection)
                assert self._replica.known is not None
                for number, selector in self._replica.known.hard.items():  # left by an instance that has ended
                    self._go_on(self._sweep(self._patient, self._replica.known.epoch, selector, number))
            while self._owed.selectors:
                selector = self._owed.selectors[0]
                await self._purge(connection, selector)
                await self._written(self._owed.carried_out(selector))
        finally:
            self._beginning.release()

    async def _prepare(self, connection: Connection) -> None:
        """Before each round of listening."""
        await self._now(connection)
        await self._tell_used(connection)

    async def _owe(self, selector: Selector) -> None:
        await self._written(self._owed.add(selector))

    async def _written(self, work: Awaitable[None]) -> None:
        try:
            await work
        except OSError as fault:
            self._observer(
                StoreFailed(
                    f"state.directory: a purge that the shared store has not got cannot be kept ({fault.strerror})"
                )
            )

    # ---- finding -----------------------------------------------------------------------------------------------------

    def find_nowait(self, key: str) -> None:
        """Nothing is at hand here."""

    def read_nowait(self, entry: Entry) -> None:
        """Nothing is at hand here."""

    async def select(self, key: str) -> Sequence[Entry]:
        with contextlib.suppress(RedisAway):
            return await self._select(key)
        return ()

    async def _select(self, key: str) -> Sequence[Entry]:
        for _ in range(_ROUNDS):
            known = await self._now(self._brief)
            epoch, version, *parts = await self._brief.run(GET, self._prefix, known.epoch, set_of_key(key))
            if epoch != known.epoch or int(version) != known.version:
                await self._replica.refresh(self._brief)
            if epoch != known.epoch:
                continue
            rows, damaged = [], []
            for each, sealed, packed in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
                row = self._rows.open(name := each.decode("latin-1"), sealed, packed)
                if row is not None:
                    rows.append(row)
                elif self._rows.is_ours(name):
                    damaged.append(name)
            if damaged:
                await self._drop(damaged)
            if rows:
                self.touch(key)
            return youngest_first([row.entry for row in rows if row.entry.key == key and not self._hides(row, known)])
        return ()

    def _hides(self, row: Row, before: Known) -> bool:
        """Whether a purge counts against a row that was read when `before` was known: one may be done with since, another one be new."""
        now = self._replica.known
        return before.hides(row.entry, row.stamp) or (now is not None and now.hides(row.entry, row.stamp))

    def touch(self, key: str) -> None:
        """Entries of this primary key were used; told to the store soon."""
        if len(self._used) < _MOST_USED:
            self._used.add(key)

    async def read(self, entry: Entry) -> Body | None:
        with contextlib.suppress(RedisAway):
            known = await self._now(self._brief)
            for name in self._rows.names(entry):
                at = f"{self._prefix}{known.epoch.decode()}:e:{name}"
                if (body := await body_at(self._brief, at, entry, self._spill)) is not None:
                    return body
            await self._drop(self._rows.names(entry), entry.digest[:16])
        return None

    async def _heads(self, connection: Connection, epoch: bytes, names: Sequence[str]) -> list[Row | None]:
        found = await connection.run(HEADS, self._prefix, epoch, *names)
        return [self._rows.open(*each) for each in zip(names, found[::2], found[1::2], strict=True)]

    async def entries(self, selector: Selector) -> AsyncIterator[Entry]:
        known, seen = await self._now(self._brief), set[str]()
        async for names in self._candidates(self._brief, known.epoch, selector):
            before = await self._now(self._brief)
            rows = await self._heads(self._brief, known.epoch, [name for name in names if name not in seen])
            seen.update(names)  # a scan may give a row twice
            for row in rows:
                if row is not None and not self._hides(row, before) and selector.matches(row.entry):
                    yield row.entry

    async def _candidates(self, connection: Connection, epoch: bytes, selector: Selector) -> AsyncIterator[list[str]]:
        """Rows in slices, among which all are that `selector` means."""
        name, cursor = set_of(selector), 0
        while True:
            async with connection.client() as client:
                at = f"{self._prefix}{epoch.decode()}:{name}"
                scan: Any = client.zscan if name == "used" else client.sscan
                cursor, found = await scan(at, cursor, count=_SLICE)
            rows = [(row[0] if isinstance(row, tuple) else row).decode("latin-1") for row in found]
            for start in range(0, len(rows), _SLICE):
                yield rows[start : start + _SLICE]
            if not cursor:
                return

    # ---- storing -----------------------------------------------------------------------------------------------------

    async def create(self, entry: Entry) -> RedisWriter:
        commit = partial(self._store, await self._now(self._brief))
        return RedisWriter(self._brief, self._prefix, entry, self._max_entry_bytes, commit)

    async def _store(
        self, known: Known, began: Entry, entry: Entry, token: str, last: int, body: bytes
    ) -> Entry | None:
        """Stores an entry whose body is at `token` but for its last piece; None if a purge counts against it since `known`."""
        name, *_ = names = self._rows.names(entry)
        varies = [varies_of(each, entry) for each in names]
        packed = f"{entry.size} {varies[0]} {entry.response_time!r} {entry.digest[:16]}"
        since = known.seq
        await self._tell_used(self._brief)  # so that what was used is not evicted
        for _ in range(_ROUNDS):
            answer = await self._brief.run(
                STORE,
                self._prefix,
                known.epoch,
                since,
                self._name,
                name,
                self._rows.close(name, entry),
                packed,
                sets_of(entry),
                " ".join((*names, *varies)),
                token,
                last,
                body,
                MOST_VARIANTS,
                self._max_bytes,
            )
            match answer[0]:
                case b"stored":
                    self._replica.generation += int(answer[1])
                    if count := int(answer[2]):
                        self._evictions += count
                        self._observer(EntriesEvicted(count, "redis"))
                    return entry
                case b"purges":
                    if await self._is_purged(known.epoch, range(since + 1, int(answer[1]) + 1), began, entry):
                        return None
                    since = int(answer[1])
                case b"epoch":
                    await self._replica.refresh(self._brief)
                    return None
                case _:
                    raise EntryStoreFailure("a body on its way into the store was lost there")
        return None  # purged again and again meanwhile

    async def _is_purged(self, epoch: bytes, numbers: Sequence[int], *entries: Entry) -> bool:
        """Whether one of these purges counts against the answer. One that is in the log no more means everything."""
        async with self._brief.client() as client:
            found: Any = await client.hmget(f"{self._prefix}{epoch.decode()}:log", [str(each) for each in numbers])
        purges = [decode_logged(data) for data in found]
        return any(isinstance(each, Selector) and each.matches(entry) for each in purges for entry in entries)

    async def update(self, entry: Entry) -> None:
        for name in self._rows.names(entry):
            for _ in range(_ROUNDS):
                known = await self._now(self._brief)
                (row,) = await self._heads(self._brief, known.epoch, [name])
                if row is None or known.hides(row.entry, row.stamp):
                    break
                fresh = replace(entry, digest=row.entry.digest, size=row.entry.size)
                sealed, varies = self._rows.close(name, fresh), varies_of(name, fresh)
                change = (row.sealed, sealed, varies, repr(fresh.response_time), sets_of(fresh))
                done = await self._brief.run(UPDATE, self._prefix, known.epoch, self._name, name, *change)
                if int(done) >= 0:
                    self._replica.generation += int(done)
                    break

    async def discard(self, entry: Entry) -> None:
        try:
            await self._drop(self._rows.names(entry))
        except RedisAway:
            await self._owe(Selector(key=entry.key, target=entry.target))
            raise

    async def _drop(self, rows: Sequence[str], digest: str = "") -> None:
        known = await self._now(self._brief)
        gone, _ = await self._brief.run(DROP, self._prefix, known.epoch, self._name, digest, "", "", *rows)
        self._replica.generation += bool(gone)

    async def _tell_used(self, connection: Connection) -> None:
        while self._used and self._replica.known is not None:
            some = [self._used.pop() for _ in range(min(_SLICE, len(self._used)))]
            await connection.run(TOUCH, self._prefix, self._replica.known.epoch, *map(set_of_key, some))

    # ---- purging -----------------------------------------------------------------------------------------------------

    async def purge(self, selector: Selector, *, brief: bool = False) -> int:
        """If the store is away it raises RedisAway, and the purge is carried out when that is back, also after a restart."""
        connection = self._brief if brief else self._patient
        try:
            await self._now(connection)
            return await self._purge(connection, selector)
        except (RedisAway, asyncio.CancelledError):
            await self._owe(selector)
            raise

    async def _purge(self, connection: Connection, selector: Selector) -> int:
        name, everything = set_of(selector), means_everything(selector)
        for _ in range(_ROUNDS):
            known = self._replica.known
            assert known is not None
            count = 0
            if everything or (name != "used" and selector.key is None and not selector.private):
                count = await self._how_many(connection, known, name)
            behind = count if count > self._few else 0
            # A purge of everything stands for the soft ones before it too.
            soft = " ".join(map(str, known.softened)) if everything else ""
            change = (encode_logged(selector), "hard", behind, soft)
            told = await connection.run(PURGE, self._prefix, known.epoch, self._name, *change)
            if told:
                break
            await self._replica.refresh(connection)  # the store was emptied this moment
        else:
            raise EntryStoreFailure("the shared store is emptied all the time, and nothing was purged; try again")
        number, event = int(told[0]), int(told[1])
        if behind:
            self._go_on(self._sweep(self._patient, known.epoch, selector, number, quiet=True))
        else:
            count, last = await self._sweep(connection, known.epoch, selector, number)
            event = max(event, last)
        await self._heard(connection, known, event)
        await self._replica.refresh(connection)
        self._replica.purges += 1
        self._replica.generation += bool(count)
        return count

    async def _how_many(self, connection: Connection, known: Known, name: str) -> int:
        """How many rows are in that set and not counted as removed."""
        at = f"{self._prefix}{known.epoch.decode()}:{name}"
        async with connection.client() as client:
            if name != "used":
                return int(await client.scard(at))
            return int(await client.zcard(at)) - int(await client.hget(f"{self._prefix}meta", "left") or 0)

    async def _sweep(
        self, connection: Connection, epoch: bytes, selector: Selector, number: int, *, quiet: bool = False
    ) -> tuple[int, int]:
        """Removes the rows of a purge that is in force; how many went, and the last event that told of it.

        A row under another secret cannot be judged: it goes too, because a purge must not be lost.
        """
        count = event = 0
        async for names in self._candidates(connection, epoch, selector):
            if not means_everything(selector):
                rows = await self._heads(connection, epoch, names)
                pairs = zip(names, rows, strict=True)
                names = [name for name, row in pairs if row is None or selector.matches(row.entry)]
            if names:
                change = ("", number, "1" if quiet else "", *names)
                gone, told = await connection.run(DROP, self._prefix, epoch, self._name, *change)
                count, event = count + int(gone), max(event, int(told))
        await connection.run(DONE, self._prefix, epoch, number)
        return count, event

    async def _heard(self, connection: Connection, known: Known, event: int) -> None:
        """Waits until every instance that is there has heard of an event, for HEARD_SECONDS at most."""
        until = time.monotonic() + HEARD_SECONDS
        while time.monotonic() < until:
            if not await connection.run(BEHIND, self._prefix, known.epoch, self._name, event):
                return
            await asyncio.sleep(0.005)

    # ---- soft purges -------------------------------------------------------------------------------------------------

    def current(self, now: float) -> SoftPurges:
        """The soft purges that this instance has heard of; `add` waits until all have."""
        return NO_SOFT_PURGES if self._replica.known is None else self._replica.known.soft

    async def add(self, purge: SoftPurge) -> None:
        """One more, which every instance has heard of when it returns. Raises RedisAway if the store is away; then nothing has changed."""
        known = await self._now(self._patient)
        soft = sorted((each.at, number) for number, each in known.softened.items())
        older = soft[: len(soft) // 2] if len(soft) >= MOST_KEPT else []
        if older:  # as `SoftPurges.having` does
            everything = SoftPurge(Selector(), older[-1][0], SKEW_SECONDS)
            await self._soften(everything, " ".join(str(number) for _, number in older))
        await self._soften(replace(purge, leeway=SKEW_SECONDS))

    async def _soften(self, purge: SoftPurge, instead_of: str = "") -> None:
        for _ in range(_ROUNDS):
            known = await self._now(self._patient)
            told = await self._patient.run(
                PURGE, self._prefix, known.epoch, self._name, encode_logged(purge), "soft", 0, instead_of
            )
            await self._replica.refresh(self._patient)
            if told:
                self._replica.generation += 1
                await self._heard(self._patient, known, int(told[1]))
                return
        raise EntryStoreFailure("the shared store is emptied all the time, and nothing was purged; try again")

    # ---- figures -----------------------------------------------------------------------------------------------------

    async def stats(self) -> StoreStats:
        known = await self._now(self._brief)
        async with self._brief.client() as client, client.pipeline(transaction=True) as pipe:
            pipe.zcard(f"{self._prefix}{known.epoch.decode()}:used")
            pipe.hmget(f"{self._prefix}meta", ["bytes", "left"])
            count, (used, left) = await pipe.execute()
        return StoreStats(max(0, int(count) - int(left or 0)), max(0, int(used or 0)), self._evictions, tier="redis")

    async def by_route(self, names: Sequence[str]) -> dict[str, int]:
        known = await self._now(self._brief)
        async with self._brief.client() as client, client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.scard(f"{self._prefix}{known.epoch.decode()}:{set_of(Selector(route=name))}")
            return dict(zip(names, map(int, await pipe.execute()), strict=True))

    def generation(self) -> int:
        return self._replica.generation

    # ---- tasks -------------------------------------------------------------------------------------------------------

    def _go_on(self, work: Awaitable[object]) -> None:
        async def guarded() -> None:
            try:
                await work
            except EntryStoreFailure:
                pass  # the purge stays in force, and the next instance that starts goes on with it
            except Exception as fault:
                self._on_fault(f"{type(fault).__name__}: {fault}")

        task = asyncio.ensure_future(guarded())
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    def _on_fault(self, detail: str) -> None:
        self._observer(TaskFailed("cache store", detail))

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            for task in list(self._behind):
                await ended(task)
            await self._replica.stop()
            await self._brief.aclose()
            await self._patient.aclose()
