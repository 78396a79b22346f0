"""One connection to the origin: sends a request, reads its answer exactly to its end, and knows whether it may carry another request.

Anything that arrives outside an answer ends the connection (contract §5). Which connection carries what is decided in `pool`; what a fault
means for a request that was sent, in `origin`.
"""

from __future__ import annotations

import asyncio
import enum
import math
import select
import ssl
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, cast

from passoproxy.core.http.framing import NoBody, Sized, response_framing
from passoproxy.core.http.messages import ResponseHead
from passoproxy.errors import (
    BadRequest,
    BodyBroken,
    ConnectionDropped,
    OriginInvalid,
    OriginTimeout,
    OriginUnreachable,
    PassoproxyError,
    Refusal,
)
from passoproxy.outbound.response_parser import AnswerBody, AnswerHead, BodyInvalid, HeadReader
from passoproxy.ports import Body, BytesBody, Response, Trail
from passoproxy.values import dataclass

if TYPE_CHECKING:
    from passoproxy.outbound.pool import Pool


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one connection. Times are seconds; `read_timeout` bounds the silence between reads and the whole head of an answer."""

    read_timeout: float = 30.0
    header_bytes: int = 32 * 1024
    max_age: float = 300.0
    idle_timeout: float = 60.0
    held_bytes: int = 256 * 1024
    """Bytes of an answer that may wait for their reader; with more, reading from the origin pauses."""
    interim_heads: int = 32
    settling: float = 0.01
    """Rest before a connection is used again (meanwhile another is opened or, at the pool's limit, a fifth of it is waited for): an answer sent
    twice arrives within it, and ends the connection instead of answering the next request."""
    distrust: float = 60.0
    """For so long after anything arrived outside an answer, no connection carries a second request: bytes that arrive after the next request was
    sent could not be told from its answer."""


_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})


def encoded(lines: list[str], method: str, body: Body) -> bytes:
    """A head as it goes onto the wire: request line and field `lines`, to which those that frame `body` are added. Values go out as the bytes
    that came in.

    Raises BadRequest if a part would break out of its line: a second guard, after the checks of `access`.
    """
    if body.length is None:
        lines.append("Transfer-Encoding: chunked")
    elif body.length or method in _WITH_CONTENT:
        lines.append(f"Content-Length: {body.length}")
    text = "\r\n".join(lines) + "\r\n\r\n"
    # Every line ends in CR LF and nothing else does: a CR, LF or NUL within a part shows in the count.
    ends = len(lines) + 1
    if text.count("\n") != ends or text.count("\r") != ends or "\0" in text or lines[0].count(" ") != 2:
        raise BadRequest(
            "a part of the request would break the message toward the origin; send it without control characters"
        )
    return text.encode("utf-8", "surrogateescape")


async def framed(body: Body) -> AsyncIterator[bytes]:
    """The body's parts as they go onto the wire. Raises BodyBroken if it is not as long as it said, and what `body` raises."""
    left = body.length or 0
    is_chunked = body.length is None
    async for part in body:
        if is_chunked:
            if part:  # an empty chunk would end the body
                yield b"%x\r\n%b\r\n" % (len(part), part)
            continue
        left -= len(part)
        if left < 0:
            break
        yield part
    if left:
        raise BodyBroken("the request's body is not as long as it said")
    if is_chunked:
        yield b"0\r\n\r\n"


class _State(enum.Enum):
    IDLE = enum.auto()
    AWAITING = enum.auto()
    READING = enum.auto()
    ENDED = enum.auto()


_IDLE, _AWAITING, _READING, _ENDED = _State
"""As names of the module, because a lookup in the enumeration is slow."""


class _Call:
    """One request on a connection, and what came of it: the answer, or why there is none."""

    __slots__ = ("interim_heads", "method", "on_interim", "outcome", "waiter")

    def __init__(self, method: str, on_interim: Callable[[ResponseHead], None] | None) -> None:
        self.method, self.on_interim = method, on_interim
        self.interim_heads = 0
        self.outcome: Response | Exception | None = None
        self.waiter: asyncio.Future[None] | None = None

    def settle(self, outcome: Response | Exception) -> None:
        """Tells the one who waits for it."""
        self.outcome = outcome
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Connection(asyncio.Protocol):
    """Carries one request at a time. `peer` names the origin in faults."""

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: str, limits: Limits, pool: Pool) -> None:
        self.peer = peer
        self.served = 0
        """Answers read to their end."""
        self._loop = loop
        self._limits = limits
        self._pool = pool
        self._state = _IDLE
        self._transport: asyncio.Transport | None = None
        self._poller = select.poll()
        self._reader = HeadReader(loop, peer, limits.header_bytes)
        self._call: _Call | None = None
        self._sending: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._body: AnswerBody | None = None
        self._keep_alive = False
        self._paused = False
        self._deadline = math.inf
        self._rests_since = -math.inf
        self._dies_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    # ---- for the pool

    @property
    def usable(self) -> bool:
        """Whether a request may be sent on it now: idle, young enough, and not a byte nor an end waiting in the socket."""
        return (
            self._state is _IDLE
            and self._transport is not None
            and not self._transport.is_closing()
            and self._loop.time() < self._deadline
            and not self._poller.poll(0)
        )

    @property
    def rested(self) -> float:
        """Seconds since its last answer was read to its end."""
        return self._loop.time() - self._rests_since

    @property
    def ended(self) -> bool:
        return self._state is _ENDED

    def abort(self) -> None:
        """Ends it at once; what was under way breaks."""
        self._end(OriginUnreachable(f"the connection to {self.peer} was closed from this side"))

    async def exchange(
        self,
        method: str,
        head: bytes,
        body: Body,
        on_interim: Callable[[ResponseHead], None] | None = None,
        trail: Trail | None = None,
    ) -> Response:
        """Sends a request and gives the answer as soon as its head is there. Raises a Refusal, or what the request's body raised.

        The connection goes back to the pool by itself once the answer was read to its end and the request was sent whole. Cancelled, it breaks the
        connection; but if its trail says that it `stays`, it goes on the first time, and the answer has `read_timeout` seconds more to its end.
        """
        assert self._transport is not None
        self._state = _AWAITING
        self._call = call = _Call(method, on_interim)
        if isinstance(body, BytesBody):
            self._transport.write(head + body.data if body.data else head)
            self._await_read()
        else:
            self._transport.write(head)
            self._deadline = math.inf
            self._sending = self._loop.create_task(self._send(body))
        while call.outcome is None:
            call.waiter = self._loop.create_future()
            try:
                await call.waiter
            except asyncio.CancelledError:
                if trail is not None and trail.stays and not trail.left:
                    trail.left = True
                    if self._call is call:  # else its answer is complete, and the time would be that of another request
                        self._loop.call_later(self._limits.read_timeout, self._give_up, self.served)
                    continue
                if self._call is call:
                    self.abort()
                raise
        answer = call.outcome
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer.body, AnswerBody):
            fault = answer.body.fault
            if isinstance(fault, BodyInvalid):  # known while a refusal can still be sent
                raise OriginInvalid(str(fault)) from fault
            whole = answer.body.whole()
            return answer if whole is None else Response(answer.head, whole)
        return answer

    def _give_up(self, served: int) -> None:
        """The time for an answer that no client waits for is over; until then so many answers had been read."""
        if self.served == served and self._state in (_AWAITING, _READING):
            self.abort()

    # ---- sending

    async def _send(self, body: Body) -> None:
        fault: Exception | None = None
        try:
            async for part in framed(body):
                self._write(part)
                if self._drained is not None:
                    self._await_read()
                    await self._drained
                    self._deadline = math.inf
        except Exception as error:  # raised by the client's body: `exchange` raises it
            fault = error
        if self._sending is None:  # the answer came first: the rest is not sent
            return
        self._sending = None
        if fault is None:
            self._await_read()
        else:
            self._end(fault)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # ---- reading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._poller.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        now = self._loop.time()
        self._dies_at = now + self._limits.max_age
        self._rest(now)
        self._arm(now)

    def data_received(self, data: bytes) -> None:
        if self._state is _READING:
            assert self._body is not None
            self._await_read()
            self._take(self._body, data)
        elif self._state is _AWAITING:
            try:
                self._take_head(data)
            except PassoproxyError as fault:
                self._end(fault)
        elif self._state is _IDLE:
            self._pool.unasked(self)
            self.abort()

    def _take_head(self, data: bytes) -> None:
        while (found := self._reader.feed(data)) is not None:
            head, data = found
            if head.status >= 200:
                self._begin(head, data)
                return
            self._take_interim(head)
            if not data:
                return

    def _take_interim(self, head: AnswerHead) -> None:
        call = self._call
        assert call is not None
        call.interim_heads += 1
        if call.interim_heads > self._limits.interim_heads:
            raise OriginInvalid(
                f"{self.peer} sent more than {self._limits.interim_heads} interim answers to one request"
            )
        if self._sending is None:
            self._await_read()
        if head.status in (102, 103) and call.on_interim is not None:
            call.on_interim(ResponseHead(head.status, head.fields))

    def _begin(self, head: AnswerHead, rest: bytes) -> None:
        call = self._call
        assert call is not None
        framing = response_framing(call.method, head.version, head.status, head.fields)
        self._keep_alive = head.keep_alive
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
            self._keep_alive = False
        answer = ResponseHead(head.status, head.fields)
        length = framing.length if isinstance(framing, Sized) else 0 if isinstance(framing, NoBody) else None
        if length is not None and length <= len(rest):  # all of it came at once, as most answers do
            call.settle(Response(answer, BytesBody(rest[:length])))
            self._complete(excess=length < len(rest))
            return
        self._state = _READING
        self._body = AnswerBody(self, framing, self._limits.header_bytes)
        call.settle(Response(answer, self._body))
        self._await_read()
        if rest:
            self._take(self._body, rest)

    def _take(self, body: AnswerBody, data: bytes) -> None:
        try:
            body.feed(data)
        except Refusal as refusal:
            fault = BodyInvalid(f"{self.peer} sent a body that is not valid HTTP: {refusal.detail}")
            fault.__cause__ = refusal
            self._end(fault)
            return
        if body.complete:
            self._complete(excess=body.excess)
        elif body.held > self._limits.held_bytes and not self._paused:
            self._pause()

    def _complete(self, *, excess: bool = False, keep: bool = True) -> None:
        transport, body = self._transport, self._body
        assert transport is not None
        self.served += 1
        self._call = self._body = None
        if self._paused:
            self._unpause()
        if body is not None:
            body.end()
        if excess:
            self._pool.unasked(self)
        now = self._loop.time()
        if excess or not (keep and self._keep_alive) or transport.get_write_buffer_size() or now >= self._dies_at:
            self.close()
            return
        self._state = _IDLE
        self._rest(now)
        self._pool.released(self)

    def eof_received(self) -> None:
        # A clean end is the end of a body that has no other; any other end is judged in connection_lost.
        if self._body is not None and self._body.until_close and self._ended_cleanly():
            self._body.complete = True
            self._complete(keep=False)

    def _ended_cleanly(self) -> bool:
        """Whether the end is an orderly one: over TLS by close_notify (asyncio does not tell it from a cut, so the TLS object is asked)."""
        assert self._transport is not None
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLError:
            return False

    def connection_lost(self, exc: Exception | None) -> None:
        call = self._call
        if self._state is _AWAITING and self.served and not self._reader.begun and call and not call.interim_heads:
            self._end(
                ConnectionDropped(f"{self.peer} closed the kept connection before it answered; send the request again")
            )
        elif self._state is not _ENDED:
            self._end(OriginUnreachable(f"{self.peer} closed the connection before it answered; check what runs there"))
        self._transport = None
        self.resume_writing()

    # ---- a body's reader

    def wanted(self, body: AnswerBody) -> None:
        if self._paused and body is self._body:
            self._unpause()
            self._await_read()

    def abandoned(self, body: AnswerBody) -> None:
        if body is self._body:
            self.abort()

    def _pause(self) -> None:
        assert self._transport is not None
        self._paused = True
        self._deadline = math.inf
        self._transport.pause_reading()

    def _unpause(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # ---- the end

    def close(self) -> None:
        """Ends it in order, once nothing is under way on it."""
        if self._state is _ENDED:
            return
        self._state = _ENDED
        self._forget()
        assert self._transport is not None
        if self._transport.get_write_buffer_size():  # an origin that does not read would keep it open for ever
            self._transport.abort()
        else:
            self._transport.close()
        self._pool.gone(self)

    def _end(self, fault: Exception) -> None:
        """Breaks what is under way with `fault` and ends the connection at once."""
        if self._state is _ENDED:
            return
        self._state = _ENDED
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if self._body is not None:
            self._body.end(fault if isinstance(fault, BodyBroken) else BodyBroken(self._broken(fault)))
        elif self._call is not None:
            self._call.settle(fault)
        self._forget()
        if self._transport is not None:
            self._transport.abort()
        self._pool.gone(self)

    def _broken(self, fault: Exception) -> str:
        if isinstance(fault, OriginTimeout):
            return str(fault)
        return f"the answer of {self.peer} broke off before its end"

    def _forget(self) -> None:
        self._body = self._call = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- time: one lazy timer, so that an exchange costs no timer of its own

    def _await_read(self) -> None:
        self._deadline = self._loop.time() + self._limits.read_timeout

    def _rest(self, now: float) -> None:
        self._rests_since = now
        self._deadline = min(self._rests_since + self._limits.idle_timeout, self._dies_at)

    def _arm(self, now: float) -> None:
        # Never later than the shortest deadline that can be set meanwhile: so setting one needs no new timer.
        shortest = min(self._limits.read_timeout, self._limits.idle_timeout)
        self._timer = self._loop.call_at(min(self._deadline, now + shortest), self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        if now < self._deadline:
            self._arm(now)
        elif self._state is _IDLE:
            self.close()
        else:
            self._pool.silent()
            self._end(
                OriginTimeout(
                    f"{self.peer} sent nothing for {self._limits.read_timeout:g} s; see upstream.read_timeout"
                )
            )
