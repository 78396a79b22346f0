"""The pipeline of a request as the configuration wants it, and who may ask by the client keys of the moment."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from passoproxy import __version__
from passoproxy.compose.topology import ALONE, Part
from passoproxy.config.load import Loaded
from passoproxy.config.secrets import key_lines
from passoproxy.config.settings import Settings
from passoproxy.config.validate import TRACING_LIBRARIES
from passoproxy.core.access import Admission, AdmissionPolicy, ClientKey, client_key
from passoproxy.core.events import Warned
from passoproxy.core.redaction import Redactor
from passoproxy.core.routes import RouteTable
from passoproxy.errors import ConfigurationError, Fault, missing_library
from passoproxy.folders import own_folder, stamp_of
from passoproxy.host.system import in_memory
from passoproxy.outbound.connection import Limits as ConnectionLimits
from passoproxy.outbound.dial import Dialer, Endpoint, ForwardProxy, NoDialer, forward_proxy, tls_context
from passoproxy.outbound.origin import Origin
from passoproxy.outbound.pool import Pool
from passoproxy.outbound.webhook import Webhook
from passoproxy.ports import BearerSource, Clock, Hop, Observer, nobody
from passoproxy.proxy.access import Access
from passoproxy.proxy.bearer import Authorizer
from passoproxy.proxy.cache import Cache, SoftPurgeStore
from passoproxy.proxy.collapse import Collapser
from passoproxy.proxy.hits import Hits
from passoproxy.proxy.limiter import Limiter
from passoproxy.proxy.login_wait import LoginWait
from passoproxy.proxy.popularity import Usage
from passoproxy.proxy.representation import Codings, Links
from passoproxy.proxy.spool import Spools
from passoproxy.server.connection import Limits
from passoproxy.stores.entries.tiered import TieredStore
from passoproxy.stores.spill import MOST_BYTES, DiskSpill
from passoproxy.tokens.holder import Holder

if TYPE_CHECKING:
    from passoproxy.gateway.recorder import Recorder
    from passoproxy.gateway.replay import Replay
    from passoproxy.telemetry.tracing import Redacts, Tracer


class LiveAdmission:
    """Who may ask, by the present configuration and the present client keys: a changed keys' file counts by itself.

    Raises ConfigurationError if there is no good one to begin with.
    """

    def __init__(self, loaded: Loaded, observer: Observer = nobody) -> None:
        self._loaded, self._observer, self._text = loaded, observer, ""
        self._is_refused = False
        # These change with a restart only, as those of links do.
        self._base_path = loaded.settings.server.base_path
        self._upstream_path = urlsplit(loaded.settings.upstream.url or "").path
        self._admission = self._made()

    def __call__(self) -> Admission:
        keys = self._loaded.secrets.client_keys
        if keys is not None and keys() != self._text:
            try:
                self._admission = self._made()
            except ConfigurationError as error:
                # The file may be half written just now; if not, its author has to know.
                self._is_refused = True
                self._observer(Warned("client_keys_refused", f"{error}; the keys that were read before hold"))
        return self._admission

    def follow(self, loaded: Loaded) -> None:
        """The configuration was read anew. Raises ConfigurationError if it cannot be used; then nothing has changed."""
        before, self._loaded = self._loaded, loaded
        try:
            self._admission = self._made()
        except ConfigurationError:
            self._loaded = before
            raise

    def _made(self) -> Admission:
        settings = self._loaded.settings
        keys = self._loaded.secrets.client_keys
        self._text = keys() if keys is not None else ""
        admission = Admission(
            AdmissionPolicy(
                allowed_hosts=settings.server.allowed_hosts,
                allowed_origins=settings.server.allowed_origins,
                deny_paths=settings.upstream.deny_paths,
                allow_paths=settings.upstream.allow_paths,
                allow_methods=settings.upstream.allow_methods,
                base_path=self._base_path,
                upstream_path=self._upstream_path,
                client_keys=None if keys is None else client_keys(self._text),
            )
        )
        if self._is_refused:
            self._is_refused = False
            self._observer(Warned("client_keys_refused", "the client keys can be used as they are again", over=True))
        return admission


def client_keys(text: str) -> tuple[ClientKey, ...]:
    """The keys of `server.client_keys_file`. Raises ConfigurationError."""
    return tuple(client_key(name, key) for name, key in named_keys(text))


def named_keys(text: str) -> list[tuple[str, str]]:
    """Names and keys of a text with one `name:key` a line, blank lines and `#` comments aside. Raises ConfigurationError."""
    found = []
    for number, name, key in key_lines(text):
        if not name or not key:
            raise ConfigurationError(
                Fault("", "server.client_keys_file", f"line {number} is not 'name:key'", "write one name:key a line")
            )
        found.append((name, key))
    return found


OTLP_PATH = "/v1/traces"
"""Where a collector takes traces, put behind `tracing.otlp_endpoint` unless it stands there."""

_MADE_FORMS_SHARE = 4
"""A quarter of `cache.memory_size` goes to what encoding and rewriting make of stored bodies and to heads of answers, the rest to the store. The memo of
hits may take as much as that quarter once more."""


_LEAST_TERMS, _MEMORY_OF_TERMS = 64, 16 * 1024
"""Terms are remembered with their entries, which may have left the store's memory: for 64, and one more in each 16 KiB of `cache.memory_size`."""


@dataclass(slots=True)
class Pipeline:
    """The hops that a reload or the status needs to reach; `hits` has both entrances."""

    hits: Hits
    access: Access
    login_wait: LoginWait
    cache: Cache
    authorizer: Authorizer
    limiter: Limiter
    origin: Origin
    pool: Pool
    usage: Usage
    codings: ThreadPoolExecutor
    """Threads in which long bodies are encoded and decoded."""
    gateway: Recorder | Replay | None = None

    async def close(self) -> None:
        """Closes the connections to the origin and ends the threads; what they are in the middle of is not waited for, recordings excepted."""
        if self.gateway is not None:
            await self.gateway.close()
        self.codings.shutdown(wait=False, cancel_futures=True)
        await self.pool.close()


class Outward:
    """What every way out shares: trust, and the proxy that leads the way."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str]) -> None:
        upstream = loaded.settings.upstream
        self._ca_file = upstream.ca_file
        self._trusted = stamp_of(upstream.ca_file) if upstream.ca_file else ()
        self.tls = tls_context(upstream.ca_file)
        self._setting, self._secret, self._environ = upstream.proxy, loaded.secrets.upstream_proxy, environ
        self._timeout = upstream.connect_timeout
        self._replays = loaded.settings.gateway.replay is not None

    def look(self) -> bool:
        """Whether `upstream.ca_file` has changed, and is what new dialers trust. Raises ConfigurationError once if it cannot be used; what it
        held before is trusted then."""
        stamp = stamp_of(self._ca_file) if self._ca_file else ()
        if stamp == self._trusted:
            return False
        self._trusted = stamp
        self.tls = tls_context(self._ca_file)
        return True

    def proxy_for(self, endpoint: Endpoint) -> ForwardProxy | None:
        """The proxy on the way to `endpoint`, if any."""
        return forward_proxy(self._secret() if self._secret is not None else self._setting, endpoint, self._environ)

    def dialer(self, endpoint: Endpoint) -> Dialer:
        """Connections to `endpoint`, none while recordings answer. Raises ConfigurationError for a proxy that is none."""
        if self._replays:
            return NoDialer(endpoint, "gateway.replay is set")
        tls = self.tls if endpoint.secure else None
        return Dialer(endpoint, timeout=self._timeout, tls=tls, proxy=self.proxy_for(endpoint))


def build_tracer(
    loaded: Loaded, way: Callable[[Endpoint], Dialer], masks: Redacts, observer: Observer
) -> Tracer | None:
    """What sends traces, None without `tracing.otlp_endpoint`. `way` leads to an endpoint. Raises ConfigurationError without the library."""
    settings, endpoint = loaded.settings, loaded.settings.tracing.otlp_endpoint
    if endpoint is None:
        return None
    try:
        from passoproxy.telemetry.tracing import Tracer
    except ImportError as fault:
        raise ConfigurationError(missing_library("tracing.otlp_endpoint", *TRACING_LIBRARIES)) from fault
    url = endpoint if endpoint.endswith(OTLP_PATH) else endpoint + OTLP_PATH
    return Tracer(
        Webhook(lambda: url, way, key="tracing.otlp_endpoint", media_type="application/x-protobuf").deliver,
        masks,
        observer,
        origin=settings.upstream.url or "",
        scheme="http" if settings.server.tls.cert_file is None else "https",
        resource={
            "service.name": "passoproxy",
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        },
    )


def build_pipeline(
    loaded: Loaded,
    dialer: Dialer,
    keeper: Holder,
    store: TieredStore,
    soft_purges: SoftPurgeStore,
    admission: LiveAdmission,
    clock: Clock,
    observer: Observer,
    cache_folder: Path,
    redactor: Callable[[], Redactor],
    part: Part = ALONE,
    tracer: Tracer | None = None,
) -> Pipeline:
    """The hops, innermost first: access > codings > links > (gateway) > login wait > cache > bearer > limiter > origin."""
    settings = loaded.settings
    upstream, mode, kept_bytes = settings.upstream, settings.cache.as_mode(), made_bytes(settings, part)
    url = (upstream.url or "").rstrip("/")
    pool = Pool(
        dialer,
        max_connections=part.connections(upstream.max_connections),
        limits=connection_limits(settings),
    )
    path = urlsplit(url).path
    origin = Origin(pool, clock=clock, bearers=keeper, observer=observer, headers=upstream_headers(loaded), path=path)
    limiter = Limiter(
        origin if tracer is None else tracer.around_origin(origin),
        max_concurrency=upstream.max_concurrency,
        queue_timeout=upstream.queue_timeout,
        clock=clock,
        observer=observer,
    )
    authorizer = Authorizer(limiter if tracer is None else tracer.around_places(limiter), keeper)
    usage = Usage()
    collapser = Collapser(clock, observer, linger=upstream.read_timeout)
    spools = Spools(DiskSpill(spill_folders(cache_folder), most_bytes=part.disk(MOST_BYTES)))
    cache = Cache(
        authorizer,
        store,
        clock,
        mode,
        partition=partial(attrgetter("partition"), keeper),
        origin=url,
        spared=limiter.spared,
        is_to_be_asked=limiter.is_to_be_asked,
        observer=observer,
        collapser=collapser,
        spools=spools,
        usage=usage,
        soft_purges=soft_purges,
        most_terms=max(_LEAST_TERMS, part.memory(settings.cache.memory_size) // _MEMORY_OF_TERMS),
    )
    login_wait = LoginWait(cache, keeper, clock)
    gateway = build_gateway(settings, login_wait, redactor, clock, observer, keeper)
    threads = ThreadPoolExecutor(2, thread_name_prefix="codings")
    links = Links(
        gateway or login_wait,
        origin=url,
        public_url=settings.server.public_url,
        base_path=settings.server.base_path,
        in_bodies=upstream.rewrite_absolute_urls,
        memory_bytes=kept_bytes,
        threads=threads,
    )
    codings = Codings(links, memory_bytes=kept_bytes, threads=threads)
    access = Access(codings, admission, RouteTable(settings.policies(), mode), spools)
    if gateway is None:
        hits = Hits(access, codings, links, cache, kept_bytes)
    else:
        from passoproxy.gateway.walk import WholeRoad

        hits = WholeRoad(access, codings, links, cache)
    return Pipeline(hits, access, login_wait, cache, authorizer, limiter, origin, pool, usage, threads, gateway)


def build_gateway(
    settings: Settings,
    next: Hop,
    redactor: Callable[[], Redactor],
    clock: Clock,
    observer: Observer,
    bearers: BearerSource,
) -> Recorder | Replay | None:
    """The hop that records or replays, if one of the two is configured. Raises CannotCreate for a folder that cannot be used."""
    given = settings.gateway
    if given.record is not None:
        from passoproxy.gateway.recorder import Recorder

        folder = own_folder(given.record, "gateway.record")
        return Recorder(next, folder, redactor, observer, bearers.current)
    if given.replay is not None:
        from passoproxy.gateway.replay import Replay

        return Replay(given.replay, redactor, clock, observer)
    return None


def memo_bytes(settings: Settings, part: Part) -> int:
    """What the memo of hits may take."""
    return part.memory(settings.cache.memory_size) // _MADE_FORMS_SHARE


def upstream_headers(loaded: Loaded) -> Callable[[], Mapping[str, str]]:
    """`upstream.headers` and `upstream.user_agent` as they are when asked: a value may stand in a file that changes."""
    agent, given = loaded.settings.upstream.user_agent, loaded.secrets.upstream_headers
    fixed = {} if agent is None else {"User-Agent": agent}

    def now() -> Mapping[str, str]:
        return {**fixed, **{name: value() for name, value in given.items()}} if given else fixed

    return now


def spill_folders(cache: Path) -> tuple[Path, ...]:
    """Where parts of bodies may go that memory has no room for: folders that are not in memory themselves."""
    return tuple(folder for folder in (cache, Path("/var/tmp")) if not in_memory(folder))  # noqa: S108 (files without a name)


def made_bytes(settings: Settings, part: Part) -> int:
    """What encoding, rewriting and `Hits` may keep of what they make, each."""
    return part.memory(settings.cache.memory_size) // (3 * _MADE_FORMS_SHARE)


def connection_limits(settings: Settings) -> ConnectionLimits:
    """What a connection to the origin lets happen."""
    return ConnectionLimits(
        read_timeout=settings.upstream.read_timeout, header_bytes=settings.server.limits.header_bytes
    )


def limits_of(settings: Settings) -> Limits:
    """`server.limits`, for the connections of proxy and admin listener."""
    given = settings.server.limits
    return Limits(
        header_bytes=given.header_bytes,
        body_bytes=given.body_bytes,
        header_timeout=given.header_timeout,
        idle_timeout=given.idle_timeout,
        body_timeout=given.idle_timeout,
        min_rate=given.min_rate,
        connections=given.connections,
    )
