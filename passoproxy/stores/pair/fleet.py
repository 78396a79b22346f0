"""The talk of a fleet through its shared store: the holder shows what followers may know and takes their orders, followers read and ask.

What is shown holds the access token and never the refresh token. Orders wait in the store for a few seconds only, so that none is carried out
that nobody waits for any more. Who holds the lease is `lease`'s business, what an order means `tokens/passing`'s.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from passoproxy.errors import PairStoreFailure
from passoproxy.ports import Followed
from passoproxy.stores.pair.redis import RedisPairStore
from passoproxy.stores.pair.redis_link import Keys, RedisLink, heed_cancellation, let_go
from passoproxy.stores.pair.redis_records import FleetCover
from passoproxy.tokens.passing import fault_of, followed_of, in_our_time

if TYPE_CHECKING:
    import redis.asyncio

LOOK_EVERY = 0.5
"""A follower that hears no news looks by itself so often, in seconds."""

TAKEN_WITHIN = 3.0
"""An order that the holder has not taken within so many seconds is withdrawn."""

ORDER_LIVES = 10_000
"""Milliseconds after which an order is gone for good, where whoever placed it died before it could withdraw it."""

PATIENCE = 100.0
"""Seconds that an order may take once it is taken: a login's exchange with the provider is among them."""

REPLY_LIVES = 30
"""Seconds that a reply waits for whoever asked."""

REFUSED = "refused"
"""The word for a 401, beside those of `PairOwner.order`."""


class FleetOwner:
    """A PairOwner: the lease's holder, wherever it runs. `before` gives what is served where nothing was ever heard (the store is away); `wall`
    is this machine's clock, by which everything is told whatever the holder's says."""

    def __init__(
        self,
        link: RedisLink,
        keys: Keys,
        store: RedisPairStore,
        before: Callable[[], Followed | None] = lambda: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._link, self._keys, self._store, self._before, self._wall = link, keys, store, before, wall
        self._heard = False
        """Whether there is nothing to tell of before: something was heard, or that was told already."""
        self._newest: bytes | None = None
        """What was told last, as it lies in the store."""

    async def changes(self) -> AsyncIterator[Followed]:
        """See PairOwner; a new token is there as soon as the store tells, and within half a second in any case."""
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
                    self._heard = True  # said again and again it would sound like an owner who is there
            raise
        finally:
            await let_go(client)

    async def _shown(self, client: redis.asyncio.Redis, news: Any) -> AsyncGenerator[Followed, None]:
        last: bytes | None = None
        while True:
            heed_cancellation()
            held, shown = cast("list[bytes | None]", await client.mget(self._keys.lease, self._keys.shown))
            # what one who is gone left is told once: again and again it would sound like an owner who is there
            if shown is not None and shown != (self._newest if held is None else last):
                last = self._newest = shown
                document = opened(self._store.cover, "shown", shown)
                followed = followed_of(document)
                generation = followed.snapshot.get("generation")
                await asyncio.to_thread(self._store.hear, generation if isinstance(generation, int) else 0)
                self._heard = True
                # a holder who lives tells it every second; what one before it left may be of any time
                is_holders = held is not None and held.partition(b"|")[0] == str(document.get("fence")).encode()
                yield in_our_time(followed, self._wall()) if is_holders else followed
            if held is None:
                raise PairStoreFailure(f"{self._link.shown}: nobody holds the lease on the pair")
            await news.get_message(timeout=LOOK_EVERY)

    async def renewed(self, generation: int, path: str = "", again: bool = False) -> int:
        """See PairOwner."""
        told = await self._ask(REFUSED, json.dumps({"generation": generation, "path": path, "again": again}).encode())
        return int(cast("int", told.get("generation") or 0))

    async def order(self, what: str, document: bytes = b"") -> Mapping[str, object]:
        """See PairOwner."""
        return await self._ask(what, document)

    async def _ask(self, what: str, document: bytes) -> Mapping[str, object]:
        client, name = self._link.asynchronous(), secrets.token_hex(16)
        order = self._keys.prefix + "order:" + name
        body = {"what": what, "document": base64.b64encode(document).decode()}
        try:
            with self._link.told():
                await client.set(
                    order, closed(self._store.cover, "order", body), px=int(TAKEN_WITHIN * 1000) + ORDER_LIVES
                )
                await client.lpush(self._keys.orders, name)
                reply = await self._reply(client, order, self._keys.prefix + "reply:" + name)
        finally:
            await let_go(client)
        told = opened(self._store.cover, "reply", reply)
        if "fault" not in told:
            return told
        fault = cast("dict[str, Any]", told["fault"])
        raise fault_of(str(fault["code"]), int(fault["exit_code"]), str(fault["detail"]), float(fault["retry_after"]))

    async def _reply(self, client: redis.asyncio.Redis, order: str, reply: str) -> bytes:
        """The holder's reply. Raises PairStoreFailure where nobody takes the order, or another one holds the lease than when it was taken."""
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


def closed(cover: FleetCover, kind: str, document: Mapping[str, object]) -> bytes:
    """What is told, as it lies in the store."""
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
