"""Where entries live: whole daemons that share a cache by `store.url`, and what seals its entries."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from passoproxy.compose.fleet import shared_secret
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.redis.store import RedisStore
from tests.redis_server import RedisServer
from tests.whole import CONTENT, Place, Running, running, sandboxed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path)
    yield made
    made.stop()


async def asked(session: aiohttp.ClientSession, daemon: Running, target: str = CONTENT) -> str:
    """The proxy's own member of Cache-Status."""
    async with session.get(daemon.proxy + target) as answer:
        assert answer.status == 200
        await answer.read()
        return answer.headers["Cache-Status"]


async def authorised(daemon: Running) -> None:
    async with asyncio.timeout(20):
        while daemon.wired.keeper.current() is None:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("is_sealed", [False, True])
async def test_daemons_share_a_cache(
    tmp_path: Path, server: RedisServer, is_sealed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a busy machine may take longer than a client is to wait for the store
    patient = functools.partial(RedisStore, connect_seconds=5.0, answer_seconds=5.0)
    monkeypatch.setattr("passoproxy.compose.fleet.RedisStore", patient)
    (tmp_path / "key").write_text(base64.b64encode(b"k" * 32).decode())
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sections = {"store": {"url": server.url}, "upstream": {}}
    if is_sealed:
        sections["state"] = {"key_file": str(tmp_path / "key")}
    async with sandboxed(tmp_path / "a") as place, aiohttp.ClientSession() as session:
        there = Place(tmp_path / "b", place.origin)
        async with (
            running(place, authorised=True, **sections) as here,
            running(there, **sections) as other,
        ):
            await authorised(other)
            assert "hit" not in await asked(session, here)
            await here.wired.store.settled()
            assert "; hit" in await asked(session, other)
            assert not (tmp_path / "a" / "cache" / "cache.db").exists()
            assert await other.wired.control.purge({"all": True}) == 1
            assert "hit" not in await asked(session, here)
            await here.wired.store.settled()
            server.kill()
            assert "; hit" in await asked(session, here)
            assert "; hit" in await asked(session, here, CONTENT)
            assert "hit" not in await asked(session, other)
            assert "; hit" in await asked(session, other)
            with pytest.raises(EntryStoreFailure):
                await here.wired.store.stats()


@pytest.mark.parametrize("kind", [DiskStore, RedisStore])
async def test_without_a_url_entries_live_on_disk(tmp_path: Path, server: RedisServer, kind: type) -> None:
    url = server.url if kind is RedisStore else None
    async with sandboxed(tmp_path) as place, running(place, store={"url": url}) as daemon:
        assert isinstance(daemon.wired.store._slow, kind)


def test_the_seal_follows_from_the_key_then_from_the_password() -> None:
    key, password = (lambda: "a key\n"), (lambda: "a password")
    made = {shared_secret(key, password), shared_secret(None, password), shared_secret(None, None)}
    assert len(made) == 3
    assert shared_secret(lambda: "a key", None) in made
    assert all(len(each) == 32 for each in made)
