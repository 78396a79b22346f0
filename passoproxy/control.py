"""A running daemon's handle: what the admin API, the commands and signals can ask of it, with plain data as answers.

Knows no HTTP and no configuration; `compose` hands it the parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from typing import Protocol, cast
from urllib.parse import urlsplit

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.events import EntriesPurged
from passoproxy.core.http.request_line import parse_target
from passoproxy.core.http.syntax import print_date
from passoproxy.core.oauth.alert_levels import Level, deadline, outlook
from passoproxy.core.units import counted
from passoproxy.errors import BadRequest, CommandFailure, PassoproxyError, UsageFailure
from passoproxy.ports import Clock, EntryStore, Observer, StoreStats
from passoproxy.proxy.explain import Explainer
from passoproxy.tokens import messages
from passoproxy.tokens.commands import Export, Import, Logout, Refresh
from passoproxy.tokens.holder import Holder
from passoproxy.tokens.login import Logins, LoginTicket
from passoproxy.upkeep.change_probe import ChangeProbe
from passoproxy.upkeep.prefetch import Filled, Order, Prefetch, order_of

Data = dict[str, object]
KINDS = ("url", "prefix", "route", "tag")
"""What a purge and a listing can name, beside `all`."""

SLICE = 10
"""Entries of a long list after which others get their turn: a millisecond's work."""

COUNT_EVERY = 4.0
COUNT_SHARE = 50
"""Seconds between two counts of what is stored by route, for as long as they are asked for; and at least so many times what the last one took."""

LONGEST_LOOK = 0.5
"""Seconds for counting recordings; while their disk takes longer the numbers of the last look are shown."""

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Alarm(Protocol):
    """The watch over the runway, as far as it is asked from here."""

    @property
    def level(self) -> Level: ...

    async def test(self) -> Data: ...


class Gateway(Protocol):
    """What records or replays, as far as it is asked from here. `shown` has `mode`, `directory` and the number of `recordings`."""

    async def look(self) -> None: ...

    def shown(self) -> Data: ...


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is not whole. `of` is pair, origin, store, cache, gateway or daemon; `remedy` is what a person can do, '' for nothing."""

    of: str
    reason: str
    remedy: str = ""


def trouble_of(of: str, text: str) -> Trouble:
    """That of an error's text, which says what is wrong before its first `; `, and what to do behind it."""
    reason, _, remedy = text.partition("; ")
    return Trouble(of, reason, remedy)


@dataclass(slots=True)
class Facts:
    """What the daemon says of itself; `draining` and `starting` rule readiness.

    `cache_folder` is empty where entries live in the shared `store`.
    `workers` are the processes that serve, none if this one does.
    `ports` are those that the proxy listens on, `authorities` the names under which it may stand in a URL, with `base_path` before its
    paths; `takes_redirect`: a login's redirect arrives at the admin listener.
    """

    version: str
    started_at: float
    pid: int = 0
    config: str = ""
    state_folder: str = ""
    origin: str = ""
    max_cache_bytes: int = 0
    cache_folder: str = ""
    store: str = ""
    cache_mode: str = "routes"
    offline: bool = False
    listeners: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    takes_redirect: bool = False
    workers: tuple[int, ...] = ()
    authorities: tuple[str, ...] = ()
    base_path: str = ""
    starting: bool = True
    draining: bool = False
    store_stats: StoreStats = field(default_factory=StoreStats)
    store_fault: str = ""
    tiers: tuple[StoreStats, ...] = ()


def _nobody_waits(selector: Selector) -> None:
    """No request is under way that a purge could count for."""


class Control:
    """The handle. Methods raise children of PassoproxyError whose text is for the person who asked."""

    def __init__(
        self,
        *,
        facts: Facts,
        keeper: Holder,
        logins: Logins,
        store: EntryStore,
        explainer: Explainer,
        prefetch: Prefetch,
        soften: Callable[[Selector], Awaitable[None]],
        probing: ChangeProbe | None = None,
        clock: Clock,
        observer: Observer,
        recent: Callable[[], Mapping[str, object]],
        asked: Callable[[str], tuple[str, str] | None] = lambda request: None,
        routes: Callable[[], Sequence[RoutePolicy]] = tuple,
        origin: Callable[[], Mapping[str, object]],
        troubles: Callable[[], Iterable[Trouble]] = tuple,
        tiers: Callable[[], Iterable[StoreStats]] = tuple,
        purged: Callable[[Selector], None] = _nobody_waits,
        reload: Callable[[], Awaitable[Data]],
        alarm: Alarm | None = None,
        gateway: Gateway | None = None,
    ) -> None:
        self.facts = facts
        self._keeper, self._logins, self._store, self._explainer = keeper, logins, store, explainer
        self._clock, self._observer, self._recent = clock, observer, recent
        self._origin, self._troubles = origin, troubles
        self._tiers, self._tell_purged = tiers, purged
        self.reloading, self._alarm, self._gateway = reload, alarm, gateway
        self._prefetch, self._soften, self._probing = prefetch, soften, probing
        self._asked, self._routes = asked, routes
        self._stored: Mapping[str, int] = {}
        self._count_at = float("-inf")
        self._standing: dict[str, tuple[str, float]] = {}
        self._followers = 0

    # ---- standing ----------------------------------------------------------------------------------------------------

    def identity(self) -> Data:
        """Which daemon this is, for the commands that name it."""
        facts = self.facts
        return {"pid": facts.pid, "config": facts.config or None, "state_directory": facts.state_folder}

    def status(self) -> Data:
        """Everything for people and dashboards, as `/api/status` shows it; without secrets."""
        facts, lately, now = self.facts, dict(self._recent()), self._clock.wall()
        _, state, troubles = self._judged(strict=False)
        token = self._keeper.snapshot()
        return {
            "version": facts.version,
            "state": state,
            "reason": _told(state, troubles),
            "troubles": [asdict(each) for each in troubles],
            "started_at": facts.started_at,
            "uptime_seconds": max(0.0, now - facts.started_at),
            "now": now,
            "token": asdict(token),
            "alert": {"level": self.level.word, "deadline": deadline(token)},
            "since": self.since(),
            "cache": self._cache() | ({"change_probe": self._probing.shown()} if self._probing else {}),
            "origin": {"url": facts.origin, **self._origin()},
            "routes": [self._route(policy) for policy in self._routes()],
            **lately,
            "listeners": list(facts.listeners),
            "workers": list(facts.workers),
            "config": facts.config,
            **({} if self._gateway is None else {"gateway": self._gateway.shown()}),
        }

    def since(self) -> dict[str, float]:
        """When chain, access token and origin came into their present states, as this and earlier looks since the start saw it."""
        now, token = self._clock.wall(), self._keeper.snapshot()
        for name, word in (
            ("chain", token.chain),
            ("access", token.access),
            ("origin", str(self._origin().get("state"))),
        ):
            if self._standing.get(name, ("", 0.0))[0] != word:
                self._standing[name] = word, now
        return {name: min(at, now) for name, (_, at) in self._standing.items()}  # the clock may have been set back

    def _route(self, policy: RoutePolicy) -> Data:
        return {
            "name": policy.name,
            "match": policy.match,
            "entries": self._stored.get(policy.name),
            "ttl": policy.ttl,
            "stale_while_revalidate": policy.stale_while_revalidate,
            "stale_if_error": policy.stale_if_error,
            "stale_if_unauthorized": policy.stale_if_unauthorized,
        }

    @property
    def level(self) -> Level:
        """The alert's level."""
        return Level.NONE if self._alarm is None else self._alarm.level

    def outlook(self) -> str:
        """The runway and the alert's level in one line: the same for probes, the service manager and people."""
        return outlook(self._keeper.snapshot(), self.level)

    async def test_alerts(self) -> Data:
        """Sends a test alert through every hook; see `telemetry.alerts.tried`. Raises ConfigurationError if there is no hook."""
        assert self._alarm is not None  # every daemon has one
        return await self._alarm.test()

    def readiness(self, strict: bool) -> tuple[bool, str, str]:
        """Whether requests can be answered, the word for it (ready, degraded, unready) and why not, if not whole.

        The word is that of the worst of pair, origin and store; `strict` asks for a healthy chain too, where there is one.
        """
        is_ready, word, troubles = self._judged(strict)
        return is_ready, word, _told(word, troubles)

    def _judged(self, strict: bool) -> tuple[bool, str, list[Trouble]]:
        facts = self.facts
        if facts.starting or facts.draining:
            return False, "unready", [Trouble("daemon", "starting" if facts.starting else "draining")]
        if self._gateway is not None and (shown := self._gateway.shown())["mode"] == "replay":
            faults = cast(list[str], shown["invalid"])
            said = f"replaying {counted(cast(int, shown['recordings']), 'recording')} of {shown['directory']}"
            return True, "degraded" if faults else "ready", [Trouble("gateway", each) for each in (said, *faults[:1])]
        is_ready, word, pair = self._pairs_readiness(strict)
        troubles = [*pair, *self._troubles()]
        if facts.store_fault and all(each.of != "store" for each in troubles):
            troubles.append(trouble_of("store", facts.store_fault))
        return is_ready, "degraded" if troubles and word == "ready" else word, troubles

    def _pairs_readiness(self, strict: bool) -> tuple[bool, str, list[Trouble]]:
        facts, token = self.facts, self._keeper.snapshot()
        whole = token.chain == "healthy" or token.grant == "static"
        good = whole or not strict
        if facts.offline:
            remedy = "set cache.offline to false to ask the origin"
            if facts.store_stats.entries:
                return good, "degraded", [Trouble("cache", "offline: only stored answers are served", remedy)]
            return False, "unready", [Trouble("cache", "offline, and nothing is stored", remedy)]
        if token.access == "valid":
            if whole and token.saved:
                return True, "ready", []
            said = "the pair lives in memory only" if whole else token.reason
            return good, "degraded", [Trouble("pair", said, token.remedy)]
        if facts.store_stats.entries:
            return good, "degraded", [Trouble("pair", f"{token.reason}; stored answers are served", token.remedy)]
        return False, "unready", [Trouble("pair", token.reason, token.remedy)]

    def _cache(self) -> Data:
        facts = self.facts
        return {
            "entries": facts.store_stats.entries,
            "bytes": facts.store_stats.bytes_used,
            "max_bytes": facts.max_cache_bytes,
            "memory_bytes": sum(tier.bytes_used for tier in facts.tiers if tier.tier == "memory"),
            "evictions": facts.store_stats.evictions,
            "mode": facts.cache_mode,
            "offline": facts.offline,
            "fault": facts.store_fault,
            "directory": facts.cache_folder or None,
            "store": facts.store or None,
        }

    async def look_at_store(self) -> StoreStats:
        """Counts anew what is stored, and what is recorded; the numbers of `status` are those of the last look."""
        if self._gateway is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_LOOK):
                    await self._gateway.look()
        try:
            self.facts.store_stats = await self._store.stats()
        except PassoproxyError as fault:
            self.facts.store_fault = f"the cache's store cannot be used: {fault}"
            return self.facts.store_stats  # a store that is away is a miss, and no reason to show nothing
        self.facts.store_fault = ""
        self.facts.tiers = tuple(self._tiers())
        return self.facts.store_stats

    async def look_at_routes(self) -> None:
        """Counts anew how much is stored of each route, if that was long ago: it reads the whole index."""
        began, names = self._clock.monotonic(), [policy.name for policy in self._routes()]
        if began < self._count_at:
            return
        self._count_at = float("inf")  # one at a time
        try:
            with suppress(PassoproxyError):  # `look_at_store` tells of a store that is away
                self._stored = await self._store.by_route(names)
        finally:
            took = self._clock.monotonic() - began
            self._count_at = began + took + max(COUNT_EVERY, COUNT_SHARE * took)

    # ---- the pair ----------------------------------------------------------------------------------------------------

    async def refresh(self, force: bool = False) -> Data:
        """Refreshes now; answers when the new token is in use."""
        return asdict(await self._keeper.execute(Refresh(force)))

    async def import_pair(self, document: bytes, force: bool = False) -> Data:
        """Takes a pair over that was issued elsewhere; `force` unproved, also if one lives."""
        return asdict(await self._keeper.execute(Import(document, force)))

    async def export_pair(self) -> Data:
        """The pair in clear, as the token endpoint answers it. From then on another program renews it."""
        return await self._keeper.execute(Export())

    async def changes(self) -> AsyncIterator[Data]:
        """What a process that follows this one may know, now and at every change. Holds the access token."""
        self._followers += 1
        try:
            async for followed in self._keeper.changes():
                yield messages.document_of(followed)
        finally:
            self._followers -= 1

    @property
    def is_followed(self) -> bool:
        """Whether another process reads `changes`: it would go on with the pair at once."""
        return self._followers > 0

    async def execute(self, message: bytes) -> Data:
        """Carries out a command of a process that follows this one; the reply, also for one that failed."""
        return await messages.answered(self._keeper, message)

    async def logout(self, keep_cache: bool = False) -> Data:
        """Revokes and erases the pair, and ends its cache partition. Raises CommandFailure if there is none."""
        done = await self._keeper.execute(Logout())
        purged = 0 if keep_cache else await self._purged(Selector(partition=done.partition))
        return {"revocation": done.revocation, "purged": purged}

    async def begin_login(self, cookie: str | None = None) -> LoginTicket:
        """Begins a login; its `url` is where a person approves. `cookie` is the browser's, None for a command's login (contract §8)."""
        return await self._logins.begin(cookie)

    def takes_redirect(self) -> bool:
        """Whether the browser that the provider redirects arrives here."""
        return self.facts.takes_redirect

    async def complete_login(self, query: str, cookie: str | None = None) -> Data:
        """Takes the redirect's query, and the cookie that came with it; answers when the new pair is in use."""
        return asdict(await self._logins.complete(query, cookie))

    async def leave_logins(self, within: float) -> None:
        """Ends the waits for logins, and gives logins at the provider so many seconds to end."""
        await self._logins.leave(within)

    async def wait_login(self, state: str, timeout: float) -> Data | None:
        """The outcome of a login, None after `timeout` seconds without one. Raises what the login ended in."""
        found = await self._logins.wait(state, timeout)
        return None if found is None else asdict(found)

    # ---- the cache ---------------------------------------------------------------------------------------------------

    async def cache_stats(self) -> Data:
        """How much is stored."""
        await self.look_at_store()
        return self._cache()

    def selector(self, chosen: Mapping[str, object]) -> Selector:
        """What `{"url"|"prefix"|"route"|"tag": …}` means, `{}` and `{"all": true}` everything. Raises UsageFailure."""
        named = {name: value for name, value in chosen.items() if name in KINDS and value is not None}
        if unknown := set(chosen) - {*KINDS, "all", "data", "soft"}:
            raise UsageFailure(
                f"{min(unknown)!r} names nothing that can be chosen; choose by {', '.join(KINDS)} or all"
            )
        if len(named) + bool(chosen.get("all")) > 1:
            raise UsageFailure(f"choose by one of {', '.join(KINDS)} or all, not by several")
        for name, value in named.items():
            if not isinstance(value, str) or not value:
                raise UsageFailure(f"{name} must be a text that is not empty")
        if "url" in named:
            target = self.target_of(str(named["url"]))
            data = chosen.get("data")
            return Selector(
                target=target,
                key=None if data is None else self._key("POST", target, str(data).encode("utf-8", "surrogateescape")),
            )
        if "prefix" in named:
            return Selector(prefix=self._target_like(str(named["prefix"])))
        given = {name: str(value) for name, value in named.items()}
        return Selector(route=given.get("route"), tag=given.get("tag"))

    def target_of(self, url: str) -> str:
        """Path and query of a URL with the proxy's or the origin's authority (without `server.base_path`, or the path of `upstream.url`), or of a
        path. Raises UsageFailure for another's, and for what the proxy takes for no target."""
        target = self._target_like(url)
        try:
            parse_target("GET", target)
        except BadRequest as fault:
            raise UsageFailure(f"{url!r}: {fault.detail}") from fault
        return target

    def _target_like(self, url: str) -> str:
        """The same of a URL that may end anywhere."""
        if url.startswith("/") and not url.startswith("//"):
            return url.partition("#")[0]
        try:
            scheme, netloc, *_ = urlsplit(url)
        except ValueError:
            scheme, netloc = "", ""
        if not scheme or not netloc:
            raise UsageFailure(f"{url!r} is neither a path that begins with / nor a whole URL")
        named, origin, own = {netloc.lower(), _authority(url)}, _authority(self.facts.origin), self.facts.authorities
        if not named & {origin, *own}:
            known = ", ".join(sorted({origin, *own}))
            raise UsageFailure(f"{url!r} is neither the proxy's nor the origin's; known are {known}")
        # not what urlsplit made of it: a lone `?` at the end counts
        path = url.partition("://")[2].partition("#")[0][len(netloc) :]
        before = self.facts.base_path if named.intersection(own) else urlsplit(self.facts.origin).path.rstrip("/")
        below = path.removeprefix(before)
        if before and (below == path or below[:1] not in ("", "/", "?")):
            raise UsageFailure(f"{url!r} is not below {before}, where every path begins")
        return below if below.startswith("/") else f"/{below}"

    async def exceeds(self, selector: Selector, limit: int) -> bool:
        """Whether more than `limit` entries are meant."""
        if (await self._store.stats()).entries <= limit:
            return False
        count = 0
        async with aclosing(self._listed(selector)) as stored:
            async for _ in stored:
                count += 1
                if count > limit:
                    return True
        return False

    async def entries(self, selector: Selector, limit: int) -> AsyncIterator[Data]:
        """What is stored, at most `limit` of it, in no order."""
        count = 0
        async with aclosing(self._listed(selector)) as stored:
            async for entry in stored:
                if count == limit:
                    return
                count += 1
                yield self._shown(entry)

    async def _listed(self, selector: Selector) -> AsyncGenerator[Entry, None]:
        """What is stored, with a turn for others in between: a store gives many at once."""
        count = 0
        # every store's listing is a generator; left half read it would hold its cursor until it is collected
        async with aclosing(cast(AsyncGenerator[Entry, None], self._store.entries(selector))) as listed:
            async for entry in listed:
                yield entry
                count += 1
                if count % SLICE == 0:
                    await asyncio.sleep(0)

    async def show(self, url: str, method: str, data: bytes | None) -> Data | None:
        """One stored entry with its fields, the youngest variant; None if nothing is stored."""
        target = self.target_of(url)
        method = "GET" if method == "HEAD" else method
        key = self._key(method, target, data) if data is not None else None
        named = Selector(target=target, key=key)
        found = await self._of_method(method, named)
        if not found and (other := self._otherwise_spelled(method, named)) is not None:
            found = await self._of_method(method, other)
        if not found:
            return None
        found.sort(key=lambda entry: entry.response_time, reverse=True)
        shown = self._shown(found[0])
        return shown | {"variants": len(found), "fields": [list(pair) for pair in found[0].fields.items()]}

    async def _of_method(self, method: str, selector: Selector) -> list[Entry]:
        return [entry async for entry in self._store.entries(selector) if entry.method == method]

    async def purge(self, what: Mapping[str, object]) -> int:
        """Removes what is meant, or with `soft` ends its freshness; has taken effect when it answers, with how many entries are meant.

        Raises UsageFailure for what means nothing.
        """
        if not any(what.get(name) for name in (*KINDS, "all")):
            raise UsageFailure(f"say what to purge: one of {', '.join(KINDS)}, or all: true")
        named = self.selector(what)
        other = self._otherwise_spelled("GET", named)
        meant = (named,) if other is None else (named, other)
        return await self._softened(*meant) if what.get("soft") else await self._purged(*meant)

    def _otherwise_spelled(self, method: str, named: Selector) -> Selector | None:
        """What answers a URL, under whatever spelling of its query it was stored; None if no URL alone is named, or it is a pass."""
        if named.target is None or named.key is not None:
            return None
        key = self._explainer.key(method, named.target, None)
        return None if key is None else Selector(key=key)

    async def _softened(self, *meant: Selector) -> int:
        for each in meant:
            await self._soften(each)
            self._tell_purged(each)
        count = (await self.look_at_store()).entries if meant == (Selector(),) else await self._count(meant)
        self._observer(EntriesPurged(count, "soft purge"))
        return count

    async def _count(self, meant: Sequence[Selector]) -> int:
        """How many entries that is; a target comes first, and what has it is not counted again."""
        count = 0
        for each in meant:
            async for entry in self._listed(each):
                count += each is meant[0] or entry.target != meant[0].target
        return count

    async def explain(self, described: object) -> Data:
        """Why the request that is described would be a hit, a miss or a pass; asks and changes nothing. Raises UsageFailure."""
        order = self._order(described)
        return asdict(await self._explainer.explain(order.head, order.body))

    async def why(self, request: str) -> Data | None:
        """The explanation of a request that was answered lately, as of now; None if it is not remembered. `request` is its `request_id`.

        Of a request only method and target are remembered: neither fields nor a body. Raises UsageFailure.
        """
        asked = self._asked(request)
        return None if asked is None else await self.explain({"method": asked[0], "url": asked[1]})

    async def warm(self, described: Sequence[object]) -> AsyncGenerator[Data, None]:
        """Fetches what is described, where it is not fresh already; what came of each, as it comes. Its `number` counts from 0, or is the
        description's own. Nobody need ask to the end.
        """
        orders = list[Order]()
        for at, each in enumerate(described):
            number = each.get("number") if isinstance(each, Mapping) else at
            number = number if type(number) is int else at
            try:
                orders.append(self._order(each, number))
            except UsageFailure as fault:
                url = each.get("url") if isinstance(each, Mapping) else each
                yield asdict(Filled(number, str(url), "failed", detail=str(fault)))
        async with aclosing(self._prefetch.fill(orders)) as filling:
            async for filled in filling:
                yield asdict(filled)

    def _order(self, described: object, number: int = 0) -> Order:
        named = next(iter(self.facts.authorities), "localhost")
        return order_of(described, self.target_of, named, number)

    async def _purged(self, *meant: Selector) -> int:
        count = 0
        for each in meant:
            try:
                count += await self._store.purge(each)
            finally:
                # A request from here on must not be given an answer that was asked for before (contract §7).
                self._tell_purged(each)
        self._observer(EntriesPurged(count, "command"))
        await self.look_at_store()
        return count

    def _key(self, method: str, target: str, data: bytes | None) -> str:
        key = self._explainer.key(method, target, data)
        if key is None:
            raise CommandFailure(
                f"{method} {target} with this body is never stored: no route lists it, or the body cannot be a key"
            )
        return key

    def _shown(self, entry: Entry) -> Data:
        age, left = self._explainer.of_entry(entry)
        return {
            "url": entry.target,
            "method": entry.method,
            "status": entry.status,
            "route": entry.route,
            "tags": list(entry.tags),
            "age": round(age, 3),
            "ttl": round(left, 3),
            "size": entry.size,
            "stored_at": entry.stored_at,
            "stored": print_date(entry.stored_at),
            "private": entry.private,
            "key": entry.key,
            "varies": [list(pair) for pair in entry.varies],
        }

    # ---- the daemon --------------------------------------------------------------------------------------------------

    async def reload(self) -> Data:
        """Re-reads the configuration: what changed live, and what needs a restart. A broken one changes nothing and raises."""
        return await self.reloading()


def _told(word: str, troubles: list[Trouble]) -> str:
    """The reason for `word` in one line: without an answer for clients that of the pair, and what to do."""
    if word == "unready" and troubles[0].of == "pair":
        return "; ".join(filter(None, (troubles[0].reason, troubles[0].remedy)))
    return "; ".join(each.reason for each in troubles)


def _authority(url: str) -> str:
    """The authority of a URL in lower case, without its scheme's own port."""
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))


async def keep_looking(control: Control, clock: Clock, also: Callable[[], None], every: float = 5.0) -> None:
    """Looks at the store now and again, so that readiness need not wait for it, and at what `also` looks at."""
    while True:
        await control.look_at_store()
        control.since()
        also()
        await clock.sleep(every)
