"""Caching: the hop that answers from the store what may be answered so, and sends on what must go on (contract §7).

What may be done is decided in `core.cache`; how the origin is asked and its answer stored is `fetching`; who waits for whom is
`flights`. Of tokens this hop knows nothing: a refusal from further out is a reason to look for a stale answer, whatever it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from passoproxy.core.cache import directives, reuse, status
from passoproxy.core.cache import key as keys
from passoproxy.core.cache.canonical import Unreadable
from passoproxy.core.cache.content import is_made
from passoproxy.core.cache.directives import Asked
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.invalidation import SAFE_METHODS, invalidated
from passoproxy.core.cache.key import METHOD_FIELD
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.reuse import Circumstances, Fetch, Plan, Refuse, Serve
from passoproxy.core.cache.terms import terms
from passoproxy.core.cache.validation import forwarded_conditions, has_conditions, matching, unconditional
from passoproxy.core.cache.variants import signature
from passoproxy.core.events import EntriesPurged, StoreFailed
from passoproxy.core.http.messages import NO_FIELDS, RequestHead, changed
from passoproxy.core.http.ranges import RANGE, in_bytes
from passoproxy.core.routes import UNLISTED
from passoproxy.errors import EntryStoreFailure, InternalError, Offline, PreconditionFailed, Refusal
from passoproxy.ports import BytesBody, Clock, EntryStore, Hop, Observer, Request, Response, Trail, nobody
from passoproxy.proxy import answering
from passoproxy.proxy.bodies import gathered
from passoproxy.proxy.errands import Errand
from passoproxy.proxy.fetching import Fetching, new_identifier
from passoproxy.proxy.flights import Failed, Flights, Handed
from passoproxy.proxy.parts import is_ranged
from passoproxy.proxy.settling import Again, Judge, RememberedTerms, Settling
from passoproxy.proxy.spool import Spools
from passoproxy.proxy.usage import Usage

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
        asked = directives.asked(request.head.fields)
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
        member = status.forwarded(why, status=landing.response.head.status)
        request.trail.cache = "pass"
        return answering.passed(landing.response, member, landing.request_time, landing.response_time)

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
        errand = Errand(own, policy, directives.NOTHING_ASKED, key, partition, stored, question)
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
