"""Collapser: one question for many, and nobody held up for nothing."""

import asyncio

import pytest

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.events import EntryStored, TaskFailed
from passoproxy.errors import BodyBroken, CoolingDown, OriginUnreachable, Overloaded
from passoproxy.ports import Trail
from passoproxy.proxy.collapse import MOST_REMEMBERED, Collapser
from tests.caching_stand import JSON, ROUTE, Stand
from tests.fakes import BROKEN, ChunkedBody, FakeClock, RememberingObserver, request
from tests.memory_store import MemoryStore

FRESH = ("Cache-Control", "max-age=10")
ETAG = ("ETag", '"v1"')


def closed(stand):
    stand.door.opened.clear()
    return stand


async def test_a_thousand_equal_misses_make_one_question():
    stand = closed(Stand())
    stand.origin.script = [stand.says(FRESH)]
    asking = [stand.begin() for _ in range(1000)]
    await stand.quiet()
    stand.door.opened.set()
    answers = await asyncio.gather(*asking)
    assert {answer.body for answer in answers} == {b"hello"}
    assert len(stand.origin.seen) == 1
    assert sum("collapsed" in answer.cache for answer in answers) == 999
    assert answers[1].cache == "passoproxy; fwd=uri-miss; fwd-status=200; stored; collapsed; ttl=10"


async def test_equal_posts_share_a_flight():
    stand = closed(Stand(policy=ROUTE, mode=CacheMode()))
    stand.origin.script = [stand.says()]
    asking = [stand.begin("/x", "POST", [JSON], body=body) for body in (b'{"a":1,"b":2}', b'{"b":2,"a":1.0}')]
    await stand.quiet()
    stand.door.opened.set()
    assert [answer.body for answer in await asyncio.gather(*asking)] == [b"hello"] * 2


async def test_validation_is_shared_too():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ETAG)]
    await stand.ask()
    await stand.clock.advance(11)
    closed(stand)
    stand.origin.script = [stand.says(FRESH, ETAG, status=304, body=b"")]
    asking = [stand.begin() for _ in range(5)]
    await stand.quiet()
    stand.door.opened.set()
    answers = await asyncio.gather(*asking)
    assert answers[4].cache == "passoproxy; fwd=stale; fwd-status=304; collapsed; ttl=10"
    assert [answer.body for answer in answers] == [b"hello"] * 5


async def test_a_head_follows_a_get():
    stand = closed(Stand())
    stand.origin.script = [stand.says(FRESH)]
    asking = [stand.begin(), stand.begin("/x", "HEAD")]
    await stand.quiet()
    stand.door.opened.set()
    answers = await asyncio.gather(*asking)
    assert [answer.body for answer in answers] == [b"hello", b""]


async def test_followers_stream_while_the_body_arrives():
    stand = Stand()
    arriving = Arriving()
    stand.origin.script = [stand.says(FRESH, ETAG, body=arriving)]
    leader = await stand.response()
    arriving.give(b"one ")
    assert await anext(leader.body) == b"one "
    follower = await stand.response()
    assert await anext(follower.body) == b"one "
    arriving.give(b"two")
    arriving.end()
    assert [part async for part in follower.body] == [part async for part in leader.body] == [b"two"]
    await stand.quiet()
    assert len(stand.origin.seen) == 1


async def test_a_leader_that_hangs_up_before_the_head_is_not_followed_into_failure():
    stand = closed(Stand())
    stand.origin.script = [stand.says(FRESH)]
    leader, follower = stand.begin(), stand.begin()
    await stand.quiet()
    leader.cancel()
    await stand.quiet()
    stand.door.opened.set()
    assert (await follower).body == b"hello"
    assert (await stand.ask()).trail.cache == "hit"


async def test_a_leader_that_hangs_up_midway_leaves_the_storing_to_go_on():
    stand = Stand()
    arriving = Arriving()
    stand.origin.script = [stand.says(FRESH, ETAG, body=arriving)]
    leader = await stand.response()
    arriving.give(b"one ")
    await anext(leader.body)
    await leader.body.aclose()
    arriving.give(b"two")
    arriving.end()
    await stand.quiet()
    assert stand.observer.of(EntryStored)
    assert (await stand.ask()).body == b"one two"


async def test_a_leader_that_hangs_up_while_its_answer_is_awaited():
    stand = Stand()
    arriving = Arriving(length=3)
    stand.origin.script = [stand.says(FRESH, body=arriving)]
    leader = stand.begin()
    await stand.quiet()
    leader.cancel()
    await stand.quiet()
    arriving.give(b"one")
    arriving.end()
    await stand.quiet()
    assert (await stand.ask()).body == b"one"


@pytest.mark.parametrize("fields", [("Cache-Control", "no-store"), ("Cache-Control", "private")])
async def test_an_uncacheable_answer_for_a_leader_that_left_is_closed(fields):
    stand = closed(Stand())
    body = ChunkedBody(b"secret")
    stand.origin.script = [stand.says(fields, body=body)]
    leader = stand.begin()
    await stand.quiet()
    leader.cancel()
    await stand.quiet()
    stand.door.opened.set()
    await stand.quiet()
    assert body.closed
    assert len(stand.collapser) == 0


async def test_a_leader_that_leaves_just_when_the_answer_is_there():
    stand = closed(Stand())
    bodies = [ChunkedBody(b"x" * 10), ChunkedBody(b"y" * 10)]
    stand.origin.script = [
        stand.says(("Cache-Control", "no-store"), body=bodies[0]),
        stand.says(FRESH, ETAG, body=bodies[1]),
    ]
    for target in ("/a", "/b"):
        leader = stand.begin(target)
        await stand.quiet()
        fetch = stand.collapser.of(next(iter(stand.collapser._joinable)))
        fetch.waiter().add_done_callback(lambda _, leader=leader: leader.cancel())
        stand.door.opened.set()
        await stand.quiet()
        assert leader.cancelled()
        closed(stand)
    assert all(body.closed for body in bodies)
    assert len(stand.collapser) == 0


async def test_a_fetch_that_fails_is_failed_for_all_that_waited():
    stand = closed(Stand(OriginUnreachable("gone")))
    asking = [stand.begin() for _ in range(10)]
    await stand.quiet()
    stand.door.opened.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(outcome, OriginUnreachable) for outcome in outcomes)
    assert len(stand.origin.seen) == 1


async def test_a_failing_answer_is_told_to_all_that_waited():
    stand = closed(Stand())
    stand.origin.script = [stand.says(("Set-Cookie", "session=1"), status=503, body=b"no")]
    asking = [stand.begin() for _ in range(10)]
    await stand.quiet()
    stand.door.opened.set()
    answers = await asyncio.gather(*asking)
    assert {(answer.status, answer.body) for answer in answers} == {(503, b"no")}
    assert answers[9].cache == "passoproxy; fwd=uri-miss; fwd-status=503; collapsed"
    assert ["set-cookie" in answer.headers for answer in answers] == [True] + [False] * 9


async def test_whoever_comes_after_an_answer_broke_off_does_not_join_it():
    stand = Stand(store=(store := SlowlyAbandoning()))
    stand.origin.script = [stand.says(FRESH, ETAG, body=ChunkedBody(b"he", BROKEN)), stand.says(FRESH, ETAG)]
    with pytest.raises(BodyBroken):
        await stand.ask()
    answer = await stand.ask()
    assert (answer.body, "collapsed" in answer.cache) == (b"hello", False)
    store.opened.set()
    await stand.quiet()
    assert (await stand.ask()).trail.cache == "hit"


async def test_an_uncacheable_answer_does_not_serialise():
    stand = closed(Stand(repeat=True))
    stand.origin.script = [stand.says(("Cache-Control", "no-store"))]
    asking = [stand.begin() for _ in range(50)]
    await stand.quiet()
    assert stand.door.arrived == 1
    stand.door.opened.set()
    await asyncio.gather(*asking)
    assert stand.door.arrived == 50
    closed(stand)
    asking = [stand.begin() for _ in range(50)]  # and now it is remembered
    await stand.quiet()
    assert stand.door.arrived == 100
    stand.door.opened.set()
    await asyncio.gather(*asking)


async def test_what_has_become_cacheable_is_shared_again():
    stand = Stand()
    stand.origin.script = [stand.says(("Cache-Control", "no-store")), stand.says(FRESH), stand.says(FRESH)]
    caches = [(await stand.ask()).cache for _ in range(4)]
    assert caches[1] == "passoproxy; fwd=uri-miss; fwd-status=200"
    assert caches[2].startswith("passoproxy; fwd=uri-miss; fwd-status=200; stored")
    assert caches[3].startswith("passoproxy; hit")


async def test_the_memory_of_uncacheable_keys_fades_and_is_bounded():
    clock = FakeClock()
    collapser = Collapser(clock)
    collapser.remember_unshared("k", True)
    assert not collapser.may_share("k")
    await clock.advance(61)
    assert collapser.may_share("k")
    collapser.remember_unshared("k", True)
    for number in range(MOST_REMEMBERED):
        collapser.remember_unshared(number, True)
    assert collapser.may_share("k")
    assert not collapser.may_share(0)


async def test_bypassed_and_unlisted_requests_are_never_collapsed():
    stand = closed(Stand(repeat=True))
    stand.origin.script = [stand.says(FRESH)]
    asking = [stand.begin(policy=RoutePolicy(stores=False)) for _ in range(3)]
    await stand.quiet()
    assert stand.door.arrived == 3
    stand.door.opened.set()
    await asyncio.gather(*asking)


async def test_a_follower_waits_no_longer_than_its_patience():
    stand = closed(Stand(patience=5.0, repeat=True))
    stand.origin.script = [stand.says(FRESH)]
    asking = [stand.begin(), stand.begin()]
    await stand.quiet()
    assert stand.door.arrived == 1
    await stand.clock.advance(5)
    await stand.quiet()
    assert stand.door.arrived == 2
    stand.door.opened.set()
    await asyncio.gather(*asking)


async def test_variants_that_are_known_do_not_wait_for_one_another():
    stand = Stand(repeat=True)
    stand.origin.script = [stand.says(FRESH, ("Vary", "Foo"))]
    await stand.ask(fields=[("Foo", "0")])
    closed(stand)
    asking = [stand.begin(fields=[("Foo", value)]) for value in "1122"]
    await stand.quiet()
    assert stand.door.arrived == 1 + 2
    stand.door.opened.set()
    await asyncio.gather(*asking)


async def test_a_follower_of_another_variant_asks_for_itself():
    stand = closed(Stand())
    stand.origin.script = [stand.says(FRESH, ("Vary", "Foo"), body=value) for value in (b"1", b"2")]
    asking = [stand.begin(fields=[("Foo", value)]) for value in "12"]
    await stand.quiet()
    stand.door.opened.set()
    assert [answer.body for answer in await asyncio.gather(*asking)] == [b"1", b"2"]


async def test_a_validated_variant_is_not_given_to_another():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ETAG)]
    await stand.ask(fields=[("Foo", "1")])
    await stand.clock.advance(11)
    closed(stand)
    stand.origin.script = [stand.says(FRESH, ETAG, ("Vary", "Foo"), status=304, body=b""), stand.says(FRESH, body=b"2")]
    asking = [stand.begin(fields=[("Foo", value)]) for value in "12"]
    await stand.quiet()
    stand.door.opened.set()
    assert [answer.body for answer in await asyncio.gather(*asking)] == [b"hello", b"2"]


async def test_whoever_comes_too_late_for_the_start_waits_for_the_store():
    stand = Stand()
    arriving = Arriving()
    stand.origin.script = [stand.says(FRESH, ETAG, body=arriving)]
    leader = await stand.response()
    for _ in range(20):
        arriving.give(b"x" * 100_000)
        await anext(leader.body)
    late = stand.begin()
    await stand.quiet()
    assert not late.done()
    arriving.end()
    await leader.body.aclose()
    answer = await late
    assert (len(answer.body), answer.trail.cache) == (2_000_000, "hit")
    assert len(stand.origin.seen) == 1


async def test_whoever_comes_too_late_and_has_no_patience_asks_alone():
    stand = Stand(patience=5.0)
    arriving = Arriving()
    stand.origin.script = [stand.says(FRESH, ETAG, body=arriving), stand.says(FRESH, body=b"own")]
    leader = await stand.response()
    for _ in range(20):
        arriving.give(b"x" * 100_000)
        await anext(leader.body)
    late = stand.begin()
    await stand.quiet()
    await stand.clock.advance(5)
    assert (await late).body == b"own"
    await stand.cache.close()


@pytest.mark.parametrize("selector", [Selector(), Selector(target="/x"), Selector(tag="t"), Selector(target="/other")])
async def test_whoever_asks_after_a_purge_does_not_join_an_older_flight(selector):
    stand = closed(Stand(policy=RoutePolicy(tags=("t",))))
    stand.origin.script = [stand.says(FRESH, body=b"old"), stand.says(FRESH, body=b"new")]
    before = stand.begin()
    await stand.quiet()
    stand.cache.purged(selector)
    after = stand.begin()
    await stand.quiet()
    stand.door.opened.set()
    joined = selector.target == "/other"
    assert [(await before).body, (await after).body] == [b"old", b"old" if joined else b"new"]


async def test_a_write_keeps_later_readers_from_joining_an_older_flight():
    stand = closed(Stand())
    before = stand.begin()
    await stand.quiet()
    writing = stand.begin("/x", "PUT", body=b"w")
    await stand.quiet()
    stand.origin.script = [stand.says(FRESH, body=b"old"), stand.says(), stand.says(FRESH, body=b"new")]
    stand.door.opened.set()
    assert (await writing).status == 200
    await before
    assert (await stand.ask()).body == b"new"


async def test_a_flight_of_an_unknown_subject_is_released_by_any_purge():
    collapser = Collapser(FakeClock())

    async def fetch_entry(fetch):
        return None

    collapser.start("k", fetch_entry, Trail())
    collapser.release_where(Selector(target="/elsewhere"))
    assert collapser.of("k") is None
    await asyncio.sleep(0)


class SlowlyAbandoning(MemoryStore):
    """Takes its time to clear away what was not stored."""

    def __init__(self):
        super().__init__(1 << 20)
        self.opened = asyncio.Event()

    async def create(self, entry):
        writer = await super().create(entry)
        return _Lingering(writer, self.opened)


class _Lingering:
    def __init__(self, writer, opened):
        self.write, self.commit, self._writer, self._opened = writer.write, writer.commit, writer, opened

    async def abandon(self):
        await self._opened.wait()
        await self._writer.abandon()


class SlowlySelecting(MemoryStore):
    """Answers a select with what was there when it was asked, some time later."""

    def __init__(self):
        super().__init__(1 << 20)
        self.opened = asyncio.Event()
        self.opened.set()

    async def select(self, key):
        found = await super().select(key)
        await self.opened.wait()
        return found


async def test_an_entry_stored_while_the_store_was_asked_is_not_fetched_again():
    store = SlowlySelecting()
    stand = Stand(store=store)
    stand.origin.script = [stand.says(FRESH, ETAG), stand.says(FRESH, ETAG)]
    await stand.ask()
    await stand.clock.advance(11)
    closed(stand)
    first = stand.begin()
    await stand.quiet()
    store.opened.clear()
    second = stand.begin()
    await stand.quiet()
    stand.door.opened.set()
    await first
    await stand.quiet()
    store.opened.set()
    assert (await second).trail.cache == "hit"


async def test_who_joins_a_question_that_began_with_nothing_stored_asks_the_store_no_more():
    store = SlowlySelecting()
    stand = closed(Stand(store=store))
    stand.origin.script = [stand.says(FRESH, ETAG)]
    first = stand.begin()
    await stand.quiet()
    store.opened.clear()
    others = [stand.begin() for _ in range(3)]
    stand.door.opened.set()
    assert [each.body for each in await asyncio.gather(first, *others)] == [b"hello"] * 4
    assert stand.door.arrived == 1


class PurgedElsewhere(MemoryStore):
    """Hears of another process's purges when it is asked for anything."""

    def __init__(self):
        super().__init__(1 << 20)
        self.purges = []

    def keep_up(self):
        for tell in self.purges:
            tell(Selector())
        return bool(self.purges)

    async def select(self, key):
        self.keep_up()
        return await super().select(key)


async def test_a_question_asked_before_another_process_purged_is_not_joined_after_it():
    store = PurgedElsewhere()
    stand = closed(Stand(store=store))
    stand.origin.script = [stand.says(FRESH), stand.says(FRESH, body=b"new")]
    first = stand.begin()
    await stand.quiet()
    store.purges.append(stand.cache.purged)
    second = stand.begin()
    await stand.quiet()
    stand.door.opened.set()
    assert [(await each).body for each in (first, second)] == [b"hello", b"new"]


async def test_the_memory_of_ended_flights_is_bounded():
    collapser = Collapser(FakeClock())

    async def fetch_entry(fetch):
        fetch.subject = Entry(fetch.key, "1", "p", "GET", "/", 200)

    for number in range(MOST_REMEMBERED + 1):
        collapser.start(str(number), fetch_entry, Trail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not collapser.ended_since(0, "0")
    assert collapser.ended_since(0, "1")
    assert not collapser.ended_since(collapser.mark, "1")


# ---- in the background ---------------------------------------------------------------------------------------------------


async def test_stale_while_revalidate_serves_and_renews_once():
    stand = Stand(policy=RoutePolicy(stale_while_revalidate=60.0))
    stand.origin.script = [stand.says(FRESH)]
    await stand.ask()
    await stand.clock.advance(11)
    closed(stand)
    stand.origin.script = [stand.says(FRESH, body=b"new")]
    answers = [await stand.ask(fields=[("If-None-Match", '"x"')]) for _ in range(5)]
    assert answers[0].cache == "passoproxy; hit; ttl=-1; detail=STALE_REVALIDATING"
    assert answers[0].trail.cache == "stale"
    await stand.quiet()
    assert stand.door.arrived == 2
    stand.door.opened.set()
    await stand.quiet()
    assert stand.origin.seen[-1].background
    assert "if-none-match" not in stand.sent()
    assert (await stand.ask()).body == b"new"


async def test_a_hit_late_in_its_freshness_renews_ahead():
    stand = Stand(policy=RoutePolicy(refresh_ahead=0.1))
    stand.origin.script = [stand.says(FRESH, ETAG), stand.says(FRESH, ETAG, status=304, body=b"")]
    await stand.ask()
    await stand.clock.advance(8)
    await stand.ask()
    await stand.quiet()
    assert len(stand.origin.seen) == 1
    await stand.clock.advance(1)
    assert (await stand.ask()).trail.cache == "hit"
    await stand.quiet()
    assert stand.sent()["if-none-match"] == '"v1"'
    await stand.clock.advance(5)
    assert (await stand.ask()).cache == "passoproxy; hit; ttl=5"


async def test_a_head_renews_what_get_stored():
    stand = Stand(policy=RoutePolicy(stale_while_revalidate=60.0))
    stand.origin.script = [stand.says(FRESH), stand.says(FRESH, body=b"new")]
    await stand.ask()
    await stand.clock.advance(11)
    await stand.ask(method="HEAD")
    await stand.quiet()
    assert stand.origin.seen[-1].head.method == "GET"
    assert (await stand.ask()).body == b"new"


@pytest.mark.parametrize("failing", [Overloaded("cooling down"), 503])
async def test_a_renewal_that_fails_is_not_tried_again_at_once(failing):
    stand = Stand(policy=RoutePolicy(stale_while_revalidate=600.0))
    stand.origin.script = [stand.says(FRESH)]
    await stand.ask()
    await stand.clock.advance(11)
    stand.origin.script = [failing if isinstance(failing, Exception) else stand.says(status=failing), stand.says(FRESH)]
    for _ in range(3):
        assert (await stand.ask()).trail.cache == "stale"
        await stand.quiet()
    assert len(stand.origin.seen) == 2
    await stand.clock.advance(11)
    await stand.ask()
    await stand.quiet()
    assert (await stand.ask()).trail.cache == "hit"


async def test_renewals_are_bounded():
    stand = Stand(policy=RoutePolicy(stale_while_revalidate=600.0), most_background=2, repeat=True)
    stand.origin.script = [stand.says(FRESH)]
    for number in range(5):
        await stand.ask(f"/{number}")
    await stand.clock.advance(11)
    closed(stand)
    for number in range(5):
        await stand.ask(f"/{number}")
    await stand.quiet()
    assert stand.door.arrived == 5 + 2
    stand.door.opened.set()
    await stand.quiet()


async def test_offline_renews_nothing():
    stand = Stand(policy=RoutePolicy(stale_while_revalidate=600.0))
    stand.origin.script = [stand.says(FRESH)]
    await stand.ask()
    await stand.clock.advance(11)
    stand.cache.mode = CacheMode(http=True, offline=True)
    await stand.ask()
    await stand.quiet()
    assert len(stand.origin.seen) == 1


async def test_a_client_that_joined_a_refused_renewal_asks_for_itself():
    stand = Stand(policy=RoutePolicy(stale_while_revalidate=60.0))
    stand.origin.script = [stand.says(FRESH)]
    await stand.ask()
    await stand.clock.advance(11)
    closed(stand)
    await stand.ask()
    asking = stand.begin(fields=[("Cache-Control", "max-age=5")])
    await stand.quiet()
    assert stand.door.arrived == 2
    [fetch] = [stand.collapser.of(key) for key in stand.collapser._joinable]
    assert fetch.trail.awaited
    stand.origin.script = [Overloaded("background work stands back"), stand.says(FRESH, body=b"new")]
    stand.door.opened.set()
    assert (await asking).body == b"new"


# ---- ends ----------------------------------------------------------------------------------------------------------------


async def test_closing_ends_every_flight():
    stand = closed(Stand())
    asking = stand.begin()
    await stand.quiet()
    await stand.cache.close()
    with pytest.raises(Overloaded):
        await asking
    assert len(stand.collapser) == 0


async def test_a_fault_of_our_own_reaches_who_waits_and_is_told():
    observer = RememberingObserver()
    collapser = Collapser(FakeClock(), observer)

    async def fetch_entry(fetch):
        raise ZeroDivisionError

    fetch = collapser.start("k", fetch_entry, Trail())
    await asyncio.sleep(0)
    assert isinstance(fetch.outcome, ZeroDivisionError)
    assert observer.of(TaskFailed)


async def test_a_flight_that_never_landed_fails():
    collapser = Collapser(FakeClock())

    async def fetch_entry(fetch):
        return None

    fetch = collapser.start("k", fetch_entry, Trail())
    await fetch.waiter()
    assert isinstance(fetch.outcome, Overloaded)


class Arriving(ChunkedBody):
    """A body that is given part by part."""

    def __init__(self, length=None):
        super().__init__(length=length)
        self.parts = asyncio.Queue()

    def give(self, part):
        self.parts.put_nowait(part)

    def end(self):
        self.parts.put_nowait(None)

    async def __anext__(self):
        part = await self.parts.get()
        if part is None:
            raise StopAsyncIteration
        return part


# ---- bodies of unknown length --------------------------------------------------------------------------------------------


async def test_who_comes_too_late_for_the_start_of_a_body_gets_it_from_the_store():
    stand, body = Stand(), Arriving()
    stand.origin.script = [stand.says(FRESH, ETAG, body=body)]
    first = stand.begin()
    await stand.quiet()
    for _ in range(8):  # more than is kept in memory of one body
        body.give(bytes(300_000))
        await stand.quiet()
    late = stand.begin()
    await stand.quiet()
    body.end()
    assert len((await first).body) == len((await late).body) == 2_400_000
    assert (stand.door.arrived, late.result().trail.cache) == (1, "hit")


@pytest.mark.parametrize(
    ("chunks", "cache"), [([b"hel", b"lo"], "miss"), ([b"hel", BodyBroken("the body broke off")], "stale")]
)
async def test_a_condition_waits_for_the_made_tag_of_a_body_of_unknown_length(chunks, cache):
    stand = Stand(policy=RoutePolicy(stale_if_error=600.0))
    stand.origin.script = [stand.says(FRESH), stand.says(FRESH, body=ChunkedBody(*chunks))]
    tag = (await stand.ask()).headers["etag"]
    await stand.clock.advance(11)
    answer = await stand.ask(fields=[("If-None-Match", tag)])
    assert (answer.status, answer.headers["etag"], answer.trail.cache) == (304, tag, cache)


async def test_who_leaves_while_it_waits_for_a_made_tag_holds_nothing_up():
    stand, body = Stand(), Arriving()
    stand.origin.script = [stand.says(FRESH, body=body), stand.says()]
    asking = stand.begin(fields=[("If-None-Match", 'W/"pp-1"')])
    await stand.quiet()
    body.give(b"hello")
    await stand.quiet()
    asking.cancel()
    body.end()
    await stand.quiet()
    assert (asking.cancelled(), len(stand.collapser)) == (True, 0)
    assert (await stand.ask()).trail.cache == "hit"


@pytest.mark.parametrize(("method", "fields", "status"), [("HEAD", [], 200), ("GET", [("If-None-Match", '"v1"')], 304)])
async def test_who_wants_no_bytes_of_a_body_on_its_way_reads_none(method, fields, status):
    stand, body = Stand(), Arriving()
    stand.origin.script = [stand.says(FRESH, ETAG, body=body)]
    asking = stand.begin()
    await stand.quiet()
    body.give(b"hello")
    answer = await stand.ask(method=method, fields=fields)
    assert (answer.status, answer.body, stand.cache._fetcher.spools.readers) == (status, b"", 1)
    body.end()
    assert (await asking).body == b"hello"
    assert not stand.cache._fetcher.spools.readers


async def test_who_joins_the_question_of_background_work_is_not_refused_with_it():
    stand = closed(Stand())
    stand.origin.script = [CoolingDown("background work rests", 9.0), stand.says(FRESH)]
    asked = request("GET", "/x", policy=stand.policy, trail=Trail(), background=True)
    warming = asyncio.ensure_future(stand.cache.send(asked))
    await stand.quiet()
    client = stand.begin()
    await stand.quiet()
    assert stand.door.arrived == 1
    stand.door.opened.set()
    with pytest.raises(CoolingDown):
        await warming
    assert (await client).body == b"hello"
