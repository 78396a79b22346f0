"""A configuration that was read anew: what changes live changes live, what cannot is named (contract §3).

A broken file never comes here: reading it raises, and nothing has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from passoproxy.compose.road import Outward, connection_limits, limits_of
from passoproxy.compose.wiring import Wired
from passoproxy.config.reading import Loaded
from passoproxy.config.showing import flat
from passoproxy.core.events import Lifecycle, Warned
from passoproxy.core.routes import RouteTable
from passoproxy.errors import PassoproxyError

LIVE = (
    "cache.max_entry_size",
    "cache.mode",
    "cache.offline",
    "cache.shared",
    "log.access",
    "log.level",
    "routes",
    "server.allowed_hosts",
    "server.allowed_origins",
    "server.client_keys",
    "server.client_keys_file",
    "server.limits",
    "upstream.allow_methods",
    "upstream.allow_paths",
    "upstream.ca_file",
    "upstream.connect_timeout",
    "upstream.deny_paths",
    "upstream.max_concurrency",
    "upstream.max_connections",
    "upstream.proxy",
    "upstream.queue_timeout",
    "upstream.read_timeout",
    "upstream.user_agent",
)
"""Keys, and sections with all that is in them, that take effect without a restart. New limits hold for new connections."""


class Reloading:
    """Re-reads with `read` and applies what it gives."""

    def __init__(self, wired: Wired, read: Callable[[], Loaded], environ: Mapping[str, str] | None = None) -> None:
        self._wired, self._read = wired, read
        self._environ = os.environ if environ is None else environ

    async def __call__(self) -> dict[str, object]:
        """What was applied and what needs a restart, by key. Raises ConfigurationError where nothing was changed."""
        wired = self._wired
        wired.observer(Lifecycle("reloading"))
        try:
            loaded = self._read()
            changed = _changed(wired.loaded, loaded)
            self._apply(loaded)
        except PassoproxyError as error:
            wired.observer(Warned("reload_refused", f"the configuration was not reloaded and nothing changed: {error}"))
            raise
        live = [key for key in changed if _is_live(key)]
        waiting = [key for key in changed if not _is_live(key)]
        for warning in loaded.warnings:
            wired.observer(Warned(warning.code, str(warning)))
        said = f"changed: {', '.join(live) or 'nothing'}"
        if waiting:
            said += f"; needs a restart: {', '.join(waiting)}"
        wired.observer(Lifecycle("reloaded", said))
        return {"applied": live, "needs_restart": waiting}

    def _apply(self, loaded: Loaded) -> None:
        wired, settings = self._wired, loaded.settings
        # Whatever can raise comes first, so that a half of a configuration is never in force.
        table = RouteTable(settings.policies(), settings.cache.as_mode())
        dialer = Outward(loaded, self._environ).dialer(wired.loaded.settings, settings.upstream.connect_timeout)
        wired.admission.follow(loaded)
        wired.road.routing.table, wired.road.caching.mode = table, settings.cache.as_mode()
        upstream = settings.upstream
        wired.road.pool.reconfigure(
            dialer, max_connections=upstream.max_connections, limits=connection_limits(settings)
        )
        wired.road.queueing.set_limits(upstream.max_concurrency, upstream.queue_timeout)
        wired.road.origin.user_agent = upstream.user_agent
        wired.connections.limits = limits_of(settings)
        wired.telemetry.logs.set_level(settings.log.level)
        wired.telemetry.logs.access = settings.log.access
        wired.control.facts.offline, wired.control.facts.cache_mode = settings.cache.offline, settings.cache.mode
        wired.loaded = loaded


def _changed(before: Loaded, after: Loaded) -> list[str]:
    old, new = dict(flat(before)), dict(flat(after))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return list(dict.fromkeys("routes" if key.startswith("routes") else key for key in keys))


def _is_live(key: str) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in LIVE)
