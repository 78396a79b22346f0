"""Reload: applies a configuration that was read again, names the keys that need a restart (contract §3), and follows changed secrets.

Reading a file with faults raises, and nothing changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from pydantic import BaseModel

from passoproxy.compose.instance import Wired, alert_policy, authorities
from passoproxy.compose.pipeline import Outward, connection_limits, limits_of, upstream_headers
from passoproxy.config.load import Loaded
from passoproxy.config.settings import Settings
from passoproxy.core.events import Lifecycle, Warned
from passoproxy.core.routes import RouteTable
from passoproxy.errors import ConfigurationError, PassoproxyError
from passoproxy.outbound.dial import Dialer

_LIVE = {
    "alerts": None,
    "cache": ("max_entry_size", "mode", "offline", "shared"),
    "log": ("access", "level", "query"),
    "routes": None,
    "server": ("allowed_hosts", "allowed_origins", "client_keys", "client_keys_file", "limits", "shutdown_grace"),
    "upstream": (
        *(
            "allow_methods",
            "allow_paths",
            "ca_file",
            "connect_timeout",
            "daily_budget",
            "deny_paths",
            "headers",
            "max_concurrency",
        ),
        *("max_connections", "proxy", "proxy_file", "queue_timeout", "read_timeout", "user_agent"),
    ),
}
"""Keys by section, or whole sections, that take effect without a restart. New limits hold for new connections."""

FOLLOW_EVERY = 10.0
"""Seconds between two looks at changed secrets; with the age that a secret may have, below the contract's 30."""


class Reloading:
    """Re-reads with `read` and applies what it gives."""

    def __init__(self, wired: Wired, read: Callable[[], Loaded], environ: Mapping[str, str] | None = None) -> None:
        self._wired, self._read, self._started = wired, read, wired.loaded.settings
        self._environ = os.environ if environ is None else environ
        self._refused = False
        self._waiting: list[str] = []

    async def __call__(self) -> dict[str, object]:
        """The keys that were applied, and those that need a restart since the start. Raises ConfigurationError if nothing was changed."""
        wired, before = self._wired, self._wired.loaded.warnings
        wired.observer(Lifecycle("reloading"))
        try:
            loaded = self._read()
            if _replays(loaded.settings) is _replays(self._started):
                live = [key for key in _changed(wired.loaded.settings, loaded.settings) if is_live(key)]
                waiting = [key for key in _changed(self._started, loaded.settings) if not is_live(key)]
                self._apply(loaded)
            else:  # which drops keys that are in use here: without a restart there would be neither of the two
                live, waiting = [], list(_changed(wired.loaded.settings, loaded.settings))
                loaded = wired.loaded
        except PassoproxyError as error:
            faults = "; ".join(str(error).splitlines())  # of a configuration a line each, and the log has one
            wired.observer(
                Warned("reload_refused", f"the configuration was not reloaded and nothing changed: {faults}")
            )
            self._refused = True
            raise
        if self._refused:
            self._refused = False
            wired.observer(Warned("reload_refused", "the configuration could be reloaded again", over=True))
        stand = {(each.code, each.key) for each in loaded.warnings}
        for code, key in sorted({(each.code, each.key) for each in before} - stand):
            said = f"{key or 'the configuration'} gives no cause for the warning {code} any more"
            wired.observer(Warned(code, said, over=True, about=key))
        for warning in loaded.warnings:
            wired.observer(Warned(warning.code, str(warning), about=warning.key))
        wired.observer(Lifecycle("reloaded", f"changed: {', '.join(live) or 'nothing'}"))
        if waiting:
            wired.observer(Warned("restart_needed", f"needs a restart to take effect: {', '.join(waiting)}"))
        elif self._waiting:
            wired.observer(Warned("restart_needed", "no key needs a restart any more", over=True))
        self._waiting = waiting
        return {"applied": live, "needs_restart": waiting}

    def _apply(self, loaded: Loaded) -> None:
        wired, settings = self._wired, loaded.settings
        # All that can raise comes first, so that half a configuration is never in force.
        table = RouteTable(settings.policies(), settings.cache.as_mode())
        outward = Outward(loaded, self._environ)
        dialer = outward.dialer(wired.pipeline.pool.endpoint)  # of the start: `upstream.url` needs a restart
        wired.admission.follow(loaded)
        wired.outward = outward
        wired.provider.follow(outward)
        wired.alerts.policy = alert_policy(loaded, outward, self._environ)
        wired.pipeline.access.table, wired.pipeline.cache.mode = table, settings.cache.as_mode()
        upstream = settings.upstream
        _lead(wired, settings, dialer)
        wired.pipeline.cache.collapser.linger = upstream.read_timeout
        if wired.part.workers > 1 or (wired.limits is not None and wired.limits.places is not None):  # places are lent
            wired.pipeline.limiter.set_limits(queue_timeout=upstream.queue_timeout)
        else:
            wired.pipeline.limiter.set_limits(
                max_concurrency=upstream.max_concurrency, queue_timeout=upstream.queue_timeout
            )
        wired.pipeline.origin.headers = upstream_headers(loaded)
        wired.connections.limits = limits_of(settings)
        for runner in wired.admin_runners:
            runner.follow(limits_of(settings))
        wired.telemetry.logs.set_level(settings.log.level)
        wired.telemetry.logs.access = settings.log.access
        wired.telemetry.mask(loaded)
        facts = wired.control.facts
        facts.offline, facts.cache_mode = settings.cache.offline, settings.cache.mode
        facts.authorities = authorities(settings, facts.ports)
        wired.loaded = loaded
        if wired.limits is not None:
            wired.limits.follow()


async def keep_following(wired: Wired, every: float = FOLLOW_EVERY) -> None:
    """Until cancelled: masks changed secrets, and follows the proxy's URL and the authorities that are trusted. Warns of files that cannot be
    read any more, or that other users can read too."""
    endpoint = wired.pipeline.pool.endpoint
    proxy, said = wired.outward.proxy_for(endpoint), ""
    refused: dict[str, str] = {}
    while True:
        await wired.clock.sleep(every)
        wired.telemetry.mask(wired.loaded)
        if not wired.part.is_worker:  # a worker's parent warns
            refused = _tell_refused(wired, refused)
        is_new = False
        try:
            is_new = wired.outward.look()
        except ConfigurationError as error:
            wired.observer(Warned("certificate_refused", f"{error}; the authorities that were read before are trusted"))
        try:
            now = wired.outward.proxy_for(endpoint)
            if is_new or now != proxy:
                _lead(wired, wired.loaded.settings, wired.outward.dialer(endpoint))
            proxy, fault = now, ""
        except ConfigurationError as error:
            fault = str(error)
        if fault and fault != said:
            wired.observer(Warned("proxy_refused", f"{fault}; the way that was gone before is kept"))
        said = fault


def _tell_refused(wired: Wired, before: Mapping[str, str]) -> dict[str, str]:
    """Warns of what changed since `before`; the present faults, by key."""
    now = {each.key: str(each.fault) for each in wired.loaded.secrets.files() if each.fault is not None}
    for key, fault in now.items():
        if before.get(key) != fault:
            wired.observer(Warned("secret_refused", f"{fault}; what was read before is used until then", about=key))
    for key in before.keys() - now.keys():
        wired.observer(Warned("secret_refused", f"{key} can be used as it is again", over=True, about=key))
    return now


def _lead(wired: Wired, settings: Settings, dialer: Dialer) -> None:
    """For new connections to the origin."""
    wired.pipeline.pool.reconfigure(
        dialer,
        max_connections=wired.part.connections(settings.upstream.max_connections),
        limits=connection_limits(settings),
    )


def _replays(settings: Settings) -> bool:
    return settings.gateway.replay is not None


def _changed(before: BaseModel, after: BaseModel, at: str = "") -> Iterator[str]:
    """The keys whose values differ, secrets among them; the routes as one."""
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, BaseModel) and isinstance(new, BaseModel):
            yield from _changed(old, new, f"{at}{name}.")
        elif old != new:
            yield f"{at}{name}"


def is_live(key: str) -> bool:
    """Whether a change of this dotted key takes effect without a restart."""
    section, name, *_ = [*key.split("."), ""]
    return section in _LIVE and ((live := _LIVE[section]) is None or name in live)
