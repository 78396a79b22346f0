"""Calls to Redis for the cache: few connections, bounded waits, and a pause after a failure during which nothing is asked.

Waiting for a cache that is away would be worse than having none. The library's errors become `EntryStoreFailure`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from passoproxy.core.events import StoreFailed
from passoproxy.errors import EntryStoreFailure, PassoproxyError
from passoproxy.ports import Observer

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

PAUSE_SECONDS = 1.0
CONNECTIONS = 8


class RedisAway(EntryStoreFailure):
    """The store cannot be used now, or could not a moment ago."""


class Connection:
    """`connect` makes a client whose own timeouts bound every wait; `shown` names the store in messages."""

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
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._paused_until = float("-inf")
        self._is_away = False
        self._closed = False

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """The client, for one command or a few. Raises RedisAway during a pause, and if the store fails."""
        self.check_pause()
        async with self._places:
            self.check_pause()  # the call that had the place before may have failed
            if self._closed:
                raise EntryStoreFailure(f"{self._shown}: the cache is closed")
            if self._client is None:
                self._client = self._connect()
            try:
                yield self._client
            except _full() as fault:
                raise EntryStoreFailure(f"{self._shown}: is full, and stores nothing; see its maxmemory") from fault
            except _failures() as fault:
                raise self.failed(fault) from fault
            self._is_away = False

    async def run(self, script: str, prefix: str, *arguments: str | bytes | int | float) -> Any:
        """Runs one of `scripts`. Raises RedisAway."""
        async with self.client() as client:
            if script not in self._scripts:
                self._scripts[script] = client.register_script(script)
            return await self._scripts[script](keys=[prefix], args=list(arguments))

    async def aclose(self) -> None:
        """Closes every connection."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.aclose()
            except _failures():
                pass  # the connection is gone already

    def check_pause(self) -> None:
        """Raises RedisAway during a pause."""
        if self._monotonic() < self._paused_until:
            raise RedisAway(f"{self._shown}: is not asked for a moment, because it could not be used just now")

    def failed(self, fault: BaseException) -> RedisAway:
        """Begins a pause because of `fault`; returns what to raise."""
        # The library's text may repeat what was sent: only the class is shown.
        failure = RedisAway(
            f"{self._shown}: cannot be used ({type(fault).__name__}); the cache works without it until it can"
        )
        self._paused_until = self._monotonic() + self._pause_seconds
        if not self._is_away:
            self._is_away = True
            self._observer(StoreFailed(str(failure)))
        return failure


def _full() -> type[BaseException]:
    from redis.exceptions import OutOfMemoryError

    return OutOfMemoryError


def _failures() -> tuple[type[BaseException], ...]:
    from redis.exceptions import RedisError

    return RedisError, OSError, TimeoutError, PassoproxyError
