"""All parts of a daemon put together, with time that the tests move, and the handle on folders where none runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from passoproxy.compose import Wired, standing_still, telemetry
from passoproxy.compose.instance import authorities, known_secrets
from passoproxy.compose.stores import page_url
from passoproxy.core.events import PairFileDamaged
from passoproxy.errors import CannotCreate, CommandFailure, ConfigurationError, PairStoreOwned, TokenRequestUnsent
from passoproxy.outbound.dial import Endpoint, ForwardProxy
from passoproxy.ports import TokenRequest
from passoproxy.tokens.failover import Custody
from passoproxy.tokens.static import StaticToken
from tests.fakes import FakeClock, RememberingObserver, request, response
from tests.whole import CONTENT, Place

PAIR = json.dumps({"access_token": "A" * 20, "refresh_token": "R" * 20, "expires_in": 3600}).encode()
STATIC = {"grant": "static", "static_token": "the-static-token"}


@contextlib.asynccontextmanager
async def wired_in(
    folder: Path, environ: dict[str, str] | None = None, clock: FakeClock | None = None, **sections: Any
) -> AsyncIterator[Any]:
    loaded = Place(folder).load(**sections)
    wired = Wired(loaded, telemetry(loaded), environ={} if environ is None else environ, clock=clock)
    try:
        yield wired
    finally:
        await wired.keeper.close()
        await wired.close()


async def test_a_wired_daemon_lives_by_the_clock_it_was_given(tmp_path: Path) -> None:
    clock = FakeClock()
    async with wired_in(tmp_path, clock=clock) as wired:
        assert isinstance(wired.keeper, Custody)
        await wired.keeper.open()
        task = asyncio.create_task(wired.keeper.run())
        shown = await wired.control.import_pair(PAIR)
        assert shown["access_until"] == clock.wall() + 3600
        wired.control.facts.starting = False
        assert wired.control.readiness(strict=True) == (True, "ready", "")
        clock.step(0)
        await wired.keeper.close()
        await task
        assert await wired.control.reload() == {}


async def test_a_request_travels_the_whole_road_and_is_told(tmp_path: Path) -> None:
    async with wired_in(tmp_path, oauth=STATIC) as wired:
        assert isinstance(wired.keeper, StaticToken)
        await wired.keeper.open()
        seen: list[Any] = []

        class Origin:
            async def send(self, asked: Any) -> Any:
                seen.append(asked)
                return response(200, [("Content-Type", "application/json")], b'{"a": 1}')

        wired.pipeline.limiter._next = Origin()
        for wanted in ("fwd=uri-miss", "hit"):
            answer = await wired.pipeline.access.send(request("GET", CONTENT))
            assert answer.head.status == 200
            assert wanted in answer.head.fields["Cache-Status"]
            async for _ in answer.body:
                pass
            await answer.body.aclose()
        assert [each.trail.bearer.token for each in seen] == ["the-static-token"]
        stats = await wired.control.cache_stats()
        assert stats["entries"] == 1
        (entry,) = [each async for each in wired.control.entries(wired.control.selector({}), 9)]
        assert (entry["url"], entry["age"] < 5, entry["ttl"] > 60) == (CONTENT, True, True)
        traffic = wired.control.status()["origin"]
        assert isinstance(traffic, dict)
        assert (traffic["in_flight"], traffic["connections"], traffic["cool_down_until"]) == (0, 0, None)


async def test_keys_of_requests_that_were_named(tmp_path: Path) -> None:
    async with wired_in(tmp_path, oauth=STATIC) as wired:
        key = wired.control._explainer.key
        target = CONTENT.partition("?")[0]
        assert key("GET", CONTENT, None)
        assert key("POST", target, b'{"a": 1, "b": 2}') == key("POST", target, b'{"b":2,"a":1}')
        assert key("POST", target, b'{"a": 1}') != key("POST", target, b'{"a": 2}')
        assert key("POST", target, b"{") is None
        assert key("GET", "/auth/me", None) is None
        assert key("PUT", CONTENT, None) is None


@pytest.mark.parametrize(("given", "wanted"), [(None, "always"), ("never", "never"), ("once", "once"), ("10m", 600.0)])
async def test_the_keeper_lives_by_the_configuration(tmp_path: Path, given: str | None, wanted: object) -> None:
    more = {"lost_answer_replay": given, "refresh_at": 0.3, "refresh_token_lifetime": "unknown"}
    async with wired_in(tmp_path, oauth=more) as wired:
        terms = wired.keeper._held.state.terms
        assert (terms.lost_answer_replay, terms.refresh_at, terms.refresh_lifetime) == (wanted, 0.3, None)


# ---- what does not do -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "environ", "fault"),
    [
        (
            {"upstream": {"url": "https://api.example.com"}},
            {"HTTPS_PROXY": "socks5://p:1"},
            "upstream.proxy: HTTPS_PROXY",
        ),
        (
            {"oauth": {"token_url": "https://web.example.com/token"}},
            {"HTTPS_PROXY": "http://u:hidden@:1"},
            "upstream.proxy",
        ),
    ],
)
def test_what_is_wrong_is_told_before_a_folder_is_touched(
    tmp_path: Path, sections: dict[str, Any], environ: dict[str, str], fault: str
) -> None:
    loaded = Place(tmp_path).load(**sections)
    with pytest.raises(ConfigurationError, match=fault) as caught:
        Wired(loaded, telemetry(loaded), environ=environ)
    assert "hidden" not in str(caught.value)
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "cache").exists()


def test_keys_that_became_wrong_are_told_before_a_folder_is_touched(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text("ann:one")
    loaded = Place(tmp_path).load(server={"client_keys_file": str(keys)})
    keys.write_text("nonsense")
    with pytest.raises(ConfigurationError, match=r"server\.client_keys_file: line 1"):
        Wired(loaded, telemetry(loaded), environ={})
    assert not (tmp_path / "state").exists()


def test_folders_that_do_not_do(tmp_path: Path) -> None:
    for section in ("state", "cache"):
        loaded = Place(tmp_path).load(**{section: {"directory": "/proc/passoproxy"}})
        with pytest.raises(CannotCreate, match=rf"/proc/passoproxy.*{section}\.directory"):
            Wired(loaded, telemetry(loaded), environ={})


# ---- the way out -----------------------------------------------------------------------------------------------------

AWAY = {
    "upstream": {"url": "https://api.example.com"},
    "oauth": {"token_url": "https://web.example.com/token", "authorization_url": "https://web.example.com/a"},
}


async def test_a_proxy_leads_to_origin_and_provider(tmp_path: Path) -> None:
    async with wired_in(
        tmp_path,
        {"HTTPS_PROXY": "http://other:1"},
        upstream={"url": "https://api.example.com", "proxy": "http://squid:3128"},
    ) as wired:
        assert wired.pipeline.pool._dialer._proxy == ForwardProxy("squid", 3128)
        assert wired.outward.proxy_for(Endpoint("https", "web.example.com", 443)) == ForwardProxy("squid", 3128)
        assert wired.provider._endpoint._dialer(Endpoint("https", "w.example", 1))._proxy == ForwardProxy("squid", 3128)
        assert wired.outward.proxy_for(Endpoint("http", "127.0.0.1", 80)) is None


async def test_a_proxys_credentials_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    file.touch(mode=0o600)
    file.write_text("http://us:pa%20ss@squid:3128\n")
    async with wired_in(tmp_path, upstream={"url": "https://api.example.com", "proxy_file": str(file)}) as wired:
        proxy = wired.outward.proxy_for(Endpoint("https", "api.example.com", 443))
        assert proxy == ForwardProxy("squid", 3128, "Basic dXM6cGEgc3M=")
        assert wired.telemetry.recent.redactor.text("it was pa ss, or pa%20ss") == "it was ***, or ***"


async def test_a_way_out_that_became_wrong_spends_no_token(tmp_path: Path) -> None:
    environ = {"HTTPS_PROXY": "http://squid:3128"}
    async with wired_in(tmp_path, environ, **AWAY) as wired:
        environ["HTTPS_PROXY"] = "socks5://squid"
        with pytest.raises(TokenRequestUnsent, match=r"upstream\.proxy"):
            await wired.provider.post(TokenRequest("https://web.example.com/token"), 1.0)


# ---- what is masked, and names ---------------------------------------------------------------------------------------


def test_every_configured_secret_is_masked(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text("ann:key:of:ann\n# nobody: not a key")
    loaded = Place(tmp_path).load(
        oauth={"client_secret": "the-client-secret"},
        server={"client_keys_file": str(keys)},
        admin={"token": "the-admin-token"},
        state={"key": "A" * 43 + "="},
        store={"password": "the-password"},
        alerts={"webhook": "https://hooks.example.com/T0/secret-part"},
    )
    told = telemetry(loaded)
    for secret in (
        "the-client-secret",
        "key:of:ann",
        "the-admin-token",
        "A" * 43 + "=",
        "the-password",
        "https://hooks.example.com/T0/secret-part",
    ):
        assert secret in set(known_secrets(loaded))
        assert secret not in told.recent.redactor.text(f"it says {secret} here")
    assert told.recent.redactor.text("not a key") == "not a key"


def test_a_changed_secret_is_masked_too(tmp_path: Path) -> None:
    place = Place(tmp_path)
    loaded = place.load(oauth={"client_secret": "the-first-secret"})
    told = telemetry(loaded)
    before = told.recent.redactor
    told.mask(loaded)
    assert told.recent.redactor is before
    told.mask(place.load(oauth={"client_secret": "the-second-secret"}, log={"query": "none"}))
    assert told.recent.redactor.text("a the-second-secret b") == "a *** b"
    assert told.recent.redactor.target("/a?b=c") == "/a"


def test_secrets_that_cannot_be_read_are_told_elsewhere(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name in ("keys", "secret", "proxy"):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text("ann:one" if name == "keys" else "http://p:1")
    loaded = place.load(
        oauth={"client_secret": None, "client_secret_file": str(tmp_path / "secret")},
        server={"client_keys_file": str(tmp_path / "keys")},
        upstream={"proxy_file": str(tmp_path / "proxy")},
    )
    for name in ("keys", "secret"):
        (tmp_path / name).unlink()
    (tmp_path / "proxy").write_text("http://[broken")
    assert [each for each in known_secrets(loaded) if each] == []


def test_names_under_which_the_proxy_stands(tmp_path: Path) -> None:
    settings = (
        Place(tmp_path)
        .load(
            server={
                "listen": "127.0.0.1:8610",
                "allowed_hosts": ["Proxy.example"],
                "public_url": "https://pub.example:99",
            }
        )
        .settings
    )
    assert authorities(settings) == ("proxy.example", "proxy.example:8610", "pub.example:99")
    assert authorities(settings, (1, 2)) == ("proxy.example", "proxy.example:1", "proxy.example:2", "pub.example:99")


def test_where_the_status_page_is(tmp_path: Path) -> None:
    place = Place(tmp_path, admin_port=8611)
    assert page_url(place.load().settings) == "http://127.0.0.1:8611/"
    assert page_url(place.load(admin={"public_url": "https://a.example/x"}).settings) == "https://a.example/x"
    assert page_url(place.load(admin={"listen": False}).settings) == ""
    everywhere = place.load(admin={"listen": ["[::]:8611", "0.0.0.0:8611"], "token": "t"})
    assert page_url(everywhere.settings) == "http://[::1]:8611/"


async def test_the_admin_token_is_read_where_there_is_one(tmp_path: Path) -> None:
    from passoproxy.compose.admin import _access

    assert _access(Place(tmp_path).load()).token() is None
    assert _access(Place(tmp_path).load(admin={"token": "abcdefgh"})).token() == "abcdefgh"


# ---- where no daemon runs --------------------------------------------------------------------------------------------


async def test_the_handle_on_folders(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with standing_still(place.load(), keep=True) as control:
        await control.import_pair(PAIR)
    async with standing_still(place.load(), keep=True) as control:  # an export changes the pair's record
        assert control.readiness(strict=True) == (True, "ready", "")
        assert (await control.export_pair())["access_token"] == "A" * 20
        with pytest.raises(PairStoreOwned):
            async with standing_still(place.load()):
                pass
    async with standing_still(place.load()):
        pass  # the one that was refused left nothing that is in the way


async def test_a_damaged_pair_is_told_and_nothing_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place, observer = Place(tmp_path), RememberingObserver()
    async with standing_still(place.load(), keep=True) as control:
        await control.import_pair(PAIR)
    for path in (tmp_path / "state").glob("pair.*.json"):
        path.write_bytes(b"garbage")
    async with standing_still(place.load(), observer=observer) as control:
        assert control.status()["state"] == "unready"
    assert observer.of(PairFileDamaged)
    assert capfd.readouterr() == ("", "")


async def test_a_static_handle_ends_at_once(tmp_path: Path) -> None:
    async with asyncio.timeout(20), standing_still(Place(tmp_path).load(oauth=STATIC), keep=True) as control:
        with pytest.raises(CommandFailure, match="static"):
            await control.refresh()
