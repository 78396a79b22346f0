"""The inward half of caching: makes each client's answer of what is stored, or of how the flight landed that it waited for.

Which stale answer may fall in after a failure is decided in `core.cache.reuse`; who asks the origin, and how, is `fetching`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import assert_never

from passoproxy.core.cache import reuse, status
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.reuse import Failure, Serve
from passoproxy.core.cache.terms import Terms
from passoproxy.core.cache.terms import terms as terms_of
from passoproxy.core.cache.variants import matches
from passoproxy.errors import (
    AuthorizationRequired,
    CoolingDown,
    OriginInvalid,
    OriginTimeout,
    OriginUnreachable,
    Overloaded,
    TokenUnavailable,
)
from passoproxy.ports import Body, BytesBody, Clock, Request, Response
from passoproxy.proxy import answering
from passoproxy.proxy.errands import Errand
from passoproxy.proxy.fetching import Fetching
from passoproxy.proxy.flights import Failed, Flights, Handed, Landed, Landing, Shared, Told
from passoproxy.proxy.parts import is_ranged, needs_store

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
        member = member or status.hit(plan.terms.fresh_until - now, plan.detail)
        return await answering.from_store(request.head, entry, body, plan.terms.age(now), member, now)

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
                member = status.forwarded(errand.plan.forward, status=head.status, collapsed=collapsed)
                return answering.passed(response, member, landing.request_time, landing.response_time)
            case Landed(entry, origin_status):
                return await self._validated(errand, entry, origin_status, collapsed)
            case Shared():
                return await self._streamed(errand, landing, collapsed)
            case Handed(response):
                if collapsed:
                    return Again.ALONE
                errand.request.trail.cache = "miss"
                member = status.forwarded(errand.plan.forward, status=response.head.status)
                return answering.passed(response, member, landing.request_time, landing.response_time)
            case _:
                assert_never(landing)

    async def _validated(self, errand: Errand, entry: Entry, origin_status: int, collapsed: bool) -> Response | Again:
        if collapsed and not self._may_be_shared(errand, entry):
            return Again.ALONE
        now = self._clock.wall()
        agreed = self.terms.of(entry, errand.policy)
        member = status.forwarded(
            errand.plan.forward,
            status=origin_status,
            collapsed=collapsed,
            ttl=agreed.fresh_until - now,
            detail=status.OVERRIDE if agreed.overridden else "",
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
        member = status.forwarded(
            errand.plan.forward,
            status=landing.head.status,
            stored=True,
            collapsed=collapsed,
            ttl=agreed.fresh_until - now,
            detail=status.OVERRIDE if agreed.overridden else "",
        )
        request.trail.cache = "miss"
        head = entry.head if collapsed else landing.head
        body: Body = reader
        if kept is not None and (whole := shared.whole) is not None:
            await reader.aclose()
            body = BytesBody(whole)
        entry = kept or entry
        response = await answering.streamed(request.head, head, entry, body, agreed.age(now), member, now)
        return await answering.in_parts(request.head, response, entry, shared.length or 0) if cuts else response

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
        member = status.forwarded(
            "stale" if plan.is_stale else errand.plan.forward,
            status=status_seen,
            collapsed=collapsed,
            ttl=plan.terms.fresh_until - now,
            detail=plan.detail,
        )
        return await self.served(errand.request, plan, now, member)
