"""From a connection's exchange to the road and back: every outcome becomes an answer, every answer an event.

A `Refusal` becomes a problem document, any other exception an internal error. What is on the road is left to the hops.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from passoproxy.core.events import RequestAnswered, RequestRejected, TaskFailed
from passoproxy.core.http.messages import ResponseHead, changed
from passoproxy.errors import BodyBroken, InternalError, OriginInvalid, Refusal
from passoproxy.ports import Clock, Hop, Observer, Request, Response, nobody
from passoproxy.server.answering import Exchange
from passoproxy.server.problems import OWN_NAME, problem


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
        began = asyncio.get_running_loop().time()
        try:
            await self._answer(exchange, request, told)
        except asyncio.CancelledError:
            told.outcome = "abandoned"
            raise
        finally:
            if type(exchange.body).__name__ != "BytesBody":
                await exchange.body.aclose()
            self._tell(exchange, request, told, began)
