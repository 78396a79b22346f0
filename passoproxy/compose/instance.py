"""All parts of a daemon, put together: `Wired` is one, from its settings; `standing_still` is one that does not run.

Nothing is begun here but what a constructor does; `daemon` and `worker` run what comes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from passoproxy import __version__
from passoproxy.compose.limits import OriginLimits
from passoproxy.compose.pipeline import (
    LiveAdmission,
    Outward,
    Pipeline,
    build_pipeline,
    build_tracer,
    limits_of,
    memo_bytes,
    named_keys,
)
from passoproxy.compose.stores import (
    LiveProvider,
    build_asking,
    build_keeper,
    cover_of,
    entry_store,
)
from passoproxy.compose.topology import Part, WorkerReport, all_memory, all_traffic, all_used
from passoproxy.config.load import Loaded
from passoproxy.config.settings import Settings
from passoproxy.config.types import TcpAddress
from passoproxy.control import Control, Facts, Trouble, trouble_of
from passoproxy.core import passolution
from passoproxy.core.cache.entry import Selector
from passoproxy.core.events import Answered, Event, RequestAnswered
from passoproxy.core.http.messages import RequestHead
from passoproxy.core.oauth.alert_levels import Thresholds
from passoproxy.core.oauth.identity import client_of
from passoproxy.core.redaction import Redactor
from passoproxy.errors import BodyBroken, ConfigurationError, Refusal
from passoproxy.folders import own_folder
from passoproxy.host.clock import SystemClock
from passoproxy.host.remote_owner import ControlOwner
from passoproxy.host.system import most_descriptors
from passoproxy.outbound.dial import endpoint_of
from passoproxy.outbound.webhook import Webhook
from passoproxy.ports import AlertHook, Clock, Observer, each_of, nobody
from passoproxy.proxy import codecs
from passoproxy.proxy.explain import Explainer
from passoproxy.server.acceptor import Descriptors
from passoproxy.server.admin.sessions import PageSessions
from passoproxy.server.connection import Connections
from passoproxy.server.handler import Handler
from passoproxy.server.memo import Basis
from passoproxy.stores.pair.alert_state import AlarmFile
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.telemetry.alerts import AlertPolicy, Alerts, CommandHook, alert, tried
from passoproxy.telemetry.batch import Batch
from passoproxy.telemetry.last_hour import LastHour
from passoproxy.telemetry.live import Live
from passoproxy.telemetry.logs import AccessLines, LogObserver, Logs, request_ids
from passoproxy.telemetry.metrics import MetricsObserver
from passoproxy.telemetry.recent import Recent
from passoproxy.tokens.holder import Holder
from passoproxy.tokens.login import Logins
from passoproxy.upkeep.change_probe import ChangeProbe, Watched
from passoproxy.upkeep.prefetch import Prefetch, RunwayRevalidation
from passoproxy.upkeep.revocation import remove_revoked

if TYPE_CHECKING:
    from passoproxy.compose.fleet import Fleet
    from passoproxy.server.admin.runner import AdminRunner
    from passoproxy.telemetry.tracing import Tracer


def alert_policy(loaded: Loaded, outward: Outward, environ: Mapping[str, str]) -> AlertPolicy:
    """`alerts` of this configuration."""
    given = loaded.settings.alerts
    thresholds = Thresholds(given.runway.log, given.runway.notify, given.runway.page)
    hooks = tuple(_hooks(loaded, outward, environ))
    return AlertPolicy(thresholds, given.repeat, hooks, frozenset(given.events))


async def tried_alone(loaded: Loaded, environ: Mapping[str, str]) -> dict[str, Any]:
    """A test alert without a daemon; see `tried`. Raises ConfigurationError if there is no hook."""
    policy = alert_policy(loaded, Outward(loaded, environ), environ)
    return await tried(policy.hooks, alert("test", None, socket.gethostname(), __version__, time.time()))


def _hooks(loaded: Loaded, outward: Outward, environ: Mapping[str, str]) -> list[AlertHook]:
    given, hooks = loaded.settings.alerts, list[AlertHook]()
    if given.command is not None:
        hooks.append(CommandHook(given.command, environ=environ))
    if loaded.secrets.alerts_webhook is not None:
        hooks.append(Webhook(loaded.secrets.alerts_webhook, outward.dialer))
    return hooks


_LARGEST_PLAIN = 2 * 1024 * 1024

MOST_SHOWN = 10
"""Of what is asked for most, so much is shown."""


def change_probe(wired: Wired) -> ChangeProbe | None:
    """The change probe; None without the preset, whose service can be asked for changes."""
    if wired.watched is None:
        return None
    pipeline = wired.pipeline
    return ChangeProbe(
        pipeline.authorizer,
        wired.store,
        wired.watched,
        wired.clock,
        wired.observer,
        forbidden=lambda: _forbidden(wired),
        partition=wired.partition,
        plain=_plain,
        dropped=pipeline.cache.purged,
    )


def _forbidden(wired: Wired) -> str:
    """Why the service is not asked for changes; '' if it may be."""
    pipeline = wired.pipeline
    if not wired.leads:
        return "another process holds the pair, and asks for all: the account has one quota"
    if wired.loaded.settings.gateway.replay is not None:
        return "gateway.replay"
    if pipeline.cache.mode.offline:
        return "cache.offline"
    if (name := pipeline.access.table.find(passolution.UPDATES).name) != passolution.ROUTE:
        return f"switched off: {passolution.UPDATES} is under route {name!r}, and not {passolution.ROUTE!r}"
    try:
        wired.admits(RequestHead("POST", passolution.UPDATES))
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
    """Logs, metrics and the memory of recent events."""

    logs: Logs
    metrics: MetricsObserver
    recent: Recent
    masked: tuple[str, ...] = ()
    batch: Batch = field(init=False)
    """Answered requests on their way to all three."""
    tracer: Tracer | None = None
    live: Live = field(default_factory=Live)
    hour: LastHour = field(init=False)
    _live_lines: AccessLines = field(init=False)

    def __post_init__(self) -> None:
        self.batch = Batch(self._answered)
        self._live_lines = AccessLines(lambda lines: None, self.recent.redactor)
        self.live.on_change = self.watch
        self.metrics.before_reading = self.recent.before_reading = self.batch.flush
        self.hour = LastHour(self.metrics)

    def mask(self, loaded: Loaded) -> None:
        """Masks the secrets of `loaded` as they are now, from the next line on, and queries as it wants them."""
        masked, query = tuple(known_secrets(loaded)), loaded.settings.log.query
        if (masked, query) != (self.masked, self.recent.redactor.query):
            redactor = Redactor(masked, query)
            self.logs.set_redactor(redactor)
            self._live_lines.set_redactor(redactor)
            self.recent.set_redactor(redactor)
            self.masked = masked

    def observer(self) -> Observer:
        """One observer that tells all."""
        metrics, recent, log, add = self.metrics, self.recent, LogObserver(self.logs), self.batch.add_event

        def observe(event: Event) -> None:
            if type(event) is RequestAnswered:
                add(event)
                return
            metrics(event)
            recent(event)
            log(event)

        return observe

    def _answered(self, batch: list[Answered]) -> None:
        self.metrics.answered(batch)
        made = request_ids(len(batch))
        self.recent.answered(batch, made)
        self.logs.answered(batch, made)
        if self.tracer is not None:
            self.tracer.answered(batch, made)
        if self.live.wanted:
            for line, (told, *_) in zip(self._live_lines.lines(batch, made), batch, strict=True):
                event = told if isinstance(told, RequestAnswered) else told.event
                self.live.put(line, (event.method, event.target))

    def watch(self, wanted: bool) -> None:
        """Whether lines are made for `live`."""
        self.live.wanted, self.logs.tap = wanted, (lambda line: self.live.put(line, None)) if wanted else None

    def asked(self, request: str) -> tuple[str, str] | None:
        """Method and target of a request that was watched or answered lately, by the `request_id` of its access line."""
        return self.live.asked(request) or self.recent.asked(request)


def telemetry(loaded: Loaded) -> Telemetry:
    """Logs, metrics and memory for this configuration; the log is not open yet."""
    log, masked = loaded.settings.log, tuple(known_secrets(loaded))
    redactor = Redactor(masked, log.query)
    logs = Logs(redactor, level=log.level, format=log.format, access=log.access)
    return Telemetry(logs, MetricsObserver(loaded.settings.upstream.allow_methods), Recent(redactor), masked)


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
    queue = pipeline.limiter.snapshot()
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


def troubles_of(origin: Mapping[str, object], recent: Recent) -> Iterator[Trouble]:
    """What is wrong with the origin, and with the store that instances share."""
    match origin["state"]:
        case "away":
            yield trouble_of("origin", f"the origin is away: {origin['away']}")
        case "failing":
            remedy = "look at the origin; 'passoproxy tail' shows its answers"
            yield Trouble("origin", f"the origin fails: {origin['last_failure']}", remedy)
        case "cooling_down":
            remedy = "none needed, it ends by itself; a longer ttl or fewer requests keep it from coming back"
            yield Trouble("origin", "the origin asked for a pause (429)", remedy)
    if away := recent.warned("store_away"):
        yield trouble_of("store", away)


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


class Wired:
    """A daemon, ready to be run. Raises CannotCreate and ConfigurationError for folders and files that cannot be used."""

    def __init__(
        self,
        loaded: Loaded,
        told: Telemetry,
        *,
        clock: Clock | None = None,
        environ: Mapping[str, str] | None = None,
        observer: Observer | None = None,
        follow: bool = True,
        part: Part | None = None,
        traces: bool = False,
    ) -> None:
        """`observer` takes the place of `told`'s own. Without `follow`, another owner of the pair is an error. `part` is this process's
        among several. With `traces` they are sent if the configuration says where to."""
        settings, environ = loaded.settings, os.environ if environ is None else environ
        self.loaded, self.telemetry, self.part = loaded, told, part or Part()
        self.reports: dict[int, WorkerReport] = {}
        self.clock = clock or SystemClock()
        observer = observer or told.observer()
        # All that can raise comes before the store, which has files open.
        self.outward = Outward(loaded, environ)
        dialer = self.outward.dialer(endpoint_of(settings.upstream.url or ""))
        self.admission = LiveAdmission(loaded, observer)
        self.provider = LiveProvider(self.clock, self.outward)
        told.tracer = tracer = (
            build_tracer(loaded, lambda endpoint: self.outward.dialer(endpoint), told.recent, observer)
            if traces
            else None
        )
        provider = self.provider if tracer is None else tracer.around_provider(self.provider)
        asking = build_asking(loaded, provider, self.outward, observer)
        self.state_folder = folder = own_folder(settings.state.folder, "state.directory")
        self.cache_folder = None if settings.store.url else own_folder(settings.cache.folder, "cache.directory")
        self.cover = cover_of(loaded)
        identity = client_of(asking.provider, asking.client.client_id, settings.oauth.grant)
        local = DirectoryPairStore(folder, self.clock.wall, self.cover, identity)
        self.fleet: Fleet | None = None
        if settings.store.url and settings.oauth.grant != "static" and not self.part.is_worker:
            from passoproxy.compose.fleet import build_fleet

            self.fleet = build_fleet(loaded, asking, local, self.clock, observer)
        near, pairs = ControlOwner(folder), local if self.fleet is None else self.fleet.store
        owner = None if not follow else near if self.fleet is None else self.fleet.nearest(near)
        self.keeper: Holder = self.part.holder or build_keeper(
            loaded,
            asking,
            pairs,
            self.clock,
            each_of(observer, self._hear),
            owner,
            lambda partition: revoking(partition),
        )
        self.store, kept = entry_store(loaded, folder, self.cache_folder, observer, self.part)
        revoking = partial(remove_revoked, self.store, settings.cache.on_revoked, observer)
        self.watched = Watched() if settings.provider == "passolution" else None
        self.heed = nobody if self.watched is None else self.watched.heed
        plain, observer = observer, observer if self.watched is None else each_of(observer, self.heed)
        self.observer = observer
        self.pipeline = build_pipeline(
            loaded,
            dialer,
            self.keeper,
            self.store,
            kept,
            self.admission,
            self.clock,
            observer,
            self.cache_folder or settings.cache.folder,
            lambda: told.recent.redactor,
            self.part,
            tracer,
        )
        self.store.on_purged = self._on_purged
        cache, table = self.pipeline.cache, lambda: self.pipeline.access.table
        explainer = Explainer(self.store, cache, table, self.admits, self.clock)
        if settings.gateway.replay is not None:
            from passoproxy.gateway.replay import Replay, ReplayExplainer

            assert isinstance(self.pipeline.gateway, Replay)
            explainer = ReplayExplainer(self.pipeline.gateway, self.store, cache, table, self.admits, self.clock)
        limiter = self.pipeline.limiter
        self.probing = change_probe(self)
        self.limits = None if self.part.is_worker else OriginLimits(self)
        if self.limits is not None:
            self.pipeline.origin.on_sent = self.limits.sent
        self.alerts = Alerts(
            self.keeper,
            alert_policy(loaded, self.outward, environ),
            self.clock,
            observer,
            AlarmFile(folder) if self.fleet is None else self.fleet.alarm,
            instance=socket.gethostname(),
            version=__version__,
        )
        self.warming = RunwayRevalidation(
            self.pipeline.cache,
            most_used=self.pipeline.usage.most_used,
            policy_of=lambda path: self.pipeline.access.table.find(path),
            level=lambda: self.part.level if self.part.is_worker else self.alerts.level,
            read=self.keeper.snapshot,
            clock=self.clock,
            observe=observer,
        )
        self.control = Control(
            facts=facts_of(loaded, self.clock, folder, self.cache_folder),
            keeper=self.keeper,
            logins=Logins(asking, self.keeper, self.clock, secrets.token_urlsafe),
            store=self.store,
            explainer=explainer,
            prefetch=Prefetch(
                self.pipeline.cache,
                explainer.outlook,
                lambda: max(1, self.loaded.settings.upstream.max_concurrency - 1),
                lambda: limiter.snapshot().background_rests_until,
                lambda: limiter.snapshot().budget_rests_until,
                self.clock,
            ),
            soften=self.pipeline.cache.terms.soften,
            probing=self.probing,
            clock=self.clock,
            observer=observer,
            recent=self._lately,
            asked=told.asked,
            routes=lambda: self.pipeline.access.table.policies,
            origin=self.origin,
            troubles=lambda: troubles_of(self.origin(), told.recent),
            tiers=lambda: (all_memory(self.store.memory_stats(), self.reports.values()),),
            purged=self.pipeline.cache.purged,
            reload=_no_reload,
            alarm=self.alerts,
            gateway=self.pipeline.gateway,
        )
        # `plain`: it stores nothing.
        begin = None if tracer is None else tracer.begin
        self.handler = Handler(self.pipeline.hits, self.keeper, self.clock, plain, told.batch.add_unread, begin)
        memo = Basis(
            self.store,
            self.pipeline.access,
            self.pipeline.cache,
            self.admission,
            self.keeper,
            self.pipeline.usage,
            self.clock,
            told.batch.add,
            told.batch.add_unread,
            memo_bytes(settings, self.part),
        )
        self.connections = Connections(self.handler, limits_of(settings), memo, self.clock.wall)
        self.descriptors = Descriptors(most_descriptors(), (self.connections,), observer)
        self.pages = PageSessions(self._page_command, self.clock.wall)
        self.admin_runners: list[AdminRunner] = []
        """Those that follow `server.limits`; `admin.serve` puts them here."""

    def _hear(self, event: Event) -> None:
        self.alerts.hear(event)

    def partition(self) -> str:
        """The cache partition of the present pair."""
        return self.keeper.partition

    def _on_purged(self) -> None:
        """Another process purged, which may have meant any entry: no request joins an earlier fetch."""
        self.pipeline.cache.terms.look()
        self.pipeline.cache.purged(Selector())

    @property
    def leads(self) -> bool:
        """Whether this process does not follow another that holds the pair."""
        return self.keeper.snapshot().role != "following"

    def admits(self, head: RequestHead) -> None:
        """Raises the Refusal of a method or path that is not allowed."""
        admission = self.admission()
        admission.judge(head.method)
        admission.path(head.path)

    def _lately(self) -> Mapping[str, object]:
        """What `status` tells of the last requests, the last hour, and what is asked for most."""
        told = self.telemetry
        used = all_used(self.pipeline.usage.counted(MOST_SHOWN), self.reports.values()).most_common(MOST_SHOWN)
        most = [
            {
                "method": told.recent.redactor.text(method, 32),
                "target": told.recent.redactor.target(target, 200),
                "requests": count,
            }
            for (method, target), count in used
        ]
        return {**told.recent.summary(), "last_hour": told.hour.shown(), "most_used": most}

    def origin(self) -> Mapping[str, object]:
        """The origin for `status`."""
        shown = origin_of(self.telemetry.recent, all_traffic(traffic_of(self.pipeline), self.reports.values()))
        return shown if self.limits is None else {**shown, **self.limits.shown()}

    async def close(self) -> None:
        """Closes what the constructor opened."""
        async with contextlib.AsyncExitStack() as stack:
            if self.telemetry.tracer is not None:
                stack.push_async_callback(self.telemetry.tracer.close)
            stack.push_async_callback(self.store.close)
            stack.push_async_callback(self.pipeline.cache.close)
            stack.push_async_callback(self.pipeline.close)
            if self.limits is not None:
                stack.push_async_callback(self.limits.close)
            self.telemetry.batch.flush()

    def _page_command(self) -> str:
        """The command that gives a page session at this daemon, and at no other of this machine."""
        # Of several that share a folder, a command speaks to the owner, unless a configuration is named.
        path = self.loaded.path
        named = ["--config", str(path.absolute())] if path and not self.leads else []
        return shlex.join(["passoproxy", "page", "--state", str(self.state_folder), *named])

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics' text, and its Content-Type."""
        from passoproxy.telemetry.exposition import Reading, exposition

        stats, token = await self.control.look_at_store(), self.keeper.snapshot()
        reading = Reading(
            access=token.access,
            chain=token.chain,
            expires_at=token.access_until,
            runway=token.runway_seconds,
            cache_entries=stats.entries,
            cache_bytes=tuple((tier.tier, tier.bytes_used) for tier in (stats, *self.control.facts.tiers)),
            in_flight=self.handler.in_flight + sum(each.in_flight for each in self.reports.values()),
            alert=self.control.level,
            budget=(None, None) if self.limits is None else self.limits.used(),
            places=(None, None) if self.limits is None else self.limits.held(),
        )
        return exposition(self.telemetry.metrics, reading, __version__, accept)


@contextlib.asynccontextmanager
async def standing_still(loaded: Loaded, *, keep: bool = False, observer: Observer = nobody) -> AsyncIterator[Control]:
    """The handle on the folders of a daemon that does not run. With `keep` the pair's keeper runs: for what changes or sends the pair.

    `observer` is told what happens; nothing is logged. Raises PairStoreOwned if a daemon runs after all.
    """
    wired = Wired(loaded, telemetry(loaded), observer=observer, follow=False)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(wired.close)
        await wired.keeper.open()
        if keep:
            stack.push_async_callback(wired.alerts.send_off)
            stack.push_async_callback(asyncio.wait, (asyncio.create_task(wired.keeper.run()),))
        stack.push_async_callback(wired.keeper.close)
        wired.control.facts.starting = False
        await wired.control.look_at_store()
        yield wired.control


async def _no_reload() -> dict[str, object]:
    return {}
