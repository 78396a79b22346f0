"""A client's connection to the proxy listener: bytes in, one request after the other, bytes out; and what all of them share.

A connection owns the deadlines, the limits and the order of answers. What a request means is the handler's business, its bytes are read in
`request` and written in `response`. One request is handled at a time: what a client sends ahead waits, bounded, so answers leave in order.

    CONNECTING ──▶ WAITING ──▶ HEAD ──▶ HANDLING ──▶ WAITING         the next request
                      └───────────────────▲    ├───▶ SKIPPING ──▶ WAITING   after the rest of a body that was not read
                                               └───▶ LINGERING ──▶ CLOSED   after the last answer, while bytes are unread

A connection is in one phase, and one deadline at a time watches it (`_expired`). A hit from memory is answered within `data_received`; any
other request in a task of its own.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum, auto
from time import perf_counter
from typing import cast

from passoproxy.core.access import holder_of
from passoproxy.core.http.framing import Chunked, NoBody, Sized
from passoproxy.core.http.syntax import print_date
from passoproxy.errors import BadRequest, BodyTooLarge, Overloaded, Refusal, RequestTimeout
from passoproxy.ports import NO_BODY, Body, BytesBody, Client, Request
from passoproxy.server.acceptor import SILENT_SECONDS, Table
from passoproxy.server.handler import Handler
from passoproxy.server.memo import Basis, Memo
from passoproxy.server.request import (
    HeadGatherer,
    Pace,
    Received,
    RequestBody,
    receive,
)
from passoproxy.server.response import Exchange, head_bytes
from passoproxy.values import dataclass

_MOST_REFUSED = 64


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


class Connections(Table["ProxyConnection"]):
    """All connections of the proxy's listeners, and what their requests share."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits | None = None,
        basis: Basis | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Without a `basis` every request takes the whole road."""
        super().__init__()
        self._wall = wall
        self.handler = handler
        self._basis = basis
        self.memo = None if basis is None else Memo(basis)
        self._limits = limits or Limits()
        self._refused: set[ProxyConnection] = set()
        self._all_gone: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._date = ""
        self._date_until = 0.0

    @property
    def limits(self) -> Limits:
        """Those of new connections; may be set at any time. What was learnt under others as to size is not for them."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        before, self._limits = self._limits, limits
        if (before.header_bytes, before.body_bytes) == (limits.header_bytes, limits.body_bytes):
            return
        if self._basis is not None and self.memo is not None:
            self.memo.close()
            self.memo = Memo(self._basis)

    def may_be_told(self, connection: ProxyConnection) -> bool:
        """Whether a connection beyond the limit is still told so: only so many are, the others are closed without an answer."""
        if len(self._refused) >= _MOST_REFUSED:
            return False
        self._refused.add(connection)
        return True

    def forget(self, connection: ProxyConnection) -> None:
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
        """Each connection has one answer more, whose request is waited for a moment: a request that was on its way when the end began is not
        lost. What is left after `grace` seconds ends by a reset.
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
            for task in self._tasks:
                if task.cancelling():  # it goes on for the origin's sake, though its client has left
                    task.cancel()
            await asyncio.wait(self._tasks)

    def date(self) -> str:
        """The time as `Date` prints it, made once a second."""
        now = self._wall()
        if not self._date_until - 1 <= now < self._date_until:
            self._date, self._date_until = print_date(now), now // 1 + 1
        return self._date


_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AHEAD_BYTES = 64 * 1024  # of further requests, held while one is handled
_UNTAKEN_BYTES = 64 * 1024  # written and not taken, beyond which nothing more is written
_UNREAD_BYTES = 64 * 1024  # of a body that was not read, taken to keep the connection
_LINGER_BYTES = 4 * 1024 * 1024  # thrown away so that an early answer arrives before the reset that unread bytes cause
_SLOW_BODY = "the request's body stopped arriving, or came at less than server.limits.min_rate ({} bytes a second)"
_RESET = struct.pack("ii", 1, 0)


class _Phase(Enum):
    CONNECTING = auto()  # taken, and not yet ours: in a TLS handshake
    WAITING = auto()  # for the first byte of a head
    HEAD = auto()  # a head has begun
    HANDLING = auto()  # a task answers a request; its body may still arrive
    SKIPPING = auto()  # answered; the rest of a body that was not read arrives
    LINGERING = auto()  # the last answer is written; what arrives is thrown away
    CLOSED = auto()


_WAITING = _Phase.WAITING  # an enum's member costs a call to find
_JOINED_BYTES = 16 * 1024  # of a body that are copied behind their head; more is cheaper as two parts


class Deadline:
    """Calls `on_expiry` once the time last set is up. Cheap to move: setting it later touches no timer."""

    __slots__ = ("_at", "_loop", "_on_expiry", "_timer", "set_at")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expiry: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expiry = on_expiry
        self._at = math.inf
        self.set_at = loop.time()
        """When it was last set, by the loop's time; when it was made, if never."""
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Expires `seconds` from now, whatever was set before."""
        self.set_at = self._loop.time()
        self._at = at = self.set_at + seconds
        timer = self._timer
        if timer is not None:
            if timer.when() <= at:
                return
            timer.cancel()
        self._timer = self._loop.call_at(at, self._fired)

    def lift(self) -> None:
        """Does not expire until set again."""
        self._at = math.inf

    def close(self) -> None:
        """Never expires any more, and lets go of whom it would have called: the two no longer hold one another."""
        self._at = math.inf
        self._on_expiry = lambda: None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fired(self) -> None:
        self._timer = None
        if self._at == math.inf:
            return
        # A timer may fire a clock tick early; what remains is waited for, and a loop that is late loses nothing.
        if self._loop.time() < self._at - 0.001:
            self._timer = self._loop.call_at(self._at, self._fired)
            return
        self._at = math.inf
        self._on_expiry()


class ProxyConnection(asyncio.Protocol):
    """One connection of a client."""

    __slots__ = (
        "_aborted",
        "_ahead",
        "_began_at",
        "_body",
        "_client",
        "_deadline",
        "_heads",
        "_hit_at",
        "_input_ended",
        "_is_overload",
        "_later",
        "_limits",
        "_lingered",
        "_loop",
        "_memo",
        "_owes_continue",
        "_patience",
        "_phase",
        "_reading",
        "_room",
        "_scheme",
        "_served",
        "_shared",
        "_socket",
        "_task",
        "_transport",
        "_untaken",
        "_waiting_since",
        "crowded",
        "date",
        "holder",
        "write",
    )

    def __init__(self, shared: Connections, sock: socket.socket, address: str) -> None:
        self._shared = shared
        self.date = shared.date
        self._limits = shared.limits
        self._memo = shared.memo
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._expired)
        self._heads = HeadGatherer(shared.limits.header_bytes)
        self._transport = cast(asyncio.Transport, None)
        self._client = Client(address)
        self.holder = holder_of(address)
        self._is_overload = False
        self._scheme = "http"
        self._phase = _Phase.CONNECTING
        self._began_at = 0.0
        self._hit_at = -math.inf  # when a hit was answered that did not move the deadline
        self._served = False
        self._ahead = b""
        self._later = b""
        self._task: asyncio.Task[None] | None = None
        self._body: RequestBody | None = None
        self._waiting_since = 0.0
        self._owes_continue = False
        self._input_ended = False
        self._aborted = False
        self._reading = True
        self.crowded = False
        self._untaken = 0
        self._room: asyncio.Future[None] | None = None
        self._lingered = 0
        self._patience: float | None = None  # for the last request; None while there may be many

    # ---- coming and going ----------------------------------------------------------------------------------------------

    @classmethod
    def admitted(cls, shared: Connections, sock: socket.socket, address: str) -> ProxyConnection | None:
        """One for a peer that may connect, counted from now on; None for one beyond the limit that cannot even be told so."""
        connection = cls(shared, sock, address)
        connection._is_overload = not shared.admit(connection, shared.limits.connections)
        return connection if not connection._is_overload or shared.may_be_told(connection) else None

    def begun(self) -> None:
        """The loop has connected it, or never will: the handshake failed, or the peer left during it."""
        if self._transport is None:
            self._phase = _Phase.CLOSED
            self._shared.forget(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.write: Callable[[bytes | memoryview], None] = self._transport.write
        if self._phase is _Phase.CLOSED:  # dropped meanwhile
            self._transport.abort()
            return
        self._phase = _Phase.WAITING
        self._began_at = perf_counter()  # of finer grain than a loop's time
        if transport.get_extra_info("sslcontext") is not None:
            self._scheme = "https"
            self._transport.set_write_buffer_limits(_UNTAKEN_BYTES)
            # Half a mebibyte by default, and not in typeshed's Transport.
            self._transport.set_read_buffer_limits(_AHEAD_BYTES)  # type: ignore[attr-defined]
        if self._is_overload:
            self._refuse(Overloaded("server.limits.connections is reached"))
        else:
            self._deadline.set(self._limits.header_timeout if self._patience is None else self._patience)

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = _Phase.CLOSED
        self._deadline.close()
        if self._body is not None and not self._body.complete:
            self._body.end_early()
        task = self._task
        # The answer has no reader any more; work that must not stop is shielded further in. A task that broke the connection itself is
        # about to end, and tells its own event.
        if task is not None:
            self._shared.watch(task)
            if not self._aborted:
                task.cancel()
        self._shared.forget(self)

    def eof_received(self) -> bool:
        """Half-closed: what was asked is still answered, if the transport can (TLS cannot)."""
        self._input_ended = True
        match self._phase:
            case _Phase.HEAD:
                self._refuse(BadRequest("the connection ended within a request's head"))
            case _Phase.HANDLING:
                if self._body is not None and not self._body.complete:
                    self._body.end_early()
            case _:
                return False
        return self._scheme != "https"

    @property
    def silent_since(self) -> float | None:
        """See `acceptor.Connection`: kept ones may go at once, others when nothing came for a second."""
        if self._phase is _Phase.HANDLING and self._room is None and (self._body is None or not self._body.waiting):
            return None
        since = max(self._deadline.set_at, self._loop.time() - (perf_counter() - self._hit_at))
        kept = (self._served or self._hit_at > 0.0) and self._phase is _Phase.WAITING and not self.crowded
        return since if kept or self._loop.time() - since > SILENT_SECONDS else None

    @property
    def busy(self) -> bool:
        """See `acceptor.Connection`."""
        return self._phase in (_Phase.HANDLING, _Phase.SKIPPING) or (self._phase is _Phase.WAITING and self.crowded)

    def finish(self, patience: float) -> None:
        """The next answer is the last one; its request is waited for at most `patience` seconds."""
        self._patience = patience
        if self._phase is _Phase.WAITING and not self.crowded:
            self._wait()

    def _wait(self) -> None:
        """For a request."""
        if self._patience is None:
            self._deadline.set(self._limits.idle_timeout)
        elif self._patience > 0:
            self._deadline.set(self._patience)
        else:
            self._close()

    def drop(self) -> None:
        """See `acceptor.Connection`."""
        if self._transport is not None:
            self._transport.abort()
            return
        self._phase = _Phase.CLOSED
        with suppress(OSError):  # its peer has left already
            self._socket.shutdown(socket.SHUT_RDWR)

    # ---- bytes in ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._later:
            self._later += data
        elif self._phase is _WAITING:
            began = self._began_at = perf_counter()
            memo = self._memo
            if (
                memo is not None
                and not self.crowded
                and self._patience is None
                and (answer := memo.find(data, self._scheme)) is not None
            ):
                body = answer.body
                if len(body) > _JOINED_BYTES:
                    self._transport.writelines((answer.head, body))
                else:
                    self.write(answer.head + body)
                self._hit_at = began
                memo.tell(answer, data, self._client.address, began)
            else:
                self._read_head(data)
        elif self._phase is _Phase.HEAD:
            self._read_head(data)
        elif self._phase is _Phase.LINGERING:
            self._lingered += len(data)
            if self._lingered > _LINGER_BYTES:
                self._close()
        elif self._phase is not _Phase.CLOSED:
            self._read_on(data)

    def _read_head(self, data: bytes) -> None:
        head = b""
        try:
            gathered = self._heads.take(data)
            if gathered is not None:
                head, rest = gathered
                lone = data if self._phase is _WAITING and len(data) == len(head) + len(rest) else b""
                self._begin(receive(head, self._scheme), rest, lone)
            elif self._phase is _Phase.WAITING and self._heads.begun:
                self._phase = _Phase.HEAD
                self._deadline.set(self._limits.header_timeout)
        except Refusal as refusal:
            self._refuse(refusal, head)

    def _begin(self, received: Received, rest: bytes, lone: bytes) -> None:
        """`lone` is what came if the head was whole in one read."""
        if isinstance(received.framing, NoBody):
            self._ahead, body = rest, cast(Body, NO_BODY)
        else:
            body = self._body_of(received, received.framing, rest)
        exchange = Exchange(self, received, body, self._client, self._began_at)
        self._phase = _Phase.HANDLING
        request = self._shared.handler.begin(exchange)
        if request is None and not (self.crowded or self._ahead or exchange.will_close or self._input_ended):
            self._served = True
            self._body = None
            self._phase = _Phase.WAITING
            self._hit_at = perf_counter()
            if lone and self._memo is not None:
                self._memo.learn(lone, exchange)
            return
        self._deadline.lift()
        self._task = self._loop.create_task(self._run(exchange, request))

    def _body_of(self, received: Received, framing: Sized | Chunked, rest: bytes) -> Body:
        if isinstance(framing, Sized):
            if framing.length > self._limits.body_bytes:
                raise BodyTooLarge(
                    f"the body is larger than server.limits.body_bytes ({self._limits.body_bytes} bytes)"
                )
            if framing.length <= len(rest):
                self._ahead = rest[framing.length :]
                return BytesBody(rest[: framing.length])
        limits = self._limits
        pace = Pace(limits.min_rate, limits.body_timeout, limits.rate_grace)
        self._body = RequestBody(framing, self._body_wanted, self._pause, limits.body_bytes, limits.header_bytes, pace)
        self._owes_continue = received.expects_continue
        if rest:
            self._read_on(rest)
        if self._input_ended and not self._body.complete:  # it ended while an earlier request was answered
            self._body.end_early()
        return self._body

    def _read_on(self, data: bytes) -> None:
        body = self._body
        if body is not None and not body.complete:
            if body.fault is not None:
                return
            self._owes_continue = False
            was_awaited = body.waiting or self._phase is _Phase.SKIPPING
            size = len(data)
            data = body.feed(data)
            if body.unread:
                self._later = body.unread
                self._pause()
                self._loop.call_soon(self._read_later)
            body.pace.note(
                size - len(data) - len(self._later), self._loop.time() - self._waiting_since if was_awaited else 0.0
            )
            if body.waiting or self._phase is _Phase.SKIPPING:
                self._await(body)
            elif was_awaited:
                self._deadline.lift()
        self._ahead += data
        if self._phase is _Phase.SKIPPING:
            if body is not None and body.complete:
                self._next()
        elif len(self._ahead) > _AHEAD_BYTES:
            self._pause()

    def _read_later(self) -> None:
        later, self._later = self._later, b""
        self._resume()
        self.data_received(later)

    # ---- from one request to the next ----------------------------------------------------------------------------------

    async def _run(self, exchange: Exchange, request: Request | None) -> None:
        try:
            if request is not None:
                await self._shared.handler.handle(exchange, request)
            if self.crowded and self._phase is not _Phase.CLOSED:
                await self.room()  # no further request of a client that does not take its answers
        finally:
            self._task = None
            if self._phase is not _Phase.CLOSED:
                self._answered(exchange)

    def _answered(self, exchange: Exchange) -> None:
        self._served = True
        body = self._body
        if not exchange.begun:
            self.abort()
        elif exchange.will_close or (body is not None and body.fault is not None):
            self._end(unread=bool(self._ahead) or (body is not None and not body.complete))
        elif body is not None and not body.complete:
            body.discard()
            self._phase = _Phase.SKIPPING
            self._await(body)
            self._resume()
        else:
            self._next()

    def _next(self) -> None:
        self._body = None
        self._phase = _Phase.WAITING
        ahead, self._ahead = self._ahead, b""
        if ahead:
            self._began_at = perf_counter()
            self._read_head(ahead)
        if self._phase is _Phase.HEAD and self._input_ended:
            self._refuse(BadRequest("the connection ended within a request's head"))
        elif self._phase is _Phase.WAITING:
            if self._input_ended:
                self._close()
                return
            self._wait()
        if len(self._ahead) <= _AHEAD_BYTES:
            self._resume()

    def _refuse(self, refusal: Refusal, head_read: bytes = b"") -> None:
        response = self._shared.handler.refuse(refusal, self._client.address)
        data = response.body.data if isinstance(response.body, BytesBody) else b""
        framing = (f"Content-Length: {len(data)}", "Connection: close")
        head = head_bytes(response.head, framing, self._shared.date())
        head_only = head_read.startswith(b"HEAD ") or self._heads.asks_for_head_only
        self._transport.write(head if head_only else head + data)
        self._end(unread=True)

    def _end(self, *, unread: bool) -> None:
        self._ahead = b""
        if not unread or self._input_ended:
            self._close()
            return
        # Closing with bytes unread makes the kernel send a reset, which can overtake the answer: so they are read and thrown away.
        self._phase = _Phase.LINGERING
        self._deadline.set(self._limits.linger_timeout)
        self._resume()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _close(self) -> None:
        self._phase = _Phase.CLOSED
        self._transport.close()
        self._await_taking()

    def _expired(self) -> None:
        match self._phase:
            case _Phase.HEAD:
                self._refuse(RequestTimeout("the request's head did not arrive within server.limits.header_timeout"))
            case _Phase.HANDLING if self._body is not None and self._body.waiting:
                self._body.fail(RequestTimeout(_SLOW_BODY.format(self._limits.min_rate)))
            case _Phase.WAITING | _Phase.HANDLING if self.crowded:
                self._look_at_taking()
            case _Phase.CLOSED:
                self._look_at_taking()
            case _Phase.WAITING if self._patience is None and (left := self._idle_left()) > 0.0:
                self._deadline.set(left)
            case _:
                self._close()

    def _idle_left(self) -> float:
        return self._hit_at + self._limits.idle_timeout - perf_counter()

    # ---- what a body wants ---------------------------------------------------------------------------------------------

    def _body_wanted(self) -> None:
        """Reads on, counts the time, and sends the 100 that the client may wait for."""
        if self._owes_continue:
            self._owes_continue = False
            self._transport.write(_CONTINUE)
        self._resume()
        self._await(cast(RequestBody, self._body))

    def _await(self, body: RequestBody) -> None:
        self._waiting_since = self._loop.time()
        self._deadline.set(body.pace.patience)

    # ---- bytes out -----------------------------------------------------------------------------------------------------

    def writelines(self, parts: Iterable[bytes | memoryview]) -> None:
        self._transport.writelines(parts)

    async def room(self) -> None:
        """Returns when the client has taken enough of what was written."""
        if not self.crowded:
            return
        self._await_taking()
        self._room = self._loop.create_future()
        try:
            await self._room
        finally:
            self._room = None
            self._deadline.lift()

    def keeps_on(self, wanted: bool) -> bool:
        """Whether the connection will take another request after this answer; asked once, when the head is written."""
        if not wanted or self._patience is not None or (self._input_ended and not self._ahead):
            return False
        body = self._body
        if body is None or body.complete:
            return True
        # A client that still waits for its 100 may or may not send the body now (RFC 9110 §10.1.1): only closing is clear.
        return not self._owes_continue and body.fault is None and body.left is not None and body.left <= _UNREAD_BYTES

    def abort(self) -> None:
        """Ends the connection by a reset, so that what was sent is not taken for the whole."""
        self._aborted = True
        self._phase = _Phase.CLOSED
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _await_taking(self) -> None:
        self._untaken = self._transport.get_write_buffer_size()
        self._deadline.set(self._limits.write_timeout)

    def _look_at_taking(self) -> None:
        """Waits on for a client that has taken something since the last look, however little; drops one that has not."""
        if self._transport.get_write_buffer_size() < self._untaken:
            self._await_taking()
        else:
            self.drop()

    def pause_writing(self) -> None:
        self.crowded = True
        if (
            self._body is None or self._body.complete
        ):  # what is not read makes nothing to write, TLS's own messages included
            self._pause()
        if self._phase is _Phase.WAITING:  # a hit that the client does not take
            self._await_taking()

    def resume_writing(self) -> None:
        self.crowded = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if len(self._ahead) <= _AHEAD_BYTES and (self._body is None or self._body.complete):
            self._resume()
        if self._phase is _Phase.WAITING:
            self._wait()

    def _pause(self) -> None:
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._reading and not self._later and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
