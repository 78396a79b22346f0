"""Bodies from Redis: small ones whole, large ones piece by piece, and never a byte of one whose hash was not seen.

A large body is read twice the first time: once to prove it, remembering what each piece's hash is, and once to give it. Later only the pieces
are proven, each before it is given. What was begun is read to its end: the store keeps the body for readers when its entry goes, and one that
is away for a moment is waited for.

Entries as they lie in Redis: one sealed value and a line of what scripts need for each, read back and proven here.

Purges of a cache in Redis: in force with one script, carried out through the indexes, and heard by everyone when they are answered.

One answer on its way to Redis: gathered up to a piece, appended to a body under way beyond it, which ends by itself if nobody commits it.

Entries in one Redis or Valkey that many instances share: an `EntryStore`, and a `SlowStore` for the memory tier before it.

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
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b, sha256
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, cast

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.core.events import EntriesEvicted, TaskFailed
from passoproxy.errors import BodyBroken, EntryStoreFailure
from passoproxy.ports import Body, BytesBody, Observer, StoreStats, nobody
from passoproxy.stores.entries import serialization
from passoproxy.stores.entries.change_feed import SOFTENED
from passoproxy.stores.entries.disk.store import means_everything
from passoproxy.stores.entries.redis.client import PAUSE_SECONDS, RedisAway, RedisPath
from passoproxy.stores.entries.redis.replica_state import BLOCK_SECONDS, NO_SOFT_PURGES, Knowing, Known, Listening, View
from passoproxy.stores.entries.redis.scripts import (
    ANEW,
    BEHIND,
    DONE,
    DROP,
    PURGE,
    READ_SECONDS,
    RECLAIM,
    SOFTEN,
    STORE,
    UPDATE,
)
from passoproxy.stores.entries.serialization import (
    MAX_VARIANTS,
    Seal,
    encode_soft_purges,
    hints_of,
    judged,
    key_name,
    mark_of,
    range_of,
    row_name,
    text_bytes,
    youngest_first,
)
from passoproxy.stores.redis_client import ended

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline


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


@dataclass(frozen=True, slots=True)
class Row:
    """A variant as it lies there. `sealed` is for comparing: whoever changes it must have seen the latest."""

    entry: Entry
    sealed: bytes
    stamp: int


def rows_of(seal: Seal, key: str, fields: Mapping[bytes, bytes]) -> tuple[list[Row], list[str]]:
    """The variants in the hash of the primary key with that name, and the identifiers' names of what is there and not ours."""
    rows, foreign = [], []
    for name, sealed in fields.items():
        if name[:2] == b"v:":
            identifier = name[2:].decode("latin-1")
            row = row_of(seal, f"{key}.{identifier}", sealed, fields.get(b"m:" + name[2:]))
            if row is None:
                foreign.append(identifier)
            else:
                rows.append(row)
    return rows, foreign


def row_of(seal: Seal, name: str, sealed: bytes | None, packed: bytes | None) -> Row | None:
    """The variant with that row's name; None where it is not there, or is not ours."""
    entry = seal.open_alone(name, sealed)
    parts = (packed or b"").split()
    if entry is None or sealed is None or len(parts) != 6 or not parts[2].isdigit():
        return None
    return Row(entry, sealed, int(parts[2]))


def visible(rows: list[Row], known: Known) -> list[Entry]:
    """The entries that no purge has taken."""
    if not known.undone:
        return [row.entry for row in rows]
    return [row.entry for row in rows if not known.is_purged(row.entry, row.stamp)]


def identifier_of(entry: Entry) -> str:
    """The identifier's name: what stands behind the dot of a row's."""
    return row_name(entry).rpartition(".")[2]


def varies_of(entry: Entry) -> str:
    """A digest of what the entry varies by: equal ones replace one another."""
    return blake2b(repr(entry.varies).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def body_suffix(entry: Entry) -> str:
    """What the name of the entry's body ends with, behind the prefix and the epoch."""
    return f"b:{row_name(entry)}.{entry.digest[:16]}"


def mark(entry: Entry) -> int:
    """What other processes are told when the entry changes."""
    return mark_of(key_name(entry.key))


FEW = 2000
"""A purge of more rows is answered before they are gone."""

SLICE = 200
HEARD_SECONDS = 1.0
"""How long a purge waits at most for other instances to hear of it."""

Pair = tuple[str, str]


class Purging:
    """`known` gives how the cache is, from the store where need be; `behind` takes work that goes on behind the answer."""

    def __init__(
        self,
        path: RedisPath,
        prefix: str,
        name: str,
        seal: Seal,
        known: Callable[[], Awaitable[Known]],
        behind: Callable[[Awaitable[None]], None],
        few: int = FEW,
    ) -> None:
        self._path, self._prefix, self._name, self._seal = path, prefix, name, seal
        self._known, self._behind, self._few = known, behind, few

    async def purge(self, selector: Selector) -> int:
        """Removes what `selector` means; how many visible entries went. Raises RedisAway."""
        known = await self._known()
        if means_everything(selector):
            return await self._anew(known)
        many = selector.key is None and await self._how_many(known.epoch, selector) > self._few
        told = await self._path.run(
            PURGE, self._prefix, known.epoch, self._name, serialization.encode_purge(selector), "0" if many else ""
        )
        if not told:  # someone else has emptied it this moment
            return 0
        number, event = told
        if many:
            count = await self._counted(known.epoch, selector)
            async with self._path.asking() as client:
                await client.hincrby(f"{self._prefix}meta", "left", count)
            self._behind(self._finish(known.epoch, selector, int(number)))
        else:
            count = await self._carry_out(known.epoch, selector, int(number))
            await self._path.run(DONE, self._prefix, known.epoch, int(number))
        await self.heard(int(event))
        return count

    async def soften(self, known: Known, soft: bytes) -> int:
        """Other soft purges in the place of those that are known; the event's number, 0 where they have changed meanwhile. Raises RedisAway."""
        told = await self._path.run(SOFTEN, self._prefix, known.epoch, self._name, known.softs, soft, str(SOFTENED))
        return int(told[0]) if told else 0

    async def _anew(self, known: Known) -> int:
        told = await self._path.run(ANEW, self._prefix, known.epoch, self._name, secrets.token_hex(8))
        if not told:
            return 0
        count, event = told
        self._behind(self._reclaim(known.epoch))
        await self.heard(int(event))
        return int(count)

    async def _reclaim(self, epoch: str) -> None:
        left = True
        while left:
            left = bool(await self._path.run(RECLAIM, self._prefix, epoch, SLICE))

    async def _finish(self, epoch: str, selector: Selector, number: int) -> None:
        await self._carry_out(epoch, selector, number, behind=True)
        await self._path.run(DONE, self._prefix, epoch, number)

    async def heard(self, event: int) -> None:
        """Waits until every instance that lives has heard of an event, but not for ever: one that hangs is no reason to."""
        until = time.monotonic() + HEARD_SECONDS
        while time.monotonic() < until:
            if not await self._path.run(BEHIND, self._prefix, self._name, event):
                return
            await asyncio.sleep(0.005)

    # ---- carrying out ----------------------------------------------------------------------------------------------

    async def _carry_out(self, epoch: str, selector: Selector, number: int, *, behind: bool = False) -> int:
        """Removes the rows that were stored before that purge; how many of them had not come to their end."""
        count = 0
        async for rows, certain in self.candidates(epoch, selector):
            meant = rows if certain else await self._asked(epoch, selector, rows)
            if meant:
                told: Iterator[str | int] = chain.from_iterable((row, mark_of(row)) for row in meant)
                count += int(
                    await self._path.run(DROP, self._prefix, epoch, self._name, "", number, int(behind), *told)
                )
            await asyncio.sleep(0)
        return count

    async def _asked(self, epoch: str, selector: Selector, rows: Sequence[str]) -> list[str]:
        """Those rows whose entry is meant, or is none of ours."""
        found = await self.values(epoch, rows)
        opened = [(name, row_of(self._seal, name, *pair)) for name, pair in zip(rows, found, strict=True)]
        return [name for name, row in opened if row is None or selector.matches(row.entry)]

    async def values(self, epoch: str, rows: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        """What lies at these rows: the sealed value, and what scripts know of it."""
        async with self._path.asking() as client, client.pipeline(transaction=False) as pipe:
            for row in rows:
                key, _, identifier = row.partition(".")
                pipe.hmget(f"{self._prefix}{epoch}:k:{key}", [f"v:{identifier}", f"m:{identifier}"])
            return [(sealed, packed) for sealed, packed in await pipe.execute()]

    async def _counted(self, epoch: str, selector: Selector) -> int:
        """How many rows `selector` means; those are among them that came to their end, or that an earlier purge took, and lie there still."""
        count = 0
        async for rows, certain in self.candidates(epoch, selector):
            count += len(rows if certain else await self._asked(epoch, selector, rows))
        return count

    async def _how_many(self, epoch: str, selector: Selector) -> int:
        """About how many rows `selector` means, as the indexes tell at once; of a partition, which has none, all."""
        at = f"{self._prefix}{epoch}:"
        async with self._path.asking() as client:
            if selector.tag is not None:
                return int(await client.scard(at.encode() + b"t:" + text_bytes(selector.tag)))
            if selector.route is not None:
                return int(await client.scard(at.encode() + b"r:" + text_bytes(selector.route)))
            first, end = _bounds(selector)
            return int(await client.zlexcount(f"{at}i", first, end))

    async def candidates(self, epoch: str, selector: Selector) -> AsyncIterator[tuple[list[str], bool]]:
        """Names of rows in slices that `selector` means for certain, and at last those that have to be asked."""
        if selector.key is not None:
            yield await self._of_key(epoch, key_name(selector.key)), False
            return
        if selector.tag is not None or selector.route is not None:
            kind = (
                b"t:" + text_bytes(selector.tag)
                if selector.tag is not None
                else b"r:" + text_bytes(selector.route or "")
            )
            async for rows in self._scanned(f"{self._prefix}{epoch}:".encode() + kind):
                yield rows, True
        else:
            async for rows in self._indexed(epoch, selector):
                yield rows, not selector.private
        async for rows in self._scanned(f"{self._prefix}{epoch}:vague".encode()):
            yield rows, False

    async def _of_key(self, epoch: str, key: str) -> list[str]:
        async with self._path.asking() as client:
            names: Any = await client.hkeys(f"{self._prefix}{epoch}:k:{key}")
        return [f"{key}.{name[2:].decode('latin-1')}" for name in names if name[:2] == b"v:"]

    @staticmethod
    def _is_candidate(selector: Selector, hints: bytes) -> bool:
        # What is vague is in a set of its own, and asked; whether something is private, no hint tells.
        told = judged(selector, hints)
        return bool(told) or (
            told is None and selector.private and judged(replace(selector, private=False), hints) is True
        )

    async def _scanned(self, name: bytes) -> AsyncIterator[list[str]]:
        cursor = 0
        while True:
            async with self._path.asking() as client:
                found: Any = await client.sscan(cast("str", name), cursor=cursor, count=SLICE)
            cursor, rows = found
            yield [row.decode("latin-1") for row in rows]
            if not cursor:
                return

    async def _indexed(self, epoch: str, selector: Selector) -> AsyncIterator[list[str]]:
        first, end = _bounds(selector)
        while True:
            async with self._path.asking() as client:
                members: Any = await client.zrangebylex(
                    f"{self._prefix}{epoch}:i", cast("str", first), cast("str", end), start=0, num=SLICE
                )
            if not members:
                return
            pairs = [member.rpartition(b"\0") for member in members]
            yield [row.decode("latin-1") for hints, _, row in pairs if self._is_candidate(selector, hints)]
            first = b"(" + members[-1]


def _bounds(selector: Selector) -> tuple[bytes, bytes]:
    span = range_of(selector)
    return (b"-", b"+") if span is None else (b"[" + span[0], b"(" + span[1])


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
        return serialization.counts_against(await self._knowing.logged(range(since + 1, upto + 1)), began, entry)

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
            event = await self._purging.soften(known, encode_soft_purges(known.soft.having(lenient)))
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
