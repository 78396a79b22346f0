"""Alerts by the configuration: the hooks that it names, over the way out of the moment, and the test that needs no daemon.

What makes the cache operable: explanations, soft purges, filling it, and the change probe of the passolution preset.

Who is told of events, and what the daemon says of itself.

All parts of a daemon, put together.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from aiohttp import web

from passoproxy import __version__
from passoproxy.compose.pipeline import LiveAdmission, Outward, Pipeline, build_pipeline, limits_of, named_keys
from passoproxy.compose.stores import (
    Fleet,
    LiveProvider,
    build_asking,
    build_fleet,
    build_keeper,
    cover_of,
    entry_store,
)
from passoproxy.compose.topology import Crew, Part
from passoproxy.config.load import Loaded
from passoproxy.config.settings import Settings
from passoproxy.config.types import TcpAddress
from passoproxy.control import Control, Facts
from passoproxy.core import passolution
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.key import Unreadable, content_of, primary_key
from passoproxy.core.events import Event
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.core.oauth.alert_levels import Level, Thresholds
from passoproxy.core.oauth.identity import client_of
from passoproxy.core.redaction import Redactor
from passoproxy.errors import BodyBroken, ConfigurationError, Refusal
from passoproxy.folders import own_folder
from passoproxy.host import descriptors
from passoproxy.host.clock import SystemClock
from passoproxy.host.remote_owner import ControlOwner
from passoproxy.outbound.dial import endpoint_of
from passoproxy.outbound.webhook import Webhook
from passoproxy.ports import AlarmMemory, AlertHook, Clock, Observer, PairNews, nobody
from passoproxy.proxy import codecs
from passoproxy.proxy.cache import SoftPurgeStore, SoftPurgeTerms
from passoproxy.proxy.explain import Explaining, Explanation, Judges
from passoproxy.server.acceptor import Descriptors
from passoproxy.server.admin.app import admin_application, control_application, probe_application
from passoproxy.server.admin.auth import AdminAccess
from passoproxy.server.admin.page_sessions import PageSessions
from passoproxy.server.admin.runner import AdminRunner
from passoproxy.server.connection import Connections
from passoproxy.server.handler import Handler
from passoproxy.stores.entries.tiered import TieredStore
from passoproxy.stores.pair.alert_state import AlarmFile
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.stores.pair.encryption import Cover
from passoproxy.telemetry.alerts import NO_HOOK, AlertPolicy, Alerts, CommandHook, alert, tried
from passoproxy.telemetry.logs import LogObserver, Logs
from passoproxy.telemetry.metrics import Metrics, MetricsObserver, Reading
from passoproxy.telemetry.recent import Recent
from passoproxy.tokens.holder import Holder
from passoproxy.tokens.login import Logins
from passoproxy.upkeep.change_probe import ChangeProbe, Surroundings, Watched
from passoproxy.upkeep.prefetch import Conditions, Filled, Order, Prefetch, RunwayRevalidation
from passoproxy.upkeep.revocation import remove_revoked


def alert_policy(loaded: Loaded, outward: Outward, environ: Mapping[str, str]) -> AlertPolicy:
    """`alerts` of this configuration."""
    given = loaded.settings.alerts
    thresholds = Thresholds(given.runway.log, given.runway.notify, given.runway.page)
    return AlertPolicy(thresholds, given.repeat, tuple(_hooks(loaded, outward, environ)))


def build_alerts(
    loaded: Loaded,
    outward: Outward,
    environ: Mapping[str, str],
    keeper: PairNews,
    clock: Clock,
    observer: Observer,
    memory: AlarmMemory,
) -> Alerts:
    """The watch over `keeper`'s pair."""
    policy = alert_policy(loaded, outward, environ)
    return Alerts(keeper, policy, clock, observer, memory, instance=socket.gethostname(), version=__version__)


class Leveled(Protocol):
    """Whoever knows how short the runway is."""

    @property
    def level(self) -> Level: ...


def build_warming(
    pipeline: Pipeline, alerts: Leveled, keeper: PairNews, clock: Clock, observer: Observer
) -> RunwayRevalidation:
    """What revalidates the most used entries when `alerts` see the runway shrink."""
    return RunwayRevalidation(
        pipeline.cache,
        most_used=pipeline.usage.most_used,
        policy_of=lambda path: pipeline.router.table.find(path),
        level=lambda: alerts.level,
        read=keeper.snapshot,
        clock=clock,
        observe=observer,
    )


async def tried_alone(loaded: Loaded, environ: Mapping[str, str]) -> list[dict[str, object]]:
    """A test alert where no daemon runs: what came back from each hook. Raises ConfigurationError where there is none."""
    policy = alert_policy(loaded, Outward(loaded, environ), environ)
    if not policy.hooks:
        raise NO_HOOK
    return await tried(policy.hooks, alert("test", None, socket.gethostname(), __version__))


def _hooks(loaded: Loaded, outward: Outward, environ: Mapping[str, str]) -> list[AlertHook]:
    given, hooks = loaded.settings.alerts, list[AlertHook]()
    if given.command is not None:
        hooks.append(CommandHook(given.command, environ=environ))
    if loaded.secrets.alerts_webhook is not None:
        timeout = loaded.settings.upstream.connect_timeout
        url = loaded.secrets.alerts_webhook
        hooks.append(Webhook(url, tls=outward.tls, connect_timeout=timeout, proxy_for=outward.proxy_for))
    return hooks


_LARGEST_PLAIN = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Operating:
    """The parts; `probing` is None without the preset whose service can be asked."""

    softening: SoftPurgeTerms
    explaining: Explaining
    filling: Prefetch
    probing: ChangeProbe | None

    async def explain(self, head: RequestHead, body: bytes) -> Explanation:
        """See `Explaining.explain`."""
        return await self.explaining.explain(head, body)

    def fill(self, orders: Iterable[Order]) -> AsyncGenerator[Filled, None]:
        """See `Prefetch.fill`."""
        return self.filling.fill(orders)

    async def soften(self, selector: Selector) -> None:
        """See `SoftPurgeTerms.soften`."""
        await self.softening.soften(selector)

    def probe(self) -> dict[str, object] | None:
        """See `ChangeProbe.shown`."""
        return None if self.probing is None else self.probing.shown()

    def tasks(self) -> list[tuple[str, Coroutine[object, object, None]]]:
        """What is to run as long as the daemon, with names."""
        return [] if self.probing is None else [("change probe", self.probing.run())]


def watched_by(loaded: Loaded) -> Watched | None:
    """Who is to hear what is stored, so that its changes can be asked for; None where the provider has no such service."""
    return Watched() if loaded.settings.provider == "passolution" else None


def hearing(observer: Observer, watched: Watched | None) -> Observer:
    """An observer that tells `watched` too."""
    if watched is None:
        return observer
    heed = watched.heed

    def observe(event: Event) -> None:
        observer(event)
        heed(event)

    return observe


def build_operating(
    pipeline: Pipeline,
    store: TieredStore,
    kept: SoftPurgeStore,
    admission: LiveAdmission,
    partition: Callable[[], str],
    clock: Clock,
    observer: Observer,
    watched: Watched | None,
    leads: Callable[[], bool],
) -> Operating:
    """Over a pipeline that is built; `kept` has the soft purges of `store`.

    `watched` hears what is stored, None where no change can be asked for; `leads` tells whether this is the one process of those that share a
    pair which asks.
    """
    softening = SoftPurgeTerms(kept, clock, pipeline.cache.terms_changed)
    pipeline.cache.terms_of = softening.terms

    def purged() -> None:
        softening.look()
        pipeline.cache.purged(
            Selector()
        )  # what of it was meant is not known here: nobody joins a question that was asked before

    store.on_purged = purged

    def admits(head: RequestHead) -> None:
        admission().method(head.method)
        admission().path(head)

    judges = Judges(
        table=lambda: pipeline.router.table,
        mode=lambda: pipeline.cache.mode,
        partition=partition,
        admits=admits,
        spared=pipeline.queueing.spared,
        terms=softening.terms,
        ended=softening.ended,
    )
    explaining = Explaining(store, judges, clock)
    conditions = Conditions(
        at_once=lambda: max(1, pipeline.queueing.max_concurrency - 1),
        rests_until=lambda: pipeline.queueing.snapshot().background_rests_until,
    )
    filling = Prefetch(pipeline.cache, explaining.outlook, conditions, clock)
    if watched is None:
        return Operating(softening, explaining, filling, None)
    surroundings = Surroundings(
        forbidden=lambda: _forbidden(pipeline, admits, leads),
        partition=partition,
        plain=_plain,
        dropped=pipeline.cache.purged,
    )
    probing = ChangeProbe(pipeline.queueing, store, watched, surroundings, clock, observer)
    return Operating(softening, explaining, filling, probing)


def _forbidden(pipeline: Pipeline, admits: Callable[[RequestHead], None], leads: Callable[[], bool]) -> str:
    """Why the service is not asked for changes; '' where nothing speaks against it."""
    if not leads():
        return "another process holds the pair, and asks for all: the account has one quota"
    if pipeline.cache.mode.offline:
        return "cache.offline"
    if (name := pipeline.router.table.find(passolution.UPDATES).name) != passolution.ROUTE:
        return f"switched off: {passolution.UPDATES} is under route {name!r}, and not {passolution.ROUTE!r}"
    try:
        admits(RequestHead("POST", passolution.UPDATES))
    except Refusal as refused:
        return f"switched off: {refused.detail}"
    return ""


async def _plain(body: bytes, coding: str) -> bytes | None:
    if coding.strip().lower() in ("", "identity"):
        return body
    if (name := codecs.known(coding)) is None:
        return None
    try:
        return await asyncio.to_thread(codecs.decoded, body, name, _LARGEST_PLAIN)
    except BodyBroken:
        return None


@dataclass(slots=True)
class Telemetry:
    """Who is told of events."""

    logs: Logs
    metrics: MetricsObserver
    recent: Recent
    masked: tuple[str, ...] = ()

    def mask(self, loaded: Loaded) -> None:
        """Masks the secrets of `loaded` as they are now, from the next line on, and queries as it wants them."""
        masked, query = tuple(known_secrets(loaded)), loaded.settings.log.query
        if (masked, query) != (self.masked, self.recent.redactor.query):
            redactor = Redactor(masked, query)
            self.logs.set_redactor(redactor)
            self.masked, self.recent.redactor = masked, redactor

    def observer(self) -> Observer:
        """One observer that tells all."""
        written = LogObserver(self.logs)
        counted, remembered = self.metrics, self.recent

        def observe(event: Event) -> None:
            counted(event)
            remembered(event)
            written(event)

        return observe


def telemetry(loaded: Loaded) -> Telemetry:
    """Logs, metrics and memory for this configuration; the log is not open yet."""
    log, masked = loaded.settings.log, tuple(known_secrets(loaded))
    redactor = Redactor(masked, log.query)
    logs = Logs(redactor, level=log.level, format=log.format, access=log.access)
    return Telemetry(logs, MetricsObserver(loaded.settings.upstream.allow_methods), Recent(redactor), masked)


class Judging:
    """What the cache's rules say of stored entries and of requests, for listings and purges."""

    def __init__(self, pipeline: Pipeline, partition: Callable[[], str]) -> None:
        self._pipeline, self._partition = pipeline, partition

    def of_entry(self, entry: Entry, now: float) -> tuple[float, float]:
        """Age, and seconds of freshness left."""
        cache, policy = self._pipeline.cache, self._pipeline.router.table.find(entry.target.partition("?")[0])
        agreed = cache.terms_of(entry, policy, cache.mode)
        return agreed.age(now), agreed.fresh_until - now

    def key(self, method: str, target: str, body: bytes | None) -> str | None:
        """The primary key; None for a request that would be a pass."""
        policy = self._pipeline.router.table.find(target.partition("?")[0])
        if not policy.stores or method not in policy.methods:
            return None
        head = RequestHead(
            method, target, fields_of([("Content-Type", "application/json")] if body is not None else [])
        )
        try:
            content = content_of(head.fields, body, policy.key) if body is not None and method == "POST" else None
        except Unreadable:
            return None
        return primary_key(self._partition(), head, policy.key, content)


def facts_of(loaded: Loaded, clock: Clock, state_folder: Path, cache_folder: Path | None) -> Facts:
    """What is known before a listener is open."""
    settings = loaded.settings
    return Facts(
        version=__version__,
        started_at=clock.wall(),
        pid=os.getpid(),
        config=str(loaded.path.absolute()) if loaded.path else "",
        state_folder=str(state_folder),
        origin=settings.upstream.url or "",
        max_cache_bytes=settings.cache.max_size,
        cache_folder=str(cache_folder or ""),
        store=settings.store.url or "",
        cache_mode=settings.cache.mode,
        offline=settings.cache.offline,
        authorities=authorities(settings),
        base_path=settings.server.base_path,
    )


def authorities(settings: Settings, ports: tuple[int, ...] = ()) -> tuple[str, ...]:
    """Names under which the proxy itself may stand in a URL, lower case."""
    bound = ports or tuple(each.port for each in settings.server.listen if isinstance(each, TcpAddress))
    named = {f"{host}:{port}" for host in settings.server.allowed_hosts for port in bound} | set(
        settings.server.allowed_hosts
    )
    if settings.server.public_url:
        named.add(urlsplit(settings.server.public_url).netloc)
    return tuple(sorted(name.lower() for name in named))


def traffic_of(pipeline: Pipeline) -> Mapping[str, object]:
    """What goes on at the origin right now."""
    queue = pipeline.queueing.snapshot()
    return {
        "in_flight": queue.in_flight,
        "waiting": queue.waiting,
        "cool_down_until": queue.cool_down_until,
        "background_rests_until": queue.background_rests_until,
        "away": queue.away,
        "connections": pipeline.pool.open,
    }


def origin_of(recent: Recent, traffic: Mapping[str, object]) -> dict[str, object]:
    """The origin as it is shown; `state` is the worst of what the last minutes say and what holds now."""
    shown = {**recent.origin(), **traffic, "away": recent.redactor.text(str(traffic.get("away") or ""))}
    if shown["away"]:
        shown["state"] = "away"
    elif shown["state"] != "failing" and shown.get("cool_down_until") is not None:
        shown["state"] = "cooling_down"
    return shown


def trouble_of(origin: Mapping[str, object], recent: Recent) -> str:
    """What is wrong with the origin, or with the store that instances share, in one line; '' for nothing."""
    match origin["state"]:
        case "away":
            said = f"the origin is away: {origin['away']}"
        case "failing":
            said = f"the origin fails: {origin['last_failure']}"
        case "cooling_down":
            said = "the origin asked for a pause (429)"
        case _:
            said = ""
    return "; ".join(each for each in (said, recent.warned("store_away")) if each)


async def reading_of(control: Control, keeper: Holder, handler: Handler, crew: Crew) -> Reading:
    """What the gauges show."""
    stats = await control.look_at_store()
    token = keeper.snapshot()
    tiers = ((stats.tier, stats.bytes_used), *((tier.tier, tier.bytes_used) for tier in control.facts.tiers))
    return Reading(
        access=token.access,
        chain=token.chain,
        expires_at=token.access_until,
        runway=token.runway_seconds,
        cache_entries=stats.entries,
        cache_bytes=tiers,
        in_flight=handler.in_flight + crew.in_flight,
        alert=control.level,
    )


def known_secrets(loaded: Loaded) -> Iterator[str]:
    """Every configured secret word for word, so that it is masked wherever it might turn up. One that cannot be read is told elsewhere."""
    given = loaded.secrets
    for secret in (
        given.client_secret,
        given.static_token,
        given.admin_token,
        given.state_key,
        given.previous_state_key,
        given.store_password,
        given.alerts_webhook,
        *given.upstream_headers.values(),
    ):
        with contextlib.suppress(ConfigurationError):
            yield from secret().splitlines() if secret is not None else ()
    with contextlib.suppress(ConfigurationError):
        yield from (key for _, key in named_keys(given.client_keys() if given.client_keys is not None else ""))
    with contextlib.suppress(ConfigurationError, ValueError):
        # of a proxy's URL only the password is secret
        yield unquote(urlsplit(given.upstream_proxy() if given.upstream_proxy is not None else "").password or "")


@dataclass(slots=True)
class Wired:
    """A daemon, ready to be run."""

    loaded: Loaded
    part: Part
    crew: Crew
    heed: Observer
    """Hears what other processes stored, so that its changes are asked for too."""
    state_folder: Path
    cache_folder: Path | None
    cover: Cover
    clock: Clock
    telemetry: Telemetry
    observer: Observer
    outward: Outward
    provider: LiveProvider
    keeper: Holder
    fleet: Fleet | None
    alerts: Alerts
    warming: RunwayRevalidation
    operating: Operating
    store: TieredStore
    pipeline: Pipeline
    handler: Handler
    connections: Connections
    descriptors: Descriptors
    control: Control
    admission: LiveAdmission
    pages: PageSessions
    admin_app: web.Application
    control_app: web.Application
    probe_app: web.Application
    admin_runners: list[AdminRunner] = field(default_factory=list)
    """Those that follow `server.limits`; whoever runs the applications puts them here."""


def wire(
    loaded: Loaded,
    told: Telemetry,
    *,
    clock: Clock | None = None,
    environ: Mapping[str, str] | None = None,
    observer: Observer | None = None,
    follow: bool = True,
    part: Part | None = None,
) -> Wired:
    """Everything that `loaded` asks for. `observer` is told in the place of `told`'s own; with `follow` off another owner of the pair is an error;
    `part` is this process's among several.

    Raises CannotCreate and ConfigurationError for folders and files that do not do.
    """
    crew, part = Crew(), part or Part()
    settings, clock, observer = loaded.settings, clock or SystemClock(), observer or told.observer()
    environ = os.environ if environ is None else environ
    # Whatever can raise comes before the store, which has files open.
    outward = Outward(loaded, environ)
    dialer = outward.dialer(endpoint_of(settings.upstream.url or ""), settings.upstream.connect_timeout)
    admission = LiveAdmission(loaded, observer)
    provider = LiveProvider(loaded, clock, outward)
    asking = build_asking(loaded, provider, outward, observer)
    folder = own_folder(settings.state.folder, "state.directory")
    cache_folder = None if settings.store.url else own_folder(settings.cache.folder, "cache.directory")
    cover = cover_of(loaded)
    local = DirectoryPairStore(
        folder, clock.wall, cover, client_of(asking.provider, asking.client.client_id, settings.oauth.grant)
    )
    fleet = None if part.is_worker else build_fleet(loaded, asking, local, clock, observer)
    near = ControlOwner(folder)
    owner = None if not follow else near if fleet is None else fleet.nearest(near)
    pairs = local if fleet is None else fleet.store
    keeper = part.holder or build_keeper(
        loaded, asking, pairs, clock, observer, owner, lambda partition: revoking(partition)
    )
    logins = Logins(asking, keeper, clock, secrets.token_urlsafe)
    store, kept = entry_store(loaded, folder, cache_folder, observer, part)
    revoking = partial(remove_revoked, store, settings.cache.on_revoked, observer)
    watched = watched_by(loaded)
    observer = hearing(observer, watched)
    pipeline = build_pipeline(
        loaded, dialer, keeper, store, admission, clock, observer, cache_folder or settings.cache.folder, part
    )
    operating = build_operating(
        pipeline, store, kept, admission, lambda: keeper.partition, clock, observer, watched, lambda: _leads(keeper)
    )
    alarm = AlarmFile(folder) if fleet is None else fleet.alarm
    alerts = build_alerts(loaded, outward, environ, keeper, clock, observer, alarm)

    def origin() -> Mapping[str, object]:
        return origin_of(told.recent, crew.traffic(traffic_of(pipeline)))

    control = Control(
        facts=facts_of(loaded, clock, folder, cache_folder),
        keeper=keeper,
        logins=logins,
        store=store,
        reading=Judging(pipeline, lambda: keeper.partition),
        clock=clock,
        observer=observer,
        recent=told.recent.summary,
        origin=origin,
        trouble=lambda: trouble_of(origin(), told.recent),
        tiers=lambda: (crew.memory(store.memory_stats()),),
        purged=pipeline.cache.purged,
        reload=_no_reload,
        alarm=alerts,
        operations=operating,
    )
    handler = Handler(pipeline.first, clock, observer)
    connections = Connections(handler, limits_of(settings))
    access = _access(loaded)
    pages = PageSessions(lambda: _page_command(loaded, folder, keeper), clock.wall)
    metrics = Metrics(told.metrics, lambda: reading_of(control, keeper, handler, crew), __version__)
    return Wired(
        loaded=loaded,
        part=part,
        crew=crew,
        heed=nobody if watched is None else watched.heed,
        state_folder=folder,
        cache_folder=cache_folder,
        cover=cover,
        clock=clock,
        telemetry=told,
        observer=observer,
        outward=outward,
        provider=provider,
        keeper=keeper,
        fleet=fleet,
        alerts=alerts,
        warming=build_warming(pipeline, part if part.is_worker else alerts, keeper, clock, observer),
        operating=operating,
        store=store,
        pipeline=pipeline,
        handler=handler,
        connections=connections,
        descriptors=Descriptors(descriptors.most(), (connections,), observer),
        control=control,
        admission=admission,
        pages=pages,
        admin_app=admin_application(
            control,
            access,
            pages,
            metrics.exposition,
            observer,
            clock.wall,
            lambda url: told.recent.redactor.target(url),
        ),
        control_app=control_application(control, pages, metrics.exposition, observer),
        probe_app=probe_application(control, metrics.exposition, observer),
    )


@contextlib.asynccontextmanager
async def standing_still(loaded: Loaded, *, keep: bool = False, observer: Observer = nobody) -> AsyncIterator[Control]:
    """The handle on the folders of a daemon that does not run. `keep` has the pair's keeper at work: for what changes or sends the pair.

    `observer` is told what happens; nothing is logged. Raises PairStoreOwned where a daemon runs after all.
    """
    wired = wire(loaded, telemetry(loaded), observer=observer, follow=False)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(wired.store.close)
        stack.push_async_callback(wired.pipeline.cache.close)
        stack.push_async_callback(wired.pipeline.close)
        await wired.keeper.open()
        if keep:
            stack.push_async_callback(asyncio.wait, (asyncio.create_task(wired.keeper.run()),))
        stack.push_async_callback(wired.keeper.close)
        wired.control.facts.starting = False
        await wired.control.look_at_store()
        yield wired.control


def _leads(keeper: Holder) -> bool:
    return keeper.snapshot().role != "following"


def _page_command(loaded: Loaded, folder: Path, keeper: Holder) -> str:
    """The command that gives a page session at this daemon, and at no other of this machine."""
    # Of those that share a folder, a command speaks to the owner, if it is not told whose configuration is meant.
    named = ["--config", str(loaded.path.absolute())] if loaded.path and not _leads(keeper) else []
    return shlex.join(["passoproxy", "page", "--state", str(folder), *named])


def _access(loaded: Loaded) -> AdminAccess:
    admin, token = loaded.settings.admin, loaded.secrets.admin_token
    return AdminAccess(
        page_secret=secrets.token_bytes(32),
        allowed_hosts=admin.allowed_hosts,
        token=token if token is not None else lambda: None,
        public_url=admin.public_url or "",
        redirect_url=loaded.settings.oauth.redirect_url,
    )


async def _no_reload() -> dict[str, object]:
    return {}
