"""The cache hop (contract §7): looks up, plans, answers from the store, or has the origin asked and answers with what came.

What may be done is decided in `core.cache`. How the origin is asked and its answer stored is `fetch`; waiting for a question that is under way,
`collapse`; parts of bodies are cut in `ranges`. Tokens are unknown here: a refusal from a hop behind is a reason to look for a stale answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Protocol, assert_never

from multidict import CIMultiDict, CIMultiDictProxy

from passoproxy.core.cache import cache_control, cache_status, reuse
from passoproxy.core.cache import key as keys
from passoproxy.core.cache.cache_control import NOTHING_ASKED, Asked
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.etag import is_made
from passoproxy.core.cache.expiry import Terms, cut, terms
from passoproxy.core.cache.freshness import initial_age
from passoproxy.core.cache.invalidation import SAFE_METHODS, invalidated
from passoproxy.core.cache.key import METHOD_FIELD, Content, Unreadable
from passoproxy.core.cache.partial import is_partial
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.reuse import Circumstances, Failure, Fetch, Plan, Refuse, Serve
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.core.cache.validation import forwarded_conditions, has_conditions, matching, unconditional
from passoproxy.core.cache.vary import matches, signature, varies_by
from passoproxy.core.events import EntriesPurged
from passoproxy.core.http.conditional import not_modified
from passoproxy.core.http.messages import NO_FIELDS, TRACING, RequestHead, ResponseHead, changed
from passoproxy.core.http.ranges import RANGE, in_bytes
from passoproxy.core.routes import UNLISTED
from passoproxy.errors import (
    AuthorizationRequired,
    CoolingDown,
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
from passoproxy.ports import (
    Body,
    BytesBody,
    Clock,
    Hop,
    MemoryEntryStore,
    Observer,
    Request,
    Response,
    Trail,
    nobody,
)
from passoproxy.proxy import ranges
from passoproxy.proxy.collapse import Collapser, Forwarded, Outcome, SharedBody, Stored, Validated
from passoproxy.proxy.fetch import EntryFetch, Fetcher, Question, gets_tag
from passoproxy.proxy.popularity import Usage
from passoproxy.proxy.ranges import is_ranged, needs_store
from passoproxy.proxy.spool import Spools
from passoproxy.values import value

LARGEST_KEYED_BODY = 64 * 1024
"""A POST body of more bytes is not made part of a key: its request is a pass, streamed."""

_ERRORS = (OriginUnreachable, OriginTimeout, OriginInvalid, Overloaded, CoolingDown)
_UNAUTHORIZED = (AuthorizationRequired, TokenUnavailable)
_MOST_ROUNDS = 4
_LONGEST_REMEMBERED = 1024  # characters that clients chose


class SoftPurgeStore(Protocol):
    """Keeps soft purges beyond the process, and shares them with all that share the entries."""

    def current(self, now: float) -> SoftPurges:
        """Those in force; the same object for as long as nothing has changed. No I/O but shared memory."""
        ...

    async def add(self, purge: SoftPurge) -> None:
        """One more; in force wherever the entries are shared when it returns. Raises EntryStoreFailure."""
        ...


class EntryTerms:
    """The terms of stored answers, ended where a soft purge in force counts against the entry (`core.cache.soft_purge`)."""

    def __init__(self, mode: CacheMode, clock: Clock, kept: SoftPurgeStore | None = None, most: int = 8192) -> None:
        """At most `most` are remembered, with their entries."""
        self._mode, self._clock, self._kept = mode, clock, kept
        self.purges = SoftPurges() if kept is None else kept.current(clock.wall())
        self.most = most
        self._remembered: dict[str, tuple[Entry, RoutePolicy, Terms]] = {}

    def of(self, entry: Entry, policy: RoutePolicy) -> Terms:
        """Those under the present mode, remembered for as long as entry and policy are the same objects."""
        known = self._remembered.get(entry.identifier)
        if known is not None and known[0] is entry and known[1] is policy:
            return known[2]
        found = self.made(entry, policy)
        if entry.chosen_length > _LONGEST_REMEMBERED:
            return found
        if len(self._remembered) >= self.most:
            self._remembered.clear()
        self._remembered[entry.identifier] = (entry, policy, found)
        return found

    def made(self, entry: Entry, policy: RoutePolicy) -> Terms:
        """The same, not remembered: for many entries that no request asks for."""
        return cut(terms(entry, policy, self._mode), self.ended(entry))

    def ended(self, entry: Entry) -> float | None:
        """When a soft purge ended the freshness of `entry`; None if none did. Looks itself: it is asked once for each entry."""
        self.look()
        return self.purges.ended(entry) if self.purges else None

    def look(self) -> None:
        """To be called when others may have purged."""
        purges = self.purges if self._kept is None else self._kept.current(self._clock.wall())
        if purges is not self.purges:
            self.purges = purges
            self._remembered.clear()

    def set_mode(self, mode: CacheMode) -> None:
        """Another mode counts from now on."""
        self._mode = mode
        self._remembered.clear()

    async def soften(self, selector: Selector) -> None:
        """From now on nothing is fresh that `selector` means and that was asked for until now. Raises EntryStoreFailure."""
        assert self._kept is not None
        try:
            await self._kept.add(SoftPurge(selector, self._clock.wall()))
        finally:
            self.look()


class Bypass(Enum):
    """Why the cache has no part in a request: the word of RFC 9211 §2.2, and the reason as a person is told it."""

    METHOD = "method", "{method} is never answered from the cache (RFC 9111 §4)"
    NOT_OF_ROUTE = "method", "the route answers {methods} from the cache, and not {method}"
    UNLISTED = "bypass", "no route lists it"
    NO_TTL = "bypass", "the route has no ttl, so nothing of it is stored (cache.mode: routes)"
    AUTHORIZED = (
        "bypass",
        "the client's own Authorization goes through on this route, and its answers are nobody else's (contract §7)",
    )
    NO_STORE = "request", "the request says no-store (RFC 9111 §5.2.1.5)"
    CONDITION = "request", "{detail} is for the origin to judge here (RFC 9110 §13, §14)"
    BODY = "bypass", "a {method} with a body is sent on"
    LONG_BODY = "bypass", f"its body is longer than the {LARGEST_KEYED_BODY} bytes that can be part of a key"
    UNREADABLE = "bypass", "its body cannot be part of a key: {detail}"
    CREDENTIAL = "bypass", "it has {detail!r}, a credential, which is never made part of what is stored"
    SIDE_EFFECT = "bypass", "it has {detail!r}, which the route's bypass_when (or every route) names for side effects"
    FOREIGN_RANGE = "bypass", "its Range is in a unit that only the origin knows"

    def __init__(self, word: str, text: str) -> None:
        self.word, self.text = word, text


@value
class Lookup:
    """A request that the store may answer, its primary key, and what of its body is part of that."""

    request: Request
    policy: RoutePolicy
    asked: Asked
    partition: str
    key: str
    content: Content | None


@value
class Pass:
    """A request that the cache has no part in."""

    policy: RoutePolicy
    asked: Asked
    why: Bypass
    detail: str = ""


def look_up(request: Request, partition: Callable[[], str]) -> Lookup | Pass:
    """The key under which the store may have the answer for the identity `partition`, or why it is not asked."""
    head, policy, fields = request.head, request.policy or UNLISTED, request.head.fields
    asked = cache_control.asked(fields) if "Cache-Control" in fields else NOTHING_ASKED
    method = "GET" if head.method == "HEAD" else head.method
    if method not in ("GET", "POST"):
        return Pass(policy, asked, Bypass.METHOD)
    if method not in policy.methods:
        return Pass(policy, asked, Bypass.NOT_OF_ROUTE)
    if not policy.stores:
        return Pass(policy, asked, Bypass.UNLISTED if policy is UNLISTED else Bypass.NO_TTL)
    if policy.pass_client_authorization and "Authorization" in fields:
        return Pass(policy, asked, Bypass.AUTHORIZED)
    if method != "POST" and request.body.length != 0:
        return Pass(policy, asked, Bypass.BODY)
    if asked.no_store:
        return Pass(policy, asked, Bypass.NO_STORE)
    for name in ("If-Match", "If-Unmodified-Since"):
        if name in fields:
            return Pass(policy, asked, Bypass.CONDITION, name)
    content = None
    if method == "POST":
        body = request.body
        if not isinstance(body, BytesBody) or len(body.data) > LARGEST_KEYED_BODY:
            return Pass(policy, asked, Bypass.LONG_BODY)
        try:
            content = keys.content_of(fields, body.data, policy.key)
        except Unreadable as fault:
            return Pass(policy, asked, Bypass.UNREADABLE, str(fault))
    if (content or "?" in head.target) and (found := keys.side_effects(head.target, policy.bypass_when, content)):
        is_credential = found in keys.CREDENTIAL_FIELDS
        return Pass(policy, asked, Bypass.CREDENTIAL if is_credential else Bypass.SIDE_EFFECT, found)
    identity = partition()
    return Lookup(request, policy, asked, identity, keys.primary_key(identity, head, policy.key, content), content)


class Cache:
    """The hop. Close it to end what it fetches in the background.

    `partition` gives the identity whose answers these are; `origin` is `scheme://authority` of the origin. `spared` says why the origin is to be
    spared requests for a path, '' if it is not; `is_to_be_asked`, whether it is time to find out if that still holds. `collapser` may be given
    to set how long a request waits for another's, `spools` to spill to disk what waits for slow clients, `usage` to count what is asked for,
    `soft_purges` to honour those.
    """

    def __init__(
        self,
        next: Hop,
        store: MemoryEntryStore,
        clock: Clock,
        mode: CacheMode,
        *,
        partition: Callable[[], str],
        origin: str = "",
        spared: Callable[[str], str] = lambda path: "",
        is_to_be_asked: Callable[[str], bool] = lambda path: False,
        observer: Observer = nobody,
        collapser: Collapser | None = None,
        spools: Spools | None = None,
        usage: Usage | None = None,
        soft_purges: SoftPurgeStore | None = None,
        identify: Callable[[], str] | None = None,
        most_terms: int = 8192,
    ) -> None:
        self._store = store
        self._clock = clock
        self.partition = partition
        self._origin = origin
        self.spared, self._is_to_be_asked = spared, is_to_be_asked
        self._observer = observer
        self.collapser = Collapser(clock, observer) if collapser is None else collapser
        self._usage = usage
        self._fetcher = Fetcher(next, store, self.collapser, clock, mode, spools or Spools(), observer, identify)
        self.terms = EntryTerms(mode, clock, soft_purges, most_terms)

    @property
    def mode(self) -> CacheMode:
        """How the whole cache behaves; may be set at any time."""
        return self._fetcher.mode

    @mode.setter
    def mode(self, mode: CacheMode) -> None:
        self._fetcher.mode = mode
        self.terms.set_mode(mode)

    def purged(self, selector: Selector) -> None:
        """Something was purged: no later request may get an answer to a question that was asked before."""
        self.collapser.release_where(selector)

    async def close(self) -> None:
        """Ends every fetch that is under way."""
        await self.collapser.close()

    def find(self, request: Request) -> tuple[Serve, bytes, float] | None:
        """What serves if a stored answer does, its body, and the time of the decision; None if they are not in memory, or `send` decides otherwise."""
        lookup = self._lookup(request)
        if isinstance(lookup, Pass) or not (stored := self._store.get_nowait(lookup.key)):
            return None
        for entry in stored:
            if entry.varies and request.lines is not None and varies_by(entry, TRACING):
                return None  # by a field that the head is without here
        now = self._clock.wall()
        plan = self.plan(lookup, stored, now)
        if not isinstance(plan, Serve):
            return None
        data = b"" if request.head.method == "HEAD" else self._store.read_nowait(plan.entry)
        if data is None:
            return None
        if plan.renew:
            self._renew(lookup, stored, plan)
        request.trail.cache = "stale" if plan.is_stale else "hit"
        return plan, data, now

    async def send(self, request: Request) -> Response:
        """The answer, with `Cache-Status`, and `Age` where due. Raises the refusals of the hops behind, and Offline."""
        try:
            lookup = self._lookup(request)
            return await (self._pass(request, lookup) if isinstance(lookup, Pass) else self._answer(lookup))
        except Refusal:
            request.trail.cache = "error"
            raise

    def _lookup(self, request: Request) -> Lookup | Pass:
        """See `look_up`; counts the request's use of the key, once."""
        lookup, trail, usage = look_up(request, self.partition), request.trail, self._usage
        if isinstance(lookup, Pass):
            return lookup
        key = lookup.key
        if usage is not None and trail.key != key and not request.background and not lookup.policy.origin_decides:
            if key in usage.counts:
                usage.counts[key] += 1
            else:
                usage.begin(key, request)
        trail.key = key
        return lookup

    def plan(self, lookup: Lookup, stored: Sequence[Entry], now: float) -> Plan:
        """What to do with the request, given all variants of its key."""
        head = lookup.request.head
        around = Circumstances(now, self._fetcher.mode.offline, ranged=head.method == "GET")
        plan = reuse.plan(lookup.asked, head.fields, stored, partial(self.terms.of, policy=lookup.policy), around)
        if isinstance(plan, Serve | Refuse) or not (why := self.spared(head.path)):
            return plan
        return reuse.unasked(plan, why, now, lookup.asked, renew=self._is_to_be_asked(head.path))

    # ---- requests that the cache has no part in ------------------------------------------------------------------------

    async def _pass(self, request: Request, passing: Pass) -> Response:
        policy, asked = passing.policy, passing.asked
        if asked.only_if_cached or self.mode.offline:
            raise Offline(_not_stored(request, "only-if-cached" if asked.only_if_cached else "cache.offline"))
        head = forwarded_conditions(_in_no_coding(request.head))
        if "If-Match" in head.fields:
            head = await self._matching(head, policy)
        writes = _is_unsafe(request, policy)
        if passing.why in (Bypass.SIDE_EFFECT, Bypass.CREDENTIAL):  # then it is a write by what it names
            writes = passing.detail == METHOD_FIELD and request.head.method not in SAFE_METHODS

        outcome = await self._fetcher.forward(
            request if head is request.head else request.with_head(head),
            partial(self._invalidate, request, policy) if writes else None,
        )
        member = cache_status.forwarded(passing.why.word, status=outcome.response.head.status)
        request.trail.cache = "pass"
        return passed(outcome.response, member, outcome.request_time, outcome.response_time)

    async def _matching(self, head: RequestHead, policy: RoutePolicy) -> RequestHead:
        found = matching(head, await self._fetcher.select(_key_of_get(self.partition(), head, policy)))
        if found is None:
            raise PreconditionFailed(
                "If-Match names only tags that passoproxy made, since the origin gives none: they tell stored answers apart and guard no "
                "write; send the request without If-Match"
            )
        return found

    async def _invalidate(self, request: Request, policy: RoutePolicy, response: Response) -> None:
        head = request.head
        partition, gone = request.trail.authorized_as or self.partition(), 0

        def key_of(target: str) -> str:
            return _key_of_get(partition, replace(head, target=target), policy)

        for selector in invalidated(head, key_of, response.head, self._origin, policy):
            self.purged(selector)
            gone += await self._fetcher.guarded(self._store.purge(selector, brief=True), 0)
        if gone:
            self._observer(EntriesPurged(gone, "invalidation"))

    # ---- requests that it may answer -----------------------------------------------------------------------------------

    async def _answer(self, lookup: Lookup) -> Response:
        request, policy, key = lookup.request, lookup.policy, lookup.key
        alone = False
        for round in range(_MOST_ROUNDS):
            if round and self.partition() != lookup.partition:  # another account has logged in meanwhile
                return await self.send(request)
            is_last = round == _MOST_ROUNDS - 1
            mark = self.collapser.mark
            asks_store = not is_last and (alone or not self._is_known_empty(lookup))
            stored = await self._fetcher.select(key) if asks_store else ()
            now = self._clock.wall()
            plan = self.plan(lookup, stored, now)
            if isinstance(plan, Serve):
                if (response := await self._served(request, plan, now)) is None:
                    continue  # its body is lost, and the entry with it
                if plan.renew:
                    self._renew(lookup, stored, plan)
                return response
            if isinstance(plan, Refuse):
                raise Offline(_not_stored(request, plan.why))
            if for_origin_alone(request.head):
                return await self._pass(request, Pass(policy, lookup.asked, Bypass.FOREIGN_RANGE))
            if not is_last and self.collapser.ended_since(mark, key):
                continue  # a fetch came to its end while the store was asked: its entry is there now
            keeps = request.head.method != "HEAD"
            question = Question(request, policy, lookup.asked, key, lookup.partition, stored, plan, keeps=keeps)
            alone = alone or is_last
            if RANGE in request.head.fields:
                question = self._ranged(question, alone)
            if answer := await self._fetched(question, alone=alone):
                return answer
            alone = True
        raise InternalError("a request that went alone came back without an answer")

    def _is_known_empty(self, lookup: Lookup) -> bool:
        """Whether a question is under way which began because the store had nothing: then the store need not be asked again to join it."""
        key = _fetch_key(lookup.key, (), lookup.request, lookup.policy)
        fetch = self.collapser.of(key)
        if fetch is None or fetch.outcome is not None or not fetch.from_nothing:
            return False
        self._store.keep_up()  # what was asked before a purge by another process is not joined after it
        return self.collapser.of(key) is fetch

    async def _served(self, request: Request, plan: Serve, now: float, member: str = "") -> Response | None:
        """The stored answer; None if its body is lost."""
        head_only = request.head.method == "HEAD"
        body = BytesBody() if head_only else await self._fetcher.read(plan.entry)
        return None if body is None else await _closing(body, from_store(request, plan, body, now, member))

    def _ranged(self, question: Question, alone: bool) -> Question:
        """The question of a request for ranges: on a route the whole is fetched, and parts are served from it. If that is not right, or was found
        not to be, the question goes on as it was asked, and what comes may be stored as a part.
        """
        head = question.request.head
        if not isinstance(question.plan, Fetch) or not is_ranged(head):
            return question
        whole = (
            question.policy.name
            and not alone
            and question.plan.part is None
            and self.collapser.may_share(question.crowd)
        )
        if whole or is_made(head.fields.get("If-Range", "")):
            return question
        return replace(question, as_asked=True)

    async def _fetched(self, question: Question, *, alone: bool) -> Response | None:
        """The answer after asking; None if there is none for this request, which then goes alone."""
        collapser = self.collapser
        fetch_key = _fetch_key(question.key, question.stored, question.request, question.policy)
        may_share = collapser.may_share(question.crowd)
        shares = may_share and not alone and not question.as_asked
        while shares and (fetch := collapser.of(fetch_key)) is not None:
            if (trace := question.request.trail.trace) is not None and fetch.trail.trace is not None:
                trace.joins(fetch.trail.trace)
            if fetch.stands_back and not question.request.background:
                fetch.trail.awaited = True  # it takes a client's turn at the origin from now on
            outcome = await collapser.joined(fetch)
            if outcome is None:
                return None
            if not (fetch.stands_back and isinstance(outcome, Exception)):
                return await self._answered_with(question, outcome, collapsed=True)
        head = question.request.head
        is_conditional = isinstance(question.plan, Fetch) and has_conditions(head.fields)
        if is_conditional and has_conditions(forwarded_conditions(head).fields):
            question, shares = replace(question, with_conditions=True), False
        if not question.as_asked and not may_share:
            question = replace(question, keeps=False)
        shares = shares and question.keeps
        fetch = collapser.start(
            fetch_key if shares else None,
            EntryFetch(self._fetcher, question).run,
            question.request.trail,
            from_nothing=not question.stored,
            stands_back=question.request.background,
        )
        return await self._answered_with(question, await collapser.outcome_of(fetch), collapsed=False)

    def _renew(self, lookup: Lookup, stored: Sequence[Entry], plan: Serve) -> None:
        """Renews what was just served, in the background."""
        request, policy = lookup.request, lookup.policy
        fetch_key = _fetch_key(lookup.key, stored, request, policy)
        # Whether it is back: a failure of a moment ago says nothing of that.
        asks = self._is_to_be_asked(request.head.path)
        if not self.collapser.may_renew(fetch_key, though_failed=asks) or self.mode.offline:
            return
        head = unconditional(replace(request.head, method=plan.entry.method))
        trail = Trail(route=policy.name, key=lookup.key)
        own = replace(request, head=head, trail=trail, on_interim=None, background=True)
        renewal = reuse.renewal(plan, stored)
        question = Question(own, policy, NOTHING_ASKED, lookup.key, lookup.partition, stored, renewal)
        self.collapser.start(fetch_key, EntryFetch(self._fetcher, question).run, own.trail, background=True)

    # ---- what becomes of a question ------------------------------------------------------------------------------------

    async def _answered_with(self, question: Question, outcome: Outcome, *, collapsed: bool) -> Response | None:
        """The answer; None if the outcome is none for this request, which waited for another's (`collapsed`)."""
        match outcome:
            case Stored():
                return await self._stored(question, outcome, collapsed)
            case Validated(entry, origin_status):
                if collapsed and not self._may_be_shared(question, entry):
                    return None
                now, agreed = self._clock.wall(), self.terms.of(entry, question.policy)
                member = _forwarded(question, origin_status, agreed, now, collapsed)
                return await self._served(question.request, Serve(entry, agreed, "validated"), now, member)
            case Forwarded(response, request_time, response_time, for_all):
                if collapsed and not for_all:
                    return None
                status = response.head.status
                if for_all:
                    if stale := await self._instead(question, Failure.ERROR, status, collapsed):
                        return stale
                    assert isinstance(response.body, BytesBody)  # each client gets its own
                    is_head = question.request.head.method == "HEAD"
                    head = response.head
                    if collapsed and "Set-Cookie" in head.fields:  # that is for who asked
                        head = head.with_fields(changed(head.fields, without=("Set-Cookie",)))
                    response = Response(head, BytesBody(b"" if is_head else response.body.data))
                question.request.trail.cache = "miss"
                member = cache_status.forwarded(question.plan.forward, status=status, collapsed=collapsed)
                return passed(response, member, request_time, response_time)
            case Exception():
                return await self._failed(question, outcome, collapsed)
            case _:
                assert_never(outcome)

    async def _stored(self, question: Question, outcome: Stored, collapsed: bool) -> Response | None:
        request, entry, shared = question.request, outcome.entry, outcome.body
        cuts = outcome.head.status == 200 and is_ranged(request.head)
        if isinstance(shared, bytes):
            if collapsed and not self._may_be_shared(question, entry):
                return None
            body: Body = BytesBody(shared)
            size, is_kept = len(shared), outcome.is_kept
        else:
            reader = shared.reader() if collapsed else outcome.first
            if reader is None:  # too late for its start: it will be in the store
                await self.collapser.in_time(shared.stored)
                return None
            if collapsed and not self._may_be_shared(question, entry):
                await reader.aclose()
                return None
            if cuts and needs_store(request.head, shared.length):
                await reader.aclose()
                await self.collapser.in_time(shared.stored)
                return None
            stale, status = None, outcome.head.status
            try:
                kept = await self._awaited(request, outcome, shared)
                if shared.is_broken:
                    stale = await self._instead(question, Failure.ERROR, status, collapsed)
            except asyncio.CancelledError:
                await reader.aclose()
                raise
            if stale is not None:
                await reader.aclose()
                return stale
            entry, body, size = kept or entry, reader, shared.length or 0
            is_kept = not shared.stored.done() or shared.stored.result() is not None
        now, agreed = self._clock.wall(), self.terms.of(entry, question.policy)
        member = _forwarded(question, outcome.head.status, agreed, now, collapsed, stored=is_kept)
        request.trail.cache = "miss"
        head = entry.head if collapsed else outcome.head
        response = streamed(request.head, head, entry, body, agreed.age(now), member, now)
        if cuts:
            response = in_parts(request.head, response, entry, size)
        return await _closing(body, response)

    def _may_be_shared(self, question: Question, entry: Entry) -> bool:
        """Whether a request that waited may have the answer to another's question (RFC 9111 §4): never the part that the other asked for."""
        if is_partial(entry) or not matches(entry, question.request.head.fields):
            return False
        return not self.terms.of(entry, question.policy).must_validate

    async def _awaited(self, request: Request, outcome: Stored, body: SharedBody) -> Entry | None:
        """The stored entry, if the answer is worth waiting for: it has no tag, and is asked for under a condition."""
        if "If-None-Match" not in request.head.fields or not gets_tag(outcome.entry):
            return None
        return body.stored.result() if await self.collapser.in_time(body.stored) else None

    async def _failed(self, question: Question, fault: Exception, collapsed: bool) -> Response:
        failure = Failure.ERROR if isinstance(fault, _ERRORS) else None
        if isinstance(fault, _UNAUTHORIZED):
            failure = Failure.UNAUTHORIZED
        if failure is not None and (stale := await self._instead(question, failure, None, collapsed)):
            return stale
        raise fault.with_traceback(None)

    async def _instead(
        self, question: Question, failure: Failure, status_seen: int | None, collapsed: bool
    ) -> Response | None:
        """The stale answer that serves in place of a failure, if one may."""
        if self.partition() != question.partition:  # another account has logged in meanwhile, and sees nothing of it
            return None
        now = self._clock.wall()
        plan = reuse.on_failure(question.plan.entry, question.plan.terms, failure, now, question.asked)
        if plan is None:
            return None
        member = cache_status.forwarded(
            "stale" if plan.is_stale else question.plan.forward,
            status=status_seen,
            collapsed=collapsed,
            ttl=plan.terms.fresh_until - now,
            detail=plan.detail,
        )
        return await self._served(question.request, plan, now, member)


# ---- answers -----------------------------------------------------------------------------------------------------------


def from_store(request: Request, plan: Serve, body: Body, now: float, member: str = "") -> Response:
    """A stored answer, or a 304 if the client has it: `Age` always, in whole seconds (RFC 9111 §5.1). `member` of Cache-Status tells of the
    question that came first, '' of a hit.

    Like `streamed` and `in_parts`, it closes no body: see `_closing`.
    """
    request.trail.from_store = True
    request.trail.cache = "stale" if plan.is_stale else "miss" if member else "hit"
    age, ttl = plan.clock(now)
    member = member or cache_status.hit(ttl, plan.detail)
    return answered(request.head, plan.entry, body, str(age), member, now)


def answered(head: RequestHead, entry: Entry, body: Body, age: str, member: str, now: float) -> Response:
    """A stored answer, or a 304 if the client has it, with these values of `Age` and of our member of `Cache-Status`."""
    fields = CIMultiDict(entry.fields)
    fields["Age"] = age
    response = _answered(head, entry.status, fields, entry, body, member, now)
    return in_parts(head, response, entry, entry.size) if RANGE in head.fields else response


def streamed(
    request: RequestHead, head: ResponseHead, entry: Entry, body: Body, age: float, member: str, now: float
) -> Response:
    """An answer that is being stored while it is sent; `Age` from one second on."""
    fields = CIMultiDict(head.fields)
    _tell_age(fields, age)
    return _answered(request, head.status, fields, entry, body, member, now)


def in_parts(request: RequestHead, response: Response, entry: Entry, size: int) -> Response:
    """The ranges that the request asks for of a complete answer, or of a stored part; the answer as it is if none are to be cut."""
    if response.head.status not in (200, 206) or not is_ranged(request):
        return response
    head, body = ranges.cut_out(request, response.head, entry, response.body, size)
    # The bytes of a part have no name: what outer hops remember, they remember of the whole.
    return Response(head, body, response.content_id if body is response.body else "")


def passed(response: Response, member: str, sent_at: float, came_at: float) -> Response:
    """An answer that the cache has no part in; `Age` from one second on."""
    head = response.head
    fields = CIMultiDict(head.fields)
    _tell_age(fields, initial_age(head.fields, sent_at, came_at))
    fields["Cache-Status"] = cache_status.appended(head.fields, member)
    return response.with_head(ResponseHead(head.status, CIMultiDictProxy(fields)))


def _answered(
    request: RequestHead, code: int, fields: CIMultiDict[str], entry: Entry, body: Body, member: str, now: float
) -> Response:
    told_before = "Cache-Status" in entry.fields
    fields["Cache-Status"] = cache_status.appended(entry.fields, member) if told_before else member
    if entry.made_etag and "ETag" not in fields:
        fields["ETag"] = entry.made_etag
    asked = request.fields
    if ("If-None-Match" in asked or "If-Modified-Since" in asked) and _holds_already(request, code, fields, now):
        # What describes content that is not sent is taken off by the outer hop, which looks at it first.
        if entry.size and "Content-Length" not in fields:
            fields["Content-Length"] = str(entry.size)
        return Response(ResponseHead(304, CIMultiDictProxy(fields)), BytesBody())
    head = ResponseHead(code, CIMultiDictProxy(fields))
    return Response(head, BytesBody() if request.method == "HEAD" else body, entry.digest)


def _forwarded(
    question: Question, status: int, agreed: Terms, now: float, collapsed: bool, *, stored: bool = False
) -> str:
    """The member of Cache-Status for an answer that is in the store, or on its way there, after a question."""
    detail, ttl = cache_status.OVERRIDE if agreed.overridden else "", agreed.fresh_until - now
    return cache_status.forwarded(
        question.plan.forward, status=status, stored=stored, collapsed=collapsed, ttl=ttl, detail=detail
    )


async def _closing(body: Body, response: Response) -> Response:
    """The response; `body`, of which it was made, is closed if a BytesBody stands in its place."""
    if response.body is not body and isinstance(response.body, BytesBody):
        await body.aclose()
    return response


def _tell_age(fields: CIMultiDict[str], age: float) -> None:
    if age >= 1.0:
        fields["Age"] = str(int(age))
    elif fields.get("Age", "0") != "0":  # what the origin wrote there is no number of seconds (RFC 9111 §5.1)
        del fields["Age"]


def _holds_already(request: RequestHead, code: int, fields: CIMultiDict[str], now: float) -> bool:
    if code not in (200, 203, 206) or request.method == "POST":
        return False
    return not_modified(request.fields, CIMultiDictProxy(fields), now)


# ---- what a request asks for -------------------------------------------------------------------------------------------


def for_origin_alone(head: RequestHead) -> bool:
    """Whether a request that no stored answer serves can be answered by the origin alone: it asks for a range in a unit not known here."""
    return head.method == "GET" and RANGE in head.fields and not in_bytes(head.fields)


def _fetch_key(key: str, stored: Sequence[Entry], request: Request, policy: RoutePolicy) -> object:
    """What requests that may wait for one another have in common: before an answer came, it may turn out to be for one cookie alone."""
    fields = request.head.fields
    cookies = tuple(fields.getall("Cookie", ())) if policy.origin_decides else ()
    return key, signature(stored, fields) if stored else (), cookies


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
