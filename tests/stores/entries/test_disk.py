"""What a store on disk promises beyond the contract: modes, restarts, several processes, bounds, recovery."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.events import EntriesEvicted, StoreFailed
from passoproxy.errors import BodyBroken, CannotCreate, EntryStoreFailure
from passoproxy.stores.entries import serialization
from passoproxy.stores.entries.disk import bodies
from passoproxy.stores.entries.disk.bodies import BODIES, INCOMING
from passoproxy.stores.entries.disk.index import DATABASES, Index
from passoproxy.stores.entries.disk.recovery import Recovery
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.disk.threads import PAUSE_SECONDS
from passoproxy.stores.entries.serialization import body_name, row_name
from tests.fakes import FakeClock, RememberingObserver
from tests.other_users import OTHER, needs_root
from tests.stores.entries.making import body_of, entry, found, open_below, put, put_many, whole, write_much

Opened = Callable[..., DiskStore]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def total(folder: Path) -> int:
    size = 0
    for path in files(folder):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def body_path(folder: Path, stored: object) -> Path:
    return folder / BODIES / body_name(row_name(stored), stored.digest)  # type: ignore[attr-defined, arg-type]


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


# ---- the folder --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0, 0o777, 0o022])
async def test_folders_are_0700_and_files_0600_whatever_the_umask(opened: Opened, tmp_path: Path, mask: int) -> None:
    folder = tmp_path / "cache"
    with umask(mask):
        store = opened()
        for n in range(20):
            await put(store, entry(n), b"x" * 1000)
        under_way = await store.create(entry("under way"))
        await under_way.write(b"x" * 400_000)
        await under_way.write(b"x" * 400_000)
        modes = {path: path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}
        assert any(path.parent.name == INCOMING for path in modes)
        assert any(path.name.endswith("-wal") for path in modes)
        assert {path: oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}
        await under_way.abandon()
        await store.close()


async def test_modes_that_were_wider_are_narrowed(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    for name in DATABASES:
        (folder / name).touch(0o644)
    store = opened()
    await put(store, entry())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [(folder / name).stat().st_mode & 0o777 for name in DATABASES] == [0o600] * 2


@pytest.mark.parametrize("blocked", ["cache", "cache/bodies", "cache/incoming", "cache/page"])
async def test_a_folder_that_cannot_be_made_is_told(opened: Opened, tmp_path: Path, blocked: str) -> None:
    at = tmp_path / blocked
    at.parent.mkdir(exist_ok=True)
    if blocked.endswith("page"):
        at.mkdir()
    else:
        at.touch()
    with pytest.raises(CannotCreate, match=r"cache\.directory"):
        opened()


async def test_a_link_of_our_own_in_place_of_the_folder_is_followed(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    store = opened()
    made = await put(store, entry())
    assert list(await store.select(made.key)) == [made]
    assert await body_of(store, made) is not None
    assert (tmp_path / "elsewhere" / "cache.db").exists()


@needs_root
async def test_a_folder_that_became_another_users_is_written_no_more(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    await put(store, entry(1))
    (tmp_path / "cache").rename(tmp_path / "away")
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", OTHER, -1)
    with pytest.raises(EntryStoreFailure, match="belongs to another user now"):
        await put(store, entry(2))
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


# ---- restarts and other processes ---------------------------------------------------------------------------------------


async def test_entries_survive_a_restart(opened: Opened) -> None:
    store = opened()
    stored = [await put(store, entry(n), os.urandom(5000)) for n in range(20)]
    generation = store.generation()
    await store.close()
    again = opened()
    for each in stored:
        assert list(await again.select(each.key)) == [each]
        assert await body_of(again, each) is not None
    assert again.generation() >= generation
    assert (await again.stats()).entries == 20


async def test_a_closed_store_does_nothing(opened: Opened) -> None:
    store = opened()
    writer = await store.create(entry())
    large = await store.create(entry(1))
    await large.write(b"x" * 300_000)
    await large.write(b"x" * 300_000)
    await store.close()
    await writer.write(b"small")
    for attempt in (writer.commit(), large.commit(), store.select(entry().key), store.create(entry()), store.stats()):
        with pytest.raises(EntryStoreFailure, match="closed"):
            await attempt
    await writer.abandon()
    await large.abandon()


async def test_a_large_writer_can_be_abandoned_after_the_end(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    large = await store.create(entry(1))
    await large.write(b"x" * 300_000)
    await large.write(b"x" * 300_000)
    await store.close()
    await large.abandon()
    assert list((tmp_path / "cache" / INCOMING).iterdir()) == []


async def test_another_secret_finds_nothing_and_can_store(opened: Opened) -> None:
    store = opened()
    await put(store, entry(), b"secret one's")
    await store.close()
    other = opened(secret=b"another secret than before")
    assert list(await other.select(entry().key)) == []
    await put(other, entry(), b"secret two's")
    assert await found(other, entry()) == b"secret two's"


async def test_older_formats_are_dropped_not_misread(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    monkeypatch.setattr(serialization, "VERSION", 0)
    await put(store, entry(), b"old format")
    monkeypatch.undo()
    assert list(await store.select(entry().key)) == []
    await put(store, entry(), b"new format")
    assert await found(store, entry()) == b"new format"


async def test_two_stores_on_one_folder_see_each_other(opened: Opened) -> None:
    one, other = opened(), opened()
    await put(one, entry(), b"by one")
    assert await found(other, entry()) == b"by one"
    generation = one.generation()
    await put(other, entry(0, identifier="new"), b"by the other")
    assert one.generation() > generation
    assert await found(one, entry()) == b"by the other"
    writer = await one.create(entry(5))
    assert await other.purge(Selector(prefix="/api")) == 1
    assert await writer.commit() is None
    later = await one.create(entry(6))
    assert await later.commit() is not None


async def test_a_purge_that_is_no_longer_in_the_log_counts(opened: Opened) -> None:
    store = opened()
    writer = await store.create(entry(0, target="/elsewhere"))
    await store.purge(Selector(target="/x"))
    with sqlite3.connect(store._folder / "index.db") as db:
        db.execute("DELETE FROM purge")
    db.close()
    assert await writer.commit() is None


async def test_a_purge_that_cannot_be_read_counts_for_everything(opened: Opened) -> None:
    store = opened()
    for damage in (b"{", b"[1]", b"[1,2,3,4,5,6]", b"[" * 100_000):
        writer = await store.create(entry(0, target="/elsewhere"))
        await store.purge(Selector(target="/x"))
        with sqlite3.connect(store._folder / "index.db") as db:
            db.execute("UPDATE purge SET selector = ?", (damage,))
        db.close()
        assert await writer.commit() is None


# ---- bodies that are not what they were ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [40_000, 600_000])
@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "gone", "link", "folder", "fifo", "swap"])
async def test_a_body_that_is_not_what_was_stored_is_a_miss(
    opened: Opened, tmp_path: Path, damage: str, size: int
) -> None:
    store = opened()
    stored = await put(store, entry(), os.urandom(size))
    other = await put(store, entry(1), os.urandom(size))
    assert await body_of(store, stored) is not None
    path = body_path(tmp_path / "cache", stored)
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data[:100] + bytes((data[100] ^ 1,)) + data[101:])
    elif damage == "cut":
        os.truncate(path, size - 1)
    elif damage == "longer":
        path.write_bytes(data + b"x")
    else:
        path.unlink()
        if damage == "link":
            (tmp_path / "copy").write_bytes(data)
            path.symlink_to(tmp_path / "copy")
        elif damage == "folder":
            path.mkdir()
        elif damage == "fifo":
            os.mkfifo(path)
        elif damage == "swap":
            os.link(body_path(tmp_path / "cache", other), path)
    assert await store.read(stored) is None
    assert list(await store.select(stored.key)) == []
    if damage == "folder":
        path.rmdir()
    new = await put(store, entry(), data)
    assert await body_of(store, new) == data


@pytest.mark.parametrize(
    "change", ["substr(value, 1, length(value) - 1)", "value || 'x'", "replace(value, 'b', 'c')", "'b'", "1"]
)
async def test_a_small_body_that_is_not_what_was_stored_is_a_miss(opened: Opened, change: str) -> None:
    store = opened()
    stored = await put(store, entry(), b"b" * 500)
    with sqlite3.connect(store._folder / "cache.db") as db:
        db.execute(f"UPDATE Cache SET value = CAST({change} AS BLOB)")
    db.close()
    assert store.find_nowait(stored.key) is None
    assert await store.read(stored) is None
    assert list(await store.select(stored.key)) == []
    await put(store, entry(), b"again")
    assert await found(store, entry()) == b"again"


async def test_an_entry_of_another_digest_does_not_take_the_stored_one_away(opened: Opened) -> None:
    store = opened()
    stored = await put(store, entry(), b"new")
    assert await store.read(whole(entry(), b"old")) is None
    assert await body_of(store, stored) == b"new"


async def test_a_body_that_is_written_to_while_it_is_read_is_not_served(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    stored = await put(store, entry(), b"x" * 40_000)
    path, read = body_path(tmp_path / "cache", stored), os.preadv
    os.utime(path)
    monkeypatch.setattr(bodies, "_TICK", 0)
    if store.read_nowait(stored) is None:
        pytest.skip("a file system that cannot tell what it has in memory")

    def changed(*given: object) -> int:
        path.write_bytes(b"y" * 40_000)
        os.utime(path)
        return read(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "preadv", changed)
    store._asks_again_at = 0.0
    assert store.read_nowait(stored) is None


async def at_hand(store: DiskStore, key: str) -> int:
    """How many entries the loop finds by itself."""
    while True:
        store._asks_again_at = 0.0
        if (found_ := store.find_nowait(key)) is not None:
            return len(found_)
        await asyncio.sleep(0.001)  # a thread is opening the databases


async def test_many_variants_are_read_in_a_thread(opened: Opened) -> None:
    store, key = opened(), entry().key
    for n in range(16):
        await put(store, entry(identifier=str(n), varies=(("accept-language", str(n)),)))
    assert await at_hand(store, key) == 16
    await put(store, entry())
    assert store.find_nowait(key) is None
    assert len(await store.select(key)) == 17


async def test_a_large_body_that_is_changed_while_it_is_served_breaks_off(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    stored = await put(store, entry(), os.urandom(2_000_000))
    body = await store.read(stored)
    assert body is not None
    assert body.length == 2_000_000
    await body.__anext__()
    os.utime(body_path(tmp_path / "cache", stored), (1, 1))
    with pytest.raises(BodyBroken):
        await body.__anext__()
    await body.aclose()
    with pytest.raises(StopAsyncIteration):
        await body.__anext__()


async def test_a_large_body_is_served_to_its_end_though_its_entry_goes(opened: Opened) -> None:
    store = opened()
    data = os.urandom(1_000_000)
    stored = await put(store, entry(), data)
    body = await store.read(stored)
    assert body is not None
    first = await body.__anext__()
    await store.purge(Selector())
    assert first + b"".join([piece async for piece in body]) == data


async def test_a_large_body_is_served_to_its_end_though_the_store_is_closed(opened: Opened) -> None:
    store = opened()
    data = os.urandom(1_000_000)
    body = await store.read(await put(store, entry(), data))
    assert body is not None
    first = await body.__anext__()
    await store.close()
    assert first + b"".join([piece async for piece in body]) == data


async def test_a_body_nobody_received_closes_its_file(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    stored = await put(store, entry(), os.urandom(1_000_000))
    for _ in range(5):
        reading = asyncio.ensure_future(store.read(stored))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert await store.read(stored) is not None
    await store.stats()
    async with asyncio.timeout(20):
        while len(open_below(tmp_path / "cache" / "bodies")) > 1:  # the last one may still be in the reader's hands
            await asyncio.sleep(0.01)
            gc.collect()  # the bodies that nobody took in hand


# ---- bounds --------------------------------------------------------------------------------------------------------------


async def test_max_size_is_kept_through_three_times_as_much(opened: Opened, tmp_path: Path) -> None:
    folder, most = tmp_path / "cache", 8 << 20
    observer = RememberingObserver()
    store = opened(max_bytes=most, observer=observer)
    worst = 0
    for round_ in range(12):
        bodies = [os.urandom(20_000) for _ in range(100)]
        await asyncio.gather(*(put(store, entry(f"{round_} {n}"), body) for n, body in enumerate(bodies)))
        worst = max(worst, total(folder))
    assert worst <= most * 1.05 + (4 << 20)
    stats = await store.stats()
    assert abs(stats.bytes_used - total(folder)) < 1 << 20
    assert most * 0.6 < stats.bytes_used <= most * 1.05
    assert stats.evictions > 700
    assert stats.evictions == sum(event.count for event in observer.of(EntriesEvicted))
    assert stats.entries == 1200 - stats.evictions
    assert await found(store, entry("11 99")) is not None


async def test_max_size_is_kept_with_large_bodies_under_way(opened: Opened, tmp_path: Path) -> None:
    folder, most = tmp_path / "cache", 8 << 20
    store = opened(max_bytes=most)
    await put_many(store, map(entry, range(100)), 40_000)
    writers = [await store.create(entry(f"large {n}")) for n in range(6)]
    refused = 0
    for _ in range(12):
        for writer in writers:
            try:
                await writer.write(b"x" * 262_144)
            except EntryStoreFailure:
                refused += 1
        assert total(folder) <= most * 1.05 + (4 << 20)
    assert refused
    for writer in writers:
        await writer.abandon()
    await put(store, entry("again"), os.urandom(2_000_000))
    assert total(folder) <= most * 1.05 + (4 << 20)
    assert await found(store, entry("again")) is not None


async def test_an_entry_over_the_whole_size_is_refused_and_the_store_goes_on(opened: Opened) -> None:
    store = opened(max_bytes=8 << 20)
    writer = await store.create(entry())
    with pytest.raises(EntryStoreFailure, match="full of answers"):
        await write_much(writer, 40, 262_144)
    await writer.abandon()
    await put(store, entry(1))


async def test_what_is_asked_for_stays(opened: Opened) -> None:
    """Least recently used by `select` and by `touch`, which the memory before the disk calls."""
    store = opened(max_bytes=8 << 20)
    await put_many(store, map(entry, range(200)), 20_000)
    await store.select(entry(3).key)
    store.touch(entry(4).key)
    await put_many(store, map(entry, range(200, 500)), 20_000)
    assert await found(store, entry(3)) is not None
    assert await found(store, entry(4)) is not None
    assert await found(store, entry(5)) is None


async def test_the_journal_is_bounded(opened: Opened, tmp_path: Path) -> None:
    store = opened(max_bytes=64 << 20)
    journal, worst = tmp_path / "cache" / "cache.db-wal", 0
    for _ in range(8):
        await put_many(store, (entry(n, identifier=os.urandom(4).hex()) for n in range(100)), 100, together=100)
        worst = max(worst, journal.stat().st_size)
    assert worst < 4 << 20


async def test_evicted_and_replaced_bodies_leave_the_disk(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    for n in range(30):
        await put(store, entry(0, identifier=f"i{n}"), os.urandom(40_000))
    assert len(files(tmp_path / "cache" / BODIES)) == 1
    await store.purge(Selector())
    assert files(tmp_path / "cache" / BODIES) == []


async def test_the_database_shrinks_after_a_purge(opened: Opened, tmp_path: Path) -> None:
    """By and by, but for a mebibyte that the next rows will take."""
    store, paths = opened(), [tmp_path / "cache" / name for name in DATABASES]
    await asyncio.gather(*(put(store, entry(n, tags=("t" * 2000,))) for n in range(600)))
    await store.purge(Selector())
    async with asyncio.timeout(20):
        while max(path.stat().st_size for path in paths) > 1_200_000:
            await asyncio.sleep(0.01)
    stats = await store.stats()
    assert abs(stats.bytes_used - total(tmp_path / "cache")) < 1 << 18


async def test_room_is_made_of_what_a_purge_left_before_anything_is_evicted(opened: Opened) -> None:
    store = opened(max_bytes=8 << 20)
    kept = await put(store, entry("kept", target="/kept"), os.urandom(200_000))
    store._writer._tick = lambda: None  # type: ignore[method-assign]  # not by and by
    await put_many(store, (entry(n, tags=("t" * 2000,)) for n in range(1200)))
    evictions = (await store.stats()).evictions
    await store.purge(Selector(prefix="/api"))
    while await store._ask(lambda index: index.in_force()):
        await asyncio.sleep(0.01)
    for n in range(30):
        await put(store, entry(n), os.urandom(200_000))
    assert (await store.stats()).evictions == evictions
    assert await body_of(store, kept) is not None or evictions


# ---- damage and loss while running ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [b"", b"not a database at all" * 300, b"SQLite format 3\0" + b"\xff" * 8000])
async def test_a_damaged_database_at_the_start_is_begun_anew(opened: Opened, tmp_path: Path, garbage: bytes) -> None:
    store = opened()
    await put(store, entry(), b"before")
    await store.close()
    (tmp_path / "cache" / "cache.db").write_bytes(garbage)
    again = opened()
    assert await found(again, entry()) is None
    await put(again, entry(), b"after")
    assert await found(again, entry()) == b"after"


async def test_a_database_that_is_damaged_while_running_is_begun_anew(opened: Opened, tmp_path: Path) -> None:
    observer = RememberingObserver()
    store, other = opened(observer=observer), opened()
    for n in range(200):
        await put(store, entry(n), b"x" * 100)
    assert await found(other, entry(0)) is not None
    await store.close()  # with the journal in the database
    path = tmp_path / "cache" / "cache.db"
    generation = other.generation()
    with path.open("r+b") as file:
        for page in range(0, path.stat().st_size, 4096):
            file.seek(page)
            file.write(os.urandom(4096))
    for n in range(200):
        assert await found(other, entry(n)) in (None, b"x" * 100)
    await put(other, entry("new"), b"after")
    assert await found(other, entry("new")) == b"after"
    assert other.generation() >= generation


async def test_a_folder_that_is_taken_away_comes_back(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    await put(store, entry(), b"before")
    generation = store.generation()
    (tmp_path / "cache").rename(tmp_path / "away")
    assert await found(store, entry()) is None
    await put(store, entry(), b"after")
    assert await found(store, entry()) == b"after"
    assert store.generation() > generation
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


async def stored_at_all(store: DiskStore, body: bytes) -> bool:
    """Whether it was stored: with a new page it is not known what was purged meanwhile, and so it may count as purged."""
    writer = await store.create(entry())
    await writer.write(body)
    return await writer.commit() is not None


@pytest.mark.parametrize("part", [BODIES, INCOMING, "cache.db", "page", "lock"])
@pytest.mark.parametrize("size", [50, 700_000])
async def test_any_part_of_the_folder_may_be_lost(opened: Opened, tmp_path: Path, part: str, size: int) -> None:
    store = opened()
    await put(store, entry(), b"b" * size)
    path = tmp_path / "cache" / part
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert await found(store, entry()) in (None, b"b" * size)
    while not await stored_at_all(store, b"a" * size):
        await asyncio.sleep(0.01)
    assert await found(store, entry()) == b"a" * size


# ---- what someone plants -------------------------------------------------------------------------------------------------


async def test_planted_rows_run_nothing_and_open_nothing(opened: Opened, tmp_path: Path) -> None:
    """Pickled keys and values, file names that lead outside, triggers' food: all of it is a miss."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"not ours")
    ran = tmp_path / "ran"
    bomb = f"cposix\nsystem\n(S'touch {ran}'\ntR.".encode()
    store = opened(max_bytes=8 << 20)
    stored = await put(store, entry(), b"body")
    name = row_name(stored)
    await store.close()
    values = sqlite3.connect(tmp_path / "cache" / "cache.db")
    index = sqlite3.connect(tmp_path / "cache" / "index.db")
    insert = "INSERT INTO Cache (key, raw, store_time, access_time, size, mode, filename, value) VALUES (?, ?, 1, 0, 5, ?, ?, ?)"
    (value,) = values.execute("SELECT value FROM Cache").fetchone()
    planted = []
    for n, filename in enumerate(["../../victim", str(victim), "../victim", None, "aa/" + "x" * 64, b"\xff"]):
        for mode in (1, 2, 3, 4):
            for last, data in (("aa", bomb), ("bb", None), ("cc", value)):
                planted.append(f"{name[:-4]}{n}{mode}{last}")
                values.execute(insert, (planted[-1], 1, mode, filename, data))
        values.execute(insert, (bomb + bytes((n,)), 0, 4, filename, bomb))
    for row in [*planted, f"{name[:33]}../../victim", bomb]:
        digest = "../../../victim" if row in planted[::2] else "0" * 64
        index.execute("INSERT INTO entry VALUES (NULL, ?, '/', 'r', 'p', 0, 0, 1.0, 8, ?)", (row, digest))
    index.execute("INSERT INTO purge VALUES (1, ?, 'x', 'y', 0)", (bomb,))
    for db in (values, index):
        db.commit()
        db.close()
    again = opened(max_bytes=8 << 20)
    assert [each.identifier for each in await again.select(entry().key)] in ([stored.identifier], [])
    assert len([each async for each in again.entries(Selector())]) <= 1
    await put_many(again, map(entry, range(500)), 20_000)  # evicts the planted rows
    await again.purge(Selector())
    assert not ran.exists()
    assert victim.read_bytes() == b"not ours"


async def test_tags_without_an_entry_keep_nothing_from_being_stored(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    await put(store, entry(0))
    with contextlib.closing(sqlite3.connect(tmp_path / "cache" / "index.db", isolation_level=None)) as db:
        db.execute("DELETE FROM entry")  # without PRAGMA foreign_keys, tags stay
    await put(store, entry(1))
    assert await found(store, entry(1)) is not None


async def test_a_link_in_place_of_a_shard_is_not_followed(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    stored = await put(store, entry(), b"b" * 40_000)
    shard = body_path(tmp_path / "cache", stored).parent
    outside = tmp_path / "outside"
    shard.rename(outside)
    shard.symlink_to(outside)
    assert await store.read(stored) is None
    assert list(outside.iterdir()) != []


# ---- sweeping ------------------------------------------------------------------------------------------------------------


async def swept(store: DiskStore) -> None:
    while not await asyncio.to_thread(store._recovery.recover):
        await asyncio.sleep(0.001)  # the sweep that every store begins with is still under way
    await store.update(entry("nothing"))  # the writer has done what recovery gave it


async def test_what_a_crash_left_is_swept_up_and_nothing_else(opened: Opened, tmp_path: Path) -> None:
    store, other = opened(), opened()
    kept = [await put(store, entry(n), os.urandom(40_000)) for n in range(20)]
    under_way = await other.create(entry("under way"))
    await under_way.write(b"x" * 400_000)
    await under_way.write(b"y" * 400_000)
    folder = tmp_path / "cache"
    shard = body_path(folder, kept[0]).parent
    orphan = shard / ("0" * 30 + "." + "1" * 16 + "." + "2" * 16)
    for path in (orphan, shard / "stranger", folder / INCOMING / "left"):
        path.write_bytes(b"left")
    (shard / "link").symlink_to(tmp_path)
    lost = body_path(folder, kept[5])
    lost.unlink()
    await swept(store)
    assert not orphan.exists()
    assert {path.name for path in shard.iterdir()} == {body_path(folder, kept[0]).name}
    assert len(list((folder / INCOMING).iterdir())) == 1
    assert list(await store.select(kept[5].key)) == []
    for each in [*kept[:5], *kept[6:]]:
        assert await body_of(store, each) is not None
    await under_way.write(b"end")
    assert await under_way.commit() is not None
    assert await found(store, entry("under way")) == b"x" * 400_000 + b"y" * 400_000 + b"end"


async def test_a_start_looks_for_leftovers_only_if_the_store_was_not_closed(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    await put(store, entry())
    looks = threading.Event()
    monkeypatch.setattr(Recovery, "recover", lambda self: looks.set())
    killed = opened()  # the first one is open, and has written: it may as well have been killed
    assert await asyncio.to_thread(looks.wait, 20)
    looks.clear()
    await killed.close()
    await store.close()
    again = opened()
    assert await found(again, entry()) is not None
    await again.close()  # its thread has ended
    assert not looks.is_set()


async def test_a_start_looks_again_for_leftovers_that_could_not_be_looked_for(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    await put(store, entry())
    await store.close()
    looks = threading.Event()

    def refuse(self: Recovery) -> None:
        looks.set()
        raise EntryStoreFailure("not now")

    with monkeypatch.context() as patched:
        patched.setattr(Recovery, "recover", refuse)
        again = opened()
        again._recovery.on_loss()
        assert await asyncio.to_thread(looks.wait, 20)
        await again.close()
    assert not opened()._page.is_clean


@pytest.mark.parametrize("value", [0, 1 << 40])
async def test_a_falsified_sum_of_sizes_is_corrected(opened: Opened, tmp_path: Path, value: int) -> None:
    store = opened()
    await put_many(store, map(entry, range(100)), 30_000)
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as db:
        db.execute("UPDATE Settings SET value = ? WHERE key = 'size'", (value,))
    db.close()
    await swept(store)
    assert abs((await store.stats()).bytes_used - total(tmp_path / "cache")) < 1 << 20


async def test_new_entries_are_synced(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, and all together where there are many."""
    synced: list[str] = []
    sync = os.fsync

    def noted(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        sync(file)

    monkeypatch.setattr(os, "fsync", noted)
    store = opened()
    stored = await put(store, entry(), b"b" * 40_000)
    store._syncing.sync()
    await store.close()
    path = str(body_path(store._folder, stored))
    assert path in synced
    assert str(Path(path).parent) in synced
    again = opened()
    await put_many(again, map(entry, range(100)), 40_000)
    again._syncing.sync()


# ---- a place that cannot be written -------------------------------------------------------------------------------------------


async def test_storing_pauses_after_a_failure_and_recovers_by_itself(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, observer = FakeClock(), RememberingObserver()
    store = opened(observer=observer, monotonic=clock.monotonic)
    stored = await put(store, entry(), b"stored before")
    full = threading.Event()
    full.set()
    write = os.write

    def written(file: int, data: bytes) -> int:
        if full.is_set():
            raise OSError(28, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(os, "write", written)
    writer = await store.create(entry(1))
    await writer.write(b"x" * 40_000)
    with pytest.raises(EntryStoreFailure, match="No space left"):
        await writer.commit()
    await writer.abandon()
    with pytest.raises(EntryStoreFailure, match="for a moment"):
        await store.create(entry(2))
    assert await body_of(store, stored) == b"stored before"
    assert len(observer.of(StoreFailed)) == 1
    await clock.advance(PAUSE_SECONDS)
    large = await store.create(entry(3))
    with pytest.raises(EntryStoreFailure):
        await write_much(large, 3, 300_000)
    await large.abandon()
    await store.update(replace(stored, response_time=9.0))
    full.clear()
    await clock.advance(PAUSE_SECONDS)
    await put(store, entry(2), b"stored after")
    assert await found(store, entry(2)) == b"stored after"
    assert list((tmp_path / "cache" / INCOMING).iterdir()) == []


async def test_values_of_rows_that_were_not_committed_are_looked_for(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, begin, losses = opened(), Index.transaction, list[int]()
    await put(store, entry(0))
    monkeypatch.setattr(store._writer, "_on_loss", lambda: losses.append(1))

    @contextlib.contextmanager
    def full(self: Index) -> Iterator[None]:
        with begin(self):
            yield
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Index, "transaction", full)
        with pytest.raises(EntryStoreFailure, match="No space"):
            await put(store, entry(1))
    assert losses == [1]


async def test_a_file_system_that_does_not_tell_what_is_free_takes_entries(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((512, 512, 0, 0, 0, 0, 0, 0, 0, 255)))
    store = opened()
    for n, size in enumerate((1000, 100_000)):
        await put(store, entry(n), b"x" * size)
    assert (await store.stats()).entries == 2


@pytest.mark.parametrize("database", DATABASES)
async def test_what_must_go_goes_though_a_database_cannot_be_written(
    opened: Opened, tmp_path: Path, database: str
) -> None:
    """Another process that holds the database locked stands for every reason why it cannot be written. More goes than was asked for."""
    clock = FakeClock()
    store = opened(patience=0.05, monotonic=clock.monotonic)
    kept = await put(store, entry(0, target="/kept"), b"kept")
    gone = [await put(store, entry(n, target=f"/gone/{n}"), b"gone") for n in range(1, 4)]
    under_way = await store.create(entry(9, target="/gone/9"))
    db = sqlite3.connect(tmp_path / "cache" / database, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    generation = store.generation()
    await store.discard(gone[0])
    await store.purge(Selector(prefix="/gone/"))
    assert store.generation() > generation
    for each in gone:
        assert list(await store.select(each.key)) == []
    db.execute("ROLLBACK")
    db.close()
    assert await under_way.commit() is None
    assert await found(store, kept) in (None, b"kept")
    for each in gone:
        assert list(await store.select(each.key)) == []
    await clock.advance(PAUSE_SECONDS)
    await put(store, entry(1), b"again")
    assert await found(store, entry(1)) == b"again"


async def test_a_loop_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    def use() -> None:
        async def inner() -> None:
            store = DiskStore(tmp_path / "cache", max_bytes=8 << 20, secret=b"x" * 16)
            writer = await store.create(entry())
            await writer.write(b"x")
            asyncio.ensure_future(writer.commit())  # noqa: RUF006
            asyncio.ensure_future(store.select("x"))  # noqa: RUF006
            await asyncio.sleep(0)

        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(inner())

    await asyncio.to_thread(use)
