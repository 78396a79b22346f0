"""What the connections of one listener share: limits, handler, the count of who is there, and the way to an orderly end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from passoproxy.core.http.grammar import print_date
from passoproxy.errors import Refusal
from passoproxy.ports import Response
from passoproxy.server.answering import Exchange

SILENT_SECONDS = 1.0
"""After which a connection whose request has not come whole may make room for another."""

_MOST_REFUSED = 64

Lane = Callable[[bytes], bytes | None]
"""Answers a read that holds exactly one whole request known to it, or gives None and the road is taken."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. `header_timeout` is for a whole head, `body_timeout` and `write_timeout` for silence;
    a request's body comes at `min_rate` bytes a second or faster once it was waited for `rate_grace` seconds. `drain_timeout`: for the next
    request of a kept connection when the end has begun.
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
    drain_timeout: float = 2.0
    connections: int = 1024


class ExchangeHandler(Protocol):
    """Who answers: one call for each request, and `refuse` for what cannot become one."""

    async def handle(self, exchange: Exchange) -> None: ...
    def refuse(self, refusal: Refusal, client: str) -> Response: ...
    def turned_away(self, detail: str, client: str) -> None:
        """A peer that may not connect was closed without an answer."""
        ...


class Connection(Protocol):
    """A connection, as those who count see it. `holder` is whom it counts for (`core.peers.holder_of`)."""

    @property
    def holder(self) -> str: ...

    @property
    def silent_since(self) -> float | None:
        """Since when its client has neither sent nor taken anything, by the loop's time; None where it may not go: it is not the client that is
        waited for, or it has only just begun."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a request is under way that would be lost with it."""
        ...

    def drop(self) -> None:
        """Ends it, and whatever is done for it, at once."""
        ...


C = TypeVar("C", bound=Connection)


class Table(Generic[C]):
    """The connections of one listener (or of several that share a limit)."""

    def __init__(self) -> None:
        self._open: dict[C, None] = {}

    @property
    def count(self) -> int:
        """Connections that are open, those in a TLS handshake included."""
        return len(self._open)

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._open))

    def admit(self, connection: C, most: int) -> bool:
        """Counts a new connection; False where there are `most` and none of them can make room."""
        if len(self._open) >= most and not make_room((self,), connection.holder):
            return False
        self._open[connection] = None
        return True

    def forget(self, connection: C) -> None:
        """The connection is closed, or as good as closed."""
        self._open.pop(connection, None)


def make_room(tables: Iterable[Table[Any]], newcomer: str) -> bool:
    """Drops the most silent connection of the holder of most, for a new one whose holder is `newcomer`; False where none may go.

    None of a holder goes for one who holds more, and no busy one for one who holds as much. On this machine each connection is a holder of
    its own, so that no busy one goes at all.
    """
    seen = [(table, connection) for table in tables for connection in table]
    held = Counter(connection.holder for _, connection in seen)
    held[""] = 1
    own = held[newcomer] + 1 if newcomer else 1
    best, chosen = (0, False, 0.0), None
    for table, connection in seen:
        count, since, busy = held[connection.holder], connection.silent_since, connection.busy
        if since is None or (count < own and connection.holder != newcomer) or (busy and count <= own):
            continue
        if chosen is None or (count, not busy, -since) > best:
            best, chosen = (count, not busy, -since), (table, connection)
    if chosen is None:
        return False
    chosen[1].drop()
    chosen[0].forget(chosen[1])
    return True


class ClientConnection(Connection, Protocol):
    """A connection to the proxy, as those see it who end it."""

    def finish(self, patience: float) -> None:
        """The next answer is its last one; the request for that is waited for at most `patience` seconds."""
        ...


class Connections(Table[ClientConnection]):
    """All connections of the proxy's listeners, and what their requests share."""

    def __init__(self, handler: ExchangeHandler, limits: Limits | None = None, lane: Lane | None = None) -> None:
        super().__init__()
        self.handler = handler
        self.limits = limits or Limits()
        self.lane = lane
        self._refused: set[ClientConnection] = set()
        self._all_gone: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._date = ""
        self._date_until = 0.0

    def may_be_told(self, connection: ClientConnection) -> bool:
        """Whether a connection beyond the limit is still told so: only so many are, the others are closed without an answer."""
        if len(self._refused) >= _MOST_REFUSED:
            return False
        self._refused.add(connection)
        return True

    def forget(self, connection: ClientConnection) -> None:
        super().forget(connection)
        self._refused.discard(connection)
        if not self._open and self._all_gone is not None:
            self._all_gone.set()

    def watch(self, task: asyncio.Task[None]) -> None:
        """Keeps a request's task alive until it is done, and makes `drain` wait for it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def finish(self, patience: float = 0.0) -> None:
        """Has each connection that is open end with its next answer; where nothing is asked, after `patience` seconds."""
        for connection in self:
            connection.finish(patience)

    async def drain(self, grace: float) -> None:
        """Each connection has one answer more, whose request is waited for a moment: one on its way when the end began is not lost. What is
        left after `grace` seconds ends by a reset.
        """
        self._all_gone = asyncio.Event()
        self.finish(min(self.limits.drain_timeout, grace))
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
