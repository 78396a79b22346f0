"""The outward half of caching: asks the origin, settles a 304, judges whether the answer is stored, and stores it while it streams.

Runs inside a flight, so that nothing here depends on a client's staying. What is asked for, and what is made of the landing, is the
business of `caching`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import uuid4

from passoproxy.core.cache import storing, validation
from passoproxy.core.cache.content import content_digest, made_etag
from passoproxy.core.cache.directives import Asked
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.overriding import with_policy
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.reuse import Fetch, Revalidate
from passoproxy.core.cache.said import FAILURE_STATUSES, Said, said_by
from passoproxy.core.cache.validation import Exchange, Freshened
from passoproxy.core.cache.variants import crowded_out, nominated, varies
from passoproxy.core.events import EntryStored, StoreFailed
from passoproxy.core.http.messages import RequestHead, ResponseHead
from passoproxy.errors import BodyBroken, EntryStoreFailure, OriginUnreachable
from passoproxy.ports import Body, BytesBody, Clock, EntryStore, EntryWriter, Hop, Observer, Request, Response, nobody
from passoproxy.proxy.bodies import gathered
from passoproxy.proxy.flights import Flight, Flights, Handed, Landed, Shared, Told
from passoproxy.proxy.sharing import SharedBody

LARGEST_TOLD = 64 * 1024
"""The body of a failure that all who waited are told, in bytes; a longer one goes to the asker alone."""

LARGEST_TAGGED = 256 * 1024
"""An answer of more bytes gets no made tag: reading it for what is volatile would hold up the loop."""

T = TypeVar("T")


def new_identifier() -> str:
    """A name that no other stored answer has."""
    return uuid4().hex


@dataclass(frozen=True, slots=True)
class Errand:
    """One question: `request` has its body in memory. `keeps` says whether the answer may be stored, `with_conditions` whether the
    client's own conditions go along.
    """

    request: Request
    policy: RoutePolicy
    asked: Asked
    key: str
    partition: str
    stored: Sequence[Entry]
    plan: Revalidate | Fetch
    keeps: bool = True
    with_conditions: bool = False


class Fetching:
    """Carries errands out. `mode` may be replaced at any time."""

    def __init__(
        self,
        next: Hop,
        store: EntryStore,
        flights: Flights,
        clock: Clock,
        mode: CacheMode,
        observer: Observer = nobody,
        identify: Callable[[], str] = new_identifier,
    ) -> None:
        self._next = next
        self._store = store
        self._flights = flights
        self._clock = clock
        self.mode = mode
        self._observer = observer
        self._identify = identify

    async def carry(self, errand: Errand, flight: Flight) -> None:
        """Flies: lands the flight and stays until what is stored is stored. Raises what the road raises."""
        # The writer is there before the question is sent, so that a purge meanwhile counts for the answer too (contract §7).
        began = flight.subject = self._provisional(errand)
        writer = await self.guarded(self._store.create(began), None) if errand.keeps else None
        try:
            await self._ask(errand, flight, began, writer)
        finally:
            if writer is not None:
                await self.guarded(writer.abandon(), None)

    async def guarded(self, work: Awaitable[T], instead: T) -> T:
        """What the store gives, or `instead` where it fails: a broken store costs misses, and is told as an event."""
        try:
            return await work
        except EntryStoreFailure as fault:
            self._observer(StoreFailed(str(fault)))
            return instead

    async def _ask(self, errand: Errand, flight: Flight, began: Entry, writer: EntryWriter | None) -> None:
        plan = errand.plan
        response, exchange = await self._exchanged(errand, _question(errand))
        if isinstance(plan, Revalidate) and response.head.status == 304:
            await response.body.aclose()
            outcome = validation.settled(response.head, plan.entry, plan.named, exchange)
            if isinstance(outcome, Freshened):
                flight.land(Landed(await self._freshened(errand, outcome.entry), 304))
                return
            response, exchange = await self._exchanged(errand, validation.unconditional(errand.request.head))
        await self._received(errand, flight, response, exchange, began, writer)

    async def _freshened(self, errand: Errand, entry: Entry) -> Entry:
        said = self._said(errand, entry.head, entry.response_time)
        kept = replace(
            entry, fields=storing.storable_fields(entry.fields, said, entry.response_time), overridden=said.overridden
        )
        if nominated(kept.fields) is None:  # Vary: * now: it matches no request any more (RFC 9111 §4.1)
            await self.guarded(self._store.discard(kept), None)
        else:
            await self.guarded(self._store.update(kept), None)
        return kept

    def _said(self, errand: Errand, head: ResponseHead, came: float) -> Said:
        own = said_by(head.status, head.fields, response_time=came, shared=self.mode.shared)
        return with_policy(own, errand.policy)

    async def _exchanged(self, errand: Errand, head: RequestHead) -> tuple[Response, Exchange]:
        request_time = self._clock.wall()
        body = errand.request.body
        sent = (
            BytesBody(body.data) if isinstance(body, BytesBody) else body
        )  # may be sent once more, so never the same one
        response = await self._next.send(replace(errand.request, head=head, body=sent))
        return response, Exchange(request_time, self._clock.wall(), errand.request.head.fields)

    async def _received(
        self,
        errand: Errand,
        flight: Flight,
        response: Response,
        exchange: Exchange,
        began: Entry,
        writer: EntryWriter | None,
    ) -> None:
        failing = response.head.status in FAILURE_STATUSES
        if failing and (errand.plan.entry is not None or errand.request.head.method == "HEAD"):
            await self._failing(flight, response, exchange)
            return
        if errand.request.head.method == "HEAD":
            if entry := await self._headed(errand, response, exchange):
                await response.body.aclose()
                flight.land(Landed(entry, response.head.status))
                return
        elif entry := self._judged(errand, response, exchange, began):
            self._flights.remember_unshared(errand.key, False)
            if writer is not None:
                await self._stored(errand, flight, response, entry, writer)
                return
        if failing:
            await self._failing(flight, response, exchange)
            return
        await self._handed(flight, response, exchange)

    async def _handed(self, flight: Flight, response: Response, exchange: Exchange) -> None:
        self._flights.release(flight)
        await flight.hand_over(Handed(response, exchange.request_time, exchange.response_time))

    async def _failing(self, flight: Flight, response: Response, exchange: Exchange) -> None:
        # A fetch that fails is failed for all that waited (contract §7).
        self._flights.release(flight)
        try:
            body = await gathered(response.body, LARGEST_TOLD)
        except BodyBroken:
            await response.body.aclose()
            raise OriginUnreachable(f"the origin's {response.head.status} broke off; try again") from None
        if isinstance(body, BytesBody):
            flight.land(Told(response.head, body.data, exchange.request_time, exchange.response_time))
        else:
            await self._handed(flight, Response(response.head, body), exchange)

    async def _headed(self, errand: Errand, response: Response, exchange: Exchange) -> Entry | None:
        """The stored answer to GET as a HEAD has freshened it; None where it says nothing of one, or that it is outdated."""
        entry = errand.plan.entry
        if entry is None or response.head.status != 200:
            return None
        outcome = validation.settled_by_head(entry, response.head, exchange)
        if isinstance(outcome, Freshened):
            return await self._freshened(errand, outcome.entry)
        await self.guarded(self._store.discard(entry), None)
        return None

    def _judged(self, errand: Errand, response: Response, exchange: Exchange, began: Entry) -> Entry | None:
        head, came = response.head, exchange.response_time
        said = self._said(errand, head, came)
        verdict = storing.judge(
            errand.asked, head, said, response_time=came, http_mode=self.mode.http, max_bytes=self.mode.max_entry_bytes
        )
        if isinstance(verdict, storing.Leave):
            if verdict.permanent:
                self._flights.remember_unshared(errand.key, True)
            return None
        return replace(
            began,
            status=head.status,
            fields=verdict.fields,
            varies=varies(nominated(head.fields) or (), exchange.request),
            request_time=exchange.request_time,
            response_time=came,
            stored_at=came,
            overridden=said.overridden,
        )

    async def _stored(
        self, errand: Errand, flight: Flight, response: Response, entry: Entry, writer: EntryWriter
    ) -> None:
        shared = SharedBody(response.body, self._clock, self.read)
        first = None if flight.asker_left else shared.reader()
        flight.land(Shared(response.head, shared, first, entry))
        kept: Entry | None = None
        try:
            if await shared.pump(_Sink(writer, self.mode.max_entry_bytes, self._observer)):
                kept = await self.guarded(writer.commit(_finished(entry, errand.policy, shared.whole)), None)
        finally:
            shared.stored.set_result(kept)
        if kept is not None:
            self._observer(EntryStored(kept.key, kept.route, kept.size))
            for old in crowded_out(errand.stored):
                await self.guarded(self._store.discard(old), None)

    async def read(self, entry: Entry) -> Body | None:
        """The body of a stored entry; None where it is lost, or the store fails."""
        try:
            return await self._store.read(entry)
        except EntryStoreFailure as fault:
            self._observer(StoreFailed(str(fault)))
            return None

    def _provisional(self, errand: Errand) -> Entry:
        head, policy = errand.request.head, errand.policy
        now = self._clock.wall()
        return Entry(
            key=errand.key,
            identifier=self._identify(),
            partition=errand.partition,
            method="GET" if head.method == "HEAD" else head.method,
            target=head.target,
            status=0,
            route=policy.name,
            tags=policy.tags,
            private=policy.private,
            request_time=now,
            response_time=now,
            stored_at=now,
        )


class _Sink:
    """Writes part after part; gives up, for good, at the limit and at the first failure of the store."""

    __slots__ = ("_observer", "_room", "_writer")

    def __init__(self, writer: EntryWriter, max_bytes: int, observer: Observer) -> None:
        self._writer = writer
        self._room = max_bytes
        self._observer = observer

    async def __call__(self, part: bytes) -> bool:
        self._room -= len(part)
        if self._room < 0:
            return False
        try:
            await self._writer.write(part)
        except EntryStoreFailure as fault:
            self._observer(StoreFailed(str(fault)))
            return False
        return True


def _question(errand: Errand) -> RequestHead:
    head, plan = errand.request.head, errand.plan
    if isinstance(plan, Revalidate):
        return validation.question(head, plan.entry, plan.named)
    return validation.forwarded_conditions(head) if errand.with_conditions else validation.unconditional(head)


def _finished(entry: Entry, policy: RoutePolicy, body: bytes | None) -> Entry:
    # An answer that the origin gave no tag gets one of ours (contract §7), where all of it is at hand.
    if (
        body is None
        or len(body) > LARGEST_TAGGED
        or entry.status != 200
        or entry.method != "GET"
        or "ETag" in entry.fields
    ):
        return entry
    digest = content_digest(body, entry.fields, policy.volatile_fields)
    return replace(entry, content_digest=digest, made_etag=made_etag(digest))
