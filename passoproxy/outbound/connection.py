"""One connection to the origin: sends a request, reads its answer exactly to its end, and says whether it may be used again.

Anything that arrives outside an answer ends it (contract §5). Which connection carries what is the business of `pool`; what a fault
means for a request sent, of `origin`.
"""

from __future__ import annotations

import asyncio
import enum
import math
import select
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from passoproxy.core.http.framing import response_framing
from passoproxy.core.http.messages import ResponseHead
from passoproxy.errors import (
    BodyBroken,
    ConnectionDropped,
    OriginInvalid,
    OriginTimeout,
    OriginUnreachable,
    PassoproxyError,
)
from passoproxy.outbound.bodies import AnswerBody
from passoproxy.outbound.content import BodyInvalid, ContentReader
from passoproxy.outbound.exchanges import Answer, Limits, Message
from passoproxy.outbound.heads import AnswerHead, HeadReader
from passoproxy.outbound.sending import framed
from passoproxy.ports import Body, BytesBody


class Owner(Protocol):
    """Who keeps connections."""

    def released(self, connection: Connection) -> None:
        """It is idle and may carry another request."""
        ...

    def unasked(self, connection: Connection) -> None:
        """Something arrived on it outside an answer; it ends."""
        ...

    def gone(self, connection: Connection) -> None:
        """It ended; said once, after which it calls no more."""
        ...


class _State(enum.Enum):
    IDLE = enum.auto()
    AWAITING = enum.auto()
    READING = enum.auto()
    ENDED = enum.auto()


_IDLE, _AWAITING, _READING, _ENDED = _State
"""As names of the module: looking a member up in its enumeration is felt on this road."""


class Connection(asyncio.Protocol):
    """Carries one request at a time. `peer` names the origin in faults."""

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: str, limits: Limits, owner: Owner) -> None:
        self.peer = peer
        self.served = 0
        """Answers read to their end."""
        self._loop = loop
        self._limits = limits
        self._owner = owner
        self._state = _IDLE
        self._transport: asyncio.Transport | None = None
        self._poller = select.poll()
        self._reader = HeadReader(loop, peer, limits.header_bytes)
        self._method = ""
        self._on_interim: Callable[[ResponseHead], None] | None = None
        self._interim_heads = 0
        self._answer: asyncio.Future[Answer] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._body: AnswerBody | None = None
        self._content: ContentReader | None = None
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
        """Whether nothing will be carried on it any more."""
        return self._state is _ENDED

    def abort(self) -> None:
        """Ends it at once; what was under way breaks."""
        self._end(OriginUnreachable(f"the connection to {self.peer} was closed from this side"))

    async def exchange(self, message: Message, on_interim: Callable[[ResponseHead], None] | None = None) -> Answer:
        """Sends `message` and gives the answer as soon as its head is there. Raises a Refusal, or what the request's body raised.

        The connection goes back to its owner by itself once the answer was read to its end and the request was sent whole.
        """
        assert self._transport is not None
        self._state = _AWAITING
        self._method = message.method
        self._on_interim = on_interim
        self._interim_heads = 0
        self._answer = waiting = self._loop.create_future()
        body = message.body
        if isinstance(body, BytesBody):
            self._transport.write(message.head + body.data if body.data else message.head)
            self._await_read()
        else:
            self._transport.write(message.head)
            self._deadline = math.inf
            self._sending = self._loop.create_task(self._send(body, message.chunked))
        try:
            answer = await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                waiting.exception()
            if self._answer is waiting:
                self.abort()
            raise
        return self._settled(answer)

    def _settled(self, answer: Answer) -> Answer:
        """The answer, in memory where all of it is there; a fault known by now is told while it still can be."""
        body = answer.body
        assert isinstance(body, AnswerBody)
        if isinstance(body.fault, BodyInvalid):
            raise OriginInvalid(str(body.fault)) from body.fault
        whole = body.whole()
        return answer if whole is None else Answer(answer.status, answer.fields, whole)

    # ---- sending

    async def _send(self, body: Body, chunked: bool) -> None:
        fault: Exception | None = None
        try:
            async for part in framed(body, chunked):
                self._write(part)
                if self._drained is not None:
                    self._await_read()
                    await self._drained
                    self._deadline = math.inf
        except Exception as error:  # whatever the client's body raises belongs to whoever waits for the answer
            fault = error
        if self._sending is None:  # the answer came first, and the rest is of no interest
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
        self._rest()
        self._arm(now)

    def data_received(self, data: bytes) -> None:
        if self._state is _READING:
            self._await_read()
            self._take(data)
        elif self._state is _AWAITING:
            try:
                self._take_head(data)
            except PassoproxyError as fault:
                self._end(fault)
        elif self._state is _IDLE:
            self._owner.unasked(self)
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
        self._interim_heads += 1
        if self._interim_heads > self._limits.interim_heads:
            raise OriginInvalid(
                f"{self.peer} sent more than {self._limits.interim_heads} interim answers to one request"
            )
        if self._sending is None:
            self._await_read()
        if head.status in (102, 103) and self._on_interim is not None:
            self._on_interim(ResponseHead(head.status, head.fields))

    def _begin(self, head: AnswerHead, rest: bytes) -> None:
        framing = response_framing(self._method, head.version, head.status, head.fields)
        self._keep_alive = head.keep_alive
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
            self._keep_alive = False
        self._content = ContentReader(framing, self.peer, self._limits.header_bytes)
        self._body = AnswerBody(self, self._loop, self._content.length)
        self._state = _READING
        waiting = self._answer
        if waiting is None or waiting.done():  # whoever asked was cancelled in this very turn of the loop
            self.abort()
            return
        waiting.set_result(Answer(head.status, head.fields, self._body))
        self._await_read()
        self._take(rest)

    def _take(self, data: bytes) -> None:
        body, content = self._body, self._content
        assert body is not None
        assert content is not None
        try:
            body.feed(content.feed(data))
        except BodyInvalid as fault:
            self._end(fault)
            return
        if content.done:
            self._complete(body, clean=not content.excess)
            return
        if body.held > self._limits.held_bytes and not self._paused:
            self._pause()

    def _complete(self, body: AnswerBody, *, clean: bool) -> None:
        assert self._transport is not None
        self.served += 1
        self._body = self._answer = self._on_interim = None
        self._unpause()
        body.end()
        if self._content is not None and self._content.excess:
            self._owner.unasked(self)
        keep = clean and self._keep_alive and not self._transport.get_write_buffer_size()
        if not keep or self._loop.time() >= self._dies_at:
            self.close()
            return
        self._state = _IDLE
        self._rest()
        self._owner.released(self)

    def eof_received(self) -> None:
        # A clean end is the end of a body that has no other; any other end is judged in connection_lost.
        body, content = self._body, self._content
        if body is not None and content is not None and content.until_close and self._ended_cleanly():
            self._complete(body, clean=False)

    def _ended_cleanly(self) -> bool:
        """Whether the end was said: over TLS by close_notify (asyncio does not tell a cut line from it, so the TLS object is asked)."""
        assert self._transport is not None
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLError:
            return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state is _AWAITING and self.served and not self._reader.begun and not self._interim_heads:
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
        self._owner.gone(self)

    def _end(self, fault: Exception) -> None:
        """Breaks what is under way with `fault` and ends the connection at once."""
        if self._state is _ENDED:
            return
        self._state = _ENDED
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        waiting, body = self._answer, self._body
        if body is not None:
            body.end(fault if isinstance(fault, BodyBroken) else BodyBroken(self._broken(fault)))
        elif waiting is not None and not waiting.done():
            waiting.set_exception(fault)
        self._forget()
        if self._transport is not None:
            self._transport.abort()
        self._owner.gone(self)

    def _broken(self, fault: Exception) -> str:
        if isinstance(fault, OriginTimeout):
            return str(fault)
        return f"the answer of {self.peer} broke off before its end"

    def _forget(self) -> None:
        self._body = self._answer = self._on_interim = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- time: one lazy timer, so that an exchange costs no timer of its own

    def _await_read(self) -> None:
        self._deadline = self._loop.time() + self._limits.read_timeout

    def _rest(self) -> None:
        self._rests_since = self._loop.time()
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
            self._end(
                OriginTimeout(
                    f"{self.peer} sent nothing for {self._limits.read_timeout:g} s; see upstream.read_timeout"
                )
            )
