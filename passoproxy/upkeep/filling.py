"""Filling: has the cache fetch what it is told to, as background work through the road (contract §2 `cache warm`).

Nothing is sent that the cache would not keep: so nothing with side effects. What is fresh is left alone, which is how a run that was broken
off goes on. How requests become orders is `control`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from passoproxy.core.http.messages import RequestHead, changed
from passoproxy.errors import BodyBroken, CoolingDown, EntryStoreFailure, Overloaded, Refusal
from passoproxy.ports import Client, Clock, Hop, Request, Trail

MOST_ATTEMPTS = 5
"""How often one order is tried where the origin wants a pause or nobody had a place for it."""

LONGEST_REST = 900.0
"""Seconds that a pause of the origin is waited for; in a longer one orders fail at once, and say until when."""

_BREATH = 1.0
_NOT_STALE = "min-fresh=0"
"""Asked of the cache, so that a stale answer does not serve in place of a new one (RFC 9111 §5.2.1.3)."""


class Outlook(Protocol):
    """What would become of a request: hit, miss or pass; why; and the request as the cache would be asked."""

    @property
    def outcome(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def is_fresh(self) -> bool: ...
    @property
    def request(self) -> Request: ...


@dataclass(frozen=True, slots=True)
class Order:
    """One request to be made ready for. `number` is the orderer's own, given back with what came of it."""

    number: int
    url: str
    head: RequestHead
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Filled:
    """What came of an order. `outcome`: fetched (it is stored now), fresh (it was) or failed; `status` the answer's, None without one."""

    number: int
    url: str
    outcome: str
    status: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What holds at this moment: `at_once` requests may be under way for the sake of filling; background work rests until `rests_until`,
    in epoch seconds, None where it does not."""

    at_once: Callable[[], int]
    rests_until: Callable[[], float | None]


class Filling:
    """Carries orders out by the hop of the cache."""

    def __init__(
        self,
        cache: Hop,
        outlook: Callable[[RequestHead, bytes], Awaitable[Outlook]],
        conditions: Conditions,
        clock: Clock,
    ) -> None:
        self._cache, self._outlook, self._conditions, self._clock = cache, outlook, conditions, clock
        self._busy = 0
        self._freed = asyncio.Condition()

    async def fill(self, orders: Iterable[Order]) -> AsyncGenerator[Filled, None]:
        """What came of each, as it comes. Whoever stops asking stops the rest; what is under way at the origin is still stored."""
        waiting, running = iter(orders), set[asyncio.Task[Filled]]()
        try:
            while True:
                while len(running) < self._conditions.at_once() and (order := next(waiting, None)) is not None:
                    running.add(asyncio.create_task(self._carried_out(order), name="filling"))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    yield each.result()
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the places that all who fill share."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._busy < self._conditions.at_once())
            self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            async with self._freed:
                self._freed.notify_all()

    async def _carried_out(self, order: Order) -> Filled:
        try:
            async with self._place():
                return await self._filled(order)
        except Refusal as refusal:
            return _failed(order, f"{refusal.code}: {refusal.detail}")
        except (BodyBroken, EntryStoreFailure) as fault:
            return _failed(order, str(fault))

    async def _filled(self, order: Order) -> Filled:
        outlook = await self._outlook(order.head, order.body)
        if outlook.outcome == "pass":
            return _failed(order, f"it would not be stored, so it was not sent: {outlook.why}")
        if outlook.is_fresh:
            return Filled(order.number, order.url, "fresh")
        for _ in range(MOST_ATTEMPTS):
            await self._rest()
            try:
                found = await self._fetched(order, outlook.request)
            except (Overloaded, CoolingDown) as refusal:
                found = _failed(order, f"{refusal.code}: {refusal.detail}")
                is_busy = True
            else:
                is_busy = self._rests()
            if found.outcome != "failed" or not is_busy:
                return found
            await self._clock.sleep(_BREATH)
        return found

    def _rests(self) -> bool:
        return self._conditions.rests_until() is not None

    async def _rest(self) -> None:
        """Waits while the origin wants a pause. Raises CoolingDown where that is too long to be waited for."""
        while (until := self._conditions.rests_until()) is not None:
            left = until - self._clock.wall()
            if left > LONGEST_REST:
                raise CoolingDown(f"the origin wants no background work for {left:.0f} s; run it again then", left)
            await self._clock.sleep(max(0.05, left))

    async def _fetched(self, order: Order, inward: Request) -> Filled:
        wanted = ", ".join((*inward.head.fields.getall("Cache-Control", ()), _NOT_STALE))
        head = inward.head.with_fields(changed(inward.head.fields, having=[("Cache-Control", wanted)]))
        trail = Trail()
        client = Client(name="cache warm")
        request = replace(
            inward, head=head, client=client, received_at=self._clock.wall(), trail=trail, background=True
        )
        response = await self._cache.send(request)
        try:
            if trail.cache == "hit":
                return Filled(order.number, order.url, "fresh", response.head.status)
            async for _ in response.body:
                pass
        finally:
            await response.body.aclose()
        status = response.head.status
        if trail.cache == "stale":
            return _failed(order, "the origin gave no new answer, and the old one is kept", status)
        member = ", ".join(response.head.fields.getall("Cache-Status", ())).rpartition(",")[2]
        if status >= 400:
            return _failed(order, f"the origin answered {status}", status)
        if "; stored" not in member and "fwd-status=304" not in member:
            return _failed(order, f"the origin answered {status}, and that is not stored", status)
        return Filled(order.number, order.url, "fetched", status)


def _failed(order: Order, detail: str, status: int | None = None) -> Filled:
    return Filled(order.number, order.url, "failed", status, detail)
