"""A hundred thousand and a million entries: how long a start takes, and that the loop never waits."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.host.clock import SystemClock
from passoproxy.host.gc import collected
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.serialization import Seal, body_name, hints_of, row_name
from tests.stores.entries.making import SECRET, entry, found, put, whole
from tests.turns import Turns

Opened = Callable[..., DiskStore]


async def fill(store: DiskStore, count: int) -> None:
    for at in range(0, count, 500):
        await asyncio.gather(*(put(store, entry(n), b"x" * 200) for n in range(at, min(at + 500, count))))


async def carried_out(store: DiskStore) -> None:
    while await store._call(lambda: store._database.rows().purging.undone()):
        await asyncio.sleep(0.01)


async def test_a_purge_of_two_thousand_is_answered_before_it_is_carried_out(opened: Opened, tmp_path: Path) -> None:
    store = opened(1 << 30)
    await fill(store, 2000)
    assert await store.purge(Selector(tag="country/de")) == 2000
    assert (await store.stats()).entries == 0
    left = sum(1 for path in (tmp_path / "cache" / "bodies").rglob("*") if path.is_file())
    assert left > 0
    await carried_out(store)


async def test_a_purge_row_by_row_gives_the_loop_its_turns(opened: Opened) -> None:
    """As it goes where nothing can be written."""
    store = opened(1 << 30)
    await fill(store, 1000)
    async with Turns() as turns:
        assert await store._purging._one_by_one(Selector(tag="country/de")) == 1000
    assert len(turns.waits) > 10 + 20  # the watch itself takes some 20


@pytest.mark.slow
@pytest.mark.alone
async def test_a_purge_of_a_hundred_thousand_does_not_block_the_loop(opened: Opened, tmp_path: Path) -> None:
    """A thread that computes lets the loop have the interpreter after 5 ms at most."""
    store = opened(4 << 30)
    await fill(store, 100_000)
    async with collected(SystemClock(), lambda: False), Turns() as turns:
        began = time.perf_counter()
        assert await store.purge(Selector(prefix="/api/v2/*")) == 100_000
        took = time.perf_counter() - began
        await carried_out(store)
    print(f"purge of 100000: answered in {took:.1f} s, carried out in {time.perf_counter() - began:.1f} s; {turns}")
    assert (await store.stats()).entries == 0
    assert not any(path.is_file() for path in (tmp_path / "cache" / "bodies").rglob("*"))
    # What one piece of work takes is a tenth of this; where there are too few cores, what the store's own thread computes beside the
    # loop counts as held too. In one go it would be seconds.
    assert max(turns.computed) < 0.05
    assert max(turns.held) < 0.3


def rows(count: int) -> Iterator[tuple[object, ...]]:
    seal = Seal(SECRET)
    for n in range(count):
        made = whole(entry(n), b"")
        row = row_name(made)
        yield row, hints_of(made), body_name(row, made.digest), seal.close(made), 1000 + n


def insert(folder: Path, count: int) -> None:
    """A million rows as the store itself would have written them; without bodies, which are no part of a start."""
    db = sqlite3.connect(folder / "cache.db", isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -400000")
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO Cache (key, raw, store_time, access_time, tag, size, mode, filename, value)"
        " VALUES (?1, 1, ?5, ?5, ?2, 0, 1, ?3, ?4)",
        rows(count),
    )
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    os.sync()  # a start is measured, and not the writing of a gigabyte that the inserting left to the system


def resident() -> int:
    """Bytes of memory that this process has now; not its peak, which the inserting sets."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def start_with(opened: Opened, folder: Path, count: int) -> float:
    first = opened(16 << 30)
    await put(first, entry("warm"), b"body")
    await first.close()
    await asyncio.to_thread(insert, folder, count)
    size = (folder / "cache.db").stat().st_size
    memory = resident()
    began = time.perf_counter()
    store = opened(16 << 30)
    assert await found(store, entry("warm")) == b"body"
    assert len(await store.select(entry(count // 2).key)) == 1
    took = time.perf_counter() - began
    # the sweep that every store begins with finds them without bodies, and has begun
    assert (await store.stats()).entries > count / 10
    grown = resident() - memory
    print(
        f"{count} entries: started and answered in {took * 1000:.0f} ms; {size / count:.0f} bytes of metadata an entry on disk;"
        f" {grown / count:.1f} bytes of memory an entry"
    )
    assert grown < 64 << 20  # the database's page caches, whatever is stored
    await store.close()
    return took


async def test_a_start_does_not_read_what_is_stored(opened: Opened, tmp_path: Path) -> None:
    assert await start_with(opened, tmp_path / "cache", 5000) < 1


@pytest.mark.slow
@pytest.mark.alone
async def test_a_million_entries_start_within_a_second(opened: Opened, tmp_path: Path) -> None:
    assert await start_with(opened, tmp_path / "cache", 1_000_000) < 1
    assert os.path.getsize(tmp_path / "cache" / "cache.db") > 1 << 29
