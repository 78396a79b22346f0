"""Asking the origin: validation, what is stored, what is left, and what a purge meanwhile does."""

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.events import EntryStored
from passoproxy.errors import BodyBroken, OriginUnreachable
from tests.caching_stand import JSON, ROUTE, Stand
from tests.fakes import BROKEN, ChunkedBody

FRESH = ("Cache-Control", "max-age=10")
ETAG = ("ETag", '"v1"')
MODIFIED = ("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")


async def stale(*fields, policy=None, mode=None, **more):
    stand = Stand(policy=policy, **({"mode": mode} if mode else {}), **more)
    stand.origin.script = [stand.says(*fields)]
    await stand.ask()
    await stand.clock.advance(11)
    return stand


async def test_a_304_freshens_what_is_stored():
    stand = await stale(FRESH, ETAG, MODIFIED, ("X", "old"), ("Age", "3"))
    stand.origin.script = [stand.says(FRESH, ETAG, ("X", "new"), status=304, body=b"")]
    answer = await stand.ask(fields=[("If-None-Match", '"other"'), ("If-Modified-Since", "x")])
    assert (answer.status, answer.body, answer.headers["x"], answer.trail.cache) == (200, b"hello", "new", "miss")
    assert answer.cache == "passoproxy; fwd=stale; fwd-status=304; ttl=10"
    assert answer.headers["age"] == "0"
    assert stand.sent()["if-none-match"] == '"v1"'
    assert stand.sent()["if-modified-since"] == MODIFIED[1]
    assert (await stand.ask()).cache == "passoproxy; hit; ttl=10"


async def test_after_validation_the_clients_own_condition_is_answered():
    stand = await stale(FRESH, MODIFIED)
    stand.origin.script = [stand.says(MODIFIED, FRESH, status=304, body=b"")]
    assert (await stand.ask(fields=[("If-Modified-Since", MODIFIED[1])])).status == 304


async def test_a_200_replaces_what_is_stored():
    stand = await stale(FRESH, ETAG)
    stand.origin.script = [stand.says(FRESH, ("ETag", '"v2"'), body=b"new")]
    answer = await stand.ask()
    assert (answer.body, answer.cache) == (b"new", "passoproxy; fwd=stale; fwd-status=200; stored; ttl=10")
    assert (await stand.ask()).body == b"new"
    assert (await stand.store.stats()).entries == 1


async def test_a_304_that_speaks_of_nothing_stored_is_asked_again_without_conditions():
    stand = await stale(FRESH, ETAG)
    stand.origin.script = [stand.says(("ETag", '"v9"'), status=304, body=b""), stand.says(FRESH, body=b"whole")]
    assert (await stand.ask()).body == b"whole"
    assert "if-none-match" in stand.sent(-2)
    assert "if-none-match" not in stand.sent(-1)


async def test_a_304_under_an_override_begins_its_ttl_anew():
    stand = Stand(policy=ROUTE, mode=CacheMode())
    stand.origin.script = [stand.says(ETAG, ("Cache-Control", "private")), stand.says(ETAG, status=304, body=b"")]
    await stand.ask()
    await stand.clock.advance(61)
    assert (await stand.ask()).cache == "passoproxy; fwd=stale; fwd-status=304; ttl=60; detail=OVERRIDE"
    await stand.clock.advance(59)
    assert (await stand.ask()).trail.cache == "hit"


async def test_a_304_brings_no_cookie_into_an_entry_that_a_route_keeps():
    stand = Stand(policy=ROUTE, mode=CacheMode())
    cookie = ("Set-Cookie", "a=b")
    stand.origin.script = [stand.says(ETAG, cookie), stand.says(ETAG, cookie, status=304, body=b"")]
    assert (await stand.ask()).headers["set-cookie"] == "a=b"
    await stand.clock.advance(61)
    await stand.ask()
    assert "set-cookie" not in (await stand.ask()).headers


async def test_a_304_without_vary_keeps_the_variants_apart():
    stand = Stand()
    stand.origin.script = [
        stand.says(FRESH, ETAG, ("Vary", "Foo")),
        stand.says(FRESH, ETAG, status=304, body=b""),
        stand.says(FRESH, ("Vary", "Foo"), body=b"2"),
    ]
    await stand.ask(fields=[("Foo", "1")])
    await stand.clock.advance(11)
    await stand.ask(fields=[("Foo", "1")])
    assert (await stand.ask(fields=[("Foo", "2")])).body == b"2"
    assert (await stand.ask(fields=[("Foo", "1")])).body == b"hello"


async def test_a_304_that_varies_on_everything_ends_the_entry():
    stand = await stale(FRESH, ETAG)
    stand.origin.script = [stand.says(FRESH, ETAG, ("Vary", "*"), status=304, body=b""), stand.says(FRESH, body=b"new")]
    assert (await stand.ask()).body == b"new"


async def test_a_304_that_withdraws_the_right_to_store_is_served_once():
    stand = await stale(FRESH, ETAG)
    stand.origin.script = [
        stand.says(ETAG, ("Cache-Control", "no-store"), status=304, body=b""),
        stand.says(body=b"new"),
    ]
    assert (await stand.ask()).body == b"hello"
    assert (await stand.ask()).body == b"new"


async def test_a_304_for_an_entry_purged_meanwhile_is_asked_again():
    stand = await stale(FRESH, ETAG)
    stand.door.opened.clear()
    asking = stand.begin()
    await stand.quiet()
    await stand.store.purge(Selector())
    stand.origin.script = [stand.says(FRESH, ETAG, status=304, body=b""), stand.says(FRESH, body=b"new")]
    stand.door.opened.set()
    assert (await asking).body == b"new"


async def test_another_variant_is_validated_by_its_strong_tag():
    stand = Stand()
    stand.origin.script = [
        stand.says(FRESH, ETAG, ("Vary", "Foo")),
        stand.says(FRESH, ETAG, ("Vary", "Foo"), status=304, body=b""),
    ]
    await stand.ask(fields=[("Foo", "1")])
    other = await stand.ask(fields=[("Foo", "2")])
    assert (other.body, other.cache) == (b"hello", "passoproxy; fwd=vary-miss; fwd-status=304; ttl=10")
    assert (stand.sent()["if-none-match"], stand.sent()["foo"]) == ('"v1"', "2")


async def test_variants_are_stored_side_by_side():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ("Vary", "Foo"), body=b"1"), stand.says(FRESH, ("Vary", "Foo"), body=b"2")]
    for value in "12":
        await stand.ask(fields=[("Foo", value)])
    assert [(await stand.ask(fields=[("Foo", value)])).body for value in "12"] == [b"1", b"2"]
    stand.origin.script = [stand.says(FRESH)]
    assert (await stand.ask()).cache.startswith("passoproxy; fwd=vary-miss; fwd-status=200; stored")


# ---- HEAD ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        ([("Cache-Control", "max-age=1000"), ("X", "new")], "hit"),
        ([("Cache-Control", "max-age=1000"), ("Content-Length", "9")], "miss"),
        ([("Cache-Control", "max-age=1000"), ETAG], "miss"),
    ],
)
async def test_a_head_freshens_or_outdates_what_get_stored(answer, after):
    stand = await stale(FRESH, ("Content-Length", "5"), ("X", "old"))
    stand.origin.script = [stand.says(*answer, body=b""), stand.says(FRESH)]
    head = await stand.ask(method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers.get("x") == ("new" if after == "hit" else None)
    assert stand.origin.seen[-1].head.method == "HEAD"
    again = await stand.ask()
    assert again.trail.cache == after
    if after == "hit":
        assert (again.body, again.headers["x"]) == (b"hello", "new")


async def test_a_head_may_be_answered_by_validation():
    stand = await stale(FRESH, ETAG)
    stand.origin.script = [stand.says(FRESH, ETAG, status=304, body=b"")]
    answer = await stand.ask(method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert (await stand.ask()).trail.cache == "hit"


async def test_a_head_that_finds_nothing_leaves_what_is_stored():
    stand = await stale(FRESH, ETAG)
    stand.origin.script = [stand.says(status=404, body=b""), stand.says(FRESH, ETAG, status=304, body=b"")]
    assert (await stand.ask(method="HEAD")).status == 404
    assert (await stand.ask()).body == b"hello"


# ---- the client's own conditions where nothing is stored -------------------------------------------------------------------


async def test_a_condition_is_forwarded_and_its_304_passed_on():
    stand = Stand()
    stand.origin.script = [stand.says(ETAG, FRESH, status=304, body=b""), stand.says(ETAG, FRESH)]
    first = await stand.ask(fields=[("If-None-Match", '"v1"')])
    assert (first.status, first.cache) == (304, "passoproxy; fwd=uri-miss; fwd-status=304")
    assert stand.sent()["if-none-match"] == '"v1"'
    second = await stand.ask(fields=[("If-None-Match", '"v0"')])
    assert (second.status, second.body) == (200, b"hello")
    assert (await stand.ask()).trail.cache == "hit"


# ---- what is left, what is given up ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [ChunkedBody(b"he", BROKEN), ChunkedBody(b"he", OriginUnreachable("gone"))])
async def test_a_body_that_breaks_off_is_never_stored_and_breaks_for_the_client(body):
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ETAG, body=body), stand.says(FRESH)]
    with pytest.raises((BodyBroken, OriginUnreachable)):
        await stand.ask()
    assert body.closed
    assert not stand.observer.of(EntryStored)
    assert (await stand.ask()).trail.cache == "miss"


async def test_a_short_body_that_breaks_off_before_its_head_was_sent_may_be_replaced_by_a_stale_answer():
    stand = Stand(policy=ROUTE, mode=CacheMode())
    stand.origin.script = [stand.says(), stand.says(body=ChunkedBody(b"he", BROKEN, length=5))]
    await stand.ask()
    await stand.clock.advance(61)
    answer = await stand.ask()
    assert (answer.body, answer.trail.cache) == (b"hello", "stale")
    assert answer.cache == "passoproxy; fwd=stale; ttl=-1; detail=STALE_ERROR"


async def test_a_short_body_that_breaks_off_before_its_head_was_sent_is_refused():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, body=ChunkedBody(b"he", BROKEN, length=5))]
    with pytest.raises(OriginUnreachable, match="broke off"):
        await stand.ask()


async def test_a_body_over_the_limit_streams_on_and_is_not_stored():
    stand = Stand(mode=CacheMode(http=True, max_entry_bytes=10))
    stand.origin.script = [stand.says(FRESH, body=ChunkedBody(b"12345", b"67890", b"1", b"2")), stand.says(FRESH)]
    assert (await stand.ask()).body == b"123456789012"
    assert not stand.observer.of(EntryStored)
    assert (await stand.ask()).trail.cache == "miss"


async def test_an_answer_whose_length_is_over_the_limit_is_not_even_begun():
    stand = Stand(mode=CacheMode(http=True, max_entry_bytes=10))
    stand.origin.script = [stand.says(FRESH, ("Content-Length", "12"), body=b"123456789012")]
    assert (await stand.ask()).cache == "passoproxy; fwd=uri-miss; fwd-status=200"


@pytest.mark.parametrize("selector", [Selector(), Selector(target="/x"), Selector(tag="t"), Selector(route="r")])
@pytest.mark.parametrize("when", ["before the head", "before the end"])
async def test_a_purge_counts_for_what_was_requested_before_it(selector, when):
    stand = Stand(policy=ROUTE, mode=CacheMode())
    if when == "before the head":
        stand.door.opened.clear()
        stand.origin.script = [stand.says(body=b"old")]
        asking = stand.begin()
        await stand.quiet()
        await stand.store.purge(selector)
        stand.door.opened.set()
        assert (await asking).body == b"old"
    else:
        stand.origin.script = [stand.says(ETAG, body=ChunkedBody(b"ol", b"d"))]
        response = await stand.response()
        await stand.store.purge(selector)
        assert b"".join([part async for part in response.body]) == b"old"
    await stand.quiet()
    stand.origin.script = [stand.says(body=b"new")]
    assert (await stand.ask()).body == b"new"


async def test_a_post_is_sent_anew_when_it_must_be_asked_twice():
    stand = Stand(policy=ROUTE, mode=CacheMode())
    stand.origin.script = [stand.says(ETAG), stand.says(("ETag", '"x"'), status=304, body=b""), stand.says(body=b"new")]
    await stand.ask("/x", "POST", [JSON], body=b"{}")
    await stand.clock.advance(61)
    assert (await stand.ask("/x", "POST", [JSON], body=b"{}")).body == b"new"
    assert stand.door.bodies == [b"{}"] * 3


async def test_what_an_entry_remembers():
    policy = RoutePolicy(name="r", ttl=5.0, tags=("a", "b"), private=True)
    stand = Stand(policy=policy, mode=CacheMode())
    stand.origin.script = [stand.says(("Vary", "Foo"), body=ChunkedBody(b"a", b"b"))]
    answer = await stand.ask("/x?q", fields=[("Foo", "1")])
    await stand.quiet()
    (entry,) = await stand.store.select(answer.trail.key)
    assert (entry.target, entry.method, entry.route, entry.tags, entry.private) == (
        "/x?q",
        "GET",
        "r",
        ("a", "b"),
        True,
    )
    assert (entry.varies, entry.partition, entry.size, entry.status) == ((("foo", "1"),), "me", 2, 200)
    assert entry.stored_at == stand.clock.wall()
    assert entry.made_etag


async def test_the_origin_answer_for_a_background_question_is_closed_where_nobody_wants_it():
    stand = Stand(policy=RoutePolicy(stale_while_revalidate=100.0))
    stand.origin.script = [stand.says(FRESH)]
    await stand.ask()
    await stand.clock.advance(11)
    body = ChunkedBody(b"x")
    stand.origin.script = [stand.says(("Cache-Control", "no-store"), body=body)]
    assert (await stand.ask()).trail.cache == "stale"
    await stand.quiet()
    assert body.closed
    assert len(stand.collapser) == 0
