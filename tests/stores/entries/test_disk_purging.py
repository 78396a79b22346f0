"""Purges of many entries: in force when they are answered, carried out behind the answer, also by whoever comes after a killed process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.events import TaskFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk import store as disk_clearing
from passoproxy.stores.entries.disk.index import Rows
from passoproxy.stores.entries.disk.store import DiskStore, means_everything
from passoproxy.stores.entries.disk.writer import CarryingOut, Job
from passoproxy.stores.entries.tiered import TieredStore
from tests.fakes import RememberingObserver
from tests.stores.entries.making import body_of, entry, found, put

Opened = Callable[..., DiskStore]
TAG = Selector(tag="country/de")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is carried out behind the answers: what a process that is killed right then leaves."""
    monkeypatch.setattr(disk_clearing.Clearing, "_clear_all", lambda self: None)


async def all_gone(store: DiskStore, folder: Path) -> None:
    """Waits until no purge is left to be carried out, and no body lies there that no row names."""
    while await store._call(lambda: store._database.rows().purging.undone()) or (folder / "removed").exists():
        await asyncio.sleep(0.01)


def bodies(folder: Path) -> list[Path]:
    return [path for path in (folder / "bodies").rglob("*") if path.is_file()]


@pytest.mark.usefixtures("held")
async def test_what_is_purged_is_gone_although_it_lies_there(opened: Opened, tmp_path: Path) -> None:
    store, other = opened(few=0), opened()
    kept = await put(store, entry("kept", tags=()), b"kept")
    gone = [await put(store, entry(n), b"gone") for n in range(30)]
    assert await store.purge(TAG) == 30
    assert len(bodies(tmp_path / "cache")) == 31
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
        patched.setattr(disk_clearing.Clearing, "_clear_all", lambda self: None)
        store = opened(few=0)
        for n in range(700):
            await put(store, entry(n), b"gone")
        await put(store, entry("long", target="/x" * 400), b"gone too: its hints do not tell")
        assert await store.purge(TAG) == 701
        await put(store, entry("new"), b"new")
        await store.close()
    again = opened()
    await all_gone(again, tmp_path / "cache")
    assert await found(again, entry("new")) == b"new"
    assert (await again.stats()).entries == 1
    while len(bodies(tmp_path / "cache")) > 1:
        await asyncio.sleep(0.01)


async def test_a_purge_behind_leaves_other_entries(opened: Opened, tmp_path: Path) -> None:
    store = opened(few=0)
    for n in range(600):
        await put(store, entry(n, tags=("even",) if n % 2 == 0 else ("odd",), target=f"/{n % 3}/{n}"), b"b")
    assert await store.purge(Selector(tag="even")) == 300
    assert await store.purge(Selector(prefix="/0/*")) == 100
    await all_gone(store, tmp_path / "cache")
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


@pytest.mark.parametrize("selector", [Selector(), Selector(prefix="*"), Selector(prefix="")])
async def test_a_purge_of_everything_sets_the_bodies_aside(opened: Opened, tmp_path: Path, selector: Selector) -> None:
    folder = tmp_path / "cache"
    store, other = opened(), opened()
    made = [await put(store, entry(n), os.urandom(300_000)) for n in range(10)]
    reading = await store.read(made[0])
    assert reading is not None
    writer = await other.create(entry("under way"))
    await writer.write(b"x" * 600_000)
    used, generation = (await store.stats()).bytes_used, other.generation()
    assert means_everything(selector)
    assert await store.purge(selector) == 10
    assert bodies(folder) == []
    assert other.generation() > generation
    assert await writer.commit() is None
    for each in (store, other):
        assert (await each.stats()).entries == 0
        assert list(await each.select(made[0].key)) == []
        assert await each.read(made[1]) is None
    assert sum([len(piece) async for piece in reading]) == 300_000  # who reads already reads on
    await put(other, entry(1), b"again")
    assert await found(store, entry(1)) == b"again"
    await all_gone(store, folder)
    assert (await store.stats()).bytes_used < used - 2_500_000


async def test_bytes_that_were_set_aside_count_until_they_are_gone(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    for n in range(5):
        await put(store, entry(n), os.urandom(200_000))
    monkeypatch.setattr(store._sweeping, "_remove_aside", lambda: None)
    await store.purge(Selector())
    assert (await store.stats()).bytes_used > 1_000_000
    monkeypatch.undo()
    store._sweeping.ask()
    await all_gone(store, tmp_path / "cache")
    assert (await store.stats()).bytes_used < 500_000


async def test_a_folder_in_which_nothing_can_be_made_anew_is_emptied_row_by_row(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    made = [await put(store, entry(n), b"body") for n in range(60)]

    def refused(rows: object) -> None:
        raise EntryStoreFailure("nothing can be made here")

    monkeypatch.setattr(store._database, "replace", refused)
    assert await store.purge(Selector()) == 60
    assert [await found(store, each) for each in made] == [None] * 60


async def test_the_folder_of_bodies_may_be_missing_when_all_is_purged(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    await put(store, entry(), b"body")
    (tmp_path / "cache" / "bodies").rename(tmp_path / "elsewhere")
    assert await store.purge(Selector()) == 1
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
    await all_gone(store, tmp_path / "cache")
    assert (await store.stats()).entries == 0


async def put_or_purged(store: DiskStore, n: str) -> None:
    made = entry(n)
    writer = await store.create(made)
    await writer.write(made.identifier.encode())
    await writer.commit()


async def test_what_could_not_be_carried_out_is_tried_again(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = []

    def refuse(self: CarryingOut, rows: object, changes: object) -> None:
        failed.append(self)
        raise EntryStoreFailure("not now")

    monkeypatch.setattr(disk_clearing, "AGAIN_SECONDS", 0.05)
    store = opened(few=0)
    gone = [await put(store, entry(n), b"gone") for n in range(20)]
    with monkeypatch.context() as patched:
        patched.setattr(CarryingOut, "apply", refuse)
        assert await store.purge(TAG) == 20
        while len(failed) < 2:
            await asyncio.sleep(0.01)
        assert await found(store, gone[0]) is None
    await all_gone(store, tmp_path / "cache")
    assert (await store.stats()).entries == 0


async def test_a_fault_in_carrying_out_is_told_and_the_purge_stays_in_force(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_clearing, "AGAIN_SECONDS", 0.05)
    told = RememberingObserver()
    store = opened(few=0, observer=told)
    gone = [await put(store, entry(n), b"gone") for n in range(5)]
    with monkeypatch.context() as patched:
        patched.setattr(disk_clearing.Clearing, "_window", lambda self, after, selector: 1 / 0)
        assert await store.purge(TAG) == 5
        while not told.of(TaskFailed):
            await asyncio.sleep(0.01)
        assert [await found(store, each) for each in gone] == [None] * 5
    await all_gone(store, tmp_path / "cache")


async def test_many_rows_are_looked_through_window_by_window(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A range of targets: what lies before and behind it is not looked at, what lies within is met once."""
    monkeypatch.setattr(disk_clearing, "_WINDOW", 7)
    monkeypatch.setattr(disk_clearing, "_TOGETHER", 3)
    store = opened(few=0)
    for n in range(90):
        await put(store, entry(n, target=f"/{'abc'[n % 3]}/{n}" + "/x" * (300 if n % 10 == 0 else 0)), b"body")
    assert await store.purge(Selector(prefix="/b/*")) == 30
    await all_gone(store, tmp_path / "cache")
    left = [each.target[:2] async for each in store.entries(Selector())]
    assert sorted(set(left)) == ["/a", "/c"]
    assert len(left) == 60 == len(bodies(tmp_path / "cache"))


@pytest.mark.parametrize("writing", [False, True], ids=["reading", "writing"])
async def test_who_is_at_work_while_another_process_begins_anew_turns_to_the_new_database(
    opened: Opened, writing: bool
) -> None:
    """What fails in a database that was taken away tells nothing of the one that lies there now."""
    store, other = opened(), opened()
    await put(store, entry(1), b"gone")
    await put(other, entry(2), b"gone")
    seen = []

    def begun_anew(rows: Rows, *_: object) -> int:
        seen.append(rows)
        if len(seen) == 1:
            store._database.replace(store._database.rows())
            raise FileNotFoundError(2, "No such file or directory")
        return rows.entry_count()

    class Asking(Job):
        apply = staticmethod(begun_anew)

    if writing:
        assert await other._write(Asking()) == 0
    else:
        assert await other._call(lambda: other._lookup._ask(begun_anew, -1)) == 0
    assert len(seen) == 2
    assert seen[0] is not seen[1]
    await put(other, entry(3), b"kept")
    assert await found(store, entry(3)) == b"kept"
