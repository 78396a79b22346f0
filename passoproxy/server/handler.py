"""From a connection's exchange to the pipeline and back: every outcome becomes an answer, every answer an event.

A `Refusal` becomes a problem document, any other exception an internal error. What an answer is made of is left to the hops.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from passoproxy.core.events import Answered, RequestAnswered, RequestRejected, TaskFailed, event_of
from passoproxy.core.http.forwarding import RUNWAY
from passoproxy.core.http.messages import changed
from passoproxy.core.http.trace_context import Trace, trace_id, traceparent_in, traceparent_of
from passoproxy.errors import (
    AuthorizationRequired,
    BodyBroken,
    ClientNotAllowed,
    InternalError,
    OriginInvalid,
    Refusal,
    TokenUnavailable,
)
from passoproxy.ports import BearerSource, Clock, Observer, Request, Response, nobody
from passoproxy.proxy.hits import Hit, Hits
from passoproxy.server.request import with_traced
from passoproxy.server.response import OWN_NAME, Exchange, problem


class Handler:
    """Answers exchanges by what the pipeline says."""

    def __init__(
        self,
        pipeline: Hits,
        bearers: BearerSource,
        clock: Clock,
        observe: Observer = nobody,
        tell: Callable[[Answered], None] | None = None,
        trace: Callable[[str, str], Trace] | None = None,
    ) -> None:
        """`tell` is told of hits, if not `observe`; `trace` makes a request's Trace of its `traceparent` and its id, if traces are sent."""
        self._pipeline, self._bearers = pipeline, bearers
        self._tell = tell or (lambda answered: observe(event_of(answered)))
        self._clock = clock
        self._observe, self._trace = observe, trace
        self.in_flight = 0
        """Exchanges that are being answered."""

    def begin(self, exchange: Exchange) -> Request | None:
        """Answers a hit from memory at once and gives None; else the request that `handle` is to answer."""
        wall, head, received = self._clock.wall(), exchange.head, exchange.received
        try:
            told = exchange.on_interim
            found = self._pipeline.try_hit(head, exchange.body, exchange.client, wall, received.lines, told)
            if isinstance(found, Hit):
                exchange.send_hit(found, b"" if wall < self._bearers.usable_until else self._runway_line())
                self._tell_hit(exchange, found)
                return None
            if found is not None and not (
                received.traced and "Connection" in head.fields
            ):  # it may name one of the traced
                return found.with_head(with_traced(found.head, received.traced)) if received.traced else found
        except Exception:
            if exchange.begun:
                raise
            # What went wrong goes wrong on the whole road too, and is answered and told there.
        head = with_traced(head, received.traced)
        return Request(head, exchange.body, exchange.client, wall, on_interim=exchange.on_interim)

    async def handle(self, exchange: Exchange, request: Request) -> None:
        """Answers what `begin` did not. Raises nothing but CancelledError, when the client has left."""
        outcome, code = "complete", ""
        given = traceparent_in(b"".join(exchange.received.traced)) or traceparent_of(request.head.fields)
        request.trail.request_id = trace_id(given) or _new_id()
        if self._trace is not None:
            request.trail.trace = self._trace(given, request.trail.request_id)
        self.in_flight += 1
        try:
            outcome, code = await self._answer(exchange, request)
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            self.in_flight -= 1
            await exchange.body.aclose()
            self._told(exchange, request, outcome, code)

    def refuse(self, refusal: Refusal, client: str) -> Response:
        """The answer to what could not become a request; tells the event."""
        request_id = _new_id()
        self._observe(RequestRejected(refusal.code, refusal.detail, client, request_id))
        return problem(refusal, request_id)

    def turned_away(self, detail: str, client: str) -> None:
        """Tells that a peer's connection was closed without an answer."""
        self._observe(RequestRejected(ClientNotAllowed.code, detail, client))

    async def _answer(self, exchange: Exchange, request: Request) -> tuple[str, str]:
        """Outcome, and the code of a refusal or ''."""
        try:
            response = await self._pipeline.send(request)
            if exchange.fault is not None:
                # No hop has read the body to the point where it breaks, but what the request was is not known without it.
                await response.body.aclose()
                raise exchange.fault
            if "Cache-Status" not in response.head.fields:
                own = changed(response.head.fields, having=(("Cache-Status", f"{OWN_NAME}; fwd=bypass"),))
                response = response.with_head(response.head.with_fields(own))
            if request.trail.from_store:
                response = _with_runway(response, self._bearers.runway(unless_usable=True))
            await exchange.send(response)
            return "complete", ""
        except BodyBroken as broken:
            if exchange.begun:
                return "broken", ""
            refusal: Refusal = OriginInvalid(str(broken))
        except Refusal as fault:
            refusal = fault
        except Exception as fault:
            self._observe(TaskFailed("a request", _place_of(fault), request_id=request.trail.request_id))
            refusal = InternalError("passoproxy failed here; its log says where")
        trail = request.trail
        trail.cache = "error"
        told = RequestRejected(refusal.code, refusal.detail, trail.client or request.client.address, trail.request_id)
        self._observe(told)
        answer = problem(refusal, trail.request_id)
        if isinstance(refusal, AuthorizationRequired | TokenUnavailable):
            answer = _with_runway(answer, self._bearers.runway())
        try:
            await exchange.send(answer)
        except Refusal:  # a field of the refusal cannot be written: the connection ends without an answer
            return "broken", refusal.code
        return "complete", refusal.code

    def _runway_line(self) -> bytes:
        runway = self._bearers.runway(unless_usable=True)
        return b"" if runway is None else f"{RUNWAY}: {runway}\r\n".encode()

    def _tell_hit(self, exchange: Exchange, hit: Hit) -> None:
        lines = b"".join(exchange.received.traced)
        if exchange.received.lines is None and (own := traceparent_of(exchange.head.fields)):
            lines = b"\r\ntraceparent:%b" % own.encode("utf-8", "surrogateescape")
        duration, address = time.perf_counter() - exchange.started, exchange.client.address
        self._tell((hit.form.repeated, self._clock.wall(), address, hit.ttl, duration, lines))

    def _told(self, exchange: Exchange, request: Request, outcome: str, code: str) -> None:
        head, trail, answer = request.head, request.trail, exchange.answer
        self._observe(
            RequestAnswered(
                client=trail.client or request.client.address,
                method=head.method,
                target=trail.target or head.target,
                status=answer.status,
                route=trail.route,
                cache=trail.cache,
                cache_status=", ".join(answer.fields.getall("Cache-Status", ())),
                duration=time.perf_counter() - exchange.started,
                sent_bytes=exchange.sent_bytes,
                outcome=outcome,
                code=code,
                origin_seconds=trail.origin_seconds,
                queue_seconds=trail.queue_seconds,
                request_id=trail.request_id,
                trace=trail.trace,
            )
        )


def _new_id() -> str:
    return f"{random.getrandbits(128):032x}"


def _with_runway(response: Response, runway: int | None) -> Response:
    if runway is None:
        return response
    return response.with_head(response.head.with_fields(changed(response.head.fields, adding=[(RUNWAY, str(runway))])))


def _place_of(fault: BaseException) -> str:
    # The kind and the place, and not the text, which may hold anything.
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return type(fault).__name__ + where
