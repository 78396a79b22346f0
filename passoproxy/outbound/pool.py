"""Connections to one origin, kept for the next request: at most so many, the longest rested first, none that anything arrived on.

How an origin is reached is in `dial`, what happens on a connection in `connection`.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque

from passoproxy.errors import ConnectFailed, ConnectTimeout, OriginUnreachable, Overloaded
from passoproxy.outbound.connection import Connection, Limits
from passoproxy.outbound.dial import Dialer, DialFailed, Endpoint
from passoproxy.outbound.response_parser import require_native_parser

_SHORTER_AT_LIMIT = 5
"""So much shorter is the rest of a connection (`Limits.settling`) if no other can be opened: else 32 of them carry 3,200 requests a second at most."""


class Pool:
    """At most `max_connections` to the dialer's endpoint. If none is free, requests wait in turn, for the dialer's timeout at most.

    Raises PassoproxyError if aiohttp's C parser is missing.
    """

    def __init__(self, dialer: Dialer, *, max_connections: int = 32, limits: Limits | None = None) -> None:
        require_native_parser()
        self._dialer = dialer
        self.authority = dialer.endpoint.authority
        """What stands in `Host`."""
        self._max = max_connections
        self._limits = limits or Limits()
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._places = 0
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._resting: asyncio.TimerHandle | None = None
        self._closed = False
        self._distrusts_until = -math.inf

    @property
    def endpoint(self) -> Endpoint:
        return self._dialer.endpoint

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def open(self) -> int:
        """Connections, idle or in use."""
        return len(self._open)

    def reconfigure(self, dialer: Dialer, *, max_connections: int, limits: Limits) -> None:
        """New connections to the same endpoint follow the new settings; the old ones end with their message or their age."""
        self._dialer, self._max, self._limits = dialer, max_connections, limits
        self._hand_out()

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """A connection for one exchange, which has to begin before anything else is awaited; `fresh` asks for one never used before.

        Raises OriginUnreachable, OriginTimeout, or Overloaded if none came free in time.
        """
        if fresh:
            if self._places >= self._max and self._idle:
                self._idle.popleft().close()
        elif (kept := self.kept()) is not None:
            return kept
        if self._places < self._max and not self._closed:
            self._places += 1
            return await self._dial()
        return await self._wait(fresh)

    def kept(self) -> Connection | None:
        """The connection that was idle for longest, if it need not rest any longer, and no request waits for it: as `acquire`, without waiting."""
        idle = self._idle
        if idle and not self._waiting:
            rest = self._rest
            while idle and idle[0].rested >= rest:
                connection = idle.popleft()
                if connection.usable:
                    return connection
                connection.close()
        return None

    @property
    def _rest(self) -> float:
        """How long a connection rests now before it is used again: in full while another can be opened."""
        settling = self._limits.settling
        return settling if self._places < self._max else settling / _SHORTER_AT_LIMIT

    async def _wait(self, fresh: bool) -> Connection:
        if self._closed:
            raise self._stopping()
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._hand_out()
        try:
            async with asyncio.timeout(self._dialer.timeout):
                connection = await turn
        except BaseException as error:
            self._leave(turn)
            if isinstance(error, TimeoutError):
                text = f"all {self._max} connections to {self.authority} are in use; see upstream.max_connections"
                raise Overloaded(text) from error
            raise
        if connection is None:  # a place, but no connection in it
            return await self._dial()
        if connection.usable and not fresh:
            return connection
        if connection.ended:  # its place went to another waiter already
            return await self.acquire(fresh=fresh)
        self._places += 1  # its place stays taken, so that no later waiter gets it
        connection.close()
        return await self._dial()

    def _leave(self, turn: asyncio.Future[Connection | None]) -> None:
        """Gives back what a waiter was given in the very moment in which it gave up."""
        if not turn.done() or turn.cancelled():
            if turn in self._waiting:
                self._waiting.remove(turn)
            return
        connection = turn.result()
        if connection is None:
            self._free_place()
        else:
            self.released(connection)

    async def _dial(self) -> Connection:
        """A new connection in a place that is taken already."""
        loop = asyncio.get_running_loop()
        limits, peer = self._limits, self.authority
        try:
            connection = await self._dialer.dial(lambda: Connection(loop, peer, limits, self))
        except DialFailed as failure:
            self._free_place()
            kind = ConnectTimeout if failure.timed_out else ConnectFailed
            raise kind(str(failure)) from failure
        except BaseException:
            self._free_place()
            raise
        self._open.add(connection)
        if self._closed:
            connection.abort()
            self.gone(connection)
            raise self._stopping()
        if connection.ended:  # before it was counted
            self.gone(connection)
            raise ConnectFailed(f"{peer} accepted a connection and closed it at once; check what runs there")
        return connection

    def _stopping(self) -> OriginUnreachable:
        return OriginUnreachable("passoproxy is stopping; ask again when it has started")

    # ---- called by connections

    def unasked(self, connection: Connection) -> None:
        """Something arrived on it outside an answer; it ends."""
        self._distrusts_until = asyncio.get_running_loop().time() + self._limits.distrust
        self._drop_idle(connection)

    def silent(self) -> None:
        """An answer did not come in time on one of them: the origin's address may have moved, or the way be gone, and each idle one would cost
        another request as much time."""
        self._drop_idle()

    def _drop_idle(self, but: Connection | None = None) -> None:
        for kept in list(self._idle):
            if kept is not but:
                kept.close()

    def released(self, connection: Connection) -> None:
        """It is idle and may carry another request."""
        if asyncio.get_running_loop().time() < self._distrusts_until and connection.served:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:
            connection.close()
        if self._waiting:
            self._hand_out()

    def gone(self, connection: Connection) -> None:
        """It ended; called once, as the last call."""
        if connection in self._idle:
            self._idle.remove(connection)
        if connection in self._open:
            self._open.discard(connection)
            self._free_place()

    def _free_place(self) -> None:
        self._places -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        """Gives waiters what there is: a connection that has rested, or a place for a new one."""
        while self._waiting and not self._closed:
            if self._waiting[0].done():
                self._waiting.popleft()
            elif self._idle and self._idle[0].rested >= self._rest:
                connection = self._idle.popleft()
                if connection.usable:
                    self._waiting.popleft().set_result(connection)
                else:
                    connection.close()  # which hands its place out
            elif self._places < self._max:
                self._places += 1
                self._waiting.popleft().set_result(None)
            else:
                break
        if self._waiting and self._idle and self._resting is None and not self._closed:
            left = self._rest - self._idle[0].rested
            self._resting = asyncio.get_running_loop().call_later(left, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self._hand_out()

    async def close(self) -> None:
        """Ends every connection; exchanges under way break, waiters get OriginUnreachable."""
        self._closed = True
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(self._stopping())
        self._waiting.clear()
        for connection in list(self._idle):
            connection.close()
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)
