"""Cancelled at any moment, a request that is passed on leaves no place taken, no connection in use and no fetch under way."""

from __future__ import annotations

import asyncio

import pytest

from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.proxy.cache import Cache
from passoproxy.proxy.collapse import Collapser
from passoproxy.proxy.limiter import Limiter
from tests.fakes import FakeClock, request
from tests.memory_store import MemoryStore
from tests.outbound.wire import Line, answering, caller_of, origin_that, until

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LONG = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"4000\r\n%b\r\n" % (b"x" * 0x4000) * 20 + b"0\r\n\r\n"
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n" + WHOLE


@pytest.mark.parametrize("answer", [WHOLE, LONG, INTERIM], ids=["whole", "long", "interim"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_nothing_is_left_of_a_request_that_is_cancelled_at_any_moment(method: str, answer: bytes) -> None:
    clock, abandoned = FakeClock(), 0
    async with origin_that(answering(answer)) as there, caller_of(there.port, max_connections=2) as caller:
        limiter = Limiter(caller.origin, max_concurrency=1, queue_timeout=5, clock=clock)
        cache = Cache(limiter, MemoryStore(1 << 20), clock, CacheMode(), partition=lambda: "p")

        async def asked() -> int:
            response = await cache.send(request(method, body=b"x" if method == "PUT" else b""))
            try:
                return sum([len(part) async for part in response.body])
            finally:
                await response.body.aclose()

        size = await asked()
        for turns in range(60):
            task = asyncio.ensure_future(asked())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            assert result == size or isinstance(result, asyncio.CancelledError)
            abandoned += result != size
            await until(
                lambda: (
                    not (limiter.snapshot().in_flight or len(cache.collapser)) and caller.pool.open == caller.pool.idle
                )
            )
            assert await asked() == size, "the place and a connection are there for the next one"
    assert abandoned


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60", b"HTTP/1.1 503 Busy"])
async def test_an_answer_that_is_given_up_while_it_is_gathered_leaves_its_place(head: bytes) -> None:
    clock, begun = FakeClock(), asyncio.Event()

    async def drips(line: Line) -> None:
        await line.request()
        await line.say(head + b"\r\nContent-Length: 1000\r\n\r\nok")
        begun.set()
        await line.end()

    async with origin_that(drips) as there, caller_of(there.port) as caller:
        limiter = Limiter(caller.origin, max_concurrency=1, queue_timeout=5, clock=clock)
        mode, collapser = CacheMode(http=True), Collapser(clock, linger=0.0)
        cache = Cache(limiter, MemoryStore(1 << 20), clock, mode, partition=lambda: "p", collapser=collapser)
        asking = asyncio.ensure_future(cache.send(request(policy=RoutePolicy())))
        await begun.wait()
        await until(lambda: bool(caller.observer.events))  # the head has come
        asking.cancel()
        await until(lambda: not len(collapser))
        assert not limiter.snapshot().in_flight
        await until(lambda: not caller.pool.open)
