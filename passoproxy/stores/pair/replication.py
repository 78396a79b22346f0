"""What the instances of a fleet tell one another through the shared store: state and commands.

The lease's holder shows what followers may know (the access token, never the refresh token), carries out their commands, and ticks the pulse that
its heartbeat depends on; an instance that lost the lease steps down here. Followers read and ask. A command waits in the store for a few seconds
only, so that none is carried out for a follower that has given up. What a command means is in `tokens.messages`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar, cast

from passoproxy.core.events import TaskFailed, Warned
from passoproxy.core.oauth.alert_levels import Alarmed
from passoproxy.errors import OwnerGone, PairStoreFailure, PassoproxyError, TokenUnavailable
from passoproxy.ports import Clock, Followed, Observer, nobody
from passoproxy.stores.pair.alert_state import alarmed_of, written
from passoproxy.stores.pair.encryption import FleetCover
from passoproxy.stores.pair.lease import SCRIPT, Pulse
from passoproxy.stores.pair.redis import RedisPairStore
from passoproxy.stores.redis_client import Keys, RedisLink, heed_cancellation, let_go
from passoproxy.tokens.commands import Command, Refresh
from passoproxy.tokens.failover import Custody
from passoproxy.tokens.messages import (
    answer_of,
    answered,
    document_of,
    fault_document,
    followed_of,
    gives_pair,
    in_our_time,
    packed,
)

if TYPE_CHECKING:
    import redis.asyncio

T = TypeVar("T")

LOOK_EVERY = 0.5
"""A follower that hears no news looks by itself so often, in seconds."""

TAKEN_WITHIN = 3.0
"""A command that the holder has not taken within so many seconds is withdrawn."""

ORDER_LIVES = 10_000
"""Milliseconds after TAKEN_WITHIN when a command ends by itself: its sender may have died before it could withdraw it."""

PATIENCE = 100.0
"""Seconds that a command may take once it is taken: a login's exchange with the provider is among them."""

REPLY_LIVES = 30
"""Seconds that a reply waits for its reader."""

FETCHED_WITHIN = 5.0
"""Seconds in which a reply that holds the pair is fetched by the process that asked for it."""

TICK = 0.25
"""Seconds between two ticks of the pulse, and two looks at whether the lease is lost."""


def closed(cover: FleetCover, kind: str, document: Mapping[str, object]) -> bytes:
    """A message as it lies in the store."""
    return cover.close(kind, 0, json.dumps(document).encode())


def opened(cover: FleetCover, kind: str, data: bytes) -> dict[str, object]:
    """The reverse. Raises PairStoreFailure, which repeats nothing of it."""
    try:
        found = json.loads(cover.open(kind, 0, data))
    except ValueError as fault:
        why = str(fault) if cover.seals else "it is no JSON of passoproxy, or sealed"
        raise PairStoreFailure(
            f"what the pair's owner told cannot be read ({why}); give every instance the same state.key_file"
        ) from fault
    if not isinstance(found, dict):
        raise PairStoreFailure("what the pair's owner told cannot be read")
    return found


class FleetOwner:
    """A PairOwner: the lease's holder, wherever it runs. `before` gives what is served if nothing was ever heard (the store is away).

    `wall` is this machine's clock; the holder's times are converted to it.
    """

    def __init__(
        self,
        store: RedisPairStore,
        before: Callable[[], Followed | None] = lambda: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._before, self._wall = store, before, wall
        self._link, self._keys = store.link, store.keys
        self._heard = False
        """Whether something was heard, or `before` was told."""
        self._newest: bytes | None = None
        """What was told last, as it lies in the store."""

    async def changes(self) -> AsyncIterator[Followed]:
        """See PairOwner; a new token is there as soon as the store tells, and within LOOK_EVERY in any case."""
        client = self._link.asynchronous()
        try:
            with self._link.told():
                async with client.pubsub(ignore_subscribe_messages=True) as news:
                    await news.subscribe(self._keys.news)
                    async with aclosing(self._shown(client, news)) as shown:
                        async for followed in shown:
                            yield followed
        except PairStoreFailure:
            if not self._heard and (known := await asyncio.to_thread(self._before)) is not None:
                try:
                    yield known
                finally:
                    self._heard = True  # told again and again it would look like an owner that is there
            raise
        finally:
            await let_go(client)

    async def _shown(self, client: redis.asyncio.Redis, news: Any) -> AsyncGenerator[Followed, None]:
        last: bytes | None = None
        while True:
            heed_cancellation()
            held, shown = cast("list[bytes | None]", await client.mget(self._keys.lease, self._keys.shown))
            # What a holder that is gone has left is told once, for the reason above.
            if shown is not None and shown != (self._newest if held is None else last):
                last = self._newest = shown
                document = opened(self._store.cover, "shown", shown)
                followed = followed_of(document)
                generation = followed.snapshot.get("generation")
                await asyncio.to_thread(self._store.hear, generation if isinstance(generation, int) else 0)
                self._heard = True
                # The present holder tells it every second; what an earlier one left may be of any time.
                is_holders = held is not None and held.partition(b"|")[0] == str(document.get("fence")).encode()
                yield in_our_time(followed, self._wall()) if is_holders else followed
            if held is None:
                raise PairStoreFailure(f"{self._link.shown}: no instance holds the lease on the pair")
            await news.get_message(timeout=LOOK_EVERY)

    async def execute(self, command: Command[T]) -> T:
        """See PairOwner."""
        client, name = self._link.asynchronous(), secrets.token_hex(16)
        order = self._keys.prefix + "order:" + name
        try:
            with self._link.told():
                sealed = closed(self._store.cover, "order", packed(command))
                await client.set(order, sealed, px=int(TAKEN_WITHIN * 1000) + ORDER_LIVES)
                await client.lpush(self._keys.orders, name)
                told = await self._reply(client, order, self._keys.prefix + "reply:" + name)
            reply = opened(self._store.cover, "reply", told)
        except PairStoreFailure as fault:
            raise OwnerGone(str(fault)) from fault
        finally:
            await let_go(client)
        return answer_of(command, reply)

    async def _reply(self, client: redis.asyncio.Redis, order: str, reply: str) -> bytes:
        """The holder's reply. Raises PairStoreFailure if no holder takes the command, or the lease changes hands after it was taken."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        taker: bytes | None = None
        while (waited := loop.time() - asked) < PATIENCE:
            heed_cancellation()
            found = await cast("Awaitable[list[bytes] | None]", client.blpop([reply], 1))
            if found is not None:
                return found[1]
            is_waiting = await client.exists(order)
            held = cast("bytes | None", await client.get(self._keys.lease))
            if held is None or (waited >= TAKEN_WITHIN and await client.delete(order)):
                break
            if taker is not None and taker != held:
                break
            taker = None if is_waiting else held
        raise PairStoreFailure(f"{self._link.shown}: the pair's owner does not answer")


class FleetDesk:
    """The holder's side, in every instance; idle in followers. `run` is a task for the daemon's life."""

    def __init__(self, store: RedisPairStore, pulse: Pulse, clock: Clock, observe: Observer = nobody) -> None:
        self._store, self._pulse, self._clock, self._observe = store, pulse, clock, observe
        self._link, self._keys = store.link, store.keys
        self._told_away = ""
        self._work: set[asyncio.Task[None]] = set()

    async def run(self, holder: Custody) -> None:
        """Until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._tick, self._show, self._take_orders):
                    tasks.create_task(self._lasting(work, holder))
        finally:
            self._pulse.stop()

    async def _lasting(self, work: Callable[[Custody], Awaitable[None]], holder: Custody) -> None:
        while True:
            try:
                await work(holder)
            except Exception as fault:  # an owner without these tasks would never step down
                self._observe(TaskFailed("fleet", f"{type(fault).__name__}; it is begun again"))
            heed_cancellation()
            await self._clock.sleep(2 * TICK)

    async def _tick(self, holder: Custody) -> None:
        while True:
            self._pulse.tick()
            if self._store.lost and holder.role == "owner":
                holder.step_down()
            away = self._store.away
            if away and not self._told_away:
                serves = holder.current() is not None
                rest = "the access token serves on" if serves else "there is no access token to serve with"
                self._observe(Warned("store_away", f"{away}; {rest}, and no instance renews the pair until it is back"))
            elif self._told_away and not away:
                self._observe(Warned("store_away", f"store.url {self._link.shown} is back", over=True))
            self._told_away = away
            await self._clock.sleep(TICK)

    async def _show(self, holder: Custody) -> None:
        names = [*self._store.lease.names, self._keys.shown]
        client = self._link.asynchronous()
        try:
            async with aclosing(cast("AsyncGenerator[Followed, None]", holder.changes())) as changes:
                async for followed in changes:
                    heed_cancellation()
                    if holder.role == "owner" and not self._store.lost:
                        fence = str(self._store.lease.fence)
                        shown = closed(self._store.cover, "shown", {**document_of(followed), "fence": fence})
                        with contextlib.suppress(PairStoreFailure), self._link.told():  # `_tick` tells of it
                            await client.eval(SCRIPT, len(names), *names, "show", fence, shown)
        finally:
            await let_go(client)

    # ---- commands ------------------------------------------------------------------------------------------------------

    async def _take_orders(self, holder: Custody) -> None:
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
                await asyncio.wait(self._work)  # a later reply would open a connection that nothing closes
            await let_go(client)

    async def _take_one(self, client: redis.asyncio.Redis, holder: Custody) -> None:
        found = await cast("Awaitable[list[bytes] | None]", client.brpop([self._keys.orders], 1))
        if found is None:
            return
        name = found[1].decode("ascii", "replace")
        data = cast("bytes | None", await client.getdel(self._keys.prefix + "order:" + name))
        if data is not None:  # else the follower has given up
            task = asyncio.create_task(self._carry_out(client, holder, name, data))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _carry_out(self, client: redis.asyncio.Redis, holder: Custody, name: str, data: bytes) -> None:
        reply, done, is_told = self._keys.prefix + "reply:" + name, _LEFT_UNDONE, False
        try:
            done = await self._done(holder, data)
        finally:
            with contextlib.suppress(PairStoreFailure), self._link.told():  # the follower sees that the store is away
                async with client.pipeline(transaction=True) as both:
                    both.rpush(reply, closed(self._store.cover, "reply", done))
                    both.expire(reply, REPLY_LIVES)
                    await both.execute()
                is_told = True
        if gives_pair(done):
            await self._clock.sleep(FETCHED_WITHIN)
            is_left = not is_told
            with contextlib.suppress(PairStoreFailure), self._link.told():
                is_left = bool(await client.delete(reply)) or is_left
            if is_left:  # the process that asked for the pair is gone, or was not given it
                with contextlib.suppress(PassoproxyError):  # told as an event, and by the chain's state
                    await holder.execute(Refresh(force=True))

    async def _done(self, holder: Custody, data: bytes) -> dict[str, object]:
        try:
            return await answered(holder, opened(self._store.cover, "order", data))
        except PairStoreFailure as fault:
            return fault_document(fault)
        except Exception as fault:  # an unforeseen failure of one command must not end the task
            self._observe(TaskFailed("fleet", f"an order failed: {type(fault).__name__}"))
            return fault_document(PassoproxyError("a fault inside passoproxy; the log has more"))


_LEFT_UNDONE = fault_document(TokenUnavailable("passoproxy is shutting down", 5))
"""The reply to a command that was under way when its holder ended."""


# ---- the alert that was told last ------------------------------------------------------------------------------------


class FleetAlarm:
    """An AlarmMemory that a fleet shares: the next owner knows what the one before has told."""

    def __init__(self, link: RedisLink, keys: Keys, cover: FleetCover) -> None:
        self._link, self._key, self._cover = link, keys.alarm, cover

    def load(self) -> Alarmed | None:
        with contextlib.suppress(PairStoreFailure):
            data = self._link.get(self._key)
            return alarmed_of(opened(self._cover, "alarm", data)) if data else None
        return None

    def save(self, alarmed: Alarmed | None) -> None:
        with contextlib.suppress(PairStoreFailure):
            data = None if alarmed is None else closed(self._cover, "alarm", written(alarmed))
            self._link.put(self._key, data)
