"""Explaining: why a request would be a hit, a miss or a pass (contract §2 `explain`), by the very rules that `caching` goes by.

The origin is asked nothing, and nothing changes: entries are listed, not selected, so that an explanation keeps none of them alive. The
words are in `explanation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from passoproxy.core.cache import directives, reuse, status
from passoproxy.core.cache import key as keys
from passoproxy.core.cache.canonical import Unreadable
from passoproxy.core.cache.directives import Asked
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.key import Content
from passoproxy.core.cache.overriding import with_policy
from passoproxy.core.cache.policy import CacheMode, RoutePolicy, for_cookies
from passoproxy.core.cache.reuse import Circumstances, Refuse, Serve
from passoproxy.core.cache.said import said_by
from passoproxy.core.cache.terms import WITH_COOKIE, Terms, outdated_at
from passoproxy.core.http.forwarding import admitted
from passoproxy.core.http.messages import RequestHead, changed
from passoproxy.core.routes import UNLISTED, RouteTable
from passoproxy.errors import Refusal
from passoproxy.ports import BytesBody, Clock, EntryStore, Request
from passoproxy.proxy.caching import LARGEST_KEYED_BODY, for_origin_alone, sent_on
from passoproxy.proxy.encoding import OWN
from passoproxy.proxy.explanation import (
    PASS,
    Explanation,
    Variant,
    asked_for,
    changes,
    decided,
    directives_of,
    freshness_of,
    having,
    key_parts_of,
    of_key,
    of_policy,
    of_route,
    shown,
    taken_away,
    why_passed,
)
from passoproxy.proxy.parts import is_ranged


@dataclass(frozen=True, slots=True)
class Judges:
    """What the road decides by at this moment: a reload replaces any of it.

    `admits` raises a Refusal for a method or path that is not let in; `spared` says why the origin is not to be asked for a path now, '' where
    it may be; `terms` are those with soft purges, `ended` when one ended freshness.
    """

    table: Callable[[], RouteTable]
    mode: Callable[[], CacheMode]
    partition: Callable[[], str]
    admits: Callable[[RequestHead], None]
    spared: Callable[[str], str]
    terms: Callable[[Entry, RoutePolicy, CacheMode], Terms]
    ended: Callable[[Entry], float | None]


@dataclass(frozen=True, slots=True)
class Outlook:
    """In short, what would become of a request: `outcome`, and the last of the reasons for it. `is_fresh`: a stored answer is.

    `request` is what the cache would be asked, when it had come down the road.
    """

    outcome: str
    why: str
    is_fresh: bool
    request: Request


class Explaining:
    """Explains requests by what is stored in `store`."""

    def __init__(self, store: EntryStore, judges: Judges, clock: Clock) -> None:
        self._store, self._judges, self._clock = store, judges, clock

    async def outlook(self, head: RequestHead, body: bytes) -> Outlook:
        """See `Outlook`. Raises EntryStoreFailure."""
        found = await self.explain(head, body)
        fresh = found.freshness is not None and found.freshness.fresh_for > 0.0 and not found.freshness.must_validate
        return Outlook(found.outcome, found.reasons[-1], fresh, self._inward(head, body))

    def _inward(self, head: RequestHead, body: bytes) -> Request:
        """The request as the hops before the cache make it."""
        policy = self._judges.table().policy_of(head)
        leaving = admitted(head, pass_cookies=policy.pass_cookies, pass_authorization=policy.pass_client_authorization)
        own = changed(leaving.fields, having=[("Accept-Encoding", OWN)])
        return Request(leaving.with_fields(own), BytesBody(body), policy=policy)

    async def explain(self, head: RequestHead, body: bytes) -> Explanation:
        """What would become of the request. Raises EntryStoreFailure where the store cannot be asked."""
        judges, request = self._judges, self._inward(head, body)
        policy, leaving = request.policy or UNLISTED, request.head
        asked = directives.asked(leaving.fields)
        so_far = Explanation(
            PASS,
            head.method,
            head.target,
            policy.name,
            None,
            (of_route(head, policy, judges.mode()),),
            pattern="" if policy is UNLISTED or not policy.name else policy.match,
            policy=of_policy(policy),
            now=self._clock.wall(),
        )
        if policy.origin_decides:
            so_far = having(
                so_far,
                "it has a Cookie, which goes through: the origin's own word on freshness counts, and not the route's (contract §7)",
            )
        if gone := taken_away(head, leaving):
            so_far = having(so_far, f"taken away before anything is judged (contract §5): {', '.join(gone)}")
        try:
            judges.admits(head)
        except Refusal as refused:
            return having(so_far, f"refused with {refused.status} {refused.code}: {refused.detail}")
        if word := sent_on(request, policy, asked):
            return self._passed(so_far, asked, word, why_passed(leaving, policy, asked))
        content = None
        if head.method == "POST":
            if len(body) > LARGEST_KEYED_BODY:
                return self._passed(
                    so_far,
                    asked,
                    "bypass",
                    f"its body is longer than the {LARGEST_KEYED_BODY} bytes that can be part of a key",
                )
            try:
                content = keys.content_of(leaving.fields, body, policy.key)
            except Unreadable as fault:
                return self._passed(so_far, asked, "bypass", f"its body cannot be part of a key: {fault}")
        if name := keys.side_effects(leaving, policy.bypass_when.names, content):
            return self._passed(
                so_far,
                asked,
                "bypass",
                _why_bypassed(name),
            )
        return await self._looked_up(so_far, leaving, policy, asked, content)

    def _passed(self, so_far: Explanation, asked: Asked, word: str, why: str) -> Explanation:
        found = having(so_far, why)
        if asked.only_if_cached or self._judges.mode().offline:
            return having(found, "the origin must not be asked: 504 offline (contract §6)")
        return replace(found, cache_status=status.forwarded(word))

    async def _looked_up(
        self, so_far: Explanation, head: RequestHead, policy: RoutePolicy, asked: Asked, content: Content | None
    ) -> Explanation:
        judges, now = self._judges, so_far.now
        mode, partition = judges.mode(), judges.partition()
        key = keys.primary_key(partition, head, policy.key, content)
        # Listed and not selected: a selection would count as a use.
        stored = [entry async for entry in self._store.entries(Selector(key=key))]
        stored.sort(key=lambda entry: entry.response_time, reverse=True)
        around = Circumstances(now, mode.offline, ranged="Range" in head.fields and is_ranged(head))
        plan = reuse.plan(asked, head.fields, stored, lambda entry: judges.terms(entry, policy, mode), around)
        if not isinstance(plan, Serve | Refuse) and (why := judges.spared(head.path)):
            plan = reuse.unasked(plan, why, now, asked)
            so_far = having(so_far, f"{why}, so stored answers serve as after a failure (contract §5)")
        chosen = getattr(plan, "entry", None)
        found = replace(
            having(so_far, of_key(head, policy, content)),
            key=key,
            key_parts=key_parts_of(partition, head, policy, content),
            variants=tuple(self._variant(entry, head, policy, mode, now, chosen) for entry in stored),
        )
        if chosen is not None:
            found = self._of_chosen(found, chosen, judges.terms(chosen, policy, mode), policy, mode)
        if not isinstance(plan, Serve | Refuse) and for_origin_alone(head):
            return self._passed(
                found, asked, "bypass", f"{plan.why}, and its Range is in a unit that only the origin knows"
            )
        return decided(found, plan, now)

    def _variant(
        self, entry: Entry, head: RequestHead, policy: RoutePolicy, mode: CacheMode, now: float, chosen: Entry | None
    ) -> Variant:
        agreed = self._judges.terms(entry, policy, mode)
        return Variant(
            entry.status,
            tuple((name, shown(name, value), asked_for(name, head)) for name, value in entry.varies),
            entry is chosen,
            round(agreed.age(now), 3),
            round(agreed.fresh_until - now, 3),
            entry.size,
            entry.stored_at,
            entry.fields.get("ETag", entry.made_etag),
        )

    def _of_chosen(
        self, found: Explanation, entry: Entry, agreed: Terms, policy: RoutePolicy, mode: CacheMode
    ) -> Explanation:
        if entry.note(WITH_COOKIE) is not None:
            policy = for_cookies(policy)
            found = having(
                found, "it came with a Cookie that the route passes on, so the origin's own word counts for it"
            )
        own = said_by(entry.status, entry.fields, response_time=entry.response_time, shared=mode.shared)
        said = with_policy(own, policy)
        now, ended = found.now, self._judges.ended(entry)
        before, after = directives_of(own), directives_of(said)
        found = having(
            replace(found, origin_said=before, counts=after, freshness=freshness_of(agreed, now, ended)),
            *changes(before, after, policy, overridden=agreed.overridden),
            f"age {agreed.age(now):.0f} s of {agreed.lifetime.seconds:.0f} s ({agreed.lifetime.basis}; RFC 9111 §4.2)",
        )
        if ended is not None and ended <= agreed.fresh_until:
            found = having(found, "a soft purge ended its freshness, since it was asked for before that")
        if outdated_at(entry) is not None:
            found = having(found, "an answer of the origin ended its freshness (RFC 9111 §4.3.5)")
        return found


def _why_bypassed(name: str) -> str:
    if name in keys.CREDENTIAL_FIELDS:
        return f"it has {name!r}, a credential, which is never made part of what is stored"
    return f"it has {name!r}, which the route's bypass_when (or every route) names for side effects"
