"""Why a request would be a hit, a miss or a pass (contract §2 `explain`), by the rules that the cache hop goes by, and in words.

The origin is asked nothing, and nothing changes: entries are listed, not selected, so that an explanation keeps none of them alive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from hashlib import sha256

from passoproxy.core.cache import cache_status
from passoproxy.core.cache.cache_control import Said, said_by
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.expiry import WITH_COOKIE, outdated_at
from passoproxy.core.cache.freshness import with_policy
from passoproxy.core.cache.key import Content, name_of, normalised, pieces
from passoproxy.core.cache.policy import CacheMode, RoutePolicy, for_cookies, variable
from passoproxy.core.cache.reuse import Fetch, Plan, Refuse, Revalidate, Serve
from passoproxy.core.http.forwarding import admitted
from passoproxy.core.http.messages import NO_FIELDS, Fields, RequestHead, changed, fields_of
from passoproxy.core.http.paths import decoded_once
from passoproxy.core.routes import UNLISTED, RouteTable
from passoproxy.errors import Refusal
from passoproxy.ports import BytesBody, Clock, EntryStore, Outlook, Request
from passoproxy.proxy.cache import Bypass, Cache, Lookup, Pass, for_origin_alone, look_up
from passoproxy.proxy.representation import OWN
from passoproxy.values import dataclass

_HIDDEN = frozenset({"authorization", "proxy-authorization", "cookie", "cookie2", "x-passoproxy-key"})
"""Request fields whose values are credentials, and are not shown."""

HIT, MISS, PASS = "hit", "miss", "pass"


@dataclass(frozen=True, slots=True)
class Variant:
    """A stored answer of the key. `varies` has name, stored value and the request's; `age` and `fresh_for` are seconds."""

    status: int
    varies: tuple[tuple[str, str | None, str | None], ...]
    is_selected: bool
    age: float
    fresh_for: float
    size: int
    stored_at: float
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Freshness:
    """The arithmetic for the selected answer: seconds, and moments in epoch seconds; None if a window does not exist.

    `ended_early_at` is the soft purge that ended its freshness.
    """

    age: float
    lifetime: float
    basis: str
    fresh_until: float
    fresh_for: float
    ended_early_at: float | None
    must_validate: bool
    refresh_ahead_from: float | None
    stale_while_revalidate_until: float | None
    stale_if_error_until: float | None
    stale_if_unauthorized_until: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that decides on a request. `outcome` is hit, miss or pass; `reasons` is the way there in a person's words.

    `cache_status` is our member of `Cache-Status` as far as it is known before the origin answers. `origin_said` and `counts` hold the
    directives of the selected answer before and after the route had its word.
    """

    outcome: str
    method: str
    target: str
    route: str
    key: str | None
    reasons: tuple[str, ...]
    cache_status: str = ""
    pattern: str = ""
    policy: dict[str, object] = field(default_factory=dict)
    key_parts: dict[str, object] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    origin_said: dict[str, object] = field(default_factory=dict)
    counts: dict[str, object] = field(default_factory=dict)
    freshness: Freshness | None = None
    now: float = 0.0


class Explainer:
    """Says by the rules of `cache` what becomes of requests, and what holds for stored entries.

    `table` gives the routes of the moment; `admits` raises a Refusal for a method or path that is not let in.
    """

    def __init__(
        self,
        store: EntryStore,
        cache: Cache,
        table: Callable[[], RouteTable],
        admits: Callable[[RequestHead], None],
        clock: Clock,
    ) -> None:
        self._store, self._cache, self._table, self._admits, self._clock = store, cache, table, admits, clock

    def of_entry(self, entry: Entry) -> tuple[float, float]:
        """Age, and seconds of freshness that are left (negative: stale for so long)."""
        now = self._clock.wall()
        agreed = self._cache.terms.made(entry, self._table().find(entry.target.partition("?")[0]))
        return agreed.age(now), agreed.fresh_until - now

    def key(self, method: str, target: str, body: bytes | None) -> str | None:
        """The primary key of a request with a JSON body; None if it would be a pass."""
        head = RequestHead(
            method, target, NO_FIELDS if body is None else fields_of([("Content-Type", "application/json")])
        )
        request = Request(head, BytesBody(body or b""), policy=self._table().find(head.path))
        lookup = look_up(request, self._cache.partition)
        return lookup.key if isinstance(lookup, Lookup) else None

    async def outlook(self, head: RequestHead, body: bytes) -> Outlook:
        """See `Outlook`. Raises EntryStoreFailure."""
        found = await self.explain(head, body)
        fresh = found.freshness is not None and found.freshness.fresh_for > 0.0 and not found.freshness.must_validate
        return Outlook(found.outcome, found.reasons[-1], fresh, self._inward(head, body))

    def _inward(self, head: RequestHead, body: bytes) -> Request:
        """The request as the hops before the cache make it."""
        policy = self._table().policy_of(head)
        leaving = admitted(head, pass_cookies=policy.pass_cookies, pass_authorization=policy.pass_client_authorization)
        own = changed(leaving.fields, having=[("Accept-Encoding", OWN)])
        return Request(leaving.with_fields(own), BytesBody(body), policy=policy)

    async def explain(self, head: RequestHead, body: bytes) -> Explanation:
        """What would become of the request. Raises EntryStoreFailure if the store cannot be asked."""
        cache, request, now = self._cache, self._inward(head, body), self._clock.wall()
        policy, inward, mode = request.policy or UNLISTED, request.head, cache.mode
        reasons = [_of_route(head, policy, mode)]
        found = Explanation(
            PASS,
            head.method,
            head.target,
            policy.name,
            None,
            (),
            pattern="" if policy is UNLISTED or not policy.name else policy.match,
            policy=_of_policy(policy),
            now=now,
        )

        def passed(passing: Pass, before: str = "") -> Explanation:
            why = passing.why
            methods = ", ".join(policy.methods)
            reasons.append(before + why.text.format(method=head.method, methods=methods, detail=passing.detail))
            if passing.asked.only_if_cached or mode.offline:
                reasons.append("the origin must not be asked: 504 offline (contract §6)")
                return replace(found, reasons=tuple(reasons))
            return replace(found, reasons=tuple(reasons), cache_status=cache_status.forwarded(why.word))

        if policy.origin_decides:
            reasons.append(
                "it has a Cookie, which goes through: the origin's own word on freshness counts, and not the route's (contract §7)"
            )
        if gone := sorted({name for name in head.fields if name not in inward.fields}, key=str.lower):
            reasons.append(f"taken away before anything is judged (contract §5): {', '.join(gone)}")
        try:
            self._admits(head)
        except Refusal as refused:
            return replace(found, reasons=(*reasons, f"refused with {refused.status} {refused.code}: {refused.detail}"))
        lookup = look_up(request, cache.partition)
        if isinstance(lookup, Pass):
            return passed(lookup)

        # Listed and not selected: a selection would count as a use.
        stored = [entry async for entry in self._store.entries(Selector(key=lookup.key))]
        stored.sort(key=lambda entry: entry.response_time, reverse=True)
        plan = cache.plan(lookup, stored, now)
        if why := cache.spared(head.path):
            reasons.append(f"{why}, so stored answers serve as after a failure (contract §5)")
        reasons.append(_of_key(inward, policy, lookup.content))
        chosen = getattr(plan, "entry", None)
        found = replace(
            found,
            key=lookup.key,
            key_parts=_key_parts(lookup.partition, inward, policy, lookup.content),
            variants=tuple(self._variant(entry, inward, policy, now, chosen) for entry in stored),
        )
        if chosen is not None:
            found = self._with_arithmetic(found, chosen, policy, reasons)
        if not isinstance(plan, Serve | Refuse) and for_origin_alone(inward):
            return passed(Pass(policy, lookup.asked, Bypass.FOREIGN_RANGE), f"{plan.why}, and ")
        outcome, member, last = _outcome(plan, now)
        return replace(found, outcome=outcome, cache_status=member, reasons=(*reasons, *last))

    def _variant(
        self, entry: Entry, head: RequestHead, policy: RoutePolicy, now: float, chosen: Entry | None
    ) -> Variant:
        agreed = self._cache.terms.made(entry, policy)
        return Variant(
            entry.status,
            tuple((name, _shown(name, value), _field(name, head.fields)) for name, value in entry.varies),
            entry is chosen,
            round(agreed.age(now), 3),
            round(agreed.fresh_until - now, 3),
            entry.size,
            entry.stored_at,
            entry.fields.get("ETag", entry.made_etag),
        )

    def _with_arithmetic(
        self, found: Explanation, entry: Entry, policy: RoutePolicy, reasons: list[str]
    ) -> Explanation:
        """The explanation with what was said of the selected answer, and until when it is fresh."""
        terms, now, mode = self._cache.terms, found.now, self._cache.mode
        agreed, ended = terms.made(entry, policy), terms.ended(entry)
        if entry.note(WITH_COOKIE) is not None:
            policy = for_cookies(policy)
            reasons.append("it came with a Cookie that the route passes on, so the origin's own word counts for it")
        own = said_by(entry.status, entry.fields, response_time=entry.response_time, shared=mode.shared)
        before, after = _directives(own), _directives(with_policy(own, policy))
        reasons += _changes(before, after, policy, overridden=agreed.overridden)
        reasons.append(
            f"age {agreed.age(now):.0f} s of {agreed.lifetime.seconds:.0f} s ({agreed.lifetime.basis}; RFC 9111 §4.2)"
        )
        if ended is not None and ended <= agreed.fresh_until:
            reasons.append("a soft purge ended its freshness, since it was asked for before that")
        if outdated_at(entry) is not None:
            reasons.append("an answer of the origin ended its freshness (RFC 9111 §4.3.5)")

        def window(until: float) -> float | None:
            return until if agreed.fresh_until < until < float("inf") else None

        freshness = Freshness(
            age=round(agreed.age(now), 3),
            lifetime=agreed.lifetime.seconds,
            basis=agreed.lifetime.basis,
            fresh_until=agreed.fresh_until,
            fresh_for=round(agreed.fresh_until - now, 3),
            ended_early_at=ended,
            must_validate=agreed.must_validate,
            refresh_ahead_from=agreed.refresh_from if agreed.refresh_from < float("inf") else None,
            stale_while_revalidate_until=window(agreed.revalidate_until),
            stale_if_error_until=window(agreed.error_until),
            stale_if_unauthorized_until=window(agreed.unauthorized_until),
        )
        return replace(found, origin_said=before, counts=after, freshness=freshness)


# ---- words -------------------------------------------------------------------------------------------------------------


def _of_route(head: RequestHead, policy: RoutePolicy, mode: CacheMode) -> str:
    path = decoded_once(head.path)
    if policy is UNLISTED:
        return f"no route matches {path}, and cache.mode is routes: it is forwarded and never stored"
    if not policy.name and mode.http:
        return f"no route matches {path}: RFC 9111 alone judges (cache.mode: http)"
    return f"route {policy.name!r} is the first whose pattern {policy.match} matches {path}"


def _of_policy(policy: RoutePolicy) -> dict[str, object]:
    """What the route wants, as the configuration has it, defaults left out."""
    plain = RoutePolicy()
    shown = (
        "methods", "ttl", "override", "stale_while_revalidate", "stale_if_error", "stale_if_unauthorized", "refresh_ahead", "private", "tags",
    )  # fmt: skip
    return {name: getattr(policy, name) for name in shown if getattr(policy, name) != getattr(plain, name)}


def _of_key(head: RequestHead, policy: RoutePolicy, content: Content | None) -> str:
    parts = ["identity", "method", "path"]
    if head.query is not None:
        parts.append("query as the route has it")
    parts += [name.lower() for name in policy.key.headers]
    if content is not None:
        parts.append("canonical body")
    return f"the key is made of {', '.join(parts)} (RFC 9111 §2)"


def _key_parts(partition: str, head: RequestHead, policy: RoutePolicy, content: Content | None) -> dict[str, object]:
    method = "GET" if head.method == "HEAD" else head.method
    parts: dict[str, object] = {"identity": partition[:16], "method": method, "path": head.path}
    if head.query is not None:
        gone = {variable(name) for name in policy.key.ignore_query}
        names = {name_of(piece) for piece in pieces(head.query)}
        parts["query"] = normalised(head.query, policy.key.ignore_query, policy.key.sort_query)
        parts["query_ignored"] = sorted(name for name in names if variable(name) in gone)
        parts["query_sorted"] = policy.key.sort_query
    if policy.key.headers:
        parts["headers"] = {name.lower(): _field(name.lower(), head.fields) for name in policy.key.headers}
    if content is not None:
        parts["body"] = {
            "media_type": content.media_type,
            "canonical_sha256": sha256(content.canonical_form).hexdigest(),
            "canonical_bytes": len(content.canonical_form),
            "ignored": list(policy.key.ignore_body_fields),
        }
    return parts


def _shown(name: str, value: str | None) -> str | None:
    return "(not shown)" if value is not None and name in _HIDDEN else value


def _field(name: str, fields: Fields) -> str | None:
    """The value of a request field, if it is no credential."""
    return _shown(name, ", ".join(fields.getall(name)) if name in fields else None)


def _directives(said: Said) -> dict[str, object]:
    """What is said of an answer, the defaults left out."""
    given = {name: True if value is None else value for name, value in said.directives.items()}
    found: dict[str, object] = {"directives": given}
    for name in ("expires", "ttl_of_route", "stale_while_revalidate", "stale_if_error", "stale_if_unauthorized"):
        value = getattr(said, name)
        if value not in (None, 0.0):
            found[name] = value if value != float("-inf") else "a date that is none"
    return found


def _changes(
    before: dict[str, object], after: dict[str, object], policy: RoutePolicy, *, overridden: bool
) -> list[str]:
    """What the origin says, and what the route makes of it."""
    given = before["directives"]
    assert isinstance(given, dict)
    words = ", ".join(name if value is True else f"{name}={value}" for name, value in given.items())
    reasons = [f"the origin says {words}" if words else "the origin says nothing about caching"]
    if "ttl_of_route" in after:
        how = "in place of that" if policy.override else "where it is silent"
        against = ", against the origin's word (detail=OVERRIDE)" if overridden else ""
        reasons.append(f"the route's ttl of {after['ttl_of_route']:g} s counts {how}{against} (contract §7)")
    windows = [
        f"{name} {after[name]:g} s" for name in after if name.startswith("stale_") and after[name] != before.get(name)
    ]
    return [*reasons, f"the route adds {', '.join(windows)}"] if windows else reasons


def _outcome(plan: Plan, now: float) -> tuple[str, str, list[str]]:
    """What the plan comes to: the outcome, our member of Cache-Status, and the last reasons."""
    match plan:
        case Serve(_, terms, why, detail=detail, renew=renew):
            reasons = [f"the stored answer serves: {why if 'RFC' in why else f'{why} (RFC 9111 §4)'}"]
            if renew:
                reasons.append("it is renewed in the background meanwhile")
            return HIT, cache_status.hit(int((terms.fresh_until - now) // 1), detail), reasons
        case Revalidate(_, _, named, forward, why):
            tags = ", ".join(tag for entry in named if (tag := entry.fields.get("ETag", ""))) or "its Last-Modified"
            text = f"the origin is asked whether it still holds, by {tags}: {why} (RFC 9111 §4.3)"
            return MISS, cache_status.forwarded(forward), [text]
        case Fetch(forward, why):
            section = "§4.1" if forward == "vary-miss" else "§4"
            text = f"the origin is asked for it: {why} (RFC 9111 {section})"
            return MISS, cache_status.forwarded(forward), [text]
        case Refuse(why):
            text = f"504 offline, for the origin must not be asked: {why} (RFC 9111 §5.2.1.7, contract §6)"
            return MISS, "", [text]
