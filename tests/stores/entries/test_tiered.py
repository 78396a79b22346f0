"""Memory before disk: usable at once, on disk soon after, and never older than what others did."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import BytesBody
from passoproxy.stores.entries import tiered
from passoproxy.stores.entries.disk import database
from passoproxy.stores.entries.disk import store as disk_store
from passoproxy.stores.entries.disk.bodies import BODIES
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.serialization import body_name, row_name
from passoproxy.stores.entries.tiered import TieredStore
from tests.stores.entries.making import body_of, entry, found, put, put_many, whole, write_much

Opened = Callable[..., DiskStore]
MEMORY = 16 << 20


class Failing:
    """A disk store whose writing can be switched off."""

    def __init__(self, store: DiskStore) -> None:
        self.store = store
        self.refuses_create = self.refuses_commit = self.refuses_update = self.refuses_write = False

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    async def create(self, made):  # type: ignore[no-untyped-def]
        if self.refuses_create:
            raise EntryStoreFailure("full")
        return FailingWriter(self, await self.store.create(made))

    async def update(self, made):  # type: ignore[no-untyped-def]
        if self.refuses_update:
            raise EntryStoreFailure("full")
        await self.store.update(made)


class FailingWriter:
    def __init__(self, store: Failing, writer: object) -> None:
        self._store, self._writer = store, writer

    def __getattr__(self, name: str) -> object:
        return getattr(self._writer, name)

    async def write(self, data: bytes) -> None:
        if self._store.refuses_write:
            raise EntryStoreFailure("full")
        await self._writer.write(data)  # type: ignore[attr-defined]

    async def commit(self, made=None):  # type: ignore[no-untyped-def]
        if self._store.refuses_commit:
            raise EntryStoreFailure("full")
        return await self._writer.commit(made)  # type: ignore[attr-defined]


@pytest.fixture
def failing(opened: Opened) -> Failing:
    return Failing(opened())


@pytest.fixture
def half(failing: Failing) -> TieredStore:
    return TieredStore(MEMORY, failing)  # type: ignore[arg-type]


async def test_what_was_stored_or_found_once_is_answered_without_waiting(opened: Opened) -> None:
    store = TieredStore(MEMORY, opened())
    stored = await put(store, entry(), b"body")
    await store.settled()
    assert store.get_nowait(stored.key) == (stored,)
    assert store.read_nowait(stored) == b"body"
    again = TieredStore(MEMORY, opened())
    assert await found(again, entry()) == b"body"
    assert again.get_nowait(stored.key) == (stored,)
    assert again.read_nowait(stored) == b"body"


async def test_what_others_purged_is_not_answered_from_memory(opened: Opened) -> None:
    store, other = TieredStore(MEMORY, opened()), opened()
    stored = await put(store, entry(), b"body")
    await store.settled()
    await other.purge(Selector(target=stored.target))
    assert not store.get_nowait(stored.key)


async def test_an_answer_is_on_disk_soon(opened: Opened) -> None:
    store, disk = TieredStore(MEMORY, opened()), opened()
    stored = await put(store, entry(), b"body")
    assert await found(store, entry()) == b"body"
    async with asyncio.timeout(20):
        while not await disk.select(stored.key):
            await asyncio.sleep(0.01)
    assert await found(disk, entry()) == b"body"


async def test_it_is_on_disk_after_the_end(opened: Opened) -> None:
    store = TieredStore(MEMORY, opened())
    for n in range(50):
        await put(store, entry(n), b"x" * 1000)
    await store.close()
    assert (await opened().stats()).entries == 50


async def test_variants_that_are_only_on_disk_are_not_forgotten(opened: Opened) -> None:
    await put(opened(), entry(0, identifier="one", varies=(("x", "1"),)), b"one")
    store = TieredStore(MEMORY, opened())
    await put(store, entry(0, identifier="two", varies=(("x", "2"),)), b"two")
    assert {each.identifier for each in await store.select(entry().key)} == {"one", "two"}


async def test_what_others_change_is_followed(opened: Opened) -> None:
    one, other = TieredStore(MEMORY, opened()), TieredStore(MEMORY, opened())
    first = await put(one, entry(), b"first")
    kept = await put(one, entry(1), b"kept")
    await one.settled()
    assert await found(other, entry()) == b"first"
    second = await put(other, entry(0, identifier="second"), b"second")
    await other.settled()
    assert list(await one.select(first.key)) == [second]
    assert await body_of(one, second) == b"second"
    assert one.get_nowait(kept.key) == (kept,)
    await one.update(replace(second, response_time=9e9))
    assert (await other.select(first.key))[0].response_time == 9e9
    await other.discard(second)
    assert list(await one.select(first.key)) == []
    assert await other.purge(Selector()) == 1
    assert await found(one, entry(1)) is None


async def test_it_tells_when_others_have_purged(opened: Opened) -> None:
    one, other = TieredStore(MEMORY, opened()), TieredStore(MEMORY, opened())
    told: list[int] = []
    one.on_purged = lambda: told.append(1)
    await put(one, entry())
    await one.settled()
    await one.purge(Selector(tag="nothing"))
    await put(other, entry(1))
    await other.settled()
    await one.select("x" * 64)
    assert told == []  # its own, and what changes nothing
    for selector in (Selector(tag="nothing"), Selector(key="soft purge"), Selector()):
        before, generation = one.feed.purges, one.generation()
        await other.purge(selector)
        assert one.feed.purges > before
        assert one.generation() > generation
        told.clear()
        await one.select("x" * 64)
        assert told


async def test_what_is_learnt_while_it_looks_counts_for_what_it_found(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, disk, other = TieredStore(MEMORY, opened()), opened(), opened()
    await put(other, entry())
    told: list[int] = []
    one.on_purged = lambda: told.append(1)
    monkeypatch.setattr(disk_store.DiskStore, "find_nowait", lambda self, key: None)
    select = one._slow.select

    async def purged_meanwhile(key: str) -> Sequence[Entry]:
        found = await select(key)
        await disk.purge(Selector(tag="nothing"))
        return found

    one._slow.select = purged_meanwhile  # type: ignore[method-assign]
    await one.select(entry().key)
    assert told == [1]


async def test_after_more_changes_than_are_remembered_memory_starts_anew(opened: Opened) -> None:
    one, disk = TieredStore(MEMORY, opened()), opened()
    await put(one, entry(), b"body")
    await one.settled()
    await put_many(disk, map(entry, range(1, 600)))
    await disk.discard(whole(entry(), b"body"))
    assert list(await one.select(entry().key)) == []
    assert one.memory_stats().entries == 0


async def test_a_change_while_loading_is_not_overlooked(opened: Opened) -> None:
    disk, other = opened(), opened()
    old = await put(other, entry(), b"old")
    store = TieredStore(MEMORY, disk)
    loading = asyncio.ensure_future(store.select(old.key))
    await asyncio.sleep(0)
    await store.discard(old)
    await loading
    assert list(await store.select(old.key)) == []
    loading = asyncio.ensure_future(store.select(old.key))
    await asyncio.sleep(0)
    await put(store, entry(), b"new")
    await loading
    assert await found(store, entry()) == b"new"


async def test_large_bodies_pass_the_memory_by(opened: Opened) -> None:
    store = TieredStore(MEMORY, opened())
    stored = await put(store, entry(), os.urandom(700_000))
    body = await store.read(stored)
    assert not isinstance(body, BytesBody)
    assert body is not None
    await body.aclose()
    assert store.memory_stats().bytes_used < 10_000


async def test_a_body_lost_on_disk_is_gone_from_memory_too(opened: Opened) -> None:
    disk = opened()
    stored = await put(disk, entry(), b"b" * 40_000)
    store = TieredStore(MEMORY, disk)
    assert list(await store.select(stored.key)) == [stored]
    for path in (disk._folder / "bodies").rglob("*.*"):
        path.unlink()
    assert await store.read(stored) is None
    assert list(await store.select(stored.key)) == []


async def test_who_stores_too_fast_waits_for_the_disk(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiered, "BEHIND_BYTES", 0)
    disk = opened()
    store = TieredStore(MEMORY, disk)
    stored = await put(store, entry(), b"body")
    assert list(await disk.select(stored.key)) == [stored]


@pytest.mark.parametrize("refusal", ["refuses_create", "refuses_commit", "refuses_write"])
async def test_with_a_full_disk_memory_goes_on(half: TieredStore, failing: Failing, refusal: str) -> None:
    setattr(failing, refusal, True)
    stored = await put(half, entry(), b"body")
    await half.settled()
    assert await found(half, entry()) == b"body"
    assert [each async for each in half.entries(Selector())] == [stored]
    large = await half.create(entry(1))
    with pytest.raises(EntryStoreFailure):
        await write_much(large, 1, 500_000)
    await large.abandon()
    assert await half.purge(Selector(prefix="/api")) == 1
    assert await found(half, entry()) is None
    writer = await half.create(entry())
    await writer.write(b"before the purge")
    await half.purge(Selector(target="/elsewhere"))
    if refusal == "refuses_commit":  # only the disk's log could tell whether that purge counts
        with pytest.raises(EntryStoreFailure):
            await writer.commit()
    else:
        assert await writer.commit() is None


async def test_a_body_that_fails_on_disk_midway_is_kept_in_memory_if_small(half: TieredStore, failing: Failing) -> None:
    small, large = await half.create(entry()), await half.create(entry(1))
    await small.write(b"one ")
    await large.write(b"x" * 300_000)
    failing.refuses_write = True
    await small.write(b"two")
    with pytest.raises(EntryStoreFailure):
        await large.write(b"x" * 300_000)
    with pytest.raises(EntryStoreFailure):
        await large.commit()
    await large.abandon()
    assert await small.commit() is not None
    assert await found(half, entry()) == b"one two"


async def test_an_update_the_disk_refuses_holds_in_memory(half: TieredStore, failing: Failing) -> None:
    stored = await put(half, entry(), b"body")
    await half.settled()
    failing.refuses_update = True
    await half.update(replace(stored, response_time=9e9))
    assert (await half.select(stored.key))[0].response_time == 9e9
    await put(failing.store, entry(5), b"only on disk")
    with pytest.raises(EntryStoreFailure):
        await half.update(entry(5))


async def test_another_s_purge_reaches_what_only_memory_holds(
    half: TieredStore, failing: Failing, opened: Opened
) -> None:
    failing.refuses_commit = True
    await put(half, entry(), b"only in memory")
    await half.settled()
    assert await opened().purge(Selector(target=entry().target)) == 0
    assert await found(half, entry()) is None


async def test_what_memory_has_no_room_for_is_refused_when_the_disk_is_full(failing: Failing) -> None:
    store = TieredStore(40_000, failing)  # type: ignore[arg-type]
    failing.refuses_create = True
    writer = await store.create(entry(0, target="/" + "x" * 3000))
    await writer.write(b"x" * 2000)
    with pytest.raises(EntryStoreFailure, match="no place"):
        await writer.commit()
    await writer.abandon()


async def test_memory_forgets_who_was_alone(
    half: TieredStore, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days of a full disk must not fill the memory with names."""
    failing.refuses_create = True
    monkeypatch.setattr(tiered, "_MOST_ALONE", 10)
    half._most_alone = 10
    for n in range(200):
        await put(half, entry(n % 5, identifier=f"i{n}"), b"x")
    assert len(half._alone) < 30
    assert await half.purge(Selector()) == 5


async def test_a_failed_discard_is_gone_from_memory_all_the_same(half: TieredStore, failing: Failing) -> None:
    stored = await put(half, entry(), b"body")
    await half.settled()
    before = half.generation()
    await half.discard(stored)
    assert half.generation() > before
    assert await found(half, entry()) is None


async def test_what_lies_in_databases_that_others_dropped_is_not_found(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LOOKED_AGAIN", 60.0)
    store, other = TieredStore(MEMORY, opened()), opened()
    made = await put(other, entry())
    await store.select(made.key)
    while not store.get_nowait(made.key):
        await asyncio.sleep(0.001)
    await other._ask(other._database.drop)
    assert not store.get_nowait(made.key)
    await store.close()


async def test_a_purge_reaches_memory_though_the_row_was_lost(opened: Opened, tmp_path: Path) -> None:
    disk, other = opened(), opened()
    store = TieredStore(MEMORY, disk)
    made = await put(store, entry(), b"x" * 40_000)
    await store.settled()
    (tmp_path / "cache" / BODIES / body_name(row_name(made), made.digest)).unlink()
    while not await asyncio.to_thread(disk._recovery.recover):
        await asyncio.sleep(0.001)
    await other.purge(Selector(tag="country/de"))
    assert not store.get_nowait(made.key)
    await store.close()


async def test_a_walk_over_keys_that_are_stored_pushes_nothing_out_of_memory(opened: Opened) -> None:
    store = TieredStore(256 << 10, opened())
    asked = [await put(store, entry(f"asked {n}")) for n in range(5)]
    for made in asked:
        assert store.get_nowait(made.key)
    for n in range(200):
        assert not await store.select(entry(n).key)
        await put(store, entry(n))
    assert store.memory_stats().evictions > 0
    assert all(store._shelf.held(made) for made in asked)
    await store.close()
