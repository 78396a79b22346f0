"""Into the store and out of it: limits, failures, and parts that are joined."""

import pytest

from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.partial import Holding, as_part
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.events import EntryStored, StoreFailed
from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.ranges import Span
from passoproxy.errors import EntryStoreFailure
from passoproxy.proxy.fetch import LARGEST_TAGGED, Keeping, finished, is_all, joinable
from tests.fakes import ChunkedBody, RememberingObserver, response
from tests.memory_store import MemoryStore

FIELDS = fields_of([("ETag", '"a"'), ("Cache-Control", "max-age=9")])
ENTRY = Entry("k", "1", "p", "GET", "/", 206, FIELDS)
PART = as_part(ENTRY, Holding((Span(0, 4),), 10))


class Scene:
    def __init__(self, max_bytes=1 << 20):
        self.observer = RememberingObserver()
        self.store = MemoryStore(max_bytes)
        self.keeping = Keeping(self.store, self.observer)

    async def stored(self, entry=PART, body=b"01234"):
        writer = await self.store.create(entry)
        assert await self.keeping.sink(writer, 100)(body)
        return await self.keeping.committed(writer, entry)


async def fails():
    raise EntryStoreFailure("/cache: away")


async def test_a_failure_of_the_store_is_told_and_costs_no_more():
    scene = Scene()
    assert await scene.keeping.guarded(fails(), "instead") == "instead"
    assert scene.observer.events == [StoreFailed("/cache: away")]


async def test_a_sink_gives_up_at_its_limit_and_where_the_store_does():
    scene = Scene()
    sink = scene.keeping.sink(await scene.store.create(PART), 8)
    assert [await sink(b"12345"), sink.taken, await sink(b"6789")] == [True, 5, False]
    scene = Scene(max_bytes=80)
    assert not await scene.keeping.sink(await scene.store.create(PART), 100)(b"x" * 50)
    assert len(scene.observer.of(StoreFailed)) == 1


async def test_parts_are_joined_under_the_fields_of_both():
    scene = Scene()
    part = await scene.stored()
    assert [event.size for event in scene.observer.of(EntryStored)] == [5]
    entry = Entry("k", "2", "p", "GET", "/", 206, fields_of([("ETag", '"a"'), ("X", "new")]))
    writer = await scene.store.create(entry)
    whole = await scene.keeping.joined(part, Span(5, 9), b"56789", entry, RoutePolicy(), writer)
    assert (whole.status, whole.size, whole.fields["X"], whole.fields["Cache-Control"]) == (200, 10, "new", "max-age=9")
    assert (await scene.keeping.read(whole)).data == b"0123456789"


@pytest.mark.parametrize("how", ["the part is lost", "the writer gave up"])
async def test_joining_that_fails_stores_nothing(how):
    scene = Scene()
    part = await scene.stored() if how == "the writer gave up" else PART
    writer = await scene.store.create(ENTRY)
    if part is not PART:
        await writer.abandon()
    assert await scene.keeping.joined(part, Span(5, 9), b"56789", ENTRY, RoutePolicy(), writer) is None


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ([("ETag", '"b"'), ("Content-Range", "bytes 5-9/10")], 100),
        ([("ETag", '"a"')], 100),
        ([("ETag", '"a"'), ("Content-Range", "bytes 5-9/10")], 9),
    ],
)
async def test_what_is_not_to_be_joined_keeps_its_body(fields, most):
    body = ChunkedBody(b"56789")
    assert await joinable(response(206, fields, body), PART, most) is None
    assert not body.closed
    assert body._chunks


def test_a_part_is_stored_only_if_all_of_it_came():
    assert (is_all(PART, 5), is_all(PART, 4), is_all(Entry("k", "1", "p", "GET", "/", 200), 4)) == (True, False, True)


@pytest.mark.parametrize(
    ("entry", "body", "tagged"),
    [
        (Entry("k", "1", "p", "GET", "/", 200), b"x", True),
        (Entry("k", "1", "p", "GET", "/", 200), None, False),
        (Entry("k", "1", "p", "GET", "/", 200), b"x" * (LARGEST_TAGGED + 1), False),
        (Entry("k", "1", "p", "GET", "/", 404), b"x", False),
        (Entry("k", "1", "p", "POST", "/", 200), b"x", False),
        (Entry("k", "1", "p", "GET", "/", 200, FIELDS), b"x", False),
        (PART, b"x", False),
    ],
)
async def test_who_gets_a_made_tag(entry, body, tagged):
    assert bool((await finished(entry, RoutePolicy(), body)).made_etag) is tagged
