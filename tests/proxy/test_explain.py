"""Explanations: the same outcome as the cache's own, the way there in words, and nothing asked or changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core.access import Admission, AdmissionPolicy
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.policy import BypassPolicy, CacheMode, KeyPolicy, RoutePolicy
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.core.routes import RouteTable
from passoproxy.errors import Offline, OriginUnreachable, PathNotAllowed
from passoproxy.proxy.access import Access
from passoproxy.proxy.cache import EntryTerms
from passoproxy.proxy.explain import Explainer, Explanation
from passoproxy.proxy.spool import Spools
from tests.caching_stand import ROUTE, Answer, KeptSoftPurges, Stand, read
from tests.fakes import request, settle
from tests.memory_store import MemoryStore

ROUTES = CacheMode()
POLICY = replace(
    ROUTE,
    name="content",
    match="/content/**",
    key=KeyPolicy(ignore_query=("utm",), headers=("X-Tenant",), ignore_body_fields=("trace",)),
    bypass_when=BypassPolicy(query_has=("mark_visited",), body_has=("trip",)),
    refresh_ahead=0.1,
)
SILENT = RoutePolicy(name="silent", match="/silent")
OPEN = RoutePolicy(name="open", match="/open", ttl=9.0, pass_client_authorization=True, pass_cookies=True)


class House:
    """A stand with routes before it, and an explainer of its entries."""

    def __init__(self, mode: CacheMode = ROUTES, store: MemoryStore | None = None) -> None:
        self.stand = Stand(mode=mode, store=store, repeat=True)
        self.stand.origin.script = [self.stand.says()]
        table = RouteTable([POLICY, SILENT, OPEN], mode)
        admission = Admission(AdmissionPolicy())
        self.road = Access(self.stand.cache, lambda: admission, table, Spools())
        self.softening = self.stand.cache.terms = EntryTerms(mode, self.stand.clock, KeptSoftPurges())
        self.denied = ""
        self.table = table
        self.explainer = Explainer(
            self.stand.store, self.stand.cache, lambda: self.table, self._admits, self.stand.clock
        )

    def _admits(self, head: RequestHead) -> None:
        if self.denied and head.target.startswith(self.denied):
            raise PathNotAllowed("upstream.deny_paths forbids this path")

    async def ask(self, target: str, method: str = "GET", fields: Any = (), body: bytes = b"") -> Answer:
        # as the coding's hop would have it
        sent = request(method, target, [*fields, ("Accept-Encoding", "gzip, br, zstd")], body)
        return await read(await self.road.send(sent), sent.trail)

    async def explain(self, target: str, method: str = "GET", fields: Any = (), body: bytes = b"") -> Explanation:
        return await self.explainer.explain(RequestHead(method, target, fields_of(fields)), body)


@pytest.fixture
def house() -> House:
    return House()


def said(found: Explanation, text: str) -> bool:
    return any(text in reason for reason in found.reasons)


async def test_a_miss_and_then_a_hit(house: House) -> None:
    before = await house.explain("/content/a?b=1&a=2&utm=x")
    assert (before.outcome, before.route, before.pattern) == ("miss", "content", "/content/**")
    assert (before.cache_status, before.variants, before.freshness) == ("passoproxy; fwd=uri-miss", (), None)
    assert before.reasons[-1] == "the origin is asked for it: nothing stored (RFC 9111 §4)"
    assert house.stand.origin.seen == []
    await house.ask("/content/a?a=2&b=1")
    await house.stand.clock.advance(10)
    found = await house.explain("/content/a?b=1&a=2&utm=x")
    assert (await house.explain("/content/a?b=1&a=2&utm%00=x")).key == before.key  # as PHP reads it
    assert (found.outcome, found.key) == ("hit", before.key)
    assert found.cache_status == "passoproxy; hit; ttl=50"
    assert found.key_parts == {
        "identity": "me",
        "method": "GET",
        "path": "/content/a",
        "query": "a=2&b=1",
        "query_ignored": ["utm"],
        "query_sorted": True,
        "headers": {"x-tenant": None},
    }
    assert found.freshness is not None
    assert (found.freshness.age, found.freshness.lifetime, found.freshness.fresh_for) == (10.0, 60.0, 50.0)
    assert found.freshness.basis == "ttl of the route"
    assert found.freshness.refresh_ahead_from == found.freshness.fresh_until - 6.0
    assert found.freshness.stale_while_revalidate_until is None
    assert found.freshness.stale_if_error_until == found.freshness.fresh_until + 600.0
    assert found.policy["ttl"] == 60.0
    assert len(house.stand.origin.seen) == 1


async def test_what_the_route_makes_of_the_origin_s_word_is_shown_from_both_sides(house: House) -> None:
    house.stand.origin.script = [house.stand.says(("Cache-Control", "no-cache, private, max-age=5"))]
    await house.ask("/content/a")
    found = await house.explain("/content/a")
    assert found.origin_said == {"directives": {"no-cache": True, "private": True, "max-age": "5"}}
    assert found.counts["directives"] == {}
    assert found.counts["ttl_of_route"] == 60.0
    assert said(found, "the origin says no-cache, private, max-age=5")
    assert said(found, "the route's ttl of 60 s counts in place of that, against the origin's word (detail=OVERRIDE)")
    assert found.cache_status.endswith("detail=OVERRIDE")


async def test_without_override_the_ttl_counts_where_the_origin_is_silent() -> None:
    house = House()
    await house.ask("/open")
    found = await house.explain("/open")
    assert said(found, "the route's ttl of 9 s counts where it is silent (contract §7)")
    assert said(found, "the origin says nothing about caching")
    assert not said(found, "the route adds")


@pytest.mark.parametrize(
    ("method", "target", "fields", "body", "text"),
    [
        ("DELETE", "/content/a", [], b"", "DELETE is never answered from the cache"),
        ("POST", "/silent", [], b"", "the route answers GET, HEAD from the cache, and not POST"),
        ("GET", "/silent", [], b"", "the route has no ttl"),
        ("GET", "/unlisted", [], b"", "no route lists it"),
        ("GET", "/open", [("Authorization", "Bearer planted")], b"", "the client's own Authorization goes through"),
        ("GET", "/content/a", [("Cache-Control", "no-store")], b"", "the request says no-store"),
        ("GET", "/content/a", [("If-Match", '"a"')], b"", "If-Match is for the origin to judge here"),
        ("GET", "/content/a", [], b"body", "a GET with a body is sent on"),
        ("GET", "/content/a?mark_visited=1", [], b"", "it has 'mark_visited'"),
        ("POST", "/content/a", [("Content-Type", "application/json")], b'{"trip": {}}', "it has 'trip'"),
        ("GET", "/content/a?access_token=x", [], b"", "it has 'access_token', a credential"),
        ("POST", "/content/a", [("Content-Type", "application/json")], b"{", "its body cannot be part of a key: not JSON"),
        ("POST", "/content/a", [("Content-Type", "application/json")], b"[" + b"1," * 40_000 + b"1]", "longer than"),
    ],
)  # fmt: skip
async def test_why_a_request_is_a_pass(
    house: House, method: str, target: str, fields: Any, body: bytes, text: str
) -> None:
    found = await house.explain(target, method, fields, body)
    assert (found.outcome, found.key) == ("pass", None)
    assert said(found, text), found.reasons
    answer = await house.ask(target, method, fields, body)
    assert answer.cache.startswith(found.cache_status), (answer.cache, found.cache_status)
    assert "planted" not in str(found)


async def test_what_came_with_a_cookie_is_explained_by_the_origins_word(house: House) -> None:
    house.stand.origin.script = [house.stand.says(("Cache-Control", "max-age=5"))]
    cookie = [("Cookie", "a")]
    await house.ask("/open", fields=cookie)
    for fields in (cookie, []):
        found = await house.explain("/open", fields=fields)
        assert found.outcome == "hit"
        assert said(found, "so the origin's own word counts for it")
        assert not said(found, "the route's ttl")
        assert said(found, "it has a Cookie, which goes through") is bool(fields)


async def test_a_range_in_an_unknown_unit_is_a_pass_where_nothing_stored_serves(house: House) -> None:
    lines = [("Range", "lines=1-2")]
    for outcome in ("pass", "hit"):
        found = await house.explain("/content/a", fields=lines)
        assert found.outcome == outcome
        assert said(found, "in a unit that only the origin knows") is (outcome == "pass")
        assert (await house.ask("/content/a", fields=lines)).cache.startswith(found.cache_status)
        await house.ask("/content/a")


async def test_what_is_not_let_in_is_refused(house: House) -> None:
    house.denied = "/content/secret"
    found = await house.explain("/content/secret")
    assert found.outcome == "pass"
    assert found.reasons[-1] == "refused with 403 path_not_allowed: upstream.deny_paths forbids this path"


async def test_no_route_in_mode_http() -> None:
    house = House(CacheMode(http=True))
    found = await house.explain("/elsewhere")
    assert (found.outcome, found.route, found.pattern) == ("miss", "", "")
    assert said(found, "RFC 9111 alone judges")


async def test_a_post_s_body_is_shown_as_a_digest(house: House) -> None:
    json_field = [("Content-Type", "application/json; charset=utf-8"), ("X-Tenant", "one")]
    await house.ask("/content/a", "POST", json_field, b'{"a": 1.0, "b": [2], "trace": "x"}')
    found = await house.explain("/content/a", "POST", json_field, b'{"b":[2],"a":1}')
    assert found.outcome == "hit"
    body = found.key_parts["body"]
    assert isinstance(body, dict)
    assert (body["media_type"], body["canonical_bytes"], body["ignored"]) == ("application/json", 15, ["trace"])
    assert found.key_parts["headers"] == {"x-tenant": "one"}
    assert said(found, "the key is made of identity, method, path, x-tenant, canonical body")


async def test_variants_with_what_tells_them_apart(house: House) -> None:
    for language in ("de", "en"):
        house.stand.origin.script = [house.stand.says(("Vary", "Accept-Language, Cookie"), ("ETag", f'"{language}"'))]
        await house.ask("/content/a", fields=[("Accept-Language", language)])
        await house.stand.clock.advance(1)
    found = await house.explain("/content/a", fields=[("Accept-Language", "de")])
    assert [(variant.etag, variant.is_selected) for variant in found.variants] == [('"en"', False), ('"de"', True)]
    assert found.variants[0].varies == (("accept-language", "en", "de"), ("cookie", None, None))
    other = await house.explain("/content/a", fields=[("Accept-Language", "fr")])
    assert (other.outcome, other.cache_status) == ("miss", "passoproxy; fwd=vary-miss")
    assert said(other, 'whether it still holds, by "en", "de"')
    assert other.freshness is None


async def test_credentials_that_a_variant_depends_on_are_not_shown(house: House) -> None:
    house.stand.origin.script = [house.stand.says(("Vary", "Cookie"), ("Cache-Control", "max-age=9"))]
    await house.ask("/open", fields=[("Cookie", "planted=1")])
    found = await house.explain("/open", fields=[("Cookie", "planted=2")])
    assert found.variants[0].varies == (("cookie", "(not shown)", "(not shown)"),)
    assert not found.variants[0].is_selected
    assert "planted" not in str(found)


async def test_what_is_taken_away_is_named(house: House) -> None:
    found = await house.explain(
        "/content/a", fields=[("Cookie", "a"), ("X-Passoproxy-Key", "planted"), ("Accept", "*")]
    )
    assert said(found, "taken away before anything is judged (contract §5): Cookie, X-Passoproxy-Key")
    assert "planted" not in str(found)


async def test_stale_and_asked_again(house: House) -> None:
    house.stand.origin.script = [house.stand.says(("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"))]
    await house.ask("/content/a")
    await house.stand.clock.advance(61)
    found = await house.explain("/content/a")
    assert (found.outcome, found.cache_status) == ("miss", "passoproxy; fwd=stale")
    assert said(found, "whether it still holds, by its Last-Modified: stale")
    assert found.freshness is not None
    assert found.freshness.fresh_for == -1.0


async def test_a_pause_of_the_origin_is_said(house: House) -> None:
    await house.ask("/content/a")
    await house.stand.clock.advance(61)
    house.stand.spared = "the origin asked for a pause (429)"
    found = await house.explain("/content/a")
    assert (found.outcome, found.cache_status) == ("hit", "passoproxy; hit; ttl=-1; detail=STALE_ERROR")
    assert said(found, "the origin asked for a pause")


async def test_renewed_ahead(house: House) -> None:
    await house.ask("/content/a")
    await house.stand.clock.advance(57)
    found = await house.explain("/content/a")
    assert found.reasons[-1] == "it is renewed in the background meanwhile"
    assert len(house.stand.origin.seen) == 1


async def test_offline_and_only_if_cached(house: House) -> None:
    only = [("Cache-Control", "only-if-cached")]
    found = await house.explain("/content/a", fields=only)
    assert (found.outcome, found.cache_status) == ("miss", "")
    assert said(found, "504 offline, for the origin must not be asked: only-if-cached, and nothing stored")
    passed = await house.explain("/silent", fields=only)
    assert passed.reasons[-1] == "the origin must not be asked: 504 offline (contract §6)"
    house.stand.cache.mode = replace(ROUTES, offline=True)
    assert (await house.explain("/silent")).reasons[-1] == passed.reasons[-1]


async def test_a_soft_purge_is_told(house: House) -> None:
    await house.ask("/content/a")
    await house.stand.clock.advance(5)
    await house.softening.soften(Selector(route="content"))
    await house.stand.clock.advance(5)
    found = await house.explain("/content/a")
    assert found.outcome == "miss"
    assert found.freshness is not None
    assert (found.freshness.fresh_for, found.freshness.ended_early_at) == (-5.0, found.now - 5.0)
    assert said(found, "a soft purge ended its freshness")


async def test_what_may_not_be_used_any_more_is_told(house: House) -> None:
    house.stand.origin.script = [house.stand.says(("Cache-Control", "max-age=9, no-store"))]
    await house.ask("/content/a")
    stored = [entry async for entry in house.stand.store.entries(Selector())]
    house.table = RouteTable([replace(POLICY, override=False)], ROUTES)
    found = await house.explain("/content/a")
    assert len(stored) == 1
    assert said(found, "what is stored may not be used: the answer says no-store")


class Watching(MemoryStore):
    """Tells of everything that counts as a use or a change."""

    def __init__(self) -> None:
        super().__init__(1 << 24)
        self.used: list[str] = []

    async def select(self, key: str) -> Sequence[Entry]:
        self.used.append("select")
        return await super().select(key)

    async def read(self, entry: Entry) -> Any:
        self.used.append("read")
        return await super().read(entry)

    async def entries(self, selector: Selector) -> AsyncIterator[Entry]:
        async for entry in super().entries(selector):
            yield entry


async def test_nothing_is_used_or_changed() -> None:
    store = Watching()
    house = House(store=store)
    await house.ask("/content/a")
    store.used.clear()
    generation = store.generation()
    await house.explain("/content/a")
    await settle()
    assert (store.used, store.generation(), len(house.stand.origin.seen)) == ([], generation, 1)


async def test_an_outlook_is_the_short_of_it(house: House) -> None:
    head = RequestHead("GET", "/content/a", fields_of([("Cookie", "a")]))
    outlook = await house.explainer.outlook(head, b"")
    assert (outlook.outcome, outlook.is_fresh) == ("miss", False)
    assert outlook.request.policy is not None
    assert outlook.request.policy.name == "content"
    assert list(outlook.request.head.fields) == ["Accept-Encoding"]
    await house.ask("/content/a")
    assert (await house.explainer.outlook(head, b"")).is_fresh
    assert (await house.explainer.outlook(RequestHead("GET", "/silent"), b"")).why.startswith("the route has no ttl")


# ---- the same as the cache itself --------------------------------------------------------------------------------------

TARGETS = st.sampled_from(["/content/a", "/content/a?x=1", "/content/b?mark_visited=1", "/silent", "/open", "/other"])
FIELDS = st.lists(
    st.sampled_from(
        [
            ("Cache-Control", "no-cache"),
            ("Cache-Control", "no-store"),
            ("Cache-Control", "max-age=5"),
            ("Cache-Control", "min-fresh=30"),
            ("Cache-Control", "max-stale=20"),
            ("Cache-Control", "only-if-cached"),
            ("Accept-Language", "de"),
            ("Accept-Language", "en"),
            ("Authorization", "Bearer x"),
            ("Cookie", "a"),
            ("Range", "lines=1"),
            ("If-Match", '"a"'),
        ]
    ),
    max_size=2,
    unique_by=lambda pair: pair[0],
)
ANSWERS = st.sampled_from(
    [
        (),
        (("Cache-Control", "no-cache, private"),),
        (("Cache-Control", "max-age=20"), ("ETag", '"a"')),
        (("Vary", "Accept-Language"),),
        (("Cache-Control", "no-store"),),
    ]
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT"]), TARGETS, FIELDS, ANSWERS, st.sampled_from([0, 7, 40])
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, http=st.booleans())
async def test_an_explanation_foretells_what_the_cache_does(steps: Any, http: bool) -> None:
    house = House(CacheMode(http=http))
    for method, target, fields, answer, later in steps:
        await house.stand.clock.advance(later)
        house.stand.origin.script = [house.stand.says(*answer)]
        foretold = await house.explain(target, method, fields)
        before = len(house.stand.origin.seen)
        try:
            got = await house.ask(target, method, fields)
        except (Offline, OriginUnreachable):
            assert foretold.cache_status == ""
            assert "504 offline" in foretold.reasons[-1]
            continue
        asked = len(house.stand.origin.seen) - before
        member = got.cache.rpartition(", ")[2]
        assert member.startswith(foretold.cache_status), (member, foretold.reasons)
        assert (foretold.outcome == "hit") == (member.startswith("passoproxy; hit"))
        assert foretold.outcome == "hit" or asked >= 1
        await house.stand.quiet()
