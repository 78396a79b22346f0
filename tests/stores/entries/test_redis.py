"""Entries on a real redis-server: several instances, a store that is away, forgets or is meddled with, and ends of entries."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.core.events import EntriesEvicted, StoreFailed, TaskFailed
from passoproxy.errors import BodyBroken, EntryStoreFailure
from passoproxy.ports import read_whole
from passoproxy.stores.entries.redis import replica_state, scripts
from passoproxy.stores.entries.redis.client import RedisAway
from passoproxy.stores.entries.redis.replica_state import Known, View
from passoproxy.stores.entries.redis.scripts import READ_SECONDS
from passoproxy.stores.entries.redis.store import SKEW_SECONDS, RedisStore, for_a_week
from passoproxy.stores.entries.serialization import key_name
from passoproxy.stores.entries.tiered import TieredStore
from tests.fakes import RememberingObserver
from tests.redis_server import RedisServer
from tests.stores.entries.making import body_of, entry, found, in_an_hour, put

PREFIX = "passoproxy:{tests}:"
TAG = Selector(tag="country/de")
Joined = Callable[..., RedisStore]


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits for what another connection brings about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def settled(store: RedisStore, count: int = 0) -> None:
    """Waits until the server holds no more than so many entries' worth of keys."""
    async with asyncio.timeout(10):
        while store._behind:
            await asyncio.sleep(0.005)


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


# ---- soft purges -------------------------------------------------------------------------------------------------------

SOFT = SoftPurge(Selector(tag="country/de"), 100.0)
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


async def test_who_comes_later_learns_of_soft_purges_with_the_first_look(joined: Joined) -> None:
    first = joined()
    await first.add(SOFT)
    made = await put(first, entry())
    late = joined()
    tiered = TieredStore(8 << 20, late)
    told: list[tuple[SoftPurge, ...]] = []
    tiered.on_purged = lambda: told.append(late.current(0.0).kept)
    assert late.current(0.0).kept == ()
    assert await found(tiered, made) == b"body"
    assert told == [(LENIENT,)]


async def test_soft_purges_of_several_at_once_are_all_kept(joined: Joined) -> None:
    stores = [joined() for _ in range(3)]
    await asyncio.gather(*(store.add(replace(SOFT, at=float(n))) for n, store in enumerate(stores * 2)))
    assert {len(store.current(0.0).kept) for store in stores} == {6}


async def test_a_purge_of_everything_ends_soft_purges_too(joined: Joined) -> None:
    one, other = joined(), joined()
    await other.select("x" * 64)
    await one.add(SOFT)
    await one.purge(Selector())
    await until(lambda: one.current(0.0).kept == other.current(0.0).kept == ())
    await one.add(SOFT)
    assert other.current(0.0).kept == (LENIENT,)


async def test_damaged_soft_purges_mean_everything(joined: Joined, redis_server: RedisServer) -> None:
    await joined().add(SOFT)
    with redis_server.client() as client:
        client.hset(f"{PREFIX}meta", "soft", b"{")
    late = joined()
    before = time.time()
    await late.select("x" * 64)
    (everything,) = late.current(0.0).kept
    assert everything.selector == Selector()
    assert everything.at >= before


async def test_a_soft_purge_is_refused_while_the_store_is_away(joined: Joined, redis_server: RedisServer) -> None:
    store = joined(connect_seconds=1.0, answer_seconds=1.0)
    await put(store, entry())
    redis_server.kill()
    with pytest.raises(RedisAway):
        await store.add(SOFT)
    assert store.current(0.0).kept == ()


async def test_a_store_where_others_purge_all_the_time_refuses_one_more(joined: Joined) -> None:
    store = joined()
    await store.select("x" * 64)

    async def overtaken(*_: object) -> int:
        return 0

    store._purging.soften = overtaken  # type: ignore[method-assign, assignment]
    with pytest.raises(EntryStoreFailure, match="nothing was purged"):
        await store.add(SOFT)


def test_an_answer_that_was_overtaken_is_not_taken_for_news() -> None:
    view = View()
    now = Known("e", 5, (), 2, SoftPurges([SOFT]))
    view.learn(now)
    for older in (Known("e", 4, (), 2, now.soft), Known("e", 5, (), 1)):
        view.learn(older)
        assert view.known is now
    view.set_back()  # a store that came back older is believed
    view.learn(Known("e", 4))
    assert view.known == Known("e", 4)
    view.learn(now)
    assert view.known is now


# ---- changes ---------------------------------------------------------------------------------------------------------


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


async def test_an_instance_that_hangs_does_not_hold_a_purge_up(joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = joined(), joined()
    made = await put(one, entry(), b"body")
    assert await found(other, made) == b"body"
    await until(lambda: names_alive(one) == 2)
    await other._listening.stop()
    monkeypatch.setattr("passoproxy.stores.entries.redis.store.HEARD_SECONDS", 0.05)
    assert await one.purge(TAG) == 1


def names_alive(store: RedisStore) -> int:
    return store_server.zcard(f"{PREFIX}alive") if (store_server := _client(store)) else 0


def _client(store: RedisStore) -> Any:
    import redis

    made = store._path._client
    assert made is not None
    return redis.Redis(**{key: made.connection_pool.connection_kwargs[key] for key in ("host", "port")})


async def test_what_was_missed_means_anything(joined: Joined, redis_server: RedisServer) -> None:
    """The stream was cut short, or is gone: whoever listens cannot know what was said."""
    store = joined()
    await store.stats()
    with redis_server.client() as client:
        client.hincrby(f"{PREFIX}meta", "events", 7)
        seen = store.events()
        await until(lambda: store.events() > seen)
        assert store.foreign_since(seen)[1] is None
        client.xadd(f"{PREFIX}events", {"n": 99, "marks": "5", "changed": 1, "purge": "", "from": "x"})
        seen = store.events()
        await until(lambda: store.events() > seen)
        assert store.foreign_since(seen)[1] is None


async def test_more_changes_than_are_remembered_mean_anything(joined: Joined) -> None:
    store, other = joined(), joined()
    await store.stats()
    seen = store.events()
    await put(other, entry(1), b"x")
    await until(lambda: store.events() == seen + 1)
    assert len(store.foreign_since(seen)[1] or []) == 1
    store._view.hear(range(2, 600))
    assert store.foreign_since(seen)[1] is None


async def test_a_message_that_nobody_can_read_is_told_and_means_anything(
    joined: Joined, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_state, "AGAIN_SECONDS", 0.0)
    told = RememberingObserver()
    store = joined(observer=told)
    await store.stats()
    seen = store.events()
    with redis_server.client() as client:
        client.xadd(f"{PREFIX}events", {"n": "planted", "marks": "", "from": "x"})
    await until(lambda: told.of(TaskFailed))
    assert store.foreign_since(seen)[1] is None


# ---- purges of many ------------------------------------------------------------------------------------------------------


async def test_a_purge_of_many_is_in_force_before_it_is_carried_out(
    joined: Joined, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    one, other = joined(few=0), joined()
    made = [await put(one, entry(n), b"body") for n in range(20)]
    await put(other, entry("kept", tags=()), b"kept")
    waiting: list[Any] = []
    monkeypatch.setattr(one._purging, "_behind", waiting.append)
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
    assert len(names(redis_server, "*:k:*")) == 2
    assert len(names(redis_server, "*:b:*")) == 2


async def test_what_everything_left_is_reclaimed(joined: Joined, redis_server: RedisServer) -> None:
    store = joined()
    for n in range(450):
        await put(store, entry(n % 150, identifier=f"{n}", varies=(("x", str(n)),), route=f"r{n % 3}"), b"body")
    assert len(names(redis_server)) > 600
    assert await store.purge(Selector()) == 450
    await settled(store)
    left = {name.removeprefix(PREFIX.encode()) for name in names(redis_server)}
    assert left == {b"meta", b"events", b"heard", b"alive"}


async def test_a_purge_that_is_in_no_log_any_more_means_everything(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = scripts.PURGE.replace(str(scripts.KEPT_PURGES), "2")
    monkeypatch.setattr("passoproxy.stores.entries.redis.store.PURGE", short)
    one, other = joined(), joined()
    writer = await one.create(entry())
    for n in range(4):
        await other.purge(Selector(target=f"/elsewhere/{n}"))
    assert await writer.commit() is None


# ---- ends, sizes, damage -------------------------------------------------------------------------------------------------


async def test_everything_has_an_end(joined: Joined, redis_server: RedisServer) -> None:
    store = joined(ends_at=lambda made: time.time() + 1000)
    await put(store, entry(), os.urandom(600_000))
    writer = await store.create(entry(1))
    await writer.write(b"x" * 300_000)
    with redis_server.client() as client:
        ends = {name: client.ttl(name) for name in names(redis_server)}
    for name, left in ends.items():
        assert left > 0 or name.removeprefix(PREFIX.encode()) in (b"meta", b"events"), name
    assert all(left < 1000 + 7210 for left in ends.values())
    await writer.abandon()


async def test_traces_of_what_ended_are_cleared_away(joined: Joined, redis_server: RedisServer) -> None:
    store = joined(ends_at=lambda made: time.time() + (60 if made.tags == ("brief",) else 1000))
    for n in range(6):
        await put(store, entry(n, tags=("brief",), target=f"/{n}\0" if n == 5 else f"/{n}"), b"body")
    with redis_server.client() as client:
        (ends,) = names(redis_server, "*:ends")
        for member in client.zrange(ends, 0, -1):
            client.zadd(ends, {member: 1})
        (lost, *_) = names(redis_server, "*:k:*")
        client.delete(lost)
        assert (await store.stats()).entries == 0
        for n in range(10, 13):
            await put(store, entry(n, tags=("brief",)), b"body")
        assert client.zcard(ends) == 3
        (tagged,) = names(redis_server, "*:t:brief")
        assert client.scard(tagged) == 3
    assert (await store.stats()).bytes_used <= 3 * 4 + 4  # the lost one's, which nobody could tell


async def test_what_ends_soonest_goes_when_all_are_too_many(joined: Joined, redis_server: RedisServer) -> None:
    told = RememberingObserver()
    store = joined(max_bytes=500_000, observer=told, ends_at=lambda made: time.time() + 1000 + int(made.target[1:]))
    for n in range(60):
        await put(store, entry(n, target=f"/{n}"), os.urandom(20_000))
    stats = await store.stats()
    assert stats.entries * 23_500 <= 500_000
    assert stats.entries == 21
    assert stats.evictions == 39 == sum(each.count for each in told.of(EntriesEvicted))  # type: ignore[attr-defined]
    assert await found(store, entry(59)) is not None
    assert await found(store, entry(0)) is None
    await put(
        store, entry(100, target="/-500"), os.urandom(20_000)
    )  # ends before all others, and is not its own victim
    assert await found(store, entry(100)) is not None
    small = joined(max_bytes=1000)
    await put(small, entry(101, target="/1"), b"alone it may be more")
    assert await found(small, entry(101)) is not None


async def test_a_full_server_stores_nothing_and_serves_on(joined: Joined, redis_server: RedisServer) -> None:
    store = joined(pause_seconds=60.0)
    kept = await put(store, entry(0), b"kept")
    with redis_server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        try:
            with pytest.raises(EntryStoreFailure, match="is full"):
                await put(store, entry(1), b"x" * 100_000)
            assert await found(store, kept) == b"kept"
            await store.discard(kept)
            assert await found(store, kept) is None
        finally:
            client.config_set("maxmemory", 0)
    await put(store, entry(1), b"again")


async def test_without_a_word_an_entry_ends_after_a_week(joined: Joined) -> None:
    assert for_a_week(entry()) == entry().stored_at + 7 * 86400


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


async def test_another_secret_s_entries_are_nothing_and_are_removed(joined: Joined, redis_server: RedisServer) -> None:
    await put(joined(secret=b"another secret, of 32 bytes or so"), entry(), b"theirs")
    store = joined()
    assert list(await store.select(entry().key)) == []
    await settled(store)
    assert names(redis_server, "*:k:*") == []
    await put(store, entry(), b"ours")
    assert await found(store, entry()) == b"ours"


@pytest.mark.parametrize("what", ["replaced", "discarded", "purged", "emptied", "evicted"])
async def test_a_body_that_was_begun_is_finished_though_its_entry_goes(
    joined: Joined, redis_server: RedisServer, what: str
) -> None:
    store, other, data = joined(), joined(max_bytes=1_000_000), os.urandom(900_000)
    made = await put(store, entry(), data)
    body = await store.read(made)
    assert body is not None
    begun = await anext(body)
    match what:
        case "replaced":
            await put(other, entry(identifier="new"), b"new")
        case "discarded":
            await other.discard(made)
        case "purged":
            assert await other.purge(Selector(tag="country/de")) == 1
        case "emptied":
            assert await other.purge(Selector()) == 1
        case _:
            await put(other, entry(1), os.urandom(900_000))
    await settled(store)
    await settled(other)
    assert await found(store, made) != data
    assert begun + b"".join([piece async for piece in body]) == data
    with redis_server.client() as client:
        (left,) = names(redis_server, f"*:b:{key_name(made.key)}.*.{made.digest[:16]}")
        assert 0 < client.ttl(left) <= READ_SECONDS  # and then it ends by itself


async def test_a_body_that_was_begun_waits_for_a_store_that_is_away_for_a_moment(
    joined: Joined, redis_server: RedisServer
) -> None:
    data = os.urandom(900_000)
    made = await put(joined(), entry(), data)
    store = joined(answer_seconds=0.1, pause_seconds=0.2)
    async with asyncio.timeout(20):
        while (body := await store.read(made)) is None:  # on a busy machine it is away already
            await asyncio.sleep(0.05)
    redis_server.freeze()
    asyncio.get_running_loop().call_later(0.5, redis_server.thaw)
    assert await read_whole(body, 1 << 20) == data


@pytest.mark.parametrize("size", [1000, 700_000])
async def test_any_byte_that_was_changed_is_a_miss(joined: Joined, redis_server: RedisServer, size: int) -> None:
    store = joined()
    with redis_server.client() as client:
        for n in range(25):
            body = os.urandom(size)
            stored = await put(store, entry(n), body)
            (hash_,), (name,) = names(redis_server, "*:k:*"), names(redis_server, "*:b:*")
            field = next(each for each in client.hkeys(hash_) if each[:2] == b"v:")
            match n % 5:
                case 0:
                    client.setrange(name, (n * 7919) % size, bytes([body[(n * 7919) % size] ^ 1]))
                case 1:
                    client.set(name, client.getrange(name, 0, size - 2))
                case 2:
                    client.append(name, b"x")
                case 3:
                    client.delete(name)
                case _:
                    value = bytearray(client.hget(hash_, field))
                    value[(n * 31) % len(value)] ^= 1
                    client.hset(hash_, field, bytes(value))
            assert await found(store, stored) is None
            await settled(store)
            assert list(await store.select(stored.key)) == []
            await store.purge(Selector())
            await settled(store)


async def test_rows_that_were_swapped_are_misses(joined: Joined, redis_server: RedisServer) -> None:
    store = joined()
    one, other = await put(store, entry(1), b"one"), await put(store, entry(2), b"two")
    with redis_server.client() as client:
        first, second = names(redis_server, "*:k:*")
        fields, others = client.hgetall(first), client.hgetall(second)
        client.delete(first, second)
        client.hset(first, mapping=others)
        client.hset(second, mapping=fields)
    for each in (one, other):
        assert await found(store, each) is None


async def test_what_scripts_know_of_an_entry_may_be_missing(joined: Joined, redis_server: RedisServer) -> None:
    store = joined()
    stored = await put(store, entry(), b"body")
    (hash_,) = names(redis_server, "*:k:*")
    with redis_server.client() as client:
        field = next(each for each in client.hkeys(hash_) if each[:2] == b"m:")
        client.hdel(hash_, field)
    assert await found(store, stored) is None
    await put(store, entry(), b"again")
    assert await found(store, stored) == b"again"


@pytest.mark.parametrize("harm", ["changed", "gone"])
async def test_a_body_that_changes_while_it_is_served_breaks_off(
    joined: Joined, redis_server: RedisServer, harm: str
) -> None:
    store = joined()
    stored = await put(store, entry(), os.urandom(900_000))
    for _ in range(2):  # the second time it is not read twice
        body = await store.read(stored)
        assert body is not None
        assert len(await read_whole(body, 1 << 20) or b"") == 900_000
        await body.aclose()
    body = await store.read(stored)
    assert body is not None
    assert body.length == 900_000
    first = await anext(body)
    (name,) = names(redis_server, "*:b:*")
    with redis_server.client() as client:
        if harm == "gone":
            client.delete(name)
        else:
            client.setrange(name, 600_000, b"\0" * 50)
    assert len(first) == 256 * 1024
    with pytest.raises(BodyBroken):
        await read_whole(body, 1 << 20)
    await body.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(body)


# ---- a store that is away ------------------------------------------------------------------------------------------------


@pytest.fixture
async def away(joined: Joined, redis_server: RedisServer) -> AsyncIterator[tuple[RedisStore, RememberingObserver]]:
    """A store that knows its server, which is then killed; quick to notice, and without a pause."""
    told = RememberingObserver()
    store = joined(observer=told, connect_seconds=2.0, answer_seconds=2.0)
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
    assert list(await store.select(entry().key)) == []
    await put(store, entry(), b"again")
    assert await found(store, entry()) == b"again"


async def test_a_memory_before_it_works_on_alone(joined: Joined, redis_server: RedisServer) -> None:
    store = TieredStore(8 << 20, joined(connect_seconds=2.0, answer_seconds=2.0))
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


async def test_a_store_that_hangs_is_away_and_whoever_waits_goes_on(joined: Joined, redis_server: RedisServer) -> None:
    store = joined(connect_seconds=1.0, answer_seconds=1.0, pause_seconds=60.0)
    await put(store, entry(), b"body")
    redis_server.freeze()
    began = time.monotonic()
    assert await asyncio.gather(*(store.select(entry(n).key) for n in range(200))) == [()] * 200
    assert time.monotonic() - began < 60  # and not a second for each
    redis_server.thaw()


async def test_what_was_to_be_purged_is_made_up_for(joined: Joined, redis_server: RedisServer) -> None:
    """A store that was only out of reach still holds it."""
    store = joined(connect_seconds=1.0, answer_seconds=1.0)
    for n in range(4):
        await put(store, entry(n, target=f"/{n}", tags=(f"t{n}",)), b"body")
    redis_server.freeze()
    with pytest.raises(EntryStoreFailure):
        await store.purge(Selector(tag="t0"))
    with pytest.raises(EntryStoreFailure):
        await store.discard(entry(1, target="/1"))
    redis_server.thaw()
    assert [await found(store, entry(n)) for n in range(4)] == [None, None, b"body", b"body"]
    store._knowing.owed = [TAG] * 1000
    store._knowing.owe(TAG)
    assert store._knowing.owed == [Selector()]


async def test_a_store_that_comes_back_empty_begins_another_epoch(joined: Joined, redis_server: RedisServer) -> None:
    store, memory = joined(), TieredStore(8 << 20, joined())
    await put(memory, entry(), b"body")
    await memory.settled()
    writer = await store.create(entry(1))
    await writer.write(b"begun before")
    seen, generation = store.events(), store.generation()
    redis_server.flush()
    assert await writer.commit() is None
    assert list(await store.select(entry().key)) == []
    assert store.generation() > generation
    assert store.foreign_since(seen)[1] is None
    async with asyncio.timeout(10):
        while await found(memory, entry()) is not None:
            await asyncio.sleep(0.01)
    await put(store, entry(), b"again")
    assert await found(store, entry()) == b"again"
    await until(lambda: store._listening._number < 10)


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


async def test_two_that_update_at_once_both_get_through(joined: Joined) -> None:
    one, other = joined(), joined()
    stored = await put(one, entry(), b"body")
    heads = [replace(stored, response_time=float(1_800_000_000 + n)) for n in range(6)]
    await asyncio.gather(*((one, other)[n % 2].update(each) for n, each in enumerate(heads)))
    (selected,) = await one.select(stored.key)
    assert selected in heads
    assert await body_of(other, selected) == b"body"


async def test_a_closed_store_says_so(joined: Joined) -> None:
    store = joined(ends_at=in_an_hour)
    await store.stats()
    await store.close()
    with pytest.raises(EntryStoreFailure, match="closed"):
        await store.stats()
    store.touch("anything")
