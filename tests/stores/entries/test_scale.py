"""A hundred thousand and a million entries: how long a start takes, and that the loop never waits."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.purging import fill as fill_folder
from passoproxy.core.cache.entry import Selector
from passoproxy.host.clock import SystemClock
from passoproxy.host.gc import collected
from passoproxy.stores.entries.disk.index import DATABASES
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.tiered import TieredStore
from tests.stores.entries.making import entry, found, put, put_many, whole
from tests.turns import Turns

Opened = Callable[..., DiskStore]


async def carried_out(store: DiskStore) -> None:
    while await store._ask(lambda index: index.in_force()):
        await asyncio.sleep(0.01)


async def test_a_purge_of_two_thousand_is_answered_before_it_is_carried_out(opened: Opened, tmp_path: Path) -> None:
    store = opened(1 << 30)
    await put_many(store, map(entry, range(2000)), 200, together=500)
    assert await store.purge(Selector(tag="country/de")) == 2000
    assert (await store.stats()).entries == 0
    assert await store._ask(lambda index: index.totals()[0]) > 0
    await carried_out(store)


@pytest.mark.slow
@pytest.mark.alone
async def test_a_purge_of_a_hundred_thousand_does_not_block_the_loop(opened: Opened, tmp_path: Path) -> None:
    """A thread that computes lets the loop have the interpreter after 5 ms at most."""
    store = opened(4 << 30)
    await put_many(store, map(entry, range(100_000)), 200, together=500)
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


def resident() -> int:
    """Bytes of memory that this process has now; not its peak, which the inserting sets."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.alone
async def test_a_hundred_thousand_entries_on_disk_take_little_memory(opened: Opened, tmp_path: Path) -> None:
    """Stored and each found once, with a memory tier of 1 MiB."""
    store = TieredStore(1 << 20, opened(4 << 30))
    for first in range(0, 101_000, 500):
        keys = [each.key for each in await put_many(store, map(entry, range(first, first + 500)), 1024)]
        await store.settled()
        for key in keys:
            assert await store.select(key)
        if first == 500:
            memory = resident()
    grown = (resident() - memory) / 2**20
    print(f"100000 entries of 1 KiB on disk: {grown:.1f} MiB of memory more")
    assert grown < 25
    await store.close()


async def start_with(opened: Opened, folder: Path, count: int) -> float:
    first = opened(16 << 30)
    await put(first, entry("warm"), b"body")
    await first.close()
    await asyncio.to_thread(fill_folder, folder, (whole(entry(n), b"") for n in range(count)), b"")
    size = sum((folder / name).stat().st_size for name in DATABASES)
    memory = resident()
    began = time.perf_counter()
    store = opened(16 << 30)
    assert await found(store, entry("warm")) == b"body"
    assert len(await store.select(entry(count // 2).key)) == 1
    took = time.perf_counter() - began
    assert (await store.stats()).entries == count + 1
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
