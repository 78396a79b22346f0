"""All parts of a daemon, put together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from passoproxy import __version__
from passoproxy.compose.admission import LiveAdmission
from passoproxy.compose.alerting import build_alerts, build_warming
from passoproxy.compose.crew import Crew, Part
from passoproxy.compose.custody import cover_of
from passoproxy.compose.entries import Ends, entry_store
from passoproxy.compose.fleet import Fleet, build_fleet
from passoproxy.compose.operating import Operating, build_operating, hearing, watched_by
from passoproxy.compose.pair import LiveProvider, build_asking, build_keeper
from passoproxy.compose.road import Outward, Road, build_road, limits_of
from passoproxy.compose.telling import (
    Judging,
    Telemetry,
    facts_of,
    origin_of,
    reading_of,
    telemetry,
    traffic_of,
    trouble_of,
)
from passoproxy.config.reading import Loaded
from passoproxy.control import Control
from passoproxy.core.oauth.identity import client_of
from passoproxy.folders import own_folder
from passoproxy.host import descriptors
from passoproxy.host.clock import SystemClock
from passoproxy.host.owner import ControlOwner
from passoproxy.outbound.endpoint import endpoint_of
from passoproxy.ports import Clock, Observer, nobody
from passoproxy.server.acceptor import Descriptors
from passoproxy.server.admin import admin_application, control_application, probe_application
from passoproxy.server.admin_guard import AdminAccess
from passoproxy.server.admin_runner import AdminRunner
from passoproxy.server.connections import Connections
from passoproxy.server.handler import Handler
from passoproxy.server.page_sessions import PageSessions
from passoproxy.stores.entries.tiered import TieredStore
from passoproxy.stores.pair.alarm import AlarmFile
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.stores.pair.sealed import Cover
from passoproxy.telemetry.alerts import Alerts
from passoproxy.telemetry.metrics import Metrics
from passoproxy.tokens.custody import Holder
from passoproxy.tokens.login import Logins
from passoproxy.upkeep.revoking import Revoking
from passoproxy.upkeep.warming import Warming


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
    warming: Warming
    operating: Operating
    store: TieredStore
    road: Road
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
    ends = Ends()
    store, kept = entry_store(loaded, folder, cache_folder, observer, ends, part)
    revoking = Revoking(store, settings.cache.on_revoked, observer)
    watched = watched_by(loaded)
    observer = hearing(observer, watched)
    road = ends.road = build_road(
        loaded, dialer, keeper, store, admission, clock, observer, cache_folder or settings.cache.folder, part
    )
    operating = build_operating(
        road, store, kept, admission, lambda: keeper.partition, clock, observer, watched, lambda: _leads(keeper)
    )
    alarm = AlarmFile(folder) if fleet is None else fleet.alarm
    alerts = build_alerts(loaded, outward, environ, keeper, clock, observer, alarm)

    def origin() -> Mapping[str, object]:
        return origin_of(told.recent, crew.traffic(traffic_of(road)))

    control = Control(
        facts=facts_of(loaded, clock, folder, cache_folder),
        keeper=keeper,
        logins=logins,
        store=store,
        reading=Judging(road, lambda: keeper.partition),
        clock=clock,
        observer=observer,
        recent=told.recent.summary,
        origin=origin,
        trouble=lambda: trouble_of(origin(), told.recent),
        tiers=lambda: (crew.memory(store.memory_stats()),),
        purged=road.caching.purged,
        reload=_no_reload,
        alarm=alerts,
        operations=operating,
    )
    handler = Handler(road.first, clock, observer)
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
        warming=build_warming(road, part if part.is_worker else alerts, keeper, clock, observer),
        operating=operating,
        store=store,
        road=road,
        handler=handler,
        connections=connections,
        descriptors=Descriptors(descriptors.most(), (connections,), observer),
        control=control,
        admission=admission,
        pages=pages,
        admin_app=admin_application(control, access, pages, metrics.exposition, observer, clock.wall),
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
        stack.push_async_callback(wired.road.caching.close)
        stack.push_async_callback(wired.road.close)
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
