"""`server.limits` on the admin listener: aiohttp's server, with deadlines for heads and for taking answers, bounds, and error answers of ours.

aiohttp ends neither a half-sent head, nor a connection too many, nor one whose client takes nothing, and its own 400 repeats what the client
sent. What is used of it beyond its documentation (`RequestHandler`, `_messages`, `_request_count`, `_waiter`) is held by tests, and its version is
pinned.
"""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler

from passoproxy.core.access import holder_of
from passoproxy.core.events import RequestRejected
from passoproxy.errors import BadRequest, HeadersTooLarge, Overloaded, Refusal, RequestTimeout
from passoproxy.ports import Observer, nobody
from passoproxy.server.acceptor import SILENT_SECONDS, Table
from passoproxy.server.admin.api import MIN_RATE
from passoproxy.server.admin.errors import problem
from passoproxy.server.connection import Limits

LAST_ANSWERS = 0.5
"""Seconds at the end for answers under way; a daemon's stop has given them their time before."""


class AdminRunner(web.AppRunner):
    """Runs an application of `admin` under limits; sites are added as to any runner of aiohttp."""

    __slots__ = ("_limits", "_observer", "draining", "table")

    def __init__(self, app: web.Application, limits: Limits | None = None, observer: Observer = nobody) -> None:
        self._limits = limits or Limits()
        self._observer = observer
        self.table = Table[_Connection]()
        self.draining = False
        """Whether each answer is the last one of its connection."""
        app[MIN_RATE] = lambda: self._limits.min_rate
        app.middlewares.append(self._answer)
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=self._limits.idle_timeout,
            max_line_size=self._limits.header_bytes,
            max_field_size=self._limits.header_bytes,
            auto_decompress=False,
            shutdown_timeout=LAST_ANSWERS,
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        kwargs = {name: value for name, value in self._kwargs.items() if name != "access_log_class"}
        return _Server(made, self._limits, self.table, self._observer, kwargs)

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # A head that came in one read was parsed before it could be measured.
        size = len(request.raw_path) + sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
        if size > self._limits.header_bytes:
            raise HeadersTooLarge("the head of the request is larger than server.limits.header_bytes")
        answer = await handler(request)
        if self.draining:
            answer.force_close()
        return answer

    def take(self, sock: socket.socket, address: str) -> asyncio.Protocol:
        """For an `Acceptor`, once it was set up."""
        assert self.server is not None
        return self.server()

    def follow(self, limits: Limits) -> None:
        """New limits, for new connections; that of connections and of a head's size at once."""
        self._limits = limits
        if isinstance(self.server, _Server):
            self.server.follow(limits)


class _Server(web.Server):
    def __init__(
        self,
        made: web.Server,
        limits: Limits,
        table: Table[_Connection],
        observer: Observer,
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(made.request_handler, request_factory=made.request_factory, **kwargs)
        self.limits, self.table, self.observer = limits, table, observer

    def follow(self, limits: Limits) -> None:
        self.limits = limits
        self._kwargs |= {
            "keepalive_timeout": limits.idle_timeout,
            "max_line_size": limits.header_bytes,
            "max_field_size": limits.header_bytes,
        }

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    """One connection. A head is under way from its first byte until aiohttp hands out the request."""

    __slots__ = ("_body", "_head_bytes", "_heard_at", "_owner", "_taking", "_timer", "_untaken", "_wire", "holder")

    def __init__(self, owner: _Server, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(owner, loop=loop, **kwargs)
        self._owner = owner
        self._body: Any = None
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = loop.time()
        self._wire: asyncio.Transport
        self._untaken = 0
        self._taking: asyncio.TimerHandle | None = None
        self.holder = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._wire.set_write_buffer_limits(0)  # to know of everything that is written and not taken
        super().connection_made(transport)
        peer = self.peername
        self.holder = holder_of(str(peer[0])) if isinstance(peer, tuple) else ""
        if not self._owner.table.admit(self, self._owner.limits.connections):
            self._refuse(Overloaded("the admin listener has as many connections as server.limits.connections allows"))
        else:
            self._arm()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        in_body = self._body is not None and not self._body.is_eof()
        before = self._request_count
        if not in_body:
            self._head_bytes += len(data)
            if self._timer is None:
                self._arm()
        super().data_received(data)
        if self._request_count > before:
            self._disarm()
            self._body = self._messages[-1][1] if self._messages else None
        elif not in_body and self._head_bytes > self._owner.limits.header_bytes:
            self._refuse(HeadersTooLarge("the head of the request is larger than server.limits.header_bytes"))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._disarm()
        if self._taking is not None:
            self._taking.cancel()
        self._owner.table.forget(self)
        super().connection_lost(exc)

    @property
    def silent_since(self) -> float | None:
        """See `connections.Connection`."""
        waits = self._waiter is not None and not self._waiter.done()
        kept = waits and not self._head_bytes and self._request_count
        if kept or (waits and self._loop.time() - self._heard_at > SILENT_SECONDS):
            return self._heard_at
        return None

    @property
    def busy(self) -> bool:
        """See `connections.Connection`: a busy one has no `silent_since`."""
        return False

    def drop(self) -> None:
        """See `connections.Connection`."""
        self._wire.abort()

    # ---- answers that are taken, or not ------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        super().resume_writing()

    def _await_taking(self) -> None:
        self._untaken = self._wire.get_write_buffer_size()
        self._taking = self._loop.call_later(self._owner.limits.write_timeout, self._look_at_taking)

    def _look_at_taking(self) -> None:
        if self._wire.get_write_buffer_size() < self._untaken:
            self._await_taking()
        else:
            self.drop()

    # ---- heads -------------------------------------------------------------------------------------------------------

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what could not be parsed, without repeating it."""
        if isinstance(exc, LineTooLong):
            refusal: Refusal = HeadersTooLarge("a line of the request is larger than server.limits.header_bytes")
        else:
            refusal = BadRequest("this is no request that RFC 9112 allows")
        if not isinstance(exc, ConnectionError):  # that one has left while its answer was written
            self._tell(refusal)
        answer = problem(refusal)
        answer.force_close()
        return answer

    def _arm(self) -> None:
        self._timer = self._loop.call_later(self._owner.limits.header_timeout, self._too_late)

    def _disarm(self) -> None:
        self._head_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        if self._request_in_progress:
            self._arm()  # a pipelined head may wait for the answer before it
        elif self._head_bytes:
            self._refuse(RequestTimeout("the head of the request did not arrive in time"))
        else:
            self.force_close()  # who sent nothing gets nothing

    def _refuse(self, refusal: Refusal) -> None:
        self._tell(refusal)
        if self.transport is not None and not self._request_in_progress:
            self.transport.write(_on_the_wire(refusal))
        self.force_close()

    def _tell(self, refusal: Refusal) -> None:
        peer = self.peername
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._owner.observer(RequestRejected(refusal.code, str(refusal), address, listener="admin"))


def _on_the_wire(refusal: Refusal) -> bytes:
    answer = problem(refusal)
    body = answer.body if isinstance(answer.body, bytes) else b""
    fields = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    phrase = HTTPStatus(refusal.status).phrase
    head = f"HTTP/1.1 {refusal.status} {phrase}\r\n{fields}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("latin-1", "replace") + body
