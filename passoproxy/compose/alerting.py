"""Alerts by the configuration: the hooks that it names, over the way out of the moment, and the test that needs no daemon."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Protocol

from passoproxy import __version__
from passoproxy.compose.road import Outward, Road
from passoproxy.config.reading import Loaded
from passoproxy.core.oauth.warnings import Level, Thresholds
from passoproxy.outbound.webhook import Webhook
from passoproxy.ports import AlarmMemory, AlertHook, Clock, Observer, PairNews
from passoproxy.telemetry.alert_command import CommandHook
from passoproxy.telemetry.alerts import NO_HOOK, AlertPolicy, Alerts, alert, tried
from passoproxy.upkeep.warming import Warming


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


def build_warming(road: Road, alerts: Leveled, keeper: PairNews, clock: Clock, observer: Observer) -> Warming:
    """What revalidates the most used entries when `alerts` see the runway shrink."""
    return Warming(
        road.caching,
        most_used=road.usage.most_used,
        policy_of=lambda path: road.routing.table.find(path),
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
