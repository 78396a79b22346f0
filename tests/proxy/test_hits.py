"""Two entrances, one set of rules: `try_hit` answers as the whole pipeline would, or leaves the request to it."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from passoproxy.core.access import Admission, AdmissionPolicy, client_key
from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.policy import BypassPolicy, CacheMode, KeyPolicy, RoutePolicy
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.core.http.messages import BODILESS, TRACING, FieldLines, RequestHead, changed, fields_of, head_text
from passoproxy.core.http.syntax import print_date
from passoproxy.core.routes import RouteTable
from passoproxy.errors import OriginUnreachable, Refusal
from passoproxy.ports import BytesBody, Client, Request, Response, Trail
from passoproxy.proxy.access import Access
from passoproxy.proxy.cache import EntryTerms
from passoproxy.proxy.hits import Hit, Hits
from passoproxy.proxy.popularity import Usage
from passoproxy.proxy.representation import Codings, Links
from passoproxy.proxy.spool import Spools
from tests.caching_stand import Stand
from tests.fakes import ScriptedHop, response

ORIGIN = "https://api.example"
ROUTES = (
    RoutePolicy(name="kept", match="/kept/**", methods=("GET", "HEAD", "POST"), ttl=10.0, override=True),
    RoutePolicy(
        name="renewed",
        match="/renewed/**",
        ttl=10.0,
        override=True,
        refresh_ahead=0.5,
        stale_while_revalidate=5.0,
        stale_if_error=30.0,
        key=KeyPolicy(ignore_query=("utm",), headers=("X-Tenant",)),
        bypass_when=BypassPolicy(("trip",)),
    ),
    RoutePolicy(name="traced", match="/traced", ttl=10.0, override=True, key=KeyPolicy(headers=("X-Request-Id",))),
    RoutePolicy(name="cookies", match="/cookies/**", ttl=10.0, pass_cookies=True),
)
TARGETS = (
    "/kept/a",
    "/kept/a",
    "/renewed/a",
    "/renewed/a?utm=1",
    "/renewed/a?trip=1",
    "/cookies/a",
    "/open",
    "/traced",
)
BODIES = (
    b"",
    b"plain",
    b'{"next":"https://api.example/kept/b","n":1}',
    b'{"words":"' + b"word " * 500 + b'"}',
    b'["https://api.example/a"]' + b" " * 70_000,
    b"x" * 300_000,
)
FIELDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Accept-Encoding", ("gzip", "br;q=0.5, gzip;q=0.1", "identity", "zstd, *;q=0")),
    ("If-None-Match", ('"v1"', '"v1-gzip"', 'W/"v1"', "*", '"other"')),
    ("If-Modified-Since", (print_date(1_700_000_000.0), "never")),
    ("Range", ("bytes=0-3", "bytes=-5", "bytes=0-0,4-5", "bytes=999999-", "items=1-2")),
    ("If-Range", ('"v1"',)),
    ("Cache-Control", ("no-cache", "max-age=3", "max-stale", "only-if-cached", "min-fresh=5", "no-store")),
    ("X-Tenant", ("one", "two")),
    ("Foo", ("1", "2")),
    ("Cookie", ("a=b",)),
    ("Origin", ("https://app.example", "https://evil.example")),
    ("X-Passoproxy-Key", ("right", "wrong")),
    ("Connection", ("keep-alive", "x-tenant", "x-request-id")),
    ("X-Request-Id", ("1", "2")),
)


@dataclass(frozen=True)
class Ask:
    """A request of a client."""

    method: str
    target: str
    host: str
    fields: tuple[tuple[str, str], ...]
    sent: bytes


@dataclass(frozen=True)
class Move:
    """The world changes, and clients ask."""

    wait: float
    step: float
    away: bool
    spared: bool
    offline: bool
    partition: str
    purge: str
    asks: tuple[Ask, ...]
    body: int
    coded: bool
    kind: str
    said: tuple[tuple[str, str], ...]


def one_of(*values: str | float | bool, often: int = 6) -> st.SearchStrategy:  # type: ignore[type-arg]
    """The first value mostly."""
    return st.sampled_from([values[0]] * often + list(values[1:]))


asks = st.builds(
    Ask,
    method=one_of("GET", "HEAD", "POST", "DELETE", often=9),
    target=st.sampled_from(TARGETS),
    host=one_of("localhost", "evil.example", often=30),
    fields=st.lists(st.sampled_from([(name, value) for name, values in FIELDS for value in values]), max_size=2).map(
        tuple
    ),
    sent=st.sampled_from([b"", b'{"a":1}', b'{"trip":1}']),
)
moves = st.builds(
    Move,
    wait=st.sampled_from([0.0, 0.5, 2.0, 6.0, 12.0, 40.0]),
    step=one_of(0.0, -30.0, 90.0, often=12),
    away=one_of(False, True),
    spared=one_of(False, True),
    offline=one_of(False, True, often=12),
    partition=one_of("me", "you", often=10),
    purge=one_of("", "hard", "soft", often=10),
    asks=st.lists(asks, min_size=4, max_size=8).map(tuple),
    body=st.sampled_from(range(len(BODIES))),
    coded=st.booleans(),
    kind=st.sampled_from(["application/json", "text/plain", "image/png"]),
    said=st.lists(
        st.sampled_from(
            [
                ("ETag", '"v1"'),
                ("ETag", 'W/"v1"'),
                ("Vary", "Foo"),
                ("Vary", "X-Request-Id"),
                ("Vary", "Accept-Encoding"),
                ("Cache-Control", "max-age=10"),
                ("Cache-Control", "no-cache"),
                ("Cache-Control", "max-age=5, no-transform"),
                ("Last-Modified", print_date(1_600_000_000.0)),
                ("Link", "<https://api.example/kept/a>; rel=next"),
                ("Content-Location", "/kept/a"),
                ("Age", "3"),
                ("Cache-Status", "far; hit"),
            ]
        ),
        max_size=3,
    ).map(tuple),
)


class SoftPurgeMemory:
    """Soft purges of this process alone."""

    def __init__(self) -> None:
        self.purges = SoftPurges()

    def current(self, now: float) -> SoftPurges:
        return self.purges

    async def add(self, purge: SoftPurge) -> None:
        self.purges = self.purges.having(purge)


class World:
    """The pipeline from access to the cache, before an origin that answers as the move says."""

    def __init__(self, http: bool) -> None:
        self.mode = CacheMode(http=http)
        self.usage = Usage()
        self.stand = Stand(self._answer, mode=self.mode, repeat=True, usage=self.usage)
        cache = self.stand.cache
        links = Links(cache, origin=ORIGIN, memory_bytes=8 << 20)
        codings, table = Codings(links, memory_bytes=8 << 20), RouteTable(ROUTES, self.mode)
        admission = Admission(AdmissionPolicy(allowed_origins=("https://app.example",)))
        guarded = Admission(replace(admission.policy, client_keys=(client_key("ann", "right"),)))
        access = Access(codings, lambda: guarded if self.guarded else admission, table, Spools())
        self.behind = ScriptedHop([response(200)], repeat=True)
        self.access = Access(self.behind, access.admission, table, Spools())
        self.hits = Hits(access, codings, links, cache, 8 << 20)
        cache.terms = EntryTerms(self.mode, self.stand.clock, SoftPurgeMemory())
        self.guarded = False
        self.move: Move | None = None
        self.lines: dict[object, FieldLines] = {}

    def _answer(self, request: Request) -> Response:
        assert self.move is not None
        if self.move.away:
            raise OriginUnreachable("away")
        fields = [("Content-Type", self.move.kind), ("Date", print_date(self.stand.clock.wall())), *self.move.said]
        body = BODIES[self.move.body]
        if self.move.coded:
            fields, body = [*fields, ("Content-Encoding", "gzip")], gzip.compress(body, mtime=0)
        return response(200, fields, body)

    async def judged(self, request: Request) -> Request:
        """The request as `Access` lets it pass."""
        await self.access.send(request)
        return self.behind.seen.pop()

    async def make(self, move: Move) -> None:
        """Changes the world."""
        self.move = move
        self.stand.clock.step(move.step)
        await self.stand.clock.advance(move.wait)
        self.stand.partition, self.stand.spared = move.partition, "away" if move.spared else ""
        if self.stand.cache.mode.offline != move.offline:
            self.stand.cache.mode = replace(self.mode, offline=move.offline)
        if move.purge == "hard":
            await self.stand.store.purge(Selector(target=TARGETS[0]))
        elif move.purge == "soft":
            await self.stand.cache.terms.soften(Selector(target=TARGETS[0]))

    def request(self, ask: Ask, *, remembered: bool = False) -> Request:
        """A new request of that kind; who sends a key asks a proxy that wants one. `remembered`: with field lines that were read before."""
        self.guarded = any(name == "X-Passoproxy-Key" for name, _ in ask.fields)
        fields = fields_of([("Content-Type", "application/json"), *ask.fields] if ask.sent else ask.fields)
        head, known = RequestHead(ask.method, ask.target, fields, authority=ask.host), None
        if remembered:
            head = head.with_fields(changed(fields, without=TRACING))
            known = self.lines.setdefault(
                (ask.fields, bool(ask.sent)), FieldLines(head.fields, head.scheme, head.version)
            )
        body = BytesBody(ask.sent if ask.method == "POST" else b"")
        return Request(head, body, Client("10.0.0.1"), self.stand.clock.wall(), trail=Trail(), lines=known)


def noted(request: Request) -> tuple[object, ...]:
    trail = request.trail
    return trail.route, trail.cache, trail.key, trail.client, trail.target


async def held(world: World, ask: Ask) -> str:
    """Asks by both entrances; the kind of hit, '' if it was none."""
    first, second = world.request(ask, remembered=True), world.request(ask)
    arrived = world.stand.door.arrived
    found = world.hits.try_hit(first.head, first.body, first.client, first.received_at, first.lines)
    hit = found if isinstance(found, Hit) else None
    if isinstance(found, Request):
        # It is judged already: as it would have been on the whole road.
        judged = await world.judged(world.request(ask))
        without = changed(judged.head.fields, without=TRACING)
        assert list(found.head.fields.items()) == list(without.items())
        assert replace(found.head, fields=judged.head.fields) == judged.head
        assert (found.policy, found.client, found.body.length) == (judged.policy, judged.client, judged.body.length)
        assert found.trail.route == judged.trail.route
    try:
        whole = await world.hits.send(second)
    except Refusal:
        assert hit is None
        return ""
    if hit is not None:
        assert hit.head.decode("utf-8", "surrogateescape") == head_text(whole.head)
        assert hit.cache_status == whole.head.fields["Cache-Status"]
        assert noted(hit.asked) == noted(second)
        assert isinstance(whole.body, BytesBody)
        assert hit.body == (b"" if ask.method == "HEAD" or whole.head.status in BODILESS else whole.body.data)
        return f"{ask.method} {hit.form.status} {hit.asked.trail.cache}"
    in_memory = "passoproxy; hit" in whole.head.fields["Cache-Status"] and isinstance(whole.body, BytesBody)
    is_renewed = world.stand.door.arrived > arrived  # refresh ahead: another entry may be there already
    if in_memory and not is_renewed and len(whole.body.data) < 60_000 and "Range" not in first.head.fields:  # type: ignore[union-attr]
        # What had to be made of the stored body is remembered now.
        again = world.hits.try_hit(second.head, second.body, second.client, second.received_at)
        assert isinstance(again, Hit)
    async for _ in whole.body:
        pass
    await whole.body.aclose()
    await world.stand.quiet()
    return ""


async def played(http: bool, play: list[Move]) -> Counter[str]:
    world, kinds = World(http), Counter[str]()
    for move in play:
        await world.make(move)
        kinds.update([await held(world, ask) for ask in move.asks])
    await world.stand.cache.close()
    return kinds


@settings(max_examples=40)
@given(http=st.booleans(), play=st.lists(moves, min_size=2, max_size=8))
def test_a_hit_is_what_the_whole_pipeline_answers_or_is_left_to_it(http: bool, play: list[Move]) -> None:
    for kind in asyncio.run(played(http, play)):
        event(kind)


@pytest.mark.slow
@settings(max_examples=400)
@given(http=st.booleans(), play=st.lists(moves, min_size=2, max_size=8))
def test_a_hit_is_what_the_whole_pipeline_answers_in_many_worlds(http: bool, play: list[Move]) -> None:
    for kind in asyncio.run(played(http, play)):
        event(kind)
