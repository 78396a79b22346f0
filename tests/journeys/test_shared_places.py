"""`upstream.max_concurrency` of all instances of one store, counted at the origin; whatever becomes of an instance, or of the store."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.journeys.conftest import ask as ask_admin
from tests.journeys.conftest import until
from tests.journeys.nursery import Nursery
from tests.journeys.proving import House, LiveSandbox
from tests.redis_server import RedisServer
from tests.scripted_origin import Asked, Says, Scene, before, origin

LIMIT = 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path)
    yield made
    made.stop()


class Busy:
    """An origin that says nothing before `open`, and counts."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.open = asyncio.Event()

    async def __call__(self, asked: Asked) -> Says:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.open.wait()
        await asyncio.sleep(0)
        self.now -= 1
        return Says(200, [("Cache-Control", "no-store")], b"x")

    async def has(self, count: int) -> None:
        async with asyncio.timeout(30):
            while self.now != count:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def three(tmp_path: Path, server: RedisServer, **sections: Any) -> AsyncIterator[tuple[Busy, list[Scene]]]:
    async with AsyncExitStack() as stack:
        behind = Busy()
        asked = await stack.enter_async_context(origin(behind))
        upstream = {"max_concurrency": LIMIT, "queue_timeout": 30}
        shared = {"store": {"url": server.url}, "upstream": upstream, **sections}
        made = [await stack.enter_async_context(before(asked, tmp_path / name, **shared)) for name in "abc"]
        yield behind, made


def places(it: Scene) -> dict[str, Any]:
    return it.daemon.wired.control.status()["origin"]["places"]  # type: ignore[index, no-any-return]


async def ask(session: aiohttp.ClientSession, it: Scene, number: int) -> int:
    async with session.get(f"{it.daemon.proxy}/{number}") as answer:
        await answer.read()
        return answer.status


async def test_all_together_use_no_more_and_a_store_that_is_away_costs_no_error(
    tmp_path: Path, server: RedisServer
) -> None:
    async with three(tmp_path, server) as (behind, instances), aiohttp.ClientSession() as session:
        asking = [asyncio.create_task(ask(session, it, number)) for number in range(8) for it in instances]
        await behind.has(LIMIT)
        behind.open.set()
        assert await asyncio.gather(*asking) == [200] * 24
        assert behind.most == LIMIT
        async with asyncio.timeout(30):  # the idle give all back
            while any(places(it)["held"] for it in instances):
                await asyncio.sleep(0.2)
        assert {places(it)["instances"] for it in instances} == {3}
        # One alone may use them all.
        behind.open.clear()
        asking = [asyncio.create_task(ask(session, instances[0], number)) for number in range(8)]
        await behind.has(LIMIT)
        server.kill()
        behind.open.set()
        assert await asyncio.gather(*asking) == [200] * 8
        # Without the store each has its share.
        async with asyncio.timeout(30):
            while not all(places(it)["alone"] for it in instances):
                await asyncio.sleep(0.2)
        behind.open.clear()
        asking = [asyncio.create_task(ask(session, it, number)) for number in range(3) for it in instances]
        await behind.has(3)
        behind.open.set()
        assert await asyncio.gather(*asking) == [200] * 9
        assert behind.most == LIMIT


@pytest.mark.timeout(120)
async def test_workers_share_what_their_instance_has(tmp_path: Path, server: RedisServer) -> None:
    workers = {"listen": "127.0.0.1:0", "workers": 2}
    async with AsyncExitStack() as stack:
        behind = Busy()
        asked = await stack.enter_async_context(origin(behind))
        shared = {"store": {"url": server.url}, "upstream": {"max_concurrency": LIMIT, "queue_timeout": 30}}
        one = await stack.enter_async_context(before(asked, tmp_path / "a", server=workers, **shared))
        two = await stack.enter_async_context(before(asked, tmp_path / "b", **shared))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        asking = [asyncio.create_task(ask(session, it, number)) for number in range(9) for it in (one, two)]
        await behind.has(LIMIT)
        behind.open.set()
        assert await asyncio.gather(*asking) == [200] * 18
        assert behind.most == LIMIT
        async with asyncio.timeout(30):
            while places(one)["held"] or places(two)["held"]:
                await asyncio.sleep(0.2)
    with server.client() as client:  # one that stops in order is not counted any more
        assert client.keys("*:limits:here") == client.keys("*:limits:places") == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_places_of_a_killed_instance_are_free_within_five_seconds(
    tmp_path: Path, server: RedisServer, forking: Nursery
) -> None:
    sandbox = LiveSandbox(lifetime=600, latency=0.1, concurrency=LIMIT)
    sections = {"store": {"url": server.url}, "upstream": {"max_concurrency": LIMIT, "queue_timeout": "30s"}}
    houses = [House(tmp_path / name, sandbox, forking, sections=sections) for name in "abc"]
    statuses: Counter[int] = Counter()
    ended = threading.Event()

    def client(house: House, number: int) -> None:
        turn = 0
        while not ended.is_set():
            turn += 1
            statuses[house.get(f"/api/v2/account/subscription?n={number}&t={turn}").status] += 1

    def held(house: House) -> int:
        return int(ask_admin(house.admin_port, "/api/status", timeout=15.0).json["origin"]["places"]["held"])

    try:
        houses[0].move_in()
        for house in houses:
            house.start()
            house.wait_for()
        first = [threading.Thread(target=client, args=(houses[0], number)) for number in range(6)]
        for each in first:
            each.start()
        assert until(lambda: held(houses[0]) == LIMIT)
        ended.set()
        assert houses[0].child is not None
        houses[0].child.stop(signal.SIGKILL)
        killed = time.monotonic()
        for each in first:
            each.join(30)
        statuses.clear()
        ended.clear()
        others = [threading.Thread(target=client, args=(houses[1 + number % 2], number)) for number in range(8)]
        for each in others:
            each.start()
        assert until(lambda: statuses[200], 20)
        took = time.monotonic() - killed
        print(f"another instance had places again {took:.2f} s after the kill")
        time.sleep(1)
        ended.set()
        for each in others:
            each.join(40)
        assert set(statuses) == {200}
        assert [each for each in sandbox.requests() if "concurrency" in str(each["outcome"])] == []
        assert took < 7.5  # five, and a busy machine
    finally:
        ended.set()
        for house in houses:
            if house.child is not None and house.child.poll() is None:
                house.child.stop(signal.SIGKILL)
        sandbox.close()
