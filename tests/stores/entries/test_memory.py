"""What the store in memory promises beyond the contract."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from passoproxy.core.events import EntriesEvicted
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.memory import MemoryStore
from tests.fakes import RememberingObserver
from tests.stores.entries.making import entry, put


def at_once(call: Coroutine[Any, Any, Any]) -> object:
    """The result of a coroutine that never suspends."""
    with pytest.raises(StopIteration) as ended:
        call.send(None)
    return ended.value.value


async def test_select_and_read_never_suspend() -> None:
    store = MemoryStore(1 << 20)
    stored = await put(store, entry())
    assert at_once(store.select(stored.key)) == (stored,)
    assert at_once(store.read(stored)).data == b"body"  # type: ignore[attr-defined]


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
