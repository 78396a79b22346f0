"""One fixture for each kind of entry store, all of them closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from passoproxy.ports import EntryStore
from passoproxy.stores.entries.disk import DiskStore
from passoproxy.stores.entries.memory import MemoryStore
from passoproxy.stores.entries.tiered import TieredStore
from tests.stores.entries.making import SECRET

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


@pytest.fixture(params=["memory", "disk", "tiered", "tiered with little memory"])
async def store(request: pytest.FixtureRequest, opened: Callable[..., DiskStore]) -> AsyncIterator[EntryStore]:
    """Every kind of store in turn."""
    kinds: dict[str, Callable[[], EntryStore]] = {
        "memory": lambda: MemoryStore(MAX_BYTES),
        "disk": opened,
        "tiered": lambda: TieredStore(64 << 20, opened()),
        "tiered with little memory": lambda: TieredStore(96 << 10, opened()),
    }
    made = kinds[request.param]()
    yield made
    await made.close()
