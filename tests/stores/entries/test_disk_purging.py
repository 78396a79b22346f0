"""Purges: in force when they are answered, in every process, carried out behind the answer or by the next process; and soft purges."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.soft_purge import SoftPurge
from passoproxy.core.events import TaskFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk import database, index, recovery
from passoproxy.stores.entries.disk.recovery import Recovery
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.disk.writer import Transaction
from passoproxy.stores.entries.tiered import TieredStore
from tests.fakes import RememberingObserver
from tests.stores.entries.making import body_of, entry, found, put, put_many

Opened = Callable[..., DiskStore]
TAG = Selector(tag="country/de")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is carried out behind the answers: what a process that is killed right then leaves."""
    monkeypatch.setattr(Recovery, "sweep_purges", lambda self: None)


async def all_gone(store: DiskStore) -> None:
    """Waits until no purge is left to be carried out."""
    while await store._ask(lambda index: index.in_force()):
        await asyncio.sleep(0.01)


def bodies(folder: Path) -> list[Path]:
    return [path for path in (folder / "bodies").rglob("*") if path.is_file()]


@pytest.mark.usefixtures("held")
async def test_what_is_purged_is_gone_although_it_lies_there(opened: Opened, tmp_path: Path) -> None:
    store, other = opened(few=0), opened()
    kept = await put(store, entry("kept", tags=()), b"kept")
    gone = [await put(store, entry(n), b"gone") for n in range(30)]
    assert await store.purge(TAG) == 30
    assert await store._ask(lambda index: index.totals()[0]) == 31
    for each in (store, other):
        assert [entry_.target async for entry_ in each.entries(Selector())] == [kept.target]
        assert [list(await each.select(one.key)) for one in gone] == [[]] * 30
        assert (await each.stats()).entries == 1
    assert await store.purge(TAG) == 0
    assert await body_of(store, kept) == b"kept"


@pytest.mark.usefixtures("held")
async def test_what_is_stored_after_a_purge_stays(opened: Opened) -> None:
    store = opened(few=0)
    await put(store, entry(0), b"old")
    stored = await put(store, entry(1), b"old")
    assert await store.purge(TAG) == 2
    await store.update(replace(stored, tags=()))
    assert list(await store.select(stored.key)) == []
    await put(store, entry(0), b"new")
    await put(store, entry(2), b"new")
    assert [await found(store, entry(n)) for n in range(3)] == [b"new", None, b"new"]
    assert (await store.stats()).entries == 2
    assert await store.purge(Selector(route="requirements")) == 2
    assert [await found(store, entry(n)) for n in range(3)] == [None] * 3


async def test_the_next_process_carries_out_what_was_left(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Recovery, "sweep_purges", lambda self: None)
        store = opened(few=0)
        await put_many(store, map(entry, range(300)))
        await put(store, entry("long", target="/x" * 400), b"gone too")
        assert await store.purge(TAG) == 301
        await put(store, entry("new"), b"new")
        await store.close()
    monkeypatch.setattr(index, "COUNTED_SECONDS", 0.0)
    again = opened()
    await all_gone(again)
    assert await found(again, entry("new")) == b"new"
    assert (await again.stats()).entries == 1
    while len(bodies(tmp_path / "cache")) > 1:
        await asyncio.sleep(0.01)


async def test_a_purge_behind_leaves_other_entries(opened: Opened, tmp_path: Path) -> None:
    store = opened(few=0)
    await put_many(
        store, (entry(n, tags=("even",) if n % 2 == 0 else ("odd",), target=f"/{n % 3}/{n}") for n in range(600))
    )
    assert await store.purge(Selector(tag="even")) == 300
    assert await store.purge(Selector(prefix="/0/*")) == 100
    await all_gone(store)
    left = [each async for each in store.entries(Selector())]
    assert len(left) == 200 == (await store.stats()).entries
    assert all(each.tags == ("odd",) and not each.target.startswith("/0/") for each in left)


async def test_another_process_s_memory_heeds_a_purge_of_many(opened: Opened, tmp_path: Path) -> None:
    mine, store = TieredStore(8 << 20, opened(few=0)), TieredStore(8 << 20, opened(few=0))
    made = [await put(mine, entry(n), b"body") for n in range(20)]
    await mine.settled()
    for each in made:
        assert await found(store, each) == b"body"
    assert await mine.purge(TAG) == 20
    for each in made:
        assert await found(store, each) is None
        assert await found(mine, each) is None
    assert await mine.purge(Selector()) == 0


# ---- everything --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", [Selector(), Selector(prefix="*")])
@pytest.mark.parametrize("few", [0, 400])
async def test_a_purge_of_everything_lets_those_read_on_who_read(
    opened: Opened, tmp_path: Path, selector: Selector, few: int
) -> None:
    store, other = opened(few=few), opened()
    made = [await put(store, entry(n), os.urandom(300_000)) for n in range(10)]
    reading = await store.read(made[0])
    assert reading is not None
    writer = await other.create(entry("under way"))
    await writer.write(b"x" * 600_000)
    used, generation = (await store.stats()).bytes_used, other.generation()
    assert await store.purge(selector) == 10
    assert other.generation() > generation
    assert await writer.commit() is None
    for each in (store, other):
        assert (await each.stats()).entries == 0
        assert list(await each.select(made[0].key)) == []
    assert sum([len(piece) async for piece in reading]) == 300_000
    await put(other, entry(1), b"again")
    assert await found(store, entry(1)) == b"again"
    await all_gone(store)
    assert bodies(tmp_path / "cache") == []
    assert (await store.stats()).bytes_used < used - 2_500_000


@pytest.mark.parametrize("selector", [Selector(), TAG])
async def test_the_folder_of_bodies_may_be_missing(opened: Opened, tmp_path: Path, selector: Selector) -> None:
    store = opened()
    await put(store, entry(), b"body")
    (tmp_path / "cache" / "bodies").rename(tmp_path / "elsewhere")
    assert await store.purge(selector) == 1
    await put(store, entry(), b"again")
    assert await found(store, entry()) == b"again"


async def test_purges_and_storing_at_once_end_as_they_should(opened: Opened, tmp_path: Path) -> None:
    """Whatever was committed before a purge was asked for is gone when it is answered; the rest is whole."""
    store = opened(few=3)

    async def storing(name: int) -> None:
        for n in range(40):
            await put_or_purged(store, f"{name} {n}")

    async def purging() -> None:
        for n in range(12):
            await store.purge((Selector(), TAG, Selector(prefix="/api"), Selector(tag="requirements"))[n % 4])
            await asyncio.sleep(0.005)

    await asyncio.gather(*(storing(name) for name in range(4)), purging())
    async for each in store.entries(Selector()):
        assert await body_of(store, each) == each.identifier.encode()
    await store.purge(TAG)
    assert [each async for each in store.entries(Selector())] == []
    await all_gone(store)
    assert (await store.stats()).entries == 0


async def put_or_purged(store: DiskStore, n: str) -> None:
    made = entry(n)
    writer = await store.create(made)
    await writer.write(made.identifier.encode())
    await writer.commit()


@pytest.mark.parametrize("fault", [EntryStoreFailure("not now"), ZeroDivisionError("a mistake")])
async def test_what_could_not_be_carried_out_is_tried_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    failed, told = [], RememberingObserver()

    def refuse(self: Recovery, *_: object) -> bool:
        failed.append(self)
        raise fault

    monkeypatch.setattr(recovery, "PURGES_SECONDS", 0.05)
    store = opened(few=0, observer=told)
    gone = [await put(store, entry(n), b"gone") for n in range(20)]
    with monkeypatch.context() as patched:
        patched.setattr(Recovery, "_sweep", refuse)
        assert await store.purge(TAG) == 20
        while len(failed) < 2:
            await asyncio.sleep(0.01)
        assert await found(store, gone[0]) is None
    await all_gone(store)
    assert (await store.stats()).entries == 0
    assert bool(told.of(TaskFailed)) is isinstance(fault, ZeroDivisionError)


async def test_a_purge_waits_for_a_process_that_holds_the_database_locked_for_long(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(patience=0.05)
    kept, gone = await put(store, entry(0, tags=())), await put(store, entry(1))
    db = sqlite3.connect(tmp_path / "cache" / "index.db", isolation_level=None, check_same_thread=False)
    db.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(store._reports, "failed", lambda *_, **__: db.in_transaction and db.execute("ROLLBACK"))
    assert await store.purge(TAG) == 1
    db.close()
    assert await found(store, gone) is None
    assert await found(store, kept) == b"body"


async def test_a_purge_in_a_database_that_was_dropped_meanwhile_is_in_force_in_the_next(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = opened(), opened()
    await put(other, entry(0))
    purge, loop = store._purge, asyncio.get_running_loop()

    async def drop() -> None:
        await other._purge_without_database()
        await put(other, entry(1))

    def stopped(selector: Selector, txn: Transaction) -> object:
        monkeypatch.undo()
        asyncio.run_coroutine_threadsafe(drop(), loop).result(20)
        return purge(selector, txn)

    monkeypatch.setattr(store, "_purge", stopped)
    await store.purge(TAG)
    assert await found(other, entry(1)) is None


# ---- soft purges ---------------------------------------------------------------------------------------------------------

ONE = SoftPurge(Selector(tag="t"), 100.5)
TWO = SoftPurge(Selector(target="/ä\udce9?x", key="k"), 200.0)


async def test_soft_purges_are_in_force_in_every_process_and_after_a_restart(opened: Opened) -> None:
    mine, theirs = opened(), opened()
    assert mine.current(0.0).kept == theirs.current(0.0).kept == ()
    events, purges = mine.feed.events, mine.feed.purges
    stored, writer = await put(mine, entry(), b"stays"), await mine.create(entry(1))
    await theirs.add(ONE)
    assert (mine.feed.events > events, mine.feed.purges > purges) == (True, True)
    found_ = mine.current(0.0)
    assert found_.kept == theirs.current(0.0).kept == (ONE,)
    await theirs.purge(Selector(tag="another"))
    assert mine.current(0.0) is found_  # read anew only when there is another soft purge
    assert await body_of(mine, stored) == b"stays"
    assert await writer.commit() is not None
    await mine.add(TWO)
    assert theirs.current(0.0).kept == (ONE, TWO)
    await mine.close()
    await theirs.close()
    assert opened().current(0.0).kept == (ONE, TWO)


async def test_a_soft_purge_is_synced_before_it_is_answered(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.readlink(f"/proc/self/fd/{file}")))
    store = opened()
    await store.add(ONE)
    assert any(path.endswith("index.db-wal") for path in synced)


async def test_a_soft_purge_that_cannot_be_written_changes_nothing(opened: Opened, tmp_path: Path) -> None:
    store = opened(patience=0.05)
    await store.add(ONE)
    db = sqlite3.connect(tmp_path / "cache" / "index.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    with pytest.raises(EntryStoreFailure):
        await store.add(TWO)
    db.execute("ROLLBACK")
    db.close()
    assert store.current(0.0).kept == (ONE,)


async def test_soft_purges_that_cannot_be_read_mean_everything_so_far(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    monkeypatch.setattr(store._database, "run", lambda work: (_ for _ in ()).throw(EntryStoreFailure("not now")))
    assert store.current(300.0).kept == (SoftPurge(Selector(), 300.0),)


async def test_the_loop_waits_for_no_database_that_is_begun_anew(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LOOKED_AGAIN", 60.0)
    mine, theirs = opened(), opened()
    assert mine.current(0.0).kept == ()
    mine.find_nowait("key")
    await theirs._ask(theirs._database.drop)
    with monkeypatch.context() as patched:
        patched.setattr(mine._database, "_open", None)
        assert mine.current(300.0).kept == (SoftPurge(Selector(), 300.0),)
    await theirs.add(ONE)
    await mine.select("key")
    while mine.current(300.0).kept != (ONE,):
        await asyncio.sleep(0.001)


async def _untold(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge whose process is killed right after its commit: others are not told of it."""
    monkeypatch.setattr(store._writer, "_tell", lambda txn: None)
    assert await store.purge(TAG) == 1


async def test_after_a_purge_that_nobody_was_told_of_things_are_stored(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    await put(store, entry(0))
    await _untold(store, monkeypatch)
    again, deadline = opened(), time.monotonic() + 20
    while True:
        writer = await again.create(entry(1))
        await writer.write(b"body")
        if await writer.commit() is not None:
            break
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert await found(again, entry(1)) == b"body"


async def test_an_owed_purge_is_in_force_after_one_that_nobody_was_told_of(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, other = opened(), opened()
    await put(killed, entry(0))
    kept = await put(killed, entry(1, tags=()))
    await _untold(killed, monkeypatch)
    monkeypatch.setattr(other._database, "drop", lambda index: None)
    await other._purge_without_database()
    assert await found(other, kept) is None


async def test_a_repeated_purge_is_heeded_where_the_first_was_not_told(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, other, memory = opened(), opened(), TieredStore(8 << 20, opened())
    made = await put(killed, entry(0))
    assert await found(memory, made) == b"body"
    await _untold(killed, monkeypatch)
    assert await other.purge(TAG) == 0
    assert not memory.get_nowait(made.key)
    await memory.close()


async def test_those_who_come_after_the_page_was_removed_are_heard(opened: Opened, tmp_path: Path) -> None:
    memory = TieredStore(8 << 20, opened())
    made = await put(memory, entry(0))
    await memory.settled()
    page = tmp_path / "cache" / "page"
    page.unlink()
    other, deadline = opened(), time.monotonic() + 20
    while (os.stat(page).st_ino != os.fstat(memory.feed._file).st_ino) and time.monotonic() < deadline:  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
    assert await found(memory, made) == b"body"
    assert await other.purge(TAG) == 1
    assert not memory.get_nowait(made.key)
    await memory.close()


async def test_what_was_purged_on_a_full_disk_has_no_head_either(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise EntryStoreFailure("no space")

    disk = opened()
    store = TieredStore(8 << 20, disk)
    made, kept = await put(store, entry(0)), await put(store, entry(1, tags=()))
    await store.settled()
    with monkeypatch.context() as patched:
        patched.setattr(disk._writer, "_commit", full)
        assert await store.purge(TAG) == 1
        assert not await store.select(made.key)
        assert await found(store, kept) in (None, b"body")
    assert not await store.select(made.key)
    assert await found(store, await put(store, entry(0))) == b"body"
    await store.close()
