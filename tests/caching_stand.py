"""A cache on a road of fakes: what the tests of caching, fetching, settling and collapser ask their questions of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.core.http.syntax import print_date
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import Body, BytesBody, EntryStore, Request, Response, Trail
from passoproxy.proxy.cache import Cache
from passoproxy.proxy.collapse import Collapser
from passoproxy.proxy.popularity import Usage
from tests.fakes import FakeClock, RememberingObserver, ScriptedHop, Step, request, response, settle
from tests.memory_store import MemoryStore

HTTP = CacheMode(http=True)
JSON = ("Content-Type", "application/json")
ROUTE = RoutePolicy(
    name="r",
    ttl=60.0,
    override=True,
    methods=("GET", "POST"),
    stale_while_revalidate=0.0,
    stale_if_error=600.0,
    stale_if_unauthorized=1200.0,
    volatile_fields=("requestid",),
    tags=("t",),
)


@dataclass
class Answer:
    """An answer read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    trail: Trail

    @property
    def cache(self) -> str:
        return self.headers["cache-status"]


class KeptSoftPurges:
    """Soft purges in memory, as a store keeps them."""

    def __init__(self, *, fails: bool = False) -> None:
        self._purges, self._fails = SoftPurges(), fails

    def current(self, now: float) -> SoftPurges:
        return self._purges

    async def add(self, purge: SoftPurge) -> None:
        if self._fails:
            raise EntryStoreFailure("cannot be written")
        self._purges = self._purges.having(purge)


class Door:
    """Before the origin: lets requests through while it is `opened`, counts them, and reads their bodies."""

    def __init__(self, behind: ScriptedHop) -> None:
        self.behind = behind
        self.opened = asyncio.Event()
        self.opened.set()
        self.arrived = 0
        self.bodies: list[bytes] = []

    async def send(self, request: Request) -> Response:
        self.arrived += 1
        request.trail.origin_requests += 1
        await self.opened.wait()
        self.bodies.append(b"".join([part async for part in request.body]))
        return await self.behind.send(request)


class Stand:
    """`origin` follows its script; `ask` sends a request and reads the answer; `begin` does so in a task."""

    def __init__(
        self,
        *script: Step,
        mode: CacheMode = HTTP,
        policy: RoutePolicy | None = None,
        store: EntryStore | None = None,
        repeat: bool = False,
        patience: float = 30.0,
        most_background: int = 8,
        usage: Usage | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.origin = ScriptedHop(list(script), repeat)
        self.store = store or MemoryStore(64 * 1024 * 1024)
        self.observer = RememberingObserver()
        self.policy = policy or RoutePolicy()
        self.partition = "me"
        self.spared = ""
        self.asks = False
        self.collapser = Collapser(self.clock, self.observer, patience, most_background)
        self.door = Door(self.origin)
        self.cache = Cache(
            self.door,
            self.store,
            self.clock,
            mode,
            partition=lambda: self.partition,
            origin="https://api.example",
            spared=lambda path: self.spared,
            is_to_be_asked=lambda path: self.asks,
            observer=self.observer,
            collapser=self.collapser,
            usage=usage,
            identify=map("entry-{}".format, count(1)).__next__,
        )

    def says(
        self, *fields: tuple[str, str], status: int = 200, body: bytes | Body = b"hello", after: float = 0.0
    ) -> Step:
        """An answer with the Date of its moment."""

        def answered(_: Request) -> Response:
            stream = BytesBody(body) if isinstance(body, bytes) else body
            return response(status, [("Date", print_date(self.clock.wall())), *fields], stream)

        return answered

    async def response(
        self,
        target: str = "/x",
        method: str = "GET",
        fields: Iterable[tuple[str, str]] = (),
        body: bytes | Body = b"",
        policy: RoutePolicy | None = None,
        trail: Trail | None = None,
    ) -> Response:
        asked = request(method, target, fields, body, policy=policy or self.policy, trail=trail or Trail())
        return await self.cache.send(asked)

    async def ask(
        self, target: str = "/x", method: str = "GET", fields: Iterable[tuple[str, str]] = (), **more: object
    ) -> Answer:
        trail = Trail()
        return await read(await self.response(target, method, fields, trail=trail, **more), trail)  # type: ignore[arg-type]

    def begin(self, *arguments: object, **more: object) -> asyncio.Task[Answer]:
        return asyncio.ensure_future(self.ask(*arguments, **more))  # type: ignore[arg-type]

    async def quiet(self) -> None:
        """Everything under way has come as far as it can."""
        await settle(60)

    def sent(self, number: int = -1) -> dict[str, str]:
        """The fields of a request that the origin saw, names in lower case."""
        return {name.lower(): value for name, value in self.origin.seen[number].head.fields.items()}


async def read(response: Response, trail: Trail) -> Answer:
    try:
        body = b"".join([part async for part in response.body])
    finally:
        await response.body.aclose()
    headers = {name.lower(): value for name, value in response.head.fields.items()}
    return Answer(response.head.status, headers, body, trail)
