"""The outward half of the cache hop: asks the origin, settles a 304, judges whether the answer is stored, and stores it while it streams.

Runs inside a fetch of `collapse`, so that nothing here depends on a client's staying; only `forward` sends in the task of its request. What is
asked for, and what is made of the outcome, is the business of `cache`. A broken store costs misses, and is told as an event. Stored parts are
joined here, in memory and within bounds; whether two belong together is decided in `core.cache.partial`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import count
from typing import TypeVar, cast

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
from passoproxy.core.cache.validation import Exchange, Outdated
from passoproxy.core.cache.vary import nominated, varies
from passoproxy.core.events import EntryStored, StoreFailed
from passoproxy.core.http.messages import NO_FIELDS, RequestHead, ResponseHead, changed
from passoproxy.core.http.ranges import RANGE, Span, read_content_range
from passoproxy.errors import BodyBroken, EntryStoreFailure, OriginInvalid, OriginUnreachable, Overloaded, Refusal
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
from passoproxy.proxy.collapse import (
    LONGEST_HELD,
    Collapser,
    Forwarded,
    Outcome,
    SharedBody,
    SharedFetch,
    Stored,
    Validated,
)
from passoproxy.proxy.ranges import is_ranged
from passoproxy.proxy.spool import BegunBody, Reader, Spools, gathered
from passoproxy.values import value

LARGEST_TAGGED = 256 * 1024
"""An answer of more bytes gets no made tag."""

LARGEST_GATHERED = 64 * 1024
"""An answer without a tag that is known to be no longer (bytes) is read to its end before its head is sent, so that it has a made tag."""

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


def gets_tag(entry: Entry) -> bool:
    """Whether the answer gets a tag of ours, if it is not too long: the origin gave none."""
    return entry.status == 200 and entry.method == "GET" and "ETag" not in entry.fields


async def finished(entry: Entry, policy: RoutePolicy, body: bytes | None) -> Entry:
    """The entry with a tag of ours (contract §7) where the origin gave none and all of a whole answer is at hand."""
    if body is None or len(body) > LARGEST_TAGGED or not gets_tag(entry):
        return entry
    volatile = policy.volatile_fields
    digest = await _in_steps(content_digest(body, entry.fields, volatile)) if volatile else sha256(body).hexdigest()
    return entry.with_content(entry.digest, entry.size, digest, made_etag(digest))


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


def identifiers() -> Iterator[str]:
    """Names that no other stored answer has."""
    start = secrets.token_hex(12)
    return (f"{start}{number:08x}" for number in count())


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
        identify: Callable[[], str] | None = None,
    ) -> None:
        self.next, self.store, self.collapser, self.clock = next, store, collapser, clock
        self.spools, self.observer, self.mode = spools, observer, mode
        self.identify = identify or identifiers().__next__
        self._slow_body = asyncio.Lock()

    async def guarded(self, work: Awaitable[T], instead: T) -> T:
        """What the store gives, or `instead` if it fails."""
        try:
            return await work
        except EntryStoreFailure as fault:
            self.observer(StoreFailed(str(fault)))
            return instead

    async def select(self, key: str) -> Sequence[Entry]:
        """All variants of a key, the youngest first; none if the store fails."""
        return await self.guarded(self.store.select(key), ())

    async def read(self, entry: Entry) -> Body | None:
        """The body of a stored entry; None if it is lost, or the store fails."""
        return await self.guarded(self.store.read(entry), None)

    async def forward(
        self, request: Request, answered: Callable[[Response], Awaitable[None]] | None = None
    ) -> Forwarded:
        """Sends a request that the cache has no part in; what follows its answer, and its body, goes on if the client leaves. `answered` is told of
        the answer before the client gets it. Raises what the hops behind raise.
        """
        trail = request.trail
        trail.stays = not request.background  # which ends with the daemon
        sent_at = self.clock.wall()
        try:
            if isinstance(request.body, BegunBody):
                async with self._turn():
                    response = await self.next.send(request)
            else:
                response = await self.next.send(request)
        except Refusal:
            if trail.left:
                raise asyncio.CancelledError from None
            raise
        finally:
            trail.stays = False
        came_at = self.clock.wall()
        if answered is None and isinstance(response.body, BytesBody):
            outcome: Outcome = Forwarded(response, sent_at, came_at)
        else:

            async def rest(own: SharedFetch) -> None:
                if answered is not None:
                    try:
                        await answered(response)
                    except BaseException:
                        await response.body.aclose()
                        raise
                await self.unshared(own, response, sent_at, came_at)

            outcome = await self.collapser.outcome_of(self.collapser.start(None, rest, trail, sent=True))
        if isinstance(outcome, Exception):
            raise outcome.with_traceback(None)
        assert isinstance(outcome, Forwarded)
        if trail.left:
            await outcome.response.body.aclose()
            raise asyncio.CancelledError
        return outcome

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """For a body that there was no room for, and that comes as slowly as its client sends it: one at a time, so that such bodies never hold
        all places."""
        try:
            async with asyncio.timeout(LONGEST_FOR_TURN):
                await self._slow_body.acquire()
        except TimeoutError as error:
            text = "the request's body is too long to be kept here now, and another such body is being sent; ask again"
            raise Overloaded(text) from error
        try:
            yield
        finally:
            self._slow_body.release()

    async def unshared(self, fetch: SharedFetch, response: Response, sent_at: float, came_at: float) -> None:
        """Settles the fetch with an answer that is not stored, and reads it to its end."""
        self.collapser.release(fetch)
        if isinstance(response.body, BytesBody):
            fetch.settle(Forwarded(response, sent_at, came_at))
            return
        shared = self.shared(response.body, fetch)
        reader = cast(Reader, shared.reader())
        if fetch.requester_left:
            reader.leave()
        fetch.settle(Forwarded(Response(response.head, reader), sent_at, came_at))
        await shared.pump(None)

    def shared(self, source: Body, fetch: SharedFetch) -> SharedBody:
        """The body that arrives for all that wait for `fetch`."""
        watch = partial(self.collapser.read_by, fetch)
        return SharedBody(source, self.clock, self.spools, self.read, watch)


class EntryFetch:
    """One question that may be answered from the store later, inside a fetch of the collapser: from its sending until its answer is stored or given up."""

    response: Response
    exchange: Exchange
    _fetch: SharedFetch
    _writer: EntryWriter | None = None

    def __init__(self, fetcher: Fetcher, question: Question) -> None:
        self._fetcher, self._store, self._guarded = fetcher, fetcher.store, fetcher.guarded
        self._question = question
        head, policy, now = question.request.head, question.policy, fetcher.clock.wall()
        self._began = Entry(
            key=question.key,
            identifier=fetcher.identify(),
            partition=question.partition,
            method="GET" if head.method == "HEAD" else head.method,
            target=head.target,
            status=0,
            fields=NO_FIELDS,
            request_time=now,
            response_time=now,
            stored_at=now,
            route=policy.name,
            tags=policy.tags,
            private=policy.private,
            extra=((WITH_COOKIE, ""),) if policy.origin_decides else (),
        )

    async def run(self, fetch: SharedFetch) -> None:
        """Settles the fetch, and goes on until the answer is stored or given up. Raises what the hops behind raise."""
        self._fetch, fetch.subject = fetch, self._began
        try:
            if self._question.keeps:
                # The writer is there before the question is sent, so that a purge meanwhile counts for the answer too (contract §7).
                self._writer = await self._guarded(self._store.create(self._began), None)
            await self._ask(head_of(self._question))
            try:
                await self._answered()
            except BaseException:
                await self.response.body.aclose()  # it holds a place at the origin, and may have no reader yet
                raise
        finally:
            if self._writer is not None:
                await self._guarded(self._writer.abandon(), None)

    async def _answered(self) -> None:
        """Asks again where the answer says nothing of what was asked, and does with the answer what is to be done."""
        question, plan = self._question, self._question.plan
        status, rest = self.response.head.status, question.rest
        if is_anothers(question):
            if isinstance(plan, Revalidate) or rest is not None:  # asked about answers of the former account
                await self._ask_again()
        elif isinstance(plan, Revalidate) and status == 304:
            if entry := validation.settled(self.response.head, plan.entry, plan.named, self.exchange):
                await self.response.body.aclose()
                self._end(Validated(await self._freshened(entry), 304))
                return
            await self._ask_again()
        elif rest is not None and status in (206, 416):
            if entry := await self._completed():
                self._end(Validated(entry, 206))
                return
            await self._ask_again()
        elif RANGE in question.request.head.fields and self._is_too_much():
            self._fetcher.collapser.remember_unshared(question.crowd, True)
            self._question = question = replace(question, as_asked=True)
            await self._ask_again(head_of(question))
        await self._received()

    def _end(self, outcome: Outcome) -> None:
        self._fetcher.collapser.end(self._fetch, outcome)

    async def _ask(self, head: RequestHead) -> None:
        """Sends the question with `head`. `Vary` may name fields of the request as it came."""
        request = self._question.request
        sent = request.with_head(head)
        if isinstance(request.body, BytesBody) and request.body.data:  # may be sent once more, so never the same one
            sent = replace(sent, body=BytesBody(request.body.data))
        sent_at = self._fetcher.clock.wall()
        self.response = await self._fetcher.next.send(sent)
        self.exchange = Exchange(sent_at, self._fetcher.clock.wall(), request.head.fields)

    async def _ask_again(self, head: RequestHead | None = None) -> None:
        await self.response.body.aclose()
        await self._ask(head or validation.unconditional(self._question.request.head))

    def _is_too_much(self) -> bool:
        """Whether the whole came for a request for a part, and is too long to be stored: then it is the part that must come."""
        question, head = self._question, self.response.head
        if question.as_asked or head.status != 200 or not is_ranged(question.request.head):
            return False
        return storing.too_large(head.fields, self._fetcher.mode.max_entry_bytes)

    async def _received(self) -> None:
        question, status = self._question, self.response.head.status
        is_head = question.request.head.method == "HEAD"
        if is_anothers(question):
            await self._unshared()
            return
        failing = status in FAILURE_STATUSES
        if failing and (question.plan.entry is not None or is_head):
            await self._failing()
            return
        if is_head:
            if entry := await self._headed():
                await self.response.body.aclose()
                self._end(Validated(entry, status))
                return
        elif status == 206:
            if self._writer is not None and (entry := self._judged_part()):
                await self._stored_part(entry, self._writer)
                return
        elif entry := self._judged():
            self._fetcher.collapser.remember_unshared(question.crowd, False)
            if self._writer is not None:
                await self._stored(entry, self._writer)
                return
        if failing:
            await self._failing()
            return
        if not is_head and validation.outdates(status):
            await self._outdated()
        await self._unshared()

    async def _unshared(self) -> None:
        exchange = self.exchange
        await self._fetcher.unshared(self._fetch, self.response, exchange.request_time, exchange.response_time)

    async def _failing(self) -> None:
        # A fetch that fails is failed for all that waited (contract §7).
        self._fetcher.collapser.release(self._fetch)
        await self._gather(LARGEST_TOLD)
        if isinstance(self.response.body, BytesBody):
            exchange = self.exchange
            self._fetch.settle(Forwarded(self.response, exchange.request_time, exchange.response_time, for_all=True))
        else:
            await self._unshared()

    async def _gather(self, max_bytes: int) -> None:
        """Has the body of the answer in memory if it is no longer than `max_bytes`. Raises OriginUnreachable if it breaks off."""
        response = self.response
        if isinstance(response.body, BytesBody):
            return
        try:
            self.response = Response(response.head, await gathered(response.body, max_bytes))
        except BodyBroken:
            await response.body.aclose()
            raise OriginUnreachable(f"the origin's {response.head.status} broke off; try again") from None

    # ---- what the answer says of what is stored ----------------------------------------------------------------------------

    async def _freshened(self, entry: Entry) -> Entry:
        policy, came_at = self._question.policy, entry.response_time
        said = self._said(entry.head, came_at)
        kept = replace(
            entry.noting(WITH_COOKIE, "" if policy.origin_decides else None),
            fields=storing.storable_fields(entry.fields, said, came_at),
            tags=tagged(policy.tags, entry.fields),
            overridden=said.overridden,
        )
        if nominated(kept.fields) is None:  # Vary: * now: it matches no request any more (RFC 9111 §4.1)
            await self._guarded(self._store.discard(kept), None)
        else:
            await self._guarded(self._store.update(kept), None)
        return kept

    async def _outdated(self) -> None:
        """Has the stored answer be stale, since the origin gives another now. One cookie's answer says nothing of anyone else's."""
        question = self._question
        entry = question.plan.entry or question.plan.part
        if entry is not None and not question.policy.origin_decides:
            await self._guarded(self._store.update(outdated(entry, self.exchange.response_time)), None)

    async def _headed(self) -> Entry | None:
        """The stored answer to GET as a HEAD has freshened it; None where it says nothing of one, or that it is outdated."""
        entry = self._question.plan.entry or self._question.plan.part
        outcome = validation.settled_by_head(entry, self.response.head, self.exchange) if entry is not None else None
        if isinstance(outcome, Entry):
            return await self._freshened(outcome)
        if isinstance(outcome, Outdated):
            await self._outdated()
        return None

    def _said(self, head: ResponseHead, came_at: float) -> Said:
        own = said_by(whole_status(head.status), head.fields, response_time=came_at, shared=self._fetcher.mode.shared)
        return with_policy(own, self._question.policy)

    def _judged(self) -> Entry | None:
        """What the answer is stored as; None if it is not to be."""
        question, mode, head, exchange = self._question, self._fetcher.mode, self.response.head, self.exchange
        said = self._said(head, exchange.response_time)
        verdict = storing.judge(
            question.asked,
            head,
            said,
            response_time=exchange.response_time,
            http_mode=mode.http,
            max_bytes=mode.max_entry_bytes,
        )
        if isinstance(verdict, storing.Leave):
            if verdict.permanent:
                self._fetcher.collapser.remember_unshared(question.crowd, True)
            return None
        began, came_at = self._began, exchange.response_time
        return Entry(
            began.key,
            began.identifier,
            began.partition,
            began.method,
            began.target,
            head.status,
            verdict,
            varies(names, exchange.request) if (names := nominated(head.fields)) else (),
            exchange.request_time,
            response_time=came_at,
            stored_at=came_at,
            route=began.route,
            tags=tagged(began.tags, head.fields),
            private=began.private,
            overridden=said.overridden,
            extra=began.extra,
        )

    # ---- parts (RFC 9111 §3.3, §3.4) -----------------------------------------------------------------------------------

    def _judged_part(self) -> Entry | None:
        """What a 206 is stored as: only where it was asked for, says which bytes it holds, and no whole answer is stored."""
        if not is_ranged(self._question.request.head) or self._question.plan.entry is not None:
            return None
        described = read_content_range(self.response.head.fields)
        if described is None or described[0].size > self._fetcher.mode.max_entry_bytes:
            return None
        entry = self._judged()
        return as_part(entry, Holding((described[0],), described[1])) if entry is not None else None

    async def _stored_part(self, entry: Entry, writer: EntryWriter) -> None:
        part = self._question.plan.part
        brought = None if part is None else await self._joinable(part)
        if part is None or brought is None:
            await self._stored(entry, writer)
            return
        await self._joined(part, *brought, entry, writer)
        self.response = Response(self.response.head, BytesBody(brought[1]))
        await self._unshared()

    async def _completed(self) -> Entry | None:
        """The whole, of the stored part and its rest; None where these are not of one representation, or it cannot be stored."""
        part, writer = self._question.plan.part, self._writer
        entry = self._judged() if self.response.head.status == 206 else None
        if part is None or writer is None or entry is None or (brought := await self._joinable(part)) is None:
            return None
        whole = await self._joined(part, *brought, entry, writer)
        return whole if whole is not None and not is_partial(whole) else None

    async def _joinable(self, part: Entry) -> tuple[Span, bytes] | None:
        return await joinable(self.response, part, self._fetcher.mode.max_entry_bytes)

    async def _joined(self, part: Entry, span: Span, data: bytes, entry: Entry, writer: EntryWriter) -> Entry | None:
        """Stores `data`, which is `span`, and the stored part as one, under the old fields as those of `entry` change them (RFC 9111 §3.4);
        None if that fails.
        """
        stored = await self._fetcher.read(part)
        old = await read_whole(stored, LARGEST_COMBINED) if stored is not None else None
        if old is None:
            return None
        holding, whole = combined(holding_of(part), old, span, data)
        merged = as_part(replace(entry, fields=changed(part.fields, having=entry.fields.items())), holding)
        return await self._committed(writer, await finished(merged, self._question.policy, whole), whole)

    # ---- storing -------------------------------------------------------------------------------------------------------

    async def _stored(self, entry: Entry, writer: EntryWriter) -> None:
        head, fetch, body = self.response.head, self._fetch, self.response.body
        if body.length is not None and body.length <= LARGEST_GATHERED and gets_tag(entry):
            await self._gather(LARGEST_GATHERED)
            body = self.response.body
        if isinstance(body, BytesBody):
            await self._stored_whole(entry, body.data, writer)
            return
        shared = self._fetcher.shared(body, fetch)
        first = None if fetch.requester_left else shared.reader()
        fetch.settle(Stored(head, entry, shared, first))
        kept: Entry | None = None
        try:
            if await shared.pump(partial(self._written, writer, shared)) and is_all(entry, shared.size):
                kept = await self._committed(writer, await finished(entry, self._question.policy, shared.whole))
        finally:
            shared.stored.set_result(kept)

    async def _stored_whole(self, entry: Entry, data: bytes, writer: EntryWriter) -> None:
        """An answer that is in memory is told when it is stored, so that a client which asks again at once finds it; or after LONGEST_HELD."""
        head, fetch = self.response.head, self._fetch
        entry = await finished(entry, self._question.policy, data)
        held = asyncio.get_running_loop().call_later(LONGEST_HELD, fetch.settle, Stored(head, entry, data))
        kept = None
        try:
            if len(data) <= self._fetcher.mode.max_entry_bytes and is_all(entry, len(data)):
                kept = await self._committed(writer, entry, data)
        finally:
            held.cancel()
            self._end(Stored(head, kept or entry, data, is_kept=kept is not None))

    async def _written(self, writer: EntryWriter, body: SharedBody, data: bytes) -> bool:
        """Whether `data`, the last of `body` so far, was stored; False beyond the limit, and if the store fails."""
        if body.size > self._fetcher.mode.max_entry_bytes:
            return False
        try:
            await writer.write(data)
        except EntryStoreFailure as fault:
            self._fetcher.observer(StoreFailed(str(fault)))
            return False
        return True

    async def _committed(self, writer: EntryWriter, entry: Entry, data: bytes = b"") -> Entry | None:
        """The entry as it is stored now, after `data`; None if a purge meanwhile counts against it, or the store fails."""
        observer = self._fetcher.observer
        try:
            if data:
                await writer.write(data)
            kept = await writer.commit(entry)
        except EntryStoreFailure as fault:
            observer(StoreFailed(str(fault)))
            return None
        if kept is not None:
            observer(EntryStored(kept.key, kept.route, kept.size))
        return kept
