"""A browser's and a script's view of the admin listener, for its tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from aiohttp import ClientResponse, DummyCookieJar, web
from aiohttp.test_utils import TestClient

from passoproxy.ports import Observer, nobody
from passoproxy.server.admin.app import admin_application
from passoproxy.server.admin.auth import AdminAccess, Guard
from passoproxy.server.admin.sessions import PageSessions
from tests.server.fake_daemon import NOW, FakeDaemon

SECRET = b"s" * 32
TOKEN = "an-admin-token-of-some-length"
Admin = Callable[..., Awaitable["AdminListener"]]
"""Starts an admin listener: see AdminListener for its arguments."""
Ask = Callable[..., Awaitable[tuple[int, Any, dict[str, str]]]]
"""Asks `control.sock`'s application: daemon, method, path; status, document and fields of the answer."""


async def metrics(accept: str) -> tuple[bytes, str]:
    """An exposition that tells what was accepted."""
    return f"metrics for {accept}".encode(), "text/plain; version=0.0.4; charset=utf-8"


def mask(url: str) -> str:
    """As a redactor masks queries."""
    return f"{url.partition('?')[0]}?***"


class AdminListener:
    """An admin listener with a fake daemon behind it; redirects are not followed and cookies are not kept."""

    def __init__(
        self, daemon: FakeDaemon, *, token: str | None = None, observer: Observer = nobody, **access: Any
    ) -> None:
        self.daemon = daemon
        self.now = NOW
        self.token = token
        self.access = AdminAccess(SECRET, token=lambda: self.token, **access)
        self.sessions = PageSessions(lambda: "passoproxy page --state /state", lambda: self.now)
        self.guard = Guard(self.access, self.sessions, lambda: self.now)
        self.app = admin_application(
            daemon, self.access, self.sessions, metrics, self._watch, observer, lambda: self.now, mask
        )
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        """What `/page/live` tells."""
        self.client: TestClient[web.Request, web.Application]

    async def _watch(self, wishes: Mapping[str, str]) -> AsyncGenerator[str, None]:
        yield ""
        while True:
            yield await self.lines.get()

    async def begin(self, aiohttp_client: Any) -> None:
        """Listens until the end of the test."""
        self.client = await aiohttp_client(self.app, cookie_jar=DummyCookieJar())
        self.sessions.address = self.origin

    @property
    def authority(self) -> str:
        return f"{self.client.host}:{self.client.port}"

    @property
    def origin(self) -> str:
        return f"http://{self.authority}"

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> ClientResponse:
        return await self.client.request(method, path, headers=headers, allow_redirects=False, **more)

    async def let_in(self, host: str = "") -> dict[str, str]:
        """Opens a link of `passoproxy page`; the cookie that a browser has then."""
        path = self.sessions.link().url.removeprefix(self.origin)
        answer = await self.ask("GET", path, {"Host": host or self.authority})
        assert answer.status == 200
        return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}

    async def page_token(self, cookie: dict[str, str], page: str = "/") -> str:
        """What the forms of the page have to bring; '' where there are none."""
        text = await (await self.ask("GET", page, cookie)).text()
        return text.partition('name="page_token" value="')[2].partition('"')[0]

    async def from_page(self) -> dict[str, str]:
        """What a browser sends along when the status page's script asks."""
        cookie = await self.let_in()
        here = {"Sec-Fetch-Site": "same-origin", "Origin": self.origin}
        return cookie | here | {"X-Passoproxy-Page": await self.page_token(cookie)}
