"""All parts of a daemon, put together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from passoproxy import __version__
from passoproxy.compose.admission import LiveAdmission
from passoproxy.compose.pair import LiveProvider, build_asking, build_keeper
from passoproxy.compose.road import Outward, Road, build_road, entry_store, limits_of
from passoproxy.compose.telling import Judging, Telemetry, facts_of, reading_of, telemetry, traffic_of
from passoproxy.config.reading import Loaded
from passoproxy.control import Control
from passoproxy.host.clock import SystemClock
from passoproxy.outbound.endpoint import endpoint_of
from passoproxy.ports import Clock, Observer, nobody
from passoproxy.server.admin import admin_application, control_application, probe_application
from passoproxy.server.admin_guard import AdminAccess
from passoproxy.server.admin_runner import AdminRunner
from passoproxy.server.connections import Connections
from passoproxy.server.handler import Handler
from passoproxy.stores.entries.tiered import TieredStore
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.stores.pair.folder import own_folder
from passoproxy.telemetry.metrics import Metrics
from passoproxy.tokens.fixed import FixedKeeper
from passoproxy.tokens.keeper import Keeper
from passoproxy.tokens.login import Logins


@dataclass(slots=True)
class Wired:
    """A daemon, ready to be run."""

    loaded: Loaded
    state_folder: Path
    clock: Clock
    telemetry: Telemetry
    observer: Observer
    outward: Outward
    provider: LiveProvider
    keeper: Keeper | FixedKeeper
    store: TieredStore
    road: Road
    handler: Handler
    connections: Connections
    control: Control
    admission: LiveAdmission
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
) -> Wired:
    """Everything that `loaded` asks for. `observer` is told in the place of `told`'s own.

    Raises CannotCreate and ConfigurationError for folders and files that do not do.
    """
    settings, clock, observer = loaded.settings, clock or SystemClock(), observer or told.observer()
    environ = os.environ if environ is None else environ
    # Whatever can raise comes before the store, which has files open.
    outward = Outward(loaded, environ)
    dialer = outward.dialer(endpoint_of(settings.upstream.url or ""), settings.upstream.connect_timeout)
    admission = LiveAdmission(loaded, observer)
    provider = LiveProvider(loaded, clock, outward)
    asking = build_asking(loaded, provider, outward)
    folder = own_folder(settings.state.folder)
    keeper = build_keeper(loaded, asking, DirectoryPairStore(folder, clock.wall), clock, observer)
    logins = Logins(asking, keeper, clock, secrets.token_urlsafe)
    store = entry_store(settings, folder, observer)
    road = build_road(loaded, dialer, keeper, store, admission, clock, observer)
    control = Control(
        facts=facts_of(loaded, clock),
        keeper=keeper,
        logins=logins,
        store=store,
        reading=Judging(road, lambda: keeper.partition),
        clock=clock,
        observer=observer,
        recent=told.recent.summary,
        traffic=lambda: traffic_of(road),
        tiers=lambda: (store.memory_stats(),),
        purged=road.caching.purged,
        reload=_no_reload,
    )
    handler = Handler(road.first, clock, observer)
    access = _access(loaded)
    metrics = Metrics(told.metrics, lambda: reading_of(control, keeper, handler), __version__)
    return Wired(
        loaded=loaded,
        state_folder=folder,
        clock=clock,
        telemetry=told,
        observer=observer,
        outward=outward,
        provider=provider,
        keeper=keeper,
        store=store,
        road=road,
        handler=handler,
        connections=Connections(handler, limits_of(settings)),
        control=control,
        admission=admission,
        admin_app=admin_application(control, access, metrics.exposition, observer, clock.wall),
        control_app=control_application(control, metrics.exposition, observer),
        probe_app=probe_application(control, metrics.exposition, observer),
    )


@contextlib.asynccontextmanager
async def standing_still(loaded: Loaded, *, keep: bool = False, observer: Observer = nobody) -> AsyncIterator[Control]:
    """The handle on the folders of a daemon that does not run. `keep` has the pair's keeper at work: for what changes or sends the pair.

    `observer` is told what happens; nothing is logged. Raises PairStoreOwned where a daemon runs after all.
    """
    wired = wire(loaded, telemetry(loaded), observer=observer)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(wired.store.close)
        stack.push_async_callback(wired.road.caching.close)
        stack.push_async_callback(wired.road.pool.close)
        await wired.keeper.open()
        if keep:
            stack.push_async_callback(asyncio.wait, (asyncio.create_task(wired.keeper.run()),))
        stack.push_async_callback(wired.keeper.close)
        wired.control.facts.starting = False
        await wired.control.look_at_store()
        yield wired.control


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
