"""What the store in memory promises beyond the contract."""

from __future__ import annotations

import pytest

from passoproxy.core.events import EntriesEvicted
from passoproxy.errors import EntryStoreFailure
from tests.fakes import RememberingObserver
from tests.memory_store import MemoryStore
from tests.stores.entries.making import entry, put


async def test_entries_and_bodies_can_be_had_without_waiting() -> None:
    store = MemoryStore(1 << 20)
    stored = await put(store, entry())
    assert store.get_nowait(stored.key) == (stored,)
    assert store.read_nowait(stored) == b"body"
    assert (store.get_nowait("other"), store.read_nowait(entry(1))) == ((), None)


async def test_it_is_bounded_and_tells_what_went() -> None:
    observer = RememberingObserver()
    store = MemoryStore(200_000, observer=observer)
    for n in range(50):
        await put(store, entry(n), b"x" * 10_000)
    stats = await store.stats()
    assert stats.bytes_used <= 200_000
    assert stats.evictions == sum(event.count for event in observer.of(EntriesEvicted)) == 50 - stats.entries
    assert stats.tier == "memory"


async def test_what_does_not_fit_is_refused_whole() -> None:
    store = MemoryStore(80_000)
    writer = await store.create(entry())
    await writer.write(b"x" * 9000)
    with pytest.raises(EntryStoreFailure, match="memory_size"):
        await writer.write(b"x" * 9000)
    with pytest.raises(EntryStoreFailure, match="given up"):
        await writer.commit()
    await writer.abandon()
    near = await store.create(entry(0, target="/" + "x" * 2000))
    await near.write(b"x" * 9500)
    with pytest.raises(EntryStoreFailure, match="memory_size"):
        await near.commit()
    assert list(await store.select(entry().key)) == []
