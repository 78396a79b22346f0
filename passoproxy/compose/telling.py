"""Who is told of events, and what the daemon says of itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from passoproxy import __version__
from passoproxy.compose.admission import named_keys
from passoproxy.compose.crew import Crew
from passoproxy.compose.road import Road
from passoproxy.config.addresses import TcpAddress
from passoproxy.config.reading import Loaded
from passoproxy.config.settings import Settings
from passoproxy.control import Control, Facts
from passoproxy.core.cache.canonical import Unreadable
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.key import content_of, primary_key
from passoproxy.core.events import Event
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.core.redaction import Redactor
from passoproxy.errors import ConfigurationError
from passoproxy.ports import Clock, Observer
from passoproxy.server.handler import Handler
from passoproxy.telemetry.logs import LogObserver, Logs
from passoproxy.telemetry.metrics import MetricsObserver, Reading
from passoproxy.telemetry.recent import Recent
from passoproxy.tokens.custody import Holder


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

    def __init__(self, road: Road, partition: Callable[[], str]) -> None:
        self._road, self._partition = road, partition

    def of_entry(self, entry: Entry, now: float) -> tuple[float, float]:
        """Age, and seconds of freshness left."""
        caching, policy = self._road.caching, self._road.routing.table.find(entry.target.partition("?")[0])
        agreed = caching.judge(entry, policy, caching.mode)
        return agreed.age(now), agreed.fresh_until - now

    def key(self, method: str, target: str, body: bytes | None) -> str | None:
        """The primary key; None for a request that would be a pass."""
        policy = self._road.routing.table.find(target.partition("?")[0])
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


def traffic_of(road: Road) -> Mapping[str, object]:
    """What goes on at the origin right now."""
    queue = road.queueing.snapshot()
    return {
        "in_flight": queue.in_flight,
        "waiting": queue.waiting,
        "cool_down_until": queue.cool_down_until,
        "background_rests_until": queue.background_rests_until,
        "away": queue.away,
        "connections": road.pool.open,
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
