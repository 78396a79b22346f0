"""Several processes on one folder, processes that are killed, and processes that are denied space."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk.index import INLINE_BYTES
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.tiered import TieredStore
from tests.stores.entries.living import body_for
from tests.stores.entries.making import body_of, entry, found, put

Opened = Callable[..., DiskStore]
ROOT = Path(__file__).parents[3]


def run(program: str, *arguments: object, **more: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.stores.entries.living", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)  # type: ignore[call-overload, no-any-return]


async def finished(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, errors = await asyncio.to_thread(process.communicate, timeout=120)
    return process.returncode, errors.decode()


async def kill_series(opened: Opened, folder: Path, kills: int, seed: int) -> int:
    """Kills a process that stores without end, again and again on one folder; how many bodies were seen. A start is quick."""
    chance = random.Random(seed)
    seen, starts = 0, []
    for kill in range(kills):
        process = run("store_without_end", folder, kill)
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"began\n"
        await asyncio.sleep(chance.uniform(0.01, 0.4))
        process.send_signal(signal.SIGKILL)
        code, errors = await finished(process)
        assert code == -signal.SIGKILL, errors
        began = time.perf_counter()
        store = opened(24 << 20, folder)
        await store.select("anything")
        starts.append(time.perf_counter() - began)
        async for listed in store.entries(Selector()):
            assert await body_of(store, listed) == body_for(listed.key, listed.identifier)
            seen += 1
        while not await asyncio.to_thread(store._recovery.recover):
            await asyncio.sleep(0.001)
        assert list((folder / "incoming").iterdir()) == []
        bodies = [path for path in (folder / "bodies").rglob("*") if path.is_file()]
        assert len(bodies) == len([each async for each in store.entries(Selector()) if each.size > INLINE_BYTES])
        await store.close()
    print(f"{kills} kills: {seen} bodies looked at, 0 wrong; starts within {max(starts) * 1000:.0f} ms")
    assert sorted(starts)[kills // 2] < 1  # the longest one is the machine's
    return seen


async def test_a_killed_process_leaves_no_half_bodies(opened: Opened, tmp_path: Path) -> None:
    assert await kill_series(opened, tmp_path / "cache", 3, seed=1)


@pytest.mark.slow
async def test_a_hundred_kills_leave_no_half_bodies(opened: Opened, tmp_path: Path) -> None:
    assert await kill_series(opened, tmp_path / "cache", 100, seed=2) > 100


async def test_processes_share_a_folder(opened: Opened, tmp_path: Path) -> None:
    """Three store the same keys at once; nobody meets a wrong body, and what a memory holds follows what others do."""
    folder = tmp_path / "cache"
    store = TieredStore(8 << 20, opened(folder=folder))
    processes = [run("store_count", folder, name, 150) for name in "abc"]
    waiting = [asyncio.ensure_future(finished(each)) for each in processes]
    looks = 0
    while not all(each.done() for each in waiting):
        for n in range(20):
            for selected in await store.select(entry(n).key):
                assert await body_of(store, selected) in (None, body_for(selected.key, selected.identifier))
                looks += 1
        await asyncio.sleep(0)
    assert await asyncio.gather(*waiting) == [(0, "")] * 3
    assert looks
    listed = [each async for each in opened(folder=folder).entries(Selector())]
    assert len(listed) == 20
    for each in listed:
        assert list(await store.select(each.key)) == [each]
        assert await body_of(store, each) == body_for(each.key, each.identifier)


async def test_without_space_the_cache_stops_storing_and_serving_goes_on(tmp_path: Path) -> None:
    assert await finished(run("denied_space", tmp_path / "cache")) == (0, "")


@pytest.mark.parametrize("few", [0, 400])
async def test_purges_hold_for_two_daemons_on_a_full_disk(tmp_path: Path, few: int) -> None:
    assert await finished(run("two_denied_space", tmp_path / "cache", few)) == (0, "")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB, which only root can make."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", mounted], check=False).returncode
    ):
        pytest.skip("only root can mount a small file system")
    yield mounted
    subprocess.run(["umount", "-l", mounted], check=True)


@pytest.mark.parametrize("size", [30_000, 40_000])
async def test_a_full_disk_costs_nothing_but_storing(opened: Opened, small_disk: Path, size: int) -> None:
    """The disk is smaller than `max_size`: new answers take the place of old ones, what is found is whole, and a purge works."""
    moment = 0.0
    store = opened(64 << 20, small_disk / "cache", monotonic=lambda: moment)
    stored, failures = [], 0
    for n in range(400):
        try:
            stored.append(await put(store, entry(n), os.urandom(size)))
        except EntryStoreFailure:
            failures += 1
        moment += 60
    assert failures < 100
    kept = [each for each in stored if await found(store, each) is not None]
    assert len(kept) > 20
    assert await store.purge(Selector(prefix="/api/")) == len(kept)
    for each in kept:
        assert await found(store, each) is None
    moment += 60
    await put(store, entry("after"), os.urandom(size))
    assert await found(store, entry("after")) is not None
    await store.close()


async def test_a_large_body_takes_the_place_of_old_entries_on_a_small_disk(opened: Opened, small_disk: Path) -> None:
    store = opened(64 << 20, small_disk / "cache")
    for n in range(100):
        await put(store, entry(n), os.urandom(40_000))
    large = await put(store, entry("large"), os.urandom(3_000_000))
    assert await found(store, large) is not None
    await store.close()
