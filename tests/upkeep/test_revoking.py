"""`cache.on_revoked`: what is kept and what goes when a grant was withdrawn."""

from __future__ import annotations

import pytest

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.events import EntriesPurged, StoreFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import nobody
from passoproxy.upkeep.revocation import remove_revoked
from tests.fakes import RememberingObserver
from tests.memory_store import MemoryStore


async def filled() -> MemoryStore:
    store = MemoryStore(1 << 20)
    for partition in ("mine", "other"):
        for name, private in (("a", True), ("b", True), ("c", False)):
            entry = Entry(
                f"{partition}-{name}", f"{partition}-{name}", partition, "GET", f"/{name}", 200, private=private
            )
            writer = await store.create(entry)
            await writer.write(b"x")
            assert await writer.commit() is not None
    return store


async def left(store: MemoryStore) -> list[str]:
    return sorted([entry.key async for entry in store.entries(Selector())])


OTHER = ["other-a", "other-b", "other-c"]


@pytest.mark.parametrize(
    ("what", "remains", "counts"),
    [
        ("keep", ["mine-a", "mine-b", "mine-c", *OTHER], []),
        ("purge_private", ["mine-c", *OTHER], [2]),
        ("purge", OTHER, [3]),
    ],
)
async def test_what_goes(what, remains, counts):
    store, observer = await filled(), RememberingObserver()
    await remove_revoked(store, what, observer, "mine")
    assert await left(store) == remains
    assert [(each.count, each.why) for each in observer.of(EntriesPurged)] == [(count, "revoked") for count in counts]
    await store.close()


@pytest.mark.parametrize(
    ("what", "kept"), [("keep", [True, True]), ("purge_private", [False, True]), ("purge", [False, False])]
)
async def test_what_is_being_stored_at_that_moment_is_meant_too(what, kept):
    store = MemoryStore(1 << 20)
    writers = [await store.create(Entry(n, n, "mine", "GET", f"/{n}", 200, private=n == "a")) for n in ("a", "b")]
    await remove_revoked(store, what, nobody, "mine")
    assert [await writer.commit() is not None for writer in writers] == kept
    await store.close()


@pytest.mark.parametrize("what", ["purge_private", "purge"])
async def test_a_store_that_fails_is_told_and_stops_nothing(what):
    store, observer = await filled(), RememberingObserver()

    async def failing(*_):
        raise EntryStoreFailure("/cache: cannot be read")

    store.purge = store.discard = failing
    await remove_revoked(store, what, observer, "mine")
    (told,) = observer.of(StoreFailed)
    assert "/cache: cannot be read" in told.detail
    await store.close()
