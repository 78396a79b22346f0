"""One fixture for each kind of entry store, all of them closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from passoproxy.ports import EntryStore
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.redis.store import RedisStore
from passoproxy.stores.entries.tiered import TieredStore
from passoproxy.stores.spill import DiskSpill
from tests.memory_store import MemoryStore
from tests.redis_server import RedisServer
from tests.stores.entries.making import SECRET, connecting

PREFIX = "passoproxy:{tests}:"
MAX_BYTES = 256 << 20


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., DiskStore]]:
    """Opens a disk store in the test's folder, as often as asked."""
    stores: list[DiskStore] = []

    def open_(max_bytes: int = MAX_BYTES, folder: Path = tmp_path / "cache", **more: object) -> DiskStore:
        stores.append(DiskStore(folder, max_bytes=max_bytes, **{"secret": SECRET, **more}))  # type: ignore[arg-type]
        return stores[-1]

    yield open_
    for store in stores:
        await store.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of these tests' own, for as long as they run."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


class Joining:
    """Opens Redis stores that share one cache, as often as asked; the server is running, and empty before the first."""

    def __init__(self, server: RedisServer) -> None:
        if server.process is None:
            server.start()
        server.thaw()
        server.flush()
        self._server = server
        self._stores: list[RedisStore] = []

    def __call__(self, **more: object) -> RedisStore:
        given = {
            "secret": SECRET,
            "connect_seconds": 5.0,
            "answer_seconds": 5.0,
            "pause_seconds": 0.0,
            "purge_seconds": 10.0,
            "spill": DiskSpill([self._server.folder]),
            **more,
        }
        self._stores.append(RedisStore(connecting(self._server.url), PREFIX, **given))  # type: ignore[arg-type]
        return self._stores[-1]

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.fixture
async def joined(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Joining]:
    """See `Joining`. On a busy machine an instance may hear of a purge later than one waits for it elsewhere."""
    monkeypatch.setattr("passoproxy.stores.entries.redis.store.HEARD_SECONDS", 20.0)
    joining = Joining(redis_server)
    yield joining
    await joining.close()


KINDS = (
    "memory",
    "disk",
    "disk that purges behind",
    "tiered",
    "tiered with little memory",
    "redis",
    "redis that purges behind",
    "tiered before redis",
)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, opened: Callable[..., DiskStore]) -> AsyncIterator[EntryStore]:
    """Every kind of store in turn."""
    joined = Joining(request.getfixturevalue("redis_server")) if "redis" in request.param else opened
    kinds: dict[str, Callable[[], EntryStore]] = {
        "memory": lambda: MemoryStore(MAX_BYTES),
        "disk": opened,
        "disk that purges behind": lambda: opened(few=0),
        "tiered": lambda: TieredStore(64 << 20, opened()),
        "tiered with little memory": lambda: TieredStore(96 << 10, opened()),
        "redis": lambda: joined(),
        "redis that purges behind": lambda: joined(few=0),
        "tiered before redis": lambda: TieredStore(64 << 20, joined()),
    }
    made = kinds[request.param]()
    yield made
    await made.close()
