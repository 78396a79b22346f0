"""What this process knows of the shared cache without asking: epoch, purges in force, and what other instances changed.

One task listens to the stream of changes on a connection of its own. After a cut it goes on where it was; if the stream does not reach back
that far, or the store came back empty, anything may have changed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.change_feed import ANYTHING, PURGED, SOFTENED
from passoproxy.stores.entries.redis.connection import Connection
from passoproxy.stores.entries.redis.scripts import BEGIN, HEARD
from passoproxy.stores.entries.serialization import decode_purge, encode_purge, mark_of
from passoproxy.stores.redis_client import ended
from passoproxy.values import dataclass

SLOTS = 512
BLOCK_SECONDS = 1.0
AGAIN_SECONDS = 0.25
_AT_ONCE = 512
NO_SOFT_PURGES = SoftPurges()

Purge = Selector | SoftPurge


def encode_logged(purge: Purge) -> bytes:
    """A purge for the log; a soft one begins with its moment and leeway (seconds)."""
    if isinstance(purge, SoftPurge):
        return f"{purge.at!r} {purge.leeway!r} ".encode() + encode_purge(purge.selector)
    return encode_purge(purge)


def decode_logged(data: bytes | None) -> Purge:
    """The purge. One that is missing or cannot be read means everything, because a purge must not be lost."""
    soft, bracket, selector = (data or b"").partition(b"[")
    try:
        at, leeway = map(float, soft.split())
    except ValueError:
        return Selector() if soft else decode_purge(bracket + selector)
    return SoftPurge(decode_purge(bracket + selector), at, leeway)


@dataclass(frozen=True, slots=True)
class Known:
    """The shared cache as of one moment. `seq` is the last purge's number; `hard` are the purges, by number, whose rows are not all removed."""

    epoch: bytes
    version: int
    seq: int
    hard: Mapping[int, Selector]
    softened: Mapping[int, SoftPurge]
    soft: SoftPurges

    def hides(self, entry: Entry, stamp: int) -> bool:
        """Whether a purge counts against an entry that was stored after purge number `stamp`."""
        return any(stamp < number and selector.matches(entry) for number, selector in self.hard.items())


class Replica:
    """`prepare` is awaited with `connection` before each round of listening; that connection is this task's own, because it waits for long."""

    def __init__(
        self,
        connection: Connection,
        prefix: str,
        name: str,
        prepare: Callable[[Connection], Awaitable[None]],
        on_fault: Callable[[str], None],
    ) -> None:
        self._connection, self._prefix, self._name = connection, prefix, name
        self._prepare, self._on_fault = prepare, on_fault
        self.known: Known | None = None
        self.generation = self.events = self.purges = 0
        self._marks = [ANYTHING] * SLOTS
        self._at, self._number, self._awaited = b"$", 0, 0
        self._may_go_back = False
        self._task: asyncio.Task[None] | None = None

    # ---- what is known -----------------------------------------------------------------------------------------------

    async def begin(self, connection: Connection) -> None:
        """Learns the state, and the place in the stream from which on to listen. Raises RedisAway."""
        async with connection.client() as client:
            found: Any = await client.xrevrange(f"{self._prefix}events", count=1)
        # Asked for before the number of the last event, so that none is missed.
        self._at = found[0][0] if found else b"0-0"
        self._number = await self.refresh(connection, announce=True)

    async def refresh(self, connection: Connection, *, announce: bool = False) -> int:
        """Learns the state; returns the number of the last event. `announce`: before it is learnt, purges begin to wait for this instance,
        since what it finds next it may keep in memory. Raises RedisAway.
        """
        epoch, version, seq, events = await connection.run(BEGIN, self._prefix, secrets.token_hex(8))
        if announce:
            await connection.run(HEARD, self._prefix, epoch, self._name, events)
        known = self.known
        if known is None or (known.epoch, known.version, known.seq) != (epoch, int(version), int(seq)):
            self.learn(await self._read(connection, epoch, int(version), int(seq)))
        return int(events)

    async def _read(self, connection: Connection, epoch: bytes, version: int, seq: int) -> Known:
        known = self.known
        before: dict[int, Purge] = (
            {**known.hard, **known.softened} if known is not None and known.epoch == epoch else {}
        )
        name = f"{self._prefix}{epoch.decode()}:purges"
        async with connection.client() as client:
            keys: Any = await client.hkeys(name)
            numbers = {int(number) for number in keys}
            new = sorted(numbers - before.keys())
            found: Any = await client.hmget(name, [str(number) for number in new]) if new else []
        # One that is missing by now is done with: its rows are removed.
        read = {number: decode_logged(data) for number, data in zip(new, found, strict=True) if data is not None}
        purges = {number: purge for number, purge in {**before, **read}.items() if number in numbers}
        hard = {number: purge for number, purge in purges.items() if isinstance(purge, Selector)}
        softened = {number: purge for number, purge in purges.items() if isinstance(purge, SoftPurge)}
        if known is not None and set(softened.values()) == set(known.soft.kept):
            return Known(epoch, version, seq, hard, softened, known.soft)  # the same object: nothing has changed
        return Known(epoch, version, seq, hard, softened, SoftPurges(softened.values()) if softened else NO_SOFT_PURGES)

    def learn(self, known: Known) -> None:
        """Takes a state as the present one, unless a later one of the same epoch is known already."""
        before = self.known
        same = before is not None and before.epoch == known.epoch and not self._may_go_back
        if before is not None and same and (known.version, known.seq) < (before.version, before.seq):
            return
        self.known, self._may_go_back = known, False
        if known.soft is not (NO_SOFT_PURGES if before is None else before.soft):
            self.hear([SOFTENED])
        if before is None:
            return
        if before.epoch != known.epoch:
            self.hear([ANYTHING, PURGED])
        if (before.epoch, before.seq) != (known.epoch, known.seq):
            self.purges += 1

    def hear(self, marks: Sequence[int], *, changed: bool = True) -> None:
        """Another instance has changed what these marks stand for."""
        for mark in marks:
            self.events += 1
            self._marks[self.events % SLOTS] = mark
        self.generation += changed

    def foreign_since(self, seen: int) -> tuple[int, list[int] | None]:
        """See `tiered.SlowStore`."""
        if self.events - seen >= SLOTS:
            return self.events, None
        marks = [self._marks[at % SLOTS] for at in range(seen + 1, self.events + 1)]
        return self.events, None if ANYTHING in marks else marks

    # ---- listening ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the task, once."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Ends the task and closes its connection."""
        if self._task is not None:
            await ended(self._task)
        await self._connection.aclose()

    async def _run(self) -> None:
        while True:
            try:
                await self._prepare(self._connection)
                await self._listen()
            except EntryStoreFailure:
                await asyncio.sleep(AGAIN_SECONDS)
            except Exception as fault:
                self._on_fault(f"{type(fault).__name__}: {fault}")
                self.hear([ANYTHING])  # the last messages may not have been processed
                await asyncio.sleep(AGAIN_SECONDS)

    async def _listen(self) -> None:
        async with self._connection.client() as client:
            found: Any = await client.xread(
                {f"{self._prefix}events": self._at}, count=_AT_ONCE, block=int(BLOCK_SECONDS * 1000)
            )
        messages = found[0][1] if found else ()
        for self._at, message in messages:
            self._heed(message)
        number = await self.refresh(self._connection)
        if number < self._number:  # the store was emptied, or put back to an earlier time: events are counted anew
            self._number, self._at, self._may_go_back = number, b"0-0", True
            self.hear([ANYTHING])
        elif not messages and self._number < self._awaited:
            self._number = number  # the stream was lost, and what others said in between with it
            self.hear([ANYTHING])
        self._awaited = 0 if messages else number
        assert self.known is not None
        await self._connection.run(HEARD, self._prefix, self.known.epoch, self._name, self._number)

    def _heed(self, message: Mapping[bytes, bytes]) -> None:
        number = int(message.get(b"n", b"0"))
        if number != self._number + 1:
            self.hear([ANYTHING])
        self._number = number
        if message.get(b"from") != self._name.encode():
            marks = [
                ANYTHING if mark == b"0" else mark_of(mark.decode()) for mark in message.get(b"marks", b"").split()
            ]
            purged = [PURGED] if message.get(b"purge") == b"hard" else []
            self.hear([*purged, *marks], changed=message.get(b"changed") != b"0")
