"""What the connections of one listener share: limits, handler, the count of who is there, and the way to an orderly end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from passoproxy.core.http.grammar import print_date
from passoproxy.errors import Refusal
from passoproxy.ports import Response
from passoproxy.server.answering import Exchange

_MOST_REFUSED = 64

Lane = Callable[[bytes], bytes | None]
"""Answers a read that holds exactly one whole request known to it, or gives None and the road is taken."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. `header_timeout` is for a whole head, `body_timeout` and `write_timeout` for silence;
    a request's body comes at `min_rate` bytes a second or faster once it was waited for `rate_grace` seconds.
    """

    header_bytes: int = 32 * 1024
    body_bytes: int = 16 * 1024 * 1024
    header_timeout: float = 10.0
    idle_timeout: float = 75.0
    body_timeout: float = 30.0
    min_rate: int = 256
    rate_grace: float = 10.0
    write_timeout: float = 60.0
    linger_timeout: float = 2.0
    connections: int = 1024


class ExchangeHandler(Protocol):
    """Who answers: one call for each request, and `refuse` for what cannot become one."""

    async def handle(self, exchange: Exchange) -> None: ...
    def refuse(self, refusal: Refusal, client: str) -> Response: ...
    def turned_away(self, detail: str, client: str) -> None:
        """A peer that may not connect was closed without an answer."""
        ...


class Connection(Protocol):
    """A connection, as the one who counts them sees it."""

    @property
    def spare(self) -> bool:
        """Whether nobody would miss it: nothing was asked on it that is not answered."""
        ...

    def close_when_idle(self) -> None: ...
    def drop(self) -> None: ...


class Connections:
    """All connections of one listener (or of several that share a limit)."""

    def __init__(self, handler: ExchangeHandler, limits: Limits | None = None, lane: Lane | None = None) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self.lane = lane
        self.draining = False
        self._open: dict[Connection, None] = {}
        self._refused: set[Connection] = set()
        self._all_gone: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._date = ""
        self._date_until = 0.0

    @property
    def count(self) -> int:
        """Connections that are open."""
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Counts a new connection; False where the limit is reached and no spare one can make room."""
        if len(self._open) >= self.limits.connections and not self._make_room():
            return False
        self._open[connection] = None
        return True

    def may_be_told(self, connection: Connection) -> bool:
        """Whether a connection beyond the limit is still told so: only so many are, the others are closed without an answer."""
        if len(self._refused) >= _MOST_REFUSED:
            return False
        self._refused.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._open.pop(connection, None)
        self._refused.discard(connection)
        if not self._open and self._all_gone is not None:
            self._all_gone.set()

    def watch(self, task: asyncio.Task[None]) -> None:
        """Keeps a request's task alive until it is done, and makes `drain` wait for it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, grace: float) -> None:
        """Idle connections close now, the others after the answers under way, what is left after `grace` seconds by a reset."""
        self.draining = True
        self._all_gone = asyncio.Event()
        for connection in tuple(self._open):
            connection.close_when_idle()
        if self._open:
            try:
                await asyncio.wait_for(self._all_gone.wait(), grace)
            except TimeoutError:
                for connection in tuple(self._open):
                    connection.drop()
                await self._all_gone.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def date(self) -> str:
        """The time as `Date` prints it, made once a second."""
        now = time.time()
        if not self._date_until - 1 <= now < self._date_until:
            self._date, self._date_until = print_date(now), now // 1 + 1
        return self._date

    def _make_room(self) -> bool:
        # Insertion order: the one that has been there longest goes first.
        spare = next((connection for connection in self._open if connection.spare), None)
        if spare is None:
            return False
        spare.drop()
        self._open.pop(spare, None)
        return True
