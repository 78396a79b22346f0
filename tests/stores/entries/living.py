"""Programs that tests run in processes of their own, to be killed or to be denied space: `python -m tests.stores.entries.living NAME ARGUMENTS`."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from hashlib import sha256
from pathlib import Path

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import EntryStore
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.tiered import TieredStore
from tests.fakes import FakeClock
from tests.stores.entries.making import SECRET, body_of, entry, found, put

SIZES = [30, 2000, 40_000, 300_000]


def body_for(key: str, identifier: str) -> bytes:
    """The body that belongs to an entry, so that anyone can tell a wrong one."""
    seed = sha256(f"{key} {identifier}".encode()).digest()
    return (seed * (SIZES[seed[0] % 4] // 32 + 1))[: SIZES[seed[0] % 4]]


async def store_without_end(folder: str, name: str) -> None:
    """Stores, replaces, updates and purges until it is killed; a line when it has begun."""
    store = TieredStore(8 << 20, DiskStore(Path(folder), max_bytes=24 << 20, secret=SECRET))
    print("began", flush=True)
    count = 0

    async def one(n: int) -> None:
        nonlocal count
        while True:
            count += 1
            made = entry(f"{n} {count % 50}", identifier=f"{name} {count}")
            stored = await put_unless_purged(store, made)
            if stored is not None and count % 5 == 0:
                await store.update(stored)
            if count % 97 == 0:
                await store.purge(Selector(target=made.target))
            for selected in await store.select(made.key):
                body = await body_of(store, selected)
                assert body in (None, body_for(selected.key, selected.identifier)), "a wrong body"

    await asyncio.gather(*(one(n) for n in range(8)))


async def put_unless_purged(store: TieredStore, made):  # type: ignore[no-untyped-def]
    writer = await store.create(made)
    body = body_for(made.key, made.identifier)
    for at in range(0, len(body), 65_536):
        await writer.write(body[at : at + 65_536])
    return await writer.commit()


async def store_count(folder: str, name: str, count: str) -> None:
    """Stores so many entries and ends, checking what it finds of others on the way."""
    store = TieredStore(8 << 20, DiskStore(Path(folder), max_bytes=64 << 20, secret=SECRET))
    for n in range(int(count)):
        made = entry(n % 20, identifier=f"{name} {n}")
        await put_unless_purged(store, made)
        for selected in await store.select(entry((n * 7) % 20).key):
            body = await body_of(store, selected)
            assert body in (None, body_for(selected.key, selected.identifier)), "a wrong body"
    await store.close()


async def denied_space(folder: str) -> None:
    """No file may grow: storing fails and pauses, reading and purging go on, and all is well when there is space again."""
    clock = FakeClock()
    store = DiskStore(Path(folder), max_bytes=64 << 20, secret=SECRET, monotonic=clock.monotonic)
    kept = await put(store, entry(0, target="/kept"), b"k" * 20_000)
    gone = await put(store, entry(1, target="/gone"), b"g" * 20_000)
    for size in (0, 1000, 70_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        await clock.advance(60)
        for length in (100_000, 900_000):
            try:
                await put(store, entry(2), b"x" * length)
            except EntryStoreFailure:
                pass
            else:
                raise AssertionError("stored without space")
            await clock.advance(60)
        assert await body_of(store, kept) == b"k" * 20_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    assert await store.purge(Selector(target="/gone")) == 1
    assert await found_if_any(store, gone) is None
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await clock.advance(60)
    await put(store, entry(3), b"again")
    assert await found(store, entry(3)) == b"again"
    assert await found(store, kept) in (None, b"k" * 20_000)
    assert await found(store, gone) is None
    await store.close()


async def found_if_any(store: EntryStore, made: Entry) -> bytes | None:
    """What `found` gives; a store that cannot be asked has nothing."""
    try:
        return await found(store, made)
    except EntryStoreFailure:
        return None


async def two_denied_space(folder: str, few: str) -> None:
    """Two daemons on one folder whose disk is full: what one purges, the other does not serve, from memory nor from disk, nor store."""
    stores = [
        TieredStore(4 << 20, DiskStore(Path(folder), max_bytes=64 << 20, secret=SECRET, few=int(few))) for _ in range(2)
    ]
    mine, other = stores
    selectors = [
        Selector(tag="t0"),
        Selector(prefix="/1/*"),
        Selector(route="r2"),
        Selector(target="/3/0"),
        Selector(key=entry("4 0").key),
        Selector(),
    ]
    made = {
        (kind, n): await put(
            mine,
            entry(f"{kind} {n}", target=f"/{kind}/{n}", tags=(f"t{kind}",), route=f"r{kind}"),
            b"b" * (20_000 if n else 300_000),
        )
        for kind in range(6)
        for n in range(3)
    }
    await mine.settled()
    for each in made.values():
        for store in stores:
            assert await found(store, each) is not None
    writers = {}
    for which, each in made.items():
        if which[0] != 5:
            writers[which] = await other.create(each)
            await writers[which].write(b"begun before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    for selector in selectors:
        meant = [which for which, each in made.items() if selector.matches(each)]
        left = [which for which in meant if await found_if_any(other, made[which]) is not None]
        count = await mine.purge(selector)
        # rows that could not be written away, whose bodies are gone, are counted once more when all goes
        assert count == len(left) or (selector == Selector() and count > len(left)), (selector, left)
        for which in meant:
            for store in stores:
                assert await found_if_any(store, made[which]) is None, (selector, which)
            if which in writers:
                try:
                    stored = await writers.pop(which).commit()
                except EntryStoreFailure:
                    stored = None
                assert stored is None, which
                assert await found_if_any(mine, made[which]) is None
        assert await found_if_any(other, made[5, 1]) in (None, b"b" * 20_000)
    for writer in writers.values():
        await writer.abandon()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for store in stores:
        assert [each async for each in store.entries(Selector())] == []
        await store.close()


if __name__ == "__main__":
    os.umask(0)
    programs = {each.__name__: each for each in (store_without_end, store_count, denied_space, two_denied_space)}
    asyncio.run(programs[sys.argv[1]](*sys.argv[2:]))
