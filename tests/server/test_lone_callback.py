"""The listener for one login's redirect, where no daemon runs."""

from __future__ import annotations

import socket

import aiohttp
import pytest
from yarl import URL

from passoproxy.compose.listeners import has_ipv6
from passoproxy.errors import CommandFailure, ServiceUnreachable
from passoproxy.server.admin import login
from passoproxy.server.admin.login import lone_listener
from tests.server.fake_daemon import FakeDaemon
from tests.whole import free_port


async def get(url: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession(trust_env=False) as session, session.get(URL(url, encoded=True)) as answer:
        return answer.status, await answer.text(), answer.headers.get("Content-Security-Policy", "")


@pytest.fixture
def daemon() -> FakeDaemon:
    found = FakeDaemon()
    found.logins["S1"] = None
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", *(["[::1]"] if has_ipv6() else [])])
async def test_it_takes_the_redirect_and_nothing_else(daemon: FakeDaemon, host: str) -> None:
    base = f"http://{host}:{free_port()}"
    async with lone_listener(daemon.complete_login, f"{base}/oauth/callback"):
        status, text, policy = await get(f"{base}/oauth/callback?code=C%2F1&state=S1")
        assert (status, policy) == (200, "default-src 'none'")
        assert "Authorised" in text
        assert ("complete_login", "code=C%2F1&state=S1", None) in daemon.calls
        assert (await get(f"{base}/"))[0] == 404
    with pytest.raises(aiohttp.ClientError):
        await get(f"{base}/oauth/callback")


async def test_what_goes_wrong_is_said_in_the_browser(daemon: FakeDaemon) -> None:
    base = f"http://127.0.0.1:{free_port()}"
    async with lone_listener(daemon.complete_login, base):
        status, text, _ = await get(f"{base}/?error=access_denied&state=S1")
        assert status == 409
        assert text.startswith("Not authorised: the provider says access_denied")
        assert (await get(f"{base}/?code=x&state=wrong"))[0] == 400


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1:8611/cb", "http://proxy.example:8611/cb", "http://192.0.2.1/cb", "http:///cb"],
)
async def test_an_address_that_does_not_lead_here(daemon: FakeDaemon, url: str) -> None:
    with pytest.raises(CommandFailure, match=r"oauth\.redirect_url .*passoproxy login --paste"):
        async with lone_listener(daemon.complete_login, url):
            pass


async def test_an_address_that_is_taken(daemon: FakeDaemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/cb"
        with pytest.raises(ServiceUnreachable, match="in use; end what listens there, or use") as caught:
            async with lone_listener(daemon.complete_login, url):
                pass
    assert caught.value.exit_code == 69


@pytest.mark.parametrize(("url", "port"), [("http://127.9.9.9/cb", 80), ("http://localhost:99/cb", 99)])
async def test_the_port_is_the_urls_or_the_schemes(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, url: str, port: int
) -> None:
    asked: list[int] = []

    def refuse(host: str, port: int) -> socket.socket:
        asked.append(port)
        raise ServiceUnreachable("cannot listen; do something else")

    monkeypatch.setattr(login, "open_tcp", refuse)
    with pytest.raises(ServiceUnreachable, match="cannot listen; end what listens there"):
        async with lone_listener(daemon.complete_login, url):
            pass
    assert asked == [port]
