"""Every promise of `ports.EntryStore` and `ports.EntryWriter`, for every store."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.vary import MOST_VARIANTS
from passoproxy.core.http.messages import fields_of
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import BytesBody, EntryStore, EntryWriter
from tests.stores.entries.making import body_of, entry, found, put, whole


async def targets(store: EntryStore, selector: Selector) -> list[str]:
    return sorted([each.target async for each in store.entries(selector)])


async def test_nothing_is_found_where_nothing_was_stored(store: EntryStore) -> None:
    assert list(await store.select(entry().key)) == []
    assert (await store.stats()).entries == 0


async def test_entries_are_counted_by_route(store: EntryStore) -> None:
    for number, route in enumerate(("r", "r", "other")):
        await put(
            store, replace(entry(), key=f"GET /{number}", target=f"/{number}", identifier=f"{number:032x}", route=route)
        )
    assert await store.by_route(["r", "none"]) == {"r": 2, "none": 0}


@pytest.mark.parametrize("size", [0, 1, 20_000, 256 * 1024, 256 * 1024 + 1, 1_500_000])
async def test_what_is_stored_comes_back_whole(store: EntryStore, size: int) -> None:
    body = os.urandom(size)
    stored = await put(store, entry(), body)
    assert stored == whole(entry(), body)
    assert list(await store.select(entry().key)) == [stored]
    assert await body_of(store, stored) == body


async def test_field_order_repetition_and_odd_bytes_survive(store: EntryStore) -> None:
    (stored,) = [await put(store, entry())]
    (selected,) = await store.select(stored.key)
    assert list(selected.fields.items()) == list(entry().fields.items())


async def test_a_small_body_comes_in_memory_and_can_be_read_often(store: EntryStore) -> None:
    stored = await put(store, entry(), b"x" * 1000)
    for _ in range(3):
        body = await store.read(stored)
        assert isinstance(body, BytesBody)
        assert body.data == b"x" * 1000


async def test_nothing_is_visible_before_the_commit(store: EntryStore) -> None:
    writer = await store.create(entry())
    await writer.write(b"half")
    assert list(await store.select(entry().key)) == []
    await writer.abandon()
    await writer.abandon()
    assert list(await store.select(entry().key)) == []
    with pytest.raises(EntryStoreFailure):
        await writer.commit()
    with pytest.raises(EntryStoreFailure):
        await writer.write(b"more")


async def test_a_large_body_that_breaks_off_leaves_nothing(store: EntryStore) -> None:
    writer = await store.create(entry())
    for _ in range(8):
        await writer.write(b"x" * 100_000)
    await writer.abandon()
    assert list(await store.select(entry().key)) == []
    assert (await store.stats()).entries == 0


async def test_abandon_after_commit_does_nothing(store: EntryStore) -> None:
    writer = await store.create(entry())
    await writer.write(b"whole")
    assert await writer.commit() is not None
    await writer.abandon()
    assert await found(store, entry()) == b"whole"


async def test_the_head_can_be_completed_at_the_commit(store: EntryStore) -> None:
    writer = await store.create(entry())
    await writer.write(b"body")
    stored = await writer.commit(replace(entry(), made_etag='W/"made"', content_digest="c" * 64))
    assert stored is not None
    assert list(await store.select(entry().key)) == [stored]
    assert (stored.made_etag, stored.size) == ('W/"made"', 4)


async def test_variants_stand_beside_one_another_the_youngest_first(store: EntryStore) -> None:
    for n, language in enumerate(["de", "en", None]):
        await put(
            store,
            entry(0, identifier=f"i{n}", varies=(("accept-language", language),), response_time=float(n)),
            f"{language}".encode(),
        )
    variants = await store.select(entry().key)
    assert [each.varies[0][1] for each in variants] == [None, "en", "de"]
    assert [await body_of(store, each) for each in variants] == [b"None", b"en", b"de"]


async def test_an_entry_replaces_those_with_equal_varies(store: EntryStore) -> None:
    await put(store, entry(0, identifier="other", varies=(("accept-language", "en"),)), b"english")
    await put(store, entry(0, identifier="old", varies=(("accept-language", "de"),)), b"old")
    before = store.generation()
    new = await put(store, entry(0, identifier="new", varies=(("accept-language", "de"),)), b"new")
    assert store.generation() > before
    variants = await store.select(entry().key)
    assert {each.identifier for each in variants} == {"new", "other"}
    assert await body_of(store, new) == b"new"
    assert (await store.stats()).entries == 2


async def test_what_is_new_changes_nothing_that_was_seen(store: EntryStore) -> None:
    """Or else every miss would make everything be looked up anew by whoever goes by the generation."""
    await put(store, entry(0), b"first")
    await store.stats()
    before = store.generation()
    for n in range(1, 4):
        await put(store, entry(n), b"another key's")
    await store.stats()
    assert store.generation() == before


async def test_the_same_entry_can_be_stored_again(store: EntryStore) -> None:
    await put(store, entry(), b"same")
    await put(store, entry(), b"same")
    assert await found(store, entry()) == b"same"
    await put(store, entry(), b"different")
    assert await found(store, entry()) == b"different"
    assert len(await store.select(entry().key)) == 1


async def test_the_number_of_variants_is_bounded_the_oldest_go(store: EntryStore) -> None:
    for n in range(MOST_VARIANTS + 5):
        await put(store, entry(0, identifier=f"i{n}", varies=(("x", str(n)),), response_time=float(n)), b"v")
    variants = await store.select(entry().key)
    assert len(variants) == MOST_VARIANTS
    assert variants[-1].response_time == 5.0


async def test_update_gives_another_head_and_keeps_the_body(store: EntryStore) -> None:
    stored = await put(store, entry(), b"body")
    before = store.generation()
    fresh = replace(stored, response_time=1_800_000_000.0, fields=fields_of([("Date", "later")]), digest="", size=0)
    await store.update(fresh)
    (selected,) = await store.select(entry().key)
    assert selected == replace(fresh, digest=stored.digest, size=4)
    assert await body_of(store, selected) == b"body"
    assert store.generation() > before


async def test_update_of_what_is_gone_stores_nothing(store: EntryStore) -> None:
    stored = await put(store, entry())
    await store.discard(stored)
    await store.update(stored)
    assert list(await store.select(entry().key)) == []


async def test_update_can_move_an_entry_to_other_tags(store: EntryStore) -> None:
    stored = await put(store, entry())
    await store.update(replace(stored, tags=("moved",)))
    assert await store.purge(Selector(tag="country/de")) == 0
    assert await store.purge(Selector(tag="moved")) == 1


async def test_discard_removes_one_variant(store: EntryStore) -> None:
    kept = await put(store, entry(0, identifier="kept", varies=(("x", "1"),)), b"kept")
    gone = await put(store, entry(0, identifier="gone", varies=(("x", "2"),)), b"gone")
    before = store.generation()
    await store.discard(gone)
    assert store.generation() > before
    assert list(await store.select(entry().key)) == [kept]
    assert await body_of(store, gone) is None
    await store.discard(gone)
    await store.discard(kept)
    assert list(await store.select(entry().key)) == []


LONG = "/long?" + "x" * 900
FILLING = {
    "/a": {"route": "one", "tags": ("t1", "t2")},
    "/a?q=1": {"route": "one", "tags": ("t2",)},
    "/a/b": {"route": "two", "tags": ()},
    "/ab": {"route": "two", "tags": ("t1 t2",), "partition": "other", "private": True},
    "/ac": {"route": "two", "tags": (), "partition": "other"},
    "/c": {"route": "", "tags": ("",)},
    LONG: {"route": "one", "tags": ("t3",)},
    LONG + "1": {"route": "", "tags": ("t3\x1ft4",), "private": True},
}
SELECTORS = [
    (Selector(target="/a"), {"/a"}),
    (Selector(target="/nowhere"), set()),
    (Selector(target=LONG), {LONG}),
    (Selector(prefix="/a"), {"/a", "/a?q=1", "/a/b", "/ab", "/ac"}),
    (Selector(prefix="/a?*"), {"/a?q=1"}),
    (Selector(prefix=LONG), {LONG, LONG + "1"}),
    (Selector(prefix=""), set(FILLING)),
    (Selector(route="one"), {"/a", "/a?q=1", LONG}),
    (Selector(route="on"), set()),
    (Selector(tag="t2"), {"/a", "/a?q=1"}),
    (Selector(tag="t1 t2"), {"/ab"}),
    (Selector(tag=""), {"/c"}),
    (Selector(tag="t3"), {LONG}),
    (Selector(tag="t3\x1ft4"), {LONG + "1"}),
    (Selector(partition="other"), {"/ab", "/ac"}),
    (Selector(partition="other", private=True), {"/ab"}),
    (Selector(partition=entry().partition, private=True), {LONG + "1"}),
    (Selector(partition="oth", private=True), set()),
    (Selector(partition="oth"), set()),
    (Selector(key=entry("/a").key, target="/a"), {"/a"}),
    (Selector(key=entry("/a").key, target="/ab"), set()),
    (Selector(), set(FILLING)),
]


async def test_listing_and_purging_mean_what_the_selector_matches(store: EntryStore) -> None:
    made = {target: entry(target, target=target, **changes) for target, changes in FILLING.items()}
    missing = set(made)
    for selector, meant in SELECTORS:
        for target in sorted(missing):
            await put(store, made[target], target.encode())
        assert meant == {target for target, each in made.items() if selector.matches(each)}
        assert await targets(store, selector) == sorted(meant)
        before = store.generation()
        assert await store.purge(selector) == len(meant), selector
        assert (store.generation() > before) or not meant
        assert await targets(store, Selector()) == sorted(set(made) - meant)
        for target, each in made.items():
            assert await found(store, each) == (None if target in meant else target.encode())
        assert (await store.stats()).entries == len(made) - len(meant)
        missing = meant


@pytest.mark.parametrize(
    "selector",
    [Selector(), Selector(target=entry().target), Selector(tag="country/de"), Selector(route="requirements")],
)
async def test_a_purge_counts_for_what_is_being_stored(store: EntryStore, selector: Selector) -> None:
    writer = await store.create(entry())
    await writer.write(b"before the purge")
    assert await store.purge(selector) == 0
    assert await writer.commit() is None
    await writer.abandon()
    assert list(await store.select(entry().key)) == []
    await put(store, entry(), b"after it")
    assert await found(store, entry()) == b"after it"


async def test_a_purge_of_what_is_private_counts_for_what_is_being_stored(store: EntryStore) -> None:
    purge = Selector(partition=entry().partition, private=True)
    own, open_to_all = await store.create(entry(0, private=True)), await store.create(entry(1))
    told_late, anothers = await store.create(entry(2)), await store.create(entry(3, private=True, partition="other"))
    assert await store.purge(purge) == 0
    assert await own.commit() is None
    assert await open_to_all.commit() is not None
    assert await told_late.commit(entry(2, private=True)) is None
    assert await anothers.commit() is not None


async def test_a_purge_counts_also_against_the_head_given_at_the_commit(store: EntryStore) -> None:
    writer = await store.create(entry(tags=()))
    await store.purge(Selector(tag="late"))
    assert await writer.commit(entry(tags=("late",))) is None


async def test_a_purge_of_large_bodies_under_way(store: EntryStore) -> None:
    writer = await store.create(entry())
    for _ in range(10):
        await writer.write(b"x" * 100_000)
    await store.purge(Selector(prefix="/api/"))
    await writer.write(b"end")
    assert await writer.commit() is None
    assert (await store.stats()).entries == 0


async def test_a_purge_among_commits_leaves_nothing_that_was_begun_before_it(store: EntryStore) -> None:
    async def commit(n: int, writer: EntryWriter) -> bool:
        for _ in range(n % 7):
            await asyncio.sleep(0)
        stored = await writer.commit()
        assert stored is None or stored.size == 100
        return stored is not None

    for selector in (Selector(prefix="/api"), Selector(tag="country/de"), Selector()):
        writers = [await store.create(entry(n)) for n in range(60)]
        for writer in writers:
            await writer.write(b"x" * 100)
        *stored, purged = await asyncio.gather(
            *(commit(n, each) for n, each in enumerate(writers)), store.purge(selector)
        )
        assert purged <= sum(stored)
        for n in range(60):
            assert list(await store.select(entry(n).key)) == []
        assert (await store.stats()).entries == 0


async def test_a_hundred_at_once(store: EntryStore) -> None:
    bodies = {n: os.urandom(3000 + 37 * n) for n in range(100)}

    async def one(n: int) -> None:
        await put(store, entry(n), bodies[n])
        for _ in range(5):
            assert await found(store, entry(n)) == bodies[n]

    await asyncio.gather(*(one(n) for n in range(100)))
    assert (await store.stats()).entries == 100


async def test_a_hundred_writers_of_one_key(store: EntryStore) -> None:
    await asyncio.gather(*(put(store, entry(0, identifier=f"i{n}"), f"body {n}".encode()) for n in range(100)))
    body = None
    while body is None:  # where it is stored behind the answer, the next one may replace what was just selected
        (selected,) = await store.select(entry().key)
        body = await body_of(store, selected)
    assert body == f"body {selected.identifier[1:]}".encode()


@pytest.mark.parametrize("size", [100, 700_000])
async def test_a_writer_that_is_cancelled_leaves_nothing_half(store: EntryStore, size: int) -> None:
    body = os.urandom(size)

    async def write() -> None:
        writer = await store.create(entry())
        try:
            for at in range(0, size, 50_000):
                await writer.write(body[at : at + 50_000])
            await writer.commit()
        finally:
            await writer.abandon()

    for turns in range(40):
        task = asyncio.ensure_future(write())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await found(store, entry()) in (None, body)
        await store.purge(Selector())
    assert (await store.stats()).entries == 0


async def test_stats_count_entries_and_bytes(store: EntryStore) -> None:
    for n in range(10):
        await put(store, entry(n), os.urandom(10_000))
    stats = await store.stats()
    assert stats.entries == 10
    assert stats.bytes_used >= 100_000


async def test_closing_twice_is_once(store: EntryStore) -> None:
    await put(store, entry())
    await store.close()
    await store.close()
    assert store.generation() >= 0
