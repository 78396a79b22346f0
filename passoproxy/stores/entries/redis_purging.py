"""Purges of a cache in Redis: in force with one script, carried out through the indexes, and heard by everyone when they are answered."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, cast

from passoproxy.core.cache.entry import Selector
from passoproxy.stores.entries import purge_log
from passoproxy.stores.entries.disk_purging import means_everything
from passoproxy.stores.entries.hints import judged, range_of, text_bytes
from passoproxy.stores.entries.names import key_name, mark_of
from passoproxy.stores.entries.redis_link import RedisPath
from passoproxy.stores.entries.redis_rows import row_of
from passoproxy.stores.entries.redis_scripts import ANEW, BEHIND, DONE, DROP, PURGE, RECLAIM, SOFTEN
from passoproxy.stores.entries.redis_view import Known
from passoproxy.stores.entries.sealing import Seal
from passoproxy.stores.entries.shared_page import SOFTENED

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
            PURGE, self._prefix, known.epoch, self._name, purge_log.encode(selector), "0" if many else ""
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
