"""However many ask at once, one refresh; whoever hangs up loses nothing; a provider that is away for most of the runway costs no client an error."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest

from passoproxy.stores.pair.directory import DirectoryPairStore
from tests.journeys.conftest import until
from tests.journeys.nursery import Nursery
from tests.journeys.proving import House, LiveSandbox

TARGET = "/api/v2/account/subscription"
SANDBOX = {"lifetime": 60.0, "slow_seconds": 2.5}


def moved_in(folder: Path, sandbox: LiveSandbox, forking: Nursery, workers: int = 1, **upstream: object) -> House:
    sections = {"upstream": {"queue_timeout": "30s", **upstream}, "server": {"workers": workers}}
    house = House(folder / "house", sandbox, forking, sections=sections)
    house.live()
    return house


async def asked(house: House, count: int) -> Counter[int]:
    """The statuses of `count` requests at once, each of which only the origin can answer."""
    seen: Counter[int] = Counter()

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with session.get(f"http://127.0.0.1:{house.port}{TARGET}?turn={number}") as answer:
            await answer.read()
            seen[answer.status] += 1

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        await asyncio.gather(*(one(session, number) for number in range(count)))
    return seen


def test_hundreds_of_requests_on_an_expired_token_make_one_refresh(tmp_path: Path, forking: Nursery) -> None:
    """The access token has ended, the refresh token has not; the provider takes a while, so that all thousand are there meanwhile."""
    long_lived = LiveSandbox(lifetime=3600.0, slow_seconds=1.5)
    try:
        house = House(tmp_path / "house", long_lived, forking, sections={"upstream": {"queue_timeout": "60s"}})
        house.move_in()
        _end_access(house)
        long_lived.fault("refresh_slow:1")
        house.start()
        seen = asyncio.run(asked_when_up(house, 300))
        refreshes = len(long_lived.refreshes())
        print(f"300 requests: {dict(seen)}, refreshes: {refreshes}")
        assert seen == {200: 300}
        assert refreshes == 1
    finally:
        long_lived.close()


async def asked_when_up(house: House, count: int) -> Counter[int]:
    end = time.monotonic() + 20
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        except OSError:
            assert time.monotonic() < end
            await asyncio.sleep(0.005)
            continue
        writer.close()
        return await asked(house, count)


def _end_access(house: House) -> None:
    """Rewrites the stored pair: its access token's time is over, its refresh token's is not."""
    store = DirectoryPairStore(house.state)
    store.acquire()
    pair = store.load()
    assert pair is not None
    now = time.time()
    store.commit(
        replace(
            pair, generation=pair.generation + 1, obtained_at=now - 100, access_until=now - 1, refresh_until=now + 3000
        )
    )
    store.release()


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_hundred_401s_make_one_refresh_and_one_replay_each(
    workers: int, tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    """The access token has ended at the provider, and nobody here knows; the refresh takes long enough for all hundred to find out."""
    house = moved_in(tmp_path, sandbox, forking, workers, max_concurrency=100, max_connections=300)
    sandbox.fault("refresh_slow:1")
    sandbox.end(house.access)
    before = len(sandbox.requests("/api/"))
    seen = asyncio.run(asked(house, 100))
    arrived = sandbox.requests("/api/")[before:]
    refused = Counter(each["query"] for each in arrived if each["status"] == 401)
    turns = Counter(each["query"] for each in arrived)
    print(
        f"{len(refused)} of 100 requests met a 401: {dict(seen)}, refreshes: {len(sandbox.refreshes())}, at the origin: {len(arrived)}"
    )
    assert seen == {200: 100}
    assert len(sandbox.refreshes()) == 1
    assert max(turns.values()) == 2
    assert set(refused.values()) == {1}
    assert len(refused) > 1


def test_clients_that_hang_up_lose_nothing(tmp_path: Path, sandbox: LiveSandbox, forking: Nursery) -> None:
    house = moved_in(tmp_path, sandbox, forking)
    sandbox.fault("refresh_slow:1", "origin_401:1")
    slow = sandbox._sandbox.options.slow_seconds
    assert slow > 2

    async def leaves() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(f"GET {TARGET}?turn=leaves HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await writer.drain()
        end = time.monotonic() + 10
        while not sandbox.refreshes() and time.monotonic() < end:
            await asyncio.sleep(0.01)
        writer.transport.abort()

    asyncio.run(leaves())
    assert len(sandbox.refreshes()) == 1
    token = until(lambda: house.token().get("generation", 0) > 1 and house.token(), slow + 10)
    assert token
    assert token["chain"] == "healthy"
    assert house.get(f"{TARGET}?turn=after").status == 200
    assert all(each["presented"] <= 1 for each in sandbox.chain(house.first))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_provider_that_is_away_for_most_of_the_runway_costs_nobody_an_error(tmp_path: Path, forking: Nursery) -> None:
    assert away(30.0, 0.85, tmp_path, forking) >= 4


def away(lifetime: float, gone: float, folder: Path, forking: Nursery) -> int:
    """The provider answers 503 from the start until that share of the lifetime is over; how many attempts were made in the last half of it."""
    sandbox = LiveSandbox(lifetime=lifetime)
    try:
        return _away(lifetime, gone, moved_in(folder, sandbox, forking), sandbox)
    finally:
        sandbox.close()


def _away(lifetime: float, gone: float, house: House, sandbox: LiveSandbox) -> int:
    sandbox.fault("refresh_5xx")
    issued = next(each["issued_at"] for each in sandbox.chain(house.first))
    seen: Counter[int] = Counter()
    for share, faults in ((gone, ("refresh_5xx",)), (1.1, ())):
        sandbox.fault(*faults)
        while time.time() < issued + share * lifetime:
            seen[house.get(f"{TARGET}?turn={time.time_ns()}").status] += 1
            time.sleep(0.05)
    attempts = [each["time"] for each in sandbox.refreshes()]
    last_half = [each for each in attempts if issued + lifetime / 2 <= each <= issued + lifetime]
    gaps = [after - before for before, after in pairwise(attempts)]
    print(f"{sum(seen.values())} requests: {dict(seen)}; attempts {len(attempts)}, in the last half {len(last_half)}, "
          f"shortest gap {min(gaps):.2f} s, recovered {attempts[-1] - issued:.1f} s after the issue")  # fmt: skip
    assert set(seen) == {200}
    assert min(gaps) >= 0.99
    assert house.token()["chain"] == "healthy"
    assert all(each["token_valid"] for each in sandbox.requests("/api/"))
    return len(last_half)
