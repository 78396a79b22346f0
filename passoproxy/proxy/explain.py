"""An explanation as a value, and the words for its parts: what the route, the key, the origin and the policy say of a request.

What is decided, and by which rule, is `explaining`'s question; nothing here asks a store or a clock.

Explaining: why a request would be a hit, a miss or a pass (contract §2 `explain`), by the very rules that `caching` goes by.

The origin is asked nothing, and nothing changes: entries are listed, not selected, so that an explanation keeps none of them alive. The
words are in `explanation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from passoproxy.core.cache import cache_control, cache_status, reuse
from passoproxy.core.cache import cache_status as status
from passoproxy.core.cache import key as keys
from passoproxy.core.cache.cache_control import Asked, Said, said_by
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.expiry import WITH_COOKIE, Terms, outdated_at
from passoproxy.core.cache.freshness import with_policy
from passoproxy.core.cache.key import Content, Unreadable, name_of, normalised, pieces
from passoproxy.core.cache.policy import CacheMode, RoutePolicy, for_cookies, variable
from passoproxy.core.cache.reuse import Circumstances, Fetch, Plan, Refuse, Revalidate, Serve
from passoproxy.core.http.forwarding import admitted
from passoproxy.core.http.messages import RequestHead, changed
from passoproxy.core.http.paths import decoded_once
from passoproxy.core.routes import UNLISTED, RouteTable
from passoproxy.errors import Refusal
from passoproxy.ports import BytesBody, Clock, EntryStore, Request
from passoproxy.proxy.cache import LARGEST_KEYED_BODY, for_origin_alone, sent_on
from passoproxy.proxy.ranges import is_ranged
from passoproxy.proxy.representation import OWN

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
    """The arithmetic for the selected answer: seconds, and moments in epoch seconds; None where a window does not exist.

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


def having(found: Explanation, *reasons: str) -> Explanation:
    """The same with further reasons."""
    return replace(found, reasons=(*found.reasons, *reasons))


def of_route(head: RequestHead, policy: RoutePolicy, mode: CacheMode) -> str:
    """Which route it is, and why."""
    path = decoded_once(head.path)
    if policy is UNLISTED:
        return f"no route matches {path}, and cache.mode is routes: it is forwarded and never stored"
    if not policy.name and mode.http:
        return f"no route matches {path}: RFC 9111 alone judges (cache.mode: http)"
    return f"route {policy.name!r} is the first whose pattern {policy.match} matches {path}"


def of_policy(policy: RoutePolicy) -> dict[str, object]:
    """What the route wants, as the configuration has it, defaults left out."""
    plain = RoutePolicy()
    shown = (
        "methods", "ttl", "override", "stale_while_revalidate", "stale_if_error", "stale_if_unauthorized", "refresh_ahead", "private", "tags",
    )  # fmt: skip
    return {name: getattr(policy, name) for name in shown if getattr(policy, name) != getattr(plain, name)}


def taken_away(head: RequestHead, leaving: RequestHead) -> list[str]:
    """The names of request fields that do not leave."""
    return sorted({name for name in head.fields if name not in leaving.fields}, key=str.lower)


def why_passed(head: RequestHead, policy: RoutePolicy, asked: Asked) -> str:
    """The first thing that stands in the way, for people; that something does is `caching`'s finding."""
    fields = head.fields
    method = "GET" if head.method == "HEAD" else head.method
    if method not in ("GET", "POST"):
        return f"{head.method} is never answered from the cache (RFC 9111 §4)"
    if method not in policy.methods:
        return f"the route answers {', '.join(policy.methods)} from the cache, and not {method}"
    if not policy.stores:
        return (
            "no route lists it"
            if policy is UNLISTED
            else "the route has no ttl, so nothing of it is stored (cache.mode: routes)"
        )
    if policy.pass_client_authorization and "Authorization" in fields:
        return (
            "the client's own Authorization goes through on this route, and its answers are nobody else's (contract §7)"
        )
    if asked.no_store:
        return "the request says no-store (RFC 9111 §5.2.1.5)"
    for name in ("If-Match", "If-Unmodified-Since"):
        if name in fields:
            return f"{name} is for the origin to judge here (RFC 9110 §13, §14)"
    return f"a {head.method} with a body is sent on"


def of_key(head: RequestHead, policy: RoutePolicy, content: Content | None) -> str:
    """What the key is made of."""
    parts = ["identity", "method", "path"]
    if head.query is not None:
        parts.append("query as the route has it")
    parts += [f"{name.lower()}" for name in policy.key.headers]
    if content is not None:
        parts.append("canonical body")
    return f"the key is made of {', '.join(parts)} (RFC 9111 §2)"


def key_parts_of(partition: str, head: RequestHead, policy: RoutePolicy, content: Content | None) -> dict[str, object]:
    """The key's parts as they were taken."""
    parts: dict[str, object] = {
        "identity": partition[:16],
        "method": "GET" if head.method == "HEAD" else head.method,
        "path": head.path,
    }
    if head.query is not None:
        gone = {variable(name) for name in policy.key.ignore_query}
        parts["query"] = normalised(head.query, policy.key)
        parts["query_ignored"] = sorted(
            {name for piece in pieces(head.query) if variable(name := name_of(piece)) in gone}
        )
        parts["query_sorted"] = policy.key.sort_query
    if policy.key.headers:
        parts["headers"] = {
            name.lower(): shown(name.lower(), ", ".join(head.fields.getall(name)) if name in head.fields else None)
            for name in policy.key.headers
        }
    if content is not None:
        parts["body"] = {
            "media_type": content.media_type,
            "canonical_sha256": sha256(content.canonical_form).hexdigest(),
            "canonical_bytes": len(content.canonical_form),
            "ignored": list(policy.key.ignore_body_fields),
        }
    return parts


def shown(name: str, value: str | None) -> str | None:
    """The value of a request field, where it is no credential."""
    return "(not shown)" if value is not None and name in _HIDDEN else value


def asked_for(name: str, head: RequestHead) -> str | None:
    """The value of a request's field as it stands there, where it may be shown."""
    return shown(name, ", ".join(head.fields.getall(name)) if name in head.fields else None)


def directives_of(said: Said) -> dict[str, object]:
    """What is said of an answer, the defaults left out."""
    members = said.directives.items()
    found: dict[str, object] = {"directives": {name: True if value is None else value for name, value in members}}
    for name in ("expires", "ttl_of_route", "stale_while_revalidate", "stale_if_error", "stale_if_unauthorized"):
        value = getattr(said, name)
        if value not in (None, 0.0):
            found[name] = value if value != float("-inf") else "a date that is none"
    return found


def changes(before: dict[str, object], after: dict[str, object], policy: RoutePolicy, *, overridden: bool) -> list[str]:
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
    if windows:
        reasons.append(f"the route adds {', '.join(windows)}")
    return reasons


def freshness_of(agreed: Terms, now: float, ended: float | None) -> Freshness:
    """The arithmetic, as `terms` has it."""

    def moment(value: float) -> float | None:
        return value if agreed.fresh_until < value < float("inf") else None

    return Freshness(
        age=round(agreed.age(now), 3),
        lifetime=agreed.lifetime.seconds,
        basis=agreed.lifetime.basis,
        fresh_until=agreed.fresh_until,
        fresh_for=round(agreed.fresh_until - now, 3),
        ended_early_at=ended,
        must_validate=agreed.must_validate,
        refresh_ahead_from=agreed.refresh_from if agreed.refresh_from < float("inf") else None,
        stale_while_revalidate_until=moment(agreed.revalidate_until),
        stale_if_error_until=moment(agreed.error_until),
        stale_if_unauthorized_until=moment(agreed.unauthorized_until),
    )


def decided(found: Explanation, plan: Plan, now: float) -> Explanation:
    """The explanation with its end: what `plan` comes to."""
    match plan:
        case Serve(_, terms, why, detail=detail, renew=renew):
            found = having(found, f"the stored answer serves: {_cited(why)}")
            if renew:
                found = having(found, "it is renewed in the background meanwhile")
            return replace(found, outcome=HIT, cache_status=status.hit(int((terms.fresh_until - now) // 1), detail))
        case Revalidate(_, _, named, forward, why):
            text = f"the origin is asked whether it still holds, by {_validators(named)}: {why} (RFC 9111 §4.3)"
            return replace(having(found, text), outcome=MISS, cache_status=status.forwarded(forward))
        case Fetch(forward, why):
            section = "§4.1" if forward == "vary-miss" else "§4"
            text = f"the origin is asked for it: {why} (RFC 9111 {section})"
            return replace(having(found, text), outcome=MISS, cache_status=status.forwarded(forward))
        case Refuse(why):
            text = f"504 offline, for the origin must not be asked: {why} (RFC 9111 §5.2.1.7, contract §6)"
            return replace(having(found, text), outcome=MISS, cache_status="")


def _cited(why: str) -> str:
    """A reason with its section, where it names none itself."""
    return why if "RFC" in why else f"{why} (RFC 9111 §4)"


def _validators(named: Sequence[Entry]) -> str:
    tags = [tag for entry in named if (tag := entry.fields.get("ETag", ""))]
    return ", ".join(tags) if tags else "its Last-Modified"


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
        asked = cache_control.asked(leaving.fields)
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
        if name := keys.side_effects(leaving.target, policy.bypass_when, content):
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
        return replace(found, cache_status=cache_status.forwarded(word))

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
