"""The caching hop: what is answered from the store, what is sent on, and what it says about that (contract §6 and §7)."""

import gzip

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.policy import BypassPolicy, CacheMode, KeyPolicy, RoutePolicy
from passoproxy.core.cache.vary import MOST_VARIANTS
from passoproxy.core.events import EntriesPurged, EntryStored, StoreFailed
from passoproxy.core.http.syntax import print_date
from passoproxy.errors import EntryStoreFailure, Offline, OriginUnreachable
from passoproxy.ports import BytesBody, Trail
from passoproxy.proxy.cache import Cache
from tests.caching_stand import JSON, ROUTE, Stand
from tests.fakes import ChunkedBody, FakeClock, ScriptedHop, request, response
from tests.memory_store import MemoryStore

FRESH = ("Cache-Control", "max-age=100")
ETAG = ("ETag", '"v1"')


async def test_a_miss_is_stored_and_then_a_hit():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ("X", "1"))]
    first, _ = await stand.ask(), await stand.clock.advance(7)
    second = await stand.ask()
    assert (first.cache, first.trail.cache) == ("passoproxy; fwd=uri-miss; fwd-status=200; stored; ttl=100", "miss")
    assert (second.cache, second.trail.cache) == ("passoproxy; hit; ttl=93", "hit")
    assert (first.body, second.body, second.headers["x"], second.headers["age"]) == (b"hello", b"hello", "1", "7")
    assert "age" not in first.headers
    assert first.trail.key == second.trail.key != ""
    assert [event.size for event in stand.observer.of(EntryStored)] == [5]


async def test_age_is_there_from_the_first_second_on_a_hit_and_from_one_second_on_elsewhere():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ("Age", "30")), stand.says(("Cache-Control", "no-store"), ("Age", "5"))]
    assert (await stand.ask()).headers["age"] == "30"
    assert (await stand.ask()).headers["age"] == "30"
    assert (await stand.ask("/y")).headers["age"] == "5"
    stand = Stand()
    stand.origin.script = [stand.says(FRESH)]
    await stand.ask()
    assert (await stand.ask()).headers["age"] == "0"


async def test_the_origins_date_is_kept_and_its_cache_status_comes_first():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ("Cache-Status", "far; hit"))]
    date = print_date(stand.clock.wall())
    assert (await stand.ask()).cache.startswith("far; hit, passoproxy; fwd=")
    await stand.clock.advance(50)
    hit = await stand.ask()
    assert hit.cache == "far; hit, passoproxy; hit; ttl=50"
    assert hit.headers["date"] == date


async def test_another_identity_sees_none_of_it():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH), stand.says(FRESH, body=b"theirs")]
    await stand.ask()
    stand.partition = "you"
    assert (await stand.ask()).body == b"theirs"


async def test_head_is_served_from_what_get_stored():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ("Content-Length", "5"))]
    await stand.ask()
    head = await stand.ask(method="HEAD")
    assert (head.status, head.body, head.headers["content-length"], head.trail.cache) == (200, b"", "5", "hit")


async def test_a_head_that_is_not_stored_goes_on_and_stores_nothing():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, body=b""), stand.says(FRESH)]
    assert (await stand.ask(method="HEAD")).cache == "passoproxy; fwd=uri-miss; fwd-status=200"
    assert (await stand.ask()).trail.cache == "miss"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([("If-None-Match", '"v1"')], 304),
        ([("If-None-Match", '"v0", W/"v1"')], 304),
        ([("If-None-Match", '"v0"')], 200),
        ([("If-Modified-Since", "Wed, 01 Jan 2020 00:00:00 GMT")], 304),
        ([("If-Modified-Since", "Tue, 31 Dec 2019 00:00:00 GMT")], 200),
    ],
)
async def test_the_clients_condition_is_answered_from_the_store(fields, status):
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ETAG, ("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"), JSON)]
    await stand.ask()
    answer = await stand.ask(fields=fields)
    assert (answer.status, answer.trail.cache) == (status, "hit")
    assert answer.body == (b"" if status == 304 else b"hello")
    assert answer.headers["etag"] == '"v1"'


async def test_a_condition_on_another_status_counts_for_nothing():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ETAG, status=404)]
    await stand.ask()
    assert (await stand.ask(fields=[("If-None-Match", '"v1"')])).status == 404


# ---- requests that are sent on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "fields", "body", "policy", "forward"),
    [
        ("OPTIONS", [], b"", None, "method"),
        ("DELETE", [], b"", None, "method"),
        ("POST", [], b"x", None, "method"),
        ("GET", [], b"", RoutePolicy(stores=False), "bypass"),
        ("GET", [], b"", RoutePolicy(methods=("POST",)), "method"),
        ("GET", [], b"body", None, "bypass"),
        ("GET", [], ChunkedBody(b"body"), None, "bypass"),
        ("GET", [("Cache-Control", "no-store")], b"", None, "request"),
        ("GET", [("If-Match", '"a"')], b"", None, "request"),
        ("GET", [("If-Unmodified-Since", "x")], b"", None, "request"),
        ("GET", [("Authorization", "Bearer own")], b"", RoutePolicy(pass_client_authorization=True), "bypass"),
    ],
)
async def test_a_pass_asks_the_origin_each_time_and_stores_nothing(method, fields, body, policy, forward):
    stand = Stand()
    stand.origin.script = [stand.says(FRESH), stand.says(FRESH, body=b"again")]
    first = await stand.ask("/x", method, fields, body=body, policy=policy)
    assert (first.cache, first.trail.cache) == (f"passoproxy; fwd={forward}; fwd-status=200", "pass")
    assert not stand.observer.of(EntryStored)
    assert (await stand.ask("/x", method, fields, policy=policy)).body == b"again"


async def test_a_part_is_asked_for_in_no_coding_where_it_only_passes():
    stand = Stand(policy=RoutePolicy(stores=False))
    stand.origin.script = [stand.says(status=206), stand.says()]
    await stand.ask(fields=[("Range", "bytes=0-1"), ("Accept-Encoding", "gzip, br")])
    assert stand.sent()["accept-encoding"] == "identity"
    await stand.ask(fields=[("Accept-Encoding", "gzip, br")])
    assert stand.sent()["accept-encoding"] == "gzip, br"


async def test_a_range_on_head_is_no_range():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH)]
    await stand.ask()
    assert (await stand.ask(method="HEAD", fields=[("Range", "bytes=0-1")])).trail.cache == "hit"


async def test_without_a_policy_nothing_is_stored():
    stand = Stand(mode=CacheMode())
    stand.origin.script = [stand.says(FRESH)]
    response = await stand.cache.send(request("GET", "/x"))
    assert response.head.fields["Cache-Status"] == "passoproxy; fwd=bypass; fwd-status=200"


BYPASS = RoutePolicy(
    name="r", ttl=60.0, override=True, methods=("GET", "POST"), bypass_when=BypassPolicy(("mark_visited",), ("trip",))
)


@pytest.mark.parametrize(
    ("target", "method", "fields", "body"),
    [
        ("/x?mark_visited=1", "GET", [], b""),
        ("/x?trip=1", "GET", [], b""),
        ("/x?_method=PUT", "GET", [], b""),
        ("/x?access_token=secret", "GET", [], b""),
        ("/x?access_token=secret", "HEAD", [], b""),
        ("/x", "POST", [("Content-Type", "application/x-www-form-urlencoded")], b"access_token=secret"),
        ("/x", "POST", [JSON], b'{"trip":{}}'),
        ("/x?mark_visited=1", "POST", [JSON], b"{}"),
        ("/x", "POST", [("Content-Type", "application/x-www-form-urlencoded")], b"trip[a]=1"),
        ("/x", "POST", [("Content-Type", "multipart/form-data; boundary=x")], b"--x--"),
        ("/x", "POST", [JSON], b"{"),
        ("/x", "POST", [JSON], b'{"a":1,"a":2}'),
        ("/x", "POST", [JSON], b"[" * 10_000 + b"]" * 10_000),
        ("/x", "POST", [JSON], b'"' + b"x" * 70_000 + b'"'),
        ("/x", "POST", [JSON], ChunkedBody(b'"', b"x" * 70_000, b'"')),
    ],
)
async def test_side_effects_and_unreadable_bodies_are_a_pass(target, method, fields, body):
    stand = Stand(policy=BYPASS)
    stand.origin.script = [stand.says()]
    answer = await stand.ask(target, method, fields, body=body)
    assert (answer.cache, answer.trail.key) == ("passoproxy; fwd=bypass; fwd-status=200", "")


async def test_a_client_s_token_in_the_query_is_nowhere_in_the_store():
    stand = Stand(policy=BYPASS, repeat=True)
    stand.origin.script = [stand.says()]
    for _ in range(2):
        assert "fwd=bypass" in (await stand.ask("/x?a=1&access_token=planted")).cache
    assert stand.origin.seen[-1].head.target == "/x?a=1&access_token=planted"  # byte for byte (contract §5)
    assert [entry async for entry in stand.store.entries(Selector())] == []
    assert "planted" not in repr(stand.observer.events)


async def test_a_body_too_long_for_a_key_still_arrives_whole():
    stand = Stand(policy=BYPASS)
    stand.origin.script = [stand.says(), stand.says()]
    await stand.ask("/x", "POST", [JSON], body=ChunkedBody(b"[", b"1," * 40_000, b"1]"))
    await stand.ask("/x", "POST", [JSON], body=b"x" * 70_000)
    assert stand.door.bodies == [b"[" + b"1," * 40_000 + b"1]", b"x" * 70_000]


# ---- POST that is a read -------------------------------------------------------------------------------------------------


async def test_a_post_is_keyed_by_what_its_body_means():
    stand = Stand(policy=ROUTE, mode=CacheMode())
    stand.origin.script = [stand.says(body=b"one"), stand.says(body=b"two")]
    assert (await stand.ask("/x", "POST", [JSON], body=b'{"a":1,"b":[1,2]}')).body == b"one"
    same = await stand.ask("/x", "POST", [JSON], body=b'{"b":[1.0,2],"a":1}')
    assert (same.body, same.trail.cache) == (b"one", "hit")
    assert (await stand.ask("/x", "POST", [JSON], body=b'{"a":1,"b":[2,1]}')).body == b"two"
    assert stand.origin.seen[0].body.data == b'{"a":1,"b":[1,2]}'


async def test_a_condition_on_a_post_counts_for_nothing():
    stand = Stand(policy=ROUTE, mode=CacheMode())
    stand.origin.script = [stand.says(ETAG)]
    await stand.ask("/x", "POST", [JSON], body=b"{}")
    assert (await stand.ask("/x", "POST", [JSON, ("If-None-Match", '"v1"')], body=b"{}")).status == 200


async def test_a_post_on_a_route_that_lists_it_invalidates_nothing():
    stand = Stand(policy=ROUTE, mode=CacheMode())
    stand.origin.script = [stand.says(), stand.says(), stand.says()]
    await stand.ask()
    await stand.ask("/x", "POST", [JSON], body=b"{}")
    await stand.ask("/x", "POST", [JSON], body=b"{")
    assert (await stand.ask()).trail.cache == "hit"


async def test_query_and_named_fields_in_the_key():
    policy = RoutePolicy(ttl=60.0, key=KeyPolicy(ignore_query=("utm",), headers=("X-Tenant",)))
    stand = Stand(policy=policy, mode=CacheMode())
    stand.origin.script = [stand.says(), stand.says(body=b"other")]
    await stand.ask("/x?b=2&a=1&utm=z", fields=[("X-Tenant", "1")])
    assert (await stand.ask("/x?a=1&b=2", fields=[("X-Tenant", "1")])).trail.cache == "hit"
    assert (await stand.ask("/x?a=1&b=2", fields=[("X-Tenant", "2")])).body == b"other"


async def test_as_it_is_built_without_anything_special():
    clock, origin = FakeClock(), ScriptedHop([response(200, [FRESH], b"x"), OriginUnreachable("gone")])
    cache = Cache(origin, MemoryStore(1 << 20), clock, CacheMode(http=True), partition=lambda: "me")
    for target in ("/x", "/x"):
        answer = await cache.send(request("GET", target, policy=RoutePolicy()))
        await answer.body.aclose()
    assert answer.head.fields["Cache-Status"].startswith("passoproxy; hit")
    await clock.advance(1000)
    with pytest.raises(OriginUnreachable):
        await cache.send(request("GET", "/x", policy=RoutePolicy()))


async def test_terms_of_entries_in_which_clients_chose_long_texts_are_not_remembered():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH)] * 2
    for target in ("/short", "/" + "x" * 2000):
        assert [(await stand.ask(target)).trail.cache for _ in range(2)] == ["miss", "hit"]
    assert [entry.target for entry, _, _ in stand.cache.terms._remembered.values()] == ["/short"]


async def test_remembered_terms_are_bounded():
    stand = Stand()
    stand.cache.terms.most = 2
    stand.origin.script = [stand.says(FRESH)] * 4
    for number in range(4):
        await stand.ask(f"/{number}")
    assert [(await stand.ask(f"/{number}")).trail.cache for number in range(4)] == ["hit"] * 4


# ---- policy --------------------------------------------------------------------------------------------------------------


async def test_override_stores_against_the_origins_word_and_says_so():
    stand = Stand(policy=ROUTE, mode=CacheMode())
    stand.origin.script = [stand.says(("Cache-Control", "no-cache, private"), ("Age", "500"))]
    first, hit = await stand.ask(), await stand.ask()
    assert first.cache == "passoproxy; fwd=uri-miss; fwd-status=200; stored; ttl=60; detail=OVERRIDE"
    assert (hit.cache, hit.headers["age"]) == ("passoproxy; hit; ttl=60; detail=OVERRIDE", "500")


@pytest.mark.parametrize("status", [401, 403, 422])
async def test_override_does_not_store_refusals(status):
    stand = Stand(policy=ROUTE, mode=CacheMode(), repeat=True)
    stand.origin.script = [stand.says(status=status)]
    await stand.ask()
    assert (await stand.ask()).cache == f"passoproxy; fwd=uri-miss; fwd-status={status}"


async def test_a_changed_policy_takes_effect_on_what_is_stored():
    stand = Stand(policy=ROUTE, mode=CacheMode())
    stand.origin.script = [stand.says(("Cache-Control", "no-store")), stand.says(("Cache-Control", "no-store"))]
    await stand.ask()
    assert (
        await stand.ask(policy=RoutePolicy(ttl=30.0, override=True))
    ).cache == "passoproxy; hit; ttl=30; detail=OVERRIDE"
    assert (await stand.ask(policy=RoutePolicy(ttl=30.0))).cache == "passoproxy; fwd=miss; fwd-status=200"


async def test_a_changed_mode_takes_effect_at_once():
    stand = Stand(repeat=True)
    stand.origin.script = [stand.says(("Cache-Control", "private, max-age=50"), ETAG)]
    stand.cache.mode = CacheMode(http=True, shared=False)
    await stand.ask()
    assert (await stand.ask()).trail.cache == "hit"
    stand.cache.mode = CacheMode(http=True, shared=True)
    assert (await stand.ask()).trail.cache == "miss"


# ---- the origin must not be asked ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "policy"), [("GET", None), ("DELETE", None), ("GET", RoutePolicy(stores=False)), ("OPTIONS", None)]
)
@pytest.mark.parametrize("offline", [True, False])
async def test_only_if_cached_and_offline_hold_on_every_path(method, policy, offline):
    stand = Stand(mode=CacheMode(http=True, offline=offline))
    fields = [] if offline else [("Cache-Control", "only-if-cached")]
    with pytest.raises(Offline) as refusal:
        await stand.ask("/x", method, fields, policy=policy)
    assert refusal.value.status == 504
    assert not stand.origin.seen


async def test_offline_serves_what_is_stored_however_old():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH)]
    await stand.ask()
    stand.cache.mode = CacheMode(http=True, offline=True)
    await stand.clock.advance(10_000)
    answer = await stand.ask()
    assert (answer.cache, answer.trail.cache) == ("passoproxy; hit; ttl=-9900", "stale")


async def test_a_refusal_is_an_error_in_the_metrics():
    stand = Stand(OriginUnreachable("gone"), OriginUnreachable("gone"))
    for policy in (None, RoutePolicy(stores=False)):
        trail = Trail()
        with pytest.raises(OriginUnreachable):
            await stand.response(policy=policy, trail=trail)
        assert trail.cache == "error"


# ---- unsafe requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "gone"), [(200, True), (204, True), (303, True), (404, False), (500, False)])
async def test_an_unsafe_success_invalidates_its_target(status, gone):
    stand = Stand()
    stand.origin.script = [stand.says(FRESH), stand.says(status=status), stand.says(FRESH)]
    await stand.ask("/x?a=1&b=2")
    await stand.ask("/x?b=2&a=1", "PUT", body=b"new")
    assert (await stand.ask("/x?a=1&b=2")).trail.cache == ("miss" if gone else "hit")
    assert bool(stand.observer.of(EntriesPurged)) is gone


async def test_location_of_the_same_origin_and_purged_tags():
    stand = Stand(mode=CacheMode(), policy=RoutePolicy(ttl=60.0, tags=("lists",)), repeat=True)
    stand.origin.script = [stand.says()]
    for target in ("/a", "/b", "/c"):
        await stand.ask(target)
    stand.origin.script = [stand.says(("Location", "https://api.example/b"), ("Content-Location", "//evil.example/a"))]
    await stand.ask("/z", "POST", policy=RoutePolicy(stores=False))
    stand.origin.script = [stand.says()]
    assert [(await stand.ask(target)).trail.cache for target in ("/a", "/b", "/c")] == ["hit", "miss", "hit"]
    await stand.ask("/z", "DELETE", policy=RoutePolicy(purges=("lists",)))
    assert [(await stand.ask(target)).trail.cache for target in ("/a", "/b", "/c")] == ["miss"] * 3


async def test_a_hidden_method_makes_a_listed_post_a_write():
    stand = Stand(mode=CacheMode(), policy=ROUTE)
    stand.origin.script = [stand.says(), stand.says(), stand.says()]
    await stand.ask()
    await stand.ask("/x", "POST", [JSON], body=b'{"_method":"DELETE"}')
    assert (await stand.ask()).trail.cache == "miss"


async def test_a_hidden_method_on_a_get_writes_nothing():
    stand = Stand(mode=CacheMode(), policy=ROUTE)
    stand.origin.script = [stand.says(), stand.says()]
    await stand.ask("/x?_method=a")
    await stand.ask()
    assert (await stand.ask()).trail.cache == "hit"


# ---- a store that fails --------------------------------------------------------------------------------------------------


class BrokenStore(MemoryStore):
    """Fails wherever its list says so."""

    def __init__(self, *broken):
        super().__init__(1 << 20)
        self.broken = set(broken)

    def _check(self, what):
        if what in self.broken:
            raise EntryStoreFailure(f"cannot {what}: the disk is full")

    async def select(self, key):
        self._check("select")
        return await super().select(key)

    async def read(self, entry):
        self._check("read")
        return None if "lose" in self.broken else await super().read(entry)

    async def create(self, entry):
        self._check("create")
        return BrokenWriter(await super().create(entry), self._check)

    async def purge(self, selector, *, brief=False):
        self._check("purge")
        return await super().purge(selector)


class BrokenWriter:
    def __init__(self, writer, check):
        self.writer, self.check, self.abandoned = writer, check, False

    async def write(self, data):
        self.check("write")
        await self.writer.write(data)

    async def commit(self, entry=None):
        self.check("commit")
        return await self.writer.commit(entry)

    async def abandon(self):
        await self.writer.abandon()


@pytest.mark.parametrize("broken", ["select", "read", "create", "write", "commit"])
async def test_a_broken_store_costs_misses_only(broken):
    stand = Stand(store=BrokenStore(broken), repeat=True)
    stand.origin.script = [stand.says(FRESH)]
    answers = [await stand.ask(), await stand.ask()]
    assert [answer.body for answer in answers] == [b"hello", b"hello"]
    assert [answer.trail.cache for answer in answers] == ["miss", "miss"]
    assert [("; stored" in answer.cache) for answer in answers] == [broken in ("select", "read")] * 2
    assert stand.observer.of(StoreFailed)


async def test_an_answer_that_turns_out_too_long_is_not_told_to_be_stored():
    stand = Stand(mode=CacheMode(http=True, max_entry_bytes=4))
    stand.origin.script = [stand.says(FRESH), stand.says(FRESH, body=ChunkedBody(b"he", b"llo"))]
    assert (await stand.ask()).cache == "passoproxy; fwd=uri-miss; fwd-status=200; ttl=100"
    waiting = await stand.ask(fields=[("If-None-Match", '"x"')])  # its head waits for the tag that we would make
    assert (waiting.body, waiting.cache) == (b"hello", "passoproxy; fwd=uri-miss; fwd-status=200; ttl=100")


async def test_a_lost_body_is_a_miss():
    store = BrokenStore()
    stand = Stand(store=store)
    stand.origin.script = [stand.says(FRESH), stand.says(FRESH, body=b"new")]
    await stand.ask()
    store.broken = {"lose"}
    assert (await stand.ask()).body == b"new"


async def test_an_invalidation_that_fails_is_told():
    stand = Stand(store=BrokenStore("purge"))
    stand.origin.script = [stand.says()]
    assert (await stand.ask("/x", "DELETE")).status == 200
    assert stand.observer.of(StoreFailed)


# ---- made tags -----------------------------------------------------------------------------------------------------------


async def test_where_the_origin_gives_no_tag_one_is_made_and_survives_what_is_volatile():
    stand = Stand(policy=ROUTE, mode=CacheMode())
    stand.origin.script = [
        stand.says(JSON, body=b'{"a":1,"requestid":"x"}'),
        stand.says(JSON, ("Content-Encoding", "gzip"), body=gzip.compress(b'{"a":1,"requestid":"y"}')),
        stand.says(JSON, body=b'{"a":2,"requestid":"z"}'),
    ]
    first = await stand.ask()
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    assert (await stand.ask()).headers["etag"] == tag
    assert (await stand.ask(fields=[("If-None-Match", tag)])).status == 304
    await stand.clock.advance(61)
    again = await stand.ask(fields=[("If-None-Match", tag)])
    assert (again.status, again.trail.cache, again.body) == (304, "miss", b"")
    assert "if-none-match" not in stand.sent()
    await stand.clock.advance(61)
    changed = await stand.ask(fields=[("If-None-Match", tag)])
    assert (changed.status, changed.body) == (200, b'{"a":2,"requestid":"z"}')


async def test_the_origins_own_tag_is_left_alone():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, ETAG)]
    assert (await stand.ask()).headers["etag"] == '"v1"'
    assert (await stand.store.select((await stand.ask()).trail.key))[0].made_etag == ""


async def test_a_long_answer_gets_no_tag():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH, body=b"x" * 300_000)]
    await stand.ask()
    await stand.quiet()
    assert "etag" not in (await stand.ask()).headers


async def test_the_name_of_the_stored_bytes_goes_along():
    stand = Stand()
    stand.origin.script = [stand.says(FRESH)]
    await stand.ask()
    response = await stand.response()
    assert len(response.content_id) == 64
    assert isinstance(response.body, BytesBody)


# ---- cache groups (RFC 9875) -------------------------------------------------------------------------------------------


async def test_a_write_throws_out_the_groups_that_its_answer_names():
    stand = Stand()
    stand.origin.script = [
        stand.says(FRESH, ("Cache-Groups", '"lists", "a"'), body=b"1"),
        stand.says(FRESH, ("Cache-Groups", '"b"'), body=b"2"),
        stand.says(("Cache-Group-Invalidation", '"lists"')),
        stand.says(FRESH, body=b"3"),
    ]
    await stand.ask("/x")
    await stand.ask("/y")
    await stand.ask("/elsewhere", "POST", body=b"write")
    assert ((await stand.ask("/y")).body, (await stand.ask("/x")).body) == (b"2", b"3")


async def test_a_304_may_bring_other_groups_and_a_read_invalidates_none():
    stand = Stand()
    stand.origin.script = [
        stand.says(("Cache-Control", "max-age=1"), ETAG, ("Cache-Groups", '"old"')),
        stand.says(FRESH, ("Cache-Groups", '"new"'), status=304),
        stand.says(FRESH, ("Cache-Group-Invalidation", '"new"')),
        stand.says(("Cache-Group-Invalidation", '"old"')),
        stand.says(("Cache-Group-Invalidation", '"new"')),
        stand.says(FRESH, body=b"anew"),
    ]
    await stand.ask()
    await stand.clock.advance(5)
    await stand.ask()
    await stand.ask("/read")
    await stand.ask("/write", "DELETE")
    assert (await stand.ask()).trail.cache == "hit"
    await stand.ask("/write", "DELETE")
    assert (await stand.ask()).body == b"anew"


# ---- asked again at once -----------------------------------------------------------------------------------------------


class Slow(MemoryStore):
    """Takes so many seconds to show what was stored."""

    def __init__(self, seconds):
        super().__init__(64 * 1024 * 1024)
        self.clock, self.seconds = FakeClock(), seconds

    async def create(self, entry):
        writer = await super().create(entry)
        return _SlowWriter(writer, self)


class _SlowWriter:
    def __init__(self, writer, store):
        self.writer, self.store = writer, store
        self.write, self.abandon = writer.write, writer.abandon

    async def commit(self, entry=None):
        await self.store.clock.sleep(self.store.seconds)
        return await self.writer.commit(entry)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"hello"), (204, b""), (200, ChunkedBody(b"a", b"b")), (404, b"none")],
    ids=["sized", "empty", "chunked", "404"],
)
@pytest.mark.parametrize("seconds", [0.05, 5.0])
async def test_who_has_an_answer_whole_finds_it_stored_if_that_takes_no_longer_than_a_tenth_of_a_second(
    status, body, seconds
):
    slow = Slow(seconds)
    stand = Stand(store=slow)
    slow.clock = stand.clock
    stand.origin.script = [stand.says(FRESH, ETAG, status=status, body=body), stand.says(FRESH, ETAG)]
    asking = stand.begin()
    await stand.quiet()
    assert not asking.done()
    await stand.clock.advance(0.06)
    assert asking.done() is (seconds < 0.1)
    await stand.clock.advance(0.05)
    assert (await asking).status == status
    if seconds < 0.1:
        assert (await stand.ask()).trail.cache == "hit"
    await stand.cache.close()


async def test_a_pass_waits_for_nothing():
    stand = Stand()
    stand.origin.script = [stand.says(("Cache-Control", "no-store"), body=ChunkedBody(b"a"))]
    assert (await stand.ask()).body == b"a"  # with a clock that stands still


async def test_variants_of_one_key_are_bounded():
    stand = Stand(repeat=True)
    stand.origin.script = [
        lambda asked: stand.says(FRESH, ETAG, ("Vary", "Foo"), body=asked.head.fields["Foo"].encode())(asked)
    ]
    for number in range(MOST_VARIANTS + 20):
        await stand.clock.advance(0.01)
        assert (await stand.ask(fields=[("Foo", str(number))])).body == str(number).encode()
    await stand.quiet()
    stored = [entry async for entry in stand.store.entries(Selector())]
    assert len(stored) == MOST_VARIANTS
    assert (await stand.ask(fields=[("Foo", str(MOST_VARIANTS + 19))])).trail.cache == "hit"
    assert (await stand.ask(fields=[("Foo", "0")])).trail.cache == "miss"


@pytest.mark.parametrize(
    ("control", "wish", "status"),
    [
        ("max-age=1", "stale-if-error=60", 200),
        ("max-age=1", "stale-if-error=5", 500),
        ("max-age=1", "stale-if-error", 500),
        ("max-age=1", "", 500),
        ("max-age=1, must-revalidate", "stale-if-error=60", 500),
        ("max-age=1, stale-if-error=60", "stale-if-error=5", 200),
    ],
)
async def test_a_request_may_widen_its_window_for_failures_rfc_5861(control, wish, status):
    stand = Stand()
    stand.origin.script = [stand.says(("Cache-Control", control), ETAG), stand.says(status=500)]
    await stand.ask()
    await stand.clock.advance(30)
    answer = await stand.ask(fields=[("Cache-Control", wish)])
    assert answer.status == status
    assert ("STALE_ERROR" in answer.cache) is (status == 200)
