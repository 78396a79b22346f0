"""Random conversations of clients with the proxy's connections, over a pipeline of the product's own hops: no socket, no thread, time that is moved.

A `Script` is what happens, the same for every `Side` that plays it. A side keeps what each client got, what was counted and what was logged.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Any, cast

from passoproxy.core.access import Admission, AdmissionPolicy, client_key
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.soft_purge import SoftPurge
from passoproxy.core.events import Answered, Event, RequestAnswered
from passoproxy.core.http.syntax import print_date
from passoproxy.core.redaction import Redactor
from passoproxy.core.routes import RouteTable
from passoproxy.errors import OriginUnreachable
from passoproxy.ports import Request, Response
from passoproxy.proxy.access import Access
from passoproxy.proxy.cache import Cache
from passoproxy.proxy.collapse import Collapser
from passoproxy.proxy.hits import Hits
from passoproxy.proxy.popularity import Usage
from passoproxy.proxy.representation import Codings, Links
from passoproxy.proxy.spool import Spools
from passoproxy.server.connection import Connections, Limits, ProxyConnection
from passoproxy.server.handler import Handler
from passoproxy.server.memo import Basis
from passoproxy.stores.entries.change_feed import ANYTHING, PURGED, SOFTENED
from passoproxy.stores.entries.serialization import key_name, mark_of
from passoproxy.stores.entries.tiered import TieredStore
from passoproxy.telemetry.batch import Batch
from passoproxy.telemetry.logs import AccessLines, request_ids
from passoproxy.telemetry.metrics import MetricsObserver
from passoproxy.telemetry.recent import Recent
from tests.caching_stand import KeptSoftPurges
from tests.fakes import Bearers, FakeClock, idle, response
from tests.memory_store import MemoryStore

ORIGIN = "https://api.example"
ROUTES = [
    RoutePolicy("ahead", "/ahead", ttl=20.0, override=True, refresh_ahead=0.9, tags=("a",)),
    RoutePolicy("asked", "/asked", methods=("GET", "POST"), ttl=20.0, override=True, volatile_fields=()),
    RoutePolicy("plain", "/plain", ttl=30.4, override=True, stale_while_revalidate=10.0, tags=("p",)),
    RoutePolicy("cookies", "/cookies", ttl=30.0, override=True, pass_cookies=True),
]
OTHER_ROUTES = [RoutePolicy("anew", "/plain", ttl=5.0, override=True), *ROUTES]
TARGETS = (
    *("/plain", "/ahead") * 3,
    *("/asked", "/plain?b=2", "/traced", "/cookies", "/json", "/long", "/vary", "/undated", "/told", "/gone", "/deny", "/large", "/stale"),
)  # fmt: skip
PAGE = "https://app.example"
DENIED = replace(AdmissionPolicy(allowed_origins=(PAGE,)), deny_paths=("/deny",))
ADMISSIONS = (
    DENIED,
    replace(DENIED, deny_paths=("/deny", "/plain")),
    replace(DENIED, client_keys=(client_key("ann", "first"), client_key("bob", "second"))),
    replace(DENIED, client_keys=(client_key("eve", "first"),)),
    replace(DENIED, allowed_origins=()),
)
MODES = (CacheMode(http=True), CacheMode(http=True, offline=True), CacheMode(), CacheMode(http=True, shared=False))
FIELDS = (
    "Accept-Encoding: gzip", "Accept-Language: de", "Accept-Language: en", "Cookie: a=1", "Cookie: b=2",
    *["X-Passoproxy-Key: first"] * 3, "X-Passoproxy-Key: second", f"Origin: {PAGE}", "Origin: https://evil.example",
    "Cache-Control: no-cache", *["Cache-Control: max-age=2"] * 3, "Cache-Control: only-if-cached", "Cache-Control: min-fresh=25",
    'If-None-Match: "v1"', "If-Modified-Since: Tue, 14 Nov 2023 22:13:30 GMT", "Range: bytes=0-3", "Connection: close", "Connection: keep-alive",
    "Expect: 100-continue", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)  # fmt: skip

BODIES = (
    b'{"a": 1}',
    b'{"a": 2}',
    b'["\r\ntraceparent: 1\r\n"]',
    b'["x",\r\nB3: 4,\r\n5]',
    b"body",
    b'{"_method": "trace"}',
)
TRACING = (
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319%d-b7ad6b7169203331-01\r\n", b"X-Request-Id: %d\r\n", b"TraceState:\t%d \r\n", b"B3:%d\r\n",
    b" %d\r\n", b"traceparent: %d\n\r\n",
)  # fmt: skip

Op = tuple[Any, ...]


def make_script(random: Random) -> list[Op]:
    """What happens in one conversation: mostly the same few requests, again and again."""
    targets = random.choices(TARGETS, k=random.choice((1, 1, 2)))
    heads = [_head(random, targets) for _ in range(random.choice((1, 2, 3, 4)))]
    links = random.choice((1, 1, 2, 3))
    script: list[Op] = [
        ("admit", random.choice((0, 0, 0, 2))),
        *(("connect", link, random.random() < 0.25) for link in range(links)),
    ]
    for head in heads:  # until they are known
        script += [("send", random.randrange(links), (head,))] * random.choice((2, 3, 4))
    for _ in range(random.randrange(3, 9)):
        link = random.randrange(links)
        if random.random() < 0.06:  # the end of a head that came in two pieces is no head
            head = random.choice(heads)
            at = random.randrange(1, len(head))
            script += [("send", link, (head[:at], head[at:]))] * 3 + [("send", link, (head[at:],))]
        elif random.random() < 0.85:
            script.append(_event(random, link, heads))
        script += [("send", link, (random.choice(heads),))] * random.choice((1, 1, 2, 3))
    return script


def _head(random: Random, targets: Sequence[str]) -> bytes:
    target = random.choice(targets)
    method = random.choices(("GET", "HEAD", "POST", "DELETE"), (24, 3, 6 if target == "/asked" else 1, 1))[0]
    fields = random.sample(FIELDS, random.choices((0, 1, 2, 3), (16, 7, 3, 1))[0])
    version = random.choices(("1.1", "1.0"), (24, 1))[0]
    host = random.choices(("localhost", "127.0.0.1:8610", "elsewhere"), (16, 3, 1))[0]
    sent = random.choice(BODIES) if method == "POST" else b""
    kind = b"json" if sent.startswith(b"{") else b"x-www-form-urlencoded"
    body = (
        b"Content-Type: application/%b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(sent), sent) if sent else b"\r\n"
    )
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *fields]
    return "".join(f"{line}\r\n" for line in lines).encode() + body


def _event(random: Random, link: int, heads: Sequence[bytes]) -> Op:
    def some() -> bytes:
        return random.choice(heads)

    def split() -> Op:
        whole = some() + some()
        at = sorted(random.randrange(1, len(whole)) for _ in range(random.choice((1, 2))))
        return "send", link, tuple(whole[a:b] for a, b in zip((0, *at), (*at, len(whole)), strict=True))

    target = some().split(b" ", 2)[1].decode()

    def traced() -> Op:
        """One of the heads with lines that tell its trace from others; at times they are no good lines."""
        lines = random.choices(TRACING, (4, 4, 4, 2, 1, 1), k=random.choice((1, 1, 2)))
        head = some()
        for line in lines:
            at = random.choice([found.end() for found in re.finditer(b"\r\n", head)])
            head = head[:at] + line % random.randrange(4) + head[at:]
        return "send", link, (head,)

    kinds: dict[str, tuple[int, Callable[[], Op]]] = {
        "traced": (12, traced),
        "split": (6, split),
        "pipelined": (4, lambda: ("send", link, (some() + some(),))),
        "part": (2, lambda: ("send", link, (some()[: random.randrange(1, 30)], some()))),
        "empty line": (2, lambda: ("send", link, (b"\r\n" + some(),))),
        "lone line end": (2, lambda: ("send", link, (random.choice((b"\r", b"\r\n")), some()))),
        "both": (3, lambda: ("both", link, (some(), some()))),
        "crowd": (2, lambda: ("crowd", link)),
        "uncrowd": (3, lambda: ("uncrowd", link)),
        "end": (1, lambda: ("end", link)),
        "lost": (1, lambda: ("lost", link)),
        "connect": (3, lambda: ("connect", link, False)),
        "wait": (
            24,
            lambda: ("wait", random.choice((0.0, 0.3, 0.5, 0.7, 2.0, 0.5, 0.999, 1.0, 1.5, 4.0, 8.0, 13.0, 31.0))),
        ),
        "step": (6, lambda: ("step", random.choice((-0.4, -1.0, -5.0, -59.0, -70.0, -4000.0, 0.7, 12.0, 100.0)))),
        "purge": (4, lambda: ("purge", random.choice((Selector(target=target), Selector(tag="p"), Selector())))),
        "soften": (3, lambda: ("soften", random.choice((Selector(target=target), Selector())))),
        "foreign purge": (4, lambda: ("foreign_purge", target)),
        "foreign soften": (3, lambda: ("foreign_soften", Selector())),
        "foreign change": (4, lambda: ("foreign_change", target)),
        "foreign news": (2, lambda: ("foreign_news", random.choice((1, 3, 600)))),
        "forget": (2, lambda: ("forget",)),
        "login": (3, lambda: ("login", random.choice(("me", "you")))),
        "pair": (
            8,
            lambda: (
                "pair",
                random.choice(("ends", "ends", "gone", "refused", "there")),
                random.choice((0.4, 1.0, 1.7, 9.0)),
                random.choice((None, 0.0, 2.5, 600.0)),
            ),
        ),
        "admit": (4, lambda: ("admit", random.randrange(len(ADMISSIONS)))),
        "routes": (3, lambda: ("routes", random.random() < 0.5)),
        "mode": (3, lambda: ("mode", random.randrange(len(MODES)))),
        "origin": (5, lambda: ("origin", random.choice(("next", "away", "back")))),
        "fill": (4, lambda: ("fill", random.choice((1, 6)))),
        "finish": (1, lambda: ("finish",)),
        "tell": (3, lambda: ("tell",)),
    }
    weights = [weight for weight, _ in kinds.values()]
    return random.choices([make for _, make in kinds.values()], weights)[0]()


class Masks:
    """Masks nothing: what is masked is the business of others, and most of the time of a side."""

    def text(self, text: str, most: int = 0) -> str:
        return text

    target = text


class Inline(Executor):
    """Does the work at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class Origin:
    """Answers by path; `version` changes what it says."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock, self.version, self.is_away = clock, 1, False

    async def send(self, request: Request) -> Response:
        request.trail.origin_requests += 1
        await request.body.aclose()
        if self.is_away:
            raise OriginUnreachable("away")
        path, version = request.head.path, self.version
        fields = [] if path == "/undated" else [("Date", print_date(self._clock.wall()))]
        fields.append(
            (
                "Cache-Control",
                {"/told": "max-age=7", "/stale": "max-age=2, stale-while-revalidate=9"}.get(path, "max-age=40"),
            )
        )
        body = b"%d of %s, that is all there is" % (version, request.head.target.encode())
        if path == "/json":
            fields.append(("Content-Type", "application/json"))
            body = b'{"v": %d, "next": "%s/plain"}' % (version, ORIGIN.encode()) + b" " * 1100
        elif path == "/long":
            fields += [
                ("Content-Type", "text/plain"),
                ("ETag", f'"v{version}"'),
                ("Cache-Status", "other; hit; ttl=5"),
            ]
            body *= 60
        elif path == "/large":
            body *= 700
        elif path == "/vary":
            fields += [("Vary", "Accept-Language"), ("Age", "3")][version % 2 == 0 :]
            body += ", ".join(request.head.fields.getall("Accept-Language", ())).encode()
        elif path == "/traced":
            fields.append(("Vary", "X-Request-Id"))
            body += ", ".join(request.head.fields.getall("X-Request-Id", ())).encode()
        elif path == "/told":
            fields += [
                ("ETag", f'"v{version}"'),
                ("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT"),
                ("Location", f"{ORIGIN}/x"),
            ]
        return response(404 if path == "/gone" else 200, fields, b"" if request.head.method == "HEAD" else body)


class Feed:
    """What other processes did to the slow store."""

    def __init__(self) -> None:
        self.events = self.purges = 0
        self._marks: list[int] = []

    def tell(self, *marks: int) -> None:
        self._marks += marks
        self.events += len(marks)
        self.purges += PURGED in marks

    def foreign_since(self, seen: int) -> tuple[int, list[int] | None]:
        marks = self._marks[seen:]
        return self.events, None if len(marks) > 500 or ANYTHING in marks else marks


class Slow(MemoryStore):
    """A store that other processes share, and that remembers what was used."""

    def __init__(self) -> None:
        super().__init__(16 * 1024 * 1024)
        self.feed, self.touched = Feed(), list[str]()
        self.touch = self.touched.append
        self._answers: dict[bytes, tuple[Entry, bytes, bool]] = {}

    def find_nowait(self, key: str) -> list[tuple[Entry, bytes | None]]:
        return [(entry, self._shelf.body(entry)) for entry in self.get_nowait(key)]

    def keep_answer(self, digest: bytes, entry: Entry, made: tuple[Any, ...], *, with_body: bool) -> None:
        self._answers[digest] = entry, marshal.dumps(made), with_body

    def answer_nowait(self, digest: bytes) -> tuple[str, tuple[Any, ...], bytes] | None:
        if digest not in self._answers:
            return None
        entry, made, with_body = self._answers[digest]
        body = self._shelf.body(entry) if with_body else b""
        if body is None or self._shelf.variants(entry.key) != (entry,):
            return None
        return entry.key, marshal.loads(made), body


class Transport:
    """Takes what is written; the other end is a test."""

    def __init__(self, secure: bool) -> None:
        self._secure, self.written, self.state, self.protocol = secure, bytearray(), "open", cast(ProxyConnection, None)
        self._is_paused, self._reads = False, list[bytes]()
        self._on_its_way = 0

    def get_extra_info(self, name: str) -> object:
        return self if name == "sslcontext" and self._secure else None

    def set_write_buffer_limits(self, high: int) -> None: ...
    def set_read_buffer_limits(self, high: int) -> None: ...
    def can_write_eof(self) -> bool:
        return not self._secure

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.state != "open"

    def write(self, data: bytes | memoryview) -> None:
        if self.state in ("open", "ended"):
            self.written += data

    def writelines(self, parts: Sequence[bytes | memoryview]) -> None:
        for part in parts:
            self.write(part)

    def write_eof(self) -> None:
        self.written += b"<eof>"

    def pause_reading(self) -> None:
        self._is_paused, self._on_its_way = True, 2

    def resume_reading(self) -> None:
        self._is_paused = False

    def close(self, state: str = "closed") -> None:
        if self.state == "open":
            self.state = state

    def abort(self) -> None:
        self.close("aborted")

    def read(self, data: bytes) -> None:
        self._reads.append(data)
        self.pump()

    def pump(self) -> None:
        while self._reads and self.state == "open" and (self._on_its_way or not self._is_paused):
            self._on_its_way -= bool(self._on_its_way)
            self.protocol.data_received(self._reads.pop(0))


_MADE_ID = re.compile(rb'"request_id": "[0-9a-f]{32}"')


@dataclass
class Heard:
    """All that can be told apart of a side."""

    got: list[tuple[bytes, str]]
    counts: dict[Any, float]
    lines: list[str]
    usage: dict[str, int]
    used: tuple[list[str], list[str], set[str], list[str]]
    recent: list[Any]


class Side:
    """One daemon's worth of pipeline."""

    def __init__(self, *, memo: bool, memo_bytes: int = 24_000, memory_bytes: int = 72_000) -> None:
        self.clock = clock = FakeClock(settled=idle)
        self.slow = Slow()
        self.store = store = TieredStore(memory_bytes, cast(Any, self.slow), cast(Any, self.slow))
        self.origin, self.kept, self.usage = Origin(clock), KeptSoftPurges(), Usage(most=3)
        self.bearers, self.admission = Bearers(clock), Admission(ADMISSIONS[0])
        numbers, events = count(1), list[Event]()
        self.cache = cache = Cache(
            self.origin,
            store,
            clock,
            MODES[0],
            partition=lambda: self.bearers.partition,
            origin=ORIGIN,
            collapser=Collapser(clock, events.append),
            usage=self.usage,
            soft_purges=self.kept,
            identify=lambda: f"entry-{next(numbers)}",
        )
        store.on_purged = cache.terms.look
        threads, table = Inline(), RouteTable(ROUTES, MODES[0])
        links = Links(cache, origin=ORIGIN, memory_bytes=200_000, threads=threads)
        codings = Codings(links, memory_bytes=200_000, threads=threads)
        self.access = Access(codings, lambda: self.admission, table, Spools())
        masks = cast(Redactor, Masks())
        self.metrics, self.recent = MetricsObserver(), Recent(masks, wall=clock.wall)
        self.lines: list[str] = []
        self.log = AccessLines(self.lines.append, masks, wall=clock.wall)
        self.batch = Batch(self._answered, clock.wall)
        handler = Handler(
            Hits(self.access, codings, links, cache, 200_000), self.bearers, clock, self._observe, self.batch.add_unread
        )
        parts = store, self.access, cache, lambda: self.admission, self.bearers, self.usage, clock
        basis = Basis(*parts, self._add, self._add_unread, memo_bytes) if memo else None
        self.shared = Connections(handler, Limits(header_bytes=2048), basis, clock.wall)
        self.links: dict[int, Transport] = {}
        self.all: list[Transport] = []

    def _observe(self, event: Event) -> None:
        if type(event) is RequestAnswered:
            self.batch.add_event(event)
        else:
            self.metrics(event)
            self.recent(event)

    def _add(self, answered: Answered) -> None:
        self.hits += 1
        self.batch.add(answered)

    def _add_unread(self, answered: Answered) -> None:
        self.hits += 1
        self.batch.add_unread(answered)

    def _answered(self, batch: list[Answered]) -> None:
        self.metrics.answered(batch)
        self.recent.answered(batch)
        self.log.answered(batch, request_ids(len(batch)))

    hits = 0
    """How many answers the memo gave."""

    async def play(self, op: Op) -> None:
        getattr(self, f"_op_{op[0]}")(*op[1:])
        await idle()
        for transport in self.all:
            transport.pump()
            if transport.state != "open" and transport.state != "lost":
                transport.protocol.connection_lost(None)
                transport.state = f"{transport.state}, lost" if "lost" not in transport.state else transport.state
        await idle()

    async def leave(self) -> None:
        for transport in self.all:
            if "lost" not in transport.state:
                transport.protocol.connection_lost(None)
        await self.cache.close()
        self.batch.flush()
        await idle()

    def got(self) -> list[tuple[bytes, str]]:
        """What each client got, without the ids that were made for refusals."""
        return [(_MADE_ID.sub(b"", bytes(transport.written)), transport.state) for transport in self.all]

    def heard(self) -> Heard:
        self.batch.flush()
        self.log.flush()
        counts: dict[Any, float] = {}
        for key, number in self.metrics.counts.items():
            if key[0] == "request_duration":
                key, number = key[:3], 0.0 if key[3] == "sum" else number
            counts[key] = counts.get(key, 0.0) + number
        lines = [
            re.sub(r'"(request_id|duration_ms)": ("\w+"|[\d.]+)', "", line)
            for each in self.lines
            for line in each.splitlines()
        ]
        recent = [
            {**each, "duration_seconds": 0, "request_id": ""}
            for each in cast(Any, self.recent.summary()["requests"])["recent"]
        ]
        eviction = self.store._shelf._eviction
        used = list(eviction._trial), list(eviction._staying), set(eviction._asked), list(self.slow.touched)
        return Heard(self.got(), counts, lines, dict(self.usage.counts), used, recent)

    # ---- what may happen -----------------------------------------------------------------------------------------------

    def _op_connect(self, link: int, secure: bool) -> None:
        transport = Transport(secure)
        connection = ProxyConnection.admitted(self.shared, cast(Any, None), f"10.0.0.{link}")
        assert connection is not None
        transport.protocol = connection
        connection.connection_made(cast(Any, transport))
        self.links[link] = transport
        self.all.append(transport)

    def _op_send(self, link: int, reads: tuple[bytes, ...]) -> None:
        for data in reads:
            self.links[link].read(data)

    def _op_both(self, link: int, reads: tuple[bytes, ...]) -> None:
        self._op_send(link, reads)
        self._op_send(min(self.links), reads)

    def _op_crowd(self, link: int) -> None:
        if self.links[link].state == "open":
            self.links[link].protocol.pause_writing()

    def _op_uncrowd(self, link: int) -> None:
        if self.links[link].state == "open":
            self.links[link].protocol.resume_writing()

    def _op_end(self, link: int) -> None:
        transport = self.links[link]
        if transport.state == "open" and not transport.protocol.eof_received():
            transport.close()

    def _op_lost(self, link: int) -> None:
        self.links[link].close("left")

    def _op_wait(self, seconds: float) -> None:
        self.clock._wall += seconds
        self.clock._monotonic += seconds

    def _op_step(self, seconds: float) -> None:
        self.clock.step(seconds)

    def _op_purge(self, selector: Selector) -> None:
        self.cache.purged(selector)
        self._later(self.store.purge(selector))

    def _op_soften(self, selector: Selector) -> None:
        self._later(self.cache.terms.soften(selector))

    def _op_foreign_purge(self, target: str) -> None:
        entries = self._slow_entries(target)
        for entry in entries:
            self.slow._shelf.remove(entry)
        self.slow.feed.tell(*(mark_of(key_name(entry.key)) for entry in entries), PURGED)

    def _op_foreign_soften(self, selector: Selector) -> None:
        self._later(self.kept.add(SoftPurge(selector, self.clock.wall())))
        self.slow.feed.tell(SOFTENED)

    def _op_foreign_change(self, target: str) -> None:
        for entry in self._slow_entries(target):
            self.slow._shelf.replace(replace(entry, response_time=entry.response_time - 3.5))
            self.slow.feed.tell(mark_of(key_name(entry.key)))

    def _op_foreign_news(self, number: int) -> None:
        self.slow.feed.tell(*range(1000, 1000 + number))

    def _op_forget(self) -> None:
        self.slow.feed.tell(ANYTHING)

    def _op_login(self, who: str) -> None:
        self.bearers.logs_in(who)

    def _op_pair(self, word: str, seconds: float, runway: float | None) -> None:
        now = self.clock.wall()
        until, end = now + seconds if word == "ends" else None, None if runway is None else now + runway
        self.bearers.becomes(until=until, gone=word == "gone", refused=word == "refused", end=end)

    def _op_admit(self, number: int) -> None:
        self.admission = Admission(ADMISSIONS[number])

    def _op_routes(self, other: bool) -> None:
        self.access.table = RouteTable(OTHER_ROUTES if other else ROUTES, self.cache.mode)

    def _op_mode(self, number: int) -> None:
        self.cache.mode = MODES[number]

    def _op_origin(self, word: str) -> None:
        self.origin.version += word == "next"
        self.origin.is_away = word == "away"

    def _op_fill(self, number: int) -> None:
        self._op_connect(99, False)
        for each in range(number):
            self.links[99].read(f"GET /plain?fill={each} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def _op_finish(self) -> None:
        self.shared.finish(1.0)

    def _op_tell(self) -> None:
        self.batch.flush()

    def _later(self, work: Any) -> None:
        import asyncio

        self._work = asyncio.ensure_future(work)

    def _slow_entries(self, target: str) -> list[Entry]:
        return self.slow._shelf.find(Selector(target=target), list(self.slow._shelf))
