"""A configuration that was read anew, and secrets that changed by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from passoproxy.compose import Wired, telemetry
from passoproxy.compose.reload import Reloading, is_live, keep_following
from passoproxy.config.keys import catalogue
from passoproxy.config.secrets import FileSecret
from passoproxy.core.events import Lifecycle, Warned
from passoproxy.errors import ConfigurationError
from passoproxy.outbound.dial import Dialer, ForwardProxy
from tests.fakes import FakeClock, RememberingObserver
from tests.whole import Place

AWAY = {"url": "https://api.example.com"}


class Stand:
    """A wired daemon and its file."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.place, self.clock, self.observer = Place(folder), FakeClock(), RememberingObserver()
        self.environ: dict[str, str] = {}
        loaded = self.place.load(**sections)
        self.wired: Wired = Wired(
            loaded, telemetry(loaded), clock=self.clock, environ=self.environ, observer=self.observer
        )
        self.reload = Reloading(self.wired, self.place.again, self.environ)

    async def with_(self, **sections: Any) -> dict[str, object]:
        self.place.write(**sections)
        return await self.reload()

    async def close(self) -> None:
        await self.wired.close()


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def away(tmp_path: Path) -> AsyncIterator[Stand]:
    """One whose origin is not on this machine, so that a proxy may lead there."""
    made = Stand(tmp_path, upstream={**AWAY, "proxy": "http://one:1"})
    yield made
    await made.close()


def test_keys_that_change_live_are_keys() -> None:
    live = {".".join(path) for path, key in catalogue().items() if not key.section and is_live(".".join(path))}
    assert len(live) > 40
    assert {"routes.ttl", "alerts.runway.log", "server.limits.connections", "log.level", "upstream.headers"} <= live
    assert not {"log.format", "upstream.url", "server.tls.cert_file", "store.url", "provider"} & live


async def test_nothing_changed(stand: Stand) -> None:
    assert await stand.with_() == {"applied": [], "needs_restart": []}
    assert [event.phase for event in stand.observer.of(Lifecycle)] == ["reloading", "reloaded"]  # type: ignore[attr-defined]
    assert stand.observer.of(Lifecycle)[-1] == Lifecycle("reloaded", "changed: nothing")


async def test_what_can_change_live_changes_live(stand: Stand) -> None:
    wired = stand.wired
    port = wired.control.facts.ports = (4711,)
    found = await stand.with_(
        upstream={"url": "http://127.0.0.1:9", "user_agent": "x/1", "max_concurrency": 9, "deny_paths": ["/no/**"]},
        server={"allowed_hosts": ["proxy.example"], "limits": {"connections": 7}, "shutdown_grace": "1s"},
        cache={"offline": True, "mode": "http", "directory": str(stand.place.folder / "cache")},
        log={"level": "warning", "access": True, "query": "full"},
        routes=[{"name": "mine", "match": "/mine/**", "ttl": "1h"}],
    )
    assert found["needs_restart"] == []
    assert {"routes", "log.query", "cache.offline", "server.limits.connections"} <= set(found["applied"])  # type: ignore[call-overload]
    assert wired.pipeline.origin.headers() == {"User-Agent": "x/1"}
    assert wired.connections.limits.connections == 7
    assert wired.pipeline.access.table.find("/mine/a").name == "mine"
    assert wired.pipeline.cache.mode.offline
    assert wired.admission().policy.deny_paths == ("/no/**",)
    assert (wired.telemetry.logs.level, wired.telemetry.logs.access) == ("warning", True)
    assert wired.telemetry.recent.redactor.query == "full"
    facts = wired.control.facts
    assert (facts.offline, facts.cache_mode, facts.authorities) == (
        True,
        "http",
        ("proxy.example", f"proxy.example:{port[0]}"),
    )
    assert wired.loaded.settings.server.shutdown_grace == 1.0


async def test_replay_begins_and_ends_with_a_restart_and_leaves_the_rest_as_it_is(stand: Stand) -> None:
    given: dict[str, Any] = {"upstream": {"headers": {"X-Gate": "a"}}, "alerts": {"webhook": "http://127.0.0.1:9/"}}
    await stand.with_(**given)
    policy = stand.wired.alerts.policy
    found = await stand.with_(**given, gateway={"replay": str(stand.place.folder)}, log={"level": "warning"})
    assert {"gateway.replay", "upstream.headers", "log.level"} <= set(found["needs_restart"])  # type: ignore[call-overload]
    assert found["applied"] == []
    wired = stand.wired
    assert wired.pipeline.origin.headers() == {"X-Gate": "a"}
    assert wired.alerts.policy is policy
    assert type(wired.outward.dialer(wired.pipeline.pool.endpoint)) is Dialer
    assert await stand.with_(**given, log={"level": "warning"}) == {"applied": ["log.level"], "needs_restart": []}


async def test_what_needs_a_restart_is_named_until_there_is_one(stand: Stand) -> None:
    changed: dict[str, Any] = {
        "upstream": {"url": "http://127.0.0.1:10"},
        "oauth": {"client_secret": "another"},
        "state": {"directory": str(stand.place.folder / "elsewhere")},
    }
    for _ in range(2):
        found = await stand.with_(**changed)
        assert found == {"applied": [], "needs_restart": ["upstream.url", "oauth.client_secret", "state.directory"]}
        warned = stand.observer.of(Warned)[-1]
        assert (warned.code, warned.over) == ("restart_needed", False)  # type: ignore[attr-defined]
        assert "restart to take effect: upstream.url, oauth.client_secret, state" in warned.detail  # type: ignore[attr-defined]
        assert stand.wired.pipeline.pool.endpoint.port == 9
    assert (await stand.with_())["needs_restart"] == []
    assert stand.observer.of(Warned)[-1].over  # type: ignore[attr-defined]
    assert "another" not in str(stand.observer.events)


@pytest.mark.parametrize(
    "sections",
    [
        {"upstream": {"user_agent": "x/1", "queue_timeout": "never"}},
        {"upstream": {"user_agent": "x/1", "ca_file": "/nonexistent/ca.pem"}},
        {"upstream": {"user_agent": "x/1", "allow_paths": ["no-slash"]}},
        {"upstream": {"user_agent": "x/1"}, "server": {"allowed_hosts": ["no host/"]}},
        {"upstream": {"user_agent": "x/1"}, "server": {"client_keys": "no colon"}},
        {"upstream": {"user_agent": "x/1"}, "routes": [{"name": "a", "match": "no-slash"}]},
    ],
)
async def test_a_configuration_that_does_not_do_changes_nothing(stand: Stand, sections: dict[str, Any]) -> None:
    before = (stand.wired.loaded, stand.wired.admission(), stand.wired.pipeline.access.table)
    with pytest.raises(ConfigurationError):
        await stand.with_(**sections)
    assert (stand.wired.loaded, stand.wired.admission(), stand.wired.pipeline.access.table) == before
    assert stand.wired.pipeline.origin.headers() == {}
    (told,) = stand.observer.of(Warned)
    assert told.code == "reload_refused"  # type: ignore[attr-defined]


async def test_warnings_come_again_and_go(stand: Stand) -> None:
    def told() -> list[tuple[str, bool]]:
        warned = [(event.code, event.over) for event in stand.observer.of(Warned)]  # type: ignore[attr-defined]
        return [each for each in warned if each[0] != "restart_needed"]

    await stand.with_(routes=[{"name": "plain", "match": "/x"}])
    assert told() == [("route_stores_nothing", False)]
    with pytest.raises(ConfigurationError):
        await stand.with_(upstream={"queue_timeout": "never"})
    await stand.with_()
    refused = [("reload_refused", False), ("reload_refused", True)]
    assert told() == [("route_stores_nothing", False), *refused, ("route_stores_nothing", True)]
    await stand.with_()
    assert len(told()) == 4


async def test_another_proxy_leads_origin_and_provider(away: Stand) -> None:
    wired = away.wired
    assert wired.pipeline.pool._dialer._proxy == ForwardProxy("one", 1)
    found = await away.with_(upstream={**AWAY, "proxy": "http://two:2", "connect_timeout": "2s"})
    assert found["applied"] == ["upstream.connect_timeout", "upstream.proxy"]
    assert wired.pipeline.pool._dialer._proxy == ForwardProxy("two", 2)
    assert wired.pipeline.pool._dialer.timeout == 2.0
    dialer = wired.provider._endpoint._dialer(wired.pipeline.pool.endpoint)
    assert (dialer._proxy, dialer.timeout) == (ForwardProxy("two", 2), 2.0)


async def test_a_proxys_file_is_followed(tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    file.touch(mode=0o600)
    file.write_text("http://one:1")
    stand = Stand(tmp_path, upstream={**AWAY, "proxy_file": str(file)})
    secret = stand.wired.loaded.secrets.upstream_proxy
    assert isinstance(secret, FileSecret)
    secret._monotonic = stand.clock.monotonic
    secret._checked = 0.0
    pool = stand.wired.pipeline.pool
    task = asyncio.create_task(keep_following(stand.wired))
    try:
        await stand.clock.advance(10)
        dialer = pool._dialer
        assert dialer._proxy == ForwardProxy("one", 1)
        for text in ("socks5://hidden:1", "socks5://hidden:22"):
            file.write_text(text)
            await stand.clock.advance(20)
            assert pool._dialer is dialer
        (told,) = stand.observer.of(Warned)
        assert told.code == "proxy_refused"  # type: ignore[attr-defined]
        assert "hidden" not in told.detail  # type: ignore[attr-defined]
        file.write_text("http://us:secret-word@two:2")
        await stand.clock.advance(20)
        assert pool._dialer._proxy is not None
        assert (pool._dialer._proxy.host, pool._dialer._proxy.port) == ("two", 2)
        assert stand.wired.telemetry.recent.redactor.text("the secret-word") == "the ***"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stand.close()


async def test_an_authority_s_file_is_followed(tmp_path: Path) -> None:
    import trustme

    file = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(file)
    stand = Stand(tmp_path, upstream={**AWAY, "ca_file": str(file)})
    wired = stand.wired
    task = asyncio.create_task(keep_following(wired))
    try:
        first, dialer = wired.outward.tls, wired.pipeline.pool._dialer
        await stand.clock.advance(10)
        assert wired.pipeline.pool._dialer is dialer
        file.write_text("none")
        await stand.clock.advance(20)
        assert wired.outward.tls is first
        (told,) = stand.observer.of(Warned)
        assert told.code == "certificate_refused"  # type: ignore[attr-defined]
        assert str(file) in told.detail  # type: ignore[attr-defined]
        trustme.CA().cert_pem.write_to_path(file)
        await stand.clock.advance(10)
        assert wired.outward.tls is not first
        # of the origin, and of provider and hooks, whose dialers are made when they are needed
        assert wired.pipeline.pool._dialer._tls is wired.outward.tls
        assert wired.provider._endpoint._dialer(wired.pipeline.pool.endpoint)._tls is wired.outward.tls
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stand.close()


async def test_a_secrets_file_that_others_can_read_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "admin-token"
    file.touch(mode=0o600)
    file.write_text("one")
    stand = Stand(tmp_path, admin={"listen": "127.0.0.1:0", "token_file": str(file)})
    secret = stand.wired.loaded.secrets.admin_token
    assert isinstance(secret, FileSecret)
    secret._monotonic, secret._checked = stand.clock.monotonic, 0.0
    task = asyncio.create_task(keep_following(stand.wired))
    try:
        file.write_text("planted")
        file.chmod(0o644)
        await stand.clock.advance(60)
        (told,) = stand.observer.of(Warned)
        assert (told.code, told.over, told.about) == ("secret_refused", False, "admin.token_file")  # type: ignore[attr-defined]
        assert f"{file}: admin.token_file: can be read by others (mode 0644); run: chmod 600" in told.detail  # type: ignore[attr-defined]
        assert secret() == "one"
        file.chmod(0o600)
        await stand.clock.advance(30)
        assert [each.over for each in stand.observer.of(Warned)] == [False, True]  # type: ignore[attr-defined]
        assert secret() == "planted"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stand.close()


async def test_alerts_change_live(stand: Stand) -> None:
    assert stand.wired.alerts.policy.hooks == ()
    found = await stand.with_(alerts={"command": "/bin/true", "repeat": "5m", "runway": {"log": "90%"}})
    assert found == {"applied": ["alerts.command", "alerts.runway.log", "alerts.repeat"], "needs_restart": []}
    policy = stand.wired.alerts.policy
    assert ([hook.name for hook in policy.hooks], policy.repeat, policy.thresholds.log) == (["command"], 300.0, 0.9)
