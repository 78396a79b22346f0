"""What the instances of one Redis or Valkey share of the origin's limits: the places (`upstream.max_concurrency`), and the count of requests
(`upstream.daily_budget`). Each step is one script, by the server's clock. What an instance does with its places is in `proxy.fleet_places`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passoproxy.core.budget import SLOT_SECONDS, SLOTS, Ages
from passoproxy.core.events import TaskFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import Clock, Observer, nobody
from passoproxy.proxy.fleet_places import (
    AGAIN_SECONDS,
    LEASE_SECONDS,
    PRESENCE_SECONDS,
    FleetPlaces,
    Lent,
    Question,
)
from passoproxy.stores.entries.redis.connection import Connection
from passoproxy.stores.redis_client import ended, heed_cancellation

if TYPE_CHECKING:
    from redis.asyncio import Redis

CONNECT_SECONDS, ANSWER_SECONDS = 0.5, 0.25
"""A store that takes longer counts as away, as for entries."""

LISTEN_SECONDS = 2.0
"""How long one call waits to be woken by another instance."""

ANEW_SECONDS = 2.0
"""So long after the store was away, or has lost what it held, all have told what they use."""

PLACES = Path(__file__).with_name("places.lua").read_text(encoding="utf-8")
MOMENTS = tuple(round(each * 1000) for each in (LEASE_SECONDS, 3 * PRESENCE_SECONDS, ANEW_SECONDS))

REQUESTS = """
local P, count, step, slots = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local at = math.floor(redis.call('TIME')[1] / step)
local found, ages = redis.call('HGETALL', P .. 'requests'), {}
if #found == 0 then
  count = 0
  for each = 4, #ARGV, 2 do redis.call('HSET', P .. 'requests', at - ARGV[each], ARGV[each + 1]) end
  found = redis.call('HGETALL', P .. 'requests')
end
for each = 1, #found, 2 do
  local age, number = at - found[each], tonumber(found[each + 1])
  if age < 0 then count = count + number end
  if age < 0 or age >= slots then redis.call('HDEL', P .. 'requests', found[each]) else ages[age] = number end
end
if count > 0 then ages[0] = redis.call('HINCRBY', P .. 'requests', at, count) end
redis.call('EXPIRE', P .. 'requests', 2 * step * slots)
local told = {}
for age, number in pairs(ages) do
  told[#told + 1] = age
  told[#told + 1] = number
end
return told
"""
"""Adds requests of now. ARGV: how many, seconds in a slot, slots, then age and number of what the caller has counted, these included: a store that
lost the count begins with that. What a clock that was set back left in the future counts as of now. Returns age and number of each slot."""


def connection(connect: Callable[[float, float], Redis], shown: str, answer_seconds: float) -> Connection:
    """One for these scripts; its caller decides when to ask again."""
    return Connection(lambda: connect(CONNECT_SECONDS, answer_seconds), shown, nobody, pause_seconds=0.0)


class RedisLedger:
    """A Ledger. `prefix` begins every key and has a hash tag. Raises EntryStoreFailure while the store is away."""

    def __init__(self, connect: Callable[[float, float], Redis], prefix: str, shown: str) -> None:
        self._prefix, self._connection = prefix, connection(connect, shown, ANSWER_SECONDS)

    async def add(self, count: int, known: Mapping[int, int], now: float) -> Ages:
        """See Ledger; the moment is the server's. If an answer is lost, its requests may count twice."""
        flat = [each for pair in known.items() for each in pair]
        told: Any = await self._connection.run(REQUESTS, self._prefix, count, int(SLOT_SECONDS), SLOTS, *flat)
        return dict(zip(told[::2], told[1::2], strict=True))

    async def aclose(self) -> None:
        """Closes its connection."""
        await self._connection.aclose()


class RedisPlaces:
    """Asks the store for what `places` wants, and renews what it has. `look` after each change of the pool, `run` as a task, then `aclose`."""

    def __init__(
        self,
        connect: Callable[[float, float], Redis],
        prefix: str,
        shown: str,
        places: FleetPlaces,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.places, self._prefix, self._clock, self._observer = places, prefix, clock, observer
        self._asking = connection(connect, shown, ANSWER_SECONDS)
        self._listening = connection(connect, shown, LISTEN_SECONDS + 2 * ANSWER_SECONDS)
        self._name = secrets.token_hex(8)
        self._woken, self._busy = asyncio.Event(), asyncio.Event()

    def look(self) -> None:
        """Something has changed in the pool."""
        if self.places.look():
            self._woken.set()
        if self.places.is_busy:
            self._busy.set()

    async def run(self) -> None:
        """Until cancelled."""
        listening = asyncio.ensure_future(self._listen())
        try:
            while True:
                heed_cancellation()
                self._woken.clear()
                await self._ask()
                if self.places.is_away:
                    await asyncio.sleep(AGAIN_SECONDS)
                elif not self.places.look():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self.places.due_in()):
                            await self._woken.wait()
        finally:
            await ended(listening)

    async def _ask(self) -> None:
        asked_at = self._clock.monotonic()
        question = self.places.question(asked_at)
        try:
            lent = await self._lent(question)
        except EntryStoreFailure:
            self.places.failed(self._clock.monotonic())
        except Exception as fault:  # without this task no request would have a place any more
            self._observer(TaskFailed("places", type(fault).__name__))
            self.places.failed(self._clock.monotonic())
        else:
            self.places.answered(lent, asked_at, self._clock.monotonic())

    async def _lent(self, asked: Question) -> Lent:
        arguments: tuple[str | int, ...] = (
            self._name,
            asked.held,
            asked.wants,
            asked.limit,
            asked.instances,
            asked.word,
            *MOMENTS,
        )
        return Lent(*map(int, await self._asking.run(PLACES, self._prefix, *arguments)))

    async def _listen(self) -> None:
        """Wakes `run` when another instance calls."""
        while True:
            heed_cancellation()
            if not self.places.is_busy:
                self._busy.clear()
                await self._busy.wait()
            try:
                async with self._listening.client() as client:
                    called: Any = await client.blpop([f"{self._prefix}call:{self._name}"], timeout=LISTEN_SECONDS)
            except EntryStoreFailure:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if called is not None:
                self._woken.set()

    async def aclose(self) -> None:
        """Gives everything back: other instances need not wait for the end of its lease."""
        with contextlib.suppress(EntryStoreFailure):
            await self._lent(Question(0, 0, self.places.limit, self.places.instances, "gone"))
        await self._asking.aclose()
        await self._listening.aclose()
