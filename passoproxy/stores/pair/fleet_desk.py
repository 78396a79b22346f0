"""The holder's side of a fleet's talk: shows followers what they may know, carries out what they ask, and lets the heart know that the loop lives.

Runs in every instance and is idle in followers. An instance that lost the lease steps down here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol, cast

from passoproxy.core.events import TaskFailed, Warned
from passoproxy.core.oauth.pair import Bearer
from passoproxy.errors import PairStoreFailure, PassoproxyError, Refusal, TokenUnavailable
from passoproxy.ports import Clock, Followed, Observer, nobody
from passoproxy.stores.pair.fleet import REFUSED, REPLY_LIVES, closed, opened
from passoproxy.stores.pair.lease import Pulse
from passoproxy.stores.pair.redis import RedisPairStore
from passoproxy.stores.pair.redis_link import Keys, RedisLink, heed_cancellation, let_go
from passoproxy.stores.pair.redis_scripts import SHOW
from passoproxy.tokens.passing import Obedient, document_of, obey

if TYPE_CHECKING:
    import redis.asyncio

FETCHED_WITHIN = 5.0
"""Seconds in which a pair that was handed over is fetched by whoever asked for it."""

TICK = 0.25
"""Seconds between two signs of life, and two looks at whether the lease is lost."""


class Holder(Obedient, Protocol):
    """Whoever holds the pair in this process (`tokens/custody`)."""

    @property
    def role(self) -> str: ...
    def changes(self) -> AsyncIterator[Followed]: ...
    def current(self) -> Bearer | None: ...
    async def renewed(self, refused: Bearer, path: str = "", again: bool = False) -> Bearer | None: ...
    def step_down(self) -> None: ...


class FleetDesk:
    """One instance's desk. `run` is a task for the daemon's life."""

    def __init__(
        self, link: RedisLink, keys: Keys, store: RedisPairStore, pulse: Pulse, clock: Clock, observe: Observer = nobody
    ) -> None:
        self._link, self._keys, self._store, self._pulse = link, keys, store, pulse
        self._clock, self._observe = clock, observe
        self._said = ""
        self._work: set[asyncio.Task[None]] = set()

    async def run(self, holder: Holder) -> None:
        """Until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._tick, self._show, self._take_orders):
                    tasks.create_task(self._lasting(work, holder))
        finally:
            self._pulse.stop()

    # ---- life ----------------------------------------------------------------------------------------------------------

    async def _lasting(self, work: Callable[[Holder], Awaitable[None]], holder: Holder) -> None:
        while True:
            try:
                await work(holder)
            except Exception as fault:  # an owner whose desk is closed would never step down
                self._observe(TaskFailed("fleet", f"{type(fault).__name__}; it is begun again"))
            heed_cancellation()
            await self._clock.sleep(2 * TICK)

    async def _tick(self, holder: Holder) -> None:
        while True:
            self._pulse.tick()
            if self._store.lost and holder.role == "owner":
                holder.step_down()
            self._tell_away(self._store.away, holder.current() is not None)
            await self._clock.sleep(TICK)

    def _tell_away(self, away: str, serves: bool) -> None:
        """Says that the store is away once, and once that it is back."""
        if away and not self._said:
            rest = "the access token serves on" if serves else "there is no access token to serve with"
            self._observe(Warned("store_away", f"{away}; {rest}, and nobody renews the pair until it is back"))
        elif not away and self._said:
            self._observe(Warned("store_away", f"store.url {self._link.shown} is back", over=True))
        self._said = away

    # ---- showing -------------------------------------------------------------------------------------------------------

    async def _show(self, holder: Holder) -> None:
        names = [getattr(self._keys, name) for name in ("lease", "fence", "pair", "claim", "news", "shown")]
        client = self._link.asynchronous()
        try:
            async with aclosing(cast("AsyncGenerator[Followed, None]", holder.changes())) as changes:
                async for followed in changes:
                    heed_cancellation()
                    if holder.role == "owner" and not self._store.lost:
                        fence = str(self._store.lease.fence)
                        shown = closed(self._store.cover, "shown", {**document_of(followed), "fence": fence})
                        with contextlib.suppress(PairStoreFailure), self._link.told():  # the tick tells of it
                            await client.eval(SHOW, len(names), *names, fence, shown)
        finally:
            await let_go(client)

    # ---- orders --------------------------------------------------------------------------------------------------------

    async def _take_orders(self, holder: Holder) -> None:
        client = self._link.asynchronous()
        try:
            while True:
                heed_cancellation()
                if holder.role != "owner" or self._store.lost:
                    await self._clock.sleep(TICK)
                    continue
                try:
                    with self._link.told():
                        await self._take_one(client, holder)
                except PairStoreFailure:
                    await self._clock.sleep(2 * TICK)
        finally:
            for task in self._work:
                task.cancel()
            if self._work:
                await asyncio.wait(self._work)  # a reply after the end would open a connection that nobody closes
            await let_go(client)

    async def _take_one(self, client: redis.asyncio.Redis, holder: Holder) -> None:
        found = await cast("Awaitable[list[bytes] | None]", client.brpop([self._keys.orders], 1))
        if found is None:
            return
        name = found[1].decode("ascii", "replace")
        data = cast("bytes | None", await client.getdel(self._keys.prefix + "order:" + name))
        if data is not None:  # else nobody waits for it any more
            task = asyncio.create_task(self._carry_out(client, holder, name, data))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _carry_out(self, client: redis.asyncio.Redis, holder: Holder, name: str, data: bytes) -> None:
        reply, done = self._keys.prefix + "reply:" + name, _LEFT_UNDONE
        try:
            done = await self._done(holder, data)
        finally:
            await self._reply(client, reply, done)
        if "access_token" in done:
            await self._take_back(client, reply, holder)

    async def _take_back(self, client: redis.asyncio.Redis, reply: str, holder: Holder) -> None:
        """A pair that was handed over, and that nobody has fetched: whoever asked for it is gone."""
        await self._clock.sleep(FETCHED_WITHIN)
        with contextlib.suppress(PassoproxyError), self._link.told():  # told as an event, and by the chain's state
            if await client.delete(reply):
                await holder.refresh(force=True)

    async def _reply(self, client: redis.asyncio.Redis, reply: str, done: Mapping[str, object]) -> None:
        told = closed(self._store.cover, "reply", done)
        with contextlib.suppress(PairStoreFailure), self._link.told():  # whoever asked sees that the store is away
            async with client.pipeline(transaction=True) as both:
                both.rpush(reply, told)
                both.expire(reply, REPLY_LIVES)
                await both.execute()

    async def _done(self, holder: Holder, data: bytes) -> dict[str, object]:
        try:
            order = opened(self._store.cover, "order", data)
            what, document = str(order["what"]), base64.b64decode(str(order["document"]))
            if what == REFUSED:
                told = json.loads(document)
                refused, path = Bearer("", int(told["generation"])), str(told.get("path") or "")
                newer = await holder.renewed(refused, path, bool(told.get("again")))
                now = newer or holder.current()
                return {"generation": now.generation if now is not None else 0}
            return await obey(holder, what, document)
        except PassoproxyError as fault:
            return _fault(fault)
        except Exception as fault:  # an order that nobody understands must not end the desk
            self._observe(TaskFailed("fleet", f"an order failed: {type(fault).__name__}"))
            return _fault(PassoproxyError("a fault inside passoproxy; the log has more"))


def _fault(fault: PassoproxyError) -> dict[str, object]:
    fields = dict(fault.fields) if isinstance(fault, Refusal) else {}
    wait = float(fields.get("Retry-After", "5"))
    return {"fault": {"code": fault.code, "exit_code": fault.exit_code, "detail": str(fault), "retry_after": wait}}


_LEFT_UNDONE = _fault(TokenUnavailable("passoproxy is shutting down", 5))
"""What came of an order that was under way when its holder ended."""
