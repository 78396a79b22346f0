"""A thousand requests at once: equal misses ask once, and an answer that nobody may share holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.http.syntax import print_date
from passoproxy.ports import Hop, Request, Response
from passoproxy.proxy.cache import Cache
from tests.fakes import ChunkedBody, FakeClock, request, response, settle
from tests.memory_store import MemoryStore

CROWD = 1000
PLACES = 4
SECONDS = 0.1
"""What the origin takes for one answer."""

POLICY = RoutePolicy(name="r")


class Origin:
    """Answers PLACES requests at once, each after SECONDS."""

    def __init__(self, clock: FakeClock, control: str) -> None:
        self.clock, self.control = clock, control
        self.places = asyncio.Semaphore(PLACES)
        self.asked = 0

    async def send(self, request: Request) -> Response:
        async with self.places:
            self.asked += 1
            await self.clock.sleep(SECONDS)
        said = [("Date", print_date(self.clock.wall())), ("Cache-Control", self.control), ("ETag", '"v"')]
        return response(200, said, ChunkedBody(b"an ", b"answer", length=9))


def cache_before(origin: Hop, clock: FakeClock) -> Cache:
    return Cache(origin, MemoryStore(1 << 24), clock, CacheMode(http=True), partition=lambda: "me")


async def seconds_for(clock: FakeClock, ask: Callable[[], Awaitable[None]]) -> float:
    """How long a crowd takes, by the clock that the origin goes by."""
    began = clock.monotonic()
    crowd = asyncio.gather(*(ask() for _ in range(CROWD)))
    await settle(100)
    while not crowd.done():
        await clock.advance(SECONDS)
    await crowd
    return clock.monotonic() - began


def asking(hop: Hop, **more: object) -> Callable[[], Awaitable[None]]:
    async def ask() -> None:
        answer = await hop.send(request("GET", "/x", policy=POLICY, **more))  # type: ignore[arg-type]
        assert b"".join([part async for part in answer.body]) == b"an answer"
        await answer.body.aclose()

    return ask


async def test_a_thousand_equal_misses_ask_once() -> None:
    clock = FakeClock()
    origin = Origin(clock, "max-age=60")
    took = await seconds_for(clock, asking(cache_before(origin, clock)))
    assert origin.asked == 1
    assert took <= 2 * SECONDS


@pytest.mark.parametrize(
    "control",
    [
        "no-store",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("max-age=0, private", "no-store, max-age=60")),
    ],
)
async def test_a_thousand_requests_for_what_cannot_be_shared_take_no_longer_than_the_origin_does(control: str) -> None:
    clock = FakeClock()
    alone = await seconds_for(clock, asking(Origin(clock, control)))
    assert alone == pytest.approx(CROWD / PLACES * SECONDS)
    origin = Origin(clock, control)
    cache = cache_before(origin, clock)
    took = await seconds_for(clock, asking(cache))
    again = await seconds_for(clock, asking(cache))
    assert origin.asked == 2 * CROWD
    assert took <= 1.5 * alone
    assert again <= 1.5 * alone
