"""Answers as caching sends them: the stored or streamed head with `Age` and `Cache-Status`, or a 304 where the client has it already.

The inward half of caching: makes each client's answer of what is stored, or of how the flight landed that it waited for.

Which stale answer may fall in after a failure is decided in `core.cache.reuse`; who asks the origin, and how, is `fetching`.

Caching: the hop that answers from the store what may be answered so, and sends on what must go on (contract §7).

What may be done is decided in `core.cache`; how the origin is asked and its answer stored is `fetching`; who waits for whom is
`flights`. Of tokens this hop knows nothing: a refusal from further out is a reason to look for a stale answer, whatever it is about.

Softening: the terms of stored answers with soft purges counted in, and how one more comes into force.

What a soft purge does to terms is said in `core.cache.soft_purges`; where they are kept is the store's business behind `Keeping`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Protocol, assert_never

from multidict import CIMultiDict, CIMultiDictProxy

from passoproxy.core.cache import cache_control, cache_status, reuse
from passoproxy.core.cache import key as keys
from passoproxy.core.cache.cache_control import Asked
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.etag import is_made
from passoproxy.core.cache.expiry import Terms, cut, terms
from passoproxy.core.cache.expiry import terms as terms_of
from passoproxy.core.cache.freshness import initial_age
from passoproxy.core.cache.invalidation import SAFE_METHODS, invalidated
from passoproxy.core.cache.key import METHOD_FIELD, Unreadable
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.reuse import Circumstances, Failure, Fetch, Plan, Refuse, Serve
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.core.cache.validation import forwarded_conditions, has_conditions, matching, unconditional
from passoproxy.core.cache.vary import matches, signature
from passoproxy.core.events import EntriesPurged, StoreFailed
from passoproxy.core.http.conditional import not_modified
from passoproxy.core.http.forwarding import reason_for
from passoproxy.core.http.messages import NO_FIELDS, Fields, RequestHead, ResponseHead, changed
from passoproxy.core.http.ranges import RANGE, in_bytes
from passoproxy.core.routes import UNLISTED
from passoproxy.errors import (
    AuthorizationRequired,
    CoolingDown,
    EntryStoreFailure,
    InternalError,
    Offline,
    OriginInvalid,
    OriginTimeout,
    OriginUnreachable,
    Overloaded,
    PreconditionFailed,
    Refusal,
    TokenUnavailable,
)
from passoproxy.ports import Body, BytesBody, Clock, EntryStore, Hop, Observer, Request, Response, Trail, nobody
from passoproxy.proxy import ranges
from passoproxy.proxy.bodies import gathered
from passoproxy.proxy.collapse import Failed, Flights, Handed, Landed, Landing, Shared, Told
from passoproxy.proxy.fetch import Errand, Fetching, new_identifier
from passoproxy.proxy.popularity import Usage
from passoproxy.proxy.ranges import is_ranged, needs_store
from passoproxy.proxy.spool import Spools


async def from_store(request: RequestHead, entry: Entry, body: Body, age: float, member: str, now: float) -> Response:
    """A stored answer: `Age` always, in whole seconds (RFC 9111 §5.1)."""
    fields = CIMultiDict(entry.fields)
    fields["Age"] = str(int(age))
    response = await _answered(request, entry.status, fields, entry, body, member, now)
    return await in_parts(request, response, entry, entry.size) if RANGE in request.fields else response


async def streamed(
    request: RequestHead, head: ResponseHead, entry: Entry, body: Body, age: float, member: str, now: float
) -> Response:
    """An answer that is being stored while it is sent; `Age` from one second on."""
    fields = CIMultiDict(head.fields)
    _tell_age(fields, age)
    return await _answered(request, head.status, fields, entry, body, member, now)


async def in_parts(request: RequestHead, response: Response, entry: Entry, size: int) -> Response:
    """The ranges that the request asks for of a complete answer, or of a stored part; the answer as it is where none are to be cut."""
    if response.head.status not in (200, 206) or not ranges.is_ranged(request):
        return response
    head, body = await ranges.cut_out(request, response.head, entry, response.body, size)
    # The bytes of a part have no name: what outer hops remember, they remember of the whole.
    return Response(head, body, response.content_id if body is response.body else "")


def passed(response: Response, member: str, sent_at: float, came_at: float) -> Response:
    """An answer that the cache has no part in; `Age` from one second on."""
    head = response.head
    fields = CIMultiDict(head.fields)
    _tell_age(fields, initial_age(head.fields, sent_at, came_at))
    fields["Cache-Status"] = cache_status.appended(head.fields, member)
    return response.with_head(ResponseHead(head.status, CIMultiDictProxy(fields), head.reason))


async def _answered(
    request: RequestHead, code: int, fields: CIMultiDict[str], entry: Entry, body: Body, member: str, now: float
) -> Response:
    fields["Cache-Status"] = cache_status.appended(entry.fields, member)
    if entry.made_etag and "ETag" not in fields:
        fields["ETag"] = entry.made_etag
    head = ResponseHead(code, CIMultiDictProxy(fields), reason_for(code))
    if _holds_already(request, code, head.fields, now):
        await body.aclose()
        # What describes content that is not sent is taken off by the outer hop, which looks at it first.
        if entry.size and "Content-Length" not in fields:
            head = head.with_fields(changed(head.fields, having=[("Content-Length", str(entry.size))]))
        return Response(ResponseHead(304, head.fields, reason_for(304)), BytesBody())
    if request.method == "HEAD":
        await body.aclose()
        return Response(head, BytesBody(), entry.digest)
    return Response(head, body, entry.digest)


def _tell_age(fields: CIMultiDict[str], age: float) -> None:
    if age >= 1.0:
        fields["Age"] = str(int(age))
    elif fields.get("Age", "0") != "0":  # what the origin wrote there is no number of seconds (RFC 9111 §5.1)
        del fields["Age"]


def _holds_already(request: RequestHead, code: int, fields: Fields, now: float) -> bool:
    asked = request.fields
    if code not in (200, 203, 206) or ("If-None-Match" not in asked and "If-Modified-Since" not in asked):
        return False
    return request.method != "POST" and not_modified(asked, fields, now)


LARGEST_AWAITED = 64 * 1024
"""An answer without a tag, known to be no longer than so many bytes, is read to its end before its head is sent: so it has a made tag."""

_ERRORS = (OriginUnreachable, OriginTimeout, OriginInvalid, Overloaded, CoolingDown)
_UNAUTHORIZED = (AuthorizationRequired, TokenUnavailable)


Judge = Callable[[Entry, RoutePolicy, CacheMode], Terms]
"""What makes terms: `core.cache.terms`, or it with something added."""


class Again(Enum):
    """A request that waited for another's answer, in vain: plan again, and wait again or not."""

    TOGETHER = "together"
    ALONE = "alone"


class RememberedTerms:
    """The terms of entries under one mode, remembered for as long as entry and policy are the same objects."""

    __slots__ = ("_judge", "_mode", "_terms", "most")

    def __init__(self, mode: CacheMode, judge: Judge = terms_of) -> None:
        self._mode, self._judge = mode, judge
        self.most = 8192
        self._terms: dict[str, tuple[Entry, RoutePolicy, Terms]] = {}

    def of(self, entry: Entry, policy: RoutePolicy) -> Terms:
        """As `core.cache.terms` has them."""
        known = self._terms.get(entry.identifier)
        if known is not None and known[0] is entry and known[1] is policy:
            return known[2]
        found = self._judge(entry, policy, self._mode)
        if len(self._terms) >= self.most:
            self._terms.clear()
        self._terms[entry.identifier] = (entry, policy, found)
        return found


class Settling:
    """Answers clients. `terms` may be replaced when the mode changes."""

    def __init__(
        self, fetching: Fetching, flights: Flights, clock: Clock, terms: RememberedTerms, partition: Callable[[], str]
    ) -> None:
        self._fetching = fetching
        self._partition = partition
        self._flights = flights
        self._clock = clock
        self.terms = terms

    async def served(self, request: Request, plan: Serve, now: float, member: str = "") -> Response | None:
        entry = plan.entry
        body = await self._body(request, entry)
        if body is None:
            return None
        request.trail.cache = "stale" if plan.is_stale else "miss" if member else "hit"
        member = member or cache_status.hit(plan.terms.fresh_until - now, plan.detail)
        return await from_store(request.head, entry, body, plan.terms.age(now), member, now)

    async def _body(self, request: Request, entry: Entry) -> Body | None:
        if request.head.method == "HEAD":
            return BytesBody()
        return await self._fetching.keeping.read(entry)

    async def settled(self, errand: Errand, landing: Landing, *, collapsed: bool) -> Response | Again:
        match landing:
            case Failed(fault):
                return await self._failed(errand, fault, collapsed)
            case Told(head, data):
                if stale := await self._instead(errand, Failure.ERROR, head.status, collapsed):
                    return stale
                errand.request.trail.cache = "miss"
                response = Response(head, BytesBody(data if errand.request.head.method != "HEAD" else b""))
                member = cache_status.forwarded(errand.plan.forward, status=head.status, collapsed=collapsed)
                return passed(response, member, landing.request_time, landing.response_time)
            case Landed(entry, origin_status):
                return await self._validated(errand, entry, origin_status, collapsed)
            case Shared():
                return await self._streamed(errand, landing, collapsed)
            case Handed(response):
                if collapsed:
                    return Again.ALONE
                errand.request.trail.cache = "miss"
                member = cache_status.forwarded(errand.plan.forward, status=response.head.status)
                return passed(response, member, landing.request_time, landing.response_time)
            case _:
                assert_never(landing)

    async def _validated(self, errand: Errand, entry: Entry, origin_status: int, collapsed: bool) -> Response | Again:
        if collapsed and not self._may_be_shared(errand, entry):
            return Again.ALONE
        now = self._clock.wall()
        agreed = self.terms.of(entry, errand.policy)
        member = cache_status.forwarded(
            errand.plan.forward,
            status=origin_status,
            collapsed=collapsed,
            ttl=agreed.fresh_until - now,
            detail=cache_status.OVERRIDE if agreed.overridden else "",
        )
        served = await self.served(errand.request, Serve(entry, agreed, "validated"), now, member)
        return served or Again.ALONE

    async def _streamed(self, errand: Errand, landing: Shared, collapsed: bool) -> Response | Again:
        request, entry, shared = errand.request, landing.entry, landing.body
        reader = shared.reader() if collapsed else landing.first
        if reader is None:  # too late for its start: it will be in the store
            return await self._by_store(landing)
        if collapsed and not self._may_be_shared(errand, entry):
            await reader.aclose()
            return Again.ALONE
        cuts = landing.head.status == 200 and is_ranged(request.head)
        if cuts and needs_store(request.head, entry.fields, shared.length):
            await reader.aclose()
            return await self._by_store(landing)
        try:
            kept = await self._awaited(request, landing)
            if shared.length == 0:  # nothing to hold back but the head itself
                await shared.held_until_stored()
        except asyncio.CancelledError:
            await reader.aclose()
            raise
        if shared.is_broken and (stale := await self._instead(errand, Failure.ERROR, landing.head.status, collapsed)):
            await reader.aclose()
            return stale
        now = self._clock.wall()
        agreed = self.terms.of(entry, errand.policy)
        member = cache_status.forwarded(
            errand.plan.forward,
            status=landing.head.status,
            stored=True,
            collapsed=collapsed,
            ttl=agreed.fresh_until - now,
            detail=cache_status.OVERRIDE if agreed.overridden else "",
        )
        request.trail.cache = "miss"
        head = entry.head if collapsed else landing.head
        body: Body = reader
        if kept is not None and (whole := shared.whole) is not None:
            await reader.aclose()
            body = BytesBody(whole)
        entry = kept or entry
        response = await streamed(request.head, head, entry, body, agreed.age(now), member, now)
        return await in_parts(request.head, response, entry, shared.length or 0) if cuts else response

    def _may_be_shared(self, errand: Errand, entry: Entry) -> bool:
        """Whether one who waited may have the answer to another's question (RFC 9111 §4)."""
        return matches(entry, errand.request.head.fields) and not self.terms.of(entry, errand.policy).must_validate

    async def _by_store(self, landing: Shared) -> Again:
        """Waits until the answer is in the store, to be found there."""
        body = landing.body
        found = await self._flights.in_time(body.stored) and body.stored.result() is not None
        return Again.TOGETHER if found else Again.ALONE

    async def _awaited(self, request: Request, landing: Shared) -> Entry | None:
        """The stored entry, where the answer is worth waiting for: it has no tag, and is short or asked for under a condition."""
        if "ETag" in landing.entry.fields or landing.entry.status != 200 or landing.entry.method != "GET":
            return None
        length = landing.body.length
        if (length is None or length > LARGEST_AWAITED) and "If-None-Match" not in request.head.fields:
            return None
        return landing.body.stored.result() if await self._flights.in_time(landing.body.stored) else None

    async def _failed(self, errand: Errand, fault: Exception, collapsed: bool) -> Response:
        failure = Failure.ERROR if isinstance(fault, _ERRORS) else None
        if isinstance(fault, _UNAUTHORIZED):
            failure = Failure.UNAUTHORIZED
        if failure is not None and (stale := await self._instead(errand, failure, None, collapsed)):
            return stale
        raise fault.with_traceback(None)

    async def _instead(
        self, errand: Errand, failure: Failure, status_seen: int | None, collapsed: bool
    ) -> Response | None:
        if self._partition() != errand.partition:  # someone else has logged in meanwhile, and sees nothing of it
            return None
        now = self._clock.wall()
        plan = reuse.on_failure(errand.plan.entry, errand.plan.terms, failure, now, errand.asked)
        if plan is None:
            return None
        member = cache_status.forwarded(
            "stale" if plan.is_stale else errand.plan.forward,
            status=status_seen,
            collapsed=collapsed,
            ttl=plan.terms.fresh_until - now,
            detail=plan.detail,
        )
        return await self.served(errand.request, plan, now, member)


LARGEST_KEYED_BODY = 64 * 1024
"""A POST body beyond so many bytes is not made part of a key: its request is a pass, streamed."""

_MOST_ROUNDS = 4


def always_asked(path: str) -> str:
    """The origin need not be spared."""
    return ""


def never(path: str) -> bool:
    """There is nothing to find out."""
    return False


class Caching:
    """The cache on the road. Close it to end what it fetches on its own account.

    `partition` gives the identity whose answers these are; `origin` is `scheme://authority` of the origin. `spared` says why the origin is to be
    spared requests for a path, '' where it is not; `is_to_be_asked`, whether it is time to find out if that still holds. `flights` may be given
    to set how long a request waits for another's, `spools` to spill to disk what waits for slow clients, `usage` to count what is asked for.
    """

    def __init__(
        self,
        next: Hop,
        store: EntryStore,
        clock: Clock,
        mode: CacheMode,
        *,
        partition: Callable[[], str],
        origin: str = "",
        spared: Callable[[str], str] = always_asked,
        is_to_be_asked: Callable[[str], bool] = never,
        observer: Observer = nobody,
        flights: Flights | None = None,
        spools: Spools | None = None,
        usage: Usage | None = None,
        identify: Callable[[], str] = new_identifier,
    ) -> None:
        self._store = store
        self._clock = clock
        self._partition = partition
        self._origin = origin
        self._spared, self._is_to_be_asked = spared, is_to_be_asked
        self._observer = observer
        self.flights = Flights(clock, observer) if flights is None else flights
        self._usage = usage
        self._judge: Judge = terms
        self._fetching = Fetching(next, store, self.flights, clock, mode, spools or Spools(), observer, identify)
        self._settling = Settling(self._fetching, self.flights, clock, RememberedTerms(mode), partition)

    @property
    def mode(self) -> CacheMode:
        """How the whole cache behaves; may be set at any time."""
        return self._fetching.mode

    @mode.setter
    def mode(self, mode: CacheMode) -> None:
        self._fetching.mode = mode
        self.terms_changed()

    @property
    def judge(self) -> Judge:
        """What makes the terms of stored answers; may be set at any time."""
        return self._judge

    @judge.setter
    def judge(self, judge: Judge) -> None:
        self._judge = judge
        self.terms_changed()

    def terms_changed(self) -> None:
        """To be told whenever terms that were made before do not hold any more."""
        self._settling.terms = RememberedTerms(self.mode, self._judge)

    def purged(self, selector: Selector) -> None:
        """To be told whenever something was purged: whoever asks from now on must not get an answer that was asked for before."""
        self.flights.release_where(selector)

    async def close(self) -> None:
        """Ends all flights."""
        await self.flights.close()

    async def send(self, request: Request) -> Response:
        """The answer, with `Cache-Status`, and `Age` where due. Raises the refusals of the hops behind, and Offline."""
        try:
            return await self._send(request)
        except Refusal:
            request.trail.cache = "error"
            raise

    async def _send(self, request: Request) -> Response:
        policy = request.policy or UNLISTED
        asked = cache_control.asked(request.head.fields)
        if why := sent_on(request, policy, asked):
            return await self._pass(request, policy, asked, why)
        content = None
        if request.head.method == "POST":
            body = await gathered(request.body, LARGEST_KEYED_BODY)
            request = replace(request, body=body)
            if not isinstance(body, BytesBody) or len(body.data) > LARGEST_KEYED_BODY:
                return await self._pass(request, policy, asked, "bypass")
            try:
                content = keys.content_of(request.head.fields, body.data, policy.key)
            except Unreadable:
                return await self._pass(request, policy, asked, "bypass")
        if (content or "?" in request.head.target) and (
            found := keys.side_effects(request.head, policy.bypass_when.names, content)
        ):
            return await self._pass(request, policy, asked, "bypass", is_write=found == METHOD_FIELD)
        partition = self._partition()
        key = keys.primary_key(partition, request.head, policy.key, content)
        request.trail.key = key
        if self._usage is not None and not request.background and not policy.origin_decides:
            self._usage.count(key, request)
        return await self._answer(request, policy, asked, partition, key)

    # ---- requests that the cache has no part in ------------------------------------------------------------------------

    async def _pass(
        self, request: Request, policy: RoutePolicy, asked: Asked, why: str, *, is_write: bool | None = None
    ) -> Response:
        if asked.only_if_cached or self.mode.offline:
            raise Offline(_not_stored(request, "only-if-cached" if asked.only_if_cached else "cache.offline"))
        head = forwarded_conditions(_in_no_coding(request.head))
        if "If-Match" in head.fields:
            head = await self._matching(head, policy)
        writes = (
            _is_unsafe(request, policy) if is_write is None else is_write and request.head.method not in SAFE_METHODS
        )

        async def answered(response: Response) -> None:
            if writes:  # also where the client has left meanwhile
                await self._invalidate(request, policy, response)

        sent = request.with_head(head)
        flight = self.flights.launch(None, lambda own: self._fetching.forward(sent, own, answered), request.trail)
        landing = await self.flights.led(flight)
        if isinstance(landing, Failed):
            raise landing.fault.with_traceback(None)
        assert isinstance(landing, Handed)
        member = cache_status.forwarded(why, status=landing.response.head.status)
        request.trail.cache = "pass"
        return passed(landing.response, member, landing.request_time, landing.response_time)

    async def _matching(self, head: RequestHead, policy: RoutePolicy) -> RequestHead:
        found = matching(head, await self._select(_key_of_get(self._partition(), head, policy)))
        if found is None:
            raise PreconditionFailed(
                "If-Match names only tags that passoproxy made, since the origin gives none: they tell stored answers apart and guard no "
                "write; send the request without If-Match"
            )
        return found

    async def _invalidate(self, request: Request, policy: RoutePolicy, response: Response) -> None:
        head = request.head
        key = _key_of_get(request.trail.authorized_as or self._partition(), head, policy)
        gone = 0
        for selector in invalidated(head, key, response.head, self._origin, policy):
            self.purged(selector)
            gone += await self._fetching.keeping.guarded(self._store.purge(selector), 0)
        if gone:
            self._observer(EntriesPurged(gone, "invalidation"))

    # ---- requests that it may answer -----------------------------------------------------------------------------------

    async def _answer(self, request: Request, policy: RoutePolicy, asked: Asked, partition: str, key: str) -> Response:
        alone = False
        for round in range(_MOST_ROUNDS):
            if round and self._partition() != partition:  # someone else has logged in meanwhile
                return await self._send(request)
            is_last = round == _MOST_ROUNDS - 1
            mark = self.flights.mark
            stored = await self._select(key) if not is_last else ()
            now = self._clock.wall()
            plan = self._plan(request, policy, asked, stored, now)
            if isinstance(plan, Serve):
                if (response := await self._settling.served(request, plan, now)) is None:
                    continue  # its body is lost, and the entry with it
                if plan.renew:
                    self._renew(request, policy, partition, key, stored, plan)
                return response
            if isinstance(plan, Refuse):
                raise Offline(_not_stored(request, plan.why))
            if for_origin_alone(request.head):
                return await self._pass(request, policy, asked, "bypass")
            if not is_last and self.flights.ended_since(mark, key):
                continue  # a flight came to its end while the store was asked: its entry is there now
            errand = Errand(request, policy, asked, key, partition, stored, plan, keeps=request.head.method != "HEAD")
            answer = await self._asked(self._ranged(errand, alone or is_last), alone=alone or is_last)
            if isinstance(answer, Response):
                return answer
            alone = answer is Again.ALONE
        raise InternalError("a request that went alone came back without an answer")

    def _plan(self, request: Request, policy: RoutePolicy, asked: Asked, stored: Sequence[Entry], now: float) -> Plan:
        fields, agreed = request.head.fields, self._settling.terms
        around = Circumstances(now, self.mode.offline, ranged=request.head.method == "GET")
        plan = reuse.plan(asked, fields, stored, lambda entry: agreed.of(entry, policy), around)
        if isinstance(plan, Serve | Refuse) or not (why := self._spared(request.head.path)):
            return plan
        return reuse.unasked(plan, why, now, asked, renew=self._is_to_be_asked(request.head.path))

    async def _select(self, key: str) -> Sequence[Entry]:
        try:
            return await self._store.select(key)
        except EntryStoreFailure as fault:
            self._observer(StoreFailed(str(fault)))
            return ()

    def _ranged(self, errand: Errand, alone: bool) -> Errand:
        """The errand of a request for ranges: on a route the whole is fetched, and parts served from it; where that is not right, or
        was found not to be, the question goes on as it was asked, and what comes may be stored as a part.
        """
        head = errand.request.head
        if "Range" not in head.fields or not isinstance(errand.plan, Fetch) or not is_ranged(head):
            return errand
        whole = errand.policy.name and not alone and errand.plan.part is None and self.flights.may_share(errand.crowd)
        if whole or is_made(head.fields.get("If-Range", "")):
            return errand
        return replace(errand, as_asked=True)

    async def _asked(self, errand: Errand, *, alone: bool) -> Response | Again:
        """The answer after asking, or how to go on where there is none for this request."""
        flights = self.flights
        flight_key = _flight_key(errand.key, errand.stored, errand.request, errand.policy)
        shares = not alone and not errand.as_asked and flights.may_share(errand.crowd)
        if shares and (flight := flights.of(flight_key)) is not None:
            landing = await flights.followed(flight)
            if landing is None:
                return Again.ALONE
            if flight.background and isinstance(landing, Failed):
                return Again.TOGETHER  # background work is refused earlier than a client would be
            return await self._settling.settled(errand, landing, collapsed=True)
        if isinstance(errand.plan, Fetch) and has_conditions(forwarded_conditions(errand.request.head).fields):
            errand, shares = replace(errand, with_conditions=True), False
        if errand.as_asked:
            shares = False
        elif not flights.may_share(errand.crowd):
            errand = replace(errand, keeps=False)
        shares = shares and errand.keeps
        flight = flights.launch(
            flight_key if shares else None, lambda own: self._fetching.carry(errand, own), errand.request.trail
        )
        return await self._settling.settled(errand, await flights.led(flight), collapsed=False)

    def _renew(
        self, request: Request, policy: RoutePolicy, partition: str, key: str, stored: Sequence[Entry], plan: Serve
    ) -> None:
        """Renews what was just served, in the background and for nobody in particular."""
        flight_key = _flight_key(key, stored, request, policy)
        asks = self._is_to_be_asked(
            request.head.path
        )  # whether it is back, which a failure of a moment ago says nothing of
        if not self.flights.may_renew(flight_key, though_failed=asks) or self.mode.offline:
            return
        head = unconditional(replace(request.head, method=plan.entry.method))
        trail = Trail(route=policy.name, key=key)
        own = replace(request, head=head, trail=trail, on_interim=None, background=True)
        question = reuse.renewal(plan, stored)
        errand = Errand(own, policy, cache_control.NOTHING_ASKED, key, partition, stored, question)
        self.flights.launch(flight_key, lambda flight: self._fetching.carry(errand, flight), own.trail, background=True)


def sent_on(request: Request, policy: RoutePolicy, asked: Asked) -> str:
    """Why a request is not looked up at all, as a word of RFC 9211 §2.2; '' where it is."""
    head = request.head
    method, fields = head.method, head.fields
    if method not in ("GET", "HEAD", "POST"):
        return "method"
    if ("GET" if method == "HEAD" else method) not in policy.methods:
        return "method"
    if not policy.stores or (policy.pass_client_authorization and "Authorization" in fields):
        return "bypass"
    if method != "POST" and request.body.length != 0:
        return "bypass"
    if asked.no_store or "If-Match" in fields or "If-Unmodified-Since" in fields:
        return "request"
    return ""


def for_origin_alone(head: RequestHead) -> bool:
    """Whether a request that no stored answer serves can be answered by the origin alone: it asks for a range in a unit not known here."""
    return head.method == "GET" and RANGE in head.fields and not in_bytes(head.fields)


def _flight_key(key: str, stored: Sequence[Entry], request: Request, policy: RoutePolicy) -> object:
    """What requests have in common that may wait for one another: before it came, nobody knows whether an answer is one cookie's alone."""
    fields = request.head.fields
    return key, signature(stored, fields), tuple(fields.getall("Cookie", ())) if policy.origin_decides else ()


def _key_of_get(partition: str, head: RequestHead, policy: RoutePolicy) -> str:
    return keys.primary_key(partition, replace(head, method="GET", fields=NO_FIELDS), policy.key)


def _in_no_coding(head: RequestHead) -> RequestHead:
    # A part of a coded body could not be decoded for a client that does not take the coding, and the whole is not at hand.
    if RANGE not in head.fields:
        return head
    return head.with_fields(changed(head.fields, having=[("Accept-Encoding", "identity")]))


def _is_unsafe(request: Request, policy: RoutePolicy) -> bool:
    # A POST on a route that lists POST is a read (contract §7).
    method = request.head.method
    return method not in SAFE_METHODS and not (method == "POST" and "POST" in policy.methods)


def _not_stored(request: Request, why: str) -> str:
    return f"{request.head.method} {request.head.path} may not be answered from the cache, and the origin is not asked ({why})"


class Keeping(Protocol):
    """Where soft purges outlive the process, and are shared with whoever shares the entries."""

    def current(self, now: float) -> SoftPurges:
        """Those in force; the same object for as long as nothing has changed. Does not wait for anything far away."""
        ...

    async def add(self, purge: SoftPurge) -> None:
        """One more; in force wherever the entries are shared when it returns. Raises EntryStoreFailure."""
        ...


class Softening:
    """Judges by the soft purges in force. `changed` is told whenever there are others: terms made before do not hold then."""

    def __init__(self, kept: Keeping, clock: Clock, changed: Callable[[], None]) -> None:
        self._kept, self._clock, self._changed = kept, clock, changed
        self.purges = kept.current(clock.wall())

    def look(self) -> None:
        """To be called when others may have purged."""
        purges = self._kept.current(self._clock.wall())
        if purges is not self.purges:
            self.purges = purges
            self._changed()

    def ended(self, entry: Entry) -> float | None:
        """When a soft purge ended the freshness of `entry`; None where none did. Asked once for each entry, and looks itself."""
        self.look()
        return self.purges.ended(entry) if self.purges else None

    def terms(self, entry: Entry, policy: RoutePolicy, mode: CacheMode) -> Terms:
        """As `core.cache.terms`, ended where a soft purge counts against the entry."""
        return cut(terms(entry, policy, mode), self.ended(entry))

    async def soften(self, selector: Selector) -> None:
        """From now on nothing is fresh that `selector` means and that was asked for until now. Raises EntryStoreFailure."""
        try:
            await self._kept.add(SoftPurge(selector, self._clock.wall()))
        finally:
            self.look()
