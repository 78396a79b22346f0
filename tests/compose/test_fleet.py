"""`store.url` as a whole daemon sees it: two of them in this process on one redis-server, and one whose store is away."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from passoproxy.compose import Wired, telemetry
from passoproxy.compose.fleet import STORE_AWAY
from passoproxy.ports import Followed
from passoproxy.tokens.commands import Command, Renew401
from tests.fakes import FakeClock
from tests.redis_server import RedisServer, free_port
from tests.whole import Place

PAIR = b'{"access_token": "access-token-1", "refresh_token": "refresh-token-1", "expires_in": 3600}'


@pytest.fixture
def server(tmp_path: Path):
    made = RedisServer(tmp_path)
    yield made
    made.stop()


@contextlib.asynccontextmanager
async def living(folder: Path, url: str, **sections: object) -> AsyncIterator[object]:
    folder.mkdir(exist_ok=True)
    loaded = Place(folder).load(store={"url": url}, **sections)
    wired = Wired(loaded, telemetry(loaded), environ={})
    tasks = []
    try:
        await wired.keeper.open()
        tasks = [asyncio.create_task(wired.keeper.run()), asyncio.create_task(wired.fleet.desk.run(wired.keeper))]
        yield wired
    finally:
        await wired.keeper.close()
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(wired.fleet.store.release)
        await wired.pipeline.close()
        await wired.pipeline.cache.close()
        await wired.store.close()


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to that")


@pytest.mark.parametrize("is_sealed", [False, True])
async def test_one_owns_the_other_follows_and_takes_over(tmp_path, server, is_sealed):
    (tmp_path / "key").write_text(base64.b64encode(b"k" * 32).decode())
    (tmp_path / "key").chmod(0o600)
    key = {"state": {"key_file": str(tmp_path / "key")}} if is_sealed else {}
    async with living(tmp_path / "a", server.url, **key) as a, living(tmp_path / "b", server.url, **key) as b:
        assert (a.keeper.role, b.keeper.role) == ("owner", "following")
        assert b.fleet.for_folder(b.keeper).role == "owner"
        await b.control.import_pair(PAIR)
        with server.client() as client:
            (held,), (shown,) = client.keys("*:pair"), client.keys("*:shown")
            everything = b"".join([*client.hgetall(held).values(), client.get(shown)])
        assert [b"access-token-1" in everything, b"refresh-token-1" in everything] == [not is_sealed] * 2
        assert b.keeper.current().token == a.keeper.current().token == "access-token-1"
        assert b.keeper.partition == a.keeper.partition
        assert await asyncio.to_thread(a.fleet.store.is_followed)
        await b.fleet.for_folder(b.keeper).news(0.01)
        await a.keeper.close()
        await until(lambda: b.keeper.role == "owner")
        assert b.keeper.current().token == "access-token-1"


async def test_while_the_store_is_away_the_folders_own_pair_is_served(tmp_path, server):
    async with living(tmp_path / "a", server.url) as a:
        await a.control.import_pair(PAIR)
    server.kill()
    async with living(tmp_path / "a", server.url) as a:
        assert (a.keeper.role, a.keeper.current().token) == ("following", "access-token-1")
        assert a.keeper.snapshot().reason == STORE_AWAY
        server.start()
        await until(lambda: a.keeper.role == "owner", 20)
        assert a.keeper.snapshot().chain == "healthy"


async def test_a_pair_that_has_ended_is_of_no_use_then(tmp_path, server):
    async with living(tmp_path / "a", server.url) as a:
        await a.control.import_pair(PAIR.replace(b"3600", b"1"))
        await asyncio.sleep(1.1)
    server.kill()
    async with living(tmp_path / "a", server.url) as a:
        assert (a.keeper.role, a.keeper.current()) == ("following", None)


class FakeOwner:
    """A PairOwner that says its name as the generation of a 401."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def changes(self) -> AsyncIterator[Followed]:
        while True:
            yield Followed(None, str(self.number))

    async def execute(self, command: Command) -> int:
        return self.number


async def test_a_second_process_of_the_folder_follows_the_first_and_not_the_fleet(tmp_path, server):
    async with living(tmp_path / "a", server.url) as a:
        store = a.fleet.store
        nearest = replace(a.fleet, owner=FakeOwner(2)).nearest(FakeOwner(1))
        found = []
        async for followed in nearest.changes():
            found.append(followed.partition)
            store.has_folder = len(found) < 2
        assert found == ["2", "2"]
        assert await nearest.execute(Renew401(7)) == 1
        store.has_folder = True
        assert await nearest.execute(Renew401(7)) == 2


def test_a_static_token_has_no_fleet(tmp_path):
    static = {"grant": "static", "static_token": "the-static-token"}
    loaded = Place(tmp_path).load(oauth=static, store={"url": f"redis://127.0.0.1:{free_port()}/0"})
    assert Wired(loaded, telemetry(loaded), clock=FakeClock(), environ={}).fleet is None


async def test_it_says_where_the_entries_are(server: RedisServer, tmp_path: Path) -> None:
    async with living(tmp_path / "a", server.url) as wired:
        stats = await wired.control.cache_stats()
        assert (stats["store"], stats["directory"]) == (server.url, None)
