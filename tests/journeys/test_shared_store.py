"""What a cache in a shared store promises (contract §7): of whole daemons before a scripted origin, on a real redis-server."""

from __future__ import annotations

import asyncio
import base64
import functools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from passoproxy.stores.entries.redis.store import RedisStore
from tests.redis_server import RedisServer
from tests.scripted_origin import Asked, Got, Says, Scene, before, origin

FRESH = ("Cache-Control", "max-age=600")
PDF = ("Content-Type", "application/pdf")
NO_MEMORY = {"mode": "http", "memory_size": 0}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path)
    yield made
    made.stop()


def numbered(asked: Asked) -> Says:
    """Each answer is another."""
    return Says(200, [FRESH, PDF], os.urandom(16).hex().encode())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer may take longer than a request is to wait for it."""
    waiting = functools.partial(RedisStore, connect_seconds=10.0, answer_seconds=10.0)
    monkeypatch.setattr("passoproxy.compose.fleet.RedisStore", waiting)


async def stored(it: Scene, target: str = "/x") -> Got:
    """The answer, when it is a hit: it may be on its way to the store, and a busy machine may take that for away for a moment."""
    async with asyncio.timeout(30):
        while "; hit" not in (found := await it.ask(target)).cache:
            await asyncio.sleep(0.02)
        return found


# ---- another key -----------------------------------------------------------------------------------------------------


def key(folder: Path, name: str) -> str:
    path = folder / name
    path.write_bytes(base64.b64encode(name.encode().ljust(32)))
    path.chmod(0o600)
    return str(path)


@pytest.mark.usefixtures("patient")
async def test_instances_with_another_key_leave_each_others_entries_alone(tmp_path: Path, server: RedisServer) -> None:
    shared: dict[str, Any] = {"cache": NO_MEMORY, "store": {"url": server.url}}
    async with (
        origin(numbered) as behind,
        before(behind, tmp_path / "one", state={"key_file": key(tmp_path, "old")}, **shared) as one,
        before(behind, tmp_path / "two", state={"key_file": key(tmp_path, "new")}, **shared) as two,
    ):
        first = [(await stored(it)).body for it in (one, two)]
        for _ in range(6):
            assert [(await stored(it)).body for it in (one, two)] == first


@pytest.mark.usefixtures("patient")
async def test_entries_under_the_previous_key_are_read(tmp_path: Path, server: RedisServer) -> None:
    shared: dict[str, Any] = {"cache": NO_MEMORY, "store": {"url": server.url}}
    old, new = key(tmp_path, "old"), key(tmp_path, "new")
    async with origin(numbered) as behind:
        async with before(behind, tmp_path / "one", state={"key_file": old}, **shared) as it:
            first = (await stored(it)).body
        both = {"key_file": new, "previous_key_file": old}
        async with before(behind, tmp_path / "one", state=both, **shared) as it:
            assert (await stored(it)).body == first


# ---- purges while the store is away, or slow -------------------------------------------------------------------------


async def test_an_invalidation_is_owed_over_a_restart(tmp_path: Path, server: RedisServer) -> None:
    shared: dict[str, Any] = {"cache": NO_MEMORY, "store": {"url": server.url}}
    async with origin(numbered) as behind:
        async with before(behind, tmp_path / "one", **shared) as it:
            old = await stored(it)
            server.freeze()
            assert (await it.ask(method="PUT", body=b"new")).status == 200
        server.thaw()
        async with before(behind, tmp_path / "one", **shared) as it:
            assert (await it.ask()).body != old.body


@asynccontextmanager
async def slowed(server: RedisServer, seconds: float) -> AsyncIterator[str]:
    """The URL of the same server, whose answers come so much later."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        try:
            while piece := await reader.read(65536):
                await asyncio.sleep(delay)
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_behind = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(carry(reader, to_behind, 0.0), carry(behind, writer, seconds))

    relay = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{relay.sockets[0].getsockname()[1]}/0"
    finally:
        relay.close()


@pytest.mark.slow
async def test_a_purge_waits_for_a_slow_store(tmp_path: Path, server: RedisServer) -> None:
    async with origin(numbered) as behind, before(behind, tmp_path / "one", store={"url": server.url}) as quick:
        old = await stored(quick)
        async with slowed(server, 0.3) as url, before(behind, tmp_path / "two", store={"url": url}) as slow:
            assert await slow.daemon.wired.control.purge({"url": "/x"}) == 1
            assert (await quick.ask()).body != old.body


# ---- eviction --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
async def test_what_is_used_stays_in_a_shared_store(tmp_path: Path, server: RedisServer) -> None:
    settings: dict[str, Any] = {"cache": {**NO_MEMORY, "max_size": "8MiB", "max_entry_size": "1MiB"}}
    async with (
        origin(lambda _: Says(200, [FRESH, PDF], os.urandom(512 * 1024))) as behind,
        before(behind, tmp_path / "one", store={"url": server.url}, **settings) as it,
    ):
        favourite, unused = (await stored(it, "/favourite")).body, (await stored(it, "/unused")).body
        for number in range(20):  # more than the store has room for
            await stored(it, f"/z{number}")
            assert (await it.ask("/favourite")).body == favourite
        assert (await it.ask("/unused")).body != unused
