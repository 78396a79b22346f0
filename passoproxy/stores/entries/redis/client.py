"""The way to Redis as the cache takes it: few connections, short waits, and a pause after each failure in which nothing is asked at all.

A cache that waits for a store that is away is worse than none. The library's errors become `EntryStoreFailure`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from passoproxy.core.events import StoreFailed
from passoproxy.errors import EntryStoreFailure, PassoproxyError
from passoproxy.ports import Observer

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline
    from redis.commands.core import AsyncScript

PAUSE_SECONDS = 1.0
PLACES = 8


class RedisAway(EntryStoreFailure):
    """The store cannot be used now, or could not a moment ago."""


class RedisPath:
    """`connect` makes a client, whose own timeouts bound every wait; `shown` names the store for people."""

    def __init__(
        self,
        connect: Callable[[], Redis],
        shown: str,
        observer: Observer,
        monotonic: Callable[[], float] = time.monotonic,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._connect, self._shown, self._observer = connect, shown, observer
        self._monotonic, self._pause_seconds = monotonic, pause_seconds
        self._client: Redis | None = None
        self._scripts: dict[str, AsyncScript] = {}
        self._places = asyncio.Semaphore(PLACES)
        self._paused_until = float("-inf")
        self._is_away = False
        self._closed = False

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Redis]:
        """The client, for one question or a few. Raises RedisAway within a pause, and where the store fails."""
        if self._closed:
            raise EntryStoreFailure(f"{self._shown}: the cache is closed")
        self._must_not_be_paused()
        async with self._places:
            self._must_not_be_paused()  # whoever had the place before may have found it away
            try:
                yield self._open()
            except _fullness() as fault:
                raise EntryStoreFailure(f"{self._shown}: is full, and stores nothing; see its maxmemory") from fault
            except _failures() as fault:
                raise self._away(fault) from fault
            self._is_away = False

    def _must_not_be_paused(self) -> None:
        if self._monotonic() < self._paused_until:
            raise RedisAway(f"{self._shown}: is not asked for a moment, because it could not be used just now")

    def _open(self) -> Redis:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _away(self, fault: BaseException) -> RedisAway:
        # Its text may repeat what was sent, so only the kind of error is told.
        failure = RedisAway(
            f"{self._shown}: cannot be used ({type(fault).__name__}); the cache works without it until it can"
        )
        self._paused_until = self._monotonic() + self._pause_seconds
        if not self._is_away:
            self._is_away = True
            self._observer(StoreFailed(str(failure)))
        return failure

    async def run(self, source: str, prefix: str, *arguments: str | bytes | int | float) -> Any:
        """What a script of `redis_scripts` answers. Raises RedisAway."""
        async with self.asking() as client:
            return await self._script(client, source)(keys=[prefix], args=list(arguments))

    async def together(self, ask: Callable[[Pipeline], Any]) -> Sequence[Any]:
        """What the commands that `ask` puts together answer, as of one moment. Raises RedisAway."""
        async with self.asking() as client, client.pipeline(transaction=True) as pipe:
            ask(pipe)
            return await pipe.execute()

    def _script(self, client: Redis, source: str) -> AsyncScript:
        if source not in self._scripts:
            self._scripts[source] = client.register_script(source)
        return self._scripts[source]

    async def aclose(self) -> None:
        """Lets go of every connection."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.aclose()
            except _failures():
                pass  # it is gone already


def _fullness() -> type[BaseException]:
    from redis.exceptions import OutOfMemoryError

    return OutOfMemoryError


def _failures() -> tuple[type[BaseException], ...]:
    from redis.exceptions import RedisError

    return RedisError, OSError, TimeoutError, PassoproxyError
