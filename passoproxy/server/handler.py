"""From a connection's exchange to the road and back: every outcome becomes an answer, every answer an event.

A `Refusal` becomes a problem document, any other exception an internal error. What is on the road is left to the hops.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from passoproxy.core.events import RequestAnswered, RequestRejected, TaskFailed
from passoproxy.core.http.messages import ResponseHead, changed
from passoproxy.errors import BodyBroken, ClientNotAllowed, InternalError, OriginInvalid, Refusal
from passoproxy.ports import Clock, Hop, Observer, Request, Response, nobody
from passoproxy.server.response import OWN_NAME, Exchange, problem


@dataclass(slots=True)
class _Told:
    """What an exchange came to, for its event."""

    status: int = 0
    cache_status: str = ""
    outcome: str = "complete"
    code: str = ""


class Handler:
    """Answers exchanges by sending them down the road."""

    def __init__(self, road: Hop, clock: Clock, observe: Observer = nobody) -> None:
        self._road = road
        self._clock = clock
        self._observe = observe
        self.in_flight = 0
        """Exchanges that are being answered."""

    async def handle(self, exchange: Exchange) -> None:
        """Answers one exchange. Raises nothing but CancelledError, when the client has left."""
        request = Request(
            exchange.head,
            exchange.body,
            exchange.client,
            self._clock.wall(),
            on_interim=exchange.on_interim,
        )
        told = _Told()
        self.in_flight += 1
        try:
            await self._answer(exchange, request, told)
        except asyncio.CancelledError:
            told.outcome = "abandoned"
            raise
        finally:
            self.in_flight -= 1
            await exchange.body.aclose()
            self._observe(_answered(exchange, request, told, time.perf_counter()))

    def refuse(self, refusal: Refusal, client: str) -> Response:
        """The answer to what could not become a request; tells the event."""
        self._observe(RequestRejected(refusal.code, refusal.detail, client))
        return problem(refusal)

    def turned_away(self, detail: str, client: str) -> None:
        """Tells that a peer's connection was closed without an answer."""
        self._observe(RequestRejected(ClientNotAllowed.code, detail, client))

    async def _answer(self, exchange: Exchange, request: Request, told: _Told) -> None:
        try:
            response = await self._road.send(request)
            if exchange.fault is not None:
                # Nobody on the road has read the body to where it breaks, but what the request was is not known without it.
                await response.body.aclose()
                raise exchange.fault
            await self._send(exchange, _with_cache_status(response), told)
        except BodyBroken as broken:
            if exchange.begun:
                told.outcome = "broken"
            else:
                await self._refuse(exchange, request, OriginInvalid(str(broken)), told)
        except Refusal as refusal:
            await self._refuse(exchange, request, refusal, told)
        except Exception as fault:
            self._observe(TaskFailed("a request", _place_of(fault)))
            await self._refuse(exchange, request, InternalError("passoproxy failed here; its log says where"), told)

    async def _refuse(self, exchange: Exchange, request: Request, refusal: Refusal, told: _Told) -> None:
        request.trail.cache = "error"
        told.code = refusal.code
        self._observe(RequestRejected(refusal.code, refusal.detail, request.trail.client or request.client.address))
        try:
            await self._send(exchange, problem(refusal), told)
        except Refusal:  # a field of the refusal cannot be written: the connection ends without an answer
            told.outcome = "broken"

    async def _send(self, exchange: Exchange, response: Response, told: _Told) -> None:
        told.status = response.head.status
        told.cache_status = ", ".join(response.head.fields.getall("Cache-Status", ()))
        await exchange.send(response)


def _with_cache_status(response: Response) -> Response:
    if "Cache-Status" in response.head.fields:
        return response
    return response.with_head(_bypassed(response.head))


def _bypassed(head: ResponseHead) -> ResponseHead:
    return head.with_fields(changed(head.fields, having=(("Cache-Status", f"{OWN_NAME}; fwd=bypass"),)))


def _answered(exchange: Exchange, request: Request, told: _Told, now: float) -> RequestAnswered:
    return RequestAnswered(
        client=request.trail.client or request.client.address,
        method=request.head.method,
        target=request.trail.target or request.head.target,
        status=told.status,
        route=request.trail.route,
        cache=request.trail.cache,
        cache_status=told.cache_status,
        duration=now - exchange.started,
        sent_bytes=exchange.sent_bytes,
        outcome=told.outcome,
        code=told.code,
        origin_seconds=request.trail.origin_seconds,
        queue_seconds=request.trail.queue_seconds,
        traceparent=request.head.fields.get("traceparent", ""),
    )


def _place_of(fault: BaseException) -> str:
    # The kind and the place, and not the text, which may hold anything.
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return type(fault).__name__ + where
