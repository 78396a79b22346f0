"""Entries on a real redis-server: several instances, a store that is away, forgets or is meddled with, purges, and eviction by use."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.soft_purge import SoftPurge
from passoproxy.core.cache.vary import MOST_VARIANTS
from passoproxy.core.events import EntriesEvicted, StoreFailed, TaskFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import BytesBody
from passoproxy.stores.entries.redis import owed, replica, scripts
from passoproxy.stores.entries.redis import store as redis_store
from passoproxy.stores.entries.redis.connection import RedisAway
from passoproxy.stores.entries.redis.replica import decode_logged, encode_logged
from passoproxy.stores.entries.redis.scripts import ENDS_SECONDS
from passoproxy.stores.entries.redis.store import SKEW_SECONDS, RedisStore
from passoproxy.stores.entries.tiered import TieredStore
from passoproxy.stores.spill import DiskSpill
from tests.fakes import RememberingObserver
from tests.redis_server import RedisServer
from tests.stores.entries.making import body_of, entry, found, put

PREFIX = "passoproxy:{tests}:"
TAG = Selector(tag="country/de")
OTHER = b"another secret, of 32 bytes or so"
Joined = Callable[..., RedisStore]


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits for what another connection brings about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def swept(store: RedisStore) -> None:
    """Waits until the rows of its purges are removed."""
    await until(lambda: not store._behind)


def names(server: RedisServer, pattern: str = "*") -> list[bytes]:
    with server.client() as client:
        return list(client.keys(pattern))


# ---- several instances -------------------------------------------------------------------------------------------------


async def test_instances_share_entries(joined: Joined) -> None:
    one, other = joined(), joined()
    stored = await put(one, entry(), b"shared")
    assert list(await other.select(stored.key)) == [stored]
    assert await body_of(other, stored) == b"shared"
    await other.discard(stored)
    assert list(await one.select(stored.key)) == []


async def test_a_purge_is_heard_by_every_memory_when_it_is_answered(joined: Joined) -> None:
    mine, other = TieredStore(8 << 20, joined()), TieredStore(8 << 20, joined())
    for n in range(12):
        made = await put(mine, entry(n), b"body")
        await mine.settled()
        assert await found(other, made) == b"body"
        selector = (Selector(), TAG, Selector(target=made.target), Selector(key=made.key))[n % 4]
        assert await mine.purge(selector) == 1
        assert await found(other, made) is None
        assert await found(mine, made) is None


async def test_a_purge_waits_for_an_instance_from_its_first_question_on(
    joined: Joined, redis_server: RedisServer
) -> None:
    for store in (joined(), joined()):
        await store.select("any")
    with redis_server.client() as client:
        assert client.zcard(f"{PREFIX}alive") == 2


async def test_a_change_is_heard_soon(joined: Joined) -> None:
    mine, other = TieredStore(8 << 20, joined()), TieredStore(8 << 20, joined())
    made = await put(mine, entry(), b"old")
    await mine.settled()
    assert await found(other, made) == b"old"
    generation = other.generation()
    await put(mine, entry(0, identifier="new"), b"new")
    await mine.settled()
    async with asyncio.timeout(5):
        while await found(other, made) != b"new":
            await asyncio.sleep(0.005)
    assert other.generation() > generation


async def test_a_purge_counts_for_what_another_instance_is_storing(joined: Joined) -> None:
    one, other = joined(), joined()
    for selector in (TAG, Selector(), Selector(target=entry().target)):
        writer = await one.create(entry())
        await writer.write(b"before")
        assert await other.purge(selector) == 0
        assert await writer.commit() is None
        writer = await one.create(entry(tags=("else",), target="/else"))
        await other.purge(TAG)
        assert await writer.commit() is not None
        await one.purge(Selector())


async def test_an_instance_that_hangs_does_not_hold_a_purge_up(
    joined: Joined, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = joined(), joined()
    made = await put(one, entry(), b"body")
    assert await found(other, made) == b"body"
    with redis_server.client() as client:
        await until(lambda: client.zcard(f"{PREFIX}alive") == 2)
    await other._replica.stop()
    monkeypatch.setattr(redis_store, "HEARD_SECONDS", 0.05)
    assert await one.purge(TAG) == 1


async def test_what_was_missed_means_anything(joined: Joined, redis_server: RedisServer) -> None:
    """The stream was cut short, or is gone."""
    store = joined()
    await store.stats()
    with redis_server.client() as client:
        client.hincrby(f"{PREFIX}meta", "events", 7)
        seen = store.feed.events
        await until(lambda: store.feed.events > seen)
        assert store.feed.foreign_since(seen)[1] is None
        client.xadd(f"{PREFIX}events", {"n": 99, "marks": "5", "changed": 1, "purge": "", "from": "x"})
        seen = store.feed.events
        await until(lambda: store.feed.events > seen)
        assert store.feed.foreign_since(seen)[1] is None


async def test_more_changes_than_are_remembered_mean_anything(joined: Joined) -> None:
    store, other = joined(), joined()
    await store.stats()
    seen = store.feed.events
    await put(other, entry(1), b"x")
    await until(lambda: store.feed.events == seen + 1)
    assert len(store.feed.foreign_since(seen)[1] or []) == 1
    store._replica.hear(range(2, 600))
    assert store.feed.foreign_since(seen)[1] is None


async def test_a_message_that_cannot_be_read_is_told_and_means_anything(
    joined: Joined, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "AGAIN_SECONDS", 0.0)
    told = RememberingObserver()
    store = joined(observer=told)
    await store.stats()
    seen = store.feed.events
    with redis_server.client() as client:
        client.xadd(f"{PREFIX}events", {"n": "planted", "marks": "", "from": "x"})
    await until(lambda: told.of(TaskFailed))
    assert store.feed.foreign_since(seen)[1] is None


async def test_a_state_that_was_overtaken_is_not_taken_for_news(joined: Joined) -> None:
    store = joined()
    await store.purge(TAG)
    now = store._replica.known
    assert now is not None
    store._replica.learn(replace(now, version=now.version - 1))
    assert store._replica.known is now


async def test_two_that_update_at_once_both_get_through(joined: Joined) -> None:
    one, other = joined(), joined()
    stored = await put(one, entry(), b"body")
    heads = [replace(stored, response_time=float(1_800_000_000 + n)) for n in range(6)]
    await asyncio.gather(*((one, other)[n % 2].update(each) for n, each in enumerate(heads)))
    (selected,) = await one.select(stored.key)
    assert selected in heads
    assert await body_of(other, selected) == b"body"


# ---- soft purges -------------------------------------------------------------------------------------------------------

SOFT = SoftPurge(TAG, 100.0)
LENIENT = replace(SOFT, leeway=SKEW_SECONDS)


async def test_a_soft_purge_is_heard_by_every_memory_when_it_is_answered(joined: Joined) -> None:
    shared, others = joined(), joined()
    mine, other = TieredStore(8 << 20, shared), TieredStore(8 << 20, others)
    made = await put(mine, entry())
    await mine.settled()
    assert await found(other, made) == b"body"
    told: list[tuple[SoftPurge, ...]] = []
    other.on_purged = lambda: told.append(others.current(0.0).kept)
    for n in range(5):
        before, generation = others.current(0.0), other.generation()
        await shared.add(replace(SOFT, at=100.0 + n))
        assert len(others.current(0.0).kept) == len(shared.current(0.0).kept) == n + 1
        assert others.current(0.0) is not before
        assert others.current(0.0) is others.current(0.0)
        assert other.generation() > generation
        assert await found(other, made) == b"body"  # nothing stored is touched
        assert len(told[-1]) == n + 1
    assert others.current(0.0).kept[0] == LENIENT
    late = joined()  # learns of them with the first look
    tiered = TieredStore(8 << 20, late)
    tiered.on_purged = lambda: told.append(late.current(0.0).kept)
    assert late.current(0.0).kept == ()
    assert await found(tiered, made) == b"body"
    assert len(told[-1]) == 5
    await shared.purge(Selector())  # stands for soft purges too
    await until(lambda: shared.current(0.0).kept == others.current(0.0).kept == ())


async def test_soft_purges_of_several_at_once_are_all_kept_up_to_a_number(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "MOST_KEPT", 6)
    stores = [joined() for _ in range(3)]
    await asyncio.gather(*(store.add(replace(SOFT, at=float(n))) for n, store in enumerate(stores * 2)))
    assert {len(store.current(0.0).kept) for store in stores} == {6}
    await stores[0].add(replace(SOFT, at=7.0))
    assert [(each.selector, each.at) for each in stores[1].current(0.0).kept] == [
        (Selector(), 2.0),
        *((TAG, at) for at in (3.0, 4.0, 5.0, 7.0)),
    ]


async def test_a_soft_purge_is_refused_while_the_store_is_away(joined: Joined, redis_server: RedisServer) -> None:
    store = joined(purge_seconds=1.0)
    await put(store, entry())
    redis_server.kill()
    with pytest.raises(RedisAway):
        await store.add(SOFT)
    assert store.current(0.0).kept == ()


@pytest.mark.parametrize("purge", [TAG, Selector(partition="p", private=True), Selector(), SOFT, LENIENT])
def test_a_purge_survives_the_log(purge: Selector | SoftPurge) -> None:
    assert decode_logged(encode_logged(purge)) == purge


@pytest.mark.parametrize("data", [None, b"", b"{", b"[]", b"soft []", b"1.0 2.0 [null]"])
def test_a_purge_that_cannot_be_read_means_everything(data: bytes | None) -> None:
    purge = decode_logged(data)
    assert (purge.selector if isinstance(purge, SoftPurge) else purge) == Selector()


# ---- purges of many ------------------------------------------------------------------------------------------------------


async def test_a_purge_of_many_is_in_force_before_its_rows_are_removed(
    joined: Joined, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    one, other = joined(few=0), joined()
    made = [await put(one, entry(n), b"body") for n in range(20)]
    await put(other, entry("kept", tags=()), b"kept")
    waiting: list[Any] = []
    monkeypatch.setattr(one, "_go_on", waiting.append)
    assert await one.purge(TAG) == 20
    for store in (one, other):
        assert [list(await store.select(each.key)) for each in made] == [[]] * 20
        assert len([each async for each in store.entries(Selector())]) == 1
        assert (await store.stats()).entries == 1
    await one.update(made[0])
    assert list(await other.select(made[0].key)) == []
    await put(other, entry(3), b"after")
    assert await found(one, entry(3)) == b"after"
    for work in waiting:
        await work
    assert await found(one, entry(3)) == b"after"
    assert (await other.stats()).entries == 2
    assert len(names(redis_server, "*:e:*")) == 2


async def test_a_purge_that_an_instance_has_left_undone_is_finished_by_the_next(
    joined: Joined, redis_server: RedisServer
) -> None:
    store = joined()
    made = await put(store, entry())
    with redis_server.client() as client:
        epoch = client.hget(f"{PREFIX}meta", "epoch")
        client.hset(f"{PREFIX}{epoch.decode()}:purges", "1", encode_logged(TAG))
        client.hincrby(f"{PREFIX}meta", "seq", 1)
        client.hincrby(f"{PREFIX}meta", "version", 1)
    assert await found(store, made) is None
    assert len(names(redis_server, "*:e:*")) == 1
    late = joined()
    assert await found(late, made) is None
    await until(lambda: names(redis_server, "*:e:*") == names(redis_server, "*:purges") == [])


async def test_what_everything_left_is_removed(joined: Joined, redis_server: RedisServer) -> None:
    store = joined(few=100)
    for n in range(210):
        await put(store, entry(n % 70, identifier=f"{n}", varies=(("x", str(n)),), route=f"r{n % 3}"), b"body")
    assert await store.purge(Selector()) == 210
    await swept(store)
    left = {name.removeprefix(PREFIX.encode()).rpartition(b":")[2] for name in names(redis_server)}
    assert left == {b"meta", b"events", b"heard", b"alive", b"log"}
    assert (await store.stats()).bytes_used == 0


async def test_a_purge_that_is_in_no_log_any_more_means_everything(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "PURGE", scripts.PURGE.replace(str(scripts.KEPT_PURGES), "2"))
    one, other = joined(), joined()
    writer = await one.create(entry())
    for n in range(4):
        await other.purge(Selector(target=f"/elsewhere/{n}"))
    assert await writer.commit() is None


# ---- ends, sizes, eviction -----------------------------------------------------------------------------------------------


async def test_everything_has_an_end(joined: Joined, redis_server: RedisServer) -> None:
    store = joined()
    await put(store, entry(), os.urandom(600_000))
    await store.add(SOFT)
    writer = await store.create(entry(1))
    await writer.write(b"x" * 300_000)
    with redis_server.client() as client:
        await until(lambda: all(client.ttl(name) > 0 for name in names(redis_server)))
        assert max(client.ttl(name) for name in names(redis_server)) <= ENDS_SECONDS + 86400
        (row,) = names(redis_server, "*:e:*")
        client.expire(row, 5000)
        await store.select(entry().key)  # use puts the end off
        await until(lambda: client.ttl(row) > 5000)
    await writer.abandon()


async def test_what_was_not_used_for_a_month_goes(joined: Joined, redis_server: RedisServer) -> None:
    store = joined()
    for n in range(6):
        await put(store, entry(n), b"body")
    with redis_server.client() as client:
        (used,) = names(redis_server, "*:used")
        client.zadd(used, dict.fromkeys(client.zrange(used, 0, 4), time.time() - 31 * 86400))
        await until(lambda: client.zcard(used) == 1)
    assert (await store.stats()).entries == 1


async def test_what_was_not_used_for_longest_goes_when_all_are_too_many(joined: Joined) -> None:
    told = RememberingObserver()
    store = joined(max_bytes=500_000, observer=told)
    for n in range(60):
        await put(store, entry(n, tags=()), os.urandom(20_000))
        assert await found(store, entry(0)) is not None
    stats = await store.stats()
    assert stats.entries == 21
    assert stats.evictions == 39 == sum(each.count for each in told.of(EntriesEvicted))
    assert await found(store, entry(25)) is None
    small = joined(max_bytes=1000)
    await put(small, entry(101), b"alone it may be more")
    assert await found(small, entry(101)) is not None


async def test_the_use_that_another_instance_has_seen_counts_soon(joined: Joined, redis_server: RedisServer) -> None:
    store, memory = joined(max_bytes=100_000), TieredStore(8 << 20, joined())
    for n in range(4):
        await put(store, entry(n), os.urandom(20_000))
    with redis_server.client() as client:
        (used,) = names(redis_server, "*:used")
        row = client.zrange(used, 0, 0)[0]
        for _ in range(2):  # the second time memory serves it
            before = client.zscore(used, row)
            assert await found(memory, entry(0)) is not None
            await until(lambda before=before: client.zscore(used, row) > before, 5.0)  # type: ignore[misc]
    await put(store, entry(5), os.urandom(20_000))
    assert await found(store, entry(0)) is not None
    assert await found(store, entry(1)) is None


async def test_a_full_server_stores_nothing_and_serves_on(joined: Joined, redis_server: RedisServer) -> None:
    store = joined(pause_seconds=60.0)
    kept, _ = await put(store, entry(0), b"kept"), await put(store, entry(2), b"purged")
    with redis_server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        try:
            with pytest.raises(EntryStoreFailure, match="is full"):
                await put(store, entry(1), b"x" * 100_000)
            assert await found(store, kept) == b"kept"
            await store.discard(kept)
            assert await found(store, kept) is None
            assert await store.purge(TAG) == 1
        finally:
            client.config_set("maxmemory", 0)
    await put(store, entry(1), b"again")


async def test_an_answer_over_the_limit_is_refused_while_it_is_written(
    joined: Joined, redis_server: RedisServer
) -> None:
    store = joined(max_entry_bytes=500_000)
    writer = await store.create(entry())
    await writer.write(b"x" * 300_000)
    with pytest.raises(EntryStoreFailure, match="max_entry_size"):
        await writer.write(b"x" * 300_000)
    await writer.abandon()
    assert names(redis_server, "*in:*") == []
    assert (await store.stats()).entries == 0


# ---- secrets, damage -----------------------------------------------------------------------------------------------------


async def test_entries_under_another_secret_are_left_alone(joined: Joined) -> None:
    ours, theirs = joined(), joined(secret=OTHER)
    for store, body in ((theirs, b"theirs"), (ours, b"ours"), (theirs, b"theirs again")):
        await put(store, entry(), body)
    assert (await found(ours, entry()), await found(theirs, entry())) == (b"ours", b"theirs again")
    assert [each.digest async for each in ours.entries(Selector())] == [(await ours.select(entry().key))[0].digest]
    assert await ours.purge(TAG) == 2  # and a purge means them too
    assert list(await theirs.select(entry().key)) == []


async def test_entries_under_the_previous_secret_are_read_changed_and_replaced(joined: Joined) -> None:
    old, new = joined(secret=OTHER), joined(previous_secret=OTHER)
    stored = await put(old, entry(), b"old")
    assert await found(new, entry()) == b"old"
    fresh = replace(stored, response_time=1_800_000_000.0)
    await new.update(fresh)
    assert list(await new.select(stored.key)) == list(await old.select(stored.key)) == [fresh]
    await put(new, entry(identifier="new"), b"new")
    assert [each.identifier for each in await new.select(stored.key)] == ["new"]
    again = await put(old, entry(1), b"old")
    await new.discard(again)
    assert list(await old.select(again.key)) == []


async def test_variants_under_other_secrets_count_for_their_number(joined: Joined) -> None:
    store = joined(secret=OTHER)
    for n in range(MOST_VARIANTS + 5):
        await put(store, entry(0, identifier=f"i{n}", varies=(("x", str(n)),), response_time=float(n)), b"v")
    await put(joined(), entry(0, response_time=1e9), b"ours")
    assert len(await store.select(entry().key)) == MOST_VARIANTS - 1


async def test_a_body_is_whole_before_it_is_served(joined: Joined, redis_server: RedisServer) -> None:
    store, data = joined(), os.urandom(900_000)
    body = await store.read(await put(store, entry(), data))
    assert body is not None
    assert body.length == 900_000
    begun = await anext(body)
    redis_server.flush()
    assert begun + b"".join([piece async for piece in body]) == data
    await body.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(body)


async def test_a_large_body_without_room_on_disk_is_a_miss_and_stays(joined: Joined, tmp_path: Path) -> None:
    spill = DiskSpill([tmp_path], most_bytes=500_000)
    store, other = joined(spill=spill), joined()
    made = await put(store, entry(), os.urandom(900_000))
    assert await store.read(made) is None
    assert spill.used_bytes == 0
    assert await body_of(other, made) is not None
    assert isinstance(await store.read(await put(store, entry(1), b"small")), BytesBody)


@pytest.mark.parametrize("size", [1000, 700_000])
async def test_any_byte_that_was_changed_is_a_miss(joined: Joined, redis_server: RedisServer, size: int) -> None:
    store = joined()
    with redis_server.client() as client:
        for n in range(15):
            body = os.urandom(size)
            stored = await put(store, entry(n), body)
            (row,) = names(redis_server, "*:e:*")
            field = b"v" if n % 5 == 4 else b"0" if size == 1000 else b"%d" % (n % 3)
            value = bytearray(client.hget(row, field))
            match n % 5:
                case 0 | 4:
                    value[(n * 7919) % len(value)] ^= 1
                case 1:
                    del value[-1]
                case 2:
                    value += b"x"
            if n % 5 == 3:
                client.hdel(row, field)
            else:
                client.hset(row, field, bytes(value))
            assert await found(store, stored) is None
            assert list(await store.select(stored.key)) == []
            assert names(redis_server, "*:e:*") == []


async def test_rows_that_were_swapped_are_misses(joined: Joined, redis_server: RedisServer) -> None:
    store = joined()
    one, other = await put(store, entry(1), b"one"), await put(store, entry(2), b"two")
    with redis_server.client() as client:
        first, second = names(redis_server, "*:e:*")
        client.rename(first, "aside")
        client.rename(second, first)
        client.rename("aside", second)
    for each in (one, other):
        assert await found(store, each) is None


@pytest.mark.parametrize("value", [None, b"", b"x", b"a b c d e"])
async def test_what_scripts_know_of_an_entry_may_be_missing_or_damaged(
    joined: Joined, redis_server: RedisServer, value: bytes | None
) -> None:
    store = joined()
    stored = await put(store, entry(), b"body")
    with redis_server.client() as client:
        (row,) = names(redis_server, "*:e:*")
        if value is None:
            client.hdel(row, "m")
        else:
            client.hset(row, "m", value)
    if value is not None:
        await put(store, entry(identifier="beside", varies=(("x", "y"),)), b"beside")
        await store.purge(Selector(route="nothing"))
    assert await found(store, replace(stored, varies=())) in (None, b"beside")
    await put(store, entry(), b"again")
    assert await body_of(store, entry(digest=(await put(store, entry(), b"again")).digest, size=5)) == b"again"


# ---- a store that is away ------------------------------------------------------------------------------------------------


@pytest.fixture
async def away(joined: Joined, redis_server: RedisServer) -> AsyncIterator[tuple[RedisStore, RememberingObserver]]:
    """A store that knows its server, which is then killed; without a pause."""
    told = RememberingObserver()
    store = joined(observer=told, connect_seconds=2.0, answer_seconds=2.0, purge_seconds=2.0)
    await put(store, entry("before"), b"before")
    redis_server.kill()
    yield store, told
    if redis_server.process is None:
        redis_server.start()


async def test_while_it_is_away_there_are_misses_and_nothing_is_stored(
    away: tuple[RedisStore, RememberingObserver], redis_server: RedisServer
) -> None:
    store, told = away
    assert list(await store.select(entry("before").key)) == []
    assert await store.read(entry("before", digest="0" * 64, size=5)) is None
    writer = await store.create(entry())
    await writer.write(b"x")
    for work in (writer.commit(), store.stats(), store.update(entry()), store.discard(entry()), store.purge(TAG)):
        with pytest.raises(EntryStoreFailure):
            await work
    await writer.abandon()
    assert len(told.of(StoreFailed)) == 1  # once for the whole time
    redis_server.start()
    async with asyncio.timeout(10):
        while list(await store.select(entry().key)) != [] or store._owed.selectors:
            await asyncio.sleep(0.01)
    await put(store, entry(), b"again")
    assert await found(store, entry()) == b"again"


async def test_a_memory_before_it_works_on_alone(joined: Joined, redis_server: RedisServer) -> None:
    store = TieredStore(8 << 20, joined(connect_seconds=2.0, answer_seconds=2.0, purge_seconds=2.0))
    known = await put(store, entry("known"), b"known")
    await store.settled()
    redis_server.kill()
    assert await found(store, known) == b"known"
    await put(store, entry("new"), b"new")
    assert await found(store, entry("new")) == b"new"
    assert list(await store.select(entry("never").key)) == []
    with pytest.raises(EntryStoreFailure):
        await store.purge(Selector(target=known.target))
    assert await found(store, known) is None
    redis_server.start()


async def test_a_pause_is_not_spent_on_asking(joined: Joined, redis_server: RedisServer) -> None:
    moment = 1000.0
    store = joined(connect_seconds=2.0, answer_seconds=2.0, pause_seconds=5.0, monotonic=lambda: moment)
    await store.stats()
    redis_server.kill()
    with pytest.raises(RedisAway, match="cannot be used"):
        await store.stats()
    redis_server.start()
    with pytest.raises(RedisAway, match="not asked for a moment"):
        await store.stats()
    moment += 5.0
    assert (await store.stats()).entries == 0


async def test_a_store_that_hangs_is_away_and_requests_go_on(joined: Joined, redis_server: RedisServer) -> None:
    store = joined(connect_seconds=0.3, answer_seconds=0.3, pause_seconds=60.0)
    await put(store, entry(), b"body")
    redis_server.freeze()
    began = time.monotonic()
    assert await asyncio.gather(*(store.select(entry(n).key) for n in range(200))) == [()] * 200
    late = joined(connect_seconds=0.3, answer_seconds=0.3, pause_seconds=60.0)  # knows nothing yet
    assert await asyncio.gather(*(late.select(entry(n).key) for n in range(200))) == [()] * 200
    assert time.monotonic() - began < 20  # and not a third of a second for each
    redis_server.thaw()


# ---- purges that are owed ------------------------------------------------------------------------------------------------


async def test_a_purge_waits_for_a_store_that_is_slow_and_a_brief_one_does_not(
    joined: Joined, redis_server: RedisServer
) -> None:
    store = joined(connect_seconds=0.1, answer_seconds=0.1, purge_seconds=30.0)
    async with asyncio.timeout(20):
        while not await put_if_there(store):  # on a busy machine it is away now and then
            await asyncio.sleep(0.05)
    redis_server.freeze()
    with pytest.raises(RedisAway):
        await store.purge(Selector(tag="else"), brief=True)
    purging = asyncio.create_task(store.purge(TAG))
    await asyncio.sleep(0.5)
    assert not purging.done()
    redis_server.thaw()
    assert await purging == 1


async def put_if_there(store: RedisStore) -> bool:
    try:
        await put(store, entry())
    except EntryStoreFailure:
        return False
    return True


async def test_what_was_to_be_purged_is_made_up_for(joined: Joined, redis_server: RedisServer, tmp_path: Path) -> None:
    """A store that was only out of reach still holds it; a restart, and another process of the same folder, change nothing."""
    given = {"connect_seconds": 0.5, "answer_seconds": 0.5, "purge_seconds": 0.5, "folder": tmp_path}
    store = joined(**given)
    stored = [await put(store, entry(n, target=f"/{n}", tags=(f"t{n}",)), b"body") for n in range(5)]
    redis_server.freeze()
    for selector in (Selector(tag="t0"), Selector(tag="t4")):
        with pytest.raises(EntryStoreFailure):
            await store.purge(selector, brief=True)
    with pytest.raises(EntryStoreFailure):
        await store.discard(stored[1])
    cut = asyncio.create_task(store.purge(Selector(tag="t2")))
    await asyncio.sleep(0.05)
    cut.cancel()  # the client has gone
    await asyncio.wait([cut])
    await store.close()
    file = tmp_path / owed.NAME
    assert (file.stat().st_mode & 0o777, file.read_bytes().count(b"+")) == (0o600, 4)
    again = joined(**(given | {"answer_seconds": 5.0}))
    assert again._owed.selectors
    redis_server.thaw()
    assert [await found(again, entry(n)) for n in range(5)] == [None, None, None, b"body", None]
    assert file.read_bytes() == b""


async def test_too_many_owed_purges_become_one_of_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owed, "MOST", 3)
    log = owed.OwedPurges(tmp_path)
    for n in range(6):
        await log.add(Selector(tag=f"{n}"))
    assert log.selectors == owed.OwedPurges(tmp_path).selectors == [Selector(tag="0"), Selector()]
    await log.carried_out(Selector(tag="0"))
    with (tmp_path / owed.NAME).open("ab") as file:
        file.write(b"+{torn")
    await log.carried_out(Selector())
    assert owed.OwedPurges(tmp_path).selectors == [Selector()]  # what cannot be read means everything
    assert owed.OwedPurges(None).selectors == []
    await owed.OwedPurges(tmp_path).carried_out(Selector())
    assert (tmp_path / owed.NAME).read_bytes() == b""  # or everything would be purged at every start


async def test_equal_owed_purges_are_owed_once(tmp_path: Path) -> None:
    """But for the first, which may be on its way: a thousand invalidations of one target are not one of everything."""
    log = owed.OwedPurges(tmp_path)
    for _ in range(5):
        await log.add(TAG)
    assert log.selectors == owed.OwedPurges(tmp_path).selectors == [TAG, TAG]


async def test_a_purge_that_cannot_be_kept_is_told_and_owed_in_memory(
    away: tuple[RedisStore, RememberingObserver], tmp_path: Path
) -> None:
    store, told = away
    store._owed = owed.OwedPurges(tmp_path / "missing")
    with pytest.raises(RedisAway):
        await store.purge(TAG)
    assert "cannot be kept" in str(told.of(StoreFailed)[-1])
    assert store._owed.selectors == [TAG]


# ---- a store that forgets ------------------------------------------------------------------------------------------------


async def test_a_store_that_comes_back_empty_begins_another_epoch(joined: Joined, redis_server: RedisServer) -> None:
    store, memory = joined(), TieredStore(8 << 20, joined())
    await put(memory, entry(), b"body")
    await memory.settled()
    writer = await store.create(entry(1))
    await writer.write(b"begun before")
    seen, generation = store.feed.events, store.generation()
    redis_server.flush()
    assert await writer.commit() is None
    assert list(await store.select(entry().key)) == []
    assert store.generation() > generation
    assert store.feed.foreign_since(seen)[1] is None
    async with asyncio.timeout(10):
        while await found(memory, entry()) is not None:
            await asyncio.sleep(0.01)
    await put(store, entry(), b"again")
    assert await found(store, entry()) == b"again"
    await until(lambda: store._replica._number < 10)
    redis_server.flush()
    assert await store.purge(TAG) == 0
    redis_server.flush()
    await store.add(SOFT)


async def test_a_body_that_is_lost_on_its_way_is_not_stored(joined: Joined, redis_server: RedisServer) -> None:
    store = joined()
    writer = await store.create(entry())
    await writer.write(b"x" * 300_000)
    with redis_server.client() as client:
        client.delete(*names(redis_server, "*in:*"))
    await writer.write(b"y" * 10)
    with pytest.raises(EntryStoreFailure, match="lost"):
        await writer.commit()
    await writer.abandon()
    assert list(await store.select(entry().key)) == []


async def test_a_closed_store_says_so(joined: Joined) -> None:
    store = joined()
    await store.stats()
    await store.close()
    with pytest.raises(EntryStoreFailure, match="closed"):
        await store.stats()
