"""The outward half of the cache hop: asks the origin, settles a 304, judges whether the answer is stored, and stores it while it streams.

Runs inside a fetch of `collapse`, so that nothing here depends on a client's staying. What is asked for, and what is made of the outcome, is the business
of `cache`. A broken store costs misses, and is told as an event. Stored parts are joined here, in memory and within bounds; whether two
belong together is decided in `core.cache.partial`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast
from uuid import uuid4

from passoproxy.core.cache import storing, validation
from passoproxy.core.cache.cache_control import FAILURE_STATUSES, Asked, Said, said_by
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.etag import content_digest, made_etag
from passoproxy.core.cache.expiry import WITH_COOKIE, outdated
from passoproxy.core.cache.freshness import with_policy
from passoproxy.core.cache.invalidation import tagged
from passoproxy.core.cache.partial import (
    LARGEST_COMBINED,
    Holding,
    as_part,
    combined,
    completing,
    holding_of,
    is_partial,
    may_combine,
    rest_of,
    whole_status,
)
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.reuse import Fetch, Revalidate
from passoproxy.core.cache.validation import Exchange, Freshened, Outdated
from passoproxy.core.cache.vary import nominated, varies
from passoproxy.core.events import EntryStored, StoreFailed
from passoproxy.core.http.messages import RequestHead, ResponseHead, changed
from passoproxy.core.http.ranges import Span, read_content_range
from passoproxy.core.value import value
from passoproxy.errors import BodyBroken, EntryStoreFailure, OriginInvalid, OriginUnreachable, Overloaded
from passoproxy.ports import (
    Body,
    BytesBody,
    Clock,
    EntryStore,
    EntryWriter,
    Hop,
    Observer,
    Request,
    Response,
    nobody,
    read_whole,
)
from passoproxy.proxy.collapse import Collapser, FailedAnswer, SharedBody, SharedFetch, Streaming, Unshared, Validated
from passoproxy.proxy.ranges import is_ranged
from passoproxy.proxy.spool import BegunBody, Reader, Spools, gathered

LARGEST_TAGGED = 256 * 1024
"""An answer of more bytes gets no made tag."""

LARGEST_TOLD = 64 * 1024
"""The body of a failure that all waiting requests get, in bytes; a longer one goes to the first requester alone."""

LONGEST_FOR_TURN = 30.0
"""Seconds that a body which could not be gathered waits for another one that is being sent."""

T = TypeVar("T")


@value
class Question:
    """One question: `request` has its body in memory. `keeps` says whether the answer may be stored, `with_conditions` whether the
    client's own conditions go along, `as_asked` whether its `Range` does, so that only a part may come.
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
    as_asked: bool = False

    @property
    def crowd(self) -> object:
        """Those whose answers fare alike as to being shared: requests of one key, apart by whether a cookie goes along."""
        return self.key, self.policy.origin_decides

    @property
    def rest(self) -> Span | None:
        """The one piece that is asked for if a stored part lacks nothing else (RFC 9111 §3.3); None if the whole is."""
        if (
            (part := self.plan.part) is None
            or self.as_asked
            or self.with_conditions
            or self.request.head.method != "GET"
        ):
            return None
        return rest_of(part)


def head_of(question: Question) -> RequestHead:
    """The request as it goes to the origin."""
    head, plan = question.request.head, question.plan
    if isinstance(plan, Revalidate):
        return validation.question(head, plan.entry, plan.named)
    if question.as_asked:
        return validation.forwarded_conditions(head)
    if question.with_conditions:
        return validation.whole(validation.forwarded_conditions(head))
    bare = validation.unconditional(head)
    part, rest = question.plan.part, question.rest
    return bare if part is None or rest is None else completing(bare, part, rest)


async def joinable(response: Response, part: Entry, max_bytes: int) -> tuple[Span, bytes] | None:
    """What a 206 brings to a stored part; None, and its body untouched, if it does not belong to it, or both would be more than
    `max_bytes`. Raises OriginInvalid if it is not what it says, OriginUnreachable if it breaks off.
    """
    described = read_content_range(response.head.fields)
    if described is None or not may_combine(part, response.head.fields, described[1]):
        return None
    span = described[0]
    if holding_of(part).bytes_held + span.size > min(LARGEST_COMBINED, max_bytes):
        return None
    try:
        body = await read_whole(response.body, span.size)
    except BodyBroken:
        await response.body.aclose()
        raise OriginUnreachable("the origin's answer broke off; try again") from None
    if body is None or len(body) != span.size:
        raise OriginInvalid("the origin's 206 has another length than its Content-Range says")
    return span, body


def is_all(entry: Entry, size: int) -> bool:
    """Whether so many bytes are what a part says to hold; of a whole answer any number is."""
    return not is_partial(entry) or holding_of(entry).bytes_held == size


async def finished(entry: Entry, policy: RoutePolicy, body: bytes | None) -> Entry:
    """The entry with a tag of ours (contract §7) where the origin gave none and all of a whole answer is at hand."""
    if (
        body is None
        or len(body) > LARGEST_TAGGED
        or entry.status != 200
        or entry.method != "GET"
        or "ETag" in entry.fields
    ):
        return entry
    digest = await _in_steps(content_digest(body, entry.fields, policy.volatile_fields))
    return replace(entry, content_digest=digest, made_etag=made_etag(digest))


async def _in_steps(work: Generator[None, None, T]) -> T:
    """What `work` comes to; the loop has a turn after each of its steps."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            return cast(T, done.value)
        await asyncio.sleep(0)


def is_anothers(question: Question) -> bool:
    """Whether another account had logged in when the question went out: the answer is not one of the identity that it was asked for."""
    identity = question.request.trail.authorized_as
    return identity is not None and identity != question.partition


def new_identifier() -> str:
    """A name that no other stored answer has."""
    return uuid4().hex


class Fetcher:
    """Asks the origin, inside a fetch of the collapser. `mode` may be replaced at any time."""

    def __init__(
        self,
        next: Hop,
        store: EntryStore,
        collapser: Collapser,
        clock: Clock,
        mode: CacheMode,
        spools: Spools,
        observer: Observer = nobody,
        identify: Callable[[], str] = new_identifier,
    ) -> None:
        self._next = next
        self._store = store
        self._collapser = collapser
        self._clock = clock
        self._spools = spools
        self._slow_body = asyncio.Lock()
        self._observer = observer
        self.mode = mode
        self._identify = identify

    async def guarded(self, work: Awaitable[T], instead: T) -> T:
        """What the store gives, or `instead` if it fails."""
        try:
            return await work
        except EntryStoreFailure as fault:
            self._observer(StoreFailed(str(fault)))
            return instead

    async def read(self, entry: Entry) -> Body | None:
        """The body of a stored entry; None if it is lost, or the store fails."""
        return await self.guarded(self._store.read(entry), None)

    async def forward(
        self, request: Request, fetch: SharedFetch, answered: Callable[[Response], Awaitable[None]]
    ) -> None:
        """Sends a request that the cache has no part in; `answered` is told of its answer. Raises what the hops behind raise."""
        body = request.body
        if isinstance(body, Reader):  # the client may leave, and its own reader with it
            body = body.again()
        try:
            if isinstance(body, BegunBody):
                response, exchange = await self._sent_slowly(request)
            else:
                response, exchange = await self._sent(replace(request, body=body))
        finally:
            await body.aclose()
        try:
            await answered(response)
        except BaseException:
            await response.body.aclose()
            raise
        await self._unshared(fetch, response, exchange)

    async def fetch_entry(self, question: Question, fetch: SharedFetch) -> None:
        """Settles the fetch, and goes on until the answer is stored or given up. Raises what the hops behind raise."""
        # The writer is there before the question is sent, so that a purge meanwhile counts for the answer too (contract §7).
        began = fetch.subject = self._provisional(question)
        writer = await self.guarded(self._store.create(began), None) if question.keeps else None
        try:
            await self._ask(question, fetch, began, writer)
        finally:
            if writer is not None:
                await self.guarded(writer.abandon(), None)

    async def _ask(self, question: Question, fetch: SharedFetch, began: Entry, writer: EntryWriter | None) -> None:
        plan = question.plan
        response, exchange = await self._exchanged(question, head_of(question))
        if is_anothers(question):
            if isinstance(plan, Revalidate) or question.rest is not None:  # asked about answers of the former account
                await response.body.aclose()
                response, exchange = await self._exchanged(question, validation.unconditional(question.request.head))
        elif isinstance(plan, Revalidate) and response.head.status == 304:
            await response.body.aclose()
            outcome = validation.settled(response.head, plan.entry, plan.named, exchange)
            if isinstance(outcome, Freshened):
                fetch.settle(Validated(await self._freshened(question, outcome.entry), 304))
                return
            response, exchange = await self._exchanged(question, validation.unconditional(question.request.head))
        elif question.rest is not None and response.head.status in (206, 416):
            if entry := await self._completed(question, response, exchange, began, writer):
                fetch.settle(Validated(entry, 206))
                return
            response, exchange = await self._exchanged(question, validation.unconditional(question.request.head))
        elif self._is_too_much(question, response.head):
            await response.body.aclose()
            self._collapser.remember_unshared(question.crowd, True)
            question = replace(question, as_asked=True)
            response, exchange = await self._exchanged(question, head_of(question))
        await self._received(question, fetch, response, exchange, began, writer)

    def _is_too_much(self, question: Question, head: ResponseHead) -> bool:
        """Whether the whole came for a request for a part, and is too long to be stored: then it is the part that must come."""
        if question.as_asked or head.status != 200 or not is_ranged(question.request.head):
            return False
        return storing.too_large(head.fields, self.mode.max_entry_bytes)

    async def _freshened(self, question: Question, entry: Entry) -> Entry:
        said = self._said(question, entry.head, entry.response_time)
        kept = replace(
            entry.noting(WITH_COOKIE, "" if question.policy.origin_decides else None),
            fields=storing.storable_fields(entry.fields, said, entry.response_time),
            tags=tagged(question.policy.tags, entry.fields),
            overridden=said.overridden,
        )
        if nominated(kept.fields) is None:  # Vary: * now: it matches no request any more (RFC 9111 §4.1)
            await self.guarded(self._store.discard(kept), None)
        else:
            await self.guarded(self._store.update(kept), None)
        return kept

    def _said(self, question: Question, head: ResponseHead, came: float) -> Said:
        own = said_by(whole_status(head.status), head.fields, response_time=came, shared=self.mode.shared)
        return with_policy(own, question.policy)

    async def _exchanged(self, question: Question, head: RequestHead) -> tuple[Response, Exchange]:
        body = question.request.body
        sent = (
            BytesBody(body.data) if isinstance(body, BytesBody) else body
        )  # may be sent once more, so never the same one
        response, exchange = await self._sent(replace(question.request, head=head, body=sent))
        return response, replace(exchange, request=question.request.head.fields)

    async def _sent_slowly(self, request: Request) -> tuple[Response, Exchange]:
        """Sends a body that there was no room for, and that comes as slowly as its client sends it: one at a time, so that such bodies
        never hold all places."""
        try:
            async with asyncio.timeout(LONGEST_FOR_TURN):
                await self._slow_body.acquire()
        except TimeoutError as error:
            text = "the request's body is too long to be kept here now, and another such body is being sent; ask again"
            raise Overloaded(text) from error
        try:
            return await self._sent(request)
        finally:
            self._slow_body.release()

    async def _sent(self, request: Request) -> tuple[Response, Exchange]:
        request_time = self._clock.wall()
        response = await self._next.send(request)
        return response, Exchange(request_time, self._clock.wall(), request.head.fields)

    def _shared(self, source: Body, fetch: SharedFetch) -> SharedBody:
        return SharedBody(
            source,
            self._clock,
            self._spools,
            self.read,
            partial(self._collapser.read_by, fetch),
        )

    async def _received(
        self,
        question: Question,
        fetch: SharedFetch,
        response: Response,
        exchange: Exchange,
        began: Entry,
        writer: EntryWriter | None,
    ) -> None:
        if is_anothers(question):
            await self._unshared(fetch, response, exchange)
            return
        failing = response.head.status in FAILURE_STATUSES
        if failing and (question.plan.entry is not None or question.request.head.method == "HEAD"):
            await self._failing(fetch, response, exchange)
            return
        if question.request.head.method == "HEAD":
            if entry := await self._headed(question, response, exchange):
                await response.body.aclose()
                fetch.settle(Validated(entry, response.head.status))
                return
        elif response.head.status == 206:
            if writer is not None and (entry := self._judged_part(question, response, exchange, began)):
                await self._stored_part(question, fetch, response, exchange, entry, writer)
                return
        elif entry := self._judged(question, response, exchange, began):
            self._collapser.remember_unshared(question.crowd, False)
            if writer is not None:
                await self._stored(question, fetch, response, entry, writer)
                return
        if failing:
            await self._failing(fetch, response, exchange)
            return
        if question.request.head.method != "HEAD" and validation.outdates(response.head.status):
            await self._outdated(question, exchange)
        await self._unshared(fetch, response, exchange)

    async def _outdated(self, question: Question, exchange: Exchange) -> None:
        """Has the stored answer be stale, since the origin gives another now. One cookie's answer says nothing of anyone else's."""
        entry = question.plan.entry or question.plan.part
        if entry is not None and not question.policy.origin_decides:
            await self.guarded(self._store.update(outdated(entry, exchange.response_time)), None)

    async def _unshared(self, fetch: SharedFetch, response: Response, exchange: Exchange) -> None:
        self._collapser.release(fetch)
        times = exchange.request_time, exchange.response_time
        if isinstance(response.body, BytesBody):
            fetch.settle(Unshared(response, *times))
            return
        shared = self._shared(response.body, fetch)
        reader = cast(Reader, shared.reader())
        if fetch.requester_left:
            reader.leave()
        fetch.settle(Unshared(replace(response, body=reader), *times))
        await shared.pump(None)

    async def _failing(self, fetch: SharedFetch, response: Response, exchange: Exchange) -> None:
        # A fetch that fails is failed for all that waited (contract §7).
        self._collapser.release(fetch)
        try:
            body = await gathered(response.body, LARGEST_TOLD)
        except BodyBroken:
            await response.body.aclose()
            raise OriginUnreachable(f"the origin's {response.head.status} broke off; try again") from None
        if isinstance(body, BytesBody):
            fetch.settle(FailedAnswer(response.head, body.data, exchange.request_time, exchange.response_time))
        else:
            await self._unshared(fetch, Response(response.head, body), exchange)

    async def _headed(self, question: Question, response: Response, exchange: Exchange) -> Entry | None:
        """The stored answer to GET as a HEAD has freshened it; None where it says nothing of one, or that it is outdated."""
        entry = question.plan.entry or question.plan.part
        outcome = validation.settled_by_head(entry, response.head, exchange) if entry is not None else None
        if isinstance(outcome, Freshened):
            return await self._freshened(question, outcome.entry)
        if isinstance(outcome, Outdated):
            await self._outdated(question, exchange)
        return None

    def _judged(self, question: Question, response: Response, exchange: Exchange, began: Entry) -> Entry | None:
        head, came = response.head, exchange.response_time
        said = self._said(question, head, came)
        verdict = storing.judge(
            question.asked,
            head,
            said,
            response_time=came,
            http_mode=self.mode.http,
            max_bytes=self.mode.max_entry_bytes,
        )
        if isinstance(verdict, storing.Leave):
            if verdict.permanent:
                self._collapser.remember_unshared(question.crowd, True)
            return None
        return replace(
            began,
            status=head.status,
            fields=verdict.fields,
            varies=varies(nominated(head.fields) or (), exchange.request),
            request_time=exchange.request_time,
            response_time=came,
            stored_at=came,
            tags=tagged(question.policy.tags, head.fields),
            overridden=said.overridden,
        )

    # ---- parts (RFC 9111 §3.3, §3.4) -----------------------------------------------------------------------------------

    def _judged_part(self, question: Question, response: Response, exchange: Exchange, began: Entry) -> Entry | None:
        """What a 206 is stored as: only where it was asked for, says which bytes it holds, and no whole answer is stored."""
        if not is_ranged(question.request.head) or question.plan.entry is not None:
            return None
        described = read_content_range(response.head.fields)
        if described is None or described[0].size > self.mode.max_entry_bytes:
            return None
        entry = self._judged(question, response, exchange, began)
        return as_part(entry, Holding((described[0],), described[1])) if entry is not None else None

    async def _stored_part(
        self,
        question: Question,
        fetch: SharedFetch,
        response: Response,
        exchange: Exchange,
        entry: Entry,
        writer: EntryWriter,
    ) -> None:
        part = question.plan.part
        if part is None or (brought := await joinable(response, part, self.mode.max_entry_bytes)) is None:
            await self._stored(question, fetch, response, entry, writer)
            return
        await self._joined(part, *brought, entry, question.policy, writer)
        await self._unshared(fetch, Response(response.head, BytesBody(brought[1])), exchange)

    async def _completed(
        self, question: Question, response: Response, exchange: Exchange, began: Entry, writer: EntryWriter | None
    ) -> Entry | None:
        """The whole, of the stored part and its rest; None where these are not of one representation, or it cannot be stored."""
        entry = self._judged(question, response, exchange, began) if response.head.status == 206 else None
        part = question.plan.part
        brought = None
        if part is not None and writer is not None and entry is not None:
            brought = await joinable(response, part, self.mode.max_entry_bytes)
        if part is None or writer is None or entry is None or brought is None:
            await response.body.aclose()
            return None
        whole = await self._joined(part, *brought, entry, question.policy, writer)
        return whole if whole is not None and not is_partial(whole) else None

    # ---- whole answers -------------------------------------------------------------------------------------------------

    async def _stored(
        self, question: Question, fetch: SharedFetch, response: Response, entry: Entry, writer: EntryWriter
    ) -> None:
        shared = self._shared(response.body, fetch)
        first = None if fetch.requester_left else shared.reader()
        fetch.settle(Streaming(response.head, shared, first, entry))
        kept: Entry | None = None
        try:
            if await shared.pump(partial(self._written, writer, shared)) and is_all(entry, shared.size):
                kept = await self._committed(writer, await finished(entry, question.policy, shared.whole))
        finally:
            shared.stored.set_result(kept)

    async def _written(self, writer: EntryWriter, body: SharedBody, data: bytes) -> bool:
        """Whether `data`, the last of `body` so far, was stored; False beyond the limit, and if the store fails."""
        if body.size > self.mode.max_entry_bytes:
            return False
        try:
            await writer.write(data)
        except EntryStoreFailure as fault:
            self._observer(StoreFailed(str(fault)))
            return False
        return True

    async def _committed(self, writer: EntryWriter, entry: Entry) -> Entry | None:
        """The entry as it is stored now; None if a purge meanwhile counts against it, or the store fails."""
        kept = await self.guarded(writer.commit(entry), None)
        if kept is not None:
            self._observer(EntryStored(kept.key, kept.route, kept.size))
        return kept

    async def _joined(
        self, part: Entry, span: Span, data: bytes, entry: Entry, policy: RoutePolicy, writer: EntryWriter
    ) -> Entry | None:
        """Stores `data`, which is `span`, and the stored part as one, under the old fields as those of `entry` change them (RFC 9111 §3.4);
        None if that fails.
        """
        stored = await self.read(part)
        old = await read_whole(stored, LARGEST_COMBINED) if stored is not None else None
        if old is None:
            return None
        holding, whole = combined(holding_of(part), old, span, data)
        merged = as_part(replace(entry, fields=changed(part.fields, having=entry.fields.items())), holding)
        try:
            await writer.write(whole)
        except EntryStoreFailure as fault:
            self._observer(StoreFailed(str(fault)))
            return None
        return await self._committed(writer, await finished(merged, policy, whole))

    def _provisional(self, question: Question) -> Entry:
        head, policy = question.request.head, question.policy
        now = self._clock.wall()
        return Entry(
            key=question.key,
            identifier=self._identify(),
            partition=question.partition,
            method="GET" if head.method == "HEAD" else head.method,
            target=head.target,
            status=0,
            route=policy.name,
            tags=policy.tags,
            private=policy.private,
            request_time=now,
            response_time=now,
            stored_at=now,
            extra=((WITH_COOKIE, ""),) if policy.origin_decides else (),
        )
